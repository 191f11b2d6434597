"""The test set of LRS3, with its own sound or with an enhanced track.

Afouras, Chung and Zisserman, "LRS3-TED: a large-scale dataset for visual speech recognition",
arXiv 1809.00496. 25 frames per second, 224x224, 16 kHz.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from phonoscope.datasets import (
    NoisePlace,
    by_stem,
    existing,
    joined,
    listed,
    read_noises,
    require_whole,
    size_of,
)
from phonoscope.errors import DatasetError, SpecError
from phonoscope.plugins import dataset
from phonoscope.types import Clip, Dataset, Sample

CleanTrack = Literal["enhanced", "orig"]

CLIPS = 1321
VIDEOS = 412
# Of the sorted lines `<video>/<utterance>`, each ended by a line feed.
IDS_SHA256 = "ccaece605563af5151152538d3218fa050f1b8ac73b8a9e7a0ed0c5c4edc901c"
LAYOUT = (
    f"ROOT/test/<video>/<utterance>.mp4 and .txt, {CLIPS} clips of {VIDEOS} videos, as LRS3's "
    "archive of the test set unpacks"
)
ENHANCED_LAYOUT = "ENHANCED/<video>/<utterance>.wav (or .mp4) for each"


@dataset
def lrs3(
    name: str,
    *,
    root: str | Path,
    clean_track: CleanTrack | None = None,
    enhanced: str | Path | None = None,
    noise: Mapping[str, NoisePlace] | None = None,
    partial: bool = False,
) -> Dataset:
    """Read the 1,321 clips of LRS3's test set: ``root/test/<video>/<utterance>.mp4`` and ``.txt``.

    The id is ``<video>/<utterance>``, the group the video (LRS3's speaker), the transcript the
    first line of the text file. Inputs: `video` (the mp4) and `audio` (the clean track, which an
    `snr_db` condition mixes with noise); the reference is the clean track.

    Parameters
    ----------
    name : str
        Of the data set.
    root : path
        The folder that holds `test`.
    clean_track : {"enhanced", "orig"}, optional
        Which sound counts as clean: that of `enhanced` (LipDiffuser's protocol), or LRS3's own. By
        default the enhanced one where there is one.
    enhanced : path, optional
        Outputs of a speech enhancer on LRS3's sound: ``<video>/<utterance>.wav``, or the same tree
        as mp4.
    noise : mapping of name to path, optional
        Sound files, folders or lists of them, or data sets of noises, for `snr_db` conditions:
        ``{chime3: {kind: chime3_noise, root: /data/CHiME3}}``.
    partial : bool
        Take the clips that are there.

    Raises
    ------
    DatasetMismatch
        If there are other clips than those of the test set, and `partial` is not set.
    DatasetError, SpecError
        If a folder is not there, or a text file has no transcript.
    """
    enhanced = enhanced or None
    track = track_of(name, clean_track, enhanced)
    base = existing(root, name)
    films = by_stem(base / "test", (".mp4",))
    films = {sample: path for sample, path in films.items() if sample.count("/") == 1}
    clean = _clean(existing(enhanced, name)) if track == "enhanced" and enhanced else films
    problems = [*_listing_problems(films, base / "test"), *_gaps(films)]
    if clean is not films:
        problems += _enhanced_problems(films, clean, Path(str(enhanced)))
    layout = LAYOUT if clean is films else f"{LAYOUT}; {ENHANCED_LAYOUT}"
    usable = list(_usable(films, clean))
    require_whole(name, problems, layout=layout, partial=partial and bool(usable))
    samples = [_sample(sample, films, clean) for sample in usable]
    lacking = f"{len(samples)} of {CLIPS} clips" if problems else ""
    noises, gaps = read_noises(noise, Path.cwd())
    gaps = joined(lacking, gaps)
    return listed(name, samples, noises, variant=f"clean track: {track}", lacking=gaps)


def track_of(name: str, asked: CleanTrack | None, enhanced: str | Path | None) -> CleanTrack:
    """Return which sound counts as clean.

    Raises
    ------
    SpecError
        If it is the enhanced one, and there is none.
    """
    if asked == "enhanced" and enhanced is None:
        raise SpecError(
            f"data set {name}: clean_track enhanced needs the folder of the enhanced sound; "
            "give it as `enhanced`, or set clean_track: orig"
        )
    return asked or ("orig" if enhanced is None else "enhanced")


def _clean(root: Path) -> dict[str, Path]:
    inside = root / "test"
    return by_stem(inside if inside.is_dir() else root, (".wav", ".flac", ".mp4"))


def _listing_problems(films: Iterable[str], folder: Path) -> Iterator[str]:
    ids = list(films)
    if len(ids) != CLIPS:
        videos = len({sample.partition("/")[0] for sample in ids})
        yield f"found {len(ids)} of {CLIPS} clips ({videos} of {VIDEOS} videos) in {folder}"
    elif ids_sha256(ids) != IDS_SHA256:
        yield (
            f"the {CLIPS} clips in {folder} are not those of the test set (sha256 of their list "
            f"{ids_sha256(ids)} instead of {IDS_SHA256})"
        )


def ids_sha256(ids: Iterable[str]) -> str:
    """Return the sha256 of the sorted ids, each ended by a line feed."""
    return hashlib.sha256("".join(f"{sample}\n" for sample in sorted(ids)).encode()).hexdigest()


def _gaps(films: Mapping[str, Path]) -> Iterator[str]:
    empty = [sample for sample, path in films.items() if size_of(path) <= 0]
    if empty:
        yield f"{len(empty)} clips are empty files, such as {empty[0]}.mp4"
    mute = [s for s, path in films.items() if size_of(path.with_suffix(".txt")) <= 0]
    if mute:
        yield f"{len(mute)} clips have no text, such as {mute[0]}.txt"


def _enhanced_problems(
    films: Mapping[str, Path], clean: Mapping[str, Path], folder: Path
) -> Iterator[str]:
    there = {s for s in films if s in clean and size_of(clean[s]) > 0}
    if len(there) < len(films):
        missing = next(sample for sample in films if sample not in there)
        yield (
            f"found the enhanced sound of {len(there)} of {len(films)} clips in {folder}, "
            f"not that of {missing}"
        )


def _usable(films: Mapping[str, Path], clean: Mapping[str, Path]) -> Iterator[str]:
    for sample, path in films.items():
        if size_of(path) > 0 and sample in clean and size_of(clean[sample]) > 0:
            yield sample


def _sample(sample: str, films: Mapping[str, Path], clean: Mapping[str, Path]) -> Sample:
    text = films[sample].with_suffix(".txt")
    sound = Clip(str(clean[sample]))
    return Sample(
        id=sample,
        group=sample.partition("/")[0],
        inputs={"video": Clip(str(films[sample])), "audio": sound},
        reference=sound,
        meta={"transcript": transcript(text)} if size_of(text) > 0 else {},
    )


def transcript(path: Path) -> str:
    """Return the sentence of a text file of LRS3, which stands behind ``Text:`` in the first line.

    Raises
    ------
    DatasetError
        If there is none.
    """
    try:
        first = path.read_text("utf-8-sig").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); restore the file") from None
    label, colon, sentence = first.partition(":")
    if not colon or label.strip().lower() != "text":
        raise DatasetError(
            f"{path}: the first line is {first[:40]!r}, not `Text:` and the sentence; "
            "restore the file"
        )
    return " ".join(sentence.split())
