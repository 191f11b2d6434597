"""Metrics that compare the spectra of generated speech with those of the reference.

`mcd` lines the two up by dynamic time warping and takes clips of any two lengths. `lsd` and
`mcd_urgent` compare sample-aligned clips at the gain that brings the generated one nearest to the
reference, as the URGENT challenge does: made for enhancement. Where the two are not correlated, as
for speech that was generated from lips alone, that gain is near zero, and the value says little.

All see 16 kHz and work in float64.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from phonoscope.metrics.speech import check_reference, check_speech, matched, speech16k
from phonoscope.plugins import metric
from phonoscope.types import Audio, Record

FRAME, HOP = 512, 256
EPSILON = 1e-8

CEPSTRUM_FRAME, CEPSTRUM_HOP = 1024, 256
ORDER = 23
WARPING = 0.42
FLOOR = 1e-6
LEAST_STEPS, MOST_STEPS = 2, 30
TOLERANCE = 1e-3
DECIBELS = 10 * np.sqrt(2) / np.log(10)


@metric(
    unit="-",
    better="lower",
    label="LSD (URGENT 2024)",
    generated=speech16k,
    reference=speech16k,
)
def lsd(generated: Audio, reference: Audio) -> Record:
    """Log-spectral distance: natural logarithms of powers, so 1 is 4.34 dB.

    Per frame the root mean square over frequency of ln(R^2 / (G + 1e-8)^2 + 1e-8), then the mean
    over frames; R and G are magnitudes of centred, zero-padded Hann frames of 32 ms every 16 ms, G
    of the generated signal times <g, r> / <g, g>. URGENT challenge 2024,
    `calculate_intrusive_se_metrics.py`. Identical clips score about 1e-4, and more where a frame is
    digitally silent: such a frame alone scores 18.4, and `n_silent` counts them.
    """
    g, r, n_trimmed = matched(generated, reference)
    measured, wanted = magnitudes(g * nearest_gain(g, r)), magnitudes(r)
    ratio = np.square(wanted / (measured + EPSILON)) + EPSILON
    value = np.sqrt(np.mean(np.square(np.log(ratio)), axis=1)).mean()
    n_silent = int(np.sum(~wanted.any(axis=1)))
    return Record(float(value), info={"n_trimmed": n_trimmed, "n_silent": n_silent})


def nearest_gain(generated: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return the factor that brings a signal nearest to another one; negative if it is inverted."""
    return float(np.sum(generated * reference) / np.sum(np.square(generated)))


def magnitudes(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the magnitude spectrogram, shape (1 + n // 256, 257), equal to librosa's `stft`."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    padded = np.pad(signal, FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    spectrogram: NDArray[np.float64] = np.abs(np.fft.rfft(frames * hann))
    return spectrogram


@metric(
    unit="dB",
    better="lower",
    label="MCD (SPTK mel-cepstrum, DTW)",
    ideal=0.0,
    generated=speech16k,
    reference=speech16k,
)
def mcd(generated: Audio, reference: Audio) -> Record:
    """Mel-cepstral distortion along the cheapest alignment of the two clips, of any lengths.

    The mean of 10 sqrt(2) / ln 10 times the Euclidean distance of mel-cepstra c0 to c23: with c0,
    so the level matters (a gain of 10 dB alone makes 7). Cepstra: SPTK's `mcep`, order 23, warping
    0.42, Hamming frames of 64 ms every 16 ms, 1e-6 added to the power. ESPnet's `evaluate_mcd.py`
    at 16 kHz, but aligned exactly where its `fastdtw` may miss the cheapest path. What VERSA's
    `mcd_f0` and pymcd measure (WORLD's spectra) are other numbers.
    """
    g, r = check_speech(generated), check_reference(reference)
    return _distortion(g.samples.astype(np.float64), r.samples.astype(np.float64))


@metric(
    unit="dB",
    better="lower",
    label="MCD (URGENT 2024)",
    ideal=0.0,
    generated=speech16k,
    reference=speech16k,
)
def mcd_urgent(generated: Audio, reference: Audio) -> Record:
    """Mel-cepstral distortion for enhancement: `mcd` at the gain nearest to the reference.

    That is what the URGENT challenge 2024 reports. For speech that is not sample-aligned with the
    reference the gain is near zero, and the value is the distance from silence.
    """
    g, r, n_trimmed = matched(generated, reference)
    found = _distortion(g * nearest_gain(g, r), r)
    return Record(found.value, info={**found.info, "n_trimmed": n_trimmed})


def _distortion(generated: NDArray[np.float64], reference: NDArray[np.float64]) -> Record:
    cost, n_aligned = align(mel_cepstrum(generated), mel_cepstrum(reference))
    return Record(float(DECIBELS * cost / n_aligned), info={"n_aligned": n_aligned})


def mel_cepstrum(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mel-cepstrum of each frame, as SPTK's `mcep` has it.

    The cepstrum on the warped frequency axis whose spectrum is the unbiased estimate of the log
    spectrum of the frame: the minimum of a convex criterion, found by Newton's method from the
    warped Fourier coefficients on. Steps end where the mean of power over model changes by less
    than 0.1 %, after 2 to 30.

    Parameters
    ----------
    signal : ndarray of float64, shape (n,)
        Nominally in [-1, 1], at 16 kHz; at least 1024 samples, and no frame is padded.

    Returns
    -------
    ndarray of float64, shape (1 + (n - 1024) // 256, 24)

    Notes
    -----
    Tokuda et al., "Mel-generalized cepstral analysis", ICSLP 1994; Fukada et al., ICASSP 1992.
    """
    window, share, density, cosines = _axis()
    frames = np.lib.stride_tricks.sliding_window_view(signal, CEPSTRUM_FRAME)[::CEPSTRUM_HOP]
    power = np.square(np.abs(np.fft.rfft(frames * window))) + FLOOR
    cepstra = (np.log(power) * density) @ cosines[:, : ORDER + 1]
    cepstra[:, 0] /= 2
    last = 0.5 * np.log(power) @ share  # what SPTK's first comparison is with, odd as it is
    left = np.arange(len(power))
    for step in range(1, MOST_STEPS + 1):
        model = np.exp(2 * cepstra[left] @ cosines[:, : ORDER + 1].T)
        moments = (power[left] / model * share) @ cosines
        if step >= LEAST_STEPS:
            moved = np.abs(moments[:, 0] - last[left]) >= TOLERANCE * np.abs(moments[:, 0])
            last[left] = moments[:, 0]
            left, moments = left[moved], moments[moved]
        cepstra[left] += _newton(moments)
    return np.asarray(cepstra, np.float64)


@functools.cache
def _axis() -> tuple[NDArray[np.float64], ...]:
    """Return what all frames share, over the 513 bins from 0 to pi.

    The window of unit energy; each bin's share in a mean over the circle; the same times the
    density of the warped axis; the cosines of the warped axis, orders 0 to 46.
    """
    n = np.arange(CEPSTRUM_FRAME)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * n / (CEPSTRUM_FRAME - 1))
    omega = 2 * np.pi * n[: CEPSTRUM_FRAME // 2 + 1] / CEPSTRUM_FRAME
    share = np.full(len(omega), 2 / CEPSTRUM_FRAME)
    share[[0, -1]] /= 2
    x, y = 1 - WARPING * np.cos(omega), WARPING * np.sin(omega)
    density = share * (1 - WARPING**2) / (x**2 + y**2)
    cosines = np.cos((omega + 2 * np.arctan2(y, x))[:, None] * np.arange(2 * ORDER + 1))
    return window / np.linalg.norm(window), share, density, cosines


def _newton(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Newton's step for each frame, given the moments 0 to 46 of power over model."""
    i = np.arange(ORDER + 1)
    curvature = moments[:, np.abs(i[:, None] - i)] + moments[:, i[:, None] + i]
    slope = moments[:, : ORDER + 1] - (-WARPING) ** i
    return np.asarray(np.linalg.solve(curvature, slope[..., None])[..., 0], np.float64)


def align(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, int]:
    """Align two sequences of vectors by dynamic time warping.

    Parameters
    ----------
    x, y : ndarray of float64, shapes (n, d) and (m, d)

    Returns
    -------
    cost : float
        The least sum of Euclidean distances over a path from both first to both last vectors, a
        step forward in `x`, in `y` or in both at a time.
    n_pairs : int
        The pairs on that path.
    """
    n, m = len(x), len(y)
    # One antidiagonal at a time: row 0 of each array is cost, row 1 pairs; column i + 1 is x[i].
    before, last = np.full((2, 2, n + 1), np.inf)
    before[:, 0] = 0
    for k in range(n + m - 1):
        low, high = max(0, k - m + 1), min(k + 1, n)
        distance = np.linalg.norm(x[low:high] - y[k - high + 1 : k - low + 1][::-1], axis=1)
        ways = np.stack([last[:, low:high], last[:, low + 1 : high + 1], before[:, low:high]])
        best = ways[:, 0].argmin(axis=0)
        now = np.full((2, n + 1), np.inf)
        now[:, low + 1 : high + 1] = ways[best, :, np.arange(high - low)].T
        now[:, low + 1 : high + 1] += [distance, np.ones(high - low)]
        before, last = last, now
    return float(last[0, n]), int(last[1, n])
