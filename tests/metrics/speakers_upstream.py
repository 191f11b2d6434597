"""Speaker networks by SpeechBrain and pyannote.audio themselves, with seeded weights.

``python tests/metrics/speakers_upstream.py``, in an environment with the extra `upstream`, writes
`tests/golden/speakers.json`, which the tests hold our networks to in any environment.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import speaker_cases
from torchaudio_standin import imported

from phonoscope.types import Audio

FILE = Path(__file__).parents[1] / "golden/speakers.json"


def filled(network: Any) -> Any:
    """Return a network with its seeded values."""
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict(speaker_cases.tensors(speaker_cases.seeded(shapes)))
    return network.eval()


def shapes_of(network: Any) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in network.state_dict().items()}


def ecapa() -> tuple[Any, Callable[[Audio], np.ndarray]]:
    """The network of `spkrec-ecapa-voxceleb`, seen as `encode_batch(normalize=False)` does."""
    import torch

    network = imported("speechbrain.lobes.models.ECAPA_TDNN").ECAPA_TDNN(
        input_size=80,
        channels=[1024, 1024, 1024, 1024, 3072],
        kernel_sizes=[5, 3, 3, 3, 1],
        dilations=[1, 2, 3, 4, 1],
        attention_channels=128,
        lin_neurons=192,
    )
    normalise = imported("speechbrain.processing.features").InputNormalization
    modules = {
        "compute_features": imported("speechbrain.lobes.features").Fbank(n_mels=80),
        "mean_var_norm": normalise(norm_type="sentence", std_norm=False),
        "embedding_model": filled(network),
        "classifier": torch.nn.Identity(),
    }
    classifier = imported("speechbrain.inference.classifiers").EncoderClassifier(
        modules=modules, hparams={"mean_var_norm_emb": None, "label_encoder": None}
    )

    def embed(sound: Audio) -> np.ndarray:
        with torch.inference_mode():
            found = classifier.encode_batch(torch.from_numpy(sound.samples)[None])
        return found[0, 0].numpy()

    return network, embed


def whole_window(network: Any) -> Callable[[Audio], np.ndarray]:
    """Return pyannote's own way to embed a whole file."""
    import torch

    task = imported("pyannote.audio.core.task")
    network.specifications = task.Specifications(
        problem=task.Problem.REPRESENTATION, resolution=task.Resolution.CHUNK, duration=5.0
    )
    inference = imported("pyannote.audio").Inference(network, window="whole")

    def embed(sound: Audio) -> np.ndarray:
        wave = torch.from_numpy(sound.samples)[None]
        found: np.ndarray = inference({"waveform": wave, "sample_rate": sound.rate})
        return found

    return embed


def xvector() -> tuple[Any, Callable[[Audio], np.ndarray]]:
    """The network of `pyannote/embedding`."""
    network = filled(imported("pyannote.audio.models.embedding.xvector").XVectorSincNet())
    return network, whole_window(network)


def resnet34() -> tuple[Any, Callable[[Audio], np.ndarray]]:
    """The network of `pyannote/wespeaker-voxceleb-resnet34-LM`."""
    network = filled(imported("pyannote.audio.models.embedding.wespeaker").WeSpeakerResNet34())
    return network, whole_window(network)


NETWORKS = {"ecapa": ecapa, "xvector": xvector, "resnet34": resnet34}


def main() -> None:
    """Write names and shapes of the values, and the embedding of one signal."""
    found = {}
    for name, make in NETWORKS.items():
        network, embed = make()
        embedding = [float(f"{value:.7g}") for value in embed(speaker_cases.voice())]
        found[name] = {"shapes": shapes_of(network), "embedding": embedding}
    FILE.write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
