"""Control rows for video-to-audio boards: what a metric says of the truth, of chance and of noise.

Sound controls are mono at 22,050 Hz, made from the reference's sound (mean of channels, soxr HQ).
"""

from __future__ import annotations

import functools
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phonoscope import media
from phonoscope.errors import MissingClip, TooShort
from phonoscope.plugins import system
from phonoscope.types import Audio, Clip, Dataset, Sample

RATE = 22_050
SHIFT = 4_410


@system(needs=("reference",), materialise=False)
def control_identical(sample: Sample, out: Path, *, seed: int) -> Clip | None:
    """Ceiling: the reference itself."""
    return sample.reference


@system(needs=("reference",), materialise=False)
def control_chance(sample: Sample, out: Path, *, seed: int, dataset: Dataset) -> Clip:
    """Chance: the reference of another sample.

    The samples with a reference are put on one random circle (Sattolo's shuffle), so that each is
    answered by another one and each is used once. The seed draws the circle: run several seeds to
    see more pairs.

    Raises
    ------
    MissingClip
        If no other sample of the data set has a reference.
    """
    known = [item for item in dataset.samples if item.reference is not None]
    place = next((i for i, item in enumerate(known) if item.id == sample.id), None)
    if place is None or len(known) < 2:
        raise MissingClip(
            f"sample {sample.id!r}: chance needs two samples with a reference in data set "
            f"{dataset.name}, there are {len(known)}"
        )
    other = known[_circle(len(known), seed)[place]].reference
    if other is None:
        raise AssertionError("filtered above")
    return other


@functools.lru_cache(maxsize=16)
def _circle(count: int, seed: int) -> tuple[int, ...]:
    """Return a permutation with a single cycle: no index stays in its place."""
    draw = random.Random(f"control_chance|{count}|{seed}")  # noqa: S311
    order = list(range(count))
    for i in range(count - 1, 0, -1):
        j = draw.randrange(i)
        order[i], order[j] = order[j], order[i]
    return tuple(order)


@system(needs=("reference",))
def control_white_noise(sample: Sample, out: Path, *, seed: int) -> Path:
    """Noise: the same white noise for every clip, RMS 0.1, as long as the reference.

    ``RandomState(0)`` afresh per clip, whatever the run's seed.
    """
    length = len(_reference(sample).samples)
    noise = np.random.RandomState(0).standard_normal(length) * 0.1
    return _write(out, noise.astype(np.float32))


@system(needs=("reference",))
def control_silence(sample: Sample, out: Path, *, seed: int) -> Path:
    """Silence: zeros, as long as the reference."""
    return _write(out, np.zeros(len(_reference(sample).samples), np.float32))


@system(needs=("reference",))
def control_shift_200ms(sample: Sample, out: Path, *, seed: int) -> Path:
    """Misalignment: the reference without its first 4,410 samples, so all comes 200 ms early.

    Raises
    ------
    TooShort
        If nothing would be left.
    """
    sound = _reference(sample).samples
    if len(sound) <= SHIFT:
        raise TooShort(f"sample {sample.id!r}: {len(sound)} samples, needs more than {SHIFT}")
    return _write(out, sound[SHIFT:])


def _reference(sample: Sample) -> Audio:
    if sample.reference is None:
        raise MissingClip(f"sample {sample.id!r} has no reference")
    return media.read_audio(sample.reference, rate=RATE)


def _write(out: Path, samples: NDArray[np.float32]) -> Path:
    return media.write_wav(out / "generated.wav", Audio(samples, RATE))
