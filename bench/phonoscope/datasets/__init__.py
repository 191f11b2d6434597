"""Kinds of data sets, a module each, and what they have in common: the revision and the noises.

A kind is a function ``(name, **options) -> Dataset`` under `phonoscope.plugins.dataset`. Kinds of
known corpora say what a whole copy holds: less or other files are an error `dataset_mismatch`
unless ``partial: true``, which the revision then tells.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from phonoscope import media, plugins, protocol
from phonoscope.errors import (
    DatasetError,
    DatasetMismatch,
    DecodeError,
    MissingClip,
    SpecError,
)
from phonoscope.types import PARTIAL, Clip, Dataset, Sample, fingerprint, gaps_of

_SOUND = ".wav .flac .ogg .oga .opus .mp3 .mp2 .m4a .aac .aif .aiff .aifc .w64 .rf64 .wma .caf"
_FILM = ".mp4 .m4v .mkv .avi .mpg .mpeg .webm .mov .ts .flv .wmv"
SOUND_SUFFIXES = tuple(_SOUND.split())
FILM_SUFFIXES = tuple(_FILM.split())
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MEDIA_SUFFIXES = frozenset(SOUND_SUFFIXES + FILM_SUFFIXES)
NoisePlace: TypeAlias = str | Path | Sequence[str | Path] | Mapping[str, Any]


def build(
    name: str,
    samples: Iterable[Sample],
    noises: Mapping[str, tuple[Clip, ...]] | None = None,
    *,
    lacking: str = "",
) -> Dataset:
    """Return the data set with its revision.

    The revision is a digest of ids, groups, texts and file contents, in order. It names no path, so
    a moved data set keeps it; a file that is not there counts as ``missing``. Contents are read
    once: `phonoscope.media` remembers the digest of a file that did not change. The revision ends
    with `lacking`, in brackets: what is not there of the noise.
    """
    samples, noises = tuple(samples), dict(noises or {})
    media.prefetch(clip for s in samples for clip in (s.reference, *s.inputs.values()))
    parts = [
        [s.id, s.group, dict(s.meta), _content(s.reference), _contents(s.inputs)] for s in samples
    ]
    mixed = {noise: [_content(clip) for clip in clips] for noise, clips in noises.items()}
    return Dataset(name, samples, fingerprint(parts, mixed) + _bracketed("", lacking), noises)


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


def listed(
    name: str,
    samples: Iterable[Sample],
    noises: Mapping[str, tuple[Clip, ...]] | None = None,
    *,
    variant: str = "",
    lacking: str = "",
) -> Dataset:
    """Return the data set of a large corpus: its revision is a digest of the list of its files.

    Of ids, groups, texts, and the names and sizes of the files, in order; no content is read.
    Results are kept by content all the same. `variant` tells readings apart that may have files of
    the same names and sizes; `lacking` says what a partial copy lacks. The revision ends with both,
    in brackets.
    """
    samples, noises = tuple(samples), dict(noises or {})
    parts = [
        [s.id, s.group, dict(s.meta), _entry(s.reference), _entries(s.inputs)] for s in samples
    ]
    mixed = {noise: [_entry(clip) for clip in clips] for noise, clips in noises.items()}
    digest = fingerprint("listing", variant, parts, mixed)
    return Dataset(name, samples, digest + _bracketed(variant, lacking), noises)


def _bracketed(variant: str, lacking: str) -> str:
    """Return the end of a revision, as `gaps_of` reads it."""
    told = [variant, f"{PARTIAL}{lacking}" if lacking else ""]
    return "".join(f"[{text}]" for text in told if text)


def joined(*gaps: str) -> str:
    """Return in one text what is not there: of the samples, and of the noise."""
    return "; ".join(filter(None, gaps))


def _entries(clips: Mapping[str, Clip]) -> dict[str, tuple[str, int]]:
    return {role: _entry(clip) for role, clip in clips.items()}


def _entry(clip: Clip | None) -> tuple[str, int]:
    return (Path(clip.path).name, size_of(Path(clip.path))) if clip else ("", 0)


def size_of(path: Path) -> int:
    """Return the bytes of a file, -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def require_whole(name: str, problems: Sequence[str], *, layout: str, partial: bool) -> None:
    """Refuse a copy of a corpus that is not what it should be, unless a part is enough.

    Parameters
    ----------
    name : str
        Of the data set.
    problems : sequence of str
        What is wrong, such as ``found 17 of 1321 clips in /data/lrs3/test``.
    layout : str
        Where what is expected.
    partial : bool
        Whether to go on.

    Raises
    ------
    DatasetMismatch
        Saying all of it at once.
    """
    if problems and not partial:
        raise DatasetMismatch(
            f"data set {name}: {'; '.join(problems)}. Expected: {layout}. Complete the copy, "
            "correct the path, or measure what is there by partial: true (of a packaged board "
            "PHONOSCOPE_PARTIAL=true, of `phonoscope build` --partial)"
        )


def existing(root: str | Path, name: str) -> Path:
    """Return the folder of a corpus as an absolute path.

    Raises
    ------
    DatasetError
        If there is no such folder.
    """
    found = Path(root).expanduser().absolute()
    if not found.is_dir():
        raise DatasetError(f"data set {name}: {found}: no such folder; correct the path")
    return found


def by_stem(root: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Return the files below a folder by their path without the suffix, sorted.

    Where two files differ in the suffix alone, that of the earlier suffix is taken.
    """
    found: dict[str, Path] = {}
    for file in files_below(root):
        suffix = file.suffix.lower()
        stem = file.relative_to(root).with_suffix("").as_posix()
        if suffix in suffixes and (
            stem not in found or suffixes.index(suffix) < suffixes.index(found[stem].suffix.lower())
        ):
            found[stem] = file
    return dict(sorted(found.items()))


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


def read_noises(
    noise: Mapping[str, NoisePlace] | None, root: Path
) -> tuple[dict[str, tuple[Clip, ...]], str]:
    """Return the noise clips by name, and what is not there of data sets that are read in part.

    Each value is a file, a folder of sound files (sorted by path below the folder; relative paths
    start at `root`), a list of files or folders in its own order, or a mapping that names a data
    set of noises by its kind and options, such as ``{kind: chime3_noise, root: /data/CHiME3}``.

    Raises
    ------
    DatasetError
        If a place does not exist, or holds no sound.
    SpecError
        If a mapping has no `kind`, or options that the kind does not have or not of that type.
    """
    clips, gaps = {}, []
    for name, place in (noise or {}).items():
        clips[str(name)], lacking = _noises(str(name), place, root)
        gaps += [f"noise {name}: {gap}" for gap in lacking]
    return clips, joined(*gaps)


def _noises(name: str, place: NoisePlace, root: Path) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
    if isinstance(place, str | Path):
        return _noise(name, root / place), ()
    if not isinstance(place, Mapping):
        return tuple(clip for item in place for clip in _noise(name, root / item)), ()
    options = dict(place)
    kind = options.pop("kind", None)
    if not isinstance(kind, str):
        raise SpecError(f"noise.{name}: says no kind; give a path, or one such as chime3_noise")
    found = protocol.read_dataset(plugins.DATASETS.get(kind), name, options, where=f"noise.{name}")
    clips = tuple(clip for part in found.noises.values() for clip in part)
    if not clips:
        raise SpecError(f"noise.{name}: the data sets of kind {kind} hold no noise")
    return clips, gaps_of(found.revision)


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
