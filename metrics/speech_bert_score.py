"""SpeechBERTScore: how well the sounds of generated speech are found again in the reference.

BERTScore over the vectors of a self-supervised speech network instead of words: each 20 ms of the
generated clip counts with the cosine to its nearest 20 ms of the reference, anywhere in it. Lengths
may differ, and the order of the sounds does not matter.

Saeki et al., Interspeech 2024; Takaaki-Saeki/DiscreteSpeechMetrics.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phonoscope.metrics.networks.speech_units import HubertBase8, Units, WavLMLarge14
from phonoscope.metrics.speech import speech16k
from phonoscope.plugins import metric
from phonoscope.types import Record
from phonoscope.views import view

PACKAGES = ("torch", "transformers")


@view(of=speech16k, version="1", weights=[WavLMLarge14.weight], requires=PACKAGES)
class wavlm_units(WavLMLarge14):
    """Layer 14 of WavLM-large: a unit vector of 1024 numbers every 20 ms."""


@view(of=speech16k, version="1", weights=[HubertBase8.weight], requires=PACKAGES)
class hubert_units(HubertBase8):
    """Layer 8 of HuBERT-base: a unit vector of 768 numbers every 20 ms."""


def bert_score(
    generated: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]]
) -> tuple[float, float]:
    """Return precision and recall of one sequence of vectors against another one.

    Parameters
    ----------
    generated, reference : ndarray, shapes (n, width) and (m, width)
        None of the vectors is zero; their lengths do not matter.

    Returns
    -------
    precision, recall : float
        Mean over the generated vectors of the cosine to the nearest reference vector, and the same
        the other way round, in [-1, 1].

    Notes
    -----
    Zhang et al., "BERTScore", ICLR 2020, without weights of rarity.
    """
    g, r = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (generated, reference))
    cosines = g @ r.T
    return float(cosines.max(axis=1).mean()), float(cosines.max(axis=0).mean())


def _score(generated: Units, reference: Units) -> Record:
    precision, recall = bert_score(generated.astype(np.float32), reference.astype(np.float32))
    n = {"n_frames": len(generated), "n_frames_reference": len(reference)}
    f1 = 2 * precision * recall / (precision + recall)
    return Record(precision, info={"recall": recall, "f1": f1, **n})


@metric(
    unit="-",
    better="higher",
    label="SpeechBERTScore (WavLM-large, layer 14)",
    ideal=1.0,
    decimals=3,
    encoder="wavlm_large",
    generated=wavlm_units,
    reference=wavlm_units,
)
def speech_bert_score(generated: Units, reference: Units) -> Record:
    """SpeechBERTScore, precision, by layer 14 of WavLM-large: the paper's best setting.

    In [-1, 1], in practice 0.6 to 1. Recall and F1 are in the info. Each 20 ms of the generated
    clip counts with the cosine to its nearest 20 ms of the reference. Saeki et al., Interspeech
    2024; Takaaki-Saeki/DiscreteSpeechMetrics.
    """
    return _score(generated, reference)


@metric(
    unit="-",
    better="higher",
    label="SpeechBERTScore (HuBERT-base, layer 8)",
    ideal=1.0,
    decimals=3,
    encoder="hubert_base",
    generated=hubert_units,
    reference=hubert_units,
)
def speech_bert_score_hubert(generated: Units, reference: Units) -> Record:
    """SpeechBERTScore, precision, by layer 8 of HuBERT-base: what the URGENT challenge reports.

    In [-1, 1]. Recall and F1 are in the info. See `speech_bert_score`. Saeki et al., Interspeech
    2024; URGENT challenge 2024.
    """
    return _score(generated, reference)
