"""QuartzNet: a small network in a true ``.nemo`` file, held against NeMo's own `transcribe`.

NeMo lives in an environment of its own (it asks for an older transformers and jiwer), and needs no
torchaudio for this: `make upstream` makes it and runs these tests.
"""

from __future__ import annotations

import importlib.util
import io
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asr_cases import RATE, sound

from phonoscope import media, scoring, weights
from phonoscope.errors import NonfiniteOutput, WeightsMismatch
from phonoscope.events import NetworkLoaded
from phonoscope.metrics import wer
from phonoscope.metrics.networks.asr import QuartzNet
from phonoscope.types import Audio, Clip, Failure

if importlib.util.find_spec("nemo") is None:
    pytest.skip(
        "NeMo is not installed: `make upstream` runs these tests where it is",
        allow_module_level=True,
    )
pytestmark = pytest.mark.filterwarnings("ignore")  # NeMo's own, of all kinds

LETTERS = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]


def block(filters: int, *, kernel: int, repeat: int = 1, **fields: Any) -> dict[str, Any]:
    """One entry of QuartzNet's configuration."""
    common = {"dilation": [1], "dropout": 0.0, "residual": True, "separable": True, "stride": [1]}
    return {**common, "filters": filters, "kernel": [kernel], "repeat": repeat, **fields}


def configuration() -> dict[str, Any]:
    """QuartzNet15x5 with fewer and narrower blocks; front end and alphabet are the true ones."""
    module = "nemo.collections.asr.modules"
    return {
        "sample_rate": RATE,
        "labels": LETTERS,
        "preprocessor": {
            "_target_": f"{module}.AudioToMelSpectrogramPreprocessor",
            "normalize": "per_feature",
            "window_size": 0.02,
            "sample_rate": RATE,
            "window_stride": 0.01,
            "window": "hann",
            "features": 64,
            "n_fft": 512,
            "frame_splicing": 1,
            "dither": 1e-05,
            "pad_to": 16,
        },
        "encoder": {
            "_target_": f"{module}.ConvASREncoder",
            "feat_in": 64,
            "activation": "relu",
            "conv_mask": True,
            "jasper": [
                block(24, kernel=33, stride=[2], residual=False),
                block(24, kernel=33, repeat=2),
                block(32, kernel=39, repeat=2),
                block(32, kernel=87, dilation=[2], residual=False),
                block(48, kernel=1, residual=False, separable=False),
            ],
        },
        "decoder": {
            "_target_": f"{module}.ConvASRDecoder",
            "feat_in": 48,
            "num_classes": len(LETTERS),
            "vocabulary": LETTERS,
        },
    }


@pytest.fixture(scope="module")
def upstream() -> Any:
    return seeded()


def seeded() -> Any:
    """Return NeMo's model with seeded random weights, in the state in which it is trained."""
    import torch
    from nemo.collections.asr.models import EncDecCTCModel
    from nemo.utils import logging
    from omegaconf import OmegaConf

    logging.setLevel(logging.ERROR)
    torch.manual_seed(0)
    net = EncDecCTCModel(cfg=OmegaConf.create(configuration()))
    talkative(net)
    return net


def talkative(net: Any) -> None:
    """Make all letters about equally likely, so that different sounds get different texts."""
    import torch

    net.eval()
    layer = net.decoder.decoder_layers[0]
    with torch.no_grad():
        layer.bias.zero_()
        seen: list[Any] = []
        hook = layer.register_forward_hook(lambda _, __, output: seen.append(output[0]))
        for seed in range(3):
            samples = torch.from_numpy(sound(seed).samples)[None]
            net(input_signal=samples, input_signal_length=torch.tensor([samples.shape[1]]))
        hook.remove()
        scores = torch.cat(seen, 1)
        layer.weight /= scores.std(1)[:, None, None]
        layer.bias.copy_(-scores.mean(1) / scores.std(1))


def write(root: Path, net: Any) -> Path:
    """Write the ``.nemo`` file of a network below a weights folder, and return it."""
    path = root / weights.WEIGHTS.get(QuartzNet.weight).file
    path.parent.mkdir(parents=True)
    net.save_to(str(path))
    return path


@pytest.fixture(scope="module")
def file(upstream: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The ``.nemo`` file under its true name, in the weights folder."""
    root = tmp_path_factory.mktemp("weights")
    path = write(root, upstream)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHONOSCOPE_WEIGHTS", str(root))
        yield path


@pytest.fixture
def network(file: Path, monkeypatch: pytest.MonkeyPatch) -> QuartzNet:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a lookup in the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    found = QuartzNet()
    found.load("cpu")
    return found


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six sounds of different lengths, as float files."""
    root = tmp_path_factory.mktemp("clips")
    return [
        media.write_wav(root / f"s{seed}.wav", sound(seed, 0.6 + 0.7 * seed)) for seed in range(6)
    ]


def read(path: Path) -> Audio:
    return media.read_audio(Clip(str(path)), rate=RATE)


def test_the_file_is_upstream_s_layout(file: Path) -> None:
    with tarfile.open(file) as archive:
        assert {Path(name).name for name in archive.getnames()} >= {
            "model_config.yaml",
            "model_weights.ckpt",
        }


def test_texts_are_those_of_transcribe(
    network: QuartzNet, file: Path, clips: list[Path], shared_speech: list[Path]
) -> None:
    """On paths, which NeMo reads itself, and on arrays; one clip per call.

    NeMo fills arrays (not files) of less than a second with silence up to one: other texts.
    """
    from nemo.collections.asr.models import EncDecCTCModel

    theirs = EncDecCTCModel.restore_from(str(file), map_location="cpu")
    texts = []
    for path in [*clips, *shared_speech]:
        (ours,), clip = network([read(path)]), read(path)
        for given in [str(path), *([clip.samples] if clip.seconds >= 1 else [])]:
            (said,) = theirs.transcribe([given], batch_size=1, verbose=False)
            assert ours == said.text.strip()
        texts.append(ours)
    assert len(set(texts)) == len(texts)
    assert len(set("".join(texts))) > 15


@pytest.fixture(scope="module")
def shared_speech(request: pytest.FixtureRequest) -> list[Path]:
    """Real clips, where there are any."""
    folder = request.config.rootpath.parent / "shared/data/speech"
    return sorted(folder.glob("spk*_snt*.wav"))[:4]


def test_decoding_is_greedy(network: QuartzNet) -> None:
    """Text is the collapsed path of the most likely letters; NeMo puts no space before '."""
    import re

    from phonoscope.metrics.networks.asr import collapse

    assert network._net.decoding.cfg.strategy == "greedy"
    for seed in range(3):
        path = network.scores(sound(seed))[0].argmax(-1).tolist()
        letters = "".join(LETTERS[label] for label in collapse(path, len(LETTERS)))
        assert network([sound(seed)]) == [re.sub(r"\s'", "'", letters).strip()]


def test_scores_are_those_of_the_network(network: QuartzNet, upstream: Any) -> None:
    import torch

    front = upstream.preprocessor.featurizer
    front.dither, front.pad_to = 0.0, 0
    for seed in range(3):
        clip = sound(seed)
        samples = torch.from_numpy(clip.samples)[None]
        length = torch.tensor([samples.shape[1]])
        with torch.inference_mode():
            scores, frames, _ = upstream.eval()(input_signal=samples, input_signal_length=length)
        expected = scores[0, : int(frames[0])].numpy()
        np.testing.assert_allclose(network.scores(clip)[0], expected, rtol=1e-4, atol=1e-4)


def test_nothing_random_is_left(network: QuartzNet, clips: list[Path]) -> None:
    """Dither, batch statistics and what was heard before decide nothing."""
    sounds = [read(path) for path in clips]
    first = [network.scores(clip) for clip in sounds]
    again = [network.scores(clip) for clip in sounds[::-1]][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    fresh = QuartzNet()
    fresh.load("cpu")
    assert np.array_equal(fresh.scores(sounds[2]), first[2])


def test_a_batch_equals_singles(network: QuartzNet, clips: list[Path]) -> None:
    sounds = [read(path) for path in clips]
    assert network(sounds) == [network([clip])[0] for clip in sounds]
    assert wer.quartznet.batch == 1


def test_batches_of_this_nemo_move_scores_by_rounding_alone(
    network: QuartzNet, clips: list[Path]
) -> None:
    """Older ones changed texts (NeMo issue 3495): batch stays 1 until the true weights are here."""
    import torch

    sounds = [read(path).samples for path in clips]
    lengths = torch.tensor([len(samples) for samples in sounds])
    padded = torch.nn.utils.rnn.pad_sequence(list(map(torch.from_numpy, sounds)), batch_first=True)
    with torch.inference_mode():
        together, frames, _ = network._net(input_signal=padded, input_signal_length=lengths)
    for samples, scores, n in zip(sounds, together, frames, strict=True):
        alone = network.scores(Audio(samples, RATE))
        np.testing.assert_allclose(scores[: int(n)], alone[0], rtol=1e-4, atol=1e-4)


def test_another_rate_or_shape_is_a_programming_error(network: QuartzNet) -> None:
    clip = sound(0)
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 8000"):
        network([Audio(clip.samples, 8_000)])
    with pytest.raises(ValueError, match="wrong_shape"):
        network([Audio(np.stack([clip.samples] * 2, 1), RATE)])


def test_a_network_that_gives_nan_is_a_failure(network: QuartzNet) -> None:
    import torch

    network._net.decoder.decoder_layers[0].bias.fill_(torch.nan)
    with pytest.raises(NonfiniteOutput, match="NaN"):
        network([sound(0)])


def test_all_metrics_share_one_network(file: Path, clips: list[Path], tmp_path: Path) -> None:
    texts = tmp_path / "texts.tsv"
    texts.write_text("".join(f"{path.stem}\tit's 21 words\n" for path in clips))
    events: list[Any] = []
    names = ["wer_quartznet", "wer_quartznet_corpus", "wer_quartznet_words_v1", "wer_quartznet_raw"]
    found = scoring.scores(
        clips[0].parent,
        metrics=names,
        transcripts=texts,
        engine="serial",
        listeners=[events.append],
    )
    loads = [event.view for event in events if isinstance(event, NetworkLoaded)]
    assert loads == ["quartznet"]
    records = {name: row[0] for name, row in found.line.outcomes.items()}
    said = {name: record.info["transcript_words"] for name, record in records.items()}
    assert said == {
        "wer_quartznet": "it is twentyone words",
        "wer_quartznet_corpus": "it is twentyone words",
        "wer_quartznet_words_v1": "it's twenty one words",
        "wer_quartznet_raw": "it's 21 words",
    }
    assert len({record.info["recognised"] for record in records.values()}) == 1


def test_a_file_that_changed_is_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    copy = tmp_path / weights.WEIGHTS.get(QuartzNet.weight).file
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    assert weights.locate(QuartzNet.weight) == copy
    with tarfile.open(copy, "a") as archive:
        archive.addfile(tarfile.TarInfo("more"), io.BytesIO())
    with pytest.raises(WeightsMismatch, match=r"nemo\.sha256"):
        weights.locate(QuartzNet.weight)


def test_silence_never_reaches_the_network(file: Path, tmp_path: Path) -> None:
    path = media.write_wav(tmp_path / "a.wav", Audio(np.zeros(RATE, np.float32), RATE))
    from phonoscope.views import see

    (found,) = see(wer.quartznet, [Clip(str(path))])
    assert isinstance(found, Failure)
    assert found.code == "silent_audio"
