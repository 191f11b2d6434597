"""Aggregates, intervals and comparisons: numbers about lists of records.

Definitions
-----------
Aggregates. `mean` is the mean over samples (a `Ratio` counts as its quotient); `ratio_of_sums` is
sum(numerators) / sum(denominators). Both are ratios of sums, so both are *linear*: a resample
re-weights two sums per group. Every other aggregate (a Fréchet distance) is a *corpus* aggregate:
it has a value, and no interval.

Interval. 95 % percentile interval of the cluster bootstrap: groups, not samples, are drawn with
replacement, as many as there are, because samples of one speaker or source video are no
independent evidence. The spread of the resampled aggregates *is* the error of the aggregate; it is
never divided by the square root of the number of draws. Below `FEW_GROUPS` groups such intervals are
known to be too narrow, and are flagged ``few_groups``; one group has no interval (``one_group``).

Pairing. The draws depend only on the sorted set of groups and the seed, so systems on the same
samples are resampled alike.

p-value. Two-sided inversion of that interval: ``2 (k + 1) / (draws + 1)``, at most 1, where k counts
the resampled differences on the rarer side of zero. It is never 0.

Order. The order in which samples are given changes no bit of a linear result.

References
----------
Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16.
Davison and Hinkley, Bootstrap Methods and their Application, 1997, sections 3.8 and 4.2.
Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 1979.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope.errors import ClipError
from phonoscope.types import Better, Estimate, Ratio, Value

Floats: TypeAlias = NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.95
FEW_GROUPS = 10
_CHUNK = 1 << 18
_CACHED = 1 << 22


@dataclass(frozen=True)
class Aggregate:
    """How the values of many records become one number.

    Attributes
    ----------
    name : str
        Written into stores and baselines.
    linear : bool
        Whether it is a ratio of two sums over samples, so that it has a bootstrap interval.
    reduce : callable
        Values to ``(number, flags)``; may raise a `ClipError` such as `TooFewSamples`.
    pooled : bool
        For a linear one: sum numerators and denominators apart, then divide.
    """

    name: str
    linear: bool
    reduce: Callable[[list[Value]], tuple[float, tuple[str, ...]]]
    pooled: bool = False


@dataclass(frozen=True, slots=True)
class Paired:
    """System a minus system b on the same samples.

    Attributes
    ----------
    difference : float
        Aggregate of a minus aggregate of b.
    low, high : float
        95 % interval; NaN where none is defined (corpus aggregate, one group).
    p : float
        Two-sided bootstrap p-value, above 0; NaN where there is no interval.
    n : int
        Samples.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One pair of a board: `a` minus `b`, with the p-value adjusted over all pairs (Holm)."""

    a: str
    b: str
    paired: Paired
    p_adjusted: float


def _parts(values: Sequence[Value], *, pooled: bool) -> Floats:
    """Return numerators and denominators, shape (n, 2), both finite."""
    pairs = [_pair(value, pooled=pooled) for value in values]
    parts = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    bad = np.flatnonzero(~np.isfinite(parts).all(axis=1))
    if len(bad):
        raise ValueError(
            f"value {bad[0]} is {values[bad[0]]!r}, and an average takes finite numbers only; "
            "give a failed sample as a failure (n_failed), never as NaN"
        )
    return parts


def _pair(value: Value, *, pooled: bool) -> tuple[float, float]:
    if not isinstance(value, Ratio):
        if isinstance(value, tuple):
            raise ValueError("vectors have no average; use a corpus aggregate")
        return float(value), 1.0
    if not pooled and value.denominator > 0:
        return value.numerator / value.denominator, 1.0
    if pooled and value.denominator >= 0:
        return float(value.numerator), float(value.denominator)
    if math.isnan(value.denominator):
        return value.numerator, value.denominator
    raise ValueError(f"{value!r} has a denominator of {value.denominator}, and none is defined")


def _range(parts: Floats) -> tuple[float, float]:
    """Return the least and the greatest quotient: no ratio of sums can leave this range."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = parts[:, 0] / parts[:, 1]
    quotients = quotients[~np.isnan(quotients)]
    if not len(quotients):
        return -math.inf, math.inf
    return float(quotients.min()), float(quotients.max())


def _quotient(parts: Floats) -> tuple[float, tuple[str, ...]]:
    """Return sum over sum, each rounded once, so that the order of samples cannot matter."""
    if not len(parts):
        return math.nan, ()
    total = math.fsum(parts[:, 1].tolist())
    if total == 0:
        return math.nan, ("zero_denominator",)
    low, high = _range(parts)
    return min(max(math.fsum(parts[:, 0].tolist()) / total, low), high), ()


def _mean(values: list[Value]) -> tuple[float, tuple[str, ...]]:
    return _quotient(_parts(values, pooled=False))


def _ratio_of_sums(values: list[Value]) -> tuple[float, tuple[str, ...]]:
    return _quotient(_parts(values, pooled=True))


mean = Aggregate("mean", True, _mean)
ratio_of_sums = Aggregate("ratio_of_sums", True, _ratio_of_sums, pooled=True)
LINEAR: Mapping[str, Aggregate] = {item.name: item for item in (mean, ratio_of_sums)}
