"""Outputs made elsewhere: a folder of sound or film, matched to the samples by id."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from phonoscope.datasets import FILM_SUFFIXES, MEDIA_SUFFIXES, SOUND_SUFFIXES
from phonoscope.errors import MissingClip, SpecError
from phonoscope.plugins import system
from phonoscope.types import Clip, Sample, Window


@system(materialise=False)
def imported(
    sample: Sample,
    out: Path,
    *,
    seed: int,
    folder: str,
    pattern: str = "{id}",
    window: Sequence[float] | None = None,
) -> Clip:
    """Name the sample's file in a folder that another program filled. Nothing is copied.

    Parameters
    ----------
    sample : Sample
        Whose id (or group) names the file.
    out : Path
        Not used.
    seed : int
        Fills ``{seed}``; otherwise not used.
    folder : str
        Where the files lie. A path that leads out of it is refused.
    pattern : str
        Path below `folder`; ``{id}``, ``{group}``, ``{seed}`` and ``{stem}`` (the last part of the
        id, without a media suffix) are filled in. Without a media suffix all known ones are tried,
        sound before film: exactly one file has to be there.
    window : pair of float, optional
        Start and stop in seconds of the part that counts.

    Raises
    ------
    MissingClip
        If there is no such file (names the path and the nearest names), or more than one.
    SpecError
        If the window is not a pair of growing numbers.
    """
    part = _window(window)
    root = Path(folder).expanduser().absolute()
    target = root / _filled(pattern, sample, seed)
    if not Path(os.path.normpath(target)).is_relative_to(os.path.normpath(root)):
        raise MissingClip(
            f"sample {sample.id!r}: {target} lies outside {root}; "
            "name the file inside the folder by a pattern, such as {stem}"
        )
    return Clip(str(_found(sample.id, target, root)), window=part)


def _filled(pattern: str, sample: Sample, seed: int) -> str:
    """Fill in one pass, so that an id that looks like a placeholder stays what it is."""
    last = PurePosixPath(sample.id).name
    stem = last if Path(last).suffix.lower() not in MEDIA_SUFFIXES else PurePosixPath(last).stem
    values = {"{id}": sample.id, "{group}": sample.group, "{seed}": str(seed), "{stem}": stem}
    text, rest = "", pattern
    while rest:
        sign = next((sign for sign in values if rest.startswith(sign)), None)
        text += values[sign] if sign else rest[0]
        rest = rest[len(sign) if sign else 1 :]
    return text


def _window(window: Sequence[float] | None) -> Window | None:
    if window is None:
        return None
    numbers = [item for item in window if isinstance(item, int | float)]
    if len(numbers) != 2 or len(window) != 2 or not 0 <= numbers[0] < numbers[1]:
        raise SpecError(f"imported: window is {window!r}; give [start, stop] in seconds")
    return Window(float(numbers[0]), float(numbers[1]))


def _found(sample: str, target: Path, root: Path) -> Path:
    # os.path.isfile and not Path.is_file: an id may be too long for a file name, or hold a NUL.
    if target.suffix.lower() in MEDIA_SUFFIXES and os.path.isfile(target):  # noqa: PTH113
        return target
    tried = [f"{target}{suffix}" for suffix in SOUND_SUFFIXES + FILM_SUFFIXES]
    there = [Path(path) for path in tried if os.path.isfile(path)]  # noqa: PTH113
    if len(there) == 1:
        return there[0]
    if there:
        names = ", ".join(path.name for path in there)
        raise MissingClip(
            f"sample {sample!r}: more than one file fits in {there[0].parent}: {names}; "
            "name the suffix in the pattern, such as {id}.wav"
        )
    raise MissingClip(f"sample {sample!r}: {_absent(target, root)}")


def _absent(target: Path, root: Path) -> str:
    if not root.is_dir():
        return f"{root}: no such folder; correct the system's parameter `folder`"
    named = target.suffix.lower() in MEDIA_SUFFIXES
    what = "no such file" if named else "no such file with a known suffix (.wav, .flac, .mp4, ...)"
    place = target.parent if os.path.isdir(target.parent) else root  # noqa: PTH112
    names = sorted(path.name for path in place.iterdir())
    near = difflib.get_close_matches(target.name, names, n=3, cutoff=0.5)
    hint = f"near names: {', '.join(near)}" if near else f"nothing in {place} is named like it"
    return f"{target}: {what}; {hint}"
