"""Speaker similarity: golden values, every network in its published format, roles and failures."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import speaker_cases as cases
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phonoscope import media, runner, views, weights
from phonoscope.errors import NonfiniteOutput, NoSpeech, TooShort
from phonoscope.events import Advanced, NetworkLoaded
from phonoscope.measure import lacks
from phonoscope.metrics import spksim
from phonoscope.metrics.networks import checkpoints, ge2e, wespeaker, xvector
from phonoscope.metrics.networks.ge2e import Ge2e
from phonoscope.plugins import METRICS
from phonoscope.types import Audio, Clip, Failure, Record
from phonoscope.views import View, see

RATE = 16_000
NAMES = [
    "spksim_wespeaker",
    "spksim_wespeaker_resnet34_lm",
    "spksim_wespeaker_pyannote",
    "spksim_ecapa",
    "spksim_pyannote",
    "spksim_ge2e",
]


@pytest.fixture
def torch() -> Any:
    """What the networks need; those of WeSpeaker's own files need only onnxruntime."""
    return pytest.importorskip("torch", reason="speaker networks need the extra `torch`")


def sound(path: Path) -> Audio:
    return media.read_audio(Clip(str(path)), rate=RATE)


# The cosine

VECTORS = arrays(np.float32, 8, elements=st.floats(-100, 100, width=32)).filter(
    lambda v: np.linalg.norm(v) > 1e-3
)


@given(VECTORS)
def test_the_cosine_with_itself_is_one_and_with_its_opposite_minus_one(vector: Any) -> None:
    assert spksim.cosine(vector, vector) == pytest.approx(1, abs=1e-12)
    assert spksim.cosine(vector, -vector) == pytest.approx(-1, abs=1e-12)


@given(VECTORS, VECTORS, st.floats(0.01, 100))
def test_the_cosine_is_symmetric_bounded_and_blind_to_length(
    one: Any, other: Any, factor: float
) -> None:
    value = spksim.cosine(one, other)
    assert -1 <= value <= 1
    assert spksim.cosine(other, one) == pytest.approx(value, abs=1e-12)
    assert spksim.cosine(factor * one.astype(np.float64), other) == pytest.approx(value, abs=1e-9)


def test_the_cosine_is_the_angle() -> None:
    assert spksim.cosine(np.array([1, 0]), np.array([1, 1])) == pytest.approx(math.sqrt(0.5))
    assert spksim.cosine(np.array([1, 0]), np.array([0, 3])) == 0


@pytest.mark.parametrize("bad", [np.zeros(4), np.array([1, np.nan, 0, 0]), np.full(4, np.inf)])
def test_an_embedding_that_points_nowhere_is_no_number(bad: np.ndarray) -> None:
    for pair in ((bad, np.ones(4)), (np.ones(4), bad)):
        with pytest.raises(NonfiniteOutput, match="embeddings of length"):
            spksim.cosine(*pair)


# GE2E


@functools.cache
def voice_encoder() -> Ge2e:
    network = Ge2e()
    network.load("cpu")
    return network


@pytest.fixture
def encoder(torch: Any) -> Ge2e:
    if lacks(METRICS.get("spksim_ge2e")):
        pytest.skip(f"GE2E cannot run here: {lacks(METRICS.get('spksim_ge2e'))}")
    return voice_encoder()


@pytest.fixture(scope="module", autouse=True)
def _free() -> Iterator[None]:
    yield
    voice_encoder.cache_clear()


@pytest.fixture(scope="module")
def golden(parity: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    return [case for case in parity("speech")["cases"] if case["metric"].startswith("spksim_")]


def test_no_golden_value_is_left_out(golden: list[dict[str, Any]]) -> None:
    modes = [(case["metric"], case["mode"]) for case in golden]
    known = {("spksim_ge2e", "resemblyzer_vad3"), ("spksim_wespeaker", "frontend_fbank80")}
    assert set(modes) == known
    assert len(modes) >= 45


def test_golden_similarities(
    golden: list[dict[str, Any]], shared_data: Path, encoder: Ge2e
) -> None:
    """Through decoding, the view and the metric, as a run gets them."""
    metric = METRICS.get("spksim_ge2e")
    cases = [case for case in golden if case["metric"] == "spksim_ge2e"]
    files = sorted({case[role] for case in cases for role in ("generated", "reference")})
    clips = [Clip(str(shared_data / file)) for file in files]
    seen = dict(zip(files, see(metric.views["generated"], clips), strict=True))
    for case in cases:
        record = metric(generated=seen[case["generated"]], reference=seen[case["reference"]])
        assert record.value == pytest.approx(case["value"], abs=case["abs_tol"])
        assert record.value == pytest.approx(case["value"], abs=1e-5), "far within the tolerance"
        assert record.info["voiced_samples"] == case["aux"]["voiced_samples"]
    assert len(cases) >= 44


def test_other_speakers_are_less_similar_than_the_same(shared_data: Path, encoder: Ge2e) -> None:
    names = ("spk1_snt1", "spk1_snt2", "spk2_snt1", "spk2_snt2")
    a1, a2, b1, b2 = (x[:-1] for x in encoder([sound(_clip(shared_data, n)) for n in names]))
    same = min(spksim.cosine(a1, a2), spksim.cosine(b1, b2))
    assert same > max(spksim.cosine(a, b) for a in (a1, a2) for b in (b1, b2)) + 0.1


def _clip(data: Path, name: str) -> Path:
    return data / f"speech/{name}.wav"


def test_the_embedding_is_a_unit_vector_without_negative_entries(encoder: Ge2e) -> None:
    (found,) = encoder([cases.voice(3.0)])
    assert found.shape == (257,)
    assert found.dtype == np.float32
    assert np.linalg.norm(found[:-1]) == pytest.approx(1, abs=1e-6)
    assert found[:-1].min() >= 0
    assert found[-1] % ge2e.VAD_FRAME == 0


def test_soft_clips_are_raised_so_that_their_level_does_not_matter(encoder: Ge2e) -> None:
    clip = cases.voice(2.0).samples
    soft, softer = (clip * np.float32(10 ** (-level / 20)) for level in (30, 50))
    one, other, loud = encoder([Audio(x, RATE) for x in (soft, softer, clip)])
    assert spksim.cosine(one[:-1], other[:-1]) == pytest.approx(1, abs=1e-4)
    assert spksim.cosine(one[:-1], loud[:-1]) < 1 - 1e-4, "a loud clip is seen as it is"


@pytest.mark.parametrize("level", [-60.0, -30.5, -10.0])
def test_raised_is_minus_30_decibels_or_more(level: float) -> None:
    clip = cases.voice().samples.astype(np.float64)
    clip *= 10 ** (level / 20) / np.sqrt(np.mean(clip**2))
    after = ge2e.raised(clip.astype(np.float32))
    assert after.dtype == np.float32
    reached = 20 * np.log10(np.sqrt(np.mean(after.astype(np.float64) ** 2)))
    assert reached == pytest.approx(max(level, -30.0), abs=1e-3)


def test_samples_beyond_full_scale_saturate(encoder: Ge2e) -> None:
    clip = cases.voice(2.0).samples * np.float32(2.5)
    assert np.abs(clip).max() > 1
    (flags, clipped) = map(ge2e.voice_flags, (clip, np.clip(clip, -1, 1)))
    assert np.array_equal(flags, clipped)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=8, max_size=200))
def test_kept_frames_are_near_a_stretch_that_is_mostly_voiced(flags: list[bool]) -> None:
    padded = [False] * 3 + flags + [False] * 4
    voiced = [sum(padded[i : i + 8]) > 4 for i in range(len(flags))]
    near = [any(voiced[max(0, i - 3) : i + 4]) for i in range(len(flags))]
    assert ge2e.kept(np.array(flags)).tolist() == near


@settings(deadline=None)
@given(st.integers(8_000, 800_000))
def test_windows_cover_the_sound(n_samples: int) -> None:
    starts = list(ge2e.window_starts(n_samples))
    assert starts == list(range(0, 77 * len(starts), 77))
    uncovered = n_samples - (starts[-1] + 160) * 160
    # What the next window would see is too little of it, or there is no sound at all.
    assert uncovered < 0.75 * 160 * 160 - (160 - 77) * 160 + 160
    filled = n_samples - starts[-1] * 160
    assert filled >= 0.75 * 160 * 160 or len(starts) == 1


def test_the_mel_spectrogram_equals_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    clip = cases.voice(1.3).samples
    mel = librosa.feature.melspectrogram(
        y=clip, sr=RATE, n_fft=400, hop_length=160, n_mels=40, pad_mode="constant"
    )
    np.testing.assert_allclose(ge2e.spectrogram(clip), mel.T, rtol=2e-4, atol=1e-7)


def test_a_clip_without_voice_has_no_embedding(tmp_path: Path, encoder: Ge2e) -> None:
    clicks = np.zeros(RATE, np.float32)
    clicks[4_000::4_000] = 0.9
    with pytest.raises(NoSpeech, match=r"no_speech: \d+ voiced samples, GE2E needs 8000"):
        encoder([Audio(clicks, RATE)])
    for name, samples in (("clicks", clicks), ("voice", cases.voice().samples)):
        media.write_wav(tmp_path / f"{name}.wav", Audio(samples, RATE))
    files = [Clip(str(tmp_path / f"{name}.wav")) for name in ("voice", "clicks")]
    fine, failed = see(METRICS.get("spksim_ge2e").views["generated"], files)
    assert isinstance(failed, Failure)
    assert failed.code == "no_speech"
    assert isinstance(fine, np.ndarray), "the guilty clip alone fails"


def test_many_windows_go_through_in_parts(encoder: Ge2e, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = cases.voice(6.0)
    whole = encoder([clip])[0]
    monkeypatch.setattr(ge2e, "AT_ONCE", 2)
    np.testing.assert_allclose(encoder([clip])[0], whole, atol=1e-6)


def test_an_output_of_zeros_fails(encoder: Ge2e, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ge2e, "_infer", lambda self, seen: np.zeros((len(seen), 256)))
    with pytest.raises(NonfiniteOutput, match="vectors of length"):
        encoder([cases.voice()])


def test_the_weights_are_pinned() -> None:
    row = weights.WEIGHTS.get("resemblyzer/pretrained")
    assert row.sha256 == "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
    assert row.licence == "Apache-2.0"


# The front end of WeSpeaker


@pytest.fixture
def kaldi() -> None:
    pytest.importorskip("kaldi_native_fbank", reason="WeSpeaker needs the extra `speaker`")


def test_golden_filter_bank(golden: list[dict[str, Any]], shared_data: Path, kaldi: None) -> None:
    cases = [case for case in golden if case["metric"] == "spksim_wespeaker"]
    for case in cases:
        clip = sound(shared_data / case["generated"])
        bank, centred, aux = wespeaker.filter_bank(clip), wespeaker.features(clip), case["aux"]
        assert bank.mean() == pytest.approx(case["value"], abs=case["abs_tol"])
        assert bank.std() == pytest.approx(aux["std"], abs=case["abs_tol"])
        assert list(bank.shape) == aux["shape"]
        for row, wanted in (
            (bank[0, :4], aux["row0"]),
            (bank[100, :4], aux["row100"]),
            (bank[284, -3:], aux["row284_last"]),
            (centred[100, :4], aux["row100_after_cmn"]),
        ):
            np.testing.assert_allclose(row, wanted, atol=case["abs_tol"])
    assert cases


@pytest.mark.parametrize("gain", [1.0, 1e-3])
def test_the_filter_bank_equals_an_independent_one(gain: float, kaldi: None) -> None:
    clip = Audio(cases.voice(1.0).samples * np.float32(gain), RATE)
    expected = cases.kaldi_filter_bank(clip.samples)
    np.testing.assert_allclose(wespeaker.filter_bank(clip), expected, atol=1e-3)


def test_soft_clips_stay_above_the_floor_of_the_logarithm(kaldi: None) -> None:
    """Without the factor of 16-bit sound, a soft clip would be another one."""
    soft = Audio(cases.voice(1.0).samples * np.float32(1e-3), RATE)
    scaled = wespeaker.filter_bank(soft) - 2 * math.log(32_768)
    unscaled = cases.kaldi_filter_bank(soft.samples / 32_768)
    assert np.abs(unscaled - scaled).max() > 1
    assert unscaled.min() == pytest.approx(math.log(np.finfo(np.float32).eps))


def test_features_have_no_mean_and_are_blind_to_the_level(kaldi: None) -> None:
    clip = cases.voice(1.0)
    seen = wespeaker.features(clip)
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-4)
    softer = wespeaker.features(Audio(clip.samples * np.float32(0.1), RATE))
    np.testing.assert_allclose(softer, seen, atol=2e-2)


# Networks with seeded weights, in the published formats, through the weights door


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with a file of every network."""
    pytest.importorskip("torch", reason="the files are torch's")
    root = tmp_path_factory.mktemp("weights")
    cases.write_all(root)
    return root


@pytest.fixture
def opened(door: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(door))
    views._networks.clear()
    yield door
    views._networks.clear()


def usable(name: str) -> View:
    metric = METRICS.get(name)
    reason = lacks(metric)
    if reason and reason.code == "dependency_missing":
        pytest.skip(reason.error)
    assert reason is None
    return metric.views["generated"]


SEEDED = {
    "spksim_ecapa": ("ecapa", 192),
    "spksim_pyannote": ("xvector", 512),
    "spksim_wespeaker_pyannote": ("resnet34", 256),
    "spksim_wespeaker_resnet34_lm": ("resnet34", 256),
    "spksim_wespeaker": ("resnet34", 256),
}


@pytest.mark.parametrize("name", SEEDED)
def test_the_embedding_is_that_of_the_upstream_package(
    name: str, opened: Path, tmp_path: Path
) -> None:
    """Values of `golden/speakers.json` were made by SpeechBrain and pyannote.audio themselves.

    The two ONNX files hold a graph of the same ResNet34; one returns a tuple.
    """
    network, width = SEEDED[name]
    item = usable(name)
    media.write_wav(tmp_path / "voice.wav", cases.voice())
    (found,) = see(item, [Clip(str(tmp_path / "voice.wav"))])
    assert isinstance(found, np.ndarray), found
    assert found.shape == (width,)
    assert found.dtype == np.float32
    wanted = np.array(cases.upstream(network)["embedding"])
    np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", SEEDED)
def test_a_batch_equals_singles_in_any_order(name: str, opened: Path) -> None:
    usable(name)
    network = views.network(METRICS.get(name).views["generated"], "cpu")
    clips = [cases.voice(seconds, seed=i) for i, seconds in enumerate((0.7, 2.0, 1.1))]
    singles = [network([clip])[0] for clip in clips]
    for one, other in zip(network(clips[::-1])[::-1], singles, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("name", SEEDED)
def test_the_level_hardly_matters(name: str, opened: Path) -> None:
    usable(name)
    network = views.network(METRICS.get(name).views["generated"], "cpu")
    clip = cases.voice(1.5)
    loud, soft = network([clip, Audio(clip.samples * np.float32(0.2), RATE)])
    assert spksim.cosine(loud, soft) > 0.999


@pytest.mark.parametrize("name", SEEDED)
def test_a_network_refuses_another_rate_and_more_channels(name: str, opened: Path) -> None:
    usable(name)
    network = views.network(METRICS.get(name).views["generated"], "cpu")
    clip = cases.voice(1.0)
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 8000"):
        network([Audio(clip.samples, 8_000)])
    with pytest.raises(ValueError, match="wrong_shape"):
        network([Audio(np.stack([clip.samples] * 2, 1), RATE)])


@pytest.mark.parametrize("name", SEEDED)
def test_the_shortest_clip_that_speech_allows(name: str, opened: Path) -> None:
    usable(name)
    network = views.network(METRICS.get(name).views["generated"], "cpu")
    clip = Audio(cases.voice(0.4).samples[:4_000], RATE)
    if name == "spksim_pyannote":
        with pytest.raises(TooShort, match=r"too_short: 0\.25 s, XVectorSincNet needs 0\.32 s"):
            network([clip])
        clip = Audio(cases.voice(0.4).samples[:5_041], RATE)
    assert np.isfinite(network([clip])[0]).all()


def test_the_shortest_clip_of_the_xvector_has_two_frames() -> None:
    assert [xvector.frames(n) for n in (5_040, 5_041)] == [1, 2]


@pytest.mark.parametrize("name", ["spksim_ecapa", "spksim_pyannote", "spksim_wespeaker_pyannote"])
def test_another_network_in_the_file_is_refused(
    name: str, opened: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable(name)
    strange = {"linear.weight": np.ones((2, 2), np.float32)}
    cases.write_lightning(tmp_path / cases.file_of(name), strange)
    cases.write_checkpoint(tmp_path / cases.file_of("spksim_ecapa"), strange)
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match="holds another network than its name says"):
        METRICS.get(name).views["generated"].make().load("cpu")


def test_another_onnx_file_is_refused(
    opened: Path, shared_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable("spksim_wespeaker")
    target = tmp_path / cases.file_of("spksim_wespeaker")
    target.parent.mkdir()
    target.write_bytes((shared_weights / "dnsmos/model_v8.onnx").read_bytes())
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match=r"no network of WeSpeaker: its inputs are \['input_1'\]"):
        wespeaker.WespeakerResnet221().load("cpu")


@pytest.mark.parametrize("name", SEEDED)
def test_absent_weights_make_the_column_unavailable(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path))
    reason = lacks(METRICS.get(name))
    assert reason is not None
    assert reason.code in ("weights_missing", "dependency_missing")
    if reason.code == "weights_missing":
        assert cases.file_of(name) in reason.error
        assert "huggingface.co" in reason.error


def test_a_nan_of_a_network_is_a_failure(
    opened: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable("spksim_pyannote")
    nowhere = lambda self, sound: np.full(512, np.nan, np.float32)  # noqa: E731
    monkeypatch.setattr(xvector.XVectorSincNet, "_embed", nowhere)
    for folder in ("out", "true"):
        (tmp_path / folder).mkdir()
        media.write_wav(tmp_path / folder / "a.wav", cases.voice())
    found = _scored(tmp_path, "spksim_pyannote")
    assert isinstance(found, Failure)
    assert found.code == "nonfinite_output"


def _scored(root: Path, metric: str) -> Any:
    from phonoscope import scoring

    line = scoring.scores(root / "out", root / "true", metrics=[metric], engine="serial").line
    return line.outcomes[metric][0]


# Torch files


def test_objects_beside_the_tensors_stay_inert(torch: Any, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return exec, (f"import pathlib; pathlib.Path({str(tmp_path / 'sprung')!r}).touch()",)

    values = {"a.weight": np.ones((2, 3), np.float32)}
    torch.save({"state_dict": cases.tensors(values), "callbacks": [Trap()]}, tmp_path / "trap.bin")
    state = checkpoints.read_lightning(tmp_path / "trap.bin")
    assert torch.equal(state["a.weight"], torch.ones(2, 3))
    assert not (tmp_path / "sprung").exists()


def test_a_lightning_file_is_read_without_the_packages_that_made_it(
    torch: Any, tmp_path: Path
) -> None:
    values = {"a.weight": np.ones((2, 3), np.float32)}
    path = cases.write_lightning(tmp_path / "model.bin", values)
    with pytest.raises(Exception, match="Unsupported global"):
        torch.load(path, weights_only=True)
    before = set(torch.serialization.get_safe_globals())
    assert checkpoints.read_lightning(path).keys() == {"a.weight"}
    assert set(torch.serialization.get_safe_globals()) == before, "nothing stays trusted"


# Roles


def test_names_and_labels() -> None:
    for name in NAMES:
        plain, told = METRICS.get(name), METRICS.get(f"{name}_enrollment")
        assert list(plain.views) == ["generated", "reference"]
        assert list(told.views) == ["generated", "enrollment"]
        assert {*plain.views.values(), *told.views.values()} == {plain.views["generated"]}
        assert plain.better == "higher" and plain.ideal == 1.0 and plain.unit == "-"
        assert "used_enrollment" in told.label
    label = METRICS.get("spksim_wespeaker").label
    assert label == "SpkSim (WeSpeaker resnet221_lm)"


def test_the_record_says_what_it_is_compared_with() -> None:
    one = np.array([1.0, 0.0, 48_000.0])
    plain = METRICS.get("spksim_ge2e")(generated=one, reference=one)
    told = METRICS.get("spksim_ge2e_enrollment")(generated=one, enrollment=one)
    assert isinstance(plain, Record) and isinstance(told, Record)
    assert plain.info["against"] == "clean_same"
    assert told.info["against"] == "used_enrollment"
    assert plain.info["voiced_samples"] == plain.info["voiced_samples_against"] == 48_000


def test_each_clip_is_embedded_once_whatever_asks_for_it(
    encoder: Ge2e, tmp_path: Path, shared_data: Path
) -> None:
    """Two systems and two metrics share references and enrollments."""
    table = ["id,group,reference,audio,enrollment"]
    for i in (1, 2):
        voice = _clip(shared_data, "spk1_snt5") if i == 1 else ""
        table.append(f"s{i},spk1,{_clip(shared_data, f'spk1_snt{i}')},,{voice}")
        for system, other in (("a", "spk1_snt3"), ("b", "spk2_snt1")):
            target = tmp_path / system / f"s{i}.wav"
            target.parent.mkdir(exist_ok=True)
            clip = sound(_clip(shared_data, other)).samples[i * 160 :]
            media.write_wav(target, Audio(clip, RATE))
    (tmp_path / "table.csv").write_text("\n".join(table) + "\n")
    imported = {"plugin": "imported", "params": {"pattern": "{id}.wav"}}
    folders = {name: {"folder": str(tmp_path / name)} for name in ("a", "b")}
    protocol = {
        "name": "voices",
        "task": "lip2speech",
        "datasets": [{"name": "manifest", "options": {"path": str(tmp_path / "table.csv")}}],
        "references": [],
        "systems": [
            {**imported, "name": name, "params": {**imported["params"], **folder}}
            for name, folder in folders.items()
        ],
        "metrics": ["spksim_ge2e", "spksim_ge2e_enrollment"],
    }
    events: list[Any] = []
    views._networks.clear()
    runner.run(protocol, tmp_path / "store", engine="serial", listeners=[events.append], formats=())
    loaded = [event for event in events if isinstance(event, NetworkLoaded)]
    done = [e.count for e in events if isinstance(e, Advanced) and e.what == "ge2e_embedding"]
    assert len(loaded) == 1
    assert sum(done) == 7, "four generated clips, two references, one enrollment"
