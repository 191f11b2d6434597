"""Tiny copies of corpora in their true layout, made of synthesised sound and pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from phonoscope import media
from phonoscope.types import Audio

RATE = 16_000
LRS3_IDS = tuple(f"{video}/{number:05d}" for video in ("0Fi8", "a_Vx", "zz-9") for number in (2, 4))
PLACES = ("BUS", "CAF", "PED", "STR")


def tone(seconds: float, seed: int, *, rate: int = RATE, level: float = 0.1) -> np.ndarray:
    """Return bursts of noise, float32, of a length of its own for each seed."""
    count = round(seconds * rate) + 7 * seed
    moment = np.arange(count) / rate
    beat = np.clip(np.sin(2 * np.pi * 3 * moment + seed), 0, None)
    found = np.random.default_rng(seed).standard_normal(count) * beat * level
    return found.astype(np.float32)


def wav(path: Path, seconds: float = 0.6, seed: int = 0, **options: Any) -> Path:
    """Write a mono wav of 32-bit floats."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = options.get("rate", RATE)
    return media.write_wav(path, Audio(tone(seconds, seed, **options), rate))


def film(path: Path, seconds: float = 0.6, seed: int = 0) -> Path:
    """Write an mp4 with pictures of 32x32 at 25 fps and AAC sound at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        pictures: Any = container.add_stream("mpeg4", rate=25)
        pictures.width = pictures.height = 32
        pictures.pix_fmt = "yuv420p"
        sound: Any = container.add_stream("aac", rate=RATE, layout="mono")
        for i in range(round(seconds * 25)):
            pixels = np.full((32, 32, 3), (i * 10 + seed) % 255, np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        samples = tone(seconds, seed)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux(sound.encode(frame))
        for stream in (pictures, sound):
            container.mux(stream.encode())
    return path


def text(path: Path, content: str) -> Path:
    """Write a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def lrs3(root: Path, ids: Iterable[str] = LRS3_IDS) -> Path:
    """Write LRS3's test set: films and text files with confidence and word table."""
    for seed, sample in enumerate(ids):
        film(root / "test" / f"{sample}.mp4", seed=seed)
        words = f"SO THIS IS NUMBER {sample[-1]}"
        table = "WORD START END ASDSCORE\nSO 0.1 0.2 4.2\n"
        text(root / "test" / f"{sample}.txt", f"Text:  {words}\nConf:  4\n\n{table}")
    return root


def expect_lrs3(patch: pytest.MonkeyPatch, ids: Iterable[str] = LRS3_IDS) -> None:
    """Let the tiny copy be the whole test set."""
    import sys

    module = sys.modules["phonoscope.datasets.lrs3"]
    lines = "".join(f"{sample}\n" for sample in sorted(ids))
    patch.setattr(module, "CLIPS", len(list(ids)))
    patch.setattr(module, "VIDEOS", len({sample.partition("/")[0] for sample in ids}))
    patch.setattr(module, "IDS_SHA256", hashlib.sha256(lines.encode()).hexdigest())


def enhanced(root: Path, ids: Iterable[str] = LRS3_IDS, suffix: str = ".wav") -> Path:
    """Write an enhanced track for LRS3."""
    for seed, sample in enumerate(ids):
        write = wav if suffix == ".wav" else film
        write(root / f"{sample}{suffix}", seed=seed)
    return root


def chime3(root: Path, *, seconds: float = 2.0, channels: Iterable[int] = (1, 5)) -> Path:
    """Write CHiME3's backgrounds, two recordings of each place."""
    folder = root / "data" / "audio" / "16kHz" / "backgrounds"
    for seed, place in enumerate(PLACES):
        for session in ("150203_010", "150204_020"):
            for channel in channels:
                name = f"BGD_{session}_{place}.CH{channel}.wav"
                wav(folder / name, seconds, seed + 10 * channel, level=0.3)
    return root


def tcd(root: Path, speakers: Iterable[str], utterances: Iterable[str]) -> Path:
    """Write volunteers of TCD-TIMIT: films, and text files with sample numbers before each word."""
    for seed, speaker in enumerate(speakers):
        for utterance in utterances:
            folder = root / "volunteers" / speaker / "Clips" / "straightcam"
            film(folder / f"{utterance}.mp4", seed=seed)
            text(folder / f"{utterance}.txt", "0 4800 She\n4800 9600 had your\n")
    return root


def ntcd(
    root: Path, speakers: Iterable[str], utterances: Iterable[str], **cells: Iterable[str]
) -> Path:
    """Write mixtures of NTCD-TIMIT: `cells` are SNRs by noise."""
    for noise, snrs in cells.items():
        for snr in snrs:
            for seed, speaker in enumerate(speakers):
                for utterance in utterances:
                    folder = root / noise / snr / "volunteers" / speaker / "straightcam"
                    wav(folder / f"{utterance}.wav", seed=seed, level=0.3)
    return root


def vctk(root: Path, ids: Iterable[str]) -> Path:
    """Write pairs of VCTK-DEMAND's test set with their texts."""
    for seed, sample in enumerate(ids):
        wav(root / "clean_testset_wav" / f"{sample}.wav", seed=seed, rate=48_000)
        wav(root / "noisy_testset_wav" / f"{sample}.wav", seed=seed, rate=48_000, level=0.2)
        text(root / "testset_txt" / f"{sample}.txt", f"Please call number {seed}.\n")
    return root
