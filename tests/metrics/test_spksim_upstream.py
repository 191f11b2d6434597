"""Speaker networks against SpeechBrain, pyannote.audio and resemblyzer themselves.

These packages bring a torchaudio beside which other packages do not import, so they are tested in
an environment of their own (never the one of `make test`), which `make upstream` makes.

The weights are seeded; GE2E's are the real ones.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import speaker_cases as cases
import speakers_upstream as upstream

from phonoscope import media, weights
from phonoscope.metrics.networks import checkpoints, ecapa, ge2e, wespeaker, xvector
from phonoscope.types import Audio, Clip

ABSENT = [
    name
    for name in ("speechbrain", "pyannote.audio", "torchaudio", "resemblyzer", "pkg_resources")
    if not importlib.util.find_spec(name.partition(".")[0])
]
pytestmark = [
    pytest.mark.skipif(
        bool(ABSENT),
        reason=f"no {', '.join(ABSENT)}: `make upstream` runs these tests",
    ),
    pytest.mark.filterwarnings("ignore"),
]
CLIPS = ("spk1_snt1", "spk2_snt2", "spk1_snt4")


@pytest.fixture(scope="module")
def clips(request: pytest.FixtureRequest) -> list[Audio]:
    """Real speech where there is some, of different levels and lengths."""
    found = [cases.voice(2.0), cases.voice(0.4, seed=3), cases.voice(3.0, seed=2)]
    data = request.config.rootpath.parent / "shared/data/speech"
    for name in CLIPS if data.is_dir() else ():
        found.append(media.read_audio(Clip(str(data / f"{name}.wav")), rate=16_000))
    return [*found, Audio(found[-1].samples * np.float32(0.03), 16_000)]


def assert_alike(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one, other, atol=2e-5 * np.abs(other).max())


def test_ecapa(clips: list[Audio], tmp_path: Path) -> None:
    network, embed = upstream.ecapa()
    path = cases.write_checkpoint(tmp_path / "embedding_model.ckpt", values_of(network))
    ours = ecapa.Ecapa()
    ours._net, ours._device = ecapa.read(path, "cpu"), "cpu"
    for clip, found in zip(clips, ours(clips), strict=True):
        assert_alike(found, embed(clip))


def values_of(network: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("name", ["xvector", "resnet34"])
def test_pyannote(name: str, clips: list[Audio], tmp_path: Path) -> None:
    """A file as pyannote itself writes it, read by it and by us."""
    network, _ = upstream.NETWORKS[name]()
    path = saved(network, tmp_path / "pytorch_model.bin")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = upstream.imported("pyannote.audio").Model.from_pretrained(path, strict=False)
    embed = upstream.whole_window(read)
    for clip, found in zip(clips, network_of(name, path)(clips), strict=True):
        assert_alike(found, embed(clip))


def network_of(name: str, path: Path) -> Callable[[list[Audio]], list[np.ndarray]]:
    if name == "xvector":
        ours: Any = xvector.XVectorSincNet()
        ours._net, ours._filters = xvector.read(path, "cpu")
    else:
        ours = wespeaker.WespeakerPyannote()
        ours._net = wespeaker.read_resnet34(path, "cpu")
    ours._device = "cpu"
    return ours  # type: ignore[no-any-return]


def saved(network: Any, path: Path) -> Path:
    """Write what Lightning and pyannote write: callbacks, settings and specifications included."""
    import torch

    stopping = upstream.imported("lightning.pytorch.callbacks").EarlyStopping
    content = {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": {**network.state_dict(), "loss_func.W": torch.ones(2, 3)},
        "callbacks": {stopping: {"patience": 3, "best_score": torch.tensor(0.1)}},
        "optimizer_states": [torch.optim.Adam(network.parameters()).state_dict()],
        "hyper_parameters": dict(network.hparams),
    }
    network.on_save_checkpoint(content)
    torch.save(content, path)
    assert checkpoints.read(path)["callbacks"]
    return path


def test_the_golden_file_is_what_these_packages_give() -> None:
    golden = json.loads(upstream.FILE.read_text(encoding="utf-8"))
    assert golden.keys() == upstream.NETWORKS.keys()
    for name, make in upstream.NETWORKS.items():
        network, embed = make()
        assert upstream.shapes_of(network) == golden[name]["shapes"]
        assert_alike(np.array(golden[name]["embedding"]), embed(cases.voice()))


def test_the_buffers_of_seeded_filters_are_pyannotes_own() -> None:
    fresh = upstream.imported("pyannote.audio.models.embedding.xvector").XVectorSincNet()
    own = {k: v.numpy() for k, v in fresh.state_dict().items() if k.endswith(("window_", ".n_"))}
    seeded = cases.seeded({name: value.shape for name, value in own.items()})
    assert len(own) == 2
    for name in own:
        np.testing.assert_allclose(seeded[name], own[name], rtol=1e-5, atol=1e-7)


def test_the_filter_bank_equals_torchaudios(clips: list[Audio]) -> None:
    import torch

    kaldi = upstream.imported("torchaudio.compliance.kaldi")
    for clip in clips:
        expected = kaldi.fbank(
            torch.from_numpy(clip.samples)[None] * 32_768,
            num_mel_bins=80,
            window_type="hamming",
            dither=0.0,
            sample_frequency=16_000,
        )
        gaps = np.abs(wespeaker.filter_bank(clip) - expected.numpy())
        assert gaps.mean() < 1e-4
        # Below one step of 16-bit sound, rounding of float32 shows.
        assert gaps[expected.numpy() > 0].max() < 1e-3
        assert gaps.max() < 1e-2


def test_ge2e(clips: list[Audio]) -> None:
    upstream_package = upstream.imported("resemblyzer")
    encoder = upstream_package.VoiceEncoder("cpu", verbose=False)
    assert weights.locate(ge2e.Ge2e.weight).name == "pretrained.pt"
    ours = ge2e.Ge2e()
    ours.load("cpu")
    checked = 0
    for clip in clips:
        voiced = upstream_package.preprocess_wav(clip.samples)
        if len(voiced) < ge2e.LEAST_VOICED:
            continue
        (found,) = ours([clip])
        assert found[-1] == len(voiced)
        np.testing.assert_allclose(found[:-1], encoder.embed_utterance(voiced), atol=1e-4)
        checked += 1
    assert checked >= 2
