"""Mixing: the SNR that was asked for, the same bytes for the same key, golden gains and cuts."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import media, noise
from phonoscope.errors import MissingClip, SilentNoise, SilentReference, SpecError, TooShort
from phonoscope.types import Audio, Clip, Sample, Window

RATE = 16_000
SNRS = (5, 0, -5, -10, -15, -20)


@pytest.fixture
def speech(tmp_path: Path) -> Clip:
    beat = np.sin(2 * np.pi * 3 * np.arange(2 * RATE) / RATE).clip(0)
    samples = np.random.default_rng(1).standard_normal(2 * RATE) * beat * 0.05
    return Clip(str(media.write_wav(tmp_path / "speech.wav", Audio(samples.astype("f4"), RATE))))


@pytest.fixture
def noises(tmp_path: Path) -> tuple[Clip, ...]:
    rng = np.random.default_rng(2)
    clips = []
    for i, seconds in enumerate((3, 5, 4)):
        samples = rng.standard_normal(seconds * RATE).astype("f4") * np.float32(0.1 + i)
        path = media.write_wav(tmp_path / f"noise{i}.wav", Audio(samples, RATE))
        clips.append(Clip(str(path)))
    return tuple(clips)


def mixed(speech: Clip, noises: tuple[Clip, ...], **options: Any) -> Clip:
    options = {"snr_db": -5.0, "seed": 0, "id": "s1", **options}
    sample = Sample(options.pop("id"), "g", {"audio": speech}, reference=speech)
    return noise.mix(sample, noises, **options).inputs["audio"]


def samples_of(clip: Clip) -> np.ndarray:
    return media.read_audio(clip, rate=RATE).samples


def decibels(signal: np.ndarray, disturbance: np.ndarray) -> float:
    power = [np.sum(np.asarray(part, np.float64) ** 2) for part in (signal, disturbance)]
    return 10 * math.log10(power[0] / power[1])


class TestPhysics:
    @pytest.mark.parametrize("snr_db", SNRS)
    def test_mixture_is_at_the_asked_snr(
        self, speech: Clip, noises: tuple[Clip, ...], snr_db: float
    ) -> None:
        clean = samples_of(speech)
        noisy = samples_of(mixed(speech, noises, snr_db=snr_db, clip="none"))
        assert decibels(clean, noisy.astype(np.float64) - clean) == pytest.approx(snr_db, abs=0.01)

    @given(snr_db=st.floats(-60, 60), gain=st.floats(1e-2, 1e3), seed=st.integers(0, 99))
    @settings(max_examples=60, deadline=None)
    def test_any_level(self, snr_db: float, gain: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        clean, disturbance = rng.standard_normal((2, 500))
        found = noise.add(clean, disturbance * gain, snr_db=snr_db, clip="rescale_peak095")
        scaled = found.noise_gain * disturbance * gain
        assert decibels(clean, scaled) == pytest.approx(snr_db, abs=1e-9)
        np.testing.assert_allclose(found.samples, found.total_gain * (clean + scaled))
        assert np.abs(found.samples).max() <= 1

    def test_a_mixture_that_would_clip_is_scaled_as_a_whole(
        self, speech: Clip, noises: tuple[Clip, ...]
    ) -> None:
        loud = samples_of(mixed(speech, noises, snr_db=-40, clip="none")).astype(np.float64)
        scaled = samples_of(mixed(speech, noises, snr_db=-40))
        assert np.abs(loud).max() > 1
        assert np.abs(scaled).max() == pytest.approx(0.95, abs=1e-6)
        np.testing.assert_allclose(scaled, loud * 0.95 / np.abs(loud).max(), atol=1e-6)

    def test_quiet_mixtures_keep_the_speech_as_it_is(
        self, speech: Clip, noises: tuple[Clip, ...]
    ) -> None:
        found = samples_of(mixed(speech, noises, snr_db=60)) - samples_of(speech)
        assert np.abs(found).max() < 1e-3

    def test_all_snrs_of_a_sample_hear_the_same_noise(
        self, speech: Clip, noises: tuple[Clip, ...]
    ) -> None:
        clean = samples_of(speech).astype(np.float64)
        parts = [samples_of(mixed(speech, noises, snr_db=snr, clip="none")) - clean for snr in SNRS]
        for part in parts[1:]:
            assert np.corrcoef(parts[0], part)[0, 1] > 0.999999


class TestReproducible:
    def test_same_key_same_bytes(
        self, speech: Clip, noises: tuple[Clip, ...], tmp_path: Path
    ) -> None:
        files = []
        for i in range(2):
            clip = pickle.loads(pickle.dumps(mixed(speech, noises)))  # as a worker gets it
            files.append(media.write_wav(tmp_path / f"{i}.wav", media.read_audio(clip, rate=RATE)))
        assert files[0].read_bytes() == files[1].read_bytes()
        assert media.digest(mixed(speech, noises)) == media.digest(mixed(speech, noises))

    @pytest.mark.parametrize(
        "other",
        [
            {"snr_db": -6.0},
            {"seed": 1},
            {"id": "s2"},
            {"clip": "none"},
            {"short_noise": "wrap"},
            {"builder": "mine/v1"},
        ],
    )
    def test_identity_holds_all_that_decides(
        self, speech: Clip, noises: tuple[Clip, ...], other: dict[str, Any]
    ) -> None:
        assert media.digest(mixed(speech, noises)) != media.digest(mixed(speech, noises, **other))

    def test_identity_follows_the_noise_content(self, speech: Clip, tmp_path: Path) -> None:
        path = tmp_path / "n.wav"
        found = set()
        for level in (0.1, 0.2):
            samples = np.full(3 * RATE, level, np.float32)
            media.write_wav(path, Audio(samples, RATE))
            found.add(media.digest(mixed(speech, (Clip(str(path)),))))
        assert len(found) == 2

    def test_new_noise_content_is_heard(self, speech: Clip, tmp_path: Path) -> None:
        path = tmp_path / "n.wav"
        found = []
        for seed in (0, 1):
            samples = np.random.default_rng(seed).standard_normal(3 * RATE).astype("f4")
            media.write_wav(path, Audio(samples, RATE))
            found.append(samples_of(mixed(speech, (Clip(str(path)),))))
        assert not np.allclose(*found)

    def test_seeds_and_samples_spread_over_the_noises(self) -> None:
        keys = [noise.crop_key(f"s{i}", seed=seed) for i in range(200) for seed in range(3)]
        counts = np.bincount([noise.noise_index(key, 3) for key in keys], minlength=3)
        assert counts.min() > 150
        starts = [noise.crop_start(key, 1000, 100) for key in keys]
        assert min(starts) < 20
        assert 880 < max(starts) <= 900

    def test_nothing_is_decoded_while_planning(self) -> None:
        absent = Clip("no/such/noise.wav")
        clip = mixed(Clip("no/such/speech.wav"), (absent,))
        assert clip.path == "no/such/speech.wav"


class TestSample:
    def test_only_the_audio_input_changes(self, speech: Clip, noises: tuple[Clip, ...]) -> None:
        sample = Sample("s", "g", {"audio": speech, "enrollment": speech}, reference=speech)
        noisy = noise.mix(sample, noises, snr_db=0, seed=0)
        assert noisy.inputs["enrollment"] == noisy.reference == speech
        assert sample.inputs["audio"] == speech
        assert isinstance(noisy.inputs["audio"].effect, noise.Mixture)

    def test_a_window_is_cut_from_the_mixture(self, speech: Clip, noises: tuple[Clip, ...]) -> None:
        part = mixed(Clip(speech.path, window=Window(0.5, 1.0)), noises)
        whole = samples_of(mixed(speech, noises))
        np.testing.assert_array_equal(samples_of(part), whole[8000:16_000])

    def test_without_audio_there_is_nothing_to_mix(self, noises: tuple[Clip, ...]) -> None:
        sample = Sample("s", "g", {"video": Clip("v.mp4")})
        assert noise.mix(sample, noises, snr_db=0, seed=0) is sample

    def test_other_rates(self, noises: tuple[Clip, ...], tmp_path: Path) -> None:
        samples = np.random.default_rng(0).standard_normal(48_000).astype("f4") * np.float32(0.01)
        fast = Clip(str(media.write_wav(tmp_path / "fast.wav", Audio(samples, 48_000))))
        noisy = media.read_audio(mixed(fast, noises), rate=22_050)
        assert (noisy.rate, len(noisy.samples)) == (22_050, 22_050)


class TestErrors:
    def test_silent_speech(self, noises: tuple[Clip, ...], tmp_path: Path) -> None:
        path = media.write_wav(tmp_path / "s.wav", Audio(np.zeros(RATE, np.float32), RATE))
        with pytest.raises(SilentReference, match=r"s\.wav: the speech is silent"):
            samples_of(mixed(Clip(str(path)), noises))

    def test_silent_noise(self, speech: Clip, tmp_path: Path) -> None:
        path = media.write_wav(tmp_path / "n.wav", Audio(np.zeros(4 * RATE, np.float32), RATE))
        with pytest.raises(SilentNoise, match=r"speech\.wav: .*n\.wav, from sample \d+: "):
            samples_of(mixed(speech, (Clip(str(path)),)))

    def test_missing_noise(self, speech: Clip) -> None:
        with pytest.raises(MissingClip, match=r"none\.wav"):
            samples_of(mixed(speech, (Clip("none.wav"),)))

    def test_short_noise_is_an_error(self, speech: Clip, tmp_path: Path) -> None:
        path = media.write_wav(tmp_path / "n.wav", Audio(np.ones(100, np.float32), RATE))
        with pytest.raises(TooShort, match=r"n\.wav: the noise has 100 samples.*wrap"):
            samples_of(mixed(speech, (Clip(str(path)),)))

    def test_short_noise_may_be_repeated(self, speech: Clip, tmp_path: Path) -> None:
        ramp = np.linspace(0.1, 1, 700, dtype=np.float32)
        path = media.write_wav(tmp_path / "n.wav", Audio(ramp, RATE))
        mixture = noise.Mixture(Clip(str(path)), 0, 650, clip="none", short_noise="wrap")
        clean = media.read_audio(speech, rate=RATE)
        found = mixture.apply(clean).samples - clean.samples
        repeated = np.tile(ramp, 60)[650 : 650 + len(found)]
        np.testing.assert_allclose(found, repeated * mixture.recipe(clean)["noise_gain"], atol=1e-6)

    def test_whole_noise_is_never_wrapped(self) -> None:
        for i in range(300):
            assert 0 <= noise.crop_start(f"k{i}", 50, 40) <= 10
            assert 0 <= noise.crop_start(f"k{i}", 40, 50) < 40

    def test_wrong_rate_is_a_programming_error(self, noises: tuple[Clip, ...]) -> None:
        mixture = noise.Mixture(noises[0], 0, 0)
        with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 8000"):
            mixture.apply(Audio(np.ones(100, np.float32), 8000))

    @pytest.mark.parametrize("snr_db", [math.nan, math.inf])
    def test_snr_is_a_number(self, noises: tuple[Clip, ...], snr_db: float) -> None:
        with pytest.raises(SpecError, match="snr_db"):
            noise.Mixture(noises[0], snr_db, 0)

    def test_no_noises(self, speech: Clip) -> None:
        with pytest.raises(SpecError, match="'s1': no noise"):
            mixed(speech, ())

    def test_only_one_mixture_per_clip(self, speech: Clip, noises: tuple[Clip, ...]) -> None:
        with pytest.raises(SpecError, match="mixture already"):
            mixed(mixed(speech, noises), noises)


class TestParity:
    def test_cuts(self, parity: Callable[[str], Any]) -> None:
        cases = [case for case in parity("speech")["cases"] if case["metric"] == "mix_crop"]
        assert len(cases) == 8
        for case in cases:
            given = case["input"]
            key = noise.crop_key(given["sample_id"], seed=given["seed"])
            index = noise.noise_index(key, len(given["noise_files"]))
            assert index == case["aux"]["noise_index"]
            length = given["noise_samples"][index]
            assert noise.crop_start(key, length, given["speech_samples"]) == case["value"]

    def test_gains(self, shared_data: Path, parity: Callable[[str], Any]) -> None:
        cases = [case for case in parity("speech")["cases"] if case["metric"] == "mix_noise_gain"]
        assert len(cases) == 6
        for case in cases:
            given = case["input"]
            disturbance = Clip(str(shared_data / given["noise"]))
            mixture = noise.Mixture(disturbance, given["snr_db"], given["noise_start"])
            speech = media.read_audio(Clip(str(shared_data / given["speech"])), rate=RATE)
            row = mixture.recipe(speech)
            assert row["noise_gain"] == pytest.approx(case["value"], abs=case["abs_tol"])
            assert row["peak"] == pytest.approx(case["aux"]["peak"], abs=1e-6)
            total = case["aux"]["total_gain_rescale_peak095"]
            assert row["total_gain"] == pytest.approx(total, abs=1e-6)
            assert row["noise_digest"] == media.digest(disturbance)
            over = np.mean(np.abs(mixture.apply(speech).samples / row["total_gain"]) > 1)
            assert over == pytest.approx(case["aux"]["over_one"], abs=1e-6)
