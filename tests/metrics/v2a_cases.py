"""The signals that the golden values of `video_to_audio.json` are about."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from phonoscope.media import read_audio
from phonoscope.types import Audio, Clip

RATE = 22_050
Pairs = list[tuple[Audio, Audio]]


@functools.cache
def decode(path: Path) -> Audio:
    return read_audio(Clip(str(path)), rate=RATE)


def sound(samples: Any, rate: int = RATE) -> Audio:
    return Audio(np.asarray(samples, np.float32), rate)


def clicks(starts: list[int], seeds: list[int]) -> Audio:
    y = 1e-4 * np.random.RandomState(0).standard_normal(2 * RATE)
    fall = 0.5 * np.exp(-np.arange(2205) / 400)
    for start, seed in zip(starts, seeds, strict=True):
        y[start : start + 2205] += fall * np.random.RandomState(seed).standard_normal(2205)
    return sound(y)


def synthetic(name: str) -> Audio:
    numbers = [[int(n) for n in re.findall(r"\d+", part)] for part in name.split(";")]
    return clicks(*numbers) if "clicks" in name else sound(np.zeros(numbers[0][0]))


def control(kind: str, reference: Audio) -> Audio:
    y = reference.samples
    return {
        "identical": lambda: reference,
        "shift_200ms": lambda: sound(y[4410:]),
        "shift_50ms": lambda: sound(y[1102:]),
        "silence": lambda: sound(np.zeros_like(y)),
        "white_noise": lambda: sound(np.random.RandomState(0).standard_normal(len(y)) * 0.1),
    }[kind]()


def case_pairs(cases: list[dict[str, Any]], data: Path) -> Iterator[tuple[dict[str, Any], Pairs]]:
    """Yield each case with the (generated, reference) pairs whose mean it states."""
    for case in cases:
        yield case, list(_pairs(case["generated"], case["reference"], data.resolve()))


def _pairs(generated: str, reference: str, data: Path) -> Iterator[tuple[Audio, Audio]]:
    truth = sorted((data / "v2a_demo/gt").glob("*.mp4"))
    if generated.startswith("control:chance"):
        for r, g in itertools.permutations(truth, 2):
            yield decode(g), decode(r)
    elif generated.startswith("mean over 7 clips of "):
        name = generated.removeprefix("mean over 7 clips of ")
        for r in truth:
            yield _generated(name, r, data), decode(r)
    elif generated.startswith("synthetic:"):
        yield synthetic(generated), synthetic(reference)
    else:
        r = data / reference.removeprefix("data/")
        yield _generated(generated, r, data), decode(r)


def _generated(name: str, reference: Path, data: Path) -> Audio:
    if name.startswith("control:"):
        return control(name.removeprefix("control:"), decode(reference))
    if name.endswith(".mp4"):
        return decode(data / name.removeprefix("data/"))
    return decode(data / "v2a_demo" / name / reference.name)
