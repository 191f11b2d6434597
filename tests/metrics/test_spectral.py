"""LSD and MCD: the published recipes, SPTK's own numbers, exact alignment, invariances."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope.errors import (
    ClipError,
    EmptyAudio,
    LengthMismatch,
    NonfiniteAudio,
    SilentAudio,
    SilentReference,
    TooShort,
)
from phonoscope.media import read_audio
from phonoscope.metrics.spectral import (
    DECIBELS,
    align,
    lsd,
    magnitudes,
    mcd,
    mcd_urgent,
    mel_cepstrum,
    nearest_gain,
)
from phonoscope.metrics.speech import speech16k
from phonoscope.types import Audio, Clip

GOLDEN = Path(__file__).parents[1] / "golden"
RATE = 16_000
ALL = {"lsd": lsd, "mcd": mcd, "mcd_urgent": mcd_urgent}
TIMED = {"lsd": lsd, "mcd_urgent": mcd_urgent}
every = pytest.mark.parametrize("metric", ALL.values(), ids=list(ALL))
every_timed = pytest.mark.parametrize("metric", TIMED.values(), ids=list(TIMED))


def sound(samples: Any, rate: int = RATE) -> Audio:
    return Audio(np.asarray(samples, np.float32), rate)


def noise(seconds: float = 1.0, seed: int = 0, level: float = 0.1) -> Audio:
    n = round(seconds * RATE)
    return sound(level * np.random.default_rng(seed).standard_normal(n))


@cache
def read(path: Path) -> Audio:
    return read_audio(Clip(str(path)), rate=RATE)


def pairs(data: Path) -> list[tuple[Audio, Audio]]:
    demo = data / "lrs3_demo"
    systems = [demo / name for name in ("noisy", "avgen", "orig", "lipdiffuser", "il2s_ssl")]
    found = [
        (s / "PSlBlZ3hqKc/00012.mp4", demo / "enhanced/PSlBlZ3hqKc/00012.mp4") for s in systems
    ]
    found.append((data / "speech/speech_bab_0dB.wav", data / "speech/speech.wav"))
    return [(read(one), read(other)) for one, other in found]


# Guards


@every
def test_views_are_guarded_speech_of_both(metric: Any) -> None:
    assert metric.views == {"generated": speech16k, "reference": speech16k}


@every
@pytest.mark.parametrize(
    ("generated", "reference", "error"),
    [
        (sound(np.zeros(RATE)), noise(), SilentAudio),
        (noise(), sound(np.zeros(RATE)), SilentReference),
        (sound(np.zeros(0)), noise(), EmptyAudio),
        (sound([0.1, np.nan] * RATE), noise(), NonfiniteAudio),
        (noise(0.2), noise(0.5), TooShort),
        (noise(1.0), noise(0.2), TooShort),
    ],
    ids=["zeros", "ref zeros", "empty", "nan", "short", "ref short"],
)
def test_bad_clips_are_named(
    metric: Any, generated: Audio, reference: Audio, error: type[ClipError]
) -> None:
    with pytest.raises(error) as caught:
        metric(generated, reference)
    assert str(caught.value).startswith(error.code)


@every
def test_unprepared_arrays_are_programming_errors(metric: Any) -> None:
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 48000"):
        metric(sound(noise().samples, 48_000), noise())
    with pytest.raises(ValueError, match="wrong_shape"):
        metric(noise(), sound(np.ones((RATE, 2))))


@every_timed
def test_aligned_clips_may_differ_by_half_a_second(metric: Any) -> None:
    assert metric(noise(1.5), noise(1.0)).info["n_trimmed"] == 8000
    with pytest.raises(LengthMismatch):
        metric(noise(1.6), noise(1.0))


def test_mcd_takes_any_two_lengths() -> None:
    record = mcd(noise(2.0), noise(0.5))
    assert record.info["n_aligned"] >= 1 + (2 * RATE - 1024) // 256
    assert record.value > 0


# LSD


def published_lsd(inf: np.ndarray, ref: np.ndarray, eps: float = 1e-8) -> float:
    """The URGENT challenge's definition over librosa's spectrogram, in double precision."""
    import librosa

    ref, inf = ref.astype(np.float64), inf.astype(np.float64)
    inf = inf * (ref @ inf) / (inf @ inf + eps)
    one, other = (np.abs(librosa.stft(x, n_fft=512, hop_length=256)).T for x in (ref, inf))
    squares = np.log(one**2 / (other + eps) ** 2 + eps) ** 2
    return float(np.mean(np.sqrt(squares.mean(axis=1))))


def test_lsd_is_the_published_one(shared_data: Path) -> None:
    pytest.importorskip("librosa")
    for generated, reference in pairs(shared_data):
        n = min(len(generated.samples), len(reference.samples))
        expected = published_lsd(generated.samples[:n], reference.samples[:n])
        assert lsd(generated, reference).value == pytest.approx(expected, rel=1e-9)


def test_magnitudes_have_the_shape_and_level_of_a_spectrogram() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    found = magnitudes(tone)
    assert found.shape == (1 + RATE // 256, 257)
    assert found[10].argmax() == 32
    assert found[10, 32] == pytest.approx(512 / 4)


def test_lsd_of_a_shelf_is_known() -> None:
    white = 0.1 * np.random.default_rng(1).standard_normal(4 * RATE)
    spectrum = np.fft.rfft(white)
    spectrum[len(spectrum) // 2 :] *= np.exp(-1)
    shelf = np.fft.irfft(spectrum)
    gain = (1 + np.exp(-1)) / (1 + np.exp(-2))
    low, high = -2 * np.log(gain), 2 - 2 * np.log(gain)
    expected = np.sqrt((low**2 + high**2) / 2)
    assert lsd(sound(shelf), sound(white)).value == pytest.approx(expected, abs=0.05)
    assert lsd(sound(white), sound(white)).value < 1e-4


def test_lsd_counts_digital_silence() -> None:
    s = noise(2.0).samples.copy()
    s[62 * 256 :][:4096] = 0
    record = lsd(sound(s), sound(s))
    assert record.info["n_silent"] == 15
    n_frames = 1 + 2 * RATE // 256
    assert record.value == pytest.approx(15 / n_frames * -np.log(1e-8), rel=1e-3)


@every_timed
@pytest.mark.parametrize("gain", [0.1, -0.5, 3.0])
def test_gain_and_polarity_do_not_matter(metric: Any, gain: float, shared_data: Path) -> None:
    for generated, reference in pairs(shared_data)[:3]:
        plain = metric(generated, reference).value
        louder = metric(sound(gain * generated.samples), reference).value
        assert louder == pytest.approx(plain, abs=1e-4)


def test_the_nearest_gain_is_the_projection() -> None:
    s, e = np.random.default_rng(2).standard_normal((2, 1000))
    assert nearest_gain(-4 * s, s) == pytest.approx(-0.25)
    e -= (e @ s) / (s @ s) * s
    assert nearest_gain(s + e, s) == pytest.approx((s @ s) / (s @ s + e @ e))


# Mel-cepstra


def test_mel_cepstra_are_sptks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(GOLDEN), *sys.path])
    import mel_cepstra

    golden = json.loads(mel_cepstra.FILE.read_text(encoding="utf-8"))
    assert golden.keys() == mel_cepstra.signals().keys()
    for name, signal in mel_cepstra.signals().items():
        np.testing.assert_allclose(mel_cepstrum(signal), golden[name], atol=1e-9, err_msg=name)


def test_frames_are_whole_and_none_is_padded() -> None:
    signal = noise(1.0).samples.astype(np.float64)
    for n, frames in [(1024, 1), (1279, 1), (1280, 2), (RATE, 59)]:
        assert mel_cepstrum(signal[:n]).shape == (frames, 24)
    np.testing.assert_array_equal(mel_cepstrum(signal[:1279]), mel_cepstrum(signal[:1024]))


@settings(max_examples=20, deadline=None)
@given(st.floats(-20, 20))
def test_a_gain_moves_the_first_coefficient_alone(db: float) -> None:
    signal = 10 * np.random.default_rng(3).standard_normal(3000)
    change = mel_cepstrum(10 ** (db / 20) * signal) - mel_cepstrum(signal)
    np.testing.assert_allclose(change[:, 0], db / 20 * np.log(10), atol=2e-3)
    np.testing.assert_allclose(change[:, 1:], 0, atol=2e-3)


def test_mcd_of_a_gain_is_known() -> None:
    loud = np.random.default_rng(4).standard_normal(RATE)
    found = mcd(sound(loud), sound(10**0.5 * loud)).value
    assert found <= DECIBELS * np.log(10) / 2 + 0.01
    still = np.tile(loud[:256], 40)
    found = mcd(sound(still), sound(10**0.5 * still)).value
    assert found == pytest.approx(DECIBELS * np.log(10) / 2, abs=0.01)
    assert found == pytest.approx(7.07, abs=0.02)


# Alignment


def table(x: np.ndarray, y: np.ndarray) -> float:
    """Cost of the cheapest path, cell by cell."""
    total = np.full((len(x) + 1, len(y) + 1), np.inf)
    total[0, 0] = 0
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            before = min(total[i, j], total[i, j + 1], total[i + 1, j])
            total[i + 1, j + 1] = before + np.sqrt(np.sum((a - b) ** 2))
    return float(total[-1, -1])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_alignment_finds_the_cheapest_path(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    cost, n_pairs = align(x, y)
    assert cost == pytest.approx(table(x, y))
    assert max(n, m) <= n_pairs <= n + m - 1
    assert align(y, x)[0] == pytest.approx(cost)


def test_alignment_counts_the_pairs_of_its_path() -> None:
    x = np.array([[0.0], [5.0], [9.0]])
    y = np.array([[0.0], [0.0], [5.0], [5.0], [5.0], [9.5]])
    assert align(x, y) == (0.5, 6)
    assert align(x, x) == (0.0, 3)
    assert align(x[:1], y) == (0 + 0 + 5 + 5 + 5 + 9.5, 6)


def test_mcd_is_the_mean_over_the_path(shared_data: Path) -> None:
    one, other = (read(shared_data / f"speech/spk1_snt{i}.wav") for i in (1, 2))
    cost, n_pairs = align(*(mel_cepstrum(s.samples.astype(np.float64)) for s in (one, other)))
    record = mcd(one, other)
    assert record.value == pytest.approx(10 / np.log(10) * np.sqrt(2) * cost / n_pairs)
    assert record.info == {"n_aligned": n_pairs}
    assert mcd(other, one).value == pytest.approx(record.value, rel=0.02)


def test_time_is_forgiven_and_another_sentence_is_not(shared_data: Path) -> None:
    clip = read(shared_data / "speech/spk1_snt1.wav")
    slow = sound(
        np.interp(np.arange(0, len(clip.samples), 0.99), np.arange(len(clip.samples)), clip.samples)
    )
    other = read(shared_data / "speech/spk2_snt1.wav")
    assert mcd(clip, clip).value == 0
    late = sound(np.r_[np.zeros(2560), clip.samples])
    assert mcd(late, clip).value < 0.2 * mcd(other, clip).value
    assert mcd(slow, clip).value < 0.6 * mcd(other, clip).value


def test_urgents_mcd_is_mcd_at_the_nearest_gain(shared_data: Path) -> None:
    for generated, reference in pairs(shared_data)[:3]:
        n = min(len(generated.samples), len(reference.samples))
        g, r = (s.samples[:n].astype(np.float64) for s in (generated, reference))
        expected = mcd(sound(nearest_gain(g, r) * g), sound(r)).value
        assert mcd_urgent(generated, reference).value == pytest.approx(expected, abs=1e-4)
