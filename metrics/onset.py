"""Do generated sounds start when the true ones do? Onset metrics at 22050 Hz.

Onsets are peaks of the onset detection function (`phonoscope.metrics.odf`), on its grid of 512
samples. The names say window and padding: bare names see the first 2 s, `_whole` both clips cut to
the shorter; `_zeropad` is the variant of librosa 0.9 and later.

The definition follows CondFoleyGen (XYPB/CondFoleyGen, ``predict_onset.py``). Print these numbers
beside rows for chance, noise, silence and the identical clip: on real clips chance is 0.15 to 0.3,
and thinning on one side only keeps a perfect copy below 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phonoscope.errors import UnscorableReference
from phonoscope.metrics.odf import (
    HOP,
    RATE,
    Padding,
    Pair,
    Vector,
    Window,
    cached_strength,
    common_window,
)
from phonoscope.plugins import Metric, metric
from phonoscope.types import Audio, Record
from phonoscope.views import audio

Indices = NDArray[np.intp]

DELTA = 0.3
NEIGHBOURS = 4
REFRACTORY = 2
TOLERANCE = 0.1 * RATE
THINNING = 0.05 * RATE
CONFIDENCE_REACH = int(THINNING)
TINY = float(np.finfo(np.float32).tiny)


def pick_peaks(strength: Vector) -> Indices:
    """Return the frames of the onsets in an ODF of shape (t,).

    A frame n >= 1 of the ODF, scaled to [0, 1], is a peak if it is not below the one before and at
    least 0.3 above the mean of frames n-4 to n+4; after a peak the next candidate is n+2.
    """
    if not strength.any():
        return np.zeros(0, np.intp)
    x = strength - strength.min()
    x = x / (x.max() + TINY)
    box = np.ones(2 * NEIGHBOURS + 1)
    inside = slice(NEIGHBOURS, NEIGHBOURS + len(x))
    mean = np.convolve(x, box)[inside] / np.convolve(np.ones_like(x), box)[inside]
    high = x >= mean + DELTA
    high[0] = False
    high[1:] &= x[1:] >= x[:-1]
    peaks: list[int] = []
    for n in np.flatnonzero(high):
        if not peaks or n >= peaks[-1] + REFRACTORY:
            peaks.append(int(n))
    return np.array(peaks, np.intp)


def loudness(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the absolute signal, scaled to [0, 1] over the window."""
    a = np.abs(samples).astype(np.float64)
    low, high = a.min(), a.max()
    return (a - low) / (high - low) if high > low else np.zeros_like(a)


def confidences(onsets: Indices, loud: Vector) -> Vector:
    """Return the loudest value within 50 ms of each onset (positions in samples)."""
    reach = CONFIDENCE_REACH
    return np.array([loud[max(0, o - reach) : o + reach].max() for o in onsets], np.float64)


def thin(onsets: Indices, confidence: Vector) -> Indices:
    """Return which onsets stay (indices, in time order) when the surer drops those within 50 ms.

    The surest is kept first; of equals, the later.
    """
    kept: list[int] = []
    for i in np.lexsort((onsets, confidence))[::-1]:
        if all(abs(onsets[i] - onsets[k]) >= THINNING for k in kept):
            kept.append(int(i))
    return np.array(sorted(kept), np.intp)


@dataclass(frozen=True)
class Match:
    """Which onsets found a partner.

    Attributes
    ----------
    n_reference : int
        Reference onsets.
    tried : int
        Those looked at before no generated onset was left.
    found : ndarray of bool, shape (generated onsets,)
        Whether each generated onset is a hit.
    """

    n_reference: int
    tried: int
    found: NDArray[np.bool_]

    @property
    def hits(self) -> int:
        """Pairs."""
        return int(self.found.sum())


def match(reference: Indices, generated: Indices, loud_at_onset: Vector) -> Match:
    """Give each reference onset, in time order, the loudest unused generated one within 100 ms.

    Parameters
    ----------
    reference, generated : ndarray of int
        Onset positions in samples, rising.
    loud_at_onset : ndarray, shape (generated onsets,)
        Of equals, the later wins.
    """
    found = np.zeros(len(generated), np.bool_)
    tried = 0
    for onset in reference:
        tried += 1
        near = np.flatnonzero(~found & (np.abs(generated - onset) < TOLERANCE))
        if len(near):
            found[near[np.lexsort((near, loud_at_onset[near]))[-1]]] = True
            if found.all():
                break
    return Match(len(reference), tried, found)


def average_precision(hit: NDArray[np.bool_], score: Vector, n_positive: int) -> float:
    """Return the sum of precision times gain in recall over falling distinct scores.

    Parameters
    ----------
    hit : ndarray of bool, shape (n,)
    score : ndarray, shape (n,)
    n_positive : int
        What recall is measured against; 1 or more.

    Returns
    -------
    float
        0 to 1; 0 where n = 0.
    """
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(hit[order])
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))
    gained = np.diff(hits[last], prepend=0) / n_positive
    return float(np.sum(gained * hits[last] / (last + 1)))


def accuracy(matched: Match, confidence: Vector) -> float:
    """Return hits over reference onsets: recall; further generated onsets are free."""
    return matched.hits / matched.n_reference


def detection_ap(matched: Match, confidence: Vector) -> float:
    """Return the average precision of the generated onsets by confidence.

    Recall counts all reference onsets; nothing generated has 0.
    """
    return average_precision(matched.found, confidence, matched.n_reference)


def condfoleygen_ap(matched: Match, confidence: Vector) -> float:
    """Return average precision as CondFoleyGen computes it: silence has 1.

    Missed reference onsets enter as positives of score 0; those never tried are absent.
    """
    n_missed = matched.tried - matched.hits
    hit = np.concatenate([matched.found, np.ones(n_missed, np.bool_)])
    score = np.concatenate([confidence, np.zeros(n_missed)])
    return average_precision(hit, score, matched.tried)


@dataclass(frozen=True)
class Onsets:
    """The onsets of a pair.

    Attributes
    ----------
    reference, generated : ndarray of int
        Positions in samples; `generated` before thinning.
    kept : ndarray of int
        Positions of the generated onsets after thinning.
    confidence, loud_at_onset : ndarray, shape (len(kept),)
    """

    reference: Indices
    generated: Indices
    kept: Indices
    confidence: Vector
    loud_at_onset: Vector


def find_onsets(pair: Pair, padding: Padding) -> Onsets:
    """Return the onsets of both sounds; a silent one has none."""
    reference = _onsets(pair.reference, pair.silent_reference, padding)
    generated = _onsets(pair.generated, pair.silent_generated, padding)
    loud = loudness(pair.generated)
    confidence = confidences(generated, loud)
    stay = thin(generated, confidence)
    kept = generated[stay]
    # an onset on the last frame of a window of whole hops lies one past its last sample
    at = loud[np.minimum(kept, len(loud) - 1)]
    return Onsets(reference, generated, kept, confidence[stay], at)


def _onsets(samples: NDArray[np.float32], silent: bool, padding: Padding) -> Indices:
    if silent:
        return np.zeros(0, np.intp)
    return pick_peaks(cached_strength(samples, padding)) * HOP


Score = Callable[[Match, Vector], float]


def _measure(
    generated: Audio, reference: Audio, *, score: Score | None, window: Window, padding: Padding
) -> Record:
    pair = common_window(generated, reference, window)
    onsets = find_onsets(pair, padding)
    matched = match(onsets.reference, onsets.kept, onsets.loud_at_onset)
    info = {
        **pair.info,
        "n_ref": len(onsets.reference),
        "n_gen": len(onsets.generated),
        "after_nms": len(onsets.kept),
        "hits": matched.hits,
    }
    if score is None:
        return Record(float(info["n_ref"] == info["n_gen"]), pair.flags, info)
    if not len(onsets.reference):
        raise UnscorableReference(
            f"unscorable_reference: no onset in the reference (window {window}, {padding})"
        )
    none = () if len(onsets.kept) else ("no_generated_onsets",)
    return Record(score(matched, onsets.confidence), (*pair.flags, *none), info)


def _offer(name: str, score: Score | None, doc: str, *, window: Window, padding: Padding) -> Metric:
    """Register one variant: the name decides score, window and padding; all else is shared."""

    def measure(generated: Audio, reference: Audio) -> Record:
        return _measure(generated, reference, score=score, window=window, padding=padding)

    measure.__name__ = measure.__qualname__ = name
    measure.__doc__ = f"{doc}\n\nWindow: {window}. ODF padding: {padding}."
    offer = metric(
        unit="-",
        better="higher",
        label=f"{_TITLES[score]} ({window}, {padding})",
        decimals=3,
        generated=audio(RATE),
        reference=audio(RATE),
    )
    return offer(measure)


_TITLES: dict[Score | None, str] = {
    accuracy: "Onset accuracy",
    None: "Onset count",
    detection_ap: "Onset AP",
    condfoleygen_ap: "Onset AP of CondFoleyGen",
}


_ACC = "Share of the reference onsets with a generated one within 100 ms: recall, 0 to 1."
_COUNT = "1 where both clips have equally many onsets, else 0; defined without any, too."
_AP = "Average precision of generated onsets by loudness, 0 to 1; 0 where there is none."
_CFG = "CondFoleyGen's average precision: silence has 1. For comparison only, never for ranking."

onset_acc = _offer("onset_acc", accuracy, _ACC, window="2s", padding="reflect")
onset_acc_whole = _offer("onset_acc_whole", accuracy, _ACC, window="whole", padding="reflect")
onset_acc_zeropad = _offer("onset_acc_zeropad", accuracy, _ACC, window="2s", padding="constant")
onset_acc_whole_zeropad = _offer(
    "onset_acc_whole_zeropad", accuracy, _ACC, window="whole", padding="constant"
)

onset_count_acc = _offer("onset_count_acc", None, _COUNT, window="2s", padding="reflect")
onset_count_acc_whole = _offer(
    "onset_count_acc_whole", None, _COUNT, window="whole", padding="reflect"
)
onset_count_acc_zeropad = _offer(
    "onset_count_acc_zeropad", None, _COUNT, window="2s", padding="constant"
)
onset_count_acc_whole_zeropad = _offer(
    "onset_count_acc_whole_zeropad", None, _COUNT, window="whole", padding="constant"
)

onset_ap = _offer("onset_ap", detection_ap, _AP, window="2s", padding="reflect")
onset_ap_whole = _offer("onset_ap_whole", detection_ap, _AP, window="whole", padding="reflect")
onset_ap_zeropad = _offer("onset_ap_zeropad", detection_ap, _AP, window="2s", padding="constant")
onset_ap_whole_zeropad = _offer(
    "onset_ap_whole_zeropad", detection_ap, _AP, window="whole", padding="constant"
)

onset_ap_cfg = _offer("onset_ap_cfg", condfoleygen_ap, _CFG, window="2s", padding="reflect")
onset_ap_cfg_whole = _offer(
    "onset_ap_cfg_whole", condfoleygen_ap, _CFG, window="whole", padding="reflect"
)
onset_ap_cfg_zeropad = _offer(
    "onset_ap_cfg_zeropad", condfoleygen_ap, _CFG, window="2s", padding="constant"
)
onset_ap_cfg_whole_zeropad = _offer(
    "onset_ap_cfg_whole_zeropad", condfoleygen_ap, _CFG, window="whole", padding="constant"
)
