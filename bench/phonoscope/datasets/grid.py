"""The GRID corpus, whose file names encode what is said.

Cooke, Barker, Cunningham and Shao, "An audio-visual corpus for speech perception and automatic
speech recognition", JASA 120(5), 2006, doi 10.1121/1.2229005. 25 frames per second, 3 s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from phonoscope.datasets import (
    NoisePlace,
    by_stem,
    existing,
    joined,
    listed,
    read_noises,
    require_whole,
)
from phonoscope.datasets.demo import CODES, transcript
from phonoscope.datasets.folder import read_texts
from phonoscope.errors import DatasetError
from phonoscope.plugins import dataset
from phonoscope.types import Clip, Dataset, Sample

SPEAKER = re.compile(r"^s\d{1,2}(?![^._])")
LAYOUT = "ROOT/**/<code>.mpg, such as ROOT/s1/bbaf2n.mpg or ROOT/s1/video/mpg_6000/bbaf2n.mpg"


@dataset
def grid(
    name: str,
    *,
    root: str | Path,
    transcripts: str | Path | None = None,
    noise: Mapping[str, NoisePlace] | None = None,
    count: int | None = None,
    partial: bool = False,
) -> Dataset:
    """Read clips of GRID: every ``.mpg`` below a folder; the id is the path without the suffix.

    The group is the speaker, by the folder ``s1`` to ``s34`` that the clip lies in; a clip outside
    such folders stands alone. Inputs: `video` and `audio`; the reference is the sound of the clip.

    Parameters
    ----------
    name : str
        Of the data set.
    root : path
        Any folder above the clips.
    transcripts : path, optional
        A file with lines of id, tab, text. By default the name of a clip says its six words:
        ``bbaf2n`` is "bin blue at f two now".
    noise : mapping of name to path, optional
        Sound files, folders or lists of them, or data sets of noises, for `snr_db` conditions.
    count : int, optional
        How many clips there are. Copies of GRID differ: some clips were never whole.
    partial : bool
        Take the clips that are there.

    Raises
    ------
    DatasetMismatch
        If there are not `count` clips, and `partial` is not set.
    DatasetError
        If there are none.
    """
    base = existing(root, name)
    films = by_stem(base, (".mpg", ".mpeg"))
    if not films:
        raise DatasetError(f"data set {name}: found no clip in {base}. Expected: {LAYOUT}")
    wrong = count is not None and len(films) != count
    problems = [f"found {len(films)} of {count} clips in {base}"] if wrong else []
    require_whole(name, problems, layout=LAYOUT, partial=partial)
    texts = read_texts(Path(transcripts), films) if transcripts is not None else {}
    samples = [_sample(sample, path, texts) for sample, path in films.items()]
    lacking = f"{len(films)} of {count} clips" if wrong else ""
    noises, gaps = read_noises(noise, Path.cwd())
    return listed(name, samples, noises, lacking=joined(lacking, gaps))


def _sample(sample: str, path: Path, texts: Mapping[str, str]) -> Sample:
    clip = Clip(str(path))
    text = texts.get(sample, "") or said(path.stem)
    return Sample(
        id=sample,
        group=_speaker(sample),
        inputs={"video": clip, "audio": clip},
        reference=clip,
        meta={"transcript": text} if text else {},
    )


def _speaker(sample: str) -> str:
    folders = sample.split("/")[:-1]
    found = [match[0] for match in map(SPEAKER.match, folders) if match]
    return found[0] if found else sample


def said(code: str) -> str:
    """Return the sentence of a clip's name; nothing where the name is no code of GRID."""
    code = code.lower()
    known = len(code) == len(CODES) and all(
        letter in words for words, letter in zip(CODES, code, strict=True)
    )
    return transcript(code) if known else ""
