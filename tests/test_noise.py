"""Mixing: the SNR that was asked for, the same bytes for the same key, golden gains and cuts."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import media, noise, plugins, protocol
from phonoscope.errors import (
    DatasetError,
    FullScale,
    MissingClip,
    SilentNoise,
    SilentReference,
    SpecError,
    TooShort,
)
from phonoscope.levels import active, active_power, mean_power
from phonoscope.protocol import MixingSpec
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


EVERY = {
    "level": ("whole_file_power", "nonsilent_power", "bs1770", "rms_peaknorm_-25dbfs"),
    "clip": ("rescale_peak095", "none", "pcm16_clip", "raise_snr_1db", "divide_peak099"),
}
LEVELS = st.sampled_from(EVERY["level"])
GOLDEN = ["ae31813ee4948cc9dcc021cc334b7069", "a1f49f216394b8693872f209543bb28c"]


def bursts(length: int, seed: int, level: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    beat = np.abs(np.sin(np.arange(length) / rng.uniform(500, 5000))) ** 3
    return np.asarray(rng.standard_normal(length) * beat * level)


def heard(signal: np.ndarray, level: str) -> float:
    """The level of a signal in dB by the definition of `level`."""
    if level == "bs1770":
        return float(pyloudnorm.Meter(RATE).integrated_loudness(signal))
    power = active_power if level == "nonsilent_power" else mean_power
    return 10 * math.log10(power(signal))


class TestLevels:
    @given(level=LEVELS, snr_db=st.floats(-30, 30), seed=st.integers(0, 99))
    @settings(max_examples=60, deadline=None)
    def test_the_snr_is_that_of_the_definition(self, level: Any, snr_db: float, seed: int) -> None:
        speech, disturbance = bursts(9_000, seed), bursts(9_000, seed + 1, 0.4)
        found = noise.add(speech, disturbance, snr_db=snr_db, clip="none", level=level)
        gain = 20 * math.log10(found.noise_gain)
        measured = heard(speech, level) - heard(disturbance, level) - gain
        assert measured == pytest.approx(snr_db, abs=1e-9)
        assert found.snr_db == snr_db
        mixed = found.total_gain * (speech + found.noise_gain * disturbance)
        np.testing.assert_allclose(found.samples, mixed, atol=1e-12)

    @given(
        level=LEVELS,
        clip=st.sampled_from(EVERY["clip"]),
        snr_db=st.floats(-40, 20),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=100, deadline=None)
    def test_nothing_exceeds_full_scale(
        self, level: Any, clip: Any, snr_db: float, seed: int
    ) -> None:
        speech, disturbance = bursts(7_000, seed, 0.05), bursts(7_000, seed + 1, 0.4)
        found = noise.add(speech, disturbance, snr_db=snr_db, clip=clip, level=level)
        peak = np.abs(found.samples).max()
        if clip != "none":
            assert peak <= (0.99 + 1e-12 if clip == "divide_peak099" else 1)
        if clip == "raise_snr_1db":
            assert peak < 1
            steps = found.snr_db - snr_db
            assert steps == pytest.approx(round(steps), abs=1e-9)
            assert steps >= 0

    def test_pauses_do_not_count_outside_silence(self) -> None:
        speech = np.concatenate([bursts(9_000, 1), np.zeros(9_216)])
        disturbance = bursts(len(speech), 2)
        gains = {
            level: noise.add(speech, disturbance, snr_db=0, clip="none", level=level).noise_gain
            for level in EVERY["level"]
        }
        assert gains["nonsilent_power"] > 1.2 * gains["whole_file_power"]
        assert gains["rms_peaknorm_-25dbfs"] == gains["whole_file_power"]

    def test_urgent(self) -> None:
        """The formula of urgent2024_challenge's `mix_noise`."""
        speech, disturbance = bursts(20_000, 3), bursts(20_000, 4)
        spoken, there = active(speech), active(disturbance)
        scale = 10 ** (7 / 20) * np.sqrt(
            (speech[spoken] ** 2).mean() / (disturbance[there] ** 2).mean()
        )
        found = noise.add(speech, disturbance, snr_db=-7, clip="none", level="nonsilent_power")
        np.testing.assert_allclose(found.samples, speech + scale * disturbance, rtol=1e-10)

    def test_ears_wham(self) -> None:
        """EARS-WHAM: 1 dB more as long as the mixture clips, by pyloudnorm."""
        speech, disturbance = bursts(20_000, 5, 0.2), bursts(20_000, 6)
        meter, snr_db = pyloudnorm.Meter(RATE), -12.3
        peak = math.inf
        while peak >= 1:
            target = meter.integrated_loudness(speech) - snr_db
            gain = 10 ** ((target - meter.integrated_loudness(disturbance)) / 20)
            mixture = speech + gain * disturbance
            peak, snr_db = np.abs(mixture).max(), snr_db + 1
        found = noise.add(speech, disturbance, snr_db=-12.3, clip="raise_snr_1db", level="bs1770")
        assert found.snr_db == pytest.approx(snr_db - 1)
        assert found.snr_db > -12.3
        np.testing.assert_allclose(found.samples, mixture, rtol=1e-9, atol=1e-12)

    def test_dns_challenge(self) -> None:
        """`snr_mixer` of DNS-Challenge up to its random level, and its check for clipping."""
        speech, disturbance = bursts(20_000, 7, 0.9), bursts(20_000, 8)
        clean, other = (
            x / np.abs(x).max() * 10 ** (-25 / 20) / np.sqrt(np.mean((x / np.abs(x).max()) ** 2))
            for x in (speech, disturbance)
        )
        ratio = np.sqrt(np.mean(clean**2)) / 10 ** (-20 / 20) / np.sqrt(np.mean(other**2))
        mixture = clean + other * ratio
        assert np.abs(mixture).max() > 0.99
        mixture = mixture / (np.abs(mixture).max() / 0.99)
        found = noise.add(
            speech, disturbance, snr_db=-20, clip="divide_peak099", level="rms_peaknorm_-25dbfs"
        )
        np.testing.assert_allclose(found.samples, mixture, rtol=1e-9, atol=1e-12)
        alone = noise.add(
            speech, disturbance, snr_db=200, clip="none", level="rms_peaknorm_-25dbfs"
        )
        assert 10 * math.log10(np.mean(alone.samples**2)) == pytest.approx(-25, abs=1e-9)

    def test_speech_at_full_scale_leaves_no_snr(self) -> None:
        with pytest.raises(FullScale, match="no SNR keeps the mixture below 1"):
            noise.add(np.ones(9_000), bursts(9_000, 1), snr_db=0, clip="raise_snr_1db")

    def test_below_the_gate_there_is_no_loudness(self) -> None:
        quiet, loud = np.full(9_000, 2e-4), bursts(9_000, 1)
        with pytest.raises(SilentReference, match="below -70 LUFS"):
            noise.add(quiet, loud, snr_db=0, clip="none", level="bs1770")
        with pytest.raises(SilentNoise, match="below -70 LUFS"):
            noise.add(loud, quiet, snr_db=0, clip="none", level="bs1770")


class TestStorage:
    @given(st.lists(st.floats(-2, 2), min_size=1, max_size=50))
    def test_sixteen_bits(self, values: list[float]) -> None:
        found = noise.rounded(np.array(values))
        np.testing.assert_array_equal(found * 32_768, np.rint(found * 32_768))
        assert found.min() >= -1
        assert found.max() <= 32_767 / 32_768
        inside = np.abs(np.array(values)) < 0.9999
        np.testing.assert_allclose(found[inside], np.array(values)[inside], atol=0.5 / 32_768)

    def test_a_mixture_in_sixteen_bits(self, speech: Clip, noises: tuple[Clip, ...]) -> None:
        whole = samples_of(mixed(speech, noises))
        stored = samples_of(mixed(speech, noises, storage="pcm16"))
        np.testing.assert_array_equal(stored * 32_768, np.rint(stored * 32_768))
        assert 0 < np.abs(stored - whole).max() <= 0.5 / 32_768 + 1e-9

    def test_a_sixteen_bit_file_saturates(self, speech: Clip, noises: tuple[Clip, ...]) -> None:
        loud = samples_of(mixed(speech, noises, snr_db=-40, clip="none"))
        cut = samples_of(mixed(speech, noises, snr_db=-40, clip="pcm16_clip"))
        assert np.abs(loud).max() > 1
        assert cut.max() == np.float32(32_767 / 32_768)
        np.testing.assert_allclose(cut, np.clip(loud, -1, 1), atol=1e-4)


class TestChoice:
    def test_independent_cuts(self, speech: Clip, noises: tuple[Clip, ...]) -> None:
        effects = [mixed(speech, noises, snr_db=snr, pairing="independent").effect for snr in SNRS]
        assert effects[3].start == "lrs3-chime3/v1|seed=0|s1|snr=-10"
        assert len({effect.start for effect in effects}) == len(SNRS)
        assert len({effect.noise for effect in effects}) > 1
        same = {mixed(speech, noises, snr_db=snr).effect.start for snr in SNRS}
        assert same == {"lrs3-chime3/v1|seed=0|s1"}

    @given(st.permutations(range(6)))
    @settings(max_examples=10, deadline=None)
    def test_order_decides_nothing(self, order: list[int]) -> None:
        noises = tuple(Clip(f"n{i}.wav") for i in range(4))
        found = {}
        for i in order:
            sample = Sample(f"s{i}", "g", {"audio": Clip("x.wav")})
            found[i] = noise.mix(sample, noises, snr_db=0, seed=0).inputs["audio"].effect
        assert found == {
            i: noise.Mixture(
                noises[noise.noise_index(noise.crop_key(f"s{i}", seed=0), 4)],
                0.0,
                noise.crop_key(f"s{i}", seed=0),
            )
            for i in range(6)
        }

    def written(self, folder: Path) -> tuple[list[Sample], tuple[Clip, ...], list[int], list[int]]:
        """Six utterances and three noises, and how long they are."""
        rng = np.random.default_rng(5)
        lengths = {"s": rng.integers(900, 2000, 6).tolist(), "n": [5000, 7000, 2500]}
        clips = {
            kind: [
                Clip(str(media.write_wav(folder / f"{kind}{i}.wav", Audio(np.ones(n, "f4"), RATE))))
                for i, n in enumerate(counts)
            ]
            for kind, counts in lengths.items()
        }
        samples = [Sample(f"s{i}", "g", {"audio": clip}) for i, clip in enumerate(clips["s"])]
        return samples, tuple(clips["n"]), lengths["s"], lengths["n"]

    @pytest.mark.parametrize("seed", [0, 3])
    def test_sgmse_draws_file_after_file(self, tmp_path: Path, seed: int) -> None:
        """The draws of create_wsj0_chime3.py: an SNR, a file, a start, by the global generator."""
        samples, noises, spoken, lengths = self.written(tmp_path)
        state = np.random.get_state()
        np.random.seed(seed)
        expected = {}
        for sample, length in zip(samples, spoken, strict=True):
            np.random.uniform(0, 20)
            index = np.random.randint(len(lengths))
            expected[sample.id] = index, np.random.randint(lengths[index] - length)
        np.random.set_state(state)
        assert noise.drawn(samples, noises, seed=seed) == expected
        options: Any = {"snr_db": 0, "seed": seed, "noise_choice": "sgmse_seed0", "among": samples}
        for sample in reversed(samples):
            effect = noise.mix(sample, noises, **options).inputs["audio"].effect
            assert (noises.index(effect.noise), effect.start) == expected[sample.id]
        after = np.random.get_state()
        assert np.array_equal(after[1], state[1])

    def test_sgmse_goes_on_after_short_noise(self, tmp_path: Path) -> None:
        samples, noises, *_ = self.written(tmp_path)
        short = (Clip(str(media.write_wav(tmp_path / "x.wav", Audio(np.ones(9, "f4"), RATE)))),)
        assert {start for _, start in noise.drawn(samples, short, seed=0).values()} == {0}
        assert noise.drawn(samples, noises, seed=0)

    def test_sgmse_needs_every_file(self, tmp_path: Path) -> None:
        samples, noises, *_ = self.written(tmp_path)
        Path(samples[1].inputs["audio"].path).unlink()
        with pytest.raises(DatasetError, match=r"draws file after file.*s1\.wav"):
            noise.drawn(samples, noises, seed=0)

    def test_sgmse_knows_no_snr(self, speech: Clip, noises: tuple[Clip, ...]) -> None:
        with pytest.raises(SpecError, match="goes with noise_choice: hash_v1 only"):
            mixed(speech, noises, noise_choice="sgmse_seed0", pairing="independent")

    def test_in_a_protocol(self, tmp_path: Path) -> None:
        samples, noises, *_ = self.written(tmp_path)
        found = protocol.load(
            {
                "name": "p",
                "task": "lip2speech",
                "datasets": [
                    {
                        "name": "d",
                        "kind": "folder",
                        "options": {
                            "inputs": {"audio": f"{tmp_path}/s{{id}}.wav"},
                            "noise": {"n": [clip.path for clip in noises]},
                        },
                    }
                ],
                "systems": ["noisy"],
                "conditions": {"snr_db": [0, -5]},
                "mixing": {
                    "level": "bs1770",
                    "clip": "raise_snr_1db",
                    "noise_choice": "sgmse_seed0",
                    "short_noise": "zero_pad",
                    "storage": "pcm16",
                },
                "metrics": ["si_sdr"],
            }
        )
        expected = noise.drawn(samples, noises, seed=0)
        for run in found.runs():
            for sample in run.samples():
                effect = sample.inputs["audio"].effect
                place = noises.index(effect.noise), effect.start
                assert place == expected[f"s{sample.id}"]
                rules = (effect.level, effect.clip, effect.short_noise, effect.storage)
                assert rules == ("bs1770", "raise_snr_1db", "zero_pad", "pcm16")
            assert run.described()["mixing"]["noise_choice"] == "sgmse_seed0"


class TestShortNoise:
    def test_zeros_after_it(self, tmp_path: Path) -> None:
        ramp = np.linspace(0.1, 1, 700, dtype=np.float32)
        short = Clip(str(media.write_wav(tmp_path / "n.wav", Audio(ramp, RATE))))
        clean = Audio(bursts(2_000, 1).astype("f4"), RATE)
        for start in (0, "any key"):
            mixture = noise.Mixture(short, 0, start, clip="none", short_noise="zero_pad")
            found = mixture.apply(clean).samples - clean.samples
            row = mixture.recipe(clean)
            assert row["start"] == 0
            np.testing.assert_allclose(found[:700], ramp * row["noise_gain"], atol=1e-6)
            assert not found[700:].any()
            assert decibels(clean.samples, found) == pytest.approx(0, abs=1e-3)

    def test_long_noise_is_cut_as_ever(self, speech: Clip, noises: tuple[Clip, ...]) -> None:
        padded = samples_of(mixed(speech, noises, short_noise="zero_pad"))
        np.testing.assert_array_equal(padded, samples_of(mixed(speech, noises)))


class TestIdentity:
    def test_earlier_results_stay_known(self, tmp_path: Path) -> None:
        """Fingerprints of the time when there were no other options."""
        ramp = Audio(np.linspace(0.1, 1, 700, dtype=np.float32), RATE)
        clip = Clip(str(media.write_wav(tmp_path / "n.wav", ramp)))
        found = [
            noise.Mixture(clip, -10.0, "a key"),
            noise.Mixture(clip, 5, 17, clip="none", short_noise="wrap"),
        ]
        assert [mixture.identity() for mixture in found] == GOLDEN

    @pytest.mark.parametrize(
        "other",
        [
            *({"level": level} for level in EVERY["level"][1:]),
            *({"clip": rule} for rule in EVERY["clip"][1:]),
            {"short_noise": "zero_pad"},
            {"storage": "pcm16"},
            {"pairing": "independent"},
        ],
    )
    def test_every_option_is_in_it(
        self, speech: Clip, noises: tuple[Clip, ...], other: dict[str, Any]
    ) -> None:
        assert media.digest(mixed(speech, noises)) != media.digest(mixed(speech, noises, **other))

    def test_every_option_is_in_the_recipe(self, speech: Clip, noises: tuple[Clip, ...]) -> None:
        options: Any = {
            "level": "nonsilent_power",
            "clip": "divide_peak099",
            "short_noise": "wrap",
            "storage": "pcm16",
        }
        effect = mixed(speech, noises, **options).effect
        row = effect.recipe(media.read_audio(speech, rate=RATE))
        assert options.items() <= row.items()
        assert row["snr_db"] == row["snr_db_mixed"] == -5

    def test_a_protocol_says_what_differs_from_before(self) -> None:
        before = {"level": "whole_file_power", "clip": "rescale_peak095", "short_noise": "wrap"}
        assert MixingSpec().model_dump() == before
        other = MixingSpec(pairing="independent", storage="pcm16")
        assert other.model_dump() == before | {"pairing": "independent", "storage": "pcm16"}


class TestParity:
    def test_a_sixteen_bit_file(self, shared_data: Path, parity: Callable[[str], Any]) -> None:
        cases = [
            case
            for case in parity("speech")["cases"]
            if case["metric"] in ("pesq_wb", "si_sdr")
            and isinstance(case.get("input"), dict)
            and case["input"].get("kind") == "mix"
            and case["input"].get("clip") in ("none", "pcm16_clip", "rescale_peak095")
        ]
        assert {case["input"]["clip"] for case in cases} >= {"pcm16_clip", "rescale_peak095"}
        plugins.discover()
        for case in cases:
            given = case["input"]
            disturbance = Clip(str(shared_data / given["noise"]))
            options: Any = {"clip": given["clip"]}
            mixture = noise.Mixture(disturbance, given["snr_db"], given["noise_start"], **options)
            clean = media.read_audio(Clip(str(shared_data / given["speech"])), rate=RATE)
            metric = plugins.METRICS.get(case["metric"])
            value = metric(mixture.apply(clean), clean).value
            assert value == pytest.approx(case["value"], abs=case["abs_tol"])

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
