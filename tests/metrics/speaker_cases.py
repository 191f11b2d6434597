"""Speaker networks with seeded weights, in the formats in which the real ones are published."""

from __future__ import annotations

import enum
import functools
import json
import math
import sys
import types
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from phonoscope import plugins, weights
from phonoscope.plugins import METRICS
from phonoscope.types import Audio

plugins.discover()
RATE = 16_000
Shapes = Mapping[str, Sequence[int]]
GOLDEN = Path(__file__).parents[1] / "golden/speakers.json"


def voice(seconds: float = 2.0, *, seed: int = 1) -> Audio:
    """Return something like a voice: pulses through resonances, in syllables, with breath."""
    rng = np.random.RandomState(seed)
    n = np.arange(int(seconds * RATE))
    pitch = 110 + 15 * np.sin(2 * np.pi * n / RATE / 0.9)
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0)
    sound = np.zeros(len(n))
    for hertz, width in ((560, 90), (1400, 120), (2500, 200)):
        t = np.arange(800) / RATE
        ringing = np.exp(-np.pi * width * t) * np.sin(2 * np.pi * hertz * t)
        sound += np.convolve(pulses, ringing)[: len(n)]
    syllables = 0.55 - 0.45 * np.cos(2 * np.pi * n / RATE / 0.31)
    sound = sound * syllables + 0.003 * rng.standard_normal(len(n))
    return Audio((0.5 * sound / np.abs(sound).max()).astype(np.float32), RATE)


def seeded(shapes: Shapes, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Return values for a network, such that signals keep their size on their way through it."""
    rng = np.random.RandomState(seed)
    return {name: _values(name.rpartition(".")[2], tuple(shapes[name]), rng) for name in shapes}


def _values(kind: str, shape: tuple[int, ...], rng: np.random.RandomState) -> np.ndarray:
    if kind == "num_batches_tracked":
        return np.array(7, np.int64)
    if kind == "window_":  # the left half of a window, and its sampling times
        return np.hamming(251)[:125].astype(np.float32)
    if kind == "n_":
        return (2 * np.pi * np.arange(-125, 0)[None] / RATE).astype(np.float32)
    if kind == "low_hz_":
        return np.linspace(30, 7_000, shape[0], dtype=np.float32)[:, None]
    noise = rng.standard_normal(shape)
    if kind == "band_hz_":
        return np.abs(300 * noise).astype(np.float32)
    if kind == "running_var":
        return np.exp(0.3 * noise).astype(np.float32)
    if kind == "weight" and len(shape) > 1:
        return (noise * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32)
    return (0.1 * noise + (kind == "weight")).astype(np.float32)


def tensors(values: Mapping[str, np.ndarray]) -> OrderedDict[str, Any]:
    import torch

    return OrderedDict((name, torch.from_numpy(np.array(v))) for name, v in values.items())


@functools.cache
def upstream(network: str) -> dict[str, Any]:
    """Names and shapes in the published file, and an embedding by the package it comes from."""
    found: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))[network]
    return found


def file_of(metric: str) -> str:
    (name,) = METRICS.get(metric).weights
    return weights.WEIGHTS.get(name).file


def write_all(root: Path) -> None:
    """Write a file of every speaker network whose weights are in no package."""
    values = {name: seeded(upstream(name)["shapes"]) for name in ("ecapa", "xvector")}
    write_checkpoint(root / file_of("spksim_ecapa"), values["ecapa"])
    write_lightning(root / file_of("spksim_pyannote"), values["xvector"])
    resnet = seeded(upstream("resnet34")["shapes"])
    write_lightning(root / file_of("spksim_wespeaker_pyannote"), resnet)
    inner = {name.removeprefix("resnet."): value for name, value in resnet.items()}
    write_resnet34_onnx(root / file_of("spksim_wespeaker_resnet34_lm"), inner)
    write_resnet34_onnx(root / file_of("spksim_wespeaker"), inner, in_a_tuple=True)


def write_checkpoint(path: Path, values: Mapping[str, np.ndarray]) -> Path:
    """Write a torch file as SpeechBrain's: nothing but the tensors."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(values), path)
    return path


def write_lightning(path: Path, values: Mapping[str, np.ndarray]) -> Path:
    """Write a torch file as pyannote's: with the loss, and objects of packages not here."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    task, stopping = _foreign()
    specifications = task.Specifications()
    specifications.problem, specifications.classes = task.Problem.REPRESENTATION, ["a", "b"]
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "1.6.5",
        "state_dict": tensors({**values, "loss_func.W": np.ones((2, 3), np.float32)}),
        "callbacks": {stopping.EarlyStopping: {"patience": 5, "best_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"step": 2}}, "param_groups": [{"lr": 1e-3}]}],
        "hyper_parameters": {"sincnet": {"stride": 10, "sample_rate": 16_000}, "dimension": 512},
        "pyannote.audio": {
            "versions": {"torch": "1.11.0", "pyannote.audio": "2.0.0"},
            "architecture": {"module": "pyannote.audio.models", "class": "AnyNetwork"},
            "specifications": specifications,
        },
    }
    with mock.patch.dict(sys.modules, {**_parents(task), **_parents(stopping)}):
        torch.save(content, path)
    return path


def _parents(module: Any) -> dict[str, Any]:
    """Return a module and empty ones for the packages that it is in, by name."""
    parts = module.__name__.split(".")
    above = [".".join(parts[:i]) for i in range(1, len(parts))]
    return {**{name: types.ModuleType(name) for name in above}, module.__name__: module}


def _foreign() -> tuple[Any, Any]:
    """Return modules of pyannote.audio and Lightning with the classes that such files name."""
    task: Any = types.ModuleType("pyannote.audio.core.task")
    task.Problem = enum.Enum("Problem", ["REPRESENTATION"], module=task.__name__)
    task.Specifications = type("Specifications", (), {"__module__": task.__name__})
    stopping: Any = types.ModuleType("pytorch_lightning.callbacks.early_stopping")
    stopping.EarlyStopping = type("EarlyStopping", (), {"__module__": stopping.__name__})
    return task, stopping


class Graph:
    """A graph of ONNX nodes under construction."""

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        self.values, self.nodes = dict(values), []

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        name = f"constant_{len(self.values)}"
        self.values[name] = np.asarray(value)
        return name

    def conv(self, x: str, name: str, *, norm: str, stride: int = 1) -> str:
        side = self.values[f"{name}.weight"].shape[-1]
        pads = [side // 2] * 4
        x = self.add("Conv", x, f"{name}.weight", strides=[stride] * 2, pads=pads)
        of = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return self.add("BatchNormalization", x, *of)


def write_resnet34_onnx(
    path: Path, values: Mapping[str, np.ndarray], *, in_a_tuple: bool = False
) -> Path:
    """Write WeSpeaker's ResNet34 as upstream exports it: `feats` (B, T, 80) to `embs` (B, 256).

    With `in_a_tuple` the graph has two outputs, the embedding last.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = Graph({k: v for k, v in values.items() if not k.endswith("num_batches_tracked")})
    _resnet34(graph)
    shapes = [("first", [])] * in_a_tuple + [("embs", ["B", 256])]
    if in_a_tuple:
        graph.nodes.append(helper.make_node("Identity", [graph.constant(np.float32(0))], ["first"]))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "wespeaker",
            [helper.make_tensor_value_info("feats", TensorProto.FLOAT, ["B", "T", 80])],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes],
            [numpy_helper.from_array(v, k) for k, v in graph.values.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def _resnet34(graph: Graph) -> None:
    from onnx import helper

    x = graph.add("Transpose", "feats", perm=[0, 2, 1])
    x = graph.add("Unsqueeze", x, graph.constant([1]))
    x = graph.add("Relu", graph.conv(x, "conv1", norm="bn1"))
    for layer, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and not block else 1
            y = graph.conv(x, f"{name}.conv1", norm=f"{name}.bn1", stride=stride)
            y = graph.conv(graph.add("Relu", y), f"{name}.conv2", norm=f"{name}.bn2")
            if stride > 1:
                near = f"{name}.shortcut"
                x = graph.conv(x, f"{near}.0", norm=f"{near}.1", stride=stride)
            x = graph.add("Relu", graph.add("Add", y, x))
    x = graph.add("Reshape", x, graph.constant([0, 2560, -1]))
    stats = graph.add("Concat", *_statistics(graph, x), axis=-1)
    last = [stats, "seg_1.weight", "seg_1.bias"]
    graph.nodes.append(helper.make_node("Gemm", last, ["embs"], transB=1))


def _statistics(graph: Graph, x: str) -> tuple[str, str]:
    """Mean and unbiased standard deviation over time, with WeSpeaker's 1e-7 under the root."""
    mean = graph.add("ReduceMean", x, axes=[-1])
    square = graph.add("Pow", graph.add("Sub", x, mean), graph.constant(np.float32(2)))
    total = graph.add("ReduceSum", square, graph.constant([-1]), keepdims=0)
    length = graph.add("Gather", graph.add("Shape", x), graph.constant(-1))
    less = graph.add("Sub", graph.add("Cast", length, to=1), graph.constant(np.float32(1)))
    variance = graph.add("Add", graph.add("Div", total, less), graph.constant(np.float32(1e-7)))
    return graph.add("Squeeze", mean, graph.constant([-1])), graph.add("Sqrt", variance)


def kaldi_filter_bank(samples: np.ndarray) -> np.ndarray:
    """Return Kaldi's filter bank as its documentation defines it: an oracle in plain NumPy."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64) * 32_768, 400)
    frames = frames[::160] - frames[::160].mean(1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    power = np.abs(np.fft.rfft(frames * np.hamming(400), 512)) ** 2

    def mel(hertz: Any) -> Any:
        return 1127 * np.log(1 + np.asarray(hertz) / 700)

    edges = np.linspace(mel(20), mel(8_000), 82)
    bins = mel(np.arange(257) * 31.25)[:, None]
    rise, fall = (bins - edges[:-2]), (edges[2:] - bins)
    bands = np.maximum(0, np.minimum(rise, fall) / (edges[1] - edges[0]))
    bands[-1] = 0  # Kaldi leaves out the bin at half the rate
    return np.log(np.maximum(power @ bands, np.finfo(np.float32).eps))
