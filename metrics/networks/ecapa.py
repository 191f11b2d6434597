"""ECAPA-TDNN: speaker embedding over 80 mel bands by dilated convolutions and attentive pooling.

Front end and network are those of SpeechBrain's `spkrec-ecapa-voxceleb`, whose checkpoint is read
here without SpeechBrain (which needs a torchaudio that does not import beside a CPU-only torch).
Of the published folder only ``embedding_model.ckpt`` is read: ``hyperparams.yaml`` says what is
written here, and ``mean_var_norm_emb.ckpt`` belongs to `encode_batch(normalize=True)`, which is
another number. Clips go through one by one: padding a batch would change them.

Source: speechbrain/speechbrain; Desplanques et al., Interspeech 2020.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope import weights
from phonoscope.metrics.networks import checkpoints
from phonoscope.metrics.networks.inference import alone
from phonoscope.metrics.speech import RATE, require_rate
from phonoscope.types import Audio

Floats: TypeAlias = NDArray[np.float32]

N_FFT, HOP, BANDS = 400, 160, 80
FLOOR, RANGE_DB = 1e-10, 80.0

CHANNELS, AGGREGATED, WIDTH = 1024, 3072, 192
SCALE = 8
SQUEEZED = ATTENTION = 128
DILATIONS = (2, 3, 4)
LEAST_VARIANCE = 1e-12


@functools.cache
def mel_bands() -> NDArray[np.float64]:
    """Return SpeechBrain's filters, shape (201, 80): symmetric triangles over frequency."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, N_FFT // 2 + 1)[:, None]
    slope = (bins - edges[1:-1]) / (edges[1:-1] - edges[:-2])
    filters: NDArray[np.float64] = np.maximum(0, 1 - np.abs(slope))
    return filters


def features(sound: Audio) -> Floats:
    """Return what the network sees: mel bands in dB less their mean over time, (frames, 80).

    Nothing is lower than 80 dB below the loudest band of the clip.
    """
    require_rate(sound, RATE)
    padded = np.pad(sound.samples, N_FFT // 2)
    seen = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    hamming = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    power = np.square(np.abs(np.fft.rfft(seen * hamming)))
    level = 10 * np.log10(np.maximum(power @ mel_bands(), FLOOR))
    level = np.maximum(level, level.max() - RANGE_DB)
    centred: Floats = (level - level.mean(0)).astype(np.float32)
    return centred


def _conv(before: int, after: int, kernel: int = 1, dilation: int = 1) -> Any:
    from torch import nn

    reach = dilation * (kernel - 1) // 2
    mode = "reflect" if reach else "zeros"
    return nn.Conv1d(before, after, kernel, dilation=dilation, padding=reach, padding_mode=mode)


def _tdnn(before: int, after: int, kernel: int = 1, dilation: int = 1) -> Any:
    from torch import nn

    conv = _conv(before, after, kernel, dilation)
    return nn.ModuleDict({"conv": conv, "norm": nn.BatchNorm1d(after)})


def _se_res2net(dilation: int) -> Any:
    from torch import nn

    part = CHANNELS // SCALE
    inner = nn.ModuleList(_tdnn(part, part, 3, dilation) for _ in range(SCALE - 1))
    squeeze = {"conv1": _conv(CHANNELS, SQUEEZED), "conv2": _conv(SQUEEZED, CHANNELS)}
    return nn.ModuleDict(
        {
            "tdnn1": _tdnn(CHANNELS, CHANNELS),
            "res2net_block": nn.ModuleDict({"blocks": inner}),
            "tdnn2": _tdnn(CHANNELS, CHANNELS),
            "se_block": nn.ModuleDict(squeeze),
        }
    )


def build() -> Any:
    """Return the untrained network as torch modules, under the names of the published file."""
    from torch import nn

    blocks = [_tdnn(BANDS, CHANNELS, 5), *map(_se_res2net, DILATIONS)]
    pooling = {"tdnn": _tdnn(3 * AGGREGATED, ATTENTION), "conv": _conv(ATTENTION, AGGREGATED)}
    return nn.ModuleDict(
        {
            "blocks": nn.ModuleList(blocks),
            "mfa": _tdnn(len(DILATIONS) * CHANNELS, AGGREGATED),
            "asp": nn.ModuleDict(pooling),
            "asp_bn": nn.BatchNorm1d(2 * AGGREGATED),
            "fc": _conv(2 * AGGREGATED, WIDTH),
        }
    )


def _place(name: str) -> str:
    """Return the name of a value here: SpeechBrain wraps each layer in one of its own."""
    return re.sub(r"\.(conv|norm)\.(\w+)$", r".\2", name)


def read(path: Path, device: str) -> Any:
    """Return the network of the published file, on `device`.

    Raises
    ------
    ValueError
        If the file holds another architecture.
    """
    state = {_place(name): value for name, value in checkpoints.read(path).items()}
    return checkpoints.fill(build(), state, path=path).to(device)


def _run(layer: Any, x: Any) -> Any:
    from torch.nn import functional

    return layer["norm"](functional.relu(layer["conv"](x)))


def _run_block(block: Any, x: Any) -> Any:
    import torch

    parts = list(_run(block["tdnn1"], x).chunk(SCALE, 1))
    for i, layer in enumerate(block["res2net_block"]["blocks"], 1):
        parts[i] = _run(layer, parts[i] + parts[i - 1] if i > 1 else parts[i])
    y = _run(block["tdnn2"], torch.cat(parts, 1))
    squeeze = block["se_block"]
    gate = squeeze["conv2"](torch.relu(squeeze["conv1"](y.mean(2, keepdim=True))))
    return torch.sigmoid(gate) * y + x


def _statistics(x: Any, share: Any) -> tuple[Any, Any]:
    mean = (share * x).sum(2, keepdim=True)
    return mean, (share * (x - mean) ** 2).sum(2, keepdim=True).clamp(LEAST_VARIANCE).sqrt()


def embed(net: Any, feats: Any) -> Any:
    """Return embeddings: (clips, frames, 80) to (clips, 192)."""
    import torch

    x = _run(net["blocks"][0], feats.transpose(1, 2))
    levels = []
    for block in net["blocks"][1:]:
        x = _run_block(block, x)
        levels.append(x)
    x = _run(net["mfa"], torch.cat(levels, 1))
    whole = [part.expand_as(x) for part in _statistics(x, torch.ones_like(x) / x.shape[2])]
    seen = torch.tanh(_run(net["asp"]["tdnn"], torch.cat([x, *whole], 1)))
    share = net["asp"]["conv"](seen).softmax(2)
    return net["fc"](net["asp_bn"](torch.cat(_statistics(x, share), 1))).squeeze(2)


class Ecapa:
    """Embedding by SpeechBrain's `spkrec-ecapa-voxceleb`: float32, shape (192,), not normalised."""

    weight = weights.register(
        weights.Weight(
            name="speechbrain/spkrec-ecapa-voxceleb",
            file="speechbrain/spkrec-ecapa-voxceleb/embedding_model.ckpt",
            bytes=0,
            sha256="",
            licence="Apache-2.0",
            origin="https://huggingface.co/speechbrain/spkrec-ecapa-voxceleb/resolve/main/"
            "embedding_model.ckpt",
        ),
        origin=__name__,
    ).name

    def load(self, device: str) -> None:
        """Read the weights onto `device` ("cpu", "cuda", "cuda:0")."""
        self._net, self._device = read(weights.locate(self.weight), device), device

    def __call__(self, batch: list[Audio]) -> list[Floats]:
        """Return the embedding of each clip of 16 kHz mono sound.

        Raises
        ------
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        forward = functools.partial(embed, self._net)
        return [alone(forward, features(sound), self._device) for sound in batch]
