"""Noise at a stated SNR, as a condition: the recipe `lrs3-chime3/v1`, and alternatives by name.

By default the noise is scaled to the power ratio of the whole files, added in float64, and the
mixture as a whole is scaled down where it would clip. Which noise file, and where it is cut, follow
from a hash of seed and sample id alone: neither order nor sharding matters, and all SNRs of a
sample hear the same noise.

==============  ======================  =========================================================
option          value                   what it does
==============  ======================  =========================================================
`level`         whole_file_power        ratio of the mean squares
..              nonsilent_power         of the mean squares outside silence (URGENT 2024)
..              bs1770                  difference of the integrated loudness (EARS-WHAM)
..              rms_peaknorm_-25dbfs    ratio of the mean squares, the speech at -25 dB RMS
                                        (DNS-Challenge, without its random level at the end)
`clip`          rescale_peak095         above 1, the mixture is scaled to a peak of 0.95
..              none                    nothing
..              pcm16_clip              rounded to 16 bits, saturated
..              raise_snr_1db           the SNR rises by 1 dB until the peak is below 1 (EARS-WHAM)
..              divide_peak099          above 0.99, scaled to a peak of 0.99 (DNS-Challenge)
`noise_choice`  hash_v1                 the hash
..              sgmse_seed0             NumPy's legacy generator, drawn in the order of the data
                                        set as sp-uhh/sgmse's create_wsj0_chime3.py does
`short_noise`   error                   a failure of the sample
..              wrap                    repeated (URGENT 2024)
..              zero_pad                from its beginning, then zeros (DNS-Challenge)
`pairing`       same_crop_all_snrs      see above
..              independent             the SNR is part of what is hashed
`storage`       float32                 as mixed
..              pcm16                   rounded to 16 bits, saturated
==============  ======================  =========================================================
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope import media
from phonoscope.errors import (
    ClipError,
    DatasetError,
    FullScale,
    SilentNoise,
    SilentReference,
    SpecError,
    TooShort,
)
from phonoscope.levels import active, integrated_loudness, mean_power
from phonoscope.types import Audio, Clip, Sample, Scalar, fingerprint
from phonoscope.views import Memo

Level = Literal["whole_file_power", "nonsilent_power", "bs1770", "rms_peaknorm_-25dbfs"]
ClipRule = Literal["rescale_peak095", "none", "pcm16_clip", "raise_snr_1db", "divide_peak099"]
NoiseChoice = Literal["hash_v1", "sgmse_seed0"]
ShortNoise = Literal["error", "wrap", "zero_pad"]
Pairing = Literal["same_crop_all_snrs", "independent"]
Storage = Literal["float32", "pcm16"]
Signal: TypeAlias = NDArray[np.float64]
Place: TypeAlias = tuple[int, int | str]

BUILDER = "lrs3-chime3/v1"
RATE = 16_000
SILENCE = 1e-4
PEAK = 0.95
DNS_PEAK = 0.99
DNS_LEVEL = 10 ** (-25 / 20)
SNR_TOLERANCE = 1e-9  # dB
MOST_RAISES = 120
SGMSE_SNRS = (0, 20)  # dB; the script draws an SNR before the noise
NOISE_BYTES = 128 << 20
DRAWS_HELD = 8

_memo = Memo(NOISE_BYTES)
_draws: list[tuple[Sequence[Sample], Sequence[Clip], int, dict[str, Place]]] = []


# Where the noise is cut


def crop_key(
    sample_id: str, *, seed: int, builder: str = BUILDER, snr_db: float | None = None
) -> str:
    """Return the text whose hash picks the noise file and the place of the cut.

    With `snr_db`, each SNR of a sample has another one.
    """
    key = f"{builder}|seed={seed}|{sample_id}"
    return key if snr_db is None else f"{key}|snr={snr_db + 0.0:.12g}"


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


def _hashed(key: str, noises: Sequence[Clip]) -> Place:
    return noise_index(key, len(noises)), key


def drawn(samples: Iterable[Sample], noises: Sequence[Clip], *, seed: int) -> dict[str, Place]:
    """Return noise file and first sample of the cut by sample id, as sp-uhh/sgmse draws them.

    NumPy's legacy generator gives an SNR that is not used, the file, and the start, sample by
    sample; so the place of one depends on how long all earlier ones are. All sound is decoded.

    Parameters
    ----------
    samples : iterable of Sample
        In order; of each the `audio` input, else the reference.
    noises : sequence of Clip
        In order. The script takes them as the file system lists them: no order of ours is its.
    seed : int
        0 in the script.

    Raises
    ------
    DatasetError
        If a file cannot be read, because what comes after it could not be drawn.

    Notes
    -----
    preprocessing/create_wsj0_chime3.py of sp-uhh/sgmse@ae690e8.
    """
    random = np.random.RandomState(seed)
    lengths = [_length(clip) for clip in noises]
    places: dict[str, Place] = {}
    for sample in samples:
        speech = sample.inputs.get("audio") or sample.reference
        if speech is None:
            continue
        random.uniform(*SGMSE_SNRS)
        index = int(random.randint(len(noises)))
        places[sample.id] = index, int(random.randint(max(1, lengths[index] - _length(speech))))
    return places


def _length(clip: Clip) -> int:
    plain = replace(clip, effect=None, window=None)
    try:
        known = media.countable(plain, rate=RATE)
        return len(media.read_audio(plain, rate=RATE).samples) if known is None else known
    except ClipError as error:
        raise DatasetError(
            f"noise_choice sgmse_seed0 draws file after file, and one is in the way: {error}"
        ) from error


def _drawn_once(samples: Sequence[Sample], noises: Sequence[Clip], seed: int) -> dict[str, Place]:
    for known_samples, known_noises, known_seed, places in _draws:
        if known_samples is samples and known_noises is noises and known_seed == seed:
            return places
    places = drawn(samples, noises, seed=seed)
    _draws.append((samples, noises, seed, places))
    del _draws[:-DRAWS_HELD]
    return places


# How it is mixed


@dataclass(frozen=True, slots=True)
class Mixed:
    """A mixture and how it came about.

    Attributes
    ----------
    samples : ndarray of float64, shape (n,)
        total_gain * (speech + noise_gain * noise), where they are not rounded.
    noise_gain, total_gain : float
        Linear factors.
    peak : float
        Largest magnitude before the rule against clipping.
    snr_db : float
        What was mixed at; more than was asked where `raise_snr_1db` raised it.
    """

    samples: Signal
    noise_gain: float
    total_gain: float
    peak: float
    snr_db: float


def add(
    speech: Signal,
    noise: Signal,
    *,
    snr_db: float,
    clip: ClipRule,
    level: Level = "whole_file_power",
) -> Mixed:
    """Add noise to speech of the same length, at an SNR of `snr_db`.

    Parameters
    ----------
    speech, noise : ndarray, shape (n,)
        Taken as float64, at 16 kHz.
    snr_db : float
        Level of the speech over that of the noise.
    clip : str
        What happens to a mixture that exceeds full scale; see the module.
    level : str
        What the SNR is a ratio of; see the module.

    Raises
    ------
    SilentReference, SilentNoise
        If either never reaches 1e-4, or has no loudness: the ratio would mean nothing.
    TooShort
        If `level` is ``bs1770`` and there are less than 0.4 s.
    FullScale
        If `clip` is ``raise_snr_1db`` and the speech alone reaches 1.
    """
    speech, noise = np.asarray(speech, np.float64), np.asarray(noise, np.float64)
    if np.max(np.abs(speech), initial=0) < SILENCE:
        raise SilentReference("the speech is silent, so no SNR can be set; use another recording")
    if np.max(np.abs(noise), initial=0) < SILENCE:
        raise SilentNoise("the noise is silent where it was cut; use another noise recording")
    pair = _pair(speech, noise, level)
    found = pair.at(snr_db)
    if clip == "raise_snr_1db":
        found = _raised(pair, found)
    gain = _rescale(clip, found.peak)
    samples = found.samples * gain
    if clip == "pcm16_clip":
        samples = rounded(samples)
    return replace(found, samples=samples, total_gain=found.total_gain * gain)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Speech and noise, how much more power the speech has, and what the mixture is scaled by."""

    speech: Signal
    noise: Signal
    level: Level
    ratio: float
    scale: float

    def at(self, snr_db: float) -> Mixed:
        gain = math.sqrt(self.ratio * 10 ** (-snr_db / 10))
        scaled = gain * self.noise
        self._check(scaled, snr_db)
        samples = (self.speech + scaled) * self.scale
        return Mixed(samples, gain, self.scale, float(np.max(np.abs(samples))), snr_db)

    def _check(self, scaled: Signal, snr_db: float) -> None:
        if self.level == "bs1770":  # its gate at -70 LUFS does not move with the gain
            return
        speech, scaled = (_heard(part, self.level) for part in (self.speech, scaled))
        found = 10 * math.log10(np.mean(speech**2) / np.mean(scaled**2))
        if abs(found - snr_db) > SNR_TOLERANCE:
            raise ArithmeticError(f"mixed at {found!r} dB instead of {snr_db!r} dB")


def _pair(speech: Signal, noise: Signal, level: Level) -> _Pair:
    scale = DNS_LEVEL / math.sqrt(mean_power(speech)) if level.startswith("rms_peaknorm") else 1.0
    return _Pair(speech, noise, level, _ratio(speech, noise, level), scale)


def _heard(signal: Signal, level: Level) -> Signal:
    return signal[active(signal)] if level == "nonsilent_power" else signal


def _ratio(speech: Signal, noise: Signal, level: Level) -> float:
    if level != "bs1770":
        return mean_power(_heard(speech, level)) / mean_power(_heard(noise, level))
    over, under = (integrated_loudness(part, RATE) for part in (speech, noise))
    if over == -math.inf:
        raise SilentReference("the speech is below -70 LUFS; use level: whole_file_power")
    if under == -math.inf:
        raise SilentNoise("the noise is below -70 LUFS where it was cut; use another recording")
    return float(10 ** ((over - under) / 10))


def _raised(pair: _Pair, found: Mixed) -> Mixed:
    for _ in range(MOST_RAISES):
        if found.peak < 1:
            return found
        found = pair.at(found.snr_db + 1)
    raise FullScale(
        "the speech alone reaches full scale, so no SNR keeps the mixture below 1; "
        "use another rule, such as clip: rescale_peak095"
    )


def _rescale(clip: ClipRule, peak: float) -> float:
    if clip == "rescale_peak095" and peak > 1:
        return PEAK / peak
    return DNS_PEAK / peak if clip == "divide_peak099" and peak > DNS_PEAK else 1.0


def rounded(samples: Signal) -> Signal:
    """Return what a 16-bit file holds of a signal: rounded to 1/32768, saturated."""
    steps = np.clip(np.rint(samples * media.PCM16), -media.PCM16, media.PCM16 - 1)
    return np.asarray(steps / media.PCM16)


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
    clip, short_noise, level, storage : str
        See the module.
    """

    noise: Clip
    snr_db: float
    start: int | str
    clip: ClipRule = "rescale_peak095"
    short_noise: ShortNoise = "error"
    rate: int = RATE
    level: Level = "whole_file_power"
    storage: Storage = "float32"

    def __post_init__(self) -> None:
        if not math.isfinite(self.snr_db):
            raise SpecError(f"snr_db is {self.snr_db}; give a number of decibels, such as -10")

    def apply(self, speech: Audio) -> Audio:
        """Return the mixture, float32 at `rate`.

        Raises
        ------
        ValueError
            If the speech has another rate.
        SilentReference, SilentNoise, FullScale
            See `add`.
        TooShort
            If the noise is shorter than the speech and may not be repeated; see also `add`.
        MissingClip, DecodeError, EmptyAudio, NonfiniteAudio
            If the noise cannot be read.
        """
        return self.made(speech)[0]

    def identity(self) -> str:
        """Return a digest of everything that decides the mixture, except the speech."""
        rules = (self.level, self.clip, self.short_noise, self.rate)
        stored = () if self.storage == "float32" else (self.storage,)
        return fingerprint(
            "mixture/1", media.digest(self.noise), float(self.snr_db), self.start, rules + stored
        )

    def recipe(self, speech: Audio) -> dict[str, Scalar]:
        """Return how the mixture of `speech` is made: a row for a manifest."""
        return {
            "snr_db": self.snr_db,
            "noise": self.noise.path,
            "noise_digest": media.digest(self.noise),
            **self.made(speech)[1],
            "key": str(self.start),
            "level": self.level,
            "clip": self.clip,
            "short_noise": self.short_noise,
            "storage": self.storage,
            "rate": self.rate,
        }

    def made(self, speech: Audio) -> tuple[Audio, dict[str, Scalar]]:
        """Return the mixture, and where the noise was cut, gains and peak; errors as `apply`."""
        mixed, start = self._mix(speech)
        samples = rounded(mixed.samples) if self.storage == "pcm16" else mixed.samples
        return Audio(samples.astype(np.float32), self.rate), {
            "start": start,
            "noise_gain": mixed.noise_gain,
            "total_gain": mixed.total_gain,
            "peak": mixed.peak,
            "snr_db_mixed": mixed.snr_db,
        }

    def _mix(self, speech: Audio) -> tuple[Mixed, int]:
        if speech.rate != self.rate:
            raise ValueError(f"wrong_rate: expected {self.rate}, got {speech.rate}")
        noise, start = self._crop(len(speech.samples))
        signal = speech.samples.astype(np.float64)
        try:
            mixed = add(signal, noise, snr_db=self.snr_db, clip=self.clip, level=self.level)
        except SilentNoise as error:
            raise SilentNoise(f"{self.noise.path}, from sample {start}: {error}") from None
        return mixed, start

    def _crop(self, length: int) -> tuple[Signal, int]:
        total, cut = _opened(self.noise, self.rate)
        start = self._start(total, length)
        missing = start + length - total
        if missing > 0 and self.short_noise == "error":
            raise TooShort(
                f"{self.noise.path}: the noise has {total} samples, from {start} on fewer "
                f"than the {length} of the speech; use longer noise, or set short_noise: wrap"
            )
        if missing <= 0:
            part = cut(start, start + length)
        elif self.short_noise == "zero_pad":
            part = np.pad(cut(start, total), (0, missing))
        else:
            part = cut(0, total)[np.arange(start, start + length) % total]
        return part.astype(np.float64), start

    def _start(self, noise_length: int, length: int) -> int:
        if self.short_noise == "zero_pad" and noise_length <= length:
            return 0
        if isinstance(self.start, str):
            return crop_start(self.start, noise_length, length)
        return self.start


def _opened(clip: Clip, rate: int) -> tuple[int, Callable[[int, int], media.Samples]]:
    """Return the length of noise and how to cut it: most corpora can be read in parts."""
    length = media.countable(clip, rate=rate)
    if length is not None:
        return length, functools.partial(media.read_part, clip)
    whole = _read_noise(clip, rate).samples
    return len(whole), lambda start, stop: whole[start:stop]


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
    level: Level = "whole_file_power",
    noise_choice: NoiseChoice = "hash_v1",
    pairing: Pairing = "same_crop_all_snrs",
    storage: Storage = "float32",
    builder: str = BUILDER,
    among: Sequence[Sample] = (),
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
    clip, short_noise, level, noise_choice, pairing, storage
        See the module.
    builder : str
        Name of the recipe: another name makes other cuts.
    among : sequence of Sample
        All samples of the data set in order, for ``sgmse_seed0``.

    Raises
    ------
    SpecError
        If there are no noises, `snr_db` is not finite, or the options exclude each other.
    DatasetError
        See `drawn`.
    """
    speech = sample.inputs.get("audio")
    if speech is None:
        return sample
    if not noises:
        raise SpecError(f"sample {sample.id!r}: no noise to mix at {snr_db:g} dB; name a noise set")
    if speech.effect is not None:
        raise SpecError(f"sample {sample.id!r}: {speech.path} is a mixture already; mix it once")
    require_compatible(noise_choice, pairing)
    if noise_choice == "sgmse_seed0":
        index, start = _drawn_once(among or (sample,), noises, seed)[sample.id]
    else:
        told = snr_db if pairing == "independent" else None
        index, start = _hashed(crop_key(sample.id, seed=seed, builder=builder, snr_db=told), noises)
    mixture = Mixture(
        noises[index],
        float(snr_db),
        start,
        clip=clip,
        short_noise=short_noise,
        level=level,
        storage=storage,
    )
    noisy = replace(speech, effect=mixture)
    return replace(sample, inputs={**sample.inputs, "audio": noisy})


def require_compatible(noise_choice: NoiseChoice, pairing: Pairing) -> None:
    """Refuse ``sgmse_seed0`` with ``independent``: what is drawn knows no SNR.

    Raises
    ------
    SpecError
        Naming both.
    """
    if noise_choice == "sgmse_seed0" and pairing == "independent":
        raise SpecError(
            "pairing: independent goes with noise_choice: hash_v1 only; "
            "sgmse_seed0 draws one cut per sample"
        )
