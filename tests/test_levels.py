"""Measures of loudness: closed forms, what scales with the gain, and pyloudnorm as an oracle."""

from __future__ import annotations

import math

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import levels
from phonoscope.errors import TooShort

RATE = 16_000


def bursts(length: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    beat = np.sin(np.arange(length) / RATE * rng.uniform(1, 9)) ** rng.integers(0, 9)
    return np.asarray(rng.standard_normal(length) * beat * rng.uniform(1e-3, 0.3))


def active_frame_by_frame(signal: np.ndarray) -> np.ndarray:
    powers = []
    for start in range(0, max(len(signal) - 512, 1), 512):
        frame = signal[start : start + 1024]
        powers.append(np.sum(frame**2) / 1024)
    mean = np.mean(powers)
    found = np.empty(len(signal), bool)
    for number, power in enumerate(powers):
        stop = len(signal) if number == len(powers) - 1 else (number + 1) * 512
        found[number * 512 : stop] = power > 0.01 * mean
    return found


class TestActive:
    @given(length=st.integers(1024, 9000), seed=st.integers(0, 999))
    @settings(max_examples=60, deadline=None)
    def test_frame_by_frame(self, length: int, seed: int) -> None:
        signal = bursts(length, seed)
        np.testing.assert_array_equal(levels.active(signal), active_frame_by_frame(signal))

    def test_silence_between_words_is_left_out(self) -> None:
        word, pause = np.ones(1024), np.zeros(4096)
        signal = np.concatenate([word, pause, word])
        heard = levels.active(signal)
        assert heard[:512].all()
        assert not heard[1024:4096].any()
        assert levels.active_power(signal) > 1.5 * levels.mean_power(signal)

    @pytest.mark.parametrize("signal", [np.zeros(5000), np.zeros(10), np.ones(1023)])
    def test_what_is_too_short_or_zero_is_active_all_over(self, signal: np.ndarray) -> None:
        assert levels.active(signal).all()

    @given(gain=st.floats(1e-6, 1e6), seed=st.integers(0, 99))
    @settings(max_examples=30, deadline=None)
    def test_power_scales_with_the_gain(self, gain: float, seed: int) -> None:
        signal = bursts(5000, seed)
        scaled = levels.active_power(gain * signal)
        assert scaled == pytest.approx(gain**2 * levels.active_power(signal), rel=1e-9)


class TestLoudness:
    @given(
        length=st.integers(6400, 60_000),
        seed=st.integers(0, 999),
        rate=st.sampled_from([8_000, 16_000]),
    )
    @settings(max_examples=60, deadline=None)
    def test_pyloudnorm(self, length: int, seed: int, rate: int) -> None:
        signal = bursts(length, seed)
        expected = pyloudnorm.Meter(rate).integrated_loudness(signal)
        assert levels.integrated_loudness(signal, rate) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("rate", [48_000, 44_100])
    def test_a_full_scale_sine_is_three_decibels_below(self, rate: int) -> None:
        """ITU-R BS.1770-4: 0 dB at 997 Hz in one front channel reads -3.01 LKFS."""
        sine = np.sin(2 * np.pi * 997 * np.arange(5 * rate) / rate)
        assert levels.integrated_loudness(sine, rate) == pytest.approx(-3.01, abs=0.06)

    def test_gain_is_counted_in_decibels(self) -> None:
        signal = bursts(40_000, 1)
        twice = levels.integrated_loudness(2 * signal, RATE)
        once = levels.integrated_loudness(signal, RATE)
        assert twice - once == pytest.approx(20 * math.log10(2), abs=1e-9)

    def test_pauses_are_gated_out(self) -> None:
        speech = bursts(48_000, 2)
        spoken = levels.integrated_loudness(speech, RATE)
        with_pause = np.concatenate([speech, np.zeros(10 * RATE)])
        assert levels.integrated_loudness(with_pause, RATE) == pytest.approx(spoken, abs=0.5)
        fall = levels.mean_power(speech) / levels.mean_power(with_pause)
        assert 10 * math.log10(fall) > 5

    def test_what_is_below_the_gate_has_none(self) -> None:
        assert levels.integrated_loudness(np.zeros(RATE), RATE) == -math.inf
        assert levels.integrated_loudness(1e-6 * bursts(RATE, 3), RATE) == -math.inf

    def test_less_than_a_block(self) -> None:
        with pytest.raises(TooShort, match=r"needs 0\.4 s, there are 0\.399 s"):
            levels.integrated_loudness(np.ones(6390), RATE)
