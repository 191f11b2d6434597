"""Recognisers: networks that write down what they hear, from weights in their official layout.

Each hears one clip at a time: padding a clip to the length of another moves the texts of all these
networks. Decoding is greedy, in float32, and nothing is looked up in a network: the weights lie on
this machine or the column is unavailable.

QuartzNet: Kriman et al., ICASSP 2020, through NVIDIA NeMo. wav2vec 2.0: Baevski et al., NeurIPS
2020; its phoneme recogniser: Xu et al., Interspeech 2022. Whisper: Radford et al., ICML 2023. The
last three through Hugging Face transformers.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope import weights
from phonoscope.errors import NonfiniteOutput, TooLong, WeightsMismatch
from phonoscope.metrics.networks.inference import exact
from phonoscope.metrics.speech import RATE, require_rate
from phonoscope.types import Audio

Floats: TypeAlias = NDArray[np.float32]

HUB = "https://huggingface.co"
NETWORK_FILES = ("config.json", "preprocessor_config.json", "model.safetensors|pytorch_model.bin")
CTC_FILES = (*NETWORK_FILES, "vocab.json")
WHISPER_FILES = (*NETWORK_FILES, "generation_config.json", "tokenizer.json")

# Only training uses it, and old files lack it.
NOT_NEEDED = "wav2vec2.masked_spec_embed"
PAD, UNKNOWN, WORD_END = "<pad>", "<unk>", "|"
LONGEST_WHISPER = 30 * RATE


def folder(repository: str, files: tuple[str, ...]) -> str:
    """Add a folder of Hugging Face's layout to the table of weights; return its name there.

    Parameters
    ----------
    repository : str
        ``owner/name``, such as ``facebook/wav2vec2-base-960h``.
    files : tuple of str
        What is read of it.
    """
    name = repository.rpartition("/")[2]
    family = name.partition("-")[0]
    row = weights.Weight(
        name=f"{family}/{name}",
        file=f"{family}/{name}",
        bytes=0,
        sha256="",
        licence="Apache-2.0",
        origin=f"{HUB}/{repository}/resolve/main",
        files=files,
    )
    return weights.register(row, origin=__name__).name


def quartznet_weights() -> str:
    """Add QuartzNet15x5Base-En to the table of weights; return its name there."""
    root = "https://api.ngc.nvidia.com/v2/models/nvidia/nemospeechmodels/versions/1.0.0a5/files"
    row = weights.Weight(
        name="nemo/QuartzNet15x5Base-En",
        file="nemo/QuartzNet15x5Base-En.nemo",
        bytes=0,
        sha256="",
        licence="model terms on NVIDIA NGC",
        origin=f"{root}/QuartzNet15x5Base-En.nemo",
    )
    return weights.register(row, origin=__name__).name


def collapse(path: Sequence[int], blank: int) -> list[int]:
    """Return the labels of a CTC path: repeats become one, blanks vanish."""
    return [label for label, _ in itertools.groupby(path) if label != blank]


def finite(scores: Any) -> Any:
    """Return what a network gave.

    Raises
    ------
    NonfiniteOutput
        With a NaN or an infinity in it.
    """
    if not bool(scores.isfinite().all()):
        raise NonfiniteOutput("the recogniser gave a NaN or an infinity")
    return scores


# NeMo


class QuartzNet:
    """English text by NeMo's `EncDecCTCModel`: a-z, the apostrophe and the space.

    The text is that of `transcribe` for a file. (An array of less than a second is another sound to
    `transcribe`, which fills it up with silence.)
    """

    weight = quartznet_weights()

    def load(self, device: str) -> None:
        """Restore the ``.nemo`` file on `device`, with the settings of `transcribe`."""
        from nemo.collections.asr.models import EncDecCTCModel
        from nemo.utils import logging

        logging.setLevel(logging.ERROR)
        path = str(weights.locate(self.weight))
        self._net = EncDecCTCModel.restore_from(path, map_location=device, strict=True)
        self._net.change_decoding_strategy({"strategy": "greedy"}, verbose=False)
        self._net.to(device).float().eval().requires_grad_(False)
        front = self._net.preprocessor.featurizer
        front.dither, front.pad_to = 0.0, 0
        self._device = device

    def __call__(self, batch: list[Audio]) -> list[str]:
        """Return one lower-case text per clip of 16 kHz mono sound.

        Raises
        ------
        NonfiniteOutput
            If the network gave a NaN.
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        return [self._hear(sound) for sound in batch]

    def scores(self, sound: Audio) -> Any:
        """Return log probabilities, a tensor of shape (1, frames, 29): the alphabet, the blank."""
        import torch

        require_rate(sound, RATE)
        with exact(self._device):
            samples = torch.from_numpy(sound.samples)[None].to(self._device)
            length = torch.tensor([samples.shape[1]], device=self._device)
            found, frames, _ = self._net(input_signal=samples, input_signal_length=length)
            return finite(found[:, : int(frames[0])])

    def _hear(self, sound: Audio) -> str:
        (found,) = self._net.decoding.ctc_decoder_predictions_tensor(self.scores(sound))
        return str(found.text).strip()


# transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the notes and bars of transformers out of the console."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def pretrained(kind: str, name: str, device: str) -> Any:
    """Return a network of transformers, in float32, on `device`, without training parts.

    Parameters
    ----------
    kind : str
        A class of transformers.
    name : str
        Weights: a folder.
    device : str

    Raises
    ------
    WeightsMismatch
        If the folder holds another network: upstream would fill what is missing at random.
    """
    import transformers

    path = weights.locate(name)
    again = f"run `phonoscope weights fetch {name}`, or give the whole published folder"
    try:
        with quiet():
            net, report = getattr(transformers, kind).from_pretrained(
                path, local_files_only=True, output_loading_info=True
            )
    except (OSError, RuntimeError, ValueError, UnpicklingError) as error:
        raise WeightsMismatch(
            f"weights {name!r}: {path} cannot be read as a {kind} ({error}); {again}"
        ) from error
    missing = sorted({*report["missing_keys"], *report["mismatched_keys"]} - {NOT_NEEDED})
    if missing:
        raise WeightsMismatch(
            f"weights {name!r}: {path} is no whole {kind}, {len(missing)} values are missing, "
            f"such as {missing[0]}; {again}"
        )
    return net.to(device).float().eval().requires_grad_(False)


def settings(name: str, file: str) -> dict[str, Any]:
    """Return what a JSON file in a folder of weights says."""
    found: dict[str, Any] = json.loads((weights.locate(name) / file).read_text(encoding="utf-8"))
    return found


def require_settings(name: str, file: str, expected: dict[str, Any]) -> None:
    """Hold a JSON file of a folder to what a metric's definition asks for.

    Raises
    ------
    WeightsMismatch
        With the first setting that differs.
    """
    found = settings(name, file)
    for key, value in expected.items():
        if found.get(key) != value:
            raise WeightsMismatch(
                f"weights {name!r}: {weights.locate(name) / file} says {key} = {found.get(key)!r}, "
                f"but the metric is defined with {value!r}; get the published file"
            )


def standardised(samples: Floats) -> Floats:
    """Return a clip with zero mean and unit variance, as Wav2Vec2FeatureExtractor does."""
    found: Floats = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return found


class Wav2Vec2:
    """CTC labels by a wav2vec 2.0 network from a folder: network, vocabulary, front end."""

    weight: str
    front_end: ClassVar[dict[str, Any]] = {
        "sampling_rate": RATE,
        "feature_size": 1,
        "do_normalize": True,
    }

    def load(self, device: str) -> None:
        """Read the folder onto `device`."""
        require_settings(self.weight, "preprocessor_config.json", self.front_end)
        vocabulary = settings(self.weight, "vocab.json")
        front_end = settings(self.weight, "preprocessor_config.json")
        self._masked = bool(front_end.get("return_attention_mask"))
        self._tokens = {label: token for token, label in vocabulary.items()}
        self._blank = vocabulary[PAD]
        self._net = pretrained("Wav2Vec2ForCTC", self.weight, device)
        self._device = device

    def scores(self, sound: Audio) -> Floats:
        """Return the network's output for 16 kHz mono sound, shape (frames, labels)."""
        import torch

        require_rate(sound, RATE)
        with exact(self._device):
            samples = torch.from_numpy(standardised(sound.samples))[None].to(self._device)
            mask = torch.ones_like(samples, dtype=torch.int32) if self._masked else None
            found: Floats = finite(self._net(samples, attention_mask=mask).logits[0]).cpu().numpy()
        return found

    def tokens(self, path: Sequence[int]) -> list[str]:
        """Return the vocabulary's entries for a CTC path."""
        return [self._tokens.get(label, UNKNOWN) for label in collapse(path, self._blank)]

    def heard(self, sound: Audio) -> list[str]:
        """Return the most likely tokens of a clip."""
        return self.tokens(self.scores(sound).argmax(-1).tolist())


class Wav2Vec2Words(Wav2Vec2):
    """English text, in the letters of the vocabulary."""

    def __call__(self, batch: list[Audio]) -> list[str]:
        """Return one text per clip.

        Raises
        ------
        NonfiniteOutput
            If the network gave a NaN.
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        return ["".join(self.heard(sound)).replace(WORD_END, " ").strip() for sound in batch]


class Wav2Vec2Phonemes(Wav2Vec2):
    """Phonemes in espeak's IPA, with a space between them; a phoneme may be several characters."""

    weight = folder("facebook/wav2vec2-lv-60-espeak-cv-ft", CTC_FILES)
    front_end: ClassVar = {**Wav2Vec2.front_end, "return_attention_mask": True}

    def __call__(self, batch: list[Audio]) -> list[str]:
        """Return the phonemes of each clip; raises as `Wav2Vec2Words` does."""
        return [" ".join(self.heard(sound)) for sound in batch]


class Whisper:
    """English text by Whisper: one window of 30 s, no timestamps, the most likely token each time.

    Whisper's own fallback to random sampling is not used: the same clip gives the same text.
    """

    weight: str

    def load(self, device: str) -> None:
        """Read the folder onto `device`."""
        from tokenizers import Tokenizer
        from transformers import WhisperFeatureExtractor

        path: Path = weights.locate(self.weight)
        self._net = pretrained("WhisperForConditionalGeneration", self.weight, device)
        self._front = WhisperFeatureExtractor.from_pretrained(path, local_files_only=True)
        self._tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self._rules = settings(self.weight, "generation_config.json")
        self._device = device

    def __call__(self, batch: list[Audio]) -> list[str]:
        """Return one text per clip of 16 kHz mono sound.

        Raises
        ------
        TooLong
            Over 30 s: how a longer clip is cut decides its text.
        NonfiniteOutput
            If the network gave a NaN.
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        return [self._hear(sound) for sound in batch]

    def _hear(self, sound: Audio) -> str:
        require_rate(sound, RATE)
        if len(sound.samples) > LONGEST_WHISPER:
            raise TooLong(f"too_long: {sound.seconds:.2f} s, Whisper hears 30 s at once")
        with exact(self._device):
            labels = self.labels(self.features(sound))
        # Special tokens and timestamps stand behind the end of text.
        words = [label for label in labels if label < self._rules["eos_token_id"]]
        return str(self._tokenizer.decode(words)).strip()

    def features(self, sound: Audio) -> Any:
        """Return the log-mel spectrogram, a tensor of shape (1, bands, 3000)."""
        found = self._front(sound.samples, sampling_rate=RATE, return_tensors="pt")
        return found.input_features.to(self._device)

    @property
    def prompt(self) -> list[int]:
        """What the text begins with: English, to be transcribed, without timestamps."""
        rules = self._rules
        asked = []
        if rules.get("is_multilingual"):
            asked = [rules["lang_to_id"]["<|en|>"], rules["task_to_id"]["transcribe"]]
        return [rules["decoder_start_token_id"], *asked, rules["no_timestamps_token_id"]]

    def labels(self, features: Any) -> list[int]:
        """Return the tokens of a spectrogram, without prompt and end."""
        import torch

        rules, found = self._rules, list[int]()
        encoded = self._net.get_encoder()(features)
        ahead, memory = self.prompt, dict[str, Any]()
        for _ in range(rules["max_length"] - len(ahead)):
            asked = torch.tensor([ahead], device=self._device)
            out = self._net(
                encoder_outputs=encoded, decoder_input_ids=asked, use_cache=True, **memory
            )
            scores = finite(out.logits[0, -1])
            scores[rules.get("suppress_tokens") or []] = -torch.inf
            if not found:
                scores[rules.get("begin_suppress_tokens") or []] = -torch.inf
            ahead, memory = [int(scores.argmax())], remembered(out)
            if ahead[0] == rules["eos_token_id"]:
                break
            found += ahead
        return found


def remembered(output: Any) -> dict[str, Any]:
    """Return keys and values of the tokens so far, under the name of this transformers version."""
    name = "cache" if "cache" in output else "past_key_values"
    return {name: output[name]}
