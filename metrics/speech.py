"""What every speech metric sees: sound at 16 kHz that is neither silent nor too short.

The guards come in a fixed order: finite, not empty, not silent, long enough; then, for metrics with
a reference, comparable in length. They run before any network or C code does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phonoscope.errors import (
    EmptyAudio,
    LengthMismatch,
    NonfiniteAudio,
    SilentAudio,
    SilentReference,
    TooShort,
)
from phonoscope.types import Audio
from phonoscope.views import audio, view

RATE = 16_000
SILENCE = 1e-4
SHORTEST = 4_000
LARGEST_DIFFERENCE = 8_000


def require_rate(sound: Audio, rate: int) -> None:
    """Refuse an array that no view has prepared: another rate, or more than one channel.

    Raises
    ------
    ValueError
        A programming error, never a property of a clip; nothing is resampled or mixed here.
    """
    if sound.rate != rate:
        raise ValueError(f"wrong_rate: expected {rate}, got {sound.rate}")
    if sound.samples.ndim != 1:
        raise ValueError(f"wrong_shape: expected mono (n,), got {sound.samples.shape}")


def loudest(sound: Audio) -> float:
    """Return the largest absolute sample.

    Raises
    ------
    EmptyAudio
        Without samples.
    NonfiniteAudio
        With a NaN or an infinity.
    """
    if not len(sound.samples):
        raise EmptyAudio("empty_audio: the clip has no samples")
    low, high = float(np.min(sound.samples)), float(np.max(sound.samples))
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(np.sum(~np.isfinite(sound.samples)))
        raise NonfiniteAudio(f"nonfinite_audio: {bad} samples are NaN or infinite")
    return max(abs(low), abs(high))


def check_speech(sound: Audio) -> Audio:
    """Return `sound` if a speech metric can take it.

    Raises
    ------
    NonfiniteAudio, EmptyAudio, SilentAudio, TooShort
        In the specification's order; the messages carry the numbers.
    ValueError
        If it is not mono at 16 kHz.
    """
    require_rate(sound, RATE)
    peak = loudest(sound)
    if peak < SILENCE:
        raise SilentAudio(f"silent_audio: largest sample {peak:.1e}, needs {SILENCE:.0e}")
    if len(sound.samples) < SHORTEST:
        raise TooShort(f"too_short: {sound.seconds:.2f} s, needs {SHORTEST / RATE:.2f} s")
    return sound


@view(of=audio(RATE))
def speech16k(sound: Audio) -> Audio:
    """Mono sound at 16 kHz, at least 0.25 s long and not silent.

    Raises
    ------
    NonfiniteAudio, EmptyAudio, SilentAudio, TooShort
        See `check_speech`.
    """
    return check_speech(sound)


def matched(
    generated: Audio, reference: Audio
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return both signals in float64, cut to the shorter, and how many samples were cut.

    Raises
    ------
    NonfiniteAudio, EmptyAudio, SilentAudio, TooShort, SilentReference
        If either cannot be measured, also where only the common part is silent.
    LengthMismatch
        If the lengths differ by more than 8000 samples (0.5 s).
    """
    check_speech(generated)
    check_reference(reference)
    n_generated, n_reference = len(generated.samples), len(reference.samples)
    n_trimmed = abs(n_generated - n_reference)
    if n_trimmed > LARGEST_DIFFERENCE:
        raise LengthMismatch(
            f"length_mismatch: generated {n_generated} samples, reference {n_reference}, "
            f"more than {LARGEST_DIFFERENCE} apart ({LARGEST_DIFFERENCE / RATE:.1f} s)"
        )
    n = min(n_generated, n_reference)
    g, r = Audio(generated.samples[:n], RATE), Audio(reference.samples[:n], RATE)
    check_speech(g)
    check_reference(r)
    return g.samples.astype(np.float64), r.samples.astype(np.float64), n_trimmed


def check_reference(reference: Audio) -> Audio:
    """Return `reference` if a speech metric can take it.

    Raises
    ------
    NonfiniteAudio, EmptyAudio, SilentReference, TooShort
        As `check_speech`, but silence has the reference's own name.
    ValueError
        If it is not mono at 16 kHz.
    """
    try:
        return check_speech(reference)
    except SilentAudio as error:
        message = str(error).replace("silent_audio", "silent_reference")
        raise SilentReference(f"{message} (reference)") from None
