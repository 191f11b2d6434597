"""SI-SDR, PESQ, STOI and ESTOI: golden values, guards, invariances."""

from __future__ import annotations

import functools
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope.errors import (
    ClipError,
    EmptyAudio,
    LengthMismatch,
    NonfiniteAudio,
    NoUtterances,
    SilentAudio,
    SilentReference,
    TooLong,
    TooShort,
)
from phonoscope.media import read_audio
from phonoscope.metrics.intrusive import (
    estoi,
    pesq_nb,
    pesq_wb,
    project,
    scale_invariant_sdr,
    sdr,
    si_sdr,
    stoi,
)
from phonoscope.metrics.speech import check_speech, loudest, matched, require_rate, speech16k
from phonoscope.types import Audio, Clip
from phonoscope.views import audio

GOLDEN = {"si_sdr": si_sdr, "pesq_wb": pesq_wb, "pesq_nb": pesq_nb, "stoi": stoi, "estoi": estoi}
ALL = {**GOLDEN, "sdr": sdr}
RATE = 16_000


@functools.lru_cache(maxsize=64)
def decode(path: Path) -> np.ndarray:
    return read_audio(Clip(str(path)), rate=RATE).samples


def sound(samples: Any, rate: int = RATE) -> Audio:
    return Audio(np.asarray(samples, np.float32), rate)


def noise(seconds: float = 1.0, seed: int = 0, level: float = 0.1) -> Audio:
    n = round(seconds * RATE)
    return sound(level * np.random.default_rng(seed).standard_normal(n))


def mix(data: Path, how: dict[str, Any]) -> np.ndarray:
    s = decode(data / how["speech"]).astype(np.float64)
    n = decode(data / how["noise"])[how["noise_start"] :][: len(s)].astype(np.float64)
    x = s + np.sqrt(np.mean(s**2) / np.mean(n**2) * 10 ** (-how["snr_db"] / 10)) * n
    if how["clip"] == "rescale_peak095" and np.abs(x).max() > 1:
        x *= 0.95 / np.abs(x).max()
    if how["clip"] == "pcm16_clip":
        file = io.BytesIO()
        soundfile.write(file, x, RATE, format="WAV", subtype="PCM_16")
        file.seek(0)
        return soundfile.read(file, dtype="float32")[0]
    return x.astype(np.float32)


def generated_of(data: Path, case: dict[str, Any]) -> np.ndarray:
    how = case.get("input") or {"kind": "file"}
    if how["kind"] == "mix":
        return mix(data, how)
    samples = decode(data / case["generated"])
    return samples * np.float32(how["factor"]) if how["kind"] == "gain" else samples


def measure(data: Path, case: dict[str, Any]) -> float:
    how = case.get("input") or {}
    if how.get("kind") == "arrays":
        g, r = (np.array(how[side], np.float64) for side in ("generated", "reference"))
        value = scale_invariant_sdr(g, r, zero_mean=case["mode"] == "zero_mean")
        return float(np.clip(value, -100, 100))
    g, r = generated_of(data, case), decode(data / case["reference"])
    record = GOLDEN[case["metric"]](sound(g), sound(r))
    return record.value


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name: str, parity: Any, shared_data: Path) -> None:
    cases = [case for case in parity("speech")["cases"] if case["metric"] == name]
    assert len(cases) >= 25
    wrong = []
    for case in cases:
        value = measure(shared_data, case)
        if not abs(value - case["value"]) <= case["abs_tol"]:
            wrong.append((value, case))
    assert wrong == []


def test_golden_projections(parity: Any, shared_data: Path) -> None:
    cases = [case for case in parity("speech")["cases"] if case["metric"] == "snr_projection"]
    assert len(cases) == 5
    for case in cases:
        g, r = (sound(decode(shared_data / case[side])) for side in ("generated", "reference"))
        assert si_sdr(g, r).value == pytest.approx(case["value"], abs=case["abs_tol"])


@pytest.mark.parametrize("metric", ALL.values(), ids=list(ALL))
def test_views_are_guarded_speech_of_both(metric: Any) -> None:
    assert metric.views == {"generated": speech16k, "reference": speech16k}
    assert speech16k.of == audio(RATE)


@pytest.mark.parametrize("metric", ALL.values(), ids=list(ALL))
def test_identical_is_ideal(metric: Any, shared_data: Path) -> None:
    clip = sound(decode(shared_data / "speech/spk1_snt1.wav"))
    record = metric(clip, clip)
    assert record.value == pytest.approx(metric.ideal, abs=1e-6)
    assert record.info["n_trimmed"] == 0


@pytest.mark.parametrize("metric", ALL.values(), ids=list(ALL))
@pytest.mark.parametrize(
    ("generated", "reference", "error"),
    [
        (sound(np.zeros(RATE)), noise(), SilentAudio),
        (noise(level=1e-6), noise(), SilentAudio),
        (noise(), sound(np.zeros(RATE)), SilentReference),
        (sound(np.zeros(0)), noise(), EmptyAudio),
        (sound([0.1, np.nan] * RATE), noise(), NonfiniteAudio),
        (sound([0.1, np.inf] * RATE), noise(), NonfiniteAudio),
        (noise(0.2), noise(0.5), TooShort),
        (noise(1.0), noise(0.2), TooShort),
        (noise(1.0), noise(1.6), LengthMismatch),
        (noise(1.6), noise(1.0), LengthMismatch),
    ],
    ids=["zeros", "faint", "ref zeros", "empty", "nan", "inf", "short", "ref short", "cut", "long"],
)
def test_bad_clips_are_named(
    metric: Any, generated: Audio, reference: Audio, error: type[ClipError]
) -> None:
    with pytest.raises(error) as caught:
        metric(generated, reference)
    assert type(caught.value) is error
    assert str(caught.value).startswith(error.code)


@pytest.mark.parametrize("metric", ALL.values(), ids=list(ALL))
def test_unprepared_arrays_are_programming_errors(metric: Any) -> None:
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 48000"):
        metric(sound(noise().samples, 48_000), noise())
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 8000"):
        metric(noise(), sound(noise().samples, 8_000))
    with pytest.raises(ValueError, match="wrong_shape"):
        metric(sound(np.ones((RATE, 2))), noise())


def test_guards_report_the_first_fault_only() -> None:
    for samples, error in [
        ([np.nan] * 10, NonfiniteAudio),
        ([], EmptyAudio),
        ([0.0] * 10, SilentAudio),
        ([0.5] * 3999, TooShort),
    ]:
        with pytest.raises(error):
            check_speech(sound(samples))
    assert check_speech(sound([0.5] * 4000)).seconds == 0.25
    with pytest.raises(TooShort, match=r"0\.06 s, needs 0\.25 s"):
        check_speech(sound([0.5] * 1000))
    with pytest.raises(SilentAudio):
        check_speech(sound([9.9e-5] * 4000))
    check_speech(sound([1.1e-4] * 4000))


def test_loudest_is_the_largest_magnitude() -> None:
    assert loudest(sound([0.25, -0.5])) == 0.5
    require_rate(sound([0.0], 22_050), 22_050)


def test_lengths_may_differ_by_half_a_second() -> None:
    long, short = noise(1.5), noise(1.0)
    for pair in [(long, short), (short, long)]:
        g, r, n_trimmed = matched(*pair)
        assert (len(g), len(r), n_trimmed) == (RATE, RATE, 8000)
        assert g.dtype == r.dtype == np.float64
        assert si_sdr(*pair).info["n_trimmed"] == 8000
    with pytest.raises(LengthMismatch, match="24001"):
        matched(sound(np.full(24_001, 0.1)), short)


def test_silence_in_the_common_part_is_refused() -> None:
    late = sound(np.r_[np.zeros(RATE), np.full(4000, 0.1)])
    with pytest.raises(SilentReference):
        si_sdr(noise(1.0), late)
    with pytest.raises(SilentAudio):
        si_sdr(late, noise(1.0))


def test_si_sdr_closed_forms() -> None:
    s, q = np.array([1.0, 0, -1, 0]), np.array([0.0, 1, 0, -1])
    assert scale_invariant_sdr(s + 0.1 * q, s) == pytest.approx(20)
    assert scale_invariant_sdr(q, s) == -math.inf
    assert scale_invariant_sdr(-3 * s, s) == math.inf
    with pytest.raises(SilentReference):
        scale_invariant_sdr(s, 0 * s)


def test_si_sdr_is_clamped_and_says_so() -> None:
    tone = np.sin(np.arange(RATE) / 7)
    record = si_sdr(sound(-0.5 * tone), sound(tone))
    assert record.value == 100 and record.flags == ("clamped",)
    evens, odds = np.zeros(RATE), np.zeros(RATE)
    evens[::2], odds[1::2] = 0.5, 0.5
    record = si_sdr(sound(evens), sound(odds))
    assert record.value == -100 and record.flags == ("clamped",)
    assert si_sdr(noise(seed=1), noise(seed=2)).flags == ()


@settings(max_examples=25, deadline=None)
@given(st.floats(-60, 60), st.floats(0.05, 20), st.booleans())
def test_si_sdr_measures_the_ratio_whatever_the_gain(db: float, gain: float, flip: bool) -> None:
    s, e = np.random.default_rng(3).standard_normal((2, 5000))
    e -= (e @ s) / (s @ s) * s
    e *= np.sqrt((s @ s) / (e @ e)) * 10 ** (-db / 20)
    assert scale_invariant_sdr((-gain if flip else gain) * (s + e), s) == pytest.approx(
        db, abs=1e-6
    )


def test_mean_removal_is_another_number() -> None:
    g, r = np.array([2.0, 3, 4, 6]), np.array([1.0, 2, 3, 4])
    assert scale_invariant_sdr(g, r) == pytest.approx(21.408, abs=1e-3)
    assert scale_invariant_sdr(g, r, zero_mean=True) == pytest.approx(14.497, abs=1e-3)


def shifts(r: np.ndarray, taps: int) -> np.ndarray:
    """The reference, delayed by 0 to `taps - 1` samples, one column each."""
    return scipy.linalg.toeplitz(np.r_[r, np.zeros(taps - 1)], np.r_[r[:1], np.zeros(taps - 1)])


@pytest.mark.parametrize("kind", ["white", "low"])
def test_projection_is_least_squares(kind: str) -> None:
    g, r = np.random.default_rng(4).standard_normal((2, 3000))
    if kind == "low":
        r = np.convolve(r, np.hanning(60), mode="same")
    basis = shifts(r, 512)
    best = np.linalg.lstsq(basis, np.r_[g, np.zeros(511)])[0]
    filtered, singular = project(g, r)
    np.testing.assert_allclose(filtered, basis @ best, atol=1e-9)
    assert not singular


@pytest.mark.filterwarnings("ignore:mir_eval.separation.bss_eval_sources:FutureWarning")
def test_sdr_equals_mir_evals(shared_data: Path) -> None:
    separation = pytest.importorskip("mir_eval.separation")
    clean = shared_data / "speech/speech.wav"
    pairs = [(shared_data / "speech/speech_bab_0dB.wav", clean)]
    demo = shared_data / "lrs3_demo"
    for system in ("noisy", "avgen", "lipdiffuser", "orig"):
        pairs += [(demo / system / u, demo / "enhanced" / u) for u in ["PSlBlZ3hqKc/00012.mp4"]]
    for generated, reference in pairs:
        g, r = sound(decode(generated)), sound(decode(reference))
        one, other, _ = matched(g, r)
        expected = separation.bss_eval_sources(other[None], one[None], False)[0][0]
        assert sdr(g, r).value == pytest.approx(expected, abs=1e-8)


def test_sdr_forgives_what_a_filter_does(shared_data: Path) -> None:
    s = decode(shared_data / "speech/spk1_snt1.wav")
    taps = np.random.default_rng(5).standard_normal(512) * np.exp(-np.arange(512) / 60)
    r = sound(np.r_[s[:20_000], np.zeros(600)])
    g = sound(0.1 * np.convolve(r.samples, taps)[: len(r.samples)])
    assert sdr(g, r).value > 90
    assert si_sdr(g, r).value < 10
    late = sound(np.r_[np.zeros(512), r.samples[:-512]])
    assert sdr(late, r).value < 20, "one tap too far"
    assert sdr(sound(-3 * r.samples), r).value == 100


@settings(max_examples=20, deadline=None)
@given(st.floats(-60, 60))
def test_sdr_measures_the_ratio_to_what_no_filter_reaches(db: float) -> None:
    s, e = np.random.default_rng(6).standard_normal((2, 4600))
    s[4000:] = 0  # so that no filtered end is cut off
    e -= project(e, s)[0][:4600]
    e *= np.sqrt((s @ s) / (e @ e)) * 10 ** (-db / 20)
    value = sdr(sound(0.1 * (s + e)), sound(0.1 * s)).value
    assert value == pytest.approx(db, abs=1e-3)


def test_sdr_of_a_faded_tone_is_marked() -> None:
    tone = np.sin(np.arange(8000) / 7) * np.hanning(8000)
    record = sdr(sound(tone + 0.01 * noise(0.5).samples), sound(tone))
    assert record.flags == ("singular",)
    assert 30 < record.value < 60
    with pytest.raises(SilentReference):
        project(tone, 0 * tone)


@pytest.mark.parametrize("metric", [pesq_wb, pesq_nb], ids=["wb", "nb"])
def test_pesq_limits(metric: Any) -> None:
    burst = np.zeros(RATE)
    burst[8000:8400] = noise().samples[:400]
    with pytest.raises(NoUtterances):
        metric(noise(), sound(burst))
    with pytest.raises(TooLong, match=r"60\.1 s"):
        metric(noise(60.1), noise(60.1))


def test_pesq_ignores_gain(shared_data: Path) -> None:
    clean = decode(shared_data / "speech/speech.wav")
    noisy = decode(shared_data / "speech/speech_bab_0dB.wav")
    plain = pesq_wb(sound(noisy), sound(clean)).value
    assert pesq_wb(sound(noisy * 0.1), sound(clean)).value == pytest.approx(plain, abs=1e-4)
    assert pesq_wb(sound(clean), sound(noisy)).value != pytest.approx(plain, abs=1e-3)


@pytest.mark.parametrize("metric", [stoi, estoi], ids=["stoi", "estoi"])
def test_stoi_needs_thirty_frames(metric: Any) -> None:
    with pytest.raises(TooShort, match="30 frames"):
        metric(noise(0.3), noise(0.3, 1))
    click = np.zeros(RATE)
    click[5000] = 0.5
    with pytest.raises(TooShort, match="30 frames"):
        metric(noise(), sound(click))
    assert -0.5 < metric(noise(0.6), noise(0.6, 1)).value < 0.5


def test_estoi_leaves_the_global_generator_alone() -> None:
    np.random.seed(7)
    expected = np.random.standard_normal(3)
    np.random.seed(7)
    first = estoi(noise(1.0), noise(1.0, 1)).value
    assert np.random.standard_normal(3).tolist() == expected.tolist()
    np.random.seed(99)
    assert estoi(noise(1.0), noise(1.0, 1)).value == first
    with pytest.raises(TooShort):
        np.random.seed(7)
        estoi(noise(0.3), noise(0.3))
    assert np.random.standard_normal(3).tolist() == expected.tolist()
