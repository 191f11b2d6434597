"""What a layer of a self-supervised speech network makes of a clip: a unit vector every 20 ms.

The networks are those of Hugging Face transformers, in folders of their official layout. They see
the waveform as it is: SpeechBERTScore's own code does not standardise it, though WavLM-large was
trained on standardised sound. Clips go through one at a time, since padding changes the vectors.

WavLM: Chen et al., IEEE JSTSP 2022. HuBERT: Hsu et al., IEEE/ACM TASLP 2021.
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope import weights
from phonoscope.errors import NonfiniteOutput, WeightsMismatch
from phonoscope.metrics.networks.asr import HUB, pretrained
from phonoscope.metrics.networks.inference import exact
from phonoscope.metrics.speech import RATE, require_rate
from phonoscope.types import Audio

Units: TypeAlias = NDArray[np.float16]


def folder(repository: str, *, licence: str) -> str:
    """Add a network's folder to the table of weights; return its name there."""
    name = repository.rpartition("/")[2]
    family = name.partition("-")[0]
    row = weights.Weight(
        name=f"{family}/{name}",
        file=f"{family}/{name}",
        bytes=0,
        sha256="",
        licence=licence,
        origin=f"{HUB}/{repository}/resolve/main",
        files=("config.json", "model.safetensors|pytorch_model.bin"),
    )
    return weights.register(row, origin=__name__).name


class SpeechUnits:
    """Unit vectors of one hidden layer: float16, shape (frames, width), a frame every 20 ms.

    Half precision halves what a store keeps; it moves a cosine by about 1e-5.
    """

    kind: ClassVar[str]
    weight: ClassVar[str]
    layer: ClassVar[int]

    def load(self, device: str) -> None:
        """Read the folder onto `device`, and drop the layers above the one that is looked at.

        Raises
        ------
        WeightsMismatch
            If the folder holds another network.
        """
        net = pretrained(self.kind, self.weight, device)
        if len(net.encoder.layers) < self.layer:
            raise WeightsMismatch(
                f"weights {self.weight!r} have {len(net.encoder.layers)} layers, "
                f"the metric looks at layer {self.layer}; get the published folder"
            )
        # One layer more than needed: what the last layer gives may be normalised on top.
        net.encoder.layers = net.encoder.layers[: self.layer + 1]
        self._net, self._device = net, device

    def __call__(self, batch: list[Audio]) -> list[Units]:
        """Return the vectors of each clip of 16 kHz mono sound, one clip at a time.

        Raises
        ------
        NonfiniteOutput
            If the network gave a NaN.
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        return [self._see(sound) for sound in batch]

    def _see(self, sound: Audio) -> Units:
        import torch

        require_rate(sound, RATE)
        wave = torch.from_numpy(sound.samples.astype(np.float32)).to(self._device)
        with exact(self._device):
            seen = self._net(wave[None], output_hidden_states=True).hidden_states[self.layer][0]
            units = torch.nn.functional.normalize(seen, dim=1)
        if not bool(units.isfinite().all()):
            raise NonfiniteOutput(f"layer {self.layer} of {self.weight} holds a NaN")
        result: Units = units.cpu().numpy().astype(np.float16)
        return result


class WavLMLarge14(SpeechUnits):
    """Layer 14 of WavLM-large."""

    kind, layer = "WavLMModel", 14
    weight = folder("microsoft/wavlm-large", licence="CC BY-SA 3.0 (microsoft/UniSpeech)")


class HubertBase8(SpeechUnits):
    """Layer 8 of HuBERT-base, trained on LibriSpeech."""

    kind, layer = "HubertModel", 8
    weight = folder("facebook/hubert-base-ls960", licence="Apache-2.0")
