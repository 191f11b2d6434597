"""Noise at a stated SNR, as a condition: the recipe `lrs3-chime3/v1`.

The noise is scaled to the power ratio of the whole files, added in float64, and the mixture as a
whole is scaled down where it would clip. Which noise file, and where it is cut, follow from a hash
of seed and sample id alone: neither order nor sharding matters, and all SNRs of a sample hear the
same noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope import media
from phonoscope.errors import SilentNoise, SilentReference, SpecError, TooShort
from phonoscope.types import Audio, Clip, Sample, Scalar, fingerprint
from phonoscope.views import Memo

ClipRule = Literal["rescale_peak095", "none"]
ShortNoise = Literal["error", "wrap"]
Signal: TypeAlias = NDArray[np.float64]

BUILDER = "lrs3-chime3/v1"
RATE = 16_000
SILENCE = 1e-4
PEAK = 0.95
SNR_TOLERANCE = 1e-9  # dB
NOISE_BYTES = 128 << 20

_memo = Memo(NOISE_BYTES)


def crop_key(sample_id: str, *, seed: int, builder: str = BUILDER) -> str:
    """Return the text whose hash picks the noise file and the place of the cut."""
    return f"{builder}|seed={seed}|{sample_id}"


def noise_index(key: str, count: int) -> int:
    """Return which of `count` noise files `key` picks: bytes 0-7 of its sha256, modulo `count`."""
    return int.from_bytes(_hash(key)[:8], "big") % count


def crop_start(key: str, noise_length: int, speech_length: int) -> int:
    """Return the first sample of the cut: bytes 8-15 of the sha256 of `key`.

    Modulo the number of places where the speech fits; modulo the noise's length where it never fits
    and the noise is repeated.
    """
    places = noise_length - speech_length + 1
    return int.from_bytes(_hash(key)[8:16], "big") % (places if places > 0 else noise_length)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


@dataclass(frozen=True, slots=True)
class Mixed:
    """A mixture and how it came about.

    Attributes
    ----------
    samples : ndarray of float64, shape (n,)
        total_gain * (speech + noise_gain * noise).
    noise_gain, total_gain : float
        Linear factors.
    peak : float
        Largest magnitude before `total_gain`.
    """

    samples: Signal
    noise_gain: float
    total_gain: float
    peak: float


def add(speech: Signal, noise: Signal, *, snr_db: float, clip: ClipRule) -> Mixed:
    """Add noise to speech of the same length so that their power ratio is `snr_db`.

    Parameters
    ----------
    speech, noise : ndarray, shape (n,)
        Taken as float64.
    snr_db : float
        10 log10 of the ratio of the mean squares over the whole length.
    clip : {"rescale_peak095", "none"}
        Whether a mixture that exceeds 1 is scaled to a peak of 0.95.

    Raises
    ------
    SilentReference, SilentNoise
        If either never reaches 1e-4: the ratio would mean nothing.
    """
    speech, noise = np.asarray(speech, np.float64), np.asarray(noise, np.float64)
    if np.max(np.abs(speech), initial=0) < SILENCE:
        raise SilentReference("the speech is silent, so no SNR can be set; use another recording")
    if np.max(np.abs(noise), initial=0) < SILENCE:
        raise SilentNoise("the noise is silent where it was cut; use another noise recording")
    gain = math.sqrt(np.mean(speech**2) / np.mean(noise**2) * 10 ** (-snr_db / 10))
    scaled = gain * noise
    _check_snr(speech, scaled, snr_db)
    samples = speech + scaled
    peak = float(np.max(np.abs(samples)))
    total = PEAK / peak if clip == "rescale_peak095" and peak > 1 else 1.0
    return Mixed(samples * total, gain, total, peak)


def _check_snr(speech: Signal, scaled: Signal, snr_db: float) -> None:
    found = 10 * math.log10(np.sum(speech**2) / np.sum(scaled**2))
    if abs(found - snr_db) > SNR_TOLERANCE:
        raise ArithmeticError(f"mixed at {found!r} dB instead of {snr_db!r} dB")


@dataclass(frozen=True, slots=True)
class Mixture:
    """The effect of adding noise to a clip. Nothing is decoded before the clip is.

    Attributes
    ----------
    noise : Clip
        Whole file that the cut is taken from.
    snr_db : float
        Speech over noise, finite.
    start : int or str
        First sample of the cut, or the key that `crop_start` hashes.
    clip : {"rescale_peak095", "none"}
        See `add`.
    short_noise : {"error", "wrap"}
        What happens to noise that is shorter than the speech.
    """

    noise: Clip
    snr_db: float
    start: int | str
    clip: ClipRule = "rescale_peak095"
    short_noise: ShortNoise = "error"
    rate: int = RATE

    def __post_init__(self) -> None:
        if not math.isfinite(self.snr_db):
            raise SpecError(f"snr_db is {self.snr_db}; give a number of decibels, such as -10")

    def apply(self, speech: Audio) -> Audio:
        """Return the mixture, float32 at `rate`.

        Raises
        ------
        ValueError
            If the speech has another rate.
        SilentReference, SilentNoise
            See `add`.
        TooShort
            If the noise is shorter than the speech and may not be repeated.
        MissingClip, DecodeError, EmptyAudio, NonfiniteAudio
            If the noise cannot be read.
        """
        return Audio(self._mix(speech)[0].samples.astype(np.float32), self.rate)

    def identity(self) -> str:
        """Return a digest of everything that decides the mixture, except the speech."""
        rules = ("whole_file_power", self.clip, self.short_noise, self.rate)
        return fingerprint(
            "mixture/1", media.digest(self.noise), float(self.snr_db), self.start, rules
        )

    def recipe(self, speech: Audio) -> dict[str, Scalar]:
        """Return how the mixture of `speech` is made: a row for a manifest."""
        mixed, start = self._mix(speech)
        return {
            "snr_db": self.snr_db,
            "noise": self.noise.path,
            "noise_digest": media.digest(self.noise),
            "start": start,
            "noise_gain": mixed.noise_gain,
            "total_gain": mixed.total_gain,
            "peak": mixed.peak,
            "key": str(self.start),
        }

    def _mix(self, speech: Audio) -> tuple[Mixed, int]:
        if speech.rate != self.rate:
            raise ValueError(f"wrong_rate: expected {self.rate}, got {speech.rate}")
        noise, start = self._crop(len(speech.samples))
        try:
            mixed = add(
                speech.samples.astype(np.float64), noise, snr_db=self.snr_db, clip=self.clip
            )
        except SilentNoise as error:
            raise SilentNoise(f"{self.noise.path}, from sample {start}: {error}") from None
        return mixed, start

    def _crop(self, length: int) -> tuple[Signal, int]:
        whole = _read_noise(self.noise, self.rate).samples
        start = self.start
        if isinstance(start, str):
            start = crop_start(start, len(whole), length)
        missing = start + length - len(whole)
        if missing > 0 and self.short_noise == "error":
            raise TooShort(
                f"{self.noise.path}: the noise has {len(whole)} samples, from {start} on fewer "
                f"than the {length} of the speech; use longer noise, or set short_noise: wrap"
            )
        if missing <= 0:
            return whole[start : start + length].astype(np.float64), start
        places = np.arange(start, start + length) % len(whole)
        return whole[places].astype(np.float64), start


def _read_noise(clip: Clip, rate: int) -> Audio:
    """Decode noise once for many mixtures: the last few files are held."""
    key = (f"{media.digest(clip)} {rate}", clip)
    sound: Audio | None = _memo.get(key)
    if sound is None:
        sound = media.read_audio(clip, rate=rate)
        _memo.put(key, sound)
    return sound


def mix(
    sample: Sample,
    noises: Sequence[Clip],
    *,
    snr_db: float,
    seed: int,
    clip: ClipRule = "rescale_peak095",
    short_noise: ShortNoise = "error",
    builder: str = BUILDER,
) -> Sample:
    """Return the sample with noise added to its `audio` input, once that is decoded.

    The reference is untouched. A sample without an `audio` input is returned as it is.

    Parameters
    ----------
    sample : Sample
        Its id decides, with `seed`, the noise file and the cut.
    noises : sequence of Clip
        In a fixed order, such as sorted by relative path.
    snr_db : float
        Speech over noise.
    seed : int
        Of the run.
    clip, short_noise
        See `Mixture`.
    builder : str
        Name of the recipe: another name makes other cuts.

    Raises
    ------
    SpecError
        If there are no noises, or `snr_db` is not finite.
    """
    speech = sample.inputs.get("audio")
    if speech is None:
        return sample
    if not noises:
        raise SpecError(f"sample {sample.id!r}: no noise to mix at {snr_db:g} dB; name a noise set")
    if speech.effect is not None:
        raise SpecError(f"sample {sample.id!r}: {speech.path} is a mixture already; mix it once")
    key = crop_key(sample.id, seed=seed, builder=builder)
    noise = noises[noise_index(key, len(noises))]
    mixture = Mixture(noise, float(snr_db), key, clip=clip, short_noise=short_noise)
    noisy = replace(speech, effect=mixture)
    return replace(sample, inputs={**sample.inputs, "audio": noisy})
