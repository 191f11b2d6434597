"""Weights of networks: which files, where they come from, whether they are the right bytes.

A file is looked for in the folder `PHONOSCOPE_WEIGHTS`, then inside an installed package that
carries it, then in the cache (`PHONOSCOPE_CACHE`, or `~/.cache/phonoscope`). Nothing is downloaded
during a run: `phonoscope weights fetch NAME` does that.

Where upstream publishes no hash, a copy is pinned at its first use: its hashes are noted beside it,
in ``<file>.sha256`` (`sha256sum -c` reads it), and a copy that changes later is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from phonoscope.errors import LicenceNotAccepted, WeightsMismatch, WeightsMissing
from phonoscope.registry import Registry

Progress: TypeAlias = Callable[[int, int], None]
State = Literal["ok", "missing", "mismatch", "not_accepted"]

BLOCK = 1 << 20
ACCEPTED_FILE = "accepted-licences.txt"


@dataclass(frozen=True, slots=True)
class Weight:
    """One file of weights, or one folder of files that belong together.

    Attributes
    ----------
    name : str
        ``family/file``, as views name it.
    file : str
        Relative path inside the weights folder and inside the cache.
    bytes : int
        Size; 0 where upstream publishes none.
    sha256 : str
        Hex digest; empty where upstream publishes none: then the user's own copy is hashed, and
        pinned at its first use. Of a folder: the digest of the hashes and names of `files`.
    licence : str
        In words, shown beside every number that the file made.
    origin : str
        Where upstream keeps it: the address of the file itself, or in words where to get it. Of a
        folder: the address that stands before ``/`` and a file's name.
    noncommercial : bool
        Used only after `accept`.
    package : str or None
        ``package/resource`` of an installed package that carries the same bytes.
    files : tuple of str
        What must lie in the folder, where `file` is one; ``a|b`` is the first of them that is
        there. Other files in it are not looked at and not part of the digest.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    licence: str
    origin: str
    noncommercial: bool = False
    package: str | None = None
    files: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The part of the name before the slash: one licence covers it."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class WeightStatus:
    """A row for people: the file, where it was found, and what is wrong with it."""

    weight: Weight
    state: State
    path: Path | None
    message: str


WEIGHTS: Registry[Weight] = Registry("weight")


def register(weight: Weight, *, origin: str = __name__) -> Weight:
    """Add a row to the table; the same row may be added again.

    Raises
    ------
    DuplicateName
        If another row, from another `origin`, has the name.
    """
    WEIGHTS.add(weight.name, weight, origin)
    return weight


def _dnsmos(name: str, size: int, sha256: str, *, folder: str, upstream: str) -> None:
    root = "https://raw.githubusercontent.com/microsoft/DNS-Challenge/master/DNSMOS"
    register(
        Weight(
            name=f"dnsmos/{name}",
            file=f"dnsmos/{name}.onnx",
            bytes=size,
            sha256=sha256,
            licence="MIT (speechmos wheel; upstream: code MIT, data CC-BY-4.0, files not named)",
            origin=f"{root}/{upstream}",
            package=f"speechmos/{folder}/{upstream.rpartition('/')[2]}",
        )
    )


_dnsmos(
    "sig_bak_ovr",
    1157965,
    "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
    folder="dnsmos_models",
    upstream="DNSMOS/sig_bak_ovr.onnx",
)
_dnsmos(
    "model_v8",
    224860,
    "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
    folder="dnsmos_models",
    upstream="DNSMOS/model_v8.onnx",
)
_dnsmos(
    "p_sig_bak_ovr",
    1157962,
    "9e3a197449ca2177f0997afec3bd6b890117ce2f17b89d6eea7fa0d47272c81c",
    folder="pdnsmos_models",
    upstream="pDNSMOS/sig_bak_ovr.onnx",
)


def cache_folder() -> Path:
    """Return the folder for what can be made or fetched again (it may not exist yet)."""
    named = os.environ.get("PHONOSCOPE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "phonoscope"


def locate(name: str) -> Path:
    """Return the path of weights whose hash is the pinned one: a file, or a folder.

    Raises
    ------
    UnknownName
        If no row has that name.
    LicenceNotAccepted
        If the weights are non-commercial and nobody accepted that.
    WeightsMissing
        If the file is nowhere; the message names the origin and the command that fetches it.
    WeightsMismatch
        If the file has another hash; the message names both.
    """
    weight = WEIGHTS.get(name)
    _require_accepted(weight)
    path = _find(weight)
    if path is None:
        raise WeightsMissing(_missing(weight))
    _check(weight, path)
    return path


def digest(name: str) -> str:
    """Return the sha256 that identifies a weights file.

    The pinned one; where upstream publishes none, that of the copy on this machine.

    Raises
    ------
    UnknownName, WeightsMissing
        See `locate`; the second only for a file without a pinned hash.
    """
    weight = WEIGHTS.get(name)
    return weight.sha256 or _digest(weight, locate(name))


def known_digest(name: str) -> str:
    """Return `digest`, or an empty text where nobody pinned a hash and no copy is here."""
    with contextlib.suppress(WeightsMissing, WeightsMismatch, LicenceNotAccepted):
        return digest(name)
    return ""


def _candidates(weight: Weight) -> Iterator[Path]:
    named = os.environ.get("PHONOSCOPE_WEIGHTS")
    if named:
        yield Path(named).expanduser() / weight.file
    if weight.package:
        yield from _in_package(weight.package)
    yield _cached(weight)


def _in_package(resource: str) -> Iterator[Path]:
    package, _, inside = resource.partition("/")
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        yield Path(root) / inside


def _cached(weight: Weight) -> Path:
    return cache_folder() / "weights" / weight.file


def _find(weight: Weight) -> Path | None:
    return next((path for path in _candidates(weight) if not _absent(weight, path)), None)


def _held(weight: Weight, path: Path) -> dict[str, Path]:
    """Return what holds the weights: for each name in the table the file that stands for it."""
    if not weight.files:
        return {weight.file: path} if path.is_file() else {}
    choices = {names: [path / name for name in names.split("|")] for names in weight.files}
    found = {names: [file for file in files if file.is_file()] for names, files in choices.items()}
    return {names: files[0] for names, files in found.items() if files}


def _absent(weight: Weight, path: Path) -> list[str]:
    held = _held(weight, path)
    return [name for name in weight.files or (weight.file,) if name not in held]


def doubt(name: str) -> str:
    """Return what to do with a copy that nobody pinned and that a network cannot be read from."""
    weight = WEIGHTS.get(name)
    path = locate(name)
    again = f"run `phonoscope weights fetch {name}`" if fetchable(weight) else "get it again"
    return (
        f"Is {path} what {weight.origin} gives? If not, delete it and {_note(path)}, and {again}; "
        "if it is, report a defect of the plugin"
    )


def _missing(weight: Weight) -> str:
    looked = ", ".join(_looked(weight, path) for path in _candidates(weight))
    told = f"weights {weight.name!r} are not on this machine (looked for {looked})"
    return f"{told}; {_remedy(weight)}"


def _remedy(weight: Weight) -> str:
    """Return how to get the weights."""
    what, them = ("the files", "them") if weight.files else ("the file", "it")
    holding = f", a folder with {', '.join(weight.files)}" if weight.files else ""
    command = f"run `phonoscope weights fetch {weight.name}`, or " if fetchable(weight) else ""
    return (
        f"{command}get {what} from {weight.origin} and put {them} into the folder that "
        f"PHONOSCOPE_WEIGHTS names, as {weight.file}{holding}"
    )


def fetchable(weight: Weight) -> bool:
    """Return whether a command can get the weights: their origin is an address."""
    return weight.origin.startswith(("https://", "http://"))


def _looked(weight: Weight, path: Path) -> str:
    """Return a place that was looked at; of a folder that is there, also what it lacks."""
    lacks = path.is_dir() and weight.files
    return f"{path}, which lacks {', '.join(_absent(weight, path))}" if lacks else str(path)


_hashes: dict[tuple[str, int, int], str] = {}


def _hash(path: Path) -> str:
    found = path.stat()
    key = (str(path), found.st_size, found.st_mtime_ns)
    if key not in _hashes:
        digester = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digester.update(block)
        _hashes[key] = digester.hexdigest()
    return _hashes[key]


def _digest(weight: Weight, path: Path) -> str:
    """Return the file's hash; of a folder, that of what `sha256sum` inside it would print."""
    if not weight.files:
        return _hash(path)
    held = sorted(_held(weight, path).values())
    listing = "".join(f"{_hash(file)}  {file.relative_to(path)}\n" for file in held)
    return hashlib.sha256(listing.encode()).hexdigest()


def _check(weight: Weight, path: Path) -> None:
    if not weight.sha256:
        _check_note(weight, path)
        return
    found = _digest(weight, path)
    if found != weight.sha256:
        raise WeightsMismatch(
            f"weights {weight.name!r}: {path} has sha256 {found}, but {weight.sha256} is pinned; "
            f"delete it and run `phonoscope weights fetch {weight.name}`"
        )


def _check_note(weight: Weight, path: Path) -> None:
    """Hold a copy to the hashes that it had when it was first used, or note them now."""
    note = _note(path)
    hashes = {file: _hash(file) for file in sorted(_held(weight, path).values())}
    if not note.is_file():
        _write_note(note, hashes)
        return
    pinned = re.findall(r"\b[0-9a-f]{64}\b", note.read_text(encoding="utf-8").lower())
    changed = {file: found for file, found in hashes.items() if found not in pinned}
    if changed:
        told = ", ".join(f"{file} has sha256 {found}" for file, found in changed.items())
        raise WeightsMismatch(
            f"weights {weight.name!r}: {told}, but {note} pinned {', '.join(pinned)} "
            f"at the first use; put the old copy back, or delete {note} if the new one is meant"
        )


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _write_note(note: Path, hashes: dict[Path, str]) -> None:
    """Write the note; a folder that cannot be written to leaves its copies unpinned."""
    text = "".join(f"{found}  {file.relative_to(note.parent)}\n" for file, found in hashes.items())
    temporary = note.with_name(f".{note.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(note)


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Download weights into the cache, unless a good copy is here already.

    A download goes to a temporary name, its hash is checked, then it is renamed.

    Parameters
    ----------
    name : str
        As in `WEIGHTS`.
    progress : callable, optional
        Called with (bytes so far, bytes in all; 0 where unknown).

    Raises
    ------
    UnknownName, LicenceNotAccepted
        See `locate`.
    WeightsMissing
        If the origin does not answer, or is no address of a file.
    WeightsMismatch
        If other bytes arrived, or another copy is in the way.
    """
    weight = WEIGHTS.get(name)
    _require_accepted(weight)
    present = _find(weight)
    if present is not None and present != _cached(weight):
        _check(weight, present)
        return present
    if not fetchable(weight):
        raise WeightsMissing(f"{name!r} cannot be fetched by a command. {_missing(weight)}")
    target = _cached(weight)
    if not weight.files:
        _download(weight, weight.origin, target, progress)
    for names in weight.files:
        _download_first(weight, names.split("|"), progress)
    _check(weight, target)
    return target


def _download_first(weight: Weight, names: list[str], progress: Progress | None) -> None:
    """Download the first of these files of a folder that upstream has."""
    target = _cached(weight)
    if any((target / name).is_file() for name in names):
        return
    for name in names[:-1]:
        with contextlib.suppress(WeightsMissing):
            _download(weight, f"{weight.origin}/{name}", target / name, progress)
            return
    _download(weight, f"{weight.origin}/{names[-1]}", target / names[-1], progress)


def _download(weight: Weight, address: str, target: Path, progress: Progress | None) -> None:
    import pooch

    pooch.get_logger().setLevel("ERROR")
    bar: Any = _Bar(progress) if progress else False
    pinned = weight.sha256 and not weight.files
    try:
        pooch.retrieve(
            address,
            known_hash=f"sha256:{weight.sha256}" if pinned else None,
            fname=target.name,
            path=target.parent,
            downloader=pooch.HTTPDownloader(progressbar=bar, timeout=60),
        )
    except ValueError as error:
        raise WeightsMismatch(f"weights {weight.name!r} from {address}: {error}") from error
    except OSError as error:
        raise WeightsMissing(
            f"weights {weight.name!r} could not be fetched from {address} ({error}); "
            f"try again, or get the file by other means and put it at {target}"
        ) from error
    target.chmod(0o644)


class _Bar:
    """What pooch expects of a progress bar, over a plain callable."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.total = 0
        self.done = 0

    def update(self, count: int) -> None:
        self.done += count
        self.progress(self.done, int(self.total or 0))

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass


def accept(name: str) -> Path:
    """Note that the user accepts the licence of a weights file, or of a whole family.

    Returns
    -------
    Path
        The file that keeps the note, in the cache.

    Raises
    ------
    UnknownName
        If there is neither such a file nor such a family.
    """
    if name not in {WEIGHTS.get(known).family for known in WEIGHTS}:
        WEIGHTS.get(name)
    noted = cache_folder() / ACCEPTED_FILE
    names = sorted(_noted() | {name})
    noted.parent.mkdir(parents=True, exist_ok=True)
    temporary = noted.with_name(f".{ACCEPTED_FILE}.{os.getpid()}")
    temporary.write_text("".join(f"{line}\n" for line in names), encoding="utf-8")
    temporary.replace(noted)
    return noted


def accepted(name: str) -> bool:
    """Return whether a file may be used: it is free, or its licence was accepted."""
    weight = WEIGHTS.get(name)
    named = os.environ.get("PHONOSCOPE_ACCEPT_LICENSES", "")
    granted = _noted() | {part.strip() for part in named.split(",")}
    return not weight.noncommercial or bool(granted & {weight.name, weight.family})


def _noted() -> set[str]:
    noted = cache_folder() / ACCEPTED_FILE
    return set(noted.read_text(encoding="utf-8").split()) if noted.is_file() else set()


def _require_accepted(weight: Weight) -> None:
    if not accepted(weight.name):
        raise LicenceNotAccepted(
            f"weights {weight.name!r} are non-commercial ({weight.licence}); if your use is "
            f"covered, run `phonoscope weights accept {weight.family}` or set "
            f"PHONOSCOPE_ACCEPT_LICENSES={weight.family}"
        )


def status() -> list[WeightStatus]:
    """Return one row per weights file, in the order of the table."""
    return [_status(WEIGHTS.get(name)) for name in WEIGHTS]


def _status(weight: Weight) -> WeightStatus:
    try:
        return WeightStatus(weight, "ok", locate(weight.name), "")
    except LicenceNotAccepted as error:
        return WeightStatus(weight, "not_accepted", _find(weight), str(error))
    except WeightsMissing as error:
        return WeightStatus(weight, "missing", None, str(error))
    except WeightsMismatch as error:
        return WeightStatus(weight, "mismatch", _find(weight), str(error))
