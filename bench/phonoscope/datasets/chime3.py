"""The background noises of the third CHiME challenge.

Barker, Marxer, Vincent and Watanabe, "The third 'CHiME' speech separation and recognition
challenge", ASRU 2015, doi 10.1109/ASRU.2015.7404837. Bus, cafe, pedestrian area and street.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from phonoscope.datasets import existing, files_below, listed, require_whole
from phonoscope.errors import DatasetError
from phonoscope.plugins import dataset
from phonoscope.types import Clip, Dataset, Sample

RATE = 16_000
PLACES = ("BUS", "CAF", "PED", "STR")
FOLDER, CHANNEL, SUFFIX = "backgrounds", ".CH1", ".wav"
LAYOUT = (
    "ROOT/data/audio/16kHz/backgrounds/BGD_<date>_<n>_{BUS,CAF,PED,STR}.CH1.wav (any folder "
    "`backgrounds` below ROOT), 16 kHz mono"
)


@dataset
def chime3_noise(name: str, *, root: str | Path, partial: bool = False) -> Dataset:
    """Read the backgrounds of CHiME3, first channel: ``root/**/backgrounds/*.CH1.wav``, sorted.

    As the noise of another data set: ``noise: {chime3: {kind: chime3_noise, root: ...}}``. By
    itself, each recording is a sample whose input `audio` and reference are the noise.

    Parameters
    ----------
    name : str
        Of the data set, and of its noise.
    root : path
        Any folder above `backgrounds`.
    partial : bool
        Take the recordings that are there.

    Raises
    ------
    DatasetMismatch
        If a place, or the first channel of a recording, is not there and `partial` is not set.
    DatasetError
        If a file is not 16 kHz mono, or there is none at all.
    """
    base = existing(root, name)
    recordings = _recordings(base)
    problems = list(_problems(recordings))
    told = [f"{base}: {problem}" for problem in problems]
    require_whole(name, told, layout=LAYOUT, partial=partial)
    files = [folder[CHANNEL] for folder in recordings.values() if CHANNEL in folder]
    if not files:
        raise DatasetError(f"data set {name}: no noise in {base}. Expected: {LAYOUT}")
    files.sort(key=lambda path: path.relative_to(base).as_posix())
    for path in files:
        _require_format(path)
    clips = tuple(Clip(str(path)) for path in files)
    samples = [_sample(Path(clip.path).relative_to(base), clip) for clip in clips]
    return listed(name, samples, {name: clips}, lacking="; ".join(problems))


def _recordings(base: Path) -> dict[str, dict[str, Path]]:
    """Return the channels of each recording by its path below the folder."""
    found: dict[str, dict[str, Path]] = {}
    for path in files_below(base):
        stem, channel = Path(path.stem).stem, Path(path.stem).suffix
        if path.suffix == SUFFIX and path.parent.name == FOLDER and channel.startswith(".CH"):
            place = path.relative_to(base).with_name(stem).as_posix()
            found.setdefault(place, {})[channel] = path
    return found


def _problems(recordings: dict[str, dict[str, Path]]) -> Iterator[str]:
    heard = {place.rpartition("_")[2] for place, files in recordings.items() if CHANNEL in files}
    absent = [place for place in PLACES if place not in heard]
    if absent:
        count = sum(CHANNEL in files for files in recordings.values())
        yield f"found {count} recordings, none of {', '.join(absent)}"
    headless = [place for place, files in recordings.items() if CHANNEL not in files]
    if headless:
        yield f"{len(headless)} recordings lack the first channel, such as {headless[0]}"


def _require_format(path: Path) -> None:
    import soundfile

    try:
        found = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise DatasetError(f"{path}: no sound file ({error}); restore the file") from None
    if (found.samplerate, found.channels) != (RATE, 1):
        raise DatasetError(
            f"{path}: {found.samplerate} Hz and {found.channels} channels; the backgrounds of "
            f"CHiME3 are {RATE} Hz mono, one file per channel"
        )


def _sample(path: Path, clip: Clip) -> Sample:
    recording = Path(path.stem).stem
    sample = path.with_suffix("").as_posix()
    meta = {"label": recording.rpartition("_")[2]}
    return Sample(sample, recording, {"audio": clip}, reference=clip, meta=meta)
