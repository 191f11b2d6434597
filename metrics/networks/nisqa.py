"""NISQA v2.0: quality of transmitted speech without a reference, in five dimensions.

The sound is seen as 48 mel bands in dB, cut into segments of 15 frames every 4 frames. A small
convolutional network looks at each segment, two layers of self-attention look along the segments,
and one attention pooling per dimension makes a number. The published file is read strictly.

A clip's spectrum follows its own rate, so rate and resampler belong to a score's name. Upstream
pads every clip to 1300 segments and masks what it added; here nothing is computed for padding but
that of a batch's shorter clips, and their mask gives the same numbers.

Source: gabrielmittag/NISQA; Mittag et al., Interspeech 2021.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from phonoscope import media, weights
from phonoscope.errors import NonfiniteOutput, SpecError, TooLong, TooShort
from phonoscope.metrics.networks.inference import exact
from phonoscope.metrics.odf import mel_bands
from phonoscope.metrics.speech import RATE, require_rate
from phonoscope.types import Audio

Floats: TypeAlias = NDArray[np.float32]
Output: TypeAlias = dict[str, float]
Resample = Literal["none", "48k"]

DIMENSIONS = ("mos", "noi", "dis", "col", "loud")

HOP_SECONDS, WINDOW_SECONDS = 0.01, 0.02
N_FFT = 4096
BANDS = 48
TOP_HZ = 20_000.0
FLOOR = 1e-4
RANGE_DB = 80.0

FRAMES = 15
FRAMES_STEP = 4
MOST_SEGMENTS = 1300

CHANNELS = (16, 32, 64, 64, 64, 64)
POOLS = {0: (24, 7), 1: (12, 5), 3: (6, 3)}
WIDTH = 64
LAYERS = 2
HIDDEN = 64
POOL_HIDDEN = 128
SEGMENTS_AT_ONCE = 128


def register(name: str, size: int, sha256: str) -> str:
    """Add a published file to the table of weights; return its name there."""
    root = "https://github.com/gabrielmittag/NISQA/raw/refs/heads/master/weights"
    row = weights.Weight(
        name=f"nisqa/{name}",
        file=f"nisqa/{name}.tar",
        bytes=size,
        sha256=sha256,
        licence="CC BY-NC-SA 4.0",
        origin=f"{root}/{name}.tar",
        noncommercial=True,
    )
    return weights.register(row, origin=__name__).name


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """How a clip is cut: spectrogram frames every 10 ms, and segments of 15 frames every 4."""

    frames: int
    segments: int


def segment_plan(n_samples: int, *, rate: int, step: int = FRAMES_STEP) -> SegmentPlan:
    """Return how many frames and segments a clip has; only its length and rate matter."""
    frames = 1 + n_samples // int(rate * HOP_SECONDS)
    return SegmentPlan(frames, max(0, math.ceil((frames - FRAMES + 1) / step)))


def check_length(
    sound: Audio, *, step: int = FRAMES_STEP, most: int | None = MOST_SEGMENTS
) -> SegmentPlan:
    """Return the plan of a clip that the network can take.

    Parameters
    ----------
    sound : Audio
    step : int
        Frames from segment to segment.
    most : int or None
        Segments allowed. Upstream's limit is one of its padding, not of the network.

    Raises
    ------
    TooShort
        With fewer than 15 frames (2240 samples at 16 kHz are enough).
    TooLong
        With more than `most` segments (1300: from 834240 samples at 16 kHz, 52.14 s, on).
    """
    plan = segment_plan(len(sound.samples), rate=sound.rate, step=step)
    if not plan.segments:
        raise TooShort(f"too_short: {plan.frames} frames of 10 ms, NISQA needs {FRAMES}")
    if most is not None and plan.segments > most:
        longest = ((most - 1) * step + FRAMES + step - 1) * HOP_SECONDS
        raise TooLong(
            f"too_long: {sound.seconds:.2f} s are {plan.segments} segments, NISQA takes "
            f"{most} ({longest:.1f} s)"
        )
    return plan


@functools.lru_cache(maxsize=8)
def _bands(rate: int, top: float) -> Floats:
    return mel_bands(rate, N_FFT, BANDS, 0.0, top).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _hann(n: int) -> Floats:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)


def spectrogram(sound: Audio, *, top: float = TOP_HZ) -> Floats:
    """Return the mel spectrogram of magnitudes in dB, no lower than 80 dB below its maximum.

    Equal to librosa's with centred frames, reflected ends and `n_fft` 4096. The window is far
    shorter than the transform, so only the samples under it are read.

    Parameters
    ----------
    sound : Audio
        Mono, at any rate, at least 10 ms.
    top : float
        Upper edge of the highest band, Hz. Bands above half the rate stay empty.

    Returns
    -------
    ndarray of float32, shape (frames, 48)
    """
    from scipy.fft import rfft  # in float32 a third faster than NumPy's

    hop, window = int(sound.rate * HOP_SECONDS), int(sound.rate * WINDOW_SECONDS)
    frames = segment_plan(len(sound.samples), rate=sound.rate).frames
    padded = np.pad(sound.samples.astype(np.float32, copy=False), (window + 1) // 2, mode="reflect")
    seen = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][:frames]
    out = np.empty((frames, BANDS), np.float32)
    for start in range(0, frames, SEGMENTS_AT_ONCE):
        part = slice(start, start + SEGMENTS_AT_ONCE)
        magnitude = np.abs(rfft(seen[part] * _hann(window), N_FFT)).astype(np.float32, copy=False)
        out[part] = 20 * np.log10(np.maximum(FLOOR, magnitude @ _bands(sound.rate, top)))
    floored: Floats = np.maximum(out, out.max() - np.float32(RANGE_DB))
    return floored


def segments(features: Floats, *, step: int = FRAMES_STEP) -> Floats:
    """Return what the network looks at: shape (segments, 48, 15), a view of (frames, 48)."""
    seen: Floats = np.lib.stride_tricks.sliding_window_view(features, FRAMES, axis=0)[::step]
    return seen


def build(heads: int) -> Any:
    """Return the untrained network as torch modules, under the names of the published file."""
    from torch import nn

    ends = zip((1, *CHANNELS), CHANNELS, strict=False)
    cnn = {}
    for i, (a, b) in enumerate(ends, 1):
        cnn[f"conv{i}"] = nn.Conv2d(a, b, 3, padding=(1, 0 if i == len(CHANNELS) else 1))
        cnn[f"bn{i}"] = nn.BatchNorm2d(b)
    attention = {
        "norm1": nn.LayerNorm(WIDTH),
        "linear": nn.Linear(CHANNELS[-1] * POOLS[3][0], WIDTH),
        "layers": nn.ModuleList(_layer() for _ in range(LAYERS)),
    }
    net = {"cnn": nn.ModuleDict(cnn), "time_dependency": nn.ModuleDict(attention)}
    net["pool_layers"] = nn.ModuleList(_pooling() for _ in range(heads))
    return nn.ModuleDict(net)


def _layer() -> Any:
    from torch import nn

    return nn.ModuleDict(
        {
            "self_attn": nn.MultiheadAttention(WIDTH, 1),
            "linear1": nn.Linear(WIDTH, HIDDEN),
            "linear2": nn.Linear(HIDDEN, WIDTH),
            "norm1": nn.LayerNorm(WIDTH),
            "norm2": nn.LayerNorm(WIDTH),
        }
    )


def _pooling() -> Any:
    from torch import nn

    return nn.ModuleDict(
        {
            "linear1": nn.Linear(WIDTH, POOL_HIDDEN),
            "linear2": nn.Linear(POOL_HIDDEN, 1),
            "linear3": nn.Linear(WIDTH, 1),
        }
    )


def read(path: Path, device: str) -> Any:
    """Return the network of a published file, on `device`, without training parts.

    Raises
    ------
    RuntimeError
        If the file holds another architecture; every value must find its place.
    """
    state = published(path)
    heads = len({name.split(".")[1] for name in state if name.startswith("pool_layers.")})
    return ready(build(heads), state, device)


def published(path: Path) -> dict[str, Any]:
    """Return the values of a published file, by their names here."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)["model_state_dict"]
    return {_place(name): value for name, value in state.items()}


def ready(net: Any, state: dict[str, Any], device: str) -> Any:
    """Return the network with its values, on `device`, normalisation folded into convolutions."""
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    net.load_state_dict(state, strict=True)
    net.eval().requires_grad_(False)
    cnn = net["cnn"]
    for i in range(1, len(CHANNELS) + 1):
        cnn[f"conv{i}"] = fuse_conv_bn_eval(cnn[f"conv{i}"], cnn.pop(f"bn{i}"))
    return net.to(device, memory_format=torch.channels_last)  # twice as fast on a CPU


def _place(name: str) -> str:
    """Return the name of a value here: a file of one dimension has one pooling, unnumbered."""
    name = name.replace(".model.", ".", 1)
    return name.replace("pool.", "pool_layers.0.", 1) if name.startswith("pool.") else name


def convolve(net: Any, batch: Any) -> Any:
    """Return the features of segments: shape (segments, 1, 48, 15) to (segments, 384)."""
    from torch.nn import functional

    for i in range(len(CHANNELS)):
        batch = functional.relu(net[f"conv{i + 1}"](batch), inplace=True)
        if i in POOLS:
            batch = functional.adaptive_max_pool2d(batch, POOLS[i])
    return batch.flatten(1)


def attend(net: Any, x: Any, real: Any) -> Any:
    """Return features that have seen their clip: (clips, segments, 384) to (..., 64).

    Parameters
    ----------
    net : ModuleDict
    x : Tensor
    real : Tensor of bool, shape (clips, segments)
        False where a clip was filled up to the length of the longest.
    """
    from torch.nn import functional

    x = net["norm1"](net["linear"](x))
    for layer in net["layers"]:
        own = layer["self_attn"]
        mixed = functional.linear(x, own.in_proj_weight, own.in_proj_bias)
        query, key, value = mixed.chunk(3, -1)
        mask = real[:, None, :]
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = layer["norm1"](x + own.out_proj(seen))
        x = layer["norm2"](x + layer["linear2"](functional.relu(layer["linear1"](x))))
    return x


def pool(net: Any, x: Any, real: Any) -> Any:
    """Return one number per clip and head: (clips, segments, 64) to (clips, heads)."""
    import torch
    from torch.nn import functional

    found = []
    for head in net:
        attention = head["linear2"](functional.relu(head["linear1"](x))).squeeze(-1)
        share = attention.masked_fill(~real, -math.inf).softmax(-1)
        found.append(head["linear3"](torch.einsum("cs,csw->cw", share, x)))
    return torch.cat(found, -1)


def infer(net: Any, clips: Sequence[Floats], device: str) -> NDArray[np.float64]:
    """Return the raw output for clips of segments, shape (clips, heads); nothing is clipped.

    Parameters
    ----------
    net : ModuleDict
        From `read`.
    clips : sequence of ndarray, shape (segments, 48, 15)
    device : str
    """
    import torch

    lengths = [len(clip) for clip in clips]
    with exact(device):
        features = [convolve(net["cnn"], part) for clip in clips for part in parts(clip, device)]
        x = torch.nn.utils.rnn.pad_sequence(torch.cat(features).split(lengths), batch_first=True)
        real = torch.arange(max(lengths), device=device) < torch.tensor(lengths)[:, None].to(device)
        raw = pool(net["pool_layers"], attend(net["time_dependency"], x, real), real)
        result: NDArray[np.float64] = raw.double().cpu().numpy()
    return result


def parts(clip: Floats, device: str) -> Iterator[Any]:
    """Yield a clip's segments as tensors, a bounded number at a time."""
    import torch

    for start in range(0, len(clip), SEGMENTS_AT_ONCE):
        part = torch.from_numpy(np.array(clip[start : start + SEGMENTS_AT_ONCE, None]))
        yield part.to(device, memory_format=torch.channels_last)


class Nisqa:
    """The five scores of a clip: ``mos``, ``noi``, ``dis``, ``col``, ``loud``, and ``n_segments``.

    Parameters
    ----------
    resample : {"none", "48k"}
        Look at the sound as it is, or at 48 kHz (soxr HQ). The score moves.
    uncapped : bool
        Take clips of more than 1300 segments.
    """

    weight = register(
        "nisqa", 1_051_663, "7ec4cf937514dd3f8860b21e66fabd8ca87a168572675ef8d979c4c4ad2e805c"
    )

    def __init__(self, *, resample: str = "none", uncapped: bool = False) -> None:
        if resample not in get_args(Resample):
            known = ", ".join(get_args(Resample))
            raise SpecError(f"NISQA knows no resample {resample!r}; choose one of {known}")
        self.resample, self.uncapped = resample, uncapped

    def load(self, device: str) -> None:
        """Read the weights onto `device` ("cpu", "cuda", "cuda:0")."""
        self._net, self._device = read(weights.locate(self.weight), device), device

    def __call__(self, batch: list[Audio]) -> list[Output]:
        """Return the scores of each clip of 16 kHz mono sound.

        Raises
        ------
        TooShort, TooLong
            See `check_length`.
        NonfiniteOutput
            If the network gave a NaN.
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        for sound in batch:
            require_rate(sound, RATE)
        rate = 48_000 if self.resample == "48k" else RATE
        return self.score([media.resample(sound, rate) for sound in batch])

    def score(self, sounds: Sequence[Audio]) -> list[Output]:
        """Return the scores of mono sounds at the rates that they have; raises as a call does."""
        most = None if self.uncapped else MOST_SEGMENTS
        plans = [check_length(sound, most=most) for sound in sounds]
        seen = [segments(spectrogram(sound)) for sound in sounds]
        raw = infer(self._net, seen, self._device)
        return [_output(row, plan) for row, plan in zip(raw, plans, strict=True)]


def _output(row: NDArray[np.float64], plan: SegmentPlan) -> Output:
    scores = {name: float(value) for name, value in zip(DIMENSIONS, row, strict=True)}
    if not all(map(math.isfinite, scores.values())):
        raise NonfiniteOutput(f"the NISQA network gave {scores}")
    return {**scores, "n_segments": plan.segments}
