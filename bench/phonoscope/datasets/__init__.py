"""Kinds of data sets, a module each, and what they have in common: the revision and the noises.

A kind is a function ``(name, **options) -> Dataset`` under `phonoscope.plugins.dataset`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from phonoscope import media
from phonoscope.errors import DatasetError, DecodeError, MissingClip
from phonoscope.types import Clip, Dataset, Sample, fingerprint

_SOUND = ".wav .flac .ogg .oga .opus .mp3 .mp2 .m4a .aac .aif .aiff .aifc .w64 .rf64 .wma .caf"
_FILM = ".mp4 .m4v .mkv .avi .mpg .mpeg .webm .mov .ts .flv .wmv"
SOUND_SUFFIXES = tuple(_SOUND.split())
FILM_SUFFIXES = tuple(_FILM.split())
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MEDIA_SUFFIXES = frozenset(SOUND_SUFFIXES + FILM_SUFFIXES)


def build(
    name: str, samples: Iterable[Sample], noises: Mapping[str, tuple[Clip, ...]] | None = None
) -> Dataset:
    """Return the data set with its revision.

    The revision is a digest of ids, groups, texts and file contents, in order. It names no path, so
    a moved data set keeps it; a file that is not there counts as ``missing``. Contents are read
    once: `phonoscope.media` remembers the digest of a file that did not change.
    """
    samples, noises = tuple(samples), dict(noises or {})
    media.prefetch(clip for s in samples for clip in (s.reference, *s.inputs.values()))
    parts = [
        [s.id, s.group, dict(s.meta), _content(s.reference), _contents(s.inputs)] for s in samples
    ]
    mixed = {noise: [_content(clip) for clip in clips] for noise, clips in noises.items()}
    return Dataset(name, samples, fingerprint(parts, mixed), noises)


def _contents(clips: Mapping[str, Clip]) -> dict[str, str]:
    return {role: _content(clip) for role, clip in clips.items()}


def _content(clip: Clip | None) -> str:
    if clip is None:
        return ""
    try:
        return media.digest(clip)
    except MissingClip:
        return "missing"
    except DecodeError:
        return "unreadable"


def files_below(root: Path) -> Iterator[Path]:
    """Yield all files below a folder, symbolic links followed once, hidden ones left out."""
    seen: set[str] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        if here in seen:
            names.clear()
            continue
        seen.add(here)
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield from (Path(folder, file) for file in sorted(files) if not file.startswith("."))


def read_noises(noise: Mapping[str, str | Path] | None, root: Path) -> dict[str, tuple[Clip, ...]]:
    """Return the noise clips by name: each value is a file, or a folder of sound files.

    Sorted by path below the folder; relative paths start at `root`.

    Raises
    ------
    DatasetError
        If a place does not exist, or holds no sound.
    """
    return {str(name): _noise(str(name), root / place) for name, place in (noise or {}).items()}


def _noise(name: str, place: Path) -> tuple[Clip, ...]:
    place = place.expanduser().absolute()
    if place.is_file():
        return (Clip(str(place)),)
    found = [path for path in files_below(place) if path.suffix.lower() in MEDIA_SUFFIXES]
    if not found:
        raise DatasetError(
            f"noise {name!r}: {place} is no sound file and no folder that holds some"
        )
    found.sort(key=lambda path: path.relative_to(place).as_posix())
    return tuple(Clip(str(path)) for path in found)
