"""NISQA-TTS: naturalness of synthesised speech without a reference.

Another network than NISQA's: segments at every frame, mel bands up to 8 kHz, plain max-pools and a
bidirectional LSTM, of which the last step of either direction is read.

Source: gabrielmittag/NISQA, ``nisqa_tts.tar``; Mittag and Möller, Interspeech 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phonoscope import weights
from phonoscope.errors import NonfiniteOutput
from phonoscope.metrics.networks import nisqa
from phonoscope.metrics.networks.inference import exact
from phonoscope.metrics.networks.nisqa import Floats, Output
from phonoscope.metrics.speech import RATE, require_rate
from phonoscope.types import Audio

TOP_HZ = 8_000.0
STEP = 1
MOST_SEGMENTS = 6000
FEATURES = 20
FLAT = 64 * 6 * 2
HIDDEN = 128


def build() -> Any:
    """Return the untrained network as torch modules, under the names of the published file."""
    from torch import nn

    cnn: dict[str, Any] = {}
    for i, (a, b) in enumerate(zip((1, *nisqa.CHANNELS), nisqa.CHANNELS, strict=False), 1):
        cnn[f"conv{i}"], cnn[f"bn{i}"] = nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b)
    cnn["fc_out"] = nn.Linear(FLAT, FEATURES)
    lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
    head = nn.ModuleDict({"linear": nn.Linear(2 * HIDDEN, 1)})
    net = {"cnn": nn.ModuleDict(cnn), "time_dependency": nn.ModuleDict({"lstm": lstm})}
    return nn.ModuleDict({**net, "pool_layers": nn.ModuleList([head])})


def convolve(net: Any, batch: Any) -> Any:
    """Return the features of segments: shape (segments, 1, 48, 15) to (segments, 20)."""
    from torch.nn import functional

    paddings = {1: (0, 1), 2: (0, 0), 4: (0, 0)}
    for i in range(1, len(nisqa.CHANNELS) + 1):
        batch = functional.relu(net[f"conv{i}"](batch), inplace=True)
        if i in paddings:
            batch = functional.max_pool2d(batch, 2, padding=paddings[i])
    return net["fc_out"](batch.flatten(1))


def infer(net: Any, clips: Sequence[Floats], device: str) -> NDArray[np.float64]:
    """Return the naturalness of clips of segments, shape (clips,); nothing is clipped."""
    import torch

    with exact(device):
        steps = [
            torch.cat([convolve(net["cnn"], part) for part in nisqa.parts(clip, device)])
            for clip in clips
        ]
        packed = torch.nn.utils.rnn.pack_sequence(steps, enforce_sorted=False)
        # The last state of either direction, at the last step of one and the first of the other.
        _, (last, _) = net["time_dependency"]["lstm"](packed)
        raw = net["pool_layers"][0]["linear"](torch.cat([last[0], last[1]], -1))
        result: NDArray[np.float64] = raw[:, 0].double().cpu().numpy()
    return result


class NisqaTts:
    """Naturalness of a clip, ``mos``, and ``n_segments``."""

    weight = nisqa.register(
        "nisqa_tts", 1_237_159, "c556a954cd9536360b4fe6f524ad432816509cd22f436f345b281a7851360656"
    )

    def load(self, device: str) -> None:
        """Read the weights onto `device` ("cpu", "cuda", "cuda:0")."""
        state = nisqa.published(weights.locate(self.weight))
        self._net, self._device = nisqa.ready(build(), state, device), device

    def __call__(self, batch: list[Audio]) -> list[Output]:
        """Return the score of each clip of 16 kHz mono sound.

        Raises
        ------
        TooShort, TooLong
            With fewer than 15 frames, or more than 6000 segments (60.1 s).
        NonfiniteOutput
            If the network gave a NaN.
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        for sound in batch:
            require_rate(sound, RATE)
        plans = [nisqa.check_length(sound, step=STEP, most=MOST_SEGMENTS) for sound in batch]
        seen = [nisqa.segments(nisqa.spectrogram(s, top=TOP_HZ), step=STEP) for s in batch]
        raw = infer(self._net, seen, self._device)
        if not np.isfinite(raw).all():
            raise NonfiniteOutput(f"the NISQA-TTS network gave {raw.tolist()}")
        rows = zip(raw, plans, strict=True)
        return [{"mos": float(value), "n_segments": plan.segments} for value, plan in rows]
