"""SpeechBERTScore: the score by hand, the layer against transformers' own, the folder's layouts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import media, weights
from phonoscope.errors import NonfiniteOutput, WeightsMismatch, WeightsMissing
from phonoscope.metrics import speech_bert_score as metrics
from phonoscope.metrics.networks.speech_units import HubertBase8, SpeechUnits, WavLMLarge14
from phonoscope.metrics.speech_bert_score import bert_score
from phonoscope.types import Audio, Clip
from phonoscope.views import _networks, see

torch = pytest.importorskip("torch", reason="SpeechBERTScore needs the extra `asr`")
transformers = pytest.importorskip("transformers", reason="SpeechBERTScore needs the extra `asr`")

SMALL = {
    "hidden_size": 24,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "initializer_range": 0.3,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
KINDS: dict[str, tuple[type[SpeechUnits], Any, dict[str, Any]]] = {
    "wavlm": (WavLMLarge14, metrics.speech_bert_score, {"num_hidden_layers": 17, **LARGE}),
    "hubert": (HubertBase8, metrics.speech_bert_score_hubert, {"num_hidden_layers": 10}),
}


def network(kind: str, **changes: Any) -> Any:
    """A small network of the published architecture, with seeded random values."""
    torch.manual_seed(0)
    name = {"wavlm": "WavLM", "hubert": "Hubert"}[kind]
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **KINDS[kind][2], **changes})
    return getattr(transformers, f"{name}Model")(config).eval()


def old_layout(net: Any, folder: Path) -> None:
    """Write what the hub holds: a pickle under the names of torch's first weight normalisation."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(net.config.to_json_string(), encoding="utf-8")
    new = "parametrizations.weight.original"
    state = {
        name.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): value
        for name, value in net.state_dict().items()
    }
    assert sum(name.endswith(("weight_g", "weight_v")) for name in state) == 2
    torch.save(state, folder / "pytorch_model.bin")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "weights"
    _networks.clear()


def place(root: Path, kind: str) -> Path:
    return root / weights.WEIGHTS.get(KINDS[kind][0].weight).file


def write_all(root: Path) -> None:
    """Write a folder of every network."""
    for kind in KINDS:
        network(kind).save_pretrained(place(root, kind))


def loaded(kind: str) -> SpeechUnits:
    units = KINDS[kind][0]()
    units.load("cpu")
    return units


def clip(seconds: float = 1.0, *, seed: int = 0) -> Audio:
    rng = np.random.default_rng(seed)
    return Audio((0.1 * rng.standard_normal(round(seconds * 16_000))).astype(np.float32), 16_000)


def hidden(net: Any, sound: Audio, layer: int) -> Any:
    with torch.inference_mode():
        wave = torch.from_numpy(sound.samples)[None]
        return net(wave, output_hidden_states=True).hidden_states[layer][0]


# The layer


@pytest.mark.parametrize("layout", ["old", "new"])
@pytest.mark.parametrize("kind", KINDS)
def test_units_are_the_layers_directions(kind: str, layout: str, root: Path) -> None:
    net = network(kind)
    if layout == "old":
        old_layout(net, place(root, kind))
    else:
        net.save_pretrained(place(root, kind))
    units = loaded(kind)
    for seconds in (0.25, 1.03):
        expected = hidden(net, clip(seconds), units.layer).double().numpy()
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        (found,) = units([clip(seconds)])
        assert found.dtype == np.float16
        assert found.shape == (len(expected), 24)
        np.testing.assert_allclose(found, expected, atol=5e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_layer_and_its_neighbours_are_told_apart(kind: str, root: Path) -> None:
    layer = KINDS[kind][0].layer
    net = network(kind, num_hidden_layers=layer)
    net.save_pretrained(place(root, kind))
    (found,) = loaded(kind)([clip()])
    cosines = []
    for other in (layer - 1, layer):
        expected = torch.nn.functional.normalize(hidden(net, clip(), other), dim=1).numpy()
        cosines.append(float((found * expected).sum(1).mean()))
    assert cosines[0] < 0.999 < cosines[1]


def test_layers_that_are_not_needed_are_dropped(root: Path) -> None:
    network("wavlm").save_pretrained(place(root, "wavlm"))
    assert len(loaded("wavlm")._net.encoder.layers) == 15


def test_a_batch_is_clips_one_by_one(root: Path) -> None:
    network("wavlm").save_pretrained(place(root, "wavlm"))
    units = loaded("wavlm")
    clips = [clip(0.8), clip(0.3, seed=1), clip(0.5, seed=2)]
    for together, alone in zip(units(clips), clips, strict=True):
        np.testing.assert_array_equal(together, units([alone])[0])


def test_a_network_of_too_few_layers_is_refused(root: Path) -> None:
    network("hubert", num_hidden_layers=7).save_pretrained(place(root, "hubert"))
    with pytest.raises(WeightsMismatch, match="have 7 layers, the metric looks at layer 8"):
        loaded("hubert")


def test_a_network_that_lacks_values_is_refused(root: Path) -> None:
    folder = place(root, "wavlm")
    old_layout(network("wavlm"), folder)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del state["encoder.layers.3.attention.k_proj.weight"]
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(WeightsMismatch, match=r"layers\.3\.attention\.k_proj\.weight"):
        loaded("wavlm")


def test_missing_weights_say_where_they_are(root: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"huggingface\.co/microsoft/wavlm-large/resolve/main"):
        weights.locate(WavLMLarge14.weight)
    folder = place(root, "hubert")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(WeightsMissing, match=r"lacks model\.safetensors\|pytorch_model\.bin"):
        weights.locate(HubertBase8.weight)


def test_what_cannot_be_seen_is_named(root: Path) -> None:
    network("wavlm").save_pretrained(place(root, "wavlm"))
    units = loaded("wavlm")
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 48000"):
        units([Audio(clip().samples, 48_000)])
    with pytest.raises(NonfiniteOutput, match="layer 14 of wavlm/wavlm-large"):
        units([Audio(np.full(8000, np.nan, np.float32), 16_000)])


# The score


def by_hand(g: np.ndarray, r: np.ndarray) -> tuple[float, float]:
    """Precision and recall, vector by vector."""
    near = np.array([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in r] for a in g])
    return float(np.mean([row.max() for row in near])), float(
        np.mean([row.max() for row in near.T])
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_the_score_by_hand(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    g, r = rng.standard_normal((n, 6)), rng.standard_normal((m, 6))
    assert bert_score(g, r) == pytest.approx(by_hand(g, r))
    assert bert_score(r, g) == pytest.approx(by_hand(g, r)[::-1])
    assert bert_score(7 * g, r[::-1]) == pytest.approx(by_hand(g, r))


def test_what_is_contained_has_precision_one_and_less_recall() -> None:
    r = np.eye(4)
    assert bert_score(r[:3], r) == (1.0, 0.75)
    record = metrics._score(r[[2, 0, 1]].astype(np.float16), r.astype(np.float16))
    assert record.value == 1.0
    assert record.info["recall"] == 0.75
    assert record.info["f1"] == pytest.approx(1.5 / 1.75)
    assert (record.info["n_frames"], record.info["n_frames_reference"]) == (3, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_clips_score_as_their_hidden_states_do(kind: str, root: Path, tmp_path: Path) -> None:
    units, metric, _ = KINDS[kind]
    net = network(kind)
    net.save_pretrained(place(root, kind))
    sounds = {"generated": clip(0.7), "reference": clip(0.9, seed=3)}
    seen, states = {}, {}
    for role, item in metric.views.items():
        media.write_wav(tmp_path / f"{role}.wav", sounds[role])
        written = media.read_audio(Clip(str(tmp_path / f"{role}.wav")), rate=16_000)
        (seen[role],) = see(item, [Clip(str(tmp_path / f"{role}.wav"))])
        states[role] = hidden(net, written, units.layer).double().numpy()
    record = metric(**seen)
    precision, recall = by_hand(states["generated"], states["reference"])
    assert record.value == pytest.approx(precision, abs=1e-4)
    assert record.info["recall"] == pytest.approx(recall, abs=1e-4)
    assert record.value < 0.999
    assert metric(seen["generated"], seen["generated"]).value == pytest.approx(1, abs=1e-6)
