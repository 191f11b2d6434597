"""Fréchet distances between sets of feature vectors.

``D = |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)`` with covariances of ddof 1, in float64,
and no epsilon anywhere. From features, ``tr (S1 S2)^(1/2)`` is the nuclear norm of ``A B^T``, where
A and B are the centred features over ``sqrt(n - 1)``: exact where n < d, without a d x d matrix.

Distances at different n are not comparable (two samples of one distribution are 1.8 apart at
n = 1100, d = 2048), so every value goes with n and d. A plain bootstrap inflates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phonoscope.errors import NonfiniteOutput, TooFewSamples
from phonoscope.metrics.odf import mel_power
from phonoscope.metrics.speech import loudest, require_rate
from phonoscope.plugins import metric
from phonoscope.stats import Aggregate
from phonoscope.types import Audio, Record, Scalar, Value
from phonoscope.views import audio, view

Matrix = NDArray[np.float64]
Distance = tuple[float, dict[str, Scalar], tuple[str, ...]]

SMALL_N = 1000
ROUNDING = 1e-9


def frechet_distance(x: ArrayLike, y: ArrayLike) -> Distance:
    """Return the Fréchet distance between two sets of features.

    Parameters
    ----------
    x, y : array_like, shapes (n1, d) and (n2, d)

    Returns
    -------
    value : float
        0 or more.
    info : dict
        ``n1``, ``n2``, ``d``, ``method``, ``rank1`` and ``rank2`` (the largest rank that n and the
        features that vary allow).
    flags : tuple of str
        ``rank_deficient`` where n < d, ``small_n`` below 1000.

    Raises
    ------
    TooFewSamples
        If either set has fewer than two rows.
    NonfiniteOutput
        If a feature is NaN or infinite.
    ArithmeticError
        If the result is negative beyond rounding.
    """
    first, second = _features(x, "first"), _features(y, "second")
    (n1, d), (n2, other) = first.shape, second.shape
    if d != other:
        raise ValueError(f"features have {d} and {other} dimensions; both sets need the same view")
    mu1, a = _centred(first)
    mu2, b = _centred(second)
    total = float(np.vdot(a, a) + np.vdot(b, b))
    shared = np.linalg.svd(_factor(a) @ _factor(b).T, compute_uv=False).sum()
    info: dict[str, Scalar] = {
        "n1": n1,
        "n2": n2,
        "d": d,
        "rank1": _largest_rank(a),
        "rank2": _largest_rank(b),
        "method": "nuclear norm",
    }
    return _distance(mu1 - mu2, total, float(shared)), info, _flags(n1, n2, d)


def frechet_from_statistics(
    mu1: ArrayLike, s1: ArrayLike, mu2: ArrayLike, s2: ArrayLike
) -> Distance:
    """Return the Fréchet distance between two Gaussians, such as published statistics.

    Less exact than `frechet_distance` where the covariances are singular: eigenvalues that are only
    rounding are cut twice, first of S1, then of the product.

    Parameters
    ----------
    mu1, mu2 : array_like, shape (d,)
    s1, s2 : array_like, shape (d, d)
        Covariances.

    Returns
    -------
    value, info, flags
        As `frechet_distance`, with measured ranks and without n.
    """
    m1, m2 = np.asarray(mu1, np.float64), np.asarray(mu2, np.float64)
    c1, c2 = np.asarray(s1, np.float64), np.asarray(s2, np.float64)
    w, u = np.linalg.eigh(c1)
    keep = w > _cut(w)
    factor = u[:, keep] * np.sqrt(w[keep])
    roots = np.linalg.eigvalsh(factor.T @ c2 @ factor)
    shared = np.sqrt(roots[roots > _cut(roots)]).sum()
    total = float(np.trace(c1) + np.trace(c2))
    spectrum = np.linalg.eigvalsh(c2)
    info: dict[str, Scalar] = {
        "d": len(m1),
        "rank1": int(keep.sum()),
        "rank2": int((spectrum > _cut(spectrum)).sum()),
        "method": "eigenvalues",
    }
    return _distance(m1 - m2, total, float(shared)), info, ()


def _features(values: ArrayLike, which: str) -> Matrix:
    features = np.asarray(values, np.float64)
    if features.ndim != 2:
        raise ValueError(f"the {which} set has shape {features.shape}, expected (n, d)")
    if len(features) < 2:
        raise TooFewSamples(f"too_few_samples: n={len(features)} in the {which} set, needs 2")
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features).all(axis=1)).sum())
        raise NonfiniteOutput(f"nonfinite_output: {bad} rows of the {which} set")
    return features


def _centred(features: Matrix) -> tuple[Matrix, Matrix]:
    mean = features.mean(axis=0)
    return mean, (features - mean) / np.sqrt(len(features) - 1)


def _factor(centred: Matrix) -> Matrix:
    """Return a matrix with the same Gram matrix over features and at most d rows."""
    n, d = centred.shape
    return np.asarray(np.linalg.qr(centred, mode="r")) if n > d else centred


def _largest_rank(centred: Matrix) -> int:
    return min(len(centred) - 1, int(centred.any(axis=0).sum()))


def _cut(eigenvalues: NDArray[np.floating[Any]]) -> float:
    if not len(eigenvalues):
        return 0.0
    return float(len(eigenvalues) * np.finfo(np.float64).eps * max(eigenvalues.max(), 0.0))


def _distance(difference: Matrix, total: float, shared: float) -> float:
    value = float(difference @ difference) + total - 2 * shared
    if value < -ROUNDING * total:
        raise ArithmeticError(f"Fréchet distance {value:g} is negative (trace {total:g})")
    return max(0.0, value)


def _flags(n1: int, n2: int, d: int) -> tuple[str, ...]:
    n = min(n1, n2)
    marks = {"rank_deficient": n < d, "small_n": n < SMALL_N}
    return tuple(name for name, on in marks.items() if on)


def _reduce(values: list[Value]) -> tuple[float, tuple[str, ...]]:
    pairs: Sequence[Any] = values
    if len(pairs) < 2:
        raise TooFewSamples(f"too_few_samples: n={len(pairs)}, a covariance needs 2")
    generated, reference = (np.stack([pair[side] for pair in pairs]) for side in (0, 1))
    value, _, flags = frechet_distance(generated, reference)
    return value, flags


frechet = Aggregate("frechet", linear=False, reduce=_reduce)

RATE = 16_000
N_FFT, HOP, BANDS = 1024, 256, 80
FLOOR = 1e-10


@view(of=audio(RATE), stored=True)
def logmel_stats(sound: Audio) -> NDArray[np.float32]:
    """Mean and spread over time of a log-mel spectrogram: 160 numbers, no network.

    Frames of 1024 samples every 256 at 16 kHz, periodic Hann, centred between zeros; power; 80
    Slaney bands of unit area, 0 to 8000 Hz; ``10 log10(max(S, 1e-10))`` dB. The vector is the mean
    of each band over frames, then the standard deviation (ddof 0) of each band. Silence is a
    vector like any other: a mean of -100 dB, a spread of 0.

    Raises
    ------
    NonfiniteAudio, EmptyAudio
        If there is nothing to analyse.
    """
    require_rate(sound, RATE)
    loudest(sound)
    power = mel_power(
        sound.samples, rate=RATE, n_fft=N_FFT, hop=HOP, bands=BANDS, padding="constant"
    )
    decibels = 10 * np.log10(np.maximum(power, FLOOR))
    return np.concatenate([decibels.mean(axis=0), decibels.std(axis=0)]).astype(np.float32)


@metric(
    unit="dB²",
    better="lower",
    aggregate=frechet,
    label="FD (log-mel)",
    ideal=0.0,
    generated=logmel_stats,
    reference=logmel_stats,
)
def fd_logmel(generated: NDArray[np.float32], reference: NDArray[np.float32]) -> Record:
    """Fréchet distance of log-mel statistics (160-d), 0 or more; needs no weights.

    A check of the sound's average spectrum and dynamics, not of its content: it is none of FAD, FD
    or FID. The record is the pair of vectors; `logmel_stats` says how they are made.
    """
    return Record((generated, reference))
