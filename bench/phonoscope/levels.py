"""How loud a signal is, by the measures that builders of noisy speech use to set an SNR.

A measure is a function of a mono signal that scales with the square of its gain (`mean_power`,
`active_power`) or that counts in decibels (`integrated_loudness`).
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope.errors import TooShort

Signal: TypeAlias = NDArray[np.float64]

FRAME = 1024  # samples, of `active_power`
HOP = 512
ACTIVE = 0.01  # share of the mean frame power from which on a frame is active
BLOCK_SECONDS = 0.4  # of BS.1770
BLOCKS_OVERLAP = 0.75
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU
OFFSET = -0.691  # makes a full-scale sine of 997 Hz -3.01 LUFS


def mean_power(signal: Signal) -> float:
    """Return the mean square over all samples."""
    return float(np.mean(signal**2))


def active_power(signal: Signal) -> float:
    """Return the mean square over the samples that are not silence, see `active`."""
    return mean_power(signal[active(signal)])


def active(signal: Signal) -> NDArray[np.bool_]:
    """Return which samples are no silence: a boolean for each.

    Frames of 1024 samples every 512, the last ones filled up with zeros; a frame is active where
    its mean square is above 0.01 of the mean over all frames. It speaks for its first 512 samples,
    the last one also for what follows. A signal shorter than a frame, or zero, is active all over.

    Source: `detect_non_silence` of espnet2, which urgent-challenge/urgent2024_challenge@9f16cef
    (`simulation/simulate_data_from_param.py`) mixes with.
    """
    length = len(signal)
    if length < FRAME:
        return np.ones(length, bool)
    padded = np.pad(signal, (0, -(length - FRAME) % HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    power = np.mean(frames**2, axis=1)
    if not power.any():
        return np.ones(length, bool)
    spoken = np.repeat(power / power.mean() > ACTIVE, HOP)
    return np.pad(spoken, (0, length - len(spoken)), mode="edge")


def integrated_loudness(signal: Signal, rate: int) -> float:
    """Return the gated loudness of ITU-R BS.1770-4 in LUFS; minus infinity below -70 LUFS.

    K-weighting by a shelf (+4 dB, 1500 Hz) and a high pass (38 Hz), blocks of 0.4 s that overlap by
    three quarters, gates at -70 LUFS and 10 LU below the mean of what that leaves.

    Parameters
    ----------
    signal : ndarray of float64, shape (n,)
        Mono.
    rate : int
        Hz.

    Raises
    ------
    TooShort
        If the signal is shorter than a block.

    Notes
    -----
    Filters and block edges are those of `pyloudnorm`, with which sp-uhh/ears_benchmark@55dc6ba
    (`generate_ears_wham.py`) mixes; the filters come within 0.1 dB of the standard's.
    """
    if len(signal) < BLOCK_SECONDS * rate:
        raise TooShort(
            f"loudness needs {BLOCK_SECONDS} s, there are {len(signal) / rate:.3f} s; "
            "use a longer recording, or level: whole_file_power"
        )
    power = _block_powers(_k_weighted(signal, rate), rate)
    gated = power[_decibels(power) >= ABSOLUTE_GATE]
    if not len(gated):
        return -math.inf
    threshold = max(float(_decibels(gated.mean())) + RELATIVE_GATE, ABSOLUTE_GATE)
    return float(_decibels(gated[_decibels(gated) > threshold].mean()))


def _decibels(power: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return OFFSET + 10 * np.log10(power)


def _block_powers(weighted: Signal, rate: int) -> Signal:
    step = BLOCK_SECONDS * (1 - BLOCKS_OVERLAP)
    count = round((len(weighted) / rate - BLOCK_SECONDS) / step) + 1
    energy = np.concatenate([[0.0], np.cumsum(weighted**2)])
    numbers = np.arange(count) * (1 - BLOCKS_OVERLAP)
    starts, stops = (
        np.minimum((BLOCK_SECONDS * edge * rate).astype(int), len(weighted))
        for edge in (numbers, numbers + 1)
    )
    return np.asarray((energy[stops] - energy[starts]) / (BLOCK_SECONDS * rate))


def _k_weighted(signal: Signal, rate: int) -> Signal:
    from scipy.signal import sosfilt

    return np.asarray(sosfilt([_shelf(rate), _high_pass(rate)], signal))


def _shelf(rate: int, gain_db: float = 4.0, cut: float = 1500.0) -> list[float]:
    """Return a high shelf of slope 1/sqrt(2), by the Audio EQ Cookbook of R. Bristow-Johnson."""
    gain, angle = 10 ** (gain_db / 40), 2 * math.pi * cut / rate
    cosine, width = math.cos(angle), math.sqrt(2 * gain) * math.sin(angle)
    up, down = gain + 1, gain - 1
    above = [up + down * cosine + width, -2 * (down + up * cosine), up + down * cosine - width]
    below = [up - down * cosine + width, 2 * (down - up * cosine), up - down * cosine - width]
    return [gain * part / below[0] for part in above] + [part / below[0] for part in below]


def _high_pass(rate: int, cut: float = 38.0, quality: float = 0.5) -> list[float]:
    angle = 2 * math.pi * cut / rate
    cosine, alpha = math.cos(angle), math.sin(angle) / (2 * quality)
    above = [(1 + cosine) / 2, -(1 + cosine), (1 + cosine) / 2]
    below = [1 + alpha, -2 * cosine, 1 - alpha]
    return [part / below[0] for part in above + below]
