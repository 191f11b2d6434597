"""NISQA: golden values, the segment plan, and that batches and padding change nothing."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import media, weights
from phonoscope.errors import (
    LicenceNotAccepted,
    NonfiniteOutput,
    SpecError,
    TooLong,
    TooShort,
    WeightsMissing,
)
from phonoscope.metrics import nisqa as metrics
from phonoscope.metrics.networks import nisqa
from phonoscope.metrics.networks.nisqa import Nisqa, check_length, segment_plan
from phonoscope.metrics.networks.nisqa_tts import NisqaTts
from phonoscope.plugins import METRICS
from phonoscope.types import Audio, Clip, Failure, Record
from phonoscope.views import look, see

NAMES = [f"nisqa_{name}" for name in nisqa.DIMENSIONS]
LIMIT = 834_240  # the first length at 16 kHz that has 1301 segments


@pytest.fixture(autouse=True)
def _accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHONOSCOPE_ACCEPT_LICENSES", "nisqa")


@pytest.fixture
def torch(shared_weights: Path) -> Any:
    """What every test of the network needs."""
    return pytest.importorskip("torch", reason="NISQA needs the extra `torch`")


@cache
def loaded(resample: str = "none", *, uncapped: bool = False) -> Nisqa:
    network = Nisqa(resample=resample, uncapped=uncapped)
    network.load("cpu")
    return network


@cache
def naturalness() -> NisqaTts:
    network = NisqaTts()
    network.load("cpu")
    return network


@pytest.fixture(scope="module", autouse=True)
def _free() -> Iterator[None]:
    yield
    loaded.cache_clear()
    naturalness.cache_clear()


@pytest.fixture(scope="module")
def conversation(shared_data: Path) -> np.ndarray:
    return sound(shared_data / "speech/two_speakers_30s.wav").samples


def sound(path: Path, rate: int = 16_000) -> Audio:
    return media.read_audio(Clip(str(path)), rate=rate)


# Golden values


@pytest.fixture(scope="module")
def golden(parity: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    return [case for case in parity("speech")["cases"] if case["metric"].startswith("nisqa_")]


def own_rate(path: Path) -> int:
    """The rate of the file: 44.1 kHz of the GRID clips, 16 kHz of all others."""
    return 44_100 if path.suffix == ".mpg" else 16_000


def signal_of(case: dict[str, Any], root: Path) -> Audio:
    how = case.get("input") or {"kind": "file"}
    if how["kind"] == "zeros":
        return Audio(np.zeros(how["n"], np.float32), how["rate"])
    if how["kind"] == "tone":
        return tone(how["name"], n=how["n"], rate=how["rate"])
    if how["kind"] == "mix":
        return mixed(how, root)
    path = root / case["generated"]
    clip = sound(path, own_rate(path) if case["mode"] == "native" else 16_000)
    if how["kind"] == "gain":
        return Audio(clip.samples * np.float32(how["factor"]), clip.rate)
    assert how["kind"] == "file"
    return clip


def tone(name: str, *, n: int, rate: int) -> Audio:
    t = np.arange(n, dtype=np.float32)
    hertz = {"sine440": 440, "sine1000": 1000}.get(name, 200)
    sine = np.sin(np.float32(2 * 3.14159 * hertz / rate) * t)
    saw = (np.float32(1) + np.float32(2 * 200 / rate) * t) % np.float32(2) - np.float32(1)
    samples = {"square200": np.sign(sine), "saw200": saw}.get(name, sine)
    return Audio(samples.astype(np.float32), rate)


def mixed(how: dict[str, Any], root: Path) -> Audio:
    speech = sound(root / how["speech"]).samples.astype(np.float64)
    noise = sound(root / how["noise"]).samples.astype(np.float64)
    noise = noise[how["noise_start"] :][: len(speech)]
    gain = math.sqrt(np.mean(speech**2) / np.mean(noise**2) * 10 ** (-how["snr_db"] / 10))
    mixture = speech + gain * noise
    peak = np.abs(mixture).max()
    if how["clip"] == "rescale_peak095" and peak > 1:
        mixture *= 0.95 / peak
    elif how["clip"] == "pcm16_clip":
        file = io.BytesIO()
        soundfile.write(file, mixture, 16_000, format="WAV", subtype="PCM_16")
        mixture = soundfile.read(io.BytesIO(file.getvalue()), dtype="float64")[0]
    return Audio(mixture.astype(np.float32), 16_000)


def in_mode(clip: Audio, mode: str) -> Audio:
    """The sound as a mode of the golden values looks at it."""
    if mode == "48k_soxr_hq":
        return media.resample(clip, 48_000)
    if mode == "48k_resample_poly":
        from scipy.signal import resample_poly

        return Audio(resample_poly(clip.samples, 3, 1).astype(np.float32), 48_000)
    return clip


def agreement(
    golden: list[dict[str, Any]], root: Path, mode: str, score: Callable[[Audio], dict[str, float]]
) -> int:
    """Hold all cases of a mode against the golden values; return how many there were."""
    known: dict[str, dict[str, float]] = {}
    cases = [case for case in golden if case["mode"] == mode]
    wrong = []
    for case in cases:
        key = json.dumps([case["generated"], case.get("input")])
        if key not in known:
            known[key] = score(in_mode(signal_of(case, root), mode))
        value = known[key][case["metric"].removeprefix("nisqa_")]
        if not abs(value - case["value"]) <= case["abs_tol"]:
            wrong.append((case["metric"], key, value, case["value"]))
    assert not wrong
    return len(cases)


MODES = {"native": 420, "audio16k": 40, "48k_soxr_hq": 10, "48k_resample_poly": 10}


@pytest.mark.parametrize("mode", MODES)
def test_golden_scores(
    mode: str, golden: list[dict[str, Any]], shared_data: Path, torch: Any
) -> None:
    network = loaded()
    checked = agreement(golden, shared_data, mode, lambda clip: network.score([clip])[0])
    assert checked >= MODES[mode]


def test_golden_scores_of_the_views(
    golden: list[dict[str, Any]], shared_data: Path, torch: Any
) -> None:
    """The same numbers through decoding, the view and the metric, as a run gets them."""
    wanted = {"audio16k": "", "48k_soxr_hq": "_48k"}
    cases = [case for case in golden if case["mode"] in wanted]
    for case in cases:
        metric = METRICS.get(case["metric"] + wanted[case["mode"]])
        seen = see_once(metric, shared_data / case["generated"])
        record = metric(generated=seen)
        assert isinstance(record, Record)
        assert record.value == pytest.approx(case["value"], abs=case["abs_tol"])
    assert len(cases) >= 50


_seen: dict[tuple[str, Path], Any] = {}


def see_once(metric: Any, path: Path) -> Any:
    key = (str(metric.views["generated"]), path)
    if key not in _seen:
        _seen[key] = see(metric.views["generated"], [Clip(str(path))])[0]
    return _seen[key]


def test_the_network_of_one_dimension_is_read_too(
    golden: list[dict[str, Any]], shared_data: Path, shared_weights: Path, torch: Any
) -> None:
    net = nisqa.read(shared_weights / "nisqa/nisqa_mos_only.tar", "cpu")

    def score(clip: Audio) -> dict[str, float]:
        raw = nisqa.infer(net, [nisqa.segments(nisqa.spectrogram(clip))], "cpu")
        assert raw.shape == (1, 1)
        return {"mos": float(raw[0, 0])}

    assert agreement(golden, shared_data, "nisqa_mos_only.tar", score) >= 2


def test_golden_naturalness(golden: list[dict[str, Any]], shared_data: Path, torch: Any) -> None:
    network = naturalness()
    checked = agreement(golden, shared_data, "nisqa_tts.tar", lambda clip: network([clip])[0])
    assert checked >= 2


def test_no_golden_value_is_left_out(golden: list[dict[str, Any]]) -> None:
    known = {*MODES, "segment_plan", "nisqa_mos_only.tar", "nisqa_tts.tar"}
    assert {case["mode"] for case in golden} <= known


def test_golden_segment_plans(golden: list[dict[str, Any]]) -> None:
    cases = [case for case in golden if case["mode"] == "segment_plan"]
    assert len(cases) >= 9
    for case in cases:
        n, rate = case["input"]["n"], case["input"]["rate"]
        plan = segment_plan(n, rate=rate)
        assert (plan.segments, plan.frames) == (case["value"], case["aux"]["frames"])
        assert outcome(n, rate) == case["note"]


def outcome(n: int, rate: int) -> str:
    try:
        check_length(Audio(np.zeros(n, np.float32), rate))
    except (TooShort, TooLong) as error:
        return error.code
    return "ok"


# Segment plan and features


@settings(deadline=None)
@given(st.integers(1, 1_000_000), st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]))
def test_the_plan_counts_what_a_loop_would_cut(n: int, rate: int) -> None:
    plan = segment_plan(n, rate=rate)
    starts = [start for start in range(0, plan.frames, 4) if start + 15 <= plan.frames]
    assert plan.segments == len(starts)


@pytest.mark.parametrize(("rate", "n"), [(16_000, 2_240), (22_050, 9_001), (44_100, 7_777)])
def test_features_have_the_shape_of_the_plan(rate: int, n: int) -> None:
    clip = Audio(np.random.default_rng(1).standard_normal(n).astype(np.float32), rate)
    plan = segment_plan(n, rate=rate)
    features = nisqa.spectrogram(clip)
    assert features.shape == (plan.frames, 48)
    assert features.dtype == np.float32
    cut = nisqa.segments(features)
    assert cut.shape == (plan.segments, 48, 15)
    np.testing.assert_array_equal(cut[-1], features[4 * (plan.segments - 1) :][:15].T)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_the_spectrogram_equals_librosas(rate: int, conversation: np.ndarray) -> None:
    librosa = pytest.importorskip("librosa")
    samples = conversation[30_000:][: rate + 123]
    mel = librosa.feature.melspectrogram(
        y=samples.astype(np.float64),
        sr=rate,
        n_fft=4096,
        hop_length=int(rate * 0.01),
        win_length=int(rate * 0.02),
        pad_mode="reflect",
        power=1.0,
        n_mels=48,
        fmax=20_000.0 if rate >= 40_000 else rate / 2,
    )
    if rate < 40_000:  # librosa warns of empty bands, so its bands are held to be ours here
        mel = nisqa._bands(rate, nisqa.TOP_HZ).T @ np.abs(
            librosa.stft(
                samples.astype(np.float64),
                n_fft=4096,
                hop_length=int(rate * 0.01),
                win_length=int(rate * 0.02),
                pad_mode="reflect",
            )
        )
    expected = librosa.amplitude_to_db(mel, ref=1.0, amin=1e-4, top_db=80.0)
    np.testing.assert_allclose(nisqa.spectrogram(Audio(samples, rate)), expected.T, atol=2e-3)


def test_levels_keep_to_their_range() -> None:
    click = np.zeros(16_000, np.float32)
    click[8_000] = 1
    level = nisqa.spectrogram(Audio(click, 16_000))
    assert level.max() - level.min() <= 80.0
    silent = nisqa.spectrogram(Audio(np.zeros(16_000, np.float32), 16_000))
    assert np.unique(silent).tolist() == [-80.0]


# The network


def test_every_value_of_the_file_has_a_place(shared_weights: Path, torch: Any) -> None:
    path = weights.locate("nisqa/nisqa")
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state_dict"]
    net = nisqa.build(5)
    assert len(net.state_dict()) == len(state)
    assert sum(value.numel() for value in net.state_dict().values()) == 253_072


def test_a_file_of_another_architecture_is_refused(shared_weights: Path, torch: Any) -> None:
    with pytest.raises(RuntimeError, match="Missing key"):
        nisqa.read(shared_weights / "nisqa/nisqa_tts.tar", "cpu")


def test_a_batch_gives_what_singles_give(conversation: np.ndarray, torch: Any) -> None:
    lengths = (2_240, 16_000, 100_001, 48_000, 2_241, 160_000)
    clips = [Audio(conversation[i * 16_000 :][:n], 16_000) for i, n in enumerate(lengths)]
    together = loaded()(clips)
    assert [scores["n_segments"] for scores in together] == [1, 22, 153, 72, 1, 247]
    for one, clip in zip(together, clips, strict=True):
        assert one == pytest.approx(loaded()([clip])[0], abs=1e-5)
    assert len({scores["mos"] for scores in together}) == len(clips)


def test_a_batch_of_naturalness_gives_what_singles_give(
    conversation: np.ndarray, torch: Any
) -> None:
    lengths = (16_000, 2_240, 40_000)
    clips = [Audio(conversation[i * 16_000 :][:n], 16_000) for i, n in enumerate(lengths)]
    for one, clip in zip(naturalness()(clips), clips, strict=True):
        assert one == pytest.approx(naturalness()([clip])[0], abs=1e-5)


def test_naturalness_has_limits_of_its_own(torch: Any) -> None:
    with pytest.raises(TooLong, match=r"6001 segments, NISQA takes 6000 \(60\.1 s\)"):
        naturalness()([Audio(np.ones(6_014 * 160, np.float32), 16_000)])
    with pytest.raises(TooShort, match="14 frames"):
        naturalness()([Audio(np.ones(2_239, np.float32), 16_000)])


def test_nothing_is_clipped(shared_data: Path, torch: Any) -> None:
    noisy = sound(shared_data / "lrs3_demo/noisy/PSlBlZ3hqKc/00012.mp4")
    clean = sound(shared_data / "lrs3_demo/enhanced/PSlBlZ3hqKc/00012.mp4")
    low, high = loaded()([noisy, clean])
    assert low["mos"] < 1 < 4 < high["mos"]


def test_the_level_moves_the_score(shared_data: Path, torch: Any) -> None:
    samples = sound(shared_data / "speech/speech.wav").samples
    loud, soft = loaded()([Audio(samples * np.float32(g), 16_000) for g in (1, 0.1)])
    assert loud["mos"] - soft["mos"] > 2


def test_threads_are_given_back(conversation: np.ndarray, torch: Any) -> None:
    before = torch.get_num_threads(), torch.is_grad_enabled()
    loaded()([Audio(conversation[:16_000], 16_000)])
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == before


def test_a_clip_at_the_limit_and_one_above(conversation: np.ndarray, torch: Any) -> None:
    whole = np.resize(conversation, LIMIT)
    assert loaded()([Audio(whole[:-1], 16_000)])[0]["n_segments"] == 1300
    with pytest.raises(TooLong, match=r"too_long: 52\.14 s are 1301 segments"):
        loaded()([Audio(whole, 16_000)])
    free = loaded(uncapped=True)([Audio(whole, 16_000), Audio(whole[:-1], 16_000)])
    assert free[0]["n_segments"] == 1301
    assert free[1] == pytest.approx(loaded()([Audio(whole[:-1], 16_000)])[0], abs=1e-5)


def test_the_guilty_clip_alone_fails(conversation: np.ndarray, tmp_path: Path, torch: Any) -> None:
    media.write_wav(tmp_path / "long.wav", Audio(np.resize(conversation, LIMIT), 16_000))
    media.write_wav(tmp_path / "good.wav", Audio(conversation[:32_000], 16_000))
    clips = [Clip(str(tmp_path / f"{name}.wav")) for name in ("good", "long", "good")]
    first, long, last = see(metrics._SCORES, clips)
    assert isinstance(long, Failure)
    assert long.code == "too_long"
    assert first == last == look(metrics._SCORES, clips[0])


def test_a_short_clip_is_refused(torch: Any) -> None:
    with pytest.raises(TooShort, match="too_short: 14 frames"):
        loaded()([Audio(np.ones(2_239, np.float32), 16_000)])


def test_another_rate_is_a_programming_error(torch: Any) -> None:
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 48000"):
        loaded()([Audio(np.ones(48_000, np.float32), 48_000)])


def test_a_nan_is_no_score(conversation: np.ndarray, torch: Any) -> None:
    spoilt = conversation[:16_000].copy()
    spoilt[100] = np.nan
    with pytest.raises(NonfiniteOutput):
        loaded()([Audio(spoilt, 16_000)])


def test_an_unknown_resampler_names_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"'24k'.*none, 48k"):
        Nisqa(resample="24k")


# Columns and licence


def test_each_column_has_its_variant() -> None:
    assert METRICS.get("nisqa_mos").label == "NISQA (audio16k, native)"
    for name in NAMES:
        native, wide = METRICS.get(name), METRICS.get(f"{name}_48k")
        assert native.identity != wide.identity
        assert "48k" in wide.label and "48k" not in native.label
        seen = {**dict.fromkeys(nisqa.DIMENSIONS, 0.0), name.removeprefix("nisqa_"): 0.5}
        record = native(generated={**seen, "n_segments": 7})
        assert (record.value, dict(record.info)) == (0.5, {"n_segments": 7, "resample": "none"})
        assert wide(generated={**seen, "n_segments": 7}).info["resample"] == "48k"


def test_the_licence_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared_weights: Path
) -> None:
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path))
    monkeypatch.delenv("PHONOSCOPE_ACCEPT_LICENSES")
    with pytest.raises(LicenceNotAccepted, match=r"CC BY-NC-SA 4\.0.*weights accept nisqa"):
        weights.locate(Nisqa.weight)
    weights.accept("nisqa")
    assert weights.locate(Nisqa.weight).name == "nisqa.tar"


def test_missing_weights_say_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path))
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsMissing, match=r"gabrielmittag/NISQA.*nisqa/nisqa\.tar"):
        weights.locate(Nisqa.weight)
