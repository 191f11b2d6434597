"""Levenshtein phoneme similarity: how much of what was said can be heard, without a transcript.

A network writes down the phonemes of both clips; LPS = 1 - edits / length of the reference's. It
is 1 where both sound alike and falls below 0 where far more is heard than was said.

`lps` counts Unicode characters, as the published copies do: a diphthong or a long vowel is two, so
it is no rate of phonemes. `lps_tokens` counts phonemes and is comparable with no published number.

Pirklbauer et al., ITG Conference on Speech Communication 2023, doi 10.30420/456164052; the code of
the URGENT challenges, which fails where the clips differ in length: here they may.
"""

from __future__ import annotations

from collections.abc import Sequence

from phonoscope.errors import EmptyReferencePhonemes
from phonoscope.metrics.networks.asr import Wav2Vec2Phonemes
from phonoscope.metrics.speech import speech16k
from phonoscope.plugins import metric
from phonoscope.types import Record, Scalar
from phonoscope.views import view


@view(
    of=speech16k,
    version="1",
    weights=[Wav2Vec2Phonemes.weight],
    requires=("torch", "transformers"),
)
class wav2vec2_phonemes(Wav2Vec2Phonemes):
    """Phonemes heard by facebook/wav2vec2-lv-60-espeak-cv-ft, with a space between them."""


def phoneme_similarity(generated: Sequence[str], reference: Sequence[str]) -> Record:
    """Return 1 - edits / length of the reference, not clamped.

    Parameters
    ----------
    generated, reference : sequence of str
        A text (its characters are compared) or a list of phonemes.

    Returns
    -------
    Record
        In (-inf, 1], with `edits`, `ref_len` and `gen_len`.

    Raises
    ------
    EmptyReferencePhonemes
        If nothing was heard in the reference.
    """
    from rapidfuzz.distance import Levenshtein

    if not reference:
        raise EmptyReferencePhonemes("empty_reference_phonemes: no phoneme heard in the reference")
    edits = Levenshtein.distance(generated, reference)
    info: dict[str, Scalar] = {"edits": edits, "ref_len": len(reference), "gen_len": len(generated)}
    return Record(1 - edits / len(reference), info=info)


def _with_texts(found: Record, generated: str, reference: str) -> Record:
    texts = {"generated_phonemes": generated, "reference_phonemes": reference}
    return Record(found.value, info={**found.info, **texts})


@metric(
    unit="-",
    better="higher",
    label="LPS (wav2vec2-lv-60-espeak-cv-ft, characters)",
    ideal=1.0,
    generated=wav2vec2_phonemes,
    reference=wav2vec2_phonemes,
)
def lps(generated: str, reference: str) -> Record:
    """Similarity of the phonemes heard in both clips, counted in characters. Range (-inf, 1].

    1 - Levenshtein distance / length of the reference's, over the characters of what wav2vec 2.0
    (lv-60, espeak phonemes) heard: a diphthong or a long vowel is two. Not clamped.

    Pirklbauer et al., ITG Conference on Speech Communication 2023, doi 10.30420/456164052.

    Raises
    ------
    EmptyReferencePhonemes
        If nothing was heard in the reference.
    """
    texts = ("".join(generated.split()), "".join(reference.split()))
    return _with_texts(phoneme_similarity(*texts), generated, reference)


@metric(
    unit="-",
    better="higher",
    label="LPS (wav2vec2-lv-60-espeak-cv-ft, phonemes)",
    ideal=1.0,
    generated=wav2vec2_phonemes,
    reference=wav2vec2_phonemes,
)
def lps_tokens(generated: str, reference: str) -> Record:
    """Similarity of the phonemes heard in both clips, counted in phonemes. Range (-inf, 1].

    As `lps`, over whole phonemes. Our own variant: published numbers are those of `lps`.

    Raises
    ------
    EmptyReferencePhonemes
        If nothing was heard in the reference.
    """
    return _with_texts(
        phoneme_similarity(generated.split(), reference.split()), generated, reference
    )
