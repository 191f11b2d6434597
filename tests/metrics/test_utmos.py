"""UTMOS: the published file's layout, the encoder against transformers', the head by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phonoscope import media, weights
from phonoscope.errors import NonfiniteOutput, WeightsMissing
from phonoscope.metrics import utmos as metrics
from phonoscope.metrics.networks import utmos
from phonoscope.metrics.networks.utmos import PUBLISHED, Sizes, Utmos
from phonoscope.types import Audio, Clip
from phonoscope.views import _networks, see

torch = pytest.importorskip("torch", reason="UTMOS needs the extra `torch`")

TINY = Sizes(
    channels=8,
    width=24,
    layers=3,
    heads=4,
    inner=40,
    position_kernel=16,
    position_groups=4,
    embedding=5,
    hidden=7,
    projected=11,
)
FILE = "utmos/utmos22_strong_step7459_v1.pt"


def layout(sizes: Sizes = PUBLISHED) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published file, spelled out."""
    c, w, h = sizes.channels, sizes.width, sizes.hidden
    found: dict[str, tuple[int, ...]] = {
        "domain_emb": (1, sizes.embedding),
        "judge_emb": (1, sizes.embedding),
        "wav2vec2.mask_emb": (w,),
        "wav2vec2.feature_extractor.conv_layers.0.2.weight": (c,),
        "wav2vec2.feature_extractor.conv_layers.0.2.bias": (c,),
        "wav2vec2.encoder.pos_conv.0.bias": (w,),
        "wav2vec2.encoder.pos_conv.0.weight_g": (1, 1, sizes.position_kernel),
        "wav2vec2.encoder.pos_conv.0.weight_v": (
            *(w, w // sizes.position_groups, sizes.position_kernel),
        ),
        "projection.0.weight": (sizes.projected, 2 * h),
        "projection.0.bias": (sizes.projected,),
        "projection.2.weight": (1, sizes.projected),
        "projection.2.bias": (1,),
    }
    for i, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        name = f"wav2vec2.feature_extractor.conv_layers.{i}.0.weight"
        found[name] = (c, c if i else 1, kernel)
    for end in ("", "_reverse"):
        found |= {f"blstm.weight_ih_l0{end}": (4 * h, w + 2 * sizes.embedding)}
        found |= {f"blstm.weight_hh_l0{end}": (4 * h, h)}
        found |= {f"blstm.bias_{side}_l0{end}": (4 * h,) for side in ("ih", "hh")}
    pairs = {"layer_norm": (c,), "post_extract_proj": (w, c), "encoder.layer_norm": (w,)}
    for i in range(sizes.layers):
        inside = {f"self_attn.{part}_proj": (w, w) for part in ("q", "k", "v", "out")}
        inside |= {"self_attn_layer_norm": (w,), "final_layer_norm": (w,)}
        inside |= {"fc1": (sizes.inner, w), "fc2": (w, sizes.inner)}
        pairs |= {f"encoder.layers.{i}.{name}": shape for name, shape in inside.items()}
    for name, shape in pairs.items():
        found[f"wav2vec2.{name}.weight"], found[f"wav2vec2.{name}.bias"] = shape, shape[:1]
    return found


def drawn(sizes: Sizes = TINY, *, seed: int = 0) -> dict[str, Any]:
    """Values for all names, large enough that every part of the network matters."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in layout(sizes).items():
        spread = 1 / math.sqrt(math.prod(shape[1:]) or 1) if len(shape) > 1 else 0.3
        middle = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        spread = 1.0 if name.endswith("_emb") else spread
        state[name] = middle + spread * torch.randn(shape, generator=generator)
    return state


@pytest.fixture
def tiny(tmp_path: Path) -> Any:
    """A small network through the same door, and its values."""
    state = drawn()
    torch.save(state, tmp_path / "tiny.pt")
    return utmos.read(tmp_path / "tiny.pt", "cpu", sizes=TINY), state


def wave(seconds: float = 1.0, *, seed: int = 0) -> Any:
    return 0.1 * torch.randn(
        1, round(16_000 * seconds), generator=torch.Generator().manual_seed(seed)
    )


# The file


def test_the_published_file_has_these_values() -> None:
    """As upstream's own module counts them."""
    assert len(layout()) == 225
    assert sum(math.prod(shape) for shape in layout().values()) == 102_772_865
    with torch.device("meta"):
        net = utmos.build()
    ours = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    gone = {"wav2vec2.mask_emb"} | {f"wav2vec2.encoder.pos_conv.0.weight_{x}" for x in "gv"}
    assert {n: s for n, s in layout().items() if n not in gone} == {
        n: s for n, s in ours.items() if n != "wav2vec2.encoder.pos_conv.0.weight"
    }
    assert ours["wav2vec2.encoder.pos_conv.0.weight"] == (768, 48, 128)


@pytest.mark.parametrize(
    "name",
    ["domain_emb", "wav2vec2.encoder.pos_conv.0.weight_g", "wav2vec2.encoder.layers.2.fc1.bias"],
)
def test_every_value_must_be_there(name: str, tmp_path: Path) -> None:
    state = drawn()
    del state[name]
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(ValueError, match=r"part\.pt holds another network"):
        utmos.read(tmp_path / "part.pt", "cpu", sizes=TINY)


def test_a_file_of_other_sizes_or_names_is_refused(tmp_path: Path) -> None:
    torch.save(drawn(replace(TINY, layers=4)), tmp_path / "more.pt")
    torch.save(drawn(replace(TINY, inner=48)), tmp_path / "wider.pt")
    for name in ("more", "wider"):
        with pytest.raises(ValueError, match=f"{name}.pt holds another network"):
            utmos.read(tmp_path / f"{name}.pt", "cpu", sizes=TINY)


# The network


def transformers_names(state: dict[str, Any]) -> dict[str, Any]:
    """The encoder's values under the names of Hugging Face transformers."""
    changes = [
        ("self_attn.", "attention."),
        ("self_attn_layer_norm", "layer_norm"),
        ("fc1", "feed_forward.intermediate_dense"),
        ("fc2", "feed_forward.output_dense"),
        ("post_extract_proj", "feature_projection.projection"),
        ("pos_conv.0.weight_g", "pos_conv_embed.conv.parametrizations.weight.original0"),
        ("pos_conv.0.weight_v", "pos_conv_embed.conv.parametrizations.weight.original1"),
        ("pos_conv.0", "pos_conv_embed.conv"),
        ("mask_emb", "masked_spec_embed"),
    ]
    found = {}
    for name, value in state.items():
        if not name.startswith("wav2vec2."):
            continue
        name = name.removeprefix("wav2vec2.")
        if name.startswith("layer_norm"):
            name = f"feature_projection.{name}"
        if "conv_layers" in name:
            name = name.replace(".0.weight", ".conv.weight").replace(".0.2.", ".0.layer_norm.")
        for old, new in changes:
            name = name.replace(old, new)
        found[name] = value
    return found


def test_the_encoder_is_wav2vec2(tiny: Any) -> None:
    transformers = pytest.importorskip("transformers")
    net, state = tiny
    config = transformers.Wav2Vec2Config(
        hidden_size=TINY.width,
        num_hidden_layers=TINY.layers,
        num_attention_heads=TINY.heads,
        intermediate_size=TINY.inner,
        conv_dim=(TINY.channels,) * 7,
        num_conv_pos_embeddings=TINY.position_kernel,
        num_conv_pos_embedding_groups=TINY.position_groups,
    )
    theirs = transformers.Wav2Vec2Model(config).eval()
    theirs.load_state_dict(transformers_names(state), strict=True)
    for seconds in (0.25, 1.0, 1.53):
        with torch.inference_mode():
            expected = theirs(wave(seconds)).last_hidden_state
            found = utmos.encode(net["wav2vec2"], wave(seconds), heads=TINY.heads)
        assert expected.std() > 0.3
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(x: np.ndarray, state: dict[str, Any], end: str) -> np.ndarray:
    """One direction of an LSTM, step by step: shape (frames, hidden)."""
    value = {
        name: state[f"blstm.{name}_l0{end}"].double().numpy() for name in ("weight_ih", "weight_hh")
    }
    bias = sum(state[f"blstm.bias_{side}_l0{end}"].double().numpy() for side in ("ih", "hh"))
    hidden, cell, found = np.zeros(TINY.hidden), np.zeros(TINY.hidden), []
    for frame in x:
        gates = value["weight_ih"] @ frame + value["weight_hh"] @ hidden + bias
        keep_in, forget, new, out = np.split(gates, 4)
        cell = sigmoid(forget) * cell + sigmoid(keep_in) * np.tanh(new)
        hidden = sigmoid(out) * np.tanh(cell)
        found.append(hidden)
    return np.stack(found)


def test_the_head_is_a_mean_over_frames(tiny: Any) -> None:
    net, state = tiny
    with torch.inference_mode():
        frames = utmos.encode(net["wav2vec2"], wave(), heads=TINY.heads)[0].double().numpy()
        scores, n_frames = utmos.score(net, wave(), heads=TINY.heads)
    fixed = np.concatenate(
        [state[name][0].double().numpy() for name in ("domain_emb", "judge_emb")]
    )
    x = np.concatenate([frames, np.tile(fixed, (len(frames), 1))], axis=1)
    x = np.concatenate([lstm(x, state, ""), lstm(x[::-1], state, "_reverse")[::-1]], axis=1)
    value = {n: v.double().numpy() for n, v in state.items() if n.startswith("projection")}
    x = np.maximum(x @ value["projection.0.weight"].T + value["projection.0.bias"], 0)
    per_frame = x @ value["projection.2.weight"][0] + value["projection.2.bias"]
    assert float(scores[0]) == pytest.approx(per_frame.mean() * 2 + 3, abs=1e-4)
    assert n_frames == len(frames) == 49


def test_different_clips_get_different_scores(tiny: Any) -> None:
    net, _ = tiny
    with torch.inference_mode():
        found = [float(utmos.score(net, wave(seed=s), heads=TINY.heads)[0]) for s in range(3)]
    assert len({round(score, 3) for score in found}) == 3


# The view


def write_published(root: Path) -> None:
    """Write a file of the published layout at full size, of few values that repeat."""
    (root / "utmos").mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in layout().items():
        middle = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        state[name] = (middle + 0.02 * torch.randn(shape[-1:], generator=generator)).expand(shape)
    torch.save(state, root / FILE)
    assert (root / FILE).stat().st_size < 4e6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    write_published(root)
    return root


@pytest.fixture
def network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Utmos]:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(folder))
    loaded = Utmos()
    loaded.load("cpu")
    yield loaded
    _networks.clear()


def clip(seconds: float, *, seed: int = 0) -> Audio:
    return Audio(wave(seconds, seed=seed)[0].numpy(), 16_000)


def test_the_full_network_scores_a_clip(network: Utmos, tmp_path: Path) -> None:
    media.write_wav(tmp_path / "a.wav", clip(0.5))
    (seen,) = see(metrics.utmos_scores, [Clip(str(tmp_path / "a.wav"))])
    assert seen["n_frames"] == 24
    record = metrics.utmos(generated=seen)
    assert record.value == seen["mos"]
    assert record.info == {"n_frames": 24}
    assert (weights.locate(Utmos.weight).parent / f"{Path(FILE).name}.sha256").is_file()


def test_a_batch_is_clips_one_by_one(network: Utmos) -> None:
    long, short = clip(0.6), clip(0.3, seed=1)
    assert network([long, short]) == [*network([long]), *network([short])]
    assert network([short, long]) == network([long, short])[::-1]


def test_nothing_is_clamped_and_a_nan_is_no_score(network: Utmos) -> None:
    with torch.no_grad():
        network._net["projection"][2].bias.fill_(10.0)
    assert network([clip(0.25)])[0]["mos"] > 20
    with torch.no_grad():
        network._net["projection"][2].bias.fill_(math.nan)
    with pytest.raises(NonfiniteOutput, match="UTMOS"):
        network([clip(0.25)])


def test_another_rate_is_a_programming_error(network: Utmos) -> None:
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 48000"):
        network([Audio(np.ones(48_000, np.float32), 48_000)])


def test_missing_weights_say_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path))
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    with pytest.raises(
        WeightsMissing, match=r"tarepan/SpeechMOS/releases.*utmos22_strong_step7459"
    ):
        weights.locate(Utmos.weight)
