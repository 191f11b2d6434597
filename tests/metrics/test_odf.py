"""The onset detection function and the distances between two of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from v2a_cases import RATE, case_pairs, clicks, decode, sound

from phonoscope.errors import EmptyAudio, NonfiniteAudio, TooShort, UnscorableReference
from phonoscope.metrics import odf
from phonoscope.metrics.odf import (
    common_window,
    jensen_shannon,
    mel_bands,
    onset_strength,
    w1_time,
    w1_value,
)
from phonoscope.plugins import METRICS
from phonoscope.types import Audio

DISTANCES = {"odf_w1_time": w1_time, "odf_w1_value": w1_value, "odf_jsd": jensen_shannon}
NAMES = [f"{name}{suffix}" for name in DISTANCES for suffix in ("", "_zeropad")]
PADDINGS = {"reflect": "reflect", "zeropad": "constant"}


def vectors(text: str) -> tuple[np.ndarray, np.ndarray]:
    frames = np.arange(87)
    known = {
        "delta@10": (frames == 10) * 1.0,
        "delta@20": (frames == 20) * 1.0,
        "uniform": np.ones(87),
        "2*uniform": np.full(87, 2.0),
        "first 44 frames flat": (frames < 44) * 1.0,
    }
    first, second = text.rsplit(" (", 1)[0].split(" vs ")
    return known[first], known[second]


@pytest.mark.parametrize("name", DISTANCES)
def test_golden_vectors(name: str, parity: Any) -> None:
    cases = [c for c in parity("video_to_audio")["cases"] if c["metric"] == name]
    cases = [c for c in cases if c["variant"] == "odf_vectors"]
    assert len(cases) == 4
    for case in cases:
        reference, generated = vectors(case["generated"])
        value = DISTANCES[name](generated, reference)
        assert value == pytest.approx(case["value"], abs=max(case["abs_tol"], 5e-11)), case


def measured(name: str, pairs: Any) -> float | None:
    """Return the mean over pairs; None where one pair alone is unscorable."""
    metric = METRICS.get(name)
    try:
        return float(np.mean([metric(*pair).value for pair in pairs]))
    except UnscorableReference:
        assert len(pairs) == 1
        return None


def test_golden_values(parity: Any, shared_data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odf, "_KEPT", 1000)
    golden = [c for c in parity("video_to_audio")["cases"] if c["metric"] in DISTANCES]
    golden = [c for c in golden if c["variant"] != "odf_vectors"]
    assert len(golden) == 3 * 87
    wrong = []
    for case, pairs in case_pairs(golden, shared_data):
        value = measured(case["metric"] + case["variant"].removeprefix("whole"), pairs)
        if value is None or case["value"] is None:
            if value is not case["value"]:
                wrong.append((value, case))
        elif not abs(value - case["value"]) <= case["abs_tol"]:
            wrong.append((value, case))
    assert wrong == []


def test_golden_functions(parity: Any, shared_data: Any) -> None:
    golden = parity("video_to_audio")["intermediate"]
    assert len(golden) == 28
    for name, expected in golden.items():
        clip = decode(shared_data / "v2a_demo" / f"{name}.mp4")
        assert len(clip.samples) == expected["n_samples_22050"], name
        for label, padding in PADDINGS.items():
            strength = onset_strength(clip.samples, padding=padding)
            facts = expected[f"odf_{label}"]
            assert len(strength) == facts["frames"]
            assert strength.sum() == pytest.approx(facts["sum"], rel=1e-6)
            assert strength.max() == pytest.approx(facts["max"], rel=1e-6)
            assert strength.argmax() == facts["argmax"]


def test_strength_is_late_by_three_frames_and_blind_to_gain() -> None:
    y = clicks([8820, 19845], [1, 2]).samples
    strength = onset_strength(y)
    assert len(strength) == 1 + len(y) // 512
    assert not strength[:3].any() and (strength >= 0).all()
    assert np.allclose(onset_strength(0.5 * y), strength, atol=1e-6)
    assert not onset_strength(np.zeros(RATE, np.float32)).any()


def test_padding_decides_about_a_clip_that_starts_with_sound() -> None:
    y = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert onset_strength(y, padding="constant")[3] > 2 * onset_strength(y)[3]


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    y = clicks([8820, 19845], [1, 2]).samples
    whole = onset_strength(y)
    monkeypatch.setattr(odf, "FRAMES_AT_ONCE", 7)
    assert np.allclose(onset_strength(y), whole, rtol=1e-12, atol=1e-12)


def test_mel_bands_have_unit_area() -> None:
    filters = mel_bands(16_000, 8192, 40, 100.0, 8000.0)
    assert filters.shape == (4097, 40)
    assert np.allclose(filters.sum(axis=0) * 16_000 / 8192, 1, atol=0.01)
    peaks = filters.argmax(axis=0)
    assert (np.diff(peaks) > 0).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 200))
def test_distances_have_their_ranges(seed: int, n: int) -> None:
    p, q = np.random.default_rng(seed).random((2, n)) ** 4
    for distance in DISTANCES.values():
        assert distance(p, p) == pytest.approx(0, abs=1e-12)
        assert distance(p, q) == pytest.approx(distance(q, p), rel=1e-9)
    assert 0 <= w1_time(p, q) <= (n - 1) * 512 / RATE
    assert 0 <= jensen_shannon(p, q) <= math.log(2)
    assert w1_value(p[::-1], p) == 0


def test_distances_agree_with_scipy() -> None:
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import wasserstein_distance

    p, q = np.random.default_rng(1).random((2, 90))
    at = np.arange(90) * 512 / RATE
    assert w1_time(q, p) == pytest.approx(wasserstein_distance(at, at, p, q), rel=1e-9)
    assert jensen_shannon(q, p) == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-9)
    assert w1_value(q, p) == pytest.approx(wasserstein_distance(p, q), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_silence_never_profits(name: str) -> None:
    metric = METRICS.get(name)
    reference = clicks([8820, 19845, 30870], [1, 2, 3])
    n = len(reference.samples)
    worst = {"odf_w1_time": (n // 512) * 512 / RATE, "odf_jsd": math.log(2)}
    faint = sound(5e-5 * np.random.default_rng(0).uniform(-1, 1, n))
    steady = sound(np.full(n, 0.5)) if not name.endswith("zeropad") else sound(np.zeros(n))
    for generated in (sound(np.zeros(n)), faint, steady):
        record = metric(generated, reference)
        assert record.flags == ("silent_generated",)
        base = name.removesuffix("_zeropad")
        assert record.value == pytest.approx(worst.get(base, record.value))
    own = metric(reference, reference)
    assert own.value == pytest.approx(0, abs=1e-12) and own.flags == ()


@pytest.mark.parametrize("name", NAMES)
def test_silent_reference_is_unscorable_where_undefined(name: str) -> None:
    metric = METRICS.get(name)
    generated, silence = clicks([8820], [1]), sound(np.zeros(2 * RATE))
    if "value" in name:
        record = metric(generated, silence)
        assert record.value > 0 and record.flags == ("silent_reference",)
    else:
        with pytest.raises(UnscorableReference):
            metric(generated, silence)


@pytest.mark.parametrize("name", NAMES)
def test_bad_clips_are_named(name: str) -> None:
    metric, good = METRICS.get(name), clicks([8820], [1])
    for bad, error, text in [
        (sound(np.zeros(0)), EmptyAudio, "no samples"),
        (sound([0.1, np.nan] * RATE), NonfiniteAudio, "NaN"),
        (sound(good.samples[:11_024]), TooShort, "needs 0.50 s"),
        (Audio(good.samples, 16_000), ValueError, "wrong_rate: expected 22050, got 16000"),
        (Audio(np.ones((RATE, 2), np.float32), RATE), ValueError, "wrong_shape"),
    ]:
        for pair in [(bad, good), (good, bad)]:
            with pytest.raises(error, match=text):
                metric(*pair)
    metric(sound(good.samples[:11_025]), good)


def test_window_and_lengths() -> None:
    long, short = sound(np.full(3 * RATE, 0.1)), sound(np.full(2 * RATE + 100, 0.2))
    pair = common_window(long, short, "whole")
    assert len(pair.generated) == len(pair.reference) == 2 * RATE + 100
    assert pair.flags == ("length_mismatch",)
    assert pair.info["seconds_generated"] == 3
    assert pair.info["seconds_reference"] == pytest.approx(2 + 100 / RATE)
    assert len(common_window(long, short, "2s").generated) == 44_100
    near = sound(np.full(3 * RATE - RATE // 2, 0.1))
    assert common_window(long, near, "whole").flags == ()
    with pytest.raises(TooShort, match=r"reference has 1\.00 s, needs 2\.00 s"):
        common_window(long, sound(np.full(RATE, 0.1)), "2s")


def test_silence_is_judged_inside_the_window() -> None:
    late = sound(np.r_[np.zeros(2 * RATE), np.full(RATE, 0.5)])
    other = sound(np.full(3 * RATE, 0.1))
    assert common_window(late, other, "2s").flags == ("silent_generated",)
    assert common_window(other, late, "2s").flags == ("silent_reference",)
    assert common_window(late, other, "whole").flags == ()


def test_cached_functions_are_those_of_the_same_content() -> None:
    y = clicks([8820, 19845], [1, 2]).samples
    fresh = {padding: onset_strength(y, padding=padding) for padding in ("reflect", "constant")}
    for _ in range(2):
        for padding, expected in fresh.items():
            assert np.array_equal(odf.cached_strength(y.copy(), padding), expected)
    changed = y.copy()
    changed[30_000] += 0.5
    assert not np.array_equal(odf.cached_strength(changed, "reflect"), fresh["reflect"])
    for seed in range(40):
        odf.cached_strength(np.random.default_rng(seed).random(5000, np.float32), "reflect")
    assert len(odf._strengths) <= 16
