"""Fréchet distance: golden values, closed forms, laws, and the metric over log-mel statistics."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope.errors import EmptyAudio, NonfiniteAudio, NonfiniteOutput, TooFewSamples
from phonoscope.metrics import frechet as module
from phonoscope.metrics.frechet import (
    fd_logmel,
    frechet,
    frechet_distance,
    frechet_from_statistics,
    logmel_stats,
)
from phonoscope.types import Audio
from phonoscope.views import audio


def normal(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal(shape)


FORMULA = re.compile(
    r"(?P<rectified>maximum\()?(?P<scale>[\d.]+\*)?RandomState\((?P<seed>\d+)\)"
    r"\.standard_normal\(\((?P<n>\d+),(?P<d>\d+)\)\)(?P<divide>/16)?(?P<add>(\+[\d.]+)*)"
)


def features(text: str) -> np.ndarray:
    """Return the features that a golden case's formula makes."""
    if text.startswith("[["):
        rows = re.findall(r"\[([\d,]+)\]", text)
        return np.array([[float(n) for n in row.split(",")] for row in rows])
    how = FORMULA.match(text)
    assert how, text
    x = normal(int(how["seed"]), (int(how["n"]), int(how["d"])))
    x = x * float((how["scale"] or "1*")[:-1]) / (16 if how["divide"] else 1)
    for term in filter(None, how["add"].split("+")):
        x = x + float(term)
    x = np.maximum(x, 0) if how["rectified"] else x
    if "columns" in text:
        x[:, ::10] = 0
    return x


@pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
def test_golden_values(slow: bool, parity: Any) -> None:
    cases = [c for c in parity("video_to_audio")["cases"] if c["metric"] == "frechet_distance"]
    assert len(cases) == 25
    cases = [c for c in cases if c["variant"] == "features"]
    cases = [c for c in cases if c["note"].endswith("slow") == slow]
    assert len(cases) == (1 if slow else 23)
    wrong = []
    for case in cases:
        x, y = features(case["generated"]), features(case["reference"])
        value, info, _ = frechet_distance(x, y)
        assert (info["n1"], info["n2"], info["d"]) == (len(x), len(y), x.shape[1])
        if not abs(value - case["value"]) <= case["abs_tol"]:
            wrong.append((value, case))
    assert wrong == []


def test_golden_statistics(parity: Any) -> None:
    cases = [c for c in parity("video_to_audio")["cases"] if c["metric"] == "frechet_distance"]
    (case,) = [c for c in cases if c["variant"] == "statistics"]
    k = np.arange(1, 65) / 64
    value, info, _ = frechet_from_statistics(
        np.arange(64) / 64, np.diag(k[::-1]), np.zeros(64), np.diag(k)
    )
    assert value == pytest.approx(case["value"], abs=case["abs_tol"])
    assert info["rank1"] == info["rank2"] == 64


def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(axis=0), np.cov(x.T)


@pytest.mark.parametrize(("n1", "n2", "d"), [(40, 600, 128), (600, 40, 128), (50, 50, 96)])
def test_both_entries_agree_where_covariances_are_singular(n1: int, n2: int, d: int) -> None:
    x, y = normal(1, (n1, d)) + 0.5, normal(2, (n2, d))
    exact, _, _ = frechet_distance(x, y)
    value, info, _ = frechet_from_statistics(*statistics(x), *statistics(y))
    assert value == pytest.approx(exact, abs=1e-9)
    assert (info["rank1"], info["rank2"]) == (min(n1 - 1, d), min(n2 - 1, d))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 60), st.integers(2, 60), st.integers(1, 40))
def test_laws(seed: int, n1: int, n2: int, d: int) -> None:
    g = np.random.default_rng(seed)
    x, y = g.standard_normal((n1, d)), 2 * g.standard_normal((n2, d)) + 1
    value, _, _ = frechet_distance(x, y)
    assert value >= 0
    assert frechet_distance(y, x)[0] == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert frechet_distance(x[::-1], y)[0] == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert frechet_distance(3 * x, 3 * y)[0] == pytest.approx(9 * value, rel=1e-9, abs=1e-8)
    assert frechet_distance(x, x)[0] == pytest.approx(0, abs=1e-9)
    turn, _ = np.linalg.qr(g.standard_normal((d, d)))
    assert frechet_distance(x @ turn, y @ turn)[0] == pytest.approx(value, rel=1e-8, abs=1e-8)


def test_one_dimension_is_the_closed_form() -> None:
    x, y = normal(3, (50, 1)), 3 * normal(4, (70, 1)) + 2
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(x, y)[0] == pytest.approx(expected)


def test_moved_and_constant_features() -> None:
    x = normal(5, (30, 8))
    assert frechet_distance(x + 0.5, x)[0] == pytest.approx(8 * 0.25, abs=1e-12)
    value, info, _ = frechet_distance(np.ones((5, 4)), np.zeros((6, 4)))
    assert value == 4 and info["rank1"] == info["rank2"] == 0
    x[:, 3] = 7
    assert frechet_distance(x, x)[1]["rank1"] == 7


def test_float32_features_count_in_float64() -> None:
    x, y = (normal(s, (40, 16)).astype(np.float32) for s in (1, 2))
    wide = frechet_distance(x.astype(np.float64), y.astype(np.float64))
    assert frechet_distance(x, y) == wide


def test_flags_say_what_the_number_is_worth() -> None:
    assert frechet_distance(normal(0, (5, 9)), normal(1, (20, 9)))[2] == (
        "rank_deficient",
        "small_n",
    )
    assert frechet_distance(normal(0, (20, 9)), normal(1, (20, 9)))[2] == ("small_n",)
    assert frechet_distance(normal(0, (1000, 2)), normal(1, (1000, 2)))[2] == ()


def test_bad_sets_are_named() -> None:
    good = normal(0, (5, 3))
    for bad in (good[:1], good[:0]):
        for pair in [(bad, good), (good, bad)]:
            with pytest.raises(TooFewSamples, match=f"n={len(bad)}"):
                frechet_distance(*pair)
    broken = good.copy()
    broken[2, 1] = np.nan
    with pytest.raises(NonfiniteOutput, match="1 rows of the second set"):
        frechet_distance(good, broken)
    with pytest.raises(ValueError, match="3 and 2 dimensions"):
        frechet_distance(good, good[:, :2])
    with pytest.raises(ValueError, match="expected"):
        frechet_distance(good[0], good)


def test_rounding_is_zero_and_worse_is_an_error() -> None:
    assert module._distance(np.zeros(1), 2.0, 1.0 + 0.9e-9) == 0
    with pytest.raises(ArithmeticError, match="negative"):
        module._distance(np.zeros(1), 2.0, 1.0 + 1.1e-9)


def test_aggregate_is_the_distance_of_the_stacks() -> None:
    x, y = normal(1, (12, 6)), normal(2, (12, 6)) + 1
    value, flags = frechet.reduce(list(zip(x, y, strict=True)))
    assert (value, flags) == (frechet_distance(x, y)[0], ("small_n",))
    assert not frechet.linear
    for few in ([], [(x[0], y[0])]):
        with pytest.raises(TooFewSamples, match=f"n={len(few)}"):
            frechet.reduce(few)


def tone(hertz: float, seconds: float = 1.0, level: float = 0.1) -> Audio:
    t = np.arange(round(seconds * 16_000)) / 16_000
    return Audio((level * np.sin(2 * np.pi * hertz * t)).astype(np.float32), 16_000)


def test_logmel_vector() -> None:
    vector = logmel_stats.make(tone(1000))
    assert vector.shape == (160,) and vector.dtype == np.float32
    assert 25 < vector[:80].argmax() < 35
    louder = logmel_stats.make(tone(1000, level=1.0))
    assert louder[vector[:80].argmax()] - vector[:80].max() == pytest.approx(20, abs=0.01)
    silence = logmel_stats.make(Audio(np.zeros(16_000, np.float32), 16_000))
    assert np.array_equal(silence, np.r_[np.full(80, -100), np.zeros(80)])
    assert logmel_stats.make(tone(1000, 1 / 16_000)).shape == (160,)
    assert logmel_stats.of == audio(16_000) and logmel_stats.stored


def test_logmel_refuses_what_is_no_sound() -> None:
    for samples, error in [([], EmptyAudio), ([np.nan, 0.1], NonfiniteAudio)]:
        with pytest.raises(error):
            logmel_stats.make(Audio(np.array(samples, np.float32), 16_000))
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 22050"):
        logmel_stats.make(Audio(np.ones(100, np.float32), 22_050))


def test_fd_logmel_records_the_pair_of_vectors() -> None:
    g = np.random.default_rng(0)
    clips = [Audio(g.standard_normal(8000).astype(np.float32), 16_000) for _ in range(4)]
    vectors = [logmel_stats.make(clip) for clip in clips]
    records = [fd_logmel(v, v).value for v in vectors]
    assert all(np.array_equal(a, b) and a.shape == (160,) for a, b in records)
    value, flags = fd_logmel.aggregate.reduce(records)
    assert value == pytest.approx(0, abs=1e-9) and flags == ("rank_deficient", "small_n")
    louder = [logmel_stats.make(Audio(2 * clip.samples, 16_000)) for clip in clips]
    value, _ = fd_logmel.aggregate.reduce(
        [fd_logmel(*pair).value for pair in zip(louder, vectors, strict=True)]
    )
    assert value == pytest.approx(80 * (20 * np.log10(2)) ** 2, rel=1e-5)
