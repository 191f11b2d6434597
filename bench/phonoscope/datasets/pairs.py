"""Folders of noisy and clean recordings of the same names, such as VCTK-DEMAND.

Valentini-Botinhao et al., "Investigating RNN-based speech enhancement methods for noise-robust
text-to-speech", SSW 2016; doi 10.7488/ds/2117.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from phonoscope.datasets import SOUND_SUFFIXES, by_stem, existing, listed, require_whole, size_of
from phonoscope.datasets.folder import read_texts
from phonoscope.errors import DatasetError, SpecError
from phonoscope.plugins import dataset
from phonoscope.types import Clip, Dataset, Sample

CLEAN, NOISY, TEXTS = "clean_testset_wav", "noisy_testset_wav", "testset_txt"
FILES = 824  # of VCTK-DEMAND's test set, speakers p232 and p257


@dataset
def pairs(
    name: str,
    *,
    root: str | Path,
    clean: str = CLEAN,
    noisy: str = NOISY,
    speaker: str = "^([^_]+)_",
    transcripts: str | Path | None = None,
    count: int | None = None,
    partial: bool = False,
) -> Dataset:
    """Read noisy recordings ``root/<noisy>/<id>.wav`` and clean ones ``root/<clean>/<id>.wav``.

    By default the test set of VCTK-DEMAND. Input: `audio` (the noisy recording, which is never
    mixed again); the reference is the clean one.

    Parameters
    ----------
    name : str
        Of the data set.
    root : path
        The folder that holds the two others.
    clean, noisy : str
        Their names.
    speaker : str
        A regular expression whose first group (else the whole match) in the id is the speaker:
        ``p232_001`` is of p232.
    transcripts : path, optional
        A file with lines of id, tab, text, or a folder of ``<id>.txt``; by default
        ``root/testset_txt`` where it is there.
    count : int, optional
        How many pairs there are; 824 where `clean` is VCTK-DEMAND's test set.
    partial : bool
        Take the pairs that are there.

    Raises
    ------
    DatasetMismatch
        If a recording has no partner, or there are not as many as there should be, and `partial` is
        not set.
    DatasetError, SpecError
        If a folder is not there, or `speaker` does not fit.
    """
    base = existing(root, name)
    sides = {side: _sounds(base / side) for side in (noisy, clean)}
    expected = count or (FILES if clean == CLEAN else None)
    problems = list(_problems(sides, expected, base))
    layout = f"ROOT/{noisy}/<id>.wav and ROOT/{clean}/<id>.wav of the same names" + (
        f", {expected} of each" if expected else ""
    )
    ids = [sample for sample in sides[noisy] if sample in sides[clean]]
    require_whole(name, problems, layout=layout, partial=partial and bool(ids))
    texts = _texts(transcripts, base / TEXTS, ids)
    samples = [
        Sample(
            id=sample,
            group=_speaker(speaker, sample, name),
            inputs={"audio": Clip(str(sides[noisy][sample]))},
            reference=Clip(str(sides[clean][sample])),
            meta={"transcript": texts[sample]} if sample in texts else {},
        )
        for sample in ids
    ]
    lacking = f"{len(ids)} of {expected or max(map(len, sides.values()))} pairs" if problems else ""
    return listed(name, samples, lacking=lacking)


def _sounds(folder: Path) -> dict[str, Path]:
    found = by_stem(folder, SOUND_SUFFIXES)
    return {sample: path for sample, path in found.items() if size_of(path) > 0}


def _problems(
    sides: Mapping[str, Mapping[str, Path]], expected: int | None, base: Path
) -> Iterator[str]:
    for side, files in sides.items():
        if len(files) != (expected or max(map(len, sides.values()))) or not files:
            of = f" of {expected}" if expected else ""
            yield f"found {len(files)}{of} recordings in {base / side}"
    first, second = sides
    for side, other in ((first, second), (second, first)):
        alone = [sample for sample in sides[side] if sample not in sides[other]]
        if alone:
            yield f"{len(alone)} recordings of {side} are not in {other}, such as {alone[0]}"


def _speaker(pattern: str, sample: str, name: str) -> str:
    try:
        found = re.search(pattern, sample)
    except re.error as error:
        raise SpecError(
            f"data set {name}: speaker {pattern!r} is no regular expression: {error}"
        ) from None
    if not found:
        raise DatasetError(f"data set {name}: speaker {pattern!r} does not match {sample!r}")
    return str(found[1] if found.re.groups else found[0])


def _texts(given: str | Path | None, usual: Path, ids: list[str]) -> dict[str, str]:
    if given is None and not usual.is_dir():
        return {}
    place = Path(given or usual).expanduser().absolute()
    if not place.is_dir():
        return read_texts(place, ids)
    files = by_stem(place, (".txt",))
    return {sample: _line(files[sample]) for sample in ids if sample in files}


def _line(path: Path) -> str:
    try:
        return " ".join(path.read_text("utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); restore the file") from None
