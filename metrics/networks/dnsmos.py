"""DNSMOS: which windows of a clip are scored, and the networks of P.808 and P.835 over them.

Windows of 9.01 s start every second, so neighbours share almost all of their sound. Three things
are computed once and give the same numbers as one forward pass per window:

* windows that hold the same samples, because a short clip is filled by repeating it;
* the mel bands of P.808, except the two frames at a window's ends that see its zero padding;
* of P.835 everything up to the first max-pool, which is 97 % of the work. Nothing before it looks
  further than four frames or normalises over a window, and a second is 100 of its frames. Only the
  four frames at either end of a window, which see the zero padding of four 3x3 convolutions, are
  computed anew. The published network is cut in memory, nothing is trained or rounded.

Source: microsoft/DNS-Challenge, ``DNSMOS/dnsmos_local.py``; Reddy et al., ICASSP 2021 (P.808) and
ICASSP 2022 (P.835).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phonoscope import weights
from phonoscope.errors import EmptyAudio, NonfiniteOutput, SpecError
from phonoscope.metrics.speech import RATE, require_rate
from phonoscope.types import Audio

WindowMode = Literal["reference", "exact", "pad_tile_truncate", "pad_zero"]
Floats: TypeAlias = NDArray[np.float32]
Output: TypeAlias = dict[str, float]

SECONDS = 9.01
WINDOW = 144_160
STEP = 160
FRAMES = 900
GROUP = 16

P808_BATCH = 4
P808_FFT = 321
P808_BANDS = 120
P808_RANGE_DB = 80.0

# P.835, four 3x3 convolutions and a 2x2 pool: a row is two frames and sees four more on each side.
ROW = 2 * STEP
ROWS = FRAMES // 2
HALO = 4
EDGE_FRAMES = 2 * HALO
EDGE_ROWS = HALO // 2
CHUNK_ROWS = 128

POLYNOMIALS: dict[str, dict[str, tuple[float, ...]]] = {
    "standard": {
        "sig": (-0.08397278, 1.22083953, 0.0052439),
        "bak": (-0.13166888, 1.60915514, -0.39604546),
        "ovrl": (-0.06766283, 1.11546468, 0.04602535),
    },
    "personal": {
        "sig": (-0.01019296, 0.02751166, 1.19576786, -0.24348726),
        "bak": (-0.04976499, 0.44276479, -0.1644611, 0.96883132),
        "ovrl": (-0.00533021, 0.005101, 1.18058466, -0.11236046),
    },
}


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Which windows of a clip are scored.

    Attributes
    ----------
    starts : tuple of int
        First samples of the scored windows in the filled clip, ascending.
    n_hops : int
        Windows before the loss of `reference`.
    n_filled : int
        Samples after filling, at least `WINDOW`.
    period : int or None
        The clip's own length where it was filled by repeating it.
    """

    starts: tuple[int, ...]
    n_hops: int
    n_filled: int
    period: int | None = None

    def distinct(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the first start of each different window, and how often that window occurs."""
        period = self.period or self.n_filled
        first: dict[int, int] = {}
        for start in self.starts:
            first.setdefault(start % period, start)
        counts = Counter(start % period for start in self.starts)
        return tuple(first.values()), tuple(counts[phase] for phase in first)

    def repeats_after(self, unit: int) -> int:
        """Return after how many units of `unit` samples the filled clip repeats itself."""
        return math.lcm(self.period or self.n_filled * unit, unit) // unit


def window_plan(n_samples: int, *, mode: str = "reference") -> WindowPlan:
    """Return the windows of a clip of `n_samples` at 16 kHz; only the length matters.

    Parameters
    ----------
    n_samples : int
        At least 1.
    mode : {"reference", "exact", "pad_tile_truncate", "pad_zero"}
        `reference` doubles short clips until a window fits and loses the windows whose end the
        published script computes one sample short, in floating point. `exact` loses none. The
        other two fill short clips to just one window, by repetition or with zeros; clips that are
        long enough are treated as in `reference`.

    Raises
    ------
    EmptyAudio
        If there is no sample.
    SpecError
        If the mode is unknown.
    """
    _check_mode(mode)
    if n_samples < 1:
        raise EmptyAudio("DNSMOS of a clip without samples")
    if n_samples < WINDOW and mode.startswith("pad"):
        return WindowPlan((0,), 1, WINDOW, None if mode == "pad_zero" else n_samples)
    n_filled = n_samples
    while n_filled < WINDOW:
        n_filled *= 2
    # The script's own arithmetic, floating point included.
    n_hops = int(math.floor(n_filled / RATE) - SECONDS) + 1
    stops = [min(int((i + SECONDS) * RATE), n_filled) for i in range(n_hops)]
    kept = [i for i in range(n_hops) if mode == "exact" or stops[i] - i * RATE >= WINDOW]
    period = n_samples if n_filled > n_samples else None
    return WindowPlan(tuple(i * RATE for i in kept), n_hops, n_filled, period)


def _check_mode(mode: str) -> None:
    if mode not in get_args(WindowMode):
        known = ", ".join(get_args(WindowMode))
        raise SpecError(f"DNSMOS has no window mode {mode!r}; choose one of {known}")


def fill(samples: Floats, plan: WindowPlan) -> Floats:
    """Return the clip as the windows of `plan` see it: repeated, padded, or as it is."""
    if len(samples) == plan.n_filled:
        return samples
    if plan.period:
        return np.resize(samples, plan.n_filled)
    return np.pad(samples, (0, plan.n_filled - len(samples)))


def polynomial(raw: ArrayLike, kind: str, score: str) -> NDArray[np.float64]:
    """Map the network's output to the MOS scale, per window and before any mean."""
    value: NDArray[np.float64] = np.polyval(
        np.asarray(POLYNOMIALS[kind][score]), np.asarray(raw, np.float64)
    )
    return value


def groups(starts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Split window starts into runs of at most `GROUP` that overlap each other."""
    run: list[int] = []
    for start in starts:
        if run and (len(run) == GROUP or start - run[-1] >= WINDOW):
            yield tuple(run)
            run = []
        run.append(start)
    yield tuple(run)


def _cyclic(rows: NDArray[Any], n: int, axis: int) -> NDArray[Any]:
    if rows.shape[axis] == n:
        return rows
    repeated: NDArray[Any] = np.take(rows, np.arange(n) % rows.shape[axis], axis)
    return repeated


@functools.cache
def mel_filters() -> NDArray[np.float64]:
    """Return the Slaney mel bands of P.808, shape (161, 120), rounded to float32 as librosa's."""
    edges = _mel_edges(P808_BANDS + 2)
    bins = np.fft.rfftfreq(P808_FFT, 1 / RATE)
    ramps = np.subtract.outer(edges, bins)
    width = np.diff(edges)[:, None]
    rising, falling = -ramps[:-2] / width[:-1], ramps[2:] / width[1:]
    bands = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    area = 2.0 / (edges[2:] - edges[:-2])
    rounded = (bands * area[:, None]).astype(np.float32)
    return np.asarray(rounded.T, np.float64)


def _mel_edges(n: int) -> NDArray[np.float64]:
    linear, corner, octave = 200.0 / 3, 1000.0, np.log(6.4) / 27.0
    top = corner / linear + np.log(RATE / 2 / corner) / octave
    mels = np.linspace(0, top, n)
    high = corner * np.exp(octave * (mels - corner / linear))
    return np.where(mels >= corner / linear, high, linear * mels)


@functools.cache
def _hann() -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(P808_FFT) / P808_FFT)


def _mel_db(frames: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(frames.astype(np.float64) * _hann())
    power = (spectrum.real**2 + spectrum.imag**2) @ mel_filters()
    return 10 * np.log10(np.maximum(1e-10, power))


def p808_features(signal: Floats, starts: Sequence[int], *, period: int | None = None) -> Floats:
    """Return the P.808 network's input for overlapping windows.

    Equal to librosa's centred mel spectrogram of each window without its last 160 samples, in dB
    below the window's own maximum.

    Parameters
    ----------
    signal : ndarray, shape (n,)
        The filled clip.
    starts : sequence of int
        Ascending, multiples of 160 apart.
    period : int, optional
        Number of frames after which the signal repeats itself.

    Returns
    -------
    ndarray of float32, shape (windows, 900, 120)
    """
    base, count = starts[0], (starts[-1] - starts[0]) // STEP + FRAMES - 2
    frames = np.lib.stride_tricks.sliding_window_view(signal[base:], P808_FFT)[::STEP]
    inner = _cyclic(_mel_db(frames[: min(count, period or count)]), count, 0)
    ends = _mel_db(np.concatenate([_padded_ends(signal, start) for start in starts]))
    out = np.empty((len(starts), FRAMES, P808_BANDS), np.float32)
    for i, start in enumerate(starts):
        at = (start - base) // STEP
        window = np.concatenate(
            [ends[2 * i, None], inner[at : at + FRAMES - 2], ends[2 * i + 1, None]]
        )
        out[i] = (np.maximum(window - window.max(), -P808_RANGE_DB) + 40) / 40
    return out


def _padded_ends(signal: Floats, start: int) -> Floats:
    ends = np.zeros((2, P808_FFT), np.float32)
    ends[0, STEP:] = signal[start : start + STEP + 1]
    last = start + (FRAMES - 1) * STEP
    ends[1, :-1] = signal[last - STEP : last + STEP]
    return ends


def session(model: bytes, device: str) -> Any:
    """Return an onnxruntime session of one thread: clips, not operations, run side by side."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    kind, _, number = device.partition(":")
    if kind == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
    return onnxruntime.InferenceSession(model, options, providers=providers)


def _samples(clip: Audio) -> Floats:
    require_rate(clip, RATE)
    return clip.samples.astype(np.float32, copy=False)


def _output(
    scores: dict[str, NDArray[np.float64]], counts: Sequence[int], plan: WindowPlan
) -> Output:
    means = {name: float(np.average(each, weights=counts)) for name, each in scores.items()}
    if not all(map(math.isfinite, means.values())):
        raise NonfiniteOutput(f"the DNSMOS network gave {means}")
    return {**means, "n_scored": len(plan.starts), "n_hops": plan.n_hops}


class P808:
    """Overall quality as in ITU-T P.808: ``p808``, with ``n_scored`` and ``n_hops`` windows."""

    weight = "dnsmos/model_v8"

    def __init__(self, *, window: str = "reference") -> None:
        _check_mode(window)
        self.window = window

    def load(self, device: str) -> None:
        """Read the weights onto `device` ("cpu", "cuda", "cuda:0")."""
        self._net = session(weights.locate(self.weight).read_bytes(), device)

    def __call__(self, batch: list[Audio]) -> list[Output]:
        """Return the scores of each clip of 16 kHz mono sound.

        Raises
        ------
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        return [self._score(_samples(clip)) for clip in batch]

    def _score(self, samples: Floats) -> Output:
        plan = window_plan(len(samples), mode=self.window)
        signal, (starts, counts) = fill(samples, plan), plan.distinct()
        period = plan.repeats_after(STEP)
        raw = [
            self._net.run(None, {"input_1": features[i : i + P808_BATCH]})[0][:, 0]
            for features in (p808_features(signal, part, period=period) for part in groups(starts))
            for i in range(0, len(features), P808_BATCH)
        ]
        return _output({"p808": np.concatenate(raw).astype(np.float64)}, counts, plan)


class P835:
    """Signal, background and overall quality as in ITU-T P.835, scored window by window.

    Outputs ``sig``, ``bak``, ``ovrl``, the means ``*_raw`` of the network's own scale, and the
    numbers of windows ``n_scored`` and ``n_hops``.
    """

    weight = "dnsmos/sig_bak_ovr"
    kind = "standard"

    def __init__(self, *, window: str = "reference") -> None:
        _check_mode(window)
        self.window = window

    def load(self, device: str) -> None:
        """Read the weights onto `device` and cut the network."""
        self._net = SharedP835(weights.locate(self.weight), device)

    def __call__(self, batch: list[Audio]) -> list[Output]:
        """Return the scores of each clip of 16 kHz mono sound.

        Raises
        ------
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        return [self._score(_samples(clip)) for clip in batch]

    def _score(self, samples: Floats) -> Output:
        plan = window_plan(len(samples), mode=self.window)
        starts, counts = plan.distinct()
        raw = self._net.raw(fill(samples, plan), starts, period=plan.repeats_after(ROW))
        columns = dict(zip(("sig", "bak", "ovrl"), raw.astype(np.float64).T, strict=True))
        scores = {name: polynomial(each, self.kind, name) for name, each in columns.items()}
        scores |= {f"{name}_raw": each for name, each in columns.items()}
        return _output(scores, counts, plan)


class PersonalP835(P835):
    """P.835 personalised: other talkers count as background. Same outputs as `P835`."""

    weight = "dnsmos/p_sig_bak_ovr"
    kind = "personal"


class SharedP835:
    """A P.835 network cut at its first max-pool, which overlapping windows share up to there.

    Parameters
    ----------
    path : Path
        ``sig_bak_ovr.onnx``, standard or personalised.
    device : str
        "cpu" or "cuda".
    """

    def __init__(self, path: Path, device: str) -> None:
        parts = cut_p835(path)
        parts["whole"] = path.read_bytes()
        self._nets = {name: session(model, device) for name, model in parts.items()}

    def raw(self, signal: Floats, starts: Sequence[int], *, period: int) -> Floats:
        """Return what the whole network gives for each window, shape (windows, 3).

        Parameters
        ----------
        signal : ndarray of float32, shape (n,)
            The filled clip.
        starts : sequence of int
            Ascending multiples of 320.
        period : int
            Number of pooled rows (320 samples) after which the signal repeats itself.
        """
        if len(starts) == 1 and period >= ROWS:
            return self._run("whole", signal[None, starts[0] :][:, :WINDOW])
        rows = _Rows()
        scores = []
        for part in groups(starts):
            spectrum = self._spectrum(signal, part)
            rows = self._inner(spectrum, part, rows, period)
            scores.append(self._heads(spectrum, part, rows))
        return np.concatenate(scores)

    def _run(self, name: str, data: NDArray[Any]) -> Floats:
        net = self._nets[name]
        result: Floats = net.run(None, {net.get_inputs()[0].name: data})[0]
        return result

    def _spectrum(self, signal: Floats, starts: Sequence[int]) -> Floats:
        """Return the log power of all frames of a group, shape (frames, 161)."""
        steps = signal[starts[0] : starts[-1] + WINDOW].reshape(-1, STEP)
        frames = np.concatenate([steps[:-1], steps[1:]], axis=1)
        power: Floats = self._run("spectrum", frames[None])[0]
        return power

    def _inner(self, spectrum: Floats, starts: Sequence[int], known: _Rows, period: int) -> _Rows:
        """Return the rows that no zero padding reaches, from the first window to the last."""
        base = starts[0] // ROW
        first, stop = base + EDGE_ROWS, base + len(spectrum) // 2 - EDGE_ROWS
        parts = [known.since(first)]
        begin = first + parts[0].shape[1]
        for a, b in _chunks(begin, min(stop, begin + period)):
            frames = spectrum[2 * (a - base) - HALO : 2 * (b - base) + HALO]
            parts.append(self._run("inner", frames[None])[0])
        return _Rows(first, _cyclic(np.concatenate(parts, axis=1), stop - first, 1))

    def _heads(self, spectrum: Floats, starts: Sequence[int], rows: _Rows) -> Floats:
        windows = [spectrum[(start - starts[0]) // STEP :][:FRAMES] for start in starts]
        left = self._run("start", np.stack([frames[:EDGE_FRAMES] for frames in windows]))
        right = self._run("end", np.stack([frames[-EDGE_FRAMES:] for frames in windows]))
        scores = []
        for i, start in enumerate(starts):
            inner = rows.since(start // ROW + EDGE_ROWS)[:, : ROWS - 2 * EDGE_ROWS]
            window = np.concatenate([left[i], inner, right[i]], axis=1)
            scores.append(self._run("head", window[None]))
        return np.concatenate(scores)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Pooled rows, shape (32, rows, 80), from row `first` of the clip on."""

    first: int = 0
    data: Floats = field(default_factory=lambda: np.empty((32, 0, 80), np.float32))

    def since(self, row: int) -> Floats:
        return self.data[:, row - self.first :]


def _chunks(begin: int, stop: int) -> list[tuple[int, int]]:
    n = math.ceil((stop - begin) / CHUNK_ROWS)
    edges = [begin + (stop - begin) * i // max(n, 1) for i in range(n + 1)]
    return list(itertools.pairwise(edges))


def cut_p835(path: Path) -> dict[str, bytes]:
    """Return the parts of a P.835 network as serialised models, each from ``x`` on.

    ``spectrum``: windowed frames (n, t, 320) to log power (n, t, 161). ``inner``, ``start`` and
    ``end``: log power to the output of the first max-pool, without zero padding in time, with
    padding before the first frame only, and after the last only. ``head``: pooled rows
    (n, 32, 450, 80) to the three scores.
    """
    import onnx

    model = onnx.load(str(path))
    nodes = list(model.graph.node)
    concat, image, pool = (_first(nodes, kind) for kind in ("Concat", "Unsqueeze", "MaxPool"))
    front = nodes[image : pool + 1]
    return {
        "spectrum": _part(model, nodes[concat + 1 : image]),
        "inner": _part(model, front, pads=(0, 0)),
        "start": _part(model, front, pads=(1, 0)),
        "end": _part(model, front, pads=(0, 1)),
        "head": _part(model, nodes[pool + 1 :]),
    }


def _first(nodes: Sequence[Any], kind: str) -> int:
    return next(i for i, node in enumerate(nodes) if node.op_type == kind)


def _part(model: Any, nodes: Sequence[Any], *, pads: tuple[int, int] | None = None) -> bytes:
    """Return the chain `nodes` as a model of its own, its shapes left open."""
    from onnx import TensorProto, helper

    source, target = nodes[0].input[0], nodes[-1].output[0]
    copies = [_renamed(node, source, pads) for node in nodes]
    used = {name for node in copies for name in node.input}
    graph = helper.make_graph(
        copies,
        "part",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(target, TensorProto.FLOAT, None)],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return bytes(part.SerializeToString())


def _renamed(node: Any, source: str, pads: tuple[int, int] | None) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    copy.input[:] = ["x" if name == source else name for name in node.input]
    for attribute in copy.attribute:
        if pads and attribute.name == "pads":
            attribute.ints[:] = [pads[0], 1, pads[1], 1]
    return copy
