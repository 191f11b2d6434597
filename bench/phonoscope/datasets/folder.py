"""Data sets that are folders of files, matched by their relative path without the suffix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from phonoscope.datasets import (
    MEDIA_SUFFIXES,
    PICTURE_SUFFIXES,
    NoisePlace,
    build,
    files_below,
    read_noises,
)
from phonoscope.errors import DatasetError, SpecError
from phonoscope.plugins import dataset
from phonoscope.types import TEXT_ROLES, Clip, Dataset, Sample

INPUT_ROLES = ("video", "audio", "enrollment", "image")
ID = "{id}"


@dataclass(frozen=True)
class Place:
    """Where the files of one role lie: a folder, and what stands around the id below it."""

    root: Path
    before: str = ""
    after: str = ""
    suffixes: frozenset[str] = MEDIA_SUFFIXES

    @property
    def whole(self) -> bool:
        """Whether the pattern names the suffix."""
        return PurePosixPath("x" + self.after).suffix.lower() in self.suffixes

    def id_of(self, file: Path) -> str | None:
        """Return the id that a file below the root carries, or None if it is not meant."""
        relative = file.relative_to(self.root)
        if file.suffix.lower() not in self.suffixes:
            return None
        text = (relative if self.whole else relative.with_suffix("")).as_posix()
        fits = len(text) > len(self.before + self.after)
        if not (fits and text.startswith(self.before) and text.endswith(self.after)):
            return None
        return text[len(self.before) : len(text) - len(self.after)]

    def expected(self, sample: str, suffix: str) -> Path:
        """Return where the file of `sample` should be."""
        return self.root / f"{self.before}{sample}{self.after}{'' if self.whole else suffix}"


def place_of(text: str | Path, *, pictures: bool = False) -> Place:
    """Read a folder, or a pattern such as ``clean/{id}.wav`` or ``{id}/mouth.mp4``.

    Raises
    ------
    SpecError
        If ``{id}`` stands in it twice.
    DatasetError
        If there is no such folder.
    """
    before, sign, after = str(text).partition(ID)
    if ID in after:
        raise SpecError(f"{text}: {ID} stands in it twice; give it once")
    folder, _, start = before.rpartition("/") if sign else (before, "", "")
    if sign and before.startswith("/") and not folder:
        folder = "/"
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; correct the path")
    suffixes = MEDIA_SUFFIXES.union(PICTURE_SUFFIXES) if pictures else MEDIA_SUFFIXES
    return Place(root, start, after, suffixes)


def matched(place: str | Path | Place) -> dict[str, Path]:
    """Return the media files of a folder (or pattern) by id, sorted by id.

    The id is the path below the folder without the suffix, with forward slashes: ``s1/bbaf2n``.
    Hidden files are left out.

    Raises
    ------
    DatasetError
        If there is no such folder, if two files have one id, or if a name is not valid UTF-8.
    """
    where = place if isinstance(place, Place) else place_of(place)
    found: dict[str, Path] = {}
    for file in files_below(where.root):
        sample = where.id_of(file)
        if sample is None:
            continue
        if sample in found:
            raise DatasetError(
                f"two files have the id {sample!r}: {found[sample]} and {file}; name the suffix "
                f"that is meant, such as {where.root}/{ID}{file.suffix}"
            )
        found[_writable(sample, file)] = file
    return dict(sorted(found.items()))


def _writable(sample: str, file: Path) -> str:
    try:
        sample.encode()
    except UnicodeEncodeError:
        raise DatasetError(f"{str(file)!r}: the name is not valid UTF-8; rename the file") from None
    return sample


@dataset
def folder(
    name: str,
    *,
    reference: str | Path | None = None,
    inputs: Mapping[str, str | Path] | None = None,
    group: str = "parent",
    transcripts: str | Path | None = None,
    labels: str | Path | None = None,
    prompts: str | Path | None = None,
    noise: Mapping[str, NoisePlace] | None = None,
) -> Dataset:
    """Files matched by their relative path without the suffix, or by a pattern.

    The samples are those of `reference`; without one, those of the first input. They are sorted by
    id. A file that another role lacks is named as a failure when it is needed; a file that only
    another role has is no sample.

    Parameters
    ----------
    name : str
        Of the data set.
    reference : path, optional
        A folder, or a pattern with one ``{id}``, such as ``clean/{id}.wav``.
    inputs : mapping of role to path, optional
        Folders or patterns of `video`, `audio`, `enrollment` or `image`.
    group : str
        How the id tells the speaker or source video: ``parent`` (its folder; without one the sample
        stands alone), ``id`` (every sample stands alone), or a regular expression whose first group
        (else the whole match) is the speaker, such as ``^(s[0-9]+)_``. Where one speaker has
        several files in one folder, say so: intervals of samples that stand alone are narrower.
    transcripts, labels, prompts : path, optional
        Text files with a line per sample: id, tab, text.
    noise : mapping of name to path, optional
        Sound files, folders or lists of them, or data sets of noises, for `snr_db` conditions.

    Raises
    ------
    SpecError, DatasetError
        Naming the option or the files.
    """
    places = {role: _input_place(role, place) for role, place in (inputs or {}).items()}
    if reference is not None:
        places = {"reference": place_of(reference), **places}
    if not places:
        raise SpecError(f"data set {name}: give `reference`, `inputs` or both")
    files = {role: matched(place) for role, place in places.items()}
    ids = list(files[next(iter(files))])
    if not ids:
        raise DatasetError(f"data set {name}: no media file in {next(iter(places.values())).root}")
    lists = dict(zip(TEXT_ROLES, (transcripts, labels, prompts), strict=True))
    texts = {role: read_texts(Path(path), ids) for role, path in lists.items() if path is not None}
    grouped = _grouping(group, name)
    clips = {role: _clips(places[role], files[role], ids) for role in places}
    samples = [
        Sample(
            id=sample,
            group=grouped(sample),
            inputs={role: clips[role][sample] for role in clips if role != "reference"},
            reference=clips["reference"][sample] if "reference" in clips else None,
            meta={role: rows[sample] for role, rows in texts.items() if sample in rows},
        )
        for sample in ids
    ]
    noises, gaps = read_noises(noise, Path.cwd())
    return build(name, samples, noises, lacking=gaps)


def _input_place(role: str, place: str | Path) -> Place:
    if role not in INPUT_ROLES:
        raise SpecError(f"inputs.{role}: no such role; allowed: {', '.join(INPUT_ROLES)}")
    return place_of(place, pictures=role == "image")


def _clips(place: Place, files: Mapping[str, Path], ids: Iterable[str]) -> dict[str, Clip]:
    counts = Counter(file.suffix for file in files.values())
    suffix = counts.most_common(1)[0][0] if counts else ".wav"
    return {
        sample: Clip(str(files.get(sample) or place.expected(sample, suffix))) for sample in ids
    }


def _grouping(group: str, name: str) -> Callable[[str], str]:
    if group == "id":
        return str
    if group == "parent":
        return lambda sample: sample.rpartition("/")[0] or sample
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise SpecError(
            f"data set {name}: group {group!r} is not parent, id or a regular expression: {error}"
        ) from None
    return lambda sample: _searched(pattern, sample, name)


def _searched(pattern: re.Pattern[str], sample: str, name: str) -> str:
    found = pattern.search(sample)
    if not found:
        raise DatasetError(f"data set {name}: group {pattern.pattern!r} does not match {sample!r}")
    return str(found[1] if pattern.groups else found[0])


def read_texts(path: Path, ids: Iterable[str]) -> dict[str, str]:
    """Read lines of id, tab, text."""
    texts: dict[str, str] = {}
    for number, line in enumerate(_lines(path), 1):
        sample, tab, text = line.partition("\t")
        if not line.strip():
            continue
        if not tab:
            raise SpecError(f"{path}:{number}: no tab; a line is an id, a tab and a text")
        if sample in texts:
            raise DatasetError(f"{path}:{number}: the id {sample!r} stands in the file twice")
        texts[sample] = text.strip()
    if not texts.keys() & set(ids):
        raise DatasetError(f"{path}: none of its ids is a sample, such as {next(iter(ids))!r}")
    return texts


def _lines(path: Path) -> list[str]:
    try:
        return path.expanduser().read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({error}); give a UTF-8 text file") from None
