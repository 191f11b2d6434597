"""Onset metrics: the matcher, the picked peaks, golden values on real clips, edge cases."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from v2a_cases import RATE, case_pairs, clicks, decode, sound

from phonoscope.errors import EmptyAudio, NonfiniteAudio, TooShort, UnscorableReference
from phonoscope.metrics import odf
from phonoscope.metrics.odf import onset_strength
from phonoscope.metrics.onset import (
    accuracy,
    average_precision,
    condfoleygen_ap,
    confidences,
    detection_ap,
    loudness,
    match,
    pick_peaks,
    thin,
)
from phonoscope.plugins import METRICS
from phonoscope.types import Audio

FAMILIES = ("onset_acc", "onset_count_acc", "onset_ap", "onset_ap_cfg")
SUFFIXES = ("", "_whole", "_zeropad", "_whole_zeropad")
NAMES = [family + suffix for family in FAMILIES for suffix in SUFFIXES]
SCORES = {"onset_acc": accuracy, "onset_ap": detection_ap, "onset_ap_cfg": condfoleygen_ap}


def test_golden_matcher(parity: Any) -> None:
    cases = parity("video_to_audio")["matcher_cases"]
    assert len(cases) == 11
    for case in cases:
        reference = np.array(case["reference_onsets"], np.intp)
        generated = np.array(case["generated_onsets"], np.intp)
        confidence = np.array(case["confidence"], np.float64)
        loud = np.array(case["loudness_at_onset"], np.float64)
        found = match(reference, generated, loud)
        assert found.hits == case["expected"]["hits"], case["case"]
        for name, score in SCORES.items():
            expected = case["expected"][name]
            if expected is None:
                assert found.n_reference == 0
            else:
                assert score(found, confidence) == pytest.approx(expected, abs=1e-9), case["case"]


def test_golden_onsets(parity: Any, shared_data: Any) -> None:
    golden = parity("video_to_audio")["intermediate"]
    assert len(golden) == 28
    wrong = []
    for name, expected in golden.items():
        y = decode(shared_data.resolve() / "v2a_demo" / f"{name}.mp4").samples
        for window, samples in (("2s", y[:44_100]), ("whole", y)):
            for label, padding in (("reflect", "reflect"), ("zeropad", "constant")):
                peaks = pick_peaks(onset_strength(samples, padding=padding)).tolist()
                if peaks != expected[f"onset_frames_{window}_{label}"]:
                    wrong.append((name, window, label, peaks))
    assert wrong == []


def measured(name: str, pairs: Any, note: str) -> float | None:
    """Return the mean over pairs; None where one pair alone is unscorable."""
    metric = METRICS.get(name)
    try:
        records = [metric(*pair) for pair in pairs]
    except UnscorableReference:
        assert len(pairs) == 1
        return None
    for key, count in re.findall(r"\b(n_ref|n_gen|after_nms|hits)=(\d+)", note):
        assert records[0].info[key] == int(count), (name, note)
    return float(np.mean([record.value for record in records]))


@pytest.mark.parametrize("padding", ["reflect", "zeropad"])
def test_golden_values(
    padding: str, parity: Any, shared_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odf, "_KEPT", 1000)
    golden = [c for c in parity("video_to_audio")["cases"] if c["metric"] in FAMILIES]
    golden = [c for c in golden if ("zeropad" in c["variant"]) == (padding == "zeropad")]
    assert len(golden) == {"reflect": 4 * (70 + 65), "zeropad": 4 * (27 + 25)}[padding]
    wrong = []
    for case, pairs in case_pairs(golden, shared_data):
        suffix = case["variant"].removeprefix("2s")
        suffix = f"_{suffix}" if suffix.startswith("whole") else suffix
        value = measured(case["metric"] + suffix, pairs, case["note"])
        if value is None or case["value"] is None:
            if value is not case["value"]:
                wrong.append((value, case))
        elif not abs(value - case["value"]) <= case["abs_tol"]:
            wrong.append((value, case))
    assert wrong == []


def test_every_variant_is_registered_with_its_direction() -> None:
    for name in NAMES:
        metric = METRICS.get(name)
        assert metric.name == metric.function.__name__ == name
        assert metric.better == "higher"
        assert ("Window: whole" in metric.doc) == ("_whole" in name)
        assert ("padding: constant" in metric.doc) == ("_zeropad" in name)


def test_peaks() -> None:
    assert pick_peaks(np.zeros(20)).tolist() == []
    assert pick_peaks(np.ones(20)).tolist() == []
    e = np.zeros(40)
    e[[5, 20, 21, 30]] = [1.0, 0.9, 1.0, 0.2]
    assert pick_peaks(e).tolist() == [5, 20]
    e[[0, 20]] = [1.0, 0.5]
    assert pick_peaks(e).tolist() == [5, 20]
    assert pick_peaks(np.array([0.0, 0.0, 1.0])).tolist() == [2]


def test_confidence_reaches_50_ms_both_ways() -> None:
    loud = np.zeros(10_000)
    loud[5000 - 1102], loud[5000 + 1101] = 0.25, 0.5
    assert confidences(np.array([5000]), loud).tolist() == [0.5]
    loud[5000 + 1101], loud[5000 + 1102] = 0.0, 1.0
    assert confidences(np.array([5000]), loud).tolist() == [0.25]
    loud[5000 - 1103], loud[5000 - 1102] = 1.0, 0.0
    assert confidences(np.array([5000]), loud).tolist() == [0.0]
    assert confidences(np.array([0, 10_000]), np.full(10_000, 0.5)).tolist() == [0.5, 0.5]


def test_thinning_keeps_the_surer_and_of_equals_the_later() -> None:
    onsets = np.array([0, 1024, 2048, 4096])
    assert thin(onsets, np.array([0.1, 0.9, 0.2, 0.1])).tolist() == [1, 3]
    assert thin(onsets, np.array([0.5, 0.5, 0.5, 0.5])).tolist() == [0, 2, 3]
    assert thin(onsets, np.array([0.9, 0.5, 0.8, 0.1])).tolist() == [0, 2, 3]
    assert thin(np.array([], np.intp), np.array([])).tolist() == []


def test_loudness_is_scaled() -> None:
    assert loudness(np.array([0.5, -1.0, 0.25], np.float32)).tolist() == [1 / 3, 1.0, 0.0]
    assert loudness(np.full(5, -0.3, np.float32)).tolist() == [0.0] * 5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=25))
def test_average_precision_is_the_usual_one(items: list[tuple[bool, int]]) -> None:
    hit = np.array([h for h, _ in items])
    score = np.array([s / 4 for _, s in items])
    n = max(1, int(hit.sum()))
    expected, before = 0.0, 0
    for threshold in sorted(set(score), reverse=True):
        chosen = score >= threshold
        hits = int(hit[chosen].sum())
        expected += (hits - before) / n * hits / int(chosen.sum())
        before = hits
    assert average_precision(hit, score, n) == pytest.approx(expected, abs=1e-12)


def test_average_precision_of_nothing_is_zero() -> None:
    assert average_precision(np.zeros(0, np.bool_), np.zeros(0), 3) == 0


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 80), min_size=1), st.sets(st.integers(0, 80)), st.integers(0, 999))
def test_matching_never_uses_an_onset_twice(ref: set[int], gen: set[int], seed: int) -> None:
    reference, generated = (np.array(sorted(s), np.intp) * 512 for s in (ref, gen))
    found = match(reference, generated, np.random.default_rng(seed).random(len(generated)))
    assert found.hits <= min(len(reference), len(generated))
    for onset in generated[found.found]:
        assert np.abs(reference - onset).min() < 2205
    own = match(reference, reference, np.ones(len(reference)))
    assert own.n_reference == len(reference)


@pytest.mark.parametrize("name", NAMES)
def test_silent_or_flat_generated_clips_never_profit(name: str) -> None:
    metric, reference = METRICS.get(name), clicks([8820, 19845, 30870], [1, 2, 3])
    faint = sound(5e-5 * clicks([9000, 20_000], [1, 2]).samples)
    for generated in (sound(np.zeros(44_100)), faint):
        record = metric(generated, reference)
        if "count" in name:
            assert record.value == 0 and record.flags == ("silent_generated",)
        else:
            assert record.value == (1 if "cfg" in name else 0)
            assert record.flags == ("silent_generated", "no_generated_onsets")
        assert record.info["n_gen"] == record.info["hits"] == 0 < record.info["n_ref"]


@pytest.mark.parametrize("name", NAMES)
def test_reference_without_onsets(name: str) -> None:
    metric, generated, silence = METRICS.get(name), clicks([8820], [1]), sound(np.zeros(44_100))
    if "count" in name:
        assert metric(generated, silence).value == 0
        both = metric(silence, silence)
        assert both.value == 1 and both.flags == ("silent_generated", "silent_reference")
    else:
        with pytest.raises(UnscorableReference):
            metric(generated, silence)


@pytest.mark.parametrize("name", NAMES)
def test_bad_clips_are_named(name: str) -> None:
    metric, good = METRICS.get(name), clicks([8820], [1])
    shortest = 11_025 if "whole" in name else 44_100
    for bad, error, text in [
        (sound(np.zeros(0)), EmptyAudio, "no samples"),
        (sound([0.1, np.nan] * RATE), NonfiniteAudio, "NaN"),
        (sound(good.samples[: shortest - 1]), TooShort, "too_short"),
        (Audio(good.samples, 16_000), ValueError, "wrong_rate: expected 22050, got 16000"),
        (Audio(np.ones((RATE, 2), np.float32), RATE), ValueError, "wrong_shape"),
    ]:
        for pair in [(bad, good), (good, bad)]:
            with pytest.raises(error, match=text):
                metric(*pair)
    metric(sound(good.samples[:shortest]), good)


def test_onset_on_the_last_frame_of_whole_hops() -> None:
    y = np.zeros(512 * 90, np.float32)
    y[-1024:] = 0.5 * np.random.default_rng(0).standard_normal(1024)
    record = METRICS.get("onset_acc_whole_zeropad")(sound(y), sound(y))
    assert record.value == 1 and record.info["n_ref"] >= 1


def test_lengths_are_reported() -> None:
    reference = clicks([8820, 19845], [1, 2])
    longer = sound(np.r_[reference.samples, np.zeros(RATE)])
    record = METRICS.get("onset_acc")(longer, reference)
    assert record.flags == ("length_mismatch",)
    assert record.info["seconds_generated"] == 3 and record.info["seconds_reference"] == 2
    assert METRICS.get("onset_acc")(reference, reference).flags == ()


def test_gain_changes_nothing() -> None:
    reference, generated = clicks([8820, 19845], [1, 2]), clicks([9923, 19845, 34398], [4, 5, 6])
    for name in NAMES:
        metric = METRICS.get(name)
        quiet = sound(0.5 * generated.samples)
        assert metric(quiet, reference).value == pytest.approx(metric(generated, reference).value)
