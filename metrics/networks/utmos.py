"""UTMOS, strong learner of 2022: predicted naturalness of speech without a reference.

A wav2vec 2.0 base encoder sees the raw waveform; each of its frames, with one embedding of the
data domain and one of the listener, goes through a bidirectional LSTM and two linear layers; the
mean over time, doubled and shifted by 3, is the score. Domain and listener are part of the
published file, which is read strictly.

Nothing is masked, so clips go through one at a time: what a batch adds behind the shorter ones
would change their scores.

Source: tarepan/SpeechMOS `utmos22_strong`, made of sarulab-speech/UTMOS22; Saeki et al.,
Interspeech 2022; Baevski et al., NeurIPS 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonoscope import weights
from phonoscope.errors import NonfiniteOutput
from phonoscope.metrics.networks import checkpoints
from phonoscope.metrics.networks.inference import exact
from phonoscope.metrics.speech import RATE, require_rate
from phonoscope.types import Audio

WEIGHT = weights.register(
    weights.Weight(
        name="utmos/utmos22_strong",
        file="utmos/utmos22_strong_step7459_v1.pt",
        bytes=0,
        sha256="",
        licence="MIT",
        origin="https://github.com/tarepan/SpeechMOS/releases/download/v1.0.0/"
        "utmos22_strong_step7459_v1.pt",
    ),
    origin=__name__,
).name

# Kernel and stride of the encoder's convolutions: a frame every 20 ms that sees 25 ms.
CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the network is; the defaults are the published ones."""

    channels: int = 512
    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    position_kernel: int = 128
    position_groups: int = 16
    embedding: int = 128
    hidden: int = 512
    projected: int = 2048


PUBLISHED = Sizes()


def build(sizes: Sizes = PUBLISHED) -> Any:
    """Return the untrained network as torch modules, under the names of the published file."""
    import torch
    from torch import nn

    net = nn.ModuleDict({"wav2vec2": _wav2vec2(sizes)})
    for name in ("domain_emb", "judge_emb"):
        net.register_parameter(name, nn.Parameter(torch.empty(1, sizes.embedding)))
    net["blstm"] = nn.LSTM(
        sizes.width + 2 * sizes.embedding, sizes.hidden, batch_first=True, bidirectional=True
    )
    net["projection"] = nn.Sequential(
        nn.Linear(2 * sizes.hidden, sizes.projected), nn.ReLU(), nn.Linear(sizes.projected, 1)
    )
    return net


def _wav2vec2(sizes: Sizes) -> Any:
    from torch import nn

    convolutions = nn.ModuleList()
    for i, (kernel, stride) in enumerate(CONVOLUTIONS):
        before = sizes.channels if i else 1
        layer = {"0": nn.Conv1d(before, sizes.channels, kernel, stride=stride, bias=False)}
        if not i:
            layer["2"] = nn.GroupNorm(sizes.channels, sizes.channels)
        convolutions.append(nn.ModuleDict(layer))
    return nn.ModuleDict(
        {
            "feature_extractor": nn.ModuleDict({"conv_layers": convolutions}),
            "layer_norm": nn.LayerNorm(sizes.channels),
            "post_extract_proj": nn.Linear(sizes.channels, sizes.width),
            "encoder": _encoder(sizes),
        }
    )


def _encoder(sizes: Sizes) -> Any:
    from torch import nn

    position = nn.Conv1d(
        sizes.width,
        sizes.width,
        sizes.position_kernel,
        padding=sizes.position_kernel // 2,
        groups=sizes.position_groups,
    )
    return nn.ModuleDict(
        {
            "pos_conv": nn.ModuleDict({"0": position}),
            "layer_norm": nn.LayerNorm(sizes.width),
            "layers": nn.ModuleList(_layer(sizes) for _ in range(sizes.layers)),
        }
    )


def _layer(sizes: Sizes) -> Any:
    from torch import nn

    names = ("k_proj", "v_proj", "q_proj", "out_proj")
    return nn.ModuleDict(
        {
            "self_attn": nn.ModuleDict({n: nn.Linear(sizes.width, sizes.width) for n in names}),
            "self_attn_layer_norm": nn.LayerNorm(sizes.width),
            "fc1": nn.Linear(sizes.width, sizes.inner),
            "fc2": nn.Linear(sizes.inner, sizes.width),
            "final_layer_norm": nn.LayerNorm(sizes.width),
        }
    )


def read(path: Path, device: str, *, sizes: Sizes = PUBLISHED) -> Any:
    """Return the network of a published file, on `device`.

    Raises
    ------
    ValueError
        If the file holds another architecture; every value must find its place.
    """
    import torch

    with torch.device("meta"):  # nothing is drawn at random that the file replaces
        net = build(sizes)
    state = _plain(checkpoints.read(path))
    return checkpoints.fill(net.to_empty(device="cpu"), state, path=path).to(device)


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return the values without what training alone needs, weight normalisation multiplied out."""
    place = "wav2vec2.encoder.pos_conv.0.weight"
    plain = {name: value for name, value in state.items() if name != "wav2vec2.mask_emb"}
    if {f"{place}_g", f"{place}_v"} <= plain.keys():
        length, direction = plain.pop(f"{place}_g"), plain.pop(f"{place}_v")
        plain[place] = direction * (length / direction.norm(dim=(0, 1), keepdim=True))
    return plain


def encode(net: Any, wave: Any, *, heads: int = PUBLISHED.heads) -> Any:
    """Return the frames of wav2vec 2.0: waveforms (clips, samples) to (clips, frames, width).

    Parameters
    ----------
    net : ModuleDict
        The part `wav2vec2` of the network.
    wave : Tensor
        As it is: not normalised.
    heads : int
    """
    from torch.nn.functional import gelu

    x = wave[:, None]
    for layer in net["feature_extractor"]["conv_layers"]:
        x = layer["0"](x)
        x = gelu(layer["2"](x) if "2" in layer else x)
    x = net["post_extract_proj"](net["layer_norm"](x.transpose(1, 2)))
    encoder = net["encoder"]
    positions = gelu(encoder["pos_conv"]["0"](x.transpose(1, 2))[..., : x.shape[1]])
    x = encoder["layer_norm"](x + positions.transpose(1, 2))
    for layer in encoder["layers"]:
        x = layer["self_attn_layer_norm"](x + attend(layer["self_attn"], x, heads))
        x = layer["final_layer_norm"](x + layer["fc2"](gelu(layer["fc1"](x))))
    return x


def attend(net: Any, x: Any, heads: int) -> Any:
    """Return what self-attention makes of frames, shape (clips, frames, width)."""
    from torch.nn.functional import scaled_dot_product_attention

    parts = (net[name](x) for name in ("q_proj", "k_proj", "v_proj"))
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
    seen = scaled_dot_product_attention(query, key, value)
    return net["out_proj"](seen.transpose(1, 2).flatten(2))


def score(net: Any, wave: Any, *, heads: int = PUBLISHED.heads) -> tuple[Any, int]:
    """Return the scores, shape (clips,), and how many frames they are means of."""
    import torch

    frames = encode(net["wav2vec2"], wave, heads=heads)
    fixed = torch.cat([net.domain_emb, net.judge_emb], dim=1)
    x = torch.cat([frames, fixed.expand(*frames.shape[:2], -1)], dim=2)
    per_frame = net["projection"](net["blstm"](x)[0]).squeeze(2)
    return per_frame.mean(dim=1) * 2 + 3, frames.shape[1]


class Utmos:
    """The score of a clip as ``mos``, about 1 to 5 and not clamped, and ``n_frames``."""

    weight = WEIGHT

    def load(self, device: str) -> None:
        """Read the weights onto `device` ("cpu", "cuda", "cuda:0")."""
        self._net, self._device = read(weights.locate(self.weight), device), device

    def __call__(self, batch: list[Audio]) -> list[dict[str, float]]:
        """Return the score of each clip of 16 kHz mono sound, one at a time.

        Raises
        ------
        NonfiniteOutput
            If the network gave a NaN.
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        return [self._score(sound) for sound in batch]

    def _score(self, sound: Audio) -> dict[str, float]:
        import torch

        require_rate(sound, RATE)
        wave = torch.from_numpy(sound.samples.astype("float32")).to(self._device)
        with exact(self._device):
            scores, n_frames = score(self._net, wave[None])
        mos = float(scores[0])
        if not math.isfinite(mos):
            raise NonfiniteOutput(f"the UTMOS network gave {mos}")
        return {"mos": mos, "n_frames": n_frames}
