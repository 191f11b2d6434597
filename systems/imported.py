"""Outputs made elsewhere: a folder of sound or film, matched to the samples by id."""

from __future__ import annotations

import bisect
import difflib
import functools
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from phonoscope.datasets import MEDIA_SUFFIXES
from phonoscope.errors import MissingClip, SpecError
from phonoscope.plugins import system
from phonoscope.types import Clip, Condition, Sample, Window

FRESH_NS = 50_000_000  # a folder this young may change again within one tick of its mtime
NEIGHBOURS = 50
_SUFFIXES = ".wav, .flac, .mp3, .mp4, .mkv, ..."
_OF_SAMPLES = ("id", "group", "stem")


def _absent_run(
    samples: Sequence[Sample],
    *,
    folder: str,
    pattern: str | list[str] = "{id}",
    seed: int = 0,
    condition: Condition | None = None,
    **_: object,
) -> str:
    """Return why there is no clip of any sample, or ''."""
    root = Path(folder).expanduser().absolute()
    patterns = _patterns(pattern)
    chosen = _chosen(patterns, root, seed, condition)
    names = (_filled(chosen, _names(sample), seed, condition) for sample in samples)
    if _is_dir(root) and any(map(_there, (root / name for name in names))):
        return ""
    places = ", ".join(str(root / _place(item, seed, condition)) for item in patterns)
    return f"no clip in {places if _is_dir(root) else root}"


def _there(target: Path) -> bool:
    # Not Path.is_file: an id may be too long for a file name, or hold a NUL.
    if _named(target) and os.path.isfile(target):  # noqa: PTH113
        return True
    return target.name in _listing(target.parent)


@system(materialise=False, absent=_absent_run)
def imported(
    sample: Sample,
    out: Path,
    *,
    seed: int,
    folder: str,
    pattern: str | list[str] = "{id}",
    window: Sequence[float] | None = None,
    condition: Condition | None = None,
) -> Clip:
    """Name the sample's file in a folder that another program filled. Nothing is copied.

    Parameters
    ----------
    sample : Sample
        Whose id (or group) names the file.
    out : Path
        Not used.
    seed : int
        Fills ``{seed}``; otherwise not used.
    folder : str
        Where the files lie. A path that leads out of it is refused.
    pattern : str or list of str
        Path below `folder`; ``{id}``, ``{group}``, ``{seed}``, ``{stem}`` (the last part of the
        id, without a media suffix) and the axes of the condition are filled in, such as
        ``{snr_db}/{id}``. Without a media suffix any known one fits: exactly one file has to be
        there. Of several patterns the first counts whose folder is there, such as
        ``[{snr_db}/{id}, {id}]`` for a system that may or may not hear the noise.
    window : pair of float, optional
        Start and stop in seconds of the part that counts.
    condition : Condition, optional
        The run's.

    Raises
    ------
    MissingClip
        If there is no such file (names the path and the nearest names), or more than one.
    SpecError
        If the window is not a pair of growing numbers.
    """
    part = _window(window)
    root = Path(folder).expanduser().absolute()
    chosen = _chosen(_patterns(pattern), root, seed, condition)
    target = root / _filled(chosen, _names(sample), seed, condition)
    if not Path(os.path.normpath(target)).is_relative_to(os.path.normpath(root)):
        raise MissingClip(
            f"sample {sample.id!r}: {target} lies outside {root}; "
            "name the file inside the folder by a pattern, such as {stem}"
        )
    return Clip(str(_found(sample.id, target, root)), window=part)


def _patterns(pattern: str | Sequence[str]) -> tuple[str, ...]:
    found = (pattern,) if isinstance(pattern, str) else tuple(pattern)
    if not found:
        raise SpecError("imported: pattern is empty; give one, such as {id}")
    return found


def _chosen(patterns: Sequence[str], root: Path, seed: int, condition: Condition | None) -> str:
    """Return the first pattern whose folder is there, else the first."""
    there = (
        p for p in patterns if len(patterns) > 1 and _is_dir(root / _place(p, seed, condition))
    )
    return next(there, patterns[0])


def _place(pattern: str, seed: int, condition: Condition | None) -> str:
    """Return the folder below the root that a pattern names for all samples of a run."""
    filled = _filled(pattern, {}, seed, condition)
    places = [filled.find(f"{{{name}}}") for name in _OF_SAMPLES]
    return filled[: min((at for at in places if at >= 0), default=len(filled))].rpartition("/")[0]


def _is_dir(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - a value of an axis may be no name


def _names(sample: Sample) -> dict[str, str]:
    last = PurePosixPath(sample.id)
    stem = last.stem if last.suffix.lower() in MEDIA_SUFFIXES else last.name
    return {"id": sample.id, "group": sample.group, "stem": stem}


def _filled(pattern: str, names: Mapping[str, str], seed: int, condition: Condition | None) -> str:
    values = {axis: str(value) for axis, value in (condition.axes if condition else ())}
    values |= {"seed": str(seed), **names}
    # One pass, so that an id that looks like a placeholder stays what it is.
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), pattern)


def _window(window: Sequence[float] | None) -> Window | None:
    if window is None:
        return None
    numbers = [item for item in window if isinstance(item, int | float)]
    if len(numbers) != 2 or len(window) != 2 or not 0 <= numbers[0] < numbers[1]:
        raise SpecError(f"imported: window is {window!r}; give [start, stop] in seconds")
    return Window(float(numbers[0]), float(numbers[1]))


def _found(sample: str, target: Path, root: Path) -> Path:
    # Not Path.is_file: an id may be too long for a file name, or hold a NUL.
    if _named(target) and os.path.isfile(target):  # noqa: PTH113
        return target
    there = _listing(target.parent).get(target.name, ())
    if len(there) == 1:
        return target.parent / there[0]
    if there:
        raise MissingClip(
            f"sample {sample!r}: more than one file fits in {target.parent}: {', '.join(there)}; "
            "name the suffix in the pattern, such as {id}.wav"
        )
    raise MissingClip(f"sample {sample!r}: {_absent(target, root)}")


def _named(target: Path) -> bool:
    return target.suffix.lower() in MEDIA_SUFFIXES


def _listing(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the names of a folder's media files by stem, sorted; empty for no folder."""
    try:
        changed = os.stat(folder).st_mtime_ns  # noqa: PTH116
    except (OSError, ValueError):
        return {}
    if 0 <= time.time_ns() - changed < FRESH_NS:
        return _read_listing.__wrapped__(str(folder), changed)
    return _read_listing(str(folder), changed)


@functools.lru_cache(maxsize=256)
def _read_listing(folder: str, changed: int) -> Mapping[str, tuple[str, ...]]:
    stems: dict[str, tuple[str, ...]] = {}
    for name in sorted(os.listdir(folder)):  # noqa: PTH208
        if _named(Path(name)):
            stem = name.rpartition(".")[0]
            stems[stem] = (*stems.get(stem, ()), name)
    return dict(sorted(stems.items()))


def _absent(target: Path, root: Path) -> str:
    if not root.is_dir():
        return f"{root}: no such folder; correct the system's parameter `folder`"
    what = "no such file" if _named(target) else f"no such file (with {_SUFFIXES})"
    place = target.parent if os.path.isdir(target.parent) else root  # noqa: PTH112
    near = _near(target.stem if _named(target) else target.name, _listing(place))
    hint = f"near names: {', '.join(near)}" if near else f"nothing in {place} is named like it"
    return f"{target}: {what}; {hint}: generate it, or correct folder or pattern"


def _near(stem: str, listing: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return up to three similar names, sought among those that sort beside it."""
    stems = list(listing)
    at = bisect.bisect_left(stems, stem)
    beside = stems[max(0, at - NEIGHBOURS) : at + NEIGHBOURS]
    found = difflib.get_close_matches(stem[:300], beside, n=3, cutoff=0.5)
    return [name for similar in found for name in listing[similar]]
