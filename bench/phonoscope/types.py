"""The nouns of phonoscope, as frozen records. Imports nothing else of the package."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Better = Literal["higher", "lower"]
Status = Literal["ok", "failed", "unsupported"]
Task = Literal["lip2speech", "video2audio", "talking_face"]
Scalar: TypeAlias = str | int | float | bool | None

TASKS: tuple[str, ...] = ("lip2speech", "video2audio", "talking_face")
CLIP_ROLES = ("generated", "reference", "audio", "video", "enrollment")
TEXT_ROLES = ("transcript", "label", "prompt")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def fingerprint(*parts: object) -> str:
    """Return 32 hex digits that identify `parts` (anything that JSON can say)."""
    return hashlib.sha256(_ENCODER.encode(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Audio:
    """Mono sound.

    Attributes
    ----------
    samples : ndarray of float32, shape (n,)
        Nominally in [-1, 1]; never clipped or normalised.
    rate : int
        Hz.
    """

    samples: NDArray[np.float32]
    rate: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.rate


@dataclass(frozen=True, slots=True)
class Frames:
    """Moving pictures.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (frames, height, width, 3)
        RGB.
    fps : float
        Frames per second of `pixels`.
    native_fps : float
        Rate of the file before any resampling in time.
    """

    pixels: NDArray[np.uint8]
    fps: float
    native_fps: float


class Effect(Protocol):
    """Something done to a clip's sound when it is decoded (a noise mixture)."""

    @property
    def rate(self) -> int:
        """Hz of the sound that `apply` takes and gives."""

    def apply(self, speech: Audio) -> Audio:
        """Return the changed sound, at `rate`."""

    def identity(self) -> str:
        """Return what decides the effect's output, content digests included."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a clip that is measured: seconds, `stop` excluded."""

    start: float
    stop: float


@dataclass(frozen=True, slots=True)
class Clip:
    """A media file, decoded when a view asks for it. Its identity is the digest of its content."""

    path: str
    effect: Effect | None = None
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One test item.

    Attributes
    ----------
    id : str
        Unique in its data set.
    group : str
        Speaker or source video: the cluster of the statistics.
    inputs : mapping of role to Clip
        What a system may use: `video`, `audio`, `enrollment`, `image`.
    reference : Clip or None
        The true clip.
    meta : mapping
        `transcript`, `label`, `prompt` and whatever else the data set knows.
    missing : mapping of role to Failure
        Inputs that a condition should have given and could not.
    """

    id: str
    group: str
    inputs: Mapping[str, Clip] = field(default_factory=dict)
    reference: Clip | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, Failure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pinned, ordered samples.

    Attributes
    ----------
    revision : str
        Digest of ids, groups, texts and file contents.
    noises : mapping of name to clips
        Noise that an `snr_db` condition may mix in, by name.
    others : mapping of sample id to Clip
        A clean recording of the same group: what ``enrollment=other_clean`` gives.
    """

    name: str
    samples: tuple[Sample, ...]
    revision: str
    noises: Mapping[str, tuple[Clip, ...]] = field(default_factory=dict)
    others: Mapping[str, Clip] = field(default_factory=dict)


PARTIAL = "partial: "


def notes_of(revision: str) -> tuple[str, ...]:
    """Return what a data set's revision says in brackets, behind its digest."""
    return tuple(re.findall(r"\[(.*?)\]", revision))


def gaps_of(revision: str) -> tuple[str, ...]:
    """Return what of the data set is not there or was left out, as its revision says."""
    notes = notes_of(revision)
    cut = [f"the first {note[1:]} samples" for note in notes if note.startswith(":")]
    return (*(note.removeprefix(PARTIAL) for note in notes if note.startswith(PARTIAL)), *cut)


@dataclass(frozen=True, slots=True)
class Condition:
    """One point of a sweep: sorted (axis, value) pairs, applied to inputs only."""

    axes: tuple[tuple[str, Scalar], ...] = ()

    def get(self, axis: str, default: Scalar = None) -> Scalar:
        """Return the value on `axis`."""
        return dict(self.axes).get(axis, default)

    def __str__(self) -> str:
        return ", ".join(f"{axis}={value}" for axis, value in self.axes) or "-"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A record that keeps both parts, such as edits over words."""

    numerator: float
    denominator: float


Value: TypeAlias = float | Ratio | tuple[NDArray[Any], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What a metric measured on one sample.

    Attributes
    ----------
    value : float, Ratio, or tuple of vectors
        Input of the metric's aggregate.
    flags : tuple of str
        Named remarks, such as ``clamped``.
    info : mapping
        Counts and by-products, such as ``n_scored`` or ``n_trimmed``.
    """

    value: Value
    flags: tuple[str, ...] = ()
    info: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no clip, or no record. Never a number in its place."""

    stage: Literal["generate", "view", "measure"]
    code: str
    error: str


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The sample lacks what the metric needs. Counted, but not a failure."""

    code: str
    error: str


Outcome: TypeAlias = Record | Failure | Unsupported


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric over many samples.

    Attributes
    ----------
    value : float
        The aggregate; NaN where nothing was measured.
    low, high : float
        95 % interval; NaN where none is defined.
    std : float
        Spread over samples, ddof 0; NaN where none is defined.
    n, n_failed, n_unsupported : int
        Samples measured, failed, and not supported.
    flags : tuple of str
        Such as ``rank_deficient``.
    """

    value: float
    low: float
    high: float
    std: float
    n: int
    n_failed: int = 0
    n_unsupported: int = 0
    flags: tuple[str, ...] = ()
