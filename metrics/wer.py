"""Word error rate over an embedded recogniser.

WER = (substitutions + deletions + insertions) / words of the transcript, by the Levenshtein
distance over words. It is not capped at 1. The name of a metric says which recogniser it is.

`pocketsphinx` knows the 51 words of the GRID corpus here and nothing else (Cooke et al., JASA
120(5), 2006, doi 10.1121/1.2229005): command, colour, preposition, letter, digit, adverb. Use it on
sentences of that grammar only; on any other text the rate says nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phonoscope.errors import EmptyReferenceText
from phonoscope.metrics.speech import RATE, require_rate, speech16k
from phonoscope.metrics.text import words
from phonoscope.plugins import metric
from phonoscope.stats import ratio_of_sums
from phonoscope.types import Audio, Ratio, Record, Scalar
from phonoscope.views import view

GRID = {
    "command": "bin lay place set",
    "colour": "blue green red white",
    "preposition": "at by in with",
    "letter": "a b c d e f g h i j k l m n o p q r s t u v x y z",
    "digit": "zero one two three four five six seven eight nine",
    "adverb": "again now please soon",
}


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
