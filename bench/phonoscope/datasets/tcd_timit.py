"""TCD-TIMIT, and its noisy version NTCD-TIMIT.

Harte and Gillen, "TCD-TIMIT: an audio-visual corpus of continuous speech", IEEE Transactions on
Multimedia 17(5), 2015, doi 10.1109/TMM.2015.2407694. Abdelaziz, "NTCD-TIMIT: a new database and
baseline for noise-robust audio-visual speech recognition", Interspeech 2017.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from phonoscope.datasets import (
    NoisePlace,
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

Part = Literal["volunteers", "lipspeakers"]
Camera = Literal["straightcam", "30degcam"]
NoiseName = Literal["Babble", "Cafe", "Car", "LR", "Street", "White"]
Cell: TypeAlias = tuple[str, str, str]

SPEAKERS = {"volunteers": 59, "lipspeakers": 3}
SENTENCES = {"volunteers": 98, "lipspeakers": 377}  # of each speaker
NOISES: tuple[NoiseName, ...] = ("Babble", "Cafe", "Car", "LR", "Street", "White")
TEST_SPEAKERS = tuple("09F 24M 26M 27M 33F 40F 47M 49F 56M".split())
LAYOUT = "ROOT/{part}/<speaker>/Clips/{camera}/<utterance>.mp4 and .txt, {count} per speaker"
NOISY_LAYOUT = (
    "ROOT/<noise>/<snr>/volunteers/<speaker>/straightcam/<utterance>.wav, "
    f"{SENTENCES['volunteers']} per speaker, and their clean versions in TCD_TIMIT/volunteers/"
    "<speaker>/Clips/straightcam/ or ROOT/Clean/volunteers/<speaker>/straightcam/"
)


@dataset
def tcd_timit(
    name: str,
    *,
    root: str | Path,
    part: Part = "volunteers",
    speakers: Sequence[str] | None = None,
    camera: Camera = "straightcam",
    noise: Mapping[str, NoisePlace] | None = None,
    partial: bool = False,
) -> Dataset:
    """Read TCD-TIMIT: ``root/<part>/<speaker>/Clips/<camera>/<utterance>.mp4`` and ``.txt``.

    The id is ``<speaker>/<utterance>``, the group the speaker. Inputs: `video` (the mp4) and
    `audio`; the reference is the sound: ``<utterance>.wav`` where it lies beside, else the mp4's.

    Parameters
    ----------
    name : str
        Of the data set.
    root : path
        The folder that holds `volunteers` and `lipspeakers`.
    part : {"volunteers", "lipspeakers"}
        59 speakers of 98 sentences, or 3 of 377.
    speakers : sequence of str, optional
        Only these, such as ``[09F, 24M]``; all by default.
    camera : {"straightcam", "30degcam"}
        From the front, or from the side.
    noise : mapping of name to path, optional
        Sound files, folders or lists of them, or data sets of noises, for `snr_db` conditions.
    partial : bool
        Take the clips that are there.

    Raises
    ------
    DatasetMismatch
        If there are other clips than these, and `partial` is not set.
    DatasetError
        If a folder is not there.
    """
    base = existing(root, name)
    chosen = list(speakers or _names(base / part))
    found = {speaker: clips(base, speaker, part=part, camera=camera) for speaker in chosen}
    expected = len(speakers) if speakers else SPEAKERS[part]
    count = SENTENCES[part]
    problems = list(_problems(found, expected, count, base / part))
    layout = LAYOUT.format(part=part, camera=camera, count=count)
    require_whole(name, problems, layout=layout, partial=partial and any(found.values()))
    samples = [
        _clean_sample(speaker, utterance, film)
        for speaker in sorted(found)
        for utterance, film in found[speaker].items()
    ]
    lacking = f"{len(samples)} of {expected * count} clips" if problems else ""
    noises, gaps = read_noises(noise, Path.cwd())
    return listed(name, samples, noises, lacking=joined(lacking, gaps))


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if (path / "Clips").is_dir())


def clips(root: Path, speaker: str, *, part: Part, camera: Camera) -> dict[str, Path]:
    """Return the films of a speaker by utterance, sorted; those of no bytes are left out."""
    return _files(root / part / speaker / "Clips" / camera, ".mp4")


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    kept = (path for path in paths if path.suffix.lower() == suffix and path.name[0] != ".")
    return {path.stem: path for path in kept if size_of(path) > 0}


def _problems(
    found: Mapping[str, Mapping[str, Path]], speakers: int, each: int, folder: Path
) -> Iterator[str]:
    total, there = sum(map(len, found.values())), sum(map(bool, found.values()))
    if there != speakers:
        yield (
            f"found {total} of {speakers * each} clips ({there} of {speakers} speakers) in {folder}"
        )
    short = [speaker for speaker, films in found.items() if len(films) != each]
    if short and there:
        yield (
            f"{len(short)} speakers have other than {each} clips, such as {short[0]} with "
            f"{len(found[short[0]])}"
        )


def _clean_sample(speaker: str, utterance: str, film: Path) -> Sample:
    sound = Clip(str(sound_of(film)))
    return Sample(
        id=f"{speaker}/{utterance}",
        group=speaker,
        inputs={"video": Clip(str(film)), "audio": sound},
        reference=sound,
        meta=_spoken(film.with_suffix(".txt")),
    )


def sound_of(film: Path) -> Path:
    """Return the file that holds the sound of a film: the wav beside it, else itself."""
    wav = film.with_suffix(".wav")
    return wav if size_of(wav) > 0 else film


def _spoken(path: Path) -> dict[str, str]:
    """Return the words of a text file, without the sample numbers that TIMIT puts before them."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); restore the file") from None
    words = [word for word in text.split() if not word.isdecimal()]
    return {"transcript": " ".join(words)} if words else {}


@dataset
def ntcd_timit(
    name: str,
    *,
    root: str | Path,
    tcd_timit: str | Path | None = None,
    noises: Sequence[NoiseName] = NOISES,
    snrs: Sequence[int] = (-5,),
    speakers: Sequence[str] = TEST_SPEAKERS,
    partial: bool = False,
) -> Dataset:
    """Read mixtures: ``root/<noise>/<snr>/volunteers/<speaker>/straightcam/<utterance>.wav``.

    The corpus is noisy already and is never mixed again: it takes no `snr_db` condition. The id is
    ``<noise>/<snr>/<speaker>/<utterance>``, the group the speaker. Inputs: `audio` (the mixture)
    and `video` (TCD-TIMIT's film); the reference is the clean sound of that film.

    Parameters
    ----------
    name : str
        Of the data set.
    root : path
        The folder that holds `Babble`, `Cafe` and so on.
    tcd_timit : path, optional
        TCD-TIMIT, the folder that holds `volunteers`. Without it there is no `video`, and the
        reference is NTCD-TIMIT's own ``Clean/volunteers/<speaker>/straightcam/<utterance>.wav``.
    noises : sequence of str
        Of Babble, Cafe, Car, LR, Street and White.
    snrs : sequence of int
        dB.
    speakers : sequence of str
        By default the nine that published evaluations test on.
    partial : bool
        Take the mixtures that are there and have a clean version.

    Raises
    ------
    DatasetMismatch
        If a mixture or its clean version is not there, and `partial` is not set.
    DatasetError, SpecError
        If a folder is not there, or nothing is asked for.
    """
    if not (noises and snrs and speakers):
        raise SpecError(f"data set {name}: noises, snrs and speakers need at least one each")
    base = existing(root, name)
    films = existing(tcd_timit, name) if tcd_timit else None
    clean = {speaker: _clean_files(base, films, speaker) for speaker in speakers}
    cells: list[Cell] = [(n, str(s), speaker) for n in noises for s in snrs for speaker in speakers]
    found = {cell: _files(_noisy_folder(base, *cell), ".wav") for cell in cells}
    problems = list(_noisy_problems(found, clean, base, films))
    samples = [
        _noisy_sample(cell, utterance, path, clean[cell[2]][utterance.lower()])
        for cell, files in found.items()
        for utterance, path in files.items()
        if utterance.lower() in clean[cell[2]]
    ]
    require_whole(name, problems, layout=NOISY_LAYOUT, partial=partial and bool(samples))
    expected = len(cells) * SENTENCES["volunteers"]
    lacking = f"{len(samples)} of {expected} mixtures" if problems else ""
    return listed(name, samples, lacking=lacking)


def _noisy_folder(base: Path, noise: str, snr: str, speaker: str) -> Path:
    return base / noise / snr / "volunteers" / speaker / "straightcam"


def _clean_files(base: Path, films: Path | None, speaker: str) -> dict[str, Path]:
    """Return films, or sounds where there are no films, by utterance in small letters."""
    if films is None:
        found = _files(base / "Clean" / "volunteers" / speaker / "straightcam", ".wav")
    else:
        found = clips(films, speaker, part="volunteers", camera="straightcam")
    return {utterance.lower(): path for utterance, path in found.items()}


def _noisy_problems(
    found: Mapping[Cell, Mapping[str, Path]],
    clean: Mapping[str, Mapping[str, Path]],
    base: Path,
    films: Path | None,
) -> Iterator[str]:
    each = SENTENCES["volunteers"]
    total, expected = sum(map(len, found.values())), len(found) * each
    if total != expected:
        cell = next(cell for cell, files in found.items() if len(files) != each)
        yield (
            f"found {total} of {expected} mixtures in {base}, such as {len(found[cell])} of {each} "
            f"in {'/'.join(cell)}"
        )
    alone = Counter(
        f"{speaker}/{utterance}"
        for (_, _, speaker), files in found.items()
        for utterance in files
        if utterance.lower() not in clean[speaker]
    )
    if alone or not any(clean.values()):
        there = sum(map(len, clean.values()))
        such = f", not that of {next(iter(alone))}" if alone else ""
        yield (
            f"found the clean version of {there} of {len(clean) * each} utterances in "
            f"{films or base / 'Clean'}{such}"
        )


def _noisy_sample(cell: Cell, utterance: str, path: Path, clean: Path) -> Sample:
    noise, snr, speaker = cell
    film = {"video": Clip(str(clean))} if clean.suffix.lower() == ".mp4" else {}
    return Sample(
        id=f"{noise}/{snr}/{speaker}/{utterance}",
        group=speaker,
        inputs={**film, "audio": Clip(str(path))},
        reference=Clip(str(sound_of(clean))),
        meta={**_spoken(clean.with_suffix(".txt")), "noise": noise, "snr_db": snr},
    )
