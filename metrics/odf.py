"""How closely two sounds rise and fall together: distances of onset detection functions (ODF).

The ODF of a sound at 22050 Hz is its spectral flux in mel decibels, one value per 512 samples. It
depends on the analysed window (its dynamic range is 80 dB below the window's loudest band), so the
signals are cut first. Bare names pad by reflection, as librosa did up to 0.8; `_zeropad` pads with
zeros, as it does since 0.9, which puts a rise at 70 ms into every clip that starts with sound.

These distances reward dense flat envelopes: white noise beats every published system. Print them
beside rows for chance, noise and silence, or not at all.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phonoscope.errors import TooShort, UnscorableReference
from phonoscope.metrics.speech import SILENCE, loudest, require_rate
from phonoscope.plugins import Metric, metric
from phonoscope.types import Audio, Record, Scalar
from phonoscope.views import audio

Padding = Literal["reflect", "constant"]
Window = Literal["2s", "whole"]
Vector = NDArray[np.float64]

RATE = 22_050
N_FFT, HOP, BANDS = 2048, 512, 128
LAG = 3
DYNAMIC_RANGE_DB = 80.0
FLOOR = 1e-10
TWO_SECONDS = 2 * RATE
SHORTEST_WHOLE = RATE // 2
LARGEST_DIFFERENCE_S = 0.5
FRAMES_AT_ONCE = 64  # what a cache holds


def mel_bands(rate: int, n_fft: int, bands: int, low: float, high: float) -> Vector:
    """Return triangular filters on Slaney's mel scale, each of unit area.

    Parameters
    ----------
    rate, n_fft, bands : int
    low, high : float
        Edges of the first and last filter, Hz.

    Returns
    -------
    ndarray of float64, shape (1 + n_fft // 2, bands)
        Multiply a power spectrum with it from the left.

    Notes
    -----
    Slaney, Auditory Toolbox, 1998: linear below 1 kHz (66.7 Hz per mel), logarithmic above.
    """
    edges = _hertz(np.linspace(_mel(low), _mel(high), bands + 2))
    bins = np.linspace(0, rate / 2, 1 + n_fft // 2)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    area = 2 / (edges[2:] - edges[:-2])
    filters: Vector = np.maximum(0, np.minimum(rising, falling)) * area
    return filters


_HZ_PER_MEL = 200 / 3
_KNEE_HZ, _KNEE_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27


def _mel(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _HZ_PER_MEL
    return float(_KNEE_MEL + np.log(hertz / _KNEE_HZ) / _LOG_STEP)


def _hertz(mel: Vector) -> Vector:
    above = _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return np.where(mel < _KNEE_MEL, mel * _HZ_PER_MEL, above)


@functools.lru_cache
def _sparse_bands(rate: int, n_fft: int, bands: int) -> Any:
    from scipy import sparse

    # A bin lies in two bands: a dense product costs 60 times the work, and on a busy machine more,
    # because the threads of BLAS wait for each other.
    return sparse.csr_array(mel_bands(rate, n_fft, bands, 0.0, rate / 2).T)


def mel_power(
    samples: NDArray[np.floating],
    *,
    rate: int,
    n_fft: int,
    hop: int,
    bands: int,
    padding: Padding,
) -> Vector:
    """Return the mel power spectrogram, centred frames under a periodic Hann window.

    Parameters
    ----------
    samples : ndarray, shape (n,)
    rate, n_fft, hop : int
        Hz; samples in a frame and between frames.
    bands : int
        Slaney bands of unit area from 0 to `rate` / 2.
    padding : {"reflect", "constant"}
        What lies beyond both ends, for half a frame.

    Returns
    -------
    ndarray of float64, shape (1 + n // hop, bands)
    """
    filters = _sparse_bands(rate, n_fft, bands)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.pad(samples.astype(np.float64), n_fft // 2, mode=padding)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    parts = []
    for start in range(0, len(windows), FRAMES_AT_ONCE):
        spectrum = np.fft.rfft(windows[start : start + FRAMES_AT_ONCE] * hann)
        parts.append((filters @ (spectrum.real**2 + spectrum.imag**2).T).T)
    return np.concatenate(parts)


def onset_strength(samples: NDArray[np.floating], *, padding: Padding = "reflect") -> Vector:
    """Return the onset detection function of a signal at 22050 Hz.

    Parameters
    ----------
    samples : ndarray, shape (n,)
        More than 1024 samples.
    padding : {"reflect", "constant"}
        See the module.

    Returns
    -------
    ndarray of float64, shape (1 + n // 512,)
        Mean over 128 mel bands of the rise in dB per frame, 3 frames late; never negative.

    Notes
    -----
    Equal to ``librosa.onset.onset_strength`` with its defaults (within 1e-5).
    """
    power = mel_power(samples, rate=RATE, n_fft=N_FFT, hop=HOP, bands=BANDS, padding=padding)
    decibels = 10 * np.log10(np.maximum(power, FLOOR))
    decibels = np.maximum(decibels, decibels.max() - DYNAMIC_RANGE_DB)
    flux = np.maximum(0, np.diff(decibels, axis=0)).mean(axis=1)
    return np.concatenate([np.zeros(LAG), flux])[: len(power)]


@dataclass(frozen=True)
class Pair:
    """Both sounds in their common window.

    Attributes
    ----------
    generated, reference : ndarray of float32, shape (n,)
    silent_generated, silent_reference : bool
        Largest sample below 1e-4.
    flags, info
        For the record.
    """

    generated: NDArray[np.float32]
    reference: NDArray[np.float32]
    silent_generated: bool
    silent_reference: bool
    flags: tuple[str, ...]
    info: dict[str, Scalar]


def common_window(generated: Audio, reference: Audio, window: Window) -> Pair:
    """Cut both sounds to the window ``2s`` (the first 44100 samples) or to the shorter (``whole``).

    Raises
    ------
    TooShort
        If either has less than 2 s (``2s``) or 0.5 s (``whole``).
    NonfiniteAudio, EmptyAudio
        If either has NaN, infinite or no samples.
    ValueError
        If either is not mono at 22050 Hz.
    """
    for sound in (generated, reference):
        require_rate(sound, RATE)
        loudest(sound)
    shortest = TWO_SECONDS if window == "2s" else SHORTEST_WHOLE
    n = min(len(generated.samples), len(reference.samples))
    if n < shortest:
        which = "generated" if len(generated.samples) <= len(reference.samples) else "reference"
        raise TooShort(f"too_short: {which} has {n / RATE:.2f} s, needs {shortest / RATE:.2f} s")
    n = shortest if window == "2s" else n
    g, r = generated.samples[:n], reference.samples[:n]
    silent_g, silent_r = (loudest(Audio(part, RATE)) < SILENCE for part in (g, r))
    marks = {
        "silent_generated": silent_g,
        "silent_reference": silent_r,
        "length_mismatch": abs(generated.seconds - reference.seconds) > LARGEST_DIFFERENCE_S,
    }
    info: dict[str, Scalar] = {
        "seconds": n / RATE,
        "seconds_generated": generated.seconds,
        "seconds_reference": reference.seconds,
    }
    return Pair(g, r, silent_g, silent_r, tuple(name for name, on in marks.items() if on), info)


_KEPT = 16
_strengths: OrderedDict[tuple[bytes, str], Vector] = OrderedDict()


def cached_strength(samples: NDArray[np.float32], padding: Padding) -> Vector:
    """Return `onset_strength`, kept for the other metrics of the same pair."""
    key = hashlib.sha256(samples.tobytes()).digest(), padding
    if key not in _strengths:
        _strengths[key] = onset_strength(samples, padding=padding)
        _strengths[key].flags.writeable = False
        while len(_strengths) > _KEPT:
            _strengths.popitem(last=False)
    return _strengths[key]


def w1_time(generated: Vector, reference: Vector) -> float:
    """Return the distance that onset energy has to be moved in time, in seconds.

    Wasserstein-1 distance of two ODFs of shape (t,), each taken as a distribution over frames. A
    generated ODF of zeros is as far as the window is long.

    Raises
    ------
    UnscorableReference
        If the reference ODF is zero.
    """
    p = _distribution(reference)
    if not generated.any():
        return (len(p) - 1) * HOP / RATE
    q = generated / generated.sum()
    return float(np.abs(np.cumsum(p - q)[:-1]).sum() * HOP / RATE)


def w1_value(generated: Vector, reference: Vector) -> float:
    """Return the Wasserstein-1 distance of the values of two ODFs of shape (t,), dB per frame.

    Blind to the order in time.
    """
    return float(np.abs(np.sort(reference) - np.sort(generated)).mean())


def jensen_shannon(generated: Vector, reference: Vector) -> float:
    """Return the Jensen-Shannon divergence (not its root) of two ODFs over frames, 0 to ln 2.

    A generated ODF of zeros has ln 2.

    Raises
    ------
    UnscorableReference
        If the reference ODF is zero.
    """
    p = _distribution(reference)
    if not generated.any():
        return float(np.log(2))
    q = generated / generated.sum()
    m = (p + q) / 2
    return max(0.0, (_divergence(p, m) + _divergence(q, m)) / 2)


def _distribution(reference: Vector) -> Vector:
    total = float(reference.sum())
    if not total:
        raise UnscorableReference("unscorable_reference: nothing in the reference rises")
    return reference / total


def _divergence(p: Vector, q: Vector) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / q[some])))


def _compare(
    generated: Audio,
    reference: Audio,
    distance: Callable[[Vector, Vector], float],
    padding: Padding,
) -> Record:
    pair = common_window(generated, reference, "whole")
    g = cached_strength(pair.generated, padding)
    r = cached_strength(pair.reference, padding)
    g = np.zeros_like(g) if pair.silent_generated else g
    r = np.zeros_like(r) if pair.silent_reference else r
    flags = pair.flags
    if not g.any() and "silent_generated" not in flags:
        flags = (*flags, "silent_generated")
    return Record(distance(g, r), flags, {**pair.info, "n_frames": len(g)})


_TITLES: dict[Callable[[Vector, Vector], float], str] = {
    w1_time: "ODF W1 in time",
    w1_value: "ODF W1 in value",
    jensen_shannon: "ODF JSD",
}


def _offer(
    name: str, distance: Callable[[Vector, Vector], float], padding: Padding, unit: str, doc: str
) -> Metric:
    """Register one variant: the name decides distance and padding, so all else is shared."""

    def measure(generated: Audio, reference: Audio) -> Record:
        return _compare(generated, reference, distance, padding)

    measure.__name__ = measure.__qualname__ = name
    measure.__doc__ = f"{doc}\n\nWindow: both clips cut to the shorter. ODF padding: {padding}."
    offer = metric(
        unit=unit,
        better="lower",
        label=f"{_TITLES[distance]} (whole, {padding})",
        ideal=0.0,
        decimals=3,
        generated=audio(RATE),
        reference=audio(RATE),
    )
    return offer(measure)


_TIME = "How far onset energy has to be moved in time, in seconds: 0 to the clip's length."
_VALUE = "Difference of the sorted ODF values, dB per frame: 0 or more, blind to order in time."
_JSD = "Jensen-Shannon divergence of the ODFs over time, in nats: 0 to ln 2."

odf_w1_time = _offer("odf_w1_time", w1_time, "reflect", "s", _TIME)
odf_w1_value = _offer("odf_w1_value", w1_value, "reflect", "dB", _VALUE)
odf_jsd = _offer("odf_jsd", jensen_shannon, "reflect", "nats", _JSD)
odf_w1_time_zeropad = _offer("odf_w1_time_zeropad", w1_time, "constant", "s", _TIME)
odf_w1_value_zeropad = _offer("odf_w1_value_zeropad", w1_value, "constant", "dB", _VALUE)
odf_jsd_zeropad = _offer("odf_jsd_zeropad", jensen_shannon, "constant", "nats", _JSD)
