"""DNSMOS: golden values, the window plan, and that sharing work between windows changes nothing."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import weights
from phonoscope.errors import EmptyAudio, NonfiniteOutput, SpecError
from phonoscope.media import read_audio
from phonoscope.metrics import dnsmos as metrics
from phonoscope.metrics.networks import dnsmos
from phonoscope.metrics.networks.dnsmos import WINDOW, window_plan
from phonoscope.plugins import METRICS
from phonoscope.types import Audio, Clip, Failure, Record
from phonoscope.views import View, see

NETWORKS = {"p808": dnsmos.P808, "p835": dnsmos.P835, "personal": dnsmos.PersonalP835}
SCORES = {
    **{f"dnsmos_{score}": ("p835", score) for score in ("sig", "bak", "ovrl")},
    **{f"dnsmos_personal_{score}": ("personal", score) for score in ("sig", "bak", "ovrl")},
    "dnsmos_p808": ("p808", "p808"),
}
PURE = ("polynomial", "window_plan")


@cache
def loaded(name: str, window: str = "reference") -> Any:
    network = NETWORKS[name](window=window)
    network.load("cpu")
    return network


@cache
def plain(name: str) -> Any:
    return dnsmos.session(weights.locate(NETWORKS[name].weight).read_bytes(), "cpu")


def forward(name: str, signal: np.ndarray, starts: Any) -> np.ndarray:
    """The published network, one window after the other."""
    windows = [signal[None, start : start + WINDOW] for start in starts]
    return np.concatenate([plain(name).run(None, {"input_1": each})[0] for each in windows])


@pytest.fixture(scope="module", autouse=True)
def _needs_weights(shared_weights: Path) -> Iterator[None]:
    yield
    loaded.cache_clear()
    plain.cache_clear()


@pytest.fixture(scope="module")
def conversation(shared_data: Path) -> np.ndarray:
    return sound(shared_data / "speech/two_speakers_30s.wav")


def sound(path: Path) -> np.ndarray:
    return read_audio(Clip(str(path)), rate=16_000).samples


# Golden values


@pytest.fixture(scope="module")
def golden(parity: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    return [case for case in parity("speech")["cases"] if case["metric"].startswith("dnsmos")]


def signal_of(case: dict[str, Any], root: Path) -> np.ndarray:
    how = case.get("input") or {"kind": "file"}
    if how["kind"] == "zeros":
        return np.zeros(how["n"], np.float32)
    if how["kind"] == "mix":
        return mixed(how, root)
    samples = sound(root / case["generated"])
    return {
        "file": lambda: samples,
        "crop": lambda: samples[how["start"] : how["stop"]],
        "gain": lambda: samples * np.float32(how["factor"]),
    }[how["kind"]]()


def mixed(how: dict[str, Any], root: Path) -> np.ndarray:
    speech = sound(root / how["speech"]).astype(np.float64)
    noise = sound(root / how["noise"]).astype(np.float64)[how["noise_start"] :][: len(speech)]
    gain = math.sqrt(np.mean(speech**2) / np.mean(noise**2) * 10 ** (-how["snr_db"] / 10))
    mixture = speech + gain * noise
    if how["clip"] == "rescale_peak095":
        mixture *= min(1.0, 0.95 / np.abs(mixture).max()) if np.abs(mixture).max() > 1 else 1.0
    elif how["clip"] == "pcm16_clip":
        file = io.BytesIO()
        soundfile.write(file, mixture, 16_000, format="WAV", subtype="PCM_16")
        mixture = soundfile.read(io.BytesIO(file.getvalue()), dtype="float64")[0]
    return mixture.astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_scores(name: str, golden: list[dict[str, Any]], shared_data: Path) -> None:
    known: dict[str, dict[str, float]] = {}
    wrong, checked = [], 0
    for case in golden:
        network, score = SCORES[case["metric"]]
        if network != name or case["mode"] in PURE:
            continue
        window, _, raw = case["mode"].partition("+")
        key = json.dumps([case["generated"], case.get("input"), window])
        if key not in known:
            samples = signal_of(case, shared_data)
            known[key] = loaded(name, window)([Audio(samples, 16_000)])[0]
        value = known[key][f"{score}_raw" if raw else score]
        if abs(value - case["value"]) > case["abs_tol"]:
            wrong.append((case["metric"], key, value, case["value"]))
        counts = {count: known[key][count] for count in ("n_scored", "n_hops")}
        if counts != case["aux"]:
            wrong.append((case["metric"], key, counts, case["aux"]))
        checked += 1
    assert not wrong
    assert checked >= 80


def test_golden_polynomials(golden: list[dict[str, Any]]) -> None:
    cases = [case for case in golden if case["mode"] == "polynomial"]
    assert len(cases) >= 18
    for case in cases:
        network, score = SCORES[case["metric"]]
        kind = NETWORKS[network].kind
        value = dnsmos.polynomial([case["input"]["raw"]], kind, score)[0]
        assert value == pytest.approx(case["value"], abs=case["abs_tol"])


def test_golden_window_plans(golden: list[dict[str, Any]]) -> None:
    cases = [case for case in golden if case["mode"] == "window_plan"]
    assert len(cases) >= 22
    for case in cases:
        n, aux = case["input"]["n"], case["aux"]
        plan, exact = window_plan(n, mode="reference"), window_plan(n, mode="exact")
        assert len(plan.starts) == case["value"], n
        assert plan.n_hops == aux["n_hops"], n
        assert plan.n_filled == aux["n_padded"], n
        assert len(exact.starts) == aux["exact"], n


# Window plan


def script(n: int) -> list[int]:
    """The loop of the published script, on an array of which only the length matters."""
    audio = np.empty(n, np.int8)
    while len(audio) < 9.01 * 16_000:
        audio = np.append(audio, audio)
    hops = int(np.floor(len(audio) / 16_000) - 9.01) + 1
    segments = [(i, audio[int(i * 16_000) : int((i + 9.01) * 16_000)]) for i in range(hops)]
    return [i * 16_000 for i, segment in segments if len(segment) >= int(9.01 * 16_000)]


@settings(deadline=None)
@given(st.integers(1, 40 * 16_000))
def test_reference_plan_is_the_scripts_loop(n: int) -> None:
    assert list(window_plan(n, mode="reference").starts) == script(n)


@settings(deadline=None)
@given(st.integers(1, 3_000_000))
def test_exact_plan_loses_nothing(n: int) -> None:
    exact, reference = window_plan(n, mode="exact"), window_plan(n, mode="reference")
    assert exact.starts == tuple(range(0, 16_000 * exact.n_hops, 16_000))
    assert exact.n_hops == max(1, exact.n_filled // 16_000 - 9)
    assert exact.starts[-1] + WINDOW <= exact.n_filled
    assert reference.starts and set(reference.starts) <= set(exact.starts)


@settings(deadline=None)
@given(st.integers(1, 200_000), st.sampled_from(["reference", "exact", "pad_tile_truncate"]))
def test_windows_of_one_phase_hold_the_same_samples(n: int, mode: str) -> None:
    plan = window_plan(n, mode=mode)
    starts, counts = plan.distinct()
    assert sum(counts) == len(plan.starts)
    assert list(starts) == sorted(set(starts)) and set(starts) <= set(plan.starts)
    filled = dnsmos.fill(np.arange(n, dtype=np.float32), plan)
    assert len(filled) == plan.n_filled
    contents = {filled[start : start + WINDOW].tobytes() for start in plan.starts}
    assert len(contents) == len(starts)


@pytest.mark.parametrize(("seconds", "windows"), [(1, 1), (2, 2), (3, 3), (4, 4), (8, 7)])
def test_whole_seconds_have_few_distinct_windows(seconds: int, windows: int) -> None:
    assert len(window_plan(seconds * 16_000, mode="exact").distinct()[0]) == windows


def test_short_clips_may_be_padded_to_one_window() -> None:
    ramp = np.arange(1, 16_001, dtype=np.float32)
    tiled = dnsmos.fill(ramp, window_plan(16_000, mode="pad_tile_truncate"))
    zeros = dnsmos.fill(ramp, window_plan(16_000, mode="pad_zero"))
    assert len(tiled) == len(zeros) == WINDOW
    assert tiled[-160:].tolist() == ramp[:160].tolist()
    assert zeros[:16_000].tolist() == ramp.tolist() and not zeros[16_000:].any()


@pytest.mark.parametrize("mode", ["pad_tile_truncate", "pad_zero"])
def test_padding_leaves_long_clips_alone(mode: str) -> None:
    assert window_plan(500_000, mode=mode) == window_plan(500_000, mode="reference")


def test_an_empty_clip_has_no_plan() -> None:
    with pytest.raises(EmptyAudio):
        window_plan(0)


@pytest.mark.parametrize("make", [lambda mode: window_plan(1, mode=mode), *NETWORKS.values()])
def test_an_unknown_mode_names_the_known_ones(make: Callable[..., Any]) -> None:
    with pytest.raises(SpecError, match=r"'exakt'.*reference, exact"):
        make(mode="exakt") if not isinstance(make, type) else make(window="exakt")


def test_groups_are_small_and_overlap() -> None:
    starts = window_plan(60 * 16_000).starts
    parts = list(dnsmos.groups(starts))
    assert [start for part in parts for start in part] == list(starts)
    assert max(map(len, parts)) <= dnsmos.GROUP
    assert all(b - a < WINDOW for part in parts for a, b in pairwise(part))


# Features of P.808


def mel_of_one_window(window: np.ndarray) -> np.ndarray:
    """Centred frames of the whole window: nothing is shared."""
    padded = np.pad(window[:-160].astype(np.float64), 160)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 321)[::160]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(321) / 321)
    power = np.abs(np.fft.rfft(frames * hann)) ** 2 @ dnsmos.mel_filters()
    level = 10 * np.log10(np.maximum(1e-10, power)) - 10 * np.log10(max(1e-10, power.max()))
    return (np.maximum(level, level.max() - 80) + 40) / 40


@pytest.mark.parametrize("n", [4_000, 16_000, 59_001, 144_160, 200_000])
def test_shared_mel_frames_are_those_of_each_window(n: int, conversation: np.ndarray) -> None:
    plan = window_plan(n, mode="exact")
    signal = dnsmos.fill(conversation[:n], plan)
    features = dnsmos.p808_features(signal, plan.starts, period=plan.repeats_after(160))
    assert features.shape == (len(plan.starts), 900, 120)
    for start, feature in zip(plan.starts, features, strict=True):
        alone = mel_of_one_window(signal[start : start + WINDOW])
        np.testing.assert_allclose(feature, alone, atol=1e-6)


def test_mel_equals_librosas(conversation: np.ndarray) -> None:
    librosa = pytest.importorskip("librosa")
    window = conversation[16_000 : 16_000 + WINDOW]
    mel = librosa.feature.melspectrogram(
        y=window[:-160].astype(np.float64), sr=16_000, n_fft=321, hop_length=160, n_mels=120
    )
    expected = (librosa.power_to_db(mel, ref=np.max) + 40) / 40
    np.testing.assert_allclose(
        dnsmos.p808_features(conversation, (16_000,))[0], expected.T, atol=1e-6
    )


# Sharing between windows changes nothing


def assert_same_as_plain(name: str, samples: np.ndarray, mode: str, only: Any = ()) -> None:
    plan = window_plan(len(samples), mode=mode)
    signal, (starts, _) = dnsmos.fill(samples, plan), plan.distinct()
    raw = loaded(name)._net.raw(signal, starts, period=plan.repeats_after(dnsmos.ROW))
    chosen = list(only) or range(len(starts))
    expected = forward(name, signal, [starts[i] for i in chosen])
    np.testing.assert_allclose(raw[chosen], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["p835", "personal"])
@pytest.mark.parametrize("clip", ["lipdiffuser/PSlBlZ3hqKc/00012", "noisy/MvXZzKZ3JYQ/00001"])
def test_shared_convolutions_on_real_clips(name: str, clip: str, shared_data: Path) -> None:
    samples = sound(shared_data / f"lrs3_demo/{clip}.mp4")
    assert_same_as_plain(name, samples, "reference")


@pytest.mark.parametrize("n", [4_000, 5_120, 16_000, 24_320, 33_333, 48_000, 144_160, 191_999])
@pytest.mark.parametrize("mode", ["exact", "pad_tile_truncate", "pad_zero"])
def test_shared_convolutions_at_any_length(mode: str, n: int, conversation: np.ndarray) -> None:
    only = () if n < 30_000 else (0, -1)
    assert_same_as_plain("p835", conversation[100_000:][:n], mode, only)


def test_shared_convolutions_at_random_lengths(conversation: np.ndarray) -> None:
    for n in np.random.default_rng(5).integers(4_000, 200_000, 3):
        assert_same_as_plain("p835", conversation[-n:], "exact", (0, -1))


def test_rows_are_carried_from_group_to_group(conversation: np.ndarray) -> None:
    assert_same_as_plain("p835", conversation, "exact", (0, 15, 16, 20))


def test_lost_windows_leave_a_gap(conversation: np.ndarray) -> None:
    longer = np.concatenate([conversation, conversation[::-1][: 5 * 16_000]])
    assert window_plan(len(longer)).starts[-3:] == (96_000, 384_000, 400_000)
    assert_same_as_plain("p835", longer, "reference", (0, 6, 7, 8))


@pytest.mark.parametrize(("name", "n"), [("p808", 16_000), ("p808", 32_000), ("p835", 32_000)])
def test_weighted_distinct_windows_are_the_mean_of_all(
    name: str, n: int, conversation: np.ndarray
) -> None:
    samples = conversation[50_000:][:n]
    plan = window_plan(n)
    assert len(plan.distinct()[0]) < len(plan.starts)
    signal = dnsmos.fill(samples, plan)
    scores = loaded(name)([Audio(samples, 16_000)])[0]
    if name == "p808":
        features = dnsmos.p808_features(signal, plan.starts)
        expected = [plain(name).run(None, {"input_1": each[None]})[0][0, 0] for each in features]
        assert scores["p808"] == pytest.approx(np.mean(expected), abs=1e-5)
        return
    raw = forward(name, signal, plan.starts)
    for column, score in enumerate(("sig", "bak", "ovrl")):
        assert scores[f"{score}_raw"] == pytest.approx(raw[:, column].mean(), abs=1e-5)
        mos = dnsmos.polynomial(raw[:, column], "standard", score).mean()
        assert scores[score] == pytest.approx(mos, abs=1e-5)


# The networks as views


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_gives_what_singles_give(name: str, conversation: np.ndarray) -> None:
    clips = [Audio(conversation[n:][:n], 16_000) for n in (16_000, 48_000, 32_000)]
    assert loaded(name)(clips)[::-1] == [loaded(name)([clip])[0] for clip in clips[::-1]]


def test_level_moves_p835_but_not_p808(shared_data: Path) -> None:
    samples = sound(shared_data / "speech/speech.wav")
    loud, soft = Audio(samples, 16_000), Audio(samples * np.float32(0.1), 16_000)
    p808 = [scores["p808"] for scores in loaded("p808")([loud, soft])]
    ovrl = [scores["ovrl"] for scores in loaded("p835")([loud, soft])]
    assert p808[0] == pytest.approx(p808[1], abs=1e-4)
    assert ovrl[0] - ovrl[1] > 0.5


@pytest.mark.parametrize("name", NETWORKS)
def test_another_rate_is_a_programming_error(name: str) -> None:
    tone = np.sin(np.arange(48_000, dtype=np.float32))
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 48000"):
        loaded(name)([Audio(tone, 48_000)])
    with pytest.raises(ValueError, match="wrong_shape"):
        loaded(name)([Audio(np.stack([tone, tone]), 16_000)])


def test_a_network_that_gives_nan_is_an_error() -> None:
    plan = window_plan(16_000)
    with pytest.raises(NonfiniteOutput, match="nan"):
        dnsmos._output({"p808": np.array([np.nan])}, (1,), plan)


# The metrics


def test_seven_scores_twice() -> None:
    for name, (_, score) in SCORES.items():
        for suffix, window in (("", "reference"), ("_exact", "exact")):
            item = METRICS.get(name + suffix)
            assert (item.unit, item.better) == ("MOS", "higher")
            assert f"window={window}" in item.label
            output = {score: 3.25, "n_scored": 7, "n_hops": 8}
            info = {"n_scored": 7, "n_hops": 8, "window": window}
            assert item(output) == Record(3.25, info=info)
            assert item.doc and getattr(metrics, item.name) is item
    assert METRICS.get("dnsmos_p808").label == "DNSMOS (P.808, window=reference)"


def test_labels_and_identities_tell_the_metrics_apart() -> None:
    names = [name + suffix for name in SCORES for suffix in ("", "_exact")]
    for attribute in ("label", "identity"):
        assert len({getattr(METRICS.get(name), attribute) for name in names}) == 14


def test_a_protocol_pays_for_what_it_shows() -> None:
    views = {name: METRICS.get(name).views["generated"] for name in SCORES}
    assert len({item.identity for item in views.values()}) == 3
    assert views["dnsmos_p808"].weights == ("dnsmos/model_v8",)


def test_views_score_files_and_name_what_cannot_be_scored(
    shared_data: Path, tmp_path: Path
) -> None:
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(16_000), 16_000)
    files = [silent, shared_data / "speech/speech.wav", tmp_path / "absent.wav"]
    item = METRICS.get("dnsmos_p808")
    view: View = item.views["generated"]
    quiet, good, absent = see(view, [Clip(str(file)) for file in files])
    assert isinstance(quiet, Failure) and quiet.code == "silent_audio"
    assert isinstance(absent, Failure) and absent.code == "missing_clip"
    assert item(good).value == pytest.approx(3.950929, abs=1e-3)
    assert all(type(value) in (int, float) for value in good.values())
