"""XVectorSincNet: pyannote's speaker embedding of the raw waveform.

Band-pass filters whose edges were learned (SincNet), two convolutions, five time-delay layers, mean
and standard deviation over time. The checkpoint of `pyannote/embedding` is read here without
pyannote.audio, which would run what is pickled in it, and needs a torchaudio that does not import
beside a CPU-only torch. The whole clip is one window.

Source: pyannote/pyannote-audio; Ravanelli and Bengio, SLT 2018; Snyder et al., ICASSP 2018.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope import weights
from phonoscope.errors import TooShort
from phonoscope.metrics.networks import checkpoints
from phonoscope.metrics.networks.inference import alone
from phonoscope.metrics.speech import RATE, require_rate
from phonoscope.types import Audio

Floats: TypeAlias = NDArray[np.float32]

KERNEL, STRIDE, FILTERS = 251, 10, 80
LEAST_HZ = 50.0
CONVS = ((FILTERS, 60), (60, 60))
CONV_KERNEL = 5
POOL = 3
# (channels, kernel, dilation)
TDNNS = ((512, 5, 1), (512, 3, 2), (512, 3, 3), (512, 1, 1), (1500, 1, 1))
WIDTH = 512
SINC = "sincnet.conv1d.0.filterbank."


def frames(n_samples: int) -> int:
    """Return over how many frames the network pools; only the clip's length matters."""
    n = (n_samples - KERNEL) // STRIDE + 1
    for _ in CONVS:
        n = n // POOL - CONV_KERNEL + 1
    n //= POOL
    return n - sum((kernel - 1) * dilation for _, kernel, dilation in TDNNS)


def sinc_filters(low: Any, band: Any, window: Any, times: Any) -> Any:
    """Return the band-pass filters, shape (80, 1, 251): 40 even ones, then 40 odd ones.

    Parameters
    ----------
    low, band : Tensor, shape (40, 1)
        Learned lower edge and width in Hz, each on top of 50 Hz.
    window, times : Tensor, shape (125,) and (1, 125)
        Left half of the window, and of the sampling times in radians per Hz.
    """
    import torch

    start = LEAST_HZ + low.abs()
    stop = (start + LEAST_HZ + band.abs()).clamp(LEAST_HZ, RATE / 2)
    width = stop - start
    even = ((stop * times).sin() - (start * times).sin()) / (times / 2) * window
    odd = ((start * times).cos() - (stop * times).cos()) / (times / 2) * window
    whole = [
        torch.cat([even, 2 * width, even.flip(1)], 1),
        torch.cat([odd, torch.zeros_like(width), -odd.flip(1)], 1),
    ]
    return torch.cat([part / (2 * width) for part in whole])[:, None]


def build() -> Any:
    """Return the untrained network as torch modules, the learned filters left out."""
    from torch import nn

    convs = {str(i): nn.Conv1d(a, b, CONV_KERNEL) for i, (a, b) in enumerate(CONVS, 1)}
    norms = [nn.InstanceNorm1d(n, affine=True) for n in (FILTERS, *(b for _, b in CONVS))]
    sincnet = {
        "wav_norm1d": nn.InstanceNorm1d(1, affine=True),
        "conv1d": nn.ModuleDict(convs),
        "norm1d": nn.ModuleList(norms),
    }
    layers: list[Any] = []
    before = CONVS[-1][1]
    for after, kernel, dilation in TDNNS:
        layers += [nn.Conv1d(before, after, kernel, dilation=dilation), nn.LeakyReLU()]
        layers.append(nn.BatchNorm1d(after))
        before = after
    return nn.ModuleDict(
        {
            "sincnet": nn.ModuleDict(sincnet),
            "tdnns": nn.ModuleList(layers),
            "embedding": nn.Linear(2 * before, WIDTH),
        }
    )


def read(path: Path, device: str) -> tuple[Any, Any]:
    """Return the network of pyannote's file and its filters, on `device`.

    Raises
    ------
    ValueError
        If the file holds another architecture.
    """
    state = checkpoints.read_lightning(path)
    learned = [state.pop(SINC + name, None) for name in ("low_hz_", "band_hz_", "window_", "n_")]
    if any(value is None for value in learned):
        raise ValueError(f"{path} holds another network than its name says (no SincNet filters)")
    net = checkpoints.fill(build(), state, path=path).to(device)
    return net, sinc_filters(*learned).to(device)


def embed(net: Any, filters: Any, waves: Any) -> Any:
    """Return embeddings: (clips, samples) to (clips, 512)."""
    import torch
    from torch.nn import functional

    sincnet = net["sincnet"]
    x = functional.conv1d(sincnet["wav_norm1d"](waves[:, None]), filters, stride=STRIDE).abs()
    for i, norm in enumerate(sincnet["norm1d"]):
        x = sincnet["conv1d"][str(i)](x) if i else x
        x = functional.leaky_relu(norm(functional.max_pool1d(x, POOL)))
    for layer in net["tdnns"]:
        x = layer(x)
    return net["embedding"](torch.cat([x.mean(-1), x.std(-1)], -1))


class XVectorSincNet:
    """Embedding by `pyannote/embedding`: float32, shape (512,), not normalised."""

    weight = weights.register(
        weights.Weight(
            name="pyannote/embedding",
            file="pyannote/embedding/pytorch_model.bin",
            bytes=0,
            sha256="",
            licence="MIT (gated: its conditions are accepted where it is kept)",
            origin="pytorch_model.bin of huggingface.co/pyannote/embedding, after accepting its "
            "conditions there",
        ),
        origin=__name__,
    ).name

    def load(self, device: str) -> None:
        """Read the weights onto `device` ("cpu", "cuda", "cuda:0")."""
        self._device = device
        self._net, self._filters = read(weights.locate(self.weight), device)

    def __call__(self, batch: list[Audio]) -> list[Floats]:
        """Return the embedding of each clip of 16 kHz mono sound.

        Raises
        ------
        TooShort
            With fewer than two frames to pool (5041 samples, 0.32 s, are enough): one has no
            standard deviation, and upstream gives NaN.
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        return [self._embed(sound) for sound in batch]

    def _embed(self, sound: Audio) -> Floats:
        require_rate(sound, RATE)
        n = frames(len(sound.samples))
        if n < 2:
            raise TooShort(f"too_short: {sound.seconds:.2f} s, XVectorSincNet needs 0.32 s")
        forward = functools.partial(embed, self._net, self._filters)
        return alone(forward, sound.samples.astype(np.float32), self._device)
