"""A small data set made on this machine: six synthetic speakers, drawn faces, and two noises.

24 sentences of the GRID corpus' grammar (Cooke et al., JASA 120(5), 2006, doi 10.1121/1.2229005),
spoken by espeak-ng, with a face whose mouth opens with the sound. It shows that everything works
and how a board looks; it says nothing about systems trained on real people.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phonoscope import media, weights
from phonoscope.datasets import build, espeak
from phonoscope.errors import DatasetError, DependencyMissing
from phonoscope.plugins import dataset, missing_packages
from phonoscope.types import Audio, Clip, Dataset, Sample

VERSION = "demo-v1"
RATE = 16_000
FPS = 25
SIZE = 96
PER_FRAME = RATE // FPS
LEVEL = 0.05  # RMS of every utterance and noise
MARGIN = 0.2  # seconds of silence on either side
NOISE_SECONDS = 20
SEED = 1892

Signal = NDArray[np.float64]
Picture = NDArray[np.float64]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Voice:
    """A speaker: espeak-ng's voice, words per minute, pitch (0 to 99)."""

    name: str
    speed: int
    pitch: int


@dataclass(frozen=True)
class Looks:
    """Colours of a face, as RGB."""

    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    iris: tuple[int, int, int]
    wall: tuple[int, int, int]


VOICES: Mapping[str, tuple[Voice, Looks]] = MappingProxyType(
    {
        "s1": (
            Voice("en-us+f2", 135, 50),
            Looks((244, 208, 177), (72, 46, 30), (84, 110, 70), (196, 214, 222)),
        ),
        "s2": (
            Voice("en-us+adam", 130, 45),
            Looks((140, 92, 62), (28, 22, 20), (60, 38, 24), (232, 214, 180)),
        ),
        "s3": (
            Voice("en-us+f5", 130, 60),
            Looks((228, 184, 146), (30, 26, 28), (70, 46, 30), (206, 196, 220)),
        ),
        "s4": (
            Voice("en-us+edward", 135, 40),
            Looks((248, 216, 196), (196, 150, 84), (76, 116, 150), (190, 210, 190)),
        ),
        "s5": (
            Voice("en-us+f3", 140, 55),
            Looks((112, 72, 50), (22, 18, 18), (52, 32, 22), (220, 190, 186)),
        ),
        "s6": (
            Voice("en-us+michel", 135, 50),
            Looks((236, 198, 168), (150, 150, 150), (90, 96, 104), (184, 200, 216)),
        ),
    }
)
BABBLE_VOICES = tuple(
    Voice(f"en-us+{variant}", 125 + 5 * i, 35 + 5 * i)
    for i, variant in enumerate(("f1", "m1", "f4", "m2", "klatt", "m3", "john", "victor"))
)

# Drawn once so that all letters but one, and every other word equally often, are said: the codes of
# the GRID corpus, a letter per word.
_SAID = """
bwaf4a lrid8a pwwe2n brbk2n bgiv6a swaazp pbbm1a sbwj9p pras7a lwit7p pwwq1p bgbg3n
lrbh1s pgix4n srwizs sbir9s bbic9p lwbo6s lbau4n sgay5s prwp8p bbwb5a sgbl6n lgaz3s
"""
_BABBLED = """
lbit1a srwp5p lraf3s bgao4s pbwl1n lraz2a lgag9n sgak1p lwwy8a pbwq7s prbm6p pwiizp
lrwd7s sbbs7p pbbvza bbbh4n swwb3n bwbr9s bgia6p pgij6a srbx8a bgiu8n swie5n bwac2s
"""
SENTENCES = tuple(_SAID.split())
BABBLE_SENTENCES = tuple(_BABBLED.split())
_DIGITS = "zero one two three four five six seven eight nine"
CODES: tuple[dict[str, str], ...] = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", _DIGITS.split(), strict=True)),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)


@dataset
def demo(name: str) -> Dataset:
    """24 utterances of six synthetic speakers with drawn faces, and the noises `pink` and `babble`.

    Inputs: `video` (25 fps, 96x96, without sound), `audio` (the clean sound, which an `snr_db`
    condition mixes with noise) and `enrollment` (the speaker's next utterance). The reference is
    the clean sound, 16 kHz. Made on first use in ``$PHONOSCOPE_CACHE/demo-v1`` (a few seconds).

    Raises
    ------
    DependencyMissing
        Without the package `espeakng-loader`.
    """
    folder = ensure()
    samples = [
        Sample(
            id=sample,
            group=speaker,
            inputs={
                "video": Clip(str(folder / "video" / f"{sample}.mp4")),
                "audio": Clip(str(folder / "audio" / f"{sample}.wav")),
                "enrollment": Clip(str(folder / "audio" / f"{following}.wav")),
            },
            reference=Clip(str(folder / "audio" / f"{sample}.wav")),
            meta={"transcript": text},
        )
        for sample, speaker, text, following in utterances()
    ]
    noises = {kind: (Clip(str(folder / "noise" / f"{kind}.wav")),) for kind in ("pink", "babble")}
    return build(name, samples, noises)


def utterances() -> Iterator[tuple[str, str, str, str]]:
    """Yield id, speaker, transcript and the id of the speaker's next utterance (cyclic)."""
    each = len(SENTENCES) // len(VOICES)
    for i, speaker in enumerate(VOICES):
        codes = SENTENCES[i * each : (i + 1) * each]
        for code, following in zip(codes, codes[1:] + codes[:1], strict=True):
            yield f"{speaker}-{code}", speaker, transcript(code), f"{speaker}-{following}"


def transcript(code: str) -> str:
    """Return the sentence of a GRID code: ``bbaf2n`` is "bin blue at f two now"."""
    return " ".join(words[letter] for words, letter in zip(CODES, code, strict=True))


def ensure(progress: Progress | None = None) -> Path:
    """Return the folder of the finished data set, making it first where it is not there.

    It is made under another name and renamed: a half-made one is never seen, and of two processes
    that make it at once the first one wins, with the same bytes.

    Parameters
    ----------
    progress : callable, optional
        Called with what is made, how many of it are done, and how many there are.

    Raises
    ------
    DependencyMissing
        Without the package `espeakng-loader`.
    DatasetError
        If the cache cannot be written.
    """
    target = weights.cache_folder() / VERSION
    if _complete(target):
        return target
    if missing_packages(["espeakng_loader"]):
        raise DependencyMissing(
            "the demo data set is spoken by espeak-ng: run `pip install 'phonoscope[demo]'`"
        )
    partial = target.with_name(f".{VERSION}.{uuid.uuid4().hex}.tmp")
    try:
        partial.mkdir(parents=True)
        make(partial, progress)
        _publish(partial, target)
    except OSError as error:
        raise DatasetError(
            f"{target}: the demo data set cannot be written ({error.strerror or error}); "
            "set PHONOSCOPE_CACHE to a folder with space"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _complete(folder: Path) -> bool:
    return all((folder / file).is_file() for file in _files())


def _files() -> Iterator[str]:
    for sample, *_ in utterances():
        yield f"audio/{sample}.wav"
        yield f"video/{sample}.mp4"
    yield from ("noise/pink.wav", "noise/babble.wav", "transcripts.tsv")


def _publish(partial: Path, target: Path) -> None:
    if target.exists() and not _complete(target):
        damaged = partial.with_suffix(".damaged")
        target.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        partial.rename(target)
    except OSError:
        if not _complete(target):  # else another process was first
            raise


def make(folder: Path, progress: Progress | None = None) -> None:
    """Write all files into an empty folder. The same bytes every time on one machine."""
    for inside in ("audio", "video", "noise"):
        (folder / inside).mkdir()
    tell = progress or (lambda what, done, total: None)
    spoken, babble = _speak()
    plan = list(utterances())
    for i, (sample, speaker, _, _) in enumerate(plan):
        sound = _framed(spoken[i])
        _write(folder / "audio" / f"{sample}.wav", sound)
        film = draw(sound, VOICES[speaker][1], seed=SEED + i)
        write_film(folder / "video" / f"{sample}.mp4", film)
        tell("utterances", i + 1, len(plan))
    _write(folder / "noise" / "pink.wav", pink(NOISE_SECONDS * RATE, seed=SEED))
    _write(folder / "noise" / "babble.wav", _babble(babble))
    lines = "".join(f"{sample}\t{text}\n" for sample, _, text, _ in plan)
    (folder / "transcripts.tsv").write_text(lines, encoding="utf-8", newline="\n")


def _write(path: Path, signal: Signal) -> None:
    media.write_wav(path, Audio(signal.astype(np.float32), RATE))


# Sound


def _speak() -> tuple[list[Signal], list[list[Signal]]]:
    """Return the utterances, and what each voice of the babble says, at `RATE`."""
    each = len(BABBLE_SENTENCES) // len(BABBLE_VOICES)
    lines = [_line(VOICES[speaker][0], text) for _, speaker, text, _ in utterances()]
    for i, code in enumerate(BABBLE_SENTENCES):
        lines.append(_line(BABBLE_VOICES[i // each], transcript(code)))
    spoken = _espeak(lines)
    rest = spoken[len(SENTENCES) :]
    return spoken[: len(SENTENCES)], [rest[i : i + each] for i in range(0, len(rest), each)]


def _line(voice: Voice, text: str) -> dict[str, Any]:
    """Return what espeak-ng is to say. Capitals are spelled; "a" might be the article."""
    words = text.split()
    words[3] = words[3].upper()
    return {
        "text": " ".join(words),
        "voice": voice.name,
        "speed": voice.speed,
        "pitch": voice.pitch,
    }


def _espeak(lines: Sequence[Mapping[str, Any]]) -> list[Signal]:
    command = [sys.executable, "-P", str(espeak.__file__)]
    done = subprocess.run(command, input=espeak.encode(lines), capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DatasetError(f"espeak-ng cannot speak the demo data set: {last or done.returncode}")
    rate, spoken = espeak.decode(done.stdout)
    sounds = [np.frombuffer(s, np.int16).astype(np.float32) / np.float32(32_768) for s in spoken]
    return [media.resample(Audio(sound, rate), RATE).samples.astype(np.float64) for sound in sounds]


def _framed(speech: Signal) -> Signal:
    """Set the level, and add silence so that sound and pictures end together."""
    margin = round(MARGIN * RATE)
    length = -(-(len(speech) + 2 * margin) // PER_FRAME) * PER_FRAME
    framed = np.zeros(length)
    framed[margin : margin + len(speech)] = _levelled(speech)
    return framed


def _levelled(signal: Signal) -> Signal:
    return np.asarray(signal * (LEVEL / np.sqrt(np.mean(signal**2))))


def pink(length: int, *, seed: int) -> Signal:
    """Return noise whose power falls by 3 dB per octave, from 20 Hz on; RMS `LEVEL`."""
    white = np.random.default_rng(seed).standard_normal(length)
    spectrum = np.fft.rfft(white)
    frequencies = np.fft.rfftfreq(length, 1 / RATE)
    shape = np.zeros(len(spectrum))
    heard = frequencies >= 20
    shape[heard] = 1 / np.sqrt(frequencies[heard])
    return _levelled(np.fft.irfft(spectrum * shape, length))


def _babble(voices: Sequence[Sequence[Signal]]) -> Signal:
    """Return all voices at once and equally loud, each repeating its sentences in its own order."""
    random = np.random.default_rng(SEED)
    length = NOISE_SECONDS * RATE
    total = np.zeros(length)
    for sentences in voices:
        said: list[Signal] = []
        while sum(map(len, said)) < 2 * length:
            said += [sentences[i] for i in random.permutation(len(sentences))]
        layer = np.concatenate(said)
        start = int(random.integers(len(layer) - length))
        total += _levelled(layer[start : start + length])
    return _levelled(total)


# Pictures


def opening(sound: Signal) -> Signal:
    """Return how far the mouth is open in each frame: 0 (closed) to 1, by the energy of the frame.

    The level of the frame's 40 ms in dB, 35 dB below the loudest frame to the loudest; smoothed
    over three frames.
    """
    power = np.mean(sound.reshape(-1, PER_FRAME) ** 2, axis=1)
    level = 10 * np.log10(np.maximum(power, 1e-12) / max(float(power.max()), 1e-12))
    wide = np.clip(1 + level / 35, 0, 1)
    return np.convolve(np.pad(wide, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")


def draw(sound: Signal, looks: Looks, *, seed: int) -> NDArray[np.uint8]:
    """Draw a face that says `sound`.

    Parameters
    ----------
    sound : ndarray, shape (frames * `PER_FRAME`,)
        At `RATE`.
    looks : Looks
        Colours.
    seed : int
        Decides when the eyes blink.

    Returns
    -------
    ndarray of uint8, shape (frames, `SIZE`, `SIZE`, 3)
        RGB, at `FPS`.
    """
    wide = opening(sound)
    blinks = set(_blinks(len(wide), seed))
    faces = {shut: _face(looks, shut=shut) for shut in (False, True)}
    film = np.empty((len(wide), SIZE, SIZE, 3), np.uint8)
    for i, amount in enumerate(wide):
        picture = faces[i in blinks].copy()
        _draw_mouth(picture, looks, float(amount))
        film[i] = np.rint(picture)
    return film


def _blinks(count: int, seed: int) -> Iterator[int]:
    random = np.random.default_rng(seed)
    at = int(random.integers(10, 50))
    while at < count:
        yield from range(at, at + 3)
        at += int(random.integers(50, 90))


def _face(looks: Looks, *, shut: bool) -> Picture:
    """Draw everything but the mouth: float RGB of shape (`SIZE`, `SIZE`, 3)."""
    picture = np.broadcast_to(np.array(looks.wall, float), (SIZE, SIZE, 3)).copy()
    shade = tuple(round(0.82 * value) for value in looks.skin)
    _ellipse(picture, (48, 104), (44, 20), tuple(round(0.6 * value) for value in looks.iris))
    _ellipse(picture, (48, 88), (12, 16), shade)
    _ellipse(picture, (48, 44), (34, 40), looks.hair)
    for side in (-1, 1):
        _ellipse(picture, (48 + 31 * side, 50), (5, 8), shade)
    _ellipse(picture, (48, 52), (30, 38), looks.skin)
    _ellipse(picture, (48, 17), (26, 9), looks.hair)
    for side in (-1, 1):
        _draw_eye(picture, looks, 48 + 12 * side, shut=shut)
    _ellipse(picture, (48, 56), (3.5, 5), shade)
    _ellipse(picture, (48, 54), (3, 5), looks.skin)
    return picture


def _draw_eye(picture: Picture, looks: Looks, x: float, *, shut: bool) -> None:
    _ellipse(picture, (x, 34), (7, 1.6), looks.hair)
    if shut:
        _ellipse(picture, (x, 43), (6, 1.0), tuple(round(0.6 * value) for value in looks.skin))
        return
    _ellipse(picture, (x, 43), (6, 3.6), (250, 250, 250))
    _ellipse(picture, (x, 43), (3, 3), looks.iris)
    _ellipse(picture, (x, 43), (1.4, 1.4), (16, 16, 16))


def _draw_mouth(picture: Picture, looks: Looks, amount: float) -> None:
    """Draw lips, and between them what an open mouth shows."""
    red, green, blue = looks.skin
    lips = (round(0.8 * red), round(0.5 * green), round(0.52 * blue))
    x, y, width = 48, 72 + 2 * amount, 13 - 2 * amount
    _ellipse(picture, (x, y), (width, 2.6 + 9 * amount), lips)
    _ellipse(picture, (x, y), (width - 2.5, 0.5 + 8 * amount), (52, 16, 20))
    if amount > 0.25:
        _ellipse(picture, (x, y - 5.2 * amount), (width - 5, 2.2 * amount), (244, 240, 232))
        _ellipse(picture, (x, y + 5 * amount), (width - 6, 2.6 * amount), (186, 84, 88))


def _ellipse(
    picture: Picture,
    centre: tuple[float, float],
    radii: tuple[float, float],
    colour: tuple[int, ...],
) -> None:
    """Fill an ellipse with a soft edge of about one pixel, centre and radii as (x, y)."""
    (x, y), (across, down) = centre, radii
    left, right = max(0, int(x - across - 2)), min(SIZE, int(x + across + 3))
    top, bottom = max(0, int(y - down - 2)), min(SIZE, int(y + down + 3))
    rows, columns = np.mgrid[top:bottom, left:right]
    u, v = (columns - x) / across, (rows - y) / down
    distance = np.hypot(u, v)
    # Distance to the edge in pixels: the implicit function over the length of its gradient.
    slope = np.hypot(u / across, v / down) / np.maximum(distance, 1e-6)
    inside = np.clip((1 - distance) / np.maximum(slope, 1e-6) + 0.5, 0, 1)[..., None]
    part = picture[top:bottom, left:right]
    part += inside * (np.array(colour, float) - part)


def write_film(path: Path, film: NDArray[np.uint8]) -> None:
    """Write RGB frames at `FPS` as an mp4 without sound: the same frames give the same bytes.

    H.264 where PyAV carries x264, else MPEG-4 part 2; one thread, because more change the bytes.
    """
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    options = {"crf": "18", "preset": "veryfast"} if codec == "libx264" else {"q": "3"}
    with av.open(os.fspath(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(codec, rate=FPS, options=options)
        stream.height, stream.width = film.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for pixels in film:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
