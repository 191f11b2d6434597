"""WeSpeaker: speaker embeddings by residual networks over Kaldi's filter bank.

The published ONNX files are run by onnxruntime. pyannote's re-host of one of them is a torch file,
whose ResNet34 is built here. All see the same 80 bands less their mean over the clip; there is no
voice activity detection and no variance normalisation.

Source: wenet-e2e/wespeaker; Wang et al., ICASSP 2023.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope import weights
from phonoscope.metrics.networks import checkpoints
from phonoscope.metrics.networks.dnsmos import session
from phonoscope.metrics.networks.inference import alone
from phonoscope.metrics.speech import RATE, require_rate
from phonoscope.types import Audio

Floats: TypeAlias = NDArray[np.float32]

BANDS = 80
FULL_SCALE = 32_768
INPUT = "feats"
LICENCE = "CC-BY-4.0 (follows VoxCeleb)"
HOST = "https://huggingface.co"

CHANNELS = (32, 64, 128, 256)
BLOCKS = (3, 4, 6, 3)
WIDTH = 256


def register(name: str, *, file: str, origin: str) -> str:
    """Add a published file to the table of weights (upstream names no hash); return its name."""
    row = weights.Weight(
        name=name, file=file, bytes=0, sha256="", licence=LICENCE, origin=f"{HOST}/{origin}"
    )
    return weights.register(row, origin=__name__).name


def filter_bank(sound: Audio) -> Floats:
    """Return Kaldi's log mel filter bank of 16 kHz sound, shape (frames, 80).

    Frames of 25 ms every 10 ms, Hamming window, bands from 20 Hz to 8 kHz, no dither, no energy.
    The sound is scaled to 16 bit first: the logarithm's floor is at 1.2e-7 of that scale.
    """
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "hamming"
    options.mel_opts.num_bins = BANDS
    options.use_energy = False
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(RATE, sound.samples.astype(np.float32) * FULL_SCALE)
    bank.input_finished()
    return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)]).astype(np.float32)


def features(sound: Audio) -> Floats:
    """Return what the networks see: the filter bank less its mean over time, (frames, 80)."""
    require_rate(sound, RATE)
    bank = filter_bank(sound)
    centred: Floats = bank - bank.mean(0)
    return centred


class WespeakerResnet221:
    """Embedding by WeSpeaker's ResNet221_LM: float32, shape (256,), not normalised."""

    weight = register(
        "wespeaker/voxceleb_resnet221_LM",
        file="wespeaker/voxceleb_resnet221_LM.onnx",
        origin="Wespeaker/wespeaker-voxceleb-resnet221-LM/resolve/main/voxceleb_resnet221_LM.onnx",
    )

    def load(self, device: str) -> None:
        """Read the weights onto `device` ("cpu", "cuda", "cuda:0")."""
        path = weights.locate(self.weight)
        self._net = session(path.read_bytes(), device)
        inputs = [item.name for item in self._net.get_inputs()]
        if inputs != [INPUT]:
            raise ValueError(f"{path} is no network of WeSpeaker: its inputs are {inputs}")

    def __call__(self, batch: list[Audio]) -> list[Floats]:
        """Return the embedding of each clip of 16 kHz mono sound.

        Raises
        ------
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        # An export that returns a tuple has the embedding last.
        return [self._net.run(None, {INPUT: features(sound)[None]})[-1][0] for sound in batch]


class WespeakerResnet34(WespeakerResnet221):
    """Embedding by WeSpeaker's ResNet34_LM: float32, shape (256,), not normalised."""

    weight = register(
        "wespeaker/voxceleb_resnet34_LM",
        file="wespeaker/voxceleb_resnet34_LM.onnx",
        origin="Wespeaker/wespeaker-resnet34-LM/resolve/main/voxceleb_resnet34_LM.onnx",
    )


def build_resnet34() -> Any:
    """Return the untrained network as torch modules, under the names of pyannote's file."""
    from torch import nn

    net = {"conv1": nn.Conv2d(1, CHANNELS[0], 3, padding=1, bias=False)}
    net["bn1"] = nn.BatchNorm2d(CHANNELS[0])
    before = CHANNELS[0]
    for i, (channels, blocks) in enumerate(zip(CHANNELS, BLOCKS, strict=True), 1):
        strides = [1 if i == 1 else 2] + [1] * (blocks - 1)
        before_each = [before] + [channels] * (blocks - 1)
        pairs = zip(before_each, strides, strict=True)
        net[f"layer{i}"] = nn.ModuleList(_block(a, channels, stride) for a, stride in pairs)
        before = channels
    net["seg_1"] = nn.Linear(2 * CHANNELS[-1] * BANDS // 8, WIDTH)
    return nn.ModuleDict(net)


def _block(before: int, channels: int, stride: int) -> Any:
    from torch import nn

    block = {
        "conv1": nn.Conv2d(before, channels, 3, stride, 1, bias=False),
        "bn1": nn.BatchNorm2d(channels),
        "conv2": nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
        "bn2": nn.BatchNorm2d(channels),
    }
    if stride != 1 or before != channels:
        shortcut = nn.Conv2d(before, channels, 1, stride, bias=False)
        block["shortcut"] = nn.Sequential(shortcut, nn.BatchNorm2d(channels))
    return nn.ModuleDict(block)


def embed_resnet34(net: Any, feats: Any) -> Any:
    """Return embeddings: (clips, frames, 80) to (clips, 256)."""
    import torch
    from torch.nn import functional

    x = functional.relu(net["bn1"](net["conv1"](feats.transpose(1, 2)[:, None])))
    for i in range(1, len(BLOCKS) + 1):
        for block in net[f"layer{i}"]:
            inner = functional.relu(block["bn1"](block["conv1"](x)))
            inner = block["bn2"](block["conv2"](inner))
            x = functional.relu(inner + (block["shortcut"](x) if "shortcut" in block else x))
    x = x.flatten(1, 2)
    return net["seg_1"](torch.cat([x.mean(-1), x.std(-1)], -1))


def read_resnet34(path: Path, device: str) -> Any:
    """Return the network of pyannote's file, on `device`.

    Raises
    ------
    ValueError
        If the file holds another architecture.
    """
    state = checkpoints.read_lightning(path)
    inner = {name.removeprefix("resnet."): value for name, value in state.items()}
    return checkpoints.fill(build_resnet34(), inner, path=path).to(device)


class WespeakerPyannote:
    """Embedding by pyannote's re-host of ResNet34_LM: float32, shape (256,), not normalised."""

    weight = register(
        "pyannote/wespeaker-voxceleb-resnet34-LM",
        file="pyannote/wespeaker-voxceleb-resnet34-LM/pytorch_model.bin",
        origin="pyannote/wespeaker-voxceleb-resnet34-LM/resolve/main/pytorch_model.bin",
    )

    def load(self, device: str) -> None:
        """Read the weights onto `device` ("cpu", "cuda", "cuda:0")."""
        self._net, self._device = read_resnet34(weights.locate(self.weight), device), device

    def __call__(self, batch: list[Audio]) -> list[Floats]:
        """Return the embedding of each clip of 16 kHz mono sound.

        Raises
        ------
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        forward = functools.partial(embed_resnet34, self._net)
        return [alone(forward, features(sound), self._device) for sound in batch]
