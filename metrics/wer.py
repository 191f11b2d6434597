"""Word error rate over recognisers.

WER = (substitutions + deletions + insertions) / words of the transcript, by the Levenshtein
distance over words. It is not capped at 1. The name of a metric says which recogniser it is, which
text normaliser (where that is not the recogniser's default), and whether it is the mean over
utterances or, with ``_corpus``, all edits over all words:

======================  ============================  ==========  ===========================
recogniser              weights                       default     other normalisers
======================  ============================  ==========  ===========================
wer_quartznet           NeMo QuartzNet15x5Base-En     evalse_tfs  words_v1 whisper_basic raw
wer_whisper_base_en     openai/whisper-base.en        words_v1    whisper_basic
wer_whisper_large_v3    openai/whisper-large-v3       words_v1    whisper_basic
wer_wav2vec2            wav2vec2-large-960h-lv60-self words_v1
wer_wav2vec2_base       wav2vec2-base-960h            words_v1
wer_pocketsphinx_grid   inside pocketsphinx           words_v1
======================  ============================  ==========  ===========================

So `wer_quartznet_words_v1_corpus` is QuartzNet under `words_v1`, over the corpus. All of one
recogniser share what it heard. `word_error_rate` makes another combination in a plugin file.

`pocketsphinx` knows the 51 words of the GRID corpus here and nothing else (Cooke et al., JASA
120(5), 2006, doi 10.1121/1.2229005): command, colour, preposition, letter, digit, adverb. Use it on
sentences of that grammar only; on any other text the rate says nothing.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from phonoscope.errors import EmptyReferenceText
from phonoscope.metrics.networks import asr
from phonoscope.metrics.speech import RATE, require_rate, speech16k
from phonoscope.metrics.text import words
from phonoscope.plugins import Metric, metric
from phonoscope.stats import mean, ratio_of_sums
from phonoscope.types import Audio, Ratio, Record, Scalar
from phonoscope.views import View, view

GRID = {
    "command": "bin lay place set",
    "colour": "blue green red white",
    "preposition": "at by in with",
    "letter": "a b c d e f g h i j k l m n o p q r s t u v x y z",
    "digit": "zero one two three four five six seven eight nine",
    "adverb": "again now please soon",
}

TRANSFORMERS = ("torch", "transformers")
WAV2VEC2 = asr.folder("facebook/wav2vec2-large-960h-lv60-self", asr.CTC_FILES)
WAV2VEC2_BASE = asr.folder("facebook/wav2vec2-base-960h", asr.CTC_FILES)
WHISPER_BASE_EN = asr.folder("openai/whisper-base.en", asr.WHISPER_FILES)
WHISPER_LARGE_V3 = asr.folder("openai/whisper-large-v3", asr.WHISPER_FILES)


def word_errors(recognised: str, transcript: str, *, normaliser: str) -> Record:
    """Count word edits between what was heard and what was said.

    Parameters
    ----------
    recognised : str
        The recogniser's text; empty is legal and gives a rate of 1.
    transcript : str
        The true text.
    normaliser : str
        A name in `phonoscope.metrics.text.NORMALISERS`.

    Returns
    -------
    Record
        `Ratio(edits, words of the transcript)`, with both texts raw and normalised.

    Raises
    ------
    EmptyReferenceText
        If no word of the transcript is left after normalisation.
    """
    from rapidfuzz.distance import Levenshtein

    said, heard = words(transcript, normaliser), words(recognised, normaliser)
    if not said:
        raise EmptyReferenceText(
            f"empty_reference_text: normaliser {normaliser} leaves no word of {transcript!r}"
        )
    edits = Levenshtein.distance(said, heard)
    info: dict[str, Scalar] = {
        "edits": edits,
        "ref_words": len(said),
        "gen_words": len(heard),
        "recognised": recognised,
        "recognised_words": " ".join(heard),
        "transcript_words": " ".join(said),
        "normaliser": normaliser,
    }
    return Record(Ratio(edits, len(said)), info=info)


def word_error_rate(
    name: str, heard: View, *, recogniser: str, normaliser: str, corpus: bool = False
) -> Metric:
    """Register the word error rate of a recogniser under a text normaliser.

    Parameters
    ----------
    name : str
        The metric's name.
    heard : View
        A recogniser: its output is the text of a clip.
    recogniser : str
        What a column's header calls it.
    normaliser : str
        A name in `phonoscope.metrics.text.NORMALISERS`.
    corpus : bool
        All edits over all words of the transcripts, not the mean of the utterances' rates.
    """

    def measure(generated: str, transcript: str) -> Record:
        return word_errors(generated, transcript, normaliser=normaliser)

    words_of = "of all utterances over words of all transcripts" if corpus else "of each utterance"
    what = f"Word edits {words_of}" if corpus else f"Word error rate {words_of}, then the mean"
    measure.__name__ = name
    measure.__doc__ = (
        f"{what}. Recogniser: {recogniser}; normaliser: `{normaliser}`. Range [0, inf).\n\n"
        "A clip in which nothing was recognised has 1; a transcript without words is a failure."
    )
    return metric(
        unit="-",
        better="lower",
        aggregate=ratio_of_sums if corpus else mean,
        label=f"WER ({recogniser}, {normaliser}, {'corpus' if corpus else 'utterance mean'})",
        ideal=0.0,
        generated=heard,
    )(measure)


@view(of=speech16k, version="1", weights=[asr.QuartzNet.weight], requires=("nemo", "torch"))
class quartznet(asr.QuartzNet):
    """Text heard by NeMo's QuartzNet15x5Base-En: lower case, no digits, no punctuation."""


@view(of=speech16k, version="1", weights=[WAV2VEC2], requires=TRANSFORMERS)
class wav2vec2(asr.Wav2Vec2Words):
    """Text heard by facebook/wav2vec2-large-960h-lv60-self: capital letters, no digits."""

    weight = WAV2VEC2


@view(of=speech16k, version="1", weights=[WAV2VEC2_BASE], requires=TRANSFORMERS)
class wav2vec2_base(asr.Wav2Vec2Words):
    """Text heard by facebook/wav2vec2-base-960h: capital letters, no digits."""

    weight = WAV2VEC2_BASE


@view(of=speech16k, version="1", weights=[WHISPER_BASE_EN], requires=TRANSFORMERS)
class whisper_base_en(asr.Whisper):
    """Text heard by openai/whisper-base.en, at most 30 s."""

    weight = WHISPER_BASE_EN


@view(of=speech16k, version="1", weights=[WHISPER_LARGE_V3], requires=TRANSFORMERS)
class whisper_large_v3(asr.Whisper):
    """Text heard by openai/whisper-large-v3 as English, at most 30 s."""

    weight = WHISPER_LARGE_V3


def _pair(name: str, heard: Any, recogniser: str, normaliser: str) -> tuple[Metric, Metric]:
    """Register the mean over utterances and, with ``_corpus``, that over all words."""
    view = cast(View, heard)  # a type checker does not see that `view` makes a View of a class
    make = functools.partial(
        word_error_rate, heard=view, recogniser=recogniser, normaliser=normaliser
    )
    return make(name), make(f"{name}_corpus", corpus=True)


wer_quartznet, wer_quartznet_corpus = _pair(
    "wer_quartznet", quartznet, "QuartzNet15x5Base-En", "evalse_tfs"
)
wer_quartznet_words_v1, wer_quartznet_words_v1_corpus = _pair(
    "wer_quartznet_words_v1", quartznet, "QuartzNet15x5Base-En", "words_v1"
)
wer_quartznet_whisper_basic, wer_quartznet_whisper_basic_corpus = _pair(
    "wer_quartznet_whisper_basic", quartznet, "QuartzNet15x5Base-En", "whisper_basic"
)
wer_quartznet_raw, wer_quartznet_raw_corpus = _pair(
    "wer_quartznet_raw", quartznet, "QuartzNet15x5Base-En", "raw"
)
wer_whisper_base_en, wer_whisper_base_en_corpus = _pair(
    "wer_whisper_base_en", whisper_base_en, "whisper-base.en", "words_v1"
)
wer_whisper_base_en_whisper_basic, wer_whisper_base_en_whisper_basic_corpus = _pair(
    "wer_whisper_base_en_whisper_basic", whisper_base_en, "whisper-base.en", "whisper_basic"
)
wer_whisper_large_v3, wer_whisper_large_v3_corpus = _pair(
    "wer_whisper_large_v3", whisper_large_v3, "whisper-large-v3", "words_v1"
)
wer_whisper_large_v3_whisper_basic, wer_whisper_large_v3_whisper_basic_corpus = _pair(
    "wer_whisper_large_v3_whisper_basic", whisper_large_v3, "whisper-large-v3", "whisper_basic"
)
wer_wav2vec2, wer_wav2vec2_corpus = _pair(
    "wer_wav2vec2", wav2vec2, "wav2vec2-large-960h-lv60-self", "words_v1"
)
wer_wav2vec2_base, wer_wav2vec2_base_corpus = _pair(
    "wer_wav2vec2_base", wav2vec2_base, "wav2vec2-base-960h", "words_v1"
)


def grid_grammar() -> str:
    """Return the sentences of the GRID corpus as a JSGF grammar: 64,000 sentences of six words."""
    rules = [f"<{name}> = {' | '.join(said.split())};" for name, said in GRID.items()]
    sentence = " ".join(f"<{name}>" for name in GRID)
    lines = ["#JSGF V1.0;", "grammar grid;", *rules, f"public <sentence> = {sentence};"]
    return "\n".join(lines) + "\n"


def pcm16(samples: NDArray[np.floating[Any]]) -> bytes:
    """Return float samples as little-endian 16-bit PCM; what lies outside [-1, 1) saturates."""
    scaled = np.clip(np.rint(samples * 32_768.0), -32_768, 32_767)
    return bytes(scaled.astype("<i2").tobytes())


@view(of=speech16k, version="1", requires=("pocketsphinx",))
class pocketsphinx_grid:
    """Text heard by pocketsphinx: its packaged en-us model, GRID grammar, all settings default.

    Where no whole sentence fits, the best beginning of one, or an empty text.
    """

    def load(self, device: str) -> None:
        """Build the decoder (0.1 s); it runs on the CPU whatever `device` says."""
        from pocketsphinx import Config, Decoder

        decoder = Decoder(Config(lm=None, loglevel="FATAL"))
        decoder.add_jsgf_string("grid", grid_grammar())
        decoder.activate_search("grid")
        self.decoder = decoder

    def __call__(self, batch: list[Audio]) -> list[str]:
        """Return one lower-case text per clip."""
        return [self._hear(sound) for sound in batch]

    def _hear(self, sound: Audio) -> str:
        require_rate(sound, RATE)
        # Noise statistics survive an utterance, so a used decoder hears other words than a new one.
        self.decoder.reinit_feat()
        self.decoder.start_utt()
        self.decoder.process_raw(pcm16(sound.samples), full_utt=True)
        self.decoder.end_utt()
        best = self.decoder.hyp()
        return str(best.hypstr) if best else ""


@metric(
    unit="-",
    better="lower",
    label="WER (pocketsphinx, GRID grammar, utterance mean)",
    ideal=0.0,
    generated=pocketsphinx_grid,
)
def wer_pocketsphinx_grid(generated: str, transcript: str) -> Record:
    """Word error rate of each utterance, then the mean. Range [0, inf).

    Recogniser: pocketsphinx with the GRID grammar; normaliser: `words_v1`. Sentences of six GRID
    words only. A silent or unreadable clip fails; a clip in which nothing was recognised has 1.

    Raises
    ------
    EmptyReferenceText
        If the transcript has no words.
    """
    return word_errors(generated, transcript, normaliser="words_v1")


@metric(
    unit="-",
    better="lower",
    aggregate=ratio_of_sums,
    label="WER (pocketsphinx, GRID grammar, corpus)",
    ideal=0.0,
    generated=pocketsphinx_grid,
)
def wer_pocketsphinx_grid_corpus(generated: str, transcript: str) -> Record:
    """Word edits of all utterances over words of all transcripts. Range [0, inf).

    As `wer_pocketsphinx_grid`, but one long utterance weighs more than one short one.

    Raises
    ------
    EmptyReferenceText
        If the transcript has no words.
    """
    return word_errors(generated, transcript, normaliser="words_v1")
