"""Metrics that compare generated speech with the reference, sample by sample in time.

All see both clips at 16 kHz, cut to the shorter (`n_trimmed` samples are lost, at most 0.5 s). For
speech that was generated from lips alone they lie near their floor whatever the quality.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from phonoscope.errors import NonfiniteOutput, NoUtterances, SilentReference, TooLong, TooShort
from phonoscope.metrics.speech import RATE, matched, speech16k
from phonoscope.plugins import metric
from phonoscope.types import Audio, Record, Scalar

CLAMP_DB = 100.0
FILTER_TAPS = 512
LONGEST_PESQ = 60 * RATE


def scale_invariant_sdr(
    generated: NDArray[np.float64], reference: NDArray[np.float64], *, zero_mean: bool = False
) -> float:
    """Return the scale-invariant signal-to-distortion ratio of two vectors, in dB.

    Parameters
    ----------
    generated, reference : ndarray of float64, shape (n,)
    zero_mean : bool
        Remove both means first. Another number: `si_sdr` does not.

    Returns
    -------
    float
        Not clamped: +inf for a multiple of the reference, -inf for something orthogonal to it.

    Raises
    ------
    SilentReference
        If the reference is zero.

    Notes
    -----
    Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, eq. 2.
    """
    if zero_mean:
        generated, reference = generated - generated.mean(), reference - reference.mean()
    energy = _dot(reference, reference)
    if energy == 0:
        raise SilentReference("silent_reference: the reference is zero")
    target = (_dot(generated, reference) / energy) * reference
    return _decibels(target, generated - target)


def _decibels(target: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(_dot(target, target)) - 10 * np.log10(_dot(error, error)))


def _dot(x: NDArray[np.float64], y: NDArray[np.float64]) -> np.float64:
    return np.sum(x * y)  # pairwise: more exact than BLAS, and no threads


@metric(
    unit="dB",
    better="higher",
    label="SI-SDR",
    ideal=CLAMP_DB,
    generated=speech16k,
    reference=speech16k,
)
def si_sdr(generated: Audio, reference: Audio) -> Record:
    """Scale-invariant signal-to-distortion ratio, without mean removal.

    Float64, clamped to [-100, 100] dB and flagged `clamped` there: an exact multiple of the
    reference has 100. Le Roux et al., ICASSP 2019, eq. 2.
    """
    g, r, n_trimmed = matched(generated, reference)
    return _clamped(scale_invariant_sdr(g, r), {"n_trimmed": n_trimmed})


def _clamped(value: float, info: dict[str, Scalar], flags: tuple[str, ...] = ()) -> Record:
    extra = ("clamped",) if abs(value) >= CLAMP_DB else ()
    return Record(float(np.clip(value, -CLAMP_DB, CLAMP_DB)), (*flags, *extra), info)


def project(
    generated: NDArray[np.float64], reference: NDArray[np.float64], *, taps: int = FILTER_TAPS
) -> tuple[NDArray[np.float64], bool]:
    """Filter one signal so that it comes nearest to another one.

    Parameters
    ----------
    generated, reference : ndarray of float64, shape (n,)
        Of equal length; zeros are thought before and behind them.
    taps : int
        Length of the filter.

    Returns
    -------
    filtered : ndarray of float64, shape (n + taps - 1,)
        The reference through the filter of least squares.
    singular : bool
        Whether the reference's shifts depend on each other to working precision, as those of a
        faded tone do: then the filter is the one of smallest norm, and the fit a lower bound.

    Raises
    ------
    SilentReference
        If the reference is zero.
    """
    from scipy import fft, linalg

    if not np.any(reference):
        raise SilentReference("silent_reference: the reference is zero")
    n = len(reference) + taps - 1
    size = fft.next_fast_len(n, real=True)
    spectrum = fft.rfft(reference, size)
    power = linalg.toeplitz(fft.irfft(np.abs(spectrum) ** 2, size)[:taps])
    cross = fft.irfft(spectrum.conj() * fft.rfft(generated, size), size)[:taps]
    try:
        best, singular = linalg.cho_solve(linalg.cho_factor(power), cross), False
    except linalg.LinAlgError:
        best, singular = linalg.pinvh(power) @ cross, True
    return fft.irfft(fft.rfft(best, size) * spectrum, size)[:n], singular


@metric(
    unit="dB",
    better="higher",
    label="SDR (BSS Eval, 512 taps)",
    ideal=CLAMP_DB,
    generated=speech16k,
    reference=speech16k,
)
def sdr(generated: Audio, reference: Audio) -> Record:
    """Signal-to-distortion ratio of BSS Eval: a filter of 512 taps is no distortion.

    The reference, filtered by the FIR filter that brings it nearest to the generated signal, over
    the rest; so gain, polarity and a delay of up to 31.9 ms are no distortion. Float64, clamped to
    [-100, 100] dB and flagged `clamped` there (the URGENT challenge clamps at 50); flagged
    `singular` where the reference is too pure a tone for the filter to be unique. Vincent et al.,
    IEEE TASLP 2006, with one source: VERSA's `sdr` and URGENT's `SDR`.
    """
    g, r, n_trimmed = matched(generated, reference)
    target, singular = project(g, r)
    error = -target
    error[: len(g)] += g
    flags = ("singular",) if singular else ()
    return _clamped(_decibels(target, error), {"n_trimmed": n_trimmed}, flags)


@metric(
    unit="MOS-LQO",
    better="higher",
    label="PESQ (wb)",
    ideal=4.643888,
    generated=speech16k,
    reference=speech16k,
)
def pesq_wb(generated: Audio, reference: Audio) -> Record:
    """Wide-band PESQ (ITU-T P.862.2), about 1.0 to 4.64; a gain on either side does not matter.

    Raises `NoUtterances` where no speech is found in the reference and `TooLong` over 60 s. Not
    monotonic below about -15 dB SNR.
    """
    return _pesq(generated, reference, "wb")


@metric(
    unit="MOS-LQO",
    better="higher",
    label="PESQ (nb)",
    ideal=4.548638,
    generated=speech16k,
    reference=speech16k,
)
def pesq_nb(generated: Audio, reference: Audio) -> Record:
    """Narrow-band PESQ (ITU-T P.862) of 16 kHz input, about 1.0 to 4.55.

    Raises as `pesq_wb`.
    """
    return _pesq(generated, reference, "nb")


def _pesq(generated: Audio, reference: Audio, band: Literal["wb", "nb"]) -> Record:
    from pesq import BufferTooShortError, NoUtterancesError, pesq

    g, r, n_trimmed = matched(generated, reference)
    if len(r) > LONGEST_PESQ:
        raise TooLong(f"too_long: {len(r) / RATE:.1f} s, PESQ takes {LONGEST_PESQ // RATE} s")
    try:
        value = pesq(RATE, r, g, band)
    except NoUtterancesError:
        raise NoUtterances("no_utterances: PESQ finds no speech in the reference") from None
    except BufferTooShortError:
        raise TooShort(f"too_short: {len(r) / RATE:.2f} s, PESQ needs 0.25 s") from None
    return Record(_finite(value, f"PESQ {band}"), info={"n_trimmed": n_trimmed})


@metric(
    unit="-",
    better="higher",
    label="STOI",
    ideal=1.0,
    decimals=3,
    generated=speech16k,
    reference=speech16k,
)
def stoi(generated: Audio, reference: Audio) -> Record:
    """Short-time objective intelligibility, about -0.2 to 1.

    Taal et al., IEEE TASLP 2011. Raises `TooShort` where fewer than 30 frames of 25.6 ms are left
    once those 40 dB below the reference's loudest are removed (about 0.45 s of continuous speech).
    """
    return _stoi(generated, reference, extended=False)


@metric(
    unit="-",
    better="higher",
    label="ESTOI",
    ideal=1.0,
    decimals=3,
    generated=speech16k,
    reference=speech16k,
)
def estoi(generated: Audio, reference: Audio) -> Record:
    """Short-time objective intelligibility, extended (ESTOI), about -0.2 to 1.

    Jensen and Taal, IEEE TASLP 2016. The tiny noise that it adds is drawn with seed 0; NumPy's
    global generator is left as it was. Raises as `stoi`.
    """
    return _stoi(generated, reference, extended=True)


def _stoi(generated: Audio, reference: Audio, *, extended: bool) -> Record:
    from pystoi import stoi as intelligibility

    g, r, n_trimmed = matched(generated, reference)
    with _seeded(0), warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            value = intelligibility(r, g, RATE, extended=extended)
        except (RuntimeWarning, np.exceptions.AxisError):
            raise TooShort(
                f"too_short: {len(r) / RATE:.2f} s hold fewer than 30 frames of sound"
            ) from None
    return Record(_finite(value, "STOI"), info={"n_trimmed": n_trimmed})


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _finite(value: float, what: str) -> float:
    if not np.isfinite(value):
        raise NonfiniteOutput(f"nonfinite_output: {what} is {value}")
    return float(value)
