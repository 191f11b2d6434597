"""Building noisy speech as files: LRS3 with the backgrounds of CHiME3, recipe `lrs3-chime3/v1`.

The files hold what the condition `snr_db` mixes when it is asked: both give the same samples. A
build that was interrupted goes on where it was, and ends with the bytes of one that was not:

- a mixture is written under another name and renamed, so a part of one never counts;
- what is known of the mixtures of a sample is kept in ``.build`` until the end, and a mixture that
  is there counts only if its content is still the one that is known;
- a folder that holds a build with other options, inputs or package versions is refused.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import importlib.metadata
import io
import json
import os
import shutil
import typing
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import phonoscope
from phonoscope import media, noise
from phonoscope.datasets.lrs3 import CleanTrack, lrs3, track_of
from phonoscope.engines import Engine, Lost
from phonoscope.errors import ClipError, SpecError, UserError
from phonoscope.events import Advanced, Listener, SampleFailed, StageFinished, StageStarted, tell
from phonoscope.noise import Mixture
from phonoscope.protocol import read_dataset
from phonoscope.types import Audio, Clip, Dataset, Failure, Sample, fingerprint
from phonoscope.views import attempt

Row: TypeAlias = dict[str, Any]

STAGE: Final = "generate"
WHAT = "lrs3-chime3"
NOISE = "chime3"
SNRS = (5.0, 0.0, -5.0, -10.0, -15.0, -20.0)
PACKAGES = ("numpy", "scipy", "soundfile", "soxr", "av")
RECIPE, MIXTURES, UNFINISHED = "recipe.json", "mixtures.csv", ".build"
COLUMNS = (
    *("id", "snr_db", "file", "sha256", "samples", "speech_sha256"),
    *("noise", "noise_sha256", "start", "noise_gain", "total_gain", "peak", "snr_db_mixed"),
    *("builder", "seed", "error"),
)
WHOLE, REAL = ("samples", "start", "seed"), ("snr_db", "noise_gain", "total_gain", "peak")
MANIFEST = ("id", "group", "reference", "video", "audio", "transcript")
OPTIONS = {
    "level": noise.Level,
    "clip": noise.ClipRule,
    "noise_choice": noise.NoiseChoice,
    "short_noise": noise.ShortNoise,
    "pairing": noise.Pairing,
    "storage": noise.Storage,
}


@dataclass(frozen=True)
class Built:
    """What a build made.

    Attributes
    ----------
    made, kept : int
        Mixtures that were written, and those that an earlier build had written.
    failures : mapping
        Why a sample has no mixtures, by its id.
    manifests : mapping
        The table of each SNR, for data sets of kind `manifest`.
    mixtures, recipe : Path
        A row for every mixture, and what decides them all.
    """

    samples: int
    made: int
    kept: int
    failures: Mapping[str, str]
    manifests: Mapping[float, Path]
    mixtures: Path
    recipe: Path

    def told(self) -> Iterator[str]:
        """Yield lines that say what was made, where it is, and how a protocol uses it."""
        count = len(self.failures)
        yield (
            f"{self.made} mixtures made, {self.kept} kept: {self.samples} samples at "
            f"{len(self.manifests)} SNRs" + (f", {count} samples failed" if count else "")
        )
        yield f"every mixture  {self.mixtures}"
        yield f"the recipe     {self.recipe}"
        yield "in a protocol  datasets:"
        for snr, path in self.manifests.items():
            yield (
                f"                 - {{name: LRS3-CHiME3 {snr:g} dB, kind: manifest, "
                f"options: {{path: {json.dumps(str(path), ensure_ascii=False)}}}}}"
            )


@dataclass(frozen=True)
class _Mixing:
    """One mixture to be made: its place below the folder, and the row known from before."""

    file: str
    effect: Mixture
    facts: Row
    known: Row | None


@dataclass(frozen=True)
class _Job:
    """All mixtures of one sample."""

    id: str
    speech: Clip
    out: Path
    mixings: tuple[_Mixing, ...]


@dataclass(frozen=True)
class _Done:
    rows: tuple[Row, ...]
    made: int = 0
    failure: Failure | None = None


def lrs3_chime3(
    out: str | Path,
    *,
    root: str | Path,
    noise_root: str | Path,
    engine: Engine,
    enhanced: str | Path | None = None,
    clean_track: CleanTrack | None = None,
    snrs: Sequence[float] = SNRS,
    seed: int = 0,
    partial: bool = False,
    listeners: Sequence[Listener] = (),
    **options: str,
) -> Built:
    """Write the test set of LRS3 in CHiME3's noise: a WAV of 16 kHz for each clip and SNR.

    Below `out`: ``snr<dB>/<video>/<utterance>.wav``; ``snr<dB>.csv``, a table for data sets of kind
    `manifest`; ``mixtures.csv``, a row for every mixture; ``recipe.json``.

    Parameters
    ----------
    out : path
        A new folder, or one that holds an unfinished build of the same recipe.
    root, enhanced, clean_track, partial
        See the data set `lrs3`; `partial` goes for the noise, too.
    noise_root : path
        See the data set `chime3_noise`.
    engine : Engine
        What mixes; how many workers it has decides nothing.
    snrs : sequence of float
        dB.
    seed : int
        Part of what is hashed to choose the noise.
    listeners : sequence of Listener
        Are told of the progress.
    **options : str
        `level`, `clip`, `noise_choice`, `short_noise`, `pairing`, `storage`: see
        `phonoscope.noise`.

    Raises
    ------
    SpecError
        If an option has no such value.
    DatasetError
        If a corpus is not whole.
    UserError
        If the folder cannot be written, or holds something else.
    """
    folder = Path(out).expanduser().absolute()
    chosen = _options(options)
    place = {"kind": "chime3_noise", "root": str(noise_root), "partial": partial}
    given: dict[str, Any] = {"root": str(root), "noise": {NOISE: place}, "partial": partial}
    given |= {"enhanced": str(enhanced)} if enhanced else {}
    given |= {"clean_track": clean_track} if clean_track else {}
    dataset = read_dataset(lrs3, WHAT, given, where="lrs3")
    points = _points(snrs)
    media.prefetch([*dataset.noises[NOISE], *(s.reference for s in dataset.samples)])
    track = track_of(WHAT, clean_track, enhanced)
    shown = {"clean_track": track, "seed": seed, "partial": partial, **chosen}
    recipe = _recipe(dataset, points, shown)
    with _explained(folder):
        _begin(folder, recipe)
        jobs = _jobs(dataset, folder, Path(noise_root), points=points, seed=seed, options=chosen)
        done = list(_run(jobs, engine, listeners))
        return _finish(folder, dataset, done, points)


def _options(given: Mapping[str, str]) -> dict[str, str]:
    """Return all options of mixing, those that were not given by their defaults."""
    for name, value in given.items():
        if name not in OPTIONS:
            raise SpecError(f"{name}: no such option; allowed: {', '.join(OPTIONS)}")
        allowed = typing.get_args(OPTIONS[name])
        if value not in allowed:
            near = difflib.get_close_matches(value, allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SpecError(f"{name}: no {value!r}; {hint}allowed: {', '.join(allowed)}")
    chosen = {name: given.get(name, typing.get_args(OPTIONS[name])[0]) for name in OPTIONS}
    noise.require_compatible(chosen["noise_choice"], chosen["pairing"])
    return chosen


def _points(snrs: Sequence[float]) -> tuple[float, ...]:
    points = tuple(float(snr) + 0.0 for snr in snrs)
    if not points or len(set(map(named, points))) < len(points):
        raise SpecError(f"snr: {list(snrs)} needs numbers of dB, each once")
    return points


def named(snr_db: float) -> str:
    """Return the name of the files of an SNR: ``snr-10``."""
    return f"snr{snr_db:.12g}"


# What decides the build


def _recipe(dataset: Dataset, snrs: Sequence[float], options: Mapping[str, Any]) -> dict[str, Any]:
    noises = dataset.noises[NOISE]
    return {
        "builder": noise.BUILDER,
        "snr_db": list(snrs),
        "rate": noise.RATE,
        **options,
        "inputs": {
            "lrs3": {
                "revision": dataset.revision,
                "clips": len(dataset.samples),
                "sha256": fingerprint([_digest(sample.reference) for sample in dataset.samples]),
            },
            "noise": {"files": len(noises), "sha256": fingerprint([*map(_digest, noises)])},
        },
        "versions": {
            "phonoscope": phonoscope.__version__,
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
    }


def _digest(clip: Clip | None) -> str:
    return media.digest(clip) if clip else ""


def _begin(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Claim a folder for a recipe, or see that it was claimed for the same one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RECIPE
    if path.is_file():
        _require_same(path, recipe)
    elif any(not item.name.startswith(".") for item in folder.iterdir()):
        raise UserError(f"{folder}: holds something else than a build; name a new folder")
    else:
        _write(path, json.dumps(recipe, indent=2) + "\n")
    (folder / UNFINISHED).mkdir(exist_ok=True)


def _require_same(path: Path, recipe: Mapping[str, Any]) -> None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError:
        found = {}
    before, now = (dict(_flat(item)) for item in (found, recipe))
    other = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if other:
        key = other[0]
        raise UserError(
            f"{path.parent}: holds a build with another {key}: {before.get(key)!r}, asked for is "
            f"{now.get(key)!r}; name a new folder, or remove that one"
        )


def _flat(item: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(item, dict):
        yield name, item
        return
    for key, value in item.items():
        yield from _flat(value, f"{name}.{key}" if name else key)


# The work


def _jobs(
    dataset: Dataset,
    folder: Path,
    noise_root: Path,
    *,
    points: Sequence[float],
    seed: int,
    options: Mapping[str, Any],
) -> Iterator[_Job]:
    finished = {(row["id"], row["snr_db"]): row for row in _read_rows(folder / MIXTURES)}
    base = noise_root.expanduser().absolute()
    for sample in dataset.samples:
        known = finished | {(row["id"], row["snr_db"]): row for row in _sidecar(folder, sample.id)}
        mixings = []
        for snr in points:
            effect = _mixture(sample, dataset, snr_db=snr, seed=seed, options=options)
            file = f"{named(snr)}/{sample.id}.wav"
            facts = {
                "id": sample.id,
                "snr_db": snr,
                "file": file,
                "speech_sha256": _digest(sample.reference),
                "noise": Path(effect.noise.path).relative_to(base).as_posix(),
                "noise_sha256": _digest(effect.noise),
                "builder": noise.BUILDER,
                "seed": seed,
                "error": "",
            }
            mixings.append(_Mixing(file, effect, facts, known.get((sample.id, snr))))
        yield _Job(sample.id, sample.inputs["audio"], folder, tuple(mixings))


def _mixture(
    sample: Sample, dataset: Dataset, *, snr_db: float, seed: int, options: Mapping[str, Any]
) -> Mixture:
    noises, among = dataset.noises[NOISE], dataset.samples
    noisy = noise.mix(sample, noises, snr_db=snr_db, seed=seed, among=among, **options)
    effect = noisy.inputs["audio"].effect
    assert isinstance(effect, Mixture)  # noqa: S101 - what `mix` gives
    return effect


def _run(
    jobs: Iterable[_Job], engine: Engine, listeners: Sequence[Listener]
) -> Iterator[tuple[str, _Done]]:
    held = list(jobs)
    tell(listeners, StageStarted(STAGE, WHAT, len(held)))
    for index, result in engine.map(_build, held):
        job = held[index]
        done = _failed(job, result.failure()) if isinstance(result, Lost) else result
        if done.failure:
            code, error = done.failure.code, done.failure.error
            tell(listeners, SampleFailed("", job.id, "", STAGE, code, error))
        tell(listeners, Advanced(STAGE, WHAT, 1, int(done.failure is not None)))
        yield job.id, done
    tell(listeners, StageFinished(STAGE, WHAT))


def _build(job: _Job) -> _Done:
    """Make the mixtures of a sample that are not there yet, and note what is known of them."""
    kept = {item.file: item.known for item in job.mixings if item.known and _holds(job, item)}
    missing = [item for item in job.mixings if item.file not in kept]
    if not missing:
        return _Done(tuple(row for row in kept.values() if row))
    speech = attempt(STAGE, media.read_audio, job.speech, rate=noise.RATE)
    if not isinstance(speech, Audio):
        return _failed(job, speech)
    rows = dict(kept)
    for item in missing:
        mixed = attempt(STAGE, _mix, job.speech.path, item.effect, speech)
        if not isinstance(mixed, tuple):
            return _failed(job, mixed)
        rows[item.file] = _store(job, item, *mixed)
    made = tuple(row for item in job.mixings if (row := rows[item.file]))
    _write(_sidecar_path(job.out, job.id), json.dumps(made))
    return _Done(made, len(missing))


def _mix(path: str, effect: Mixture, speech: Audio) -> tuple[Audio, Row]:
    try:
        return effect.made(speech)
    except ClipError as error:
        raise type(error)(f"{path}: {error}") from error


def _failed(job: _Job, failure: Any) -> _Done:
    rows = tuple(
        {**dict.fromkeys(COLUMNS, ""), **item.facts, "error": f"{failure.code}: {failure.error}"}
        for item in job.mixings
    )
    for item in job.mixings:
        (job.out / item.file).unlink(missing_ok=True)
    return _Done(rows, failure=failure)


def _holds(job: _Job, item: _Mixing) -> bool:
    """Whether the mixture is there, made of the same files, with the content that is known."""
    if not item.known or any(item.known.get(key) != value for key, value in item.facts.items()):
        return False
    path = job.out / item.file
    return path.is_file() and media.file_digest(str(path)) == item.known["sha256"]


def _store(job: _Job, item: _Mixing, sound: Audio, row: Mapping[str, Any]) -> Row:
    temporary = job.out / UNFINISHED / f"{uuid.uuid4().hex}.wav"
    media.write_wav(temporary, sound, bits=16 if item.effect.storage == "pcm16" else 32)
    digest = media.file_digest(str(temporary))
    target = job.out / item.file
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(target)
    found = {**row, **item.facts, "sha256": digest, "samples": len(sound.samples)}
    return {column: found[column] for column in COLUMNS}


# The tables


def _sidecar_path(folder: Path, sample: str) -> Path:
    return folder / UNFINISHED / f"{fingerprint(sample)}.json"


def _sidecar(folder: Path, sample: str) -> list[Row]:
    try:
        rows: list[Row] = json.loads(_sidecar_path(folder, sample).read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return rows


def _read_rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                numbers = {name: int(row[name]) for name in WHOLE}
                yield row | numbers | {name: float(row[name]) for name in (*REAL, "snr_db_mixed")}


def _finish(
    folder: Path,
    dataset: Dataset,
    done: Iterable[tuple[str, _Done]],
    points: Sequence[float],
) -> Built:
    by_id = dict(done)
    ordered = [by_id[sample.id] for sample in dataset.samples]
    manifests = {snr: folder / f"{named(snr)}.csv" for snr in points}
    for snr, path in manifests.items():
        _write(path, _table(MANIFEST, (_entry(sample, snr) for sample in dataset.samples)))
    rows = [row for item in ordered for row in item.rows]
    _write(folder / MIXTURES, _table(COLUMNS, rows))
    shutil.rmtree(folder / UNFINISHED)
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)
    failures = {name: item.failure.error for name, item in by_id.items() if item.failure}
    made = sum(item.made for item in ordered)
    kept = sum(len(item.rows) for item in ordered if not item.failure) - made
    places = folder / MIXTURES, folder / RECIPE
    return Built(len(ordered), made, kept, failures, manifests, *places)


def _entry(sample: Sample, snr: float) -> Row:
    assert sample.reference is not None  # noqa: S101 - LRS3 has one for every sample
    return {
        "id": sample.id,
        "group": sample.group,
        "reference": sample.reference.path,
        "video": sample.inputs["video"].path,
        "audio": f"{named(snr)}/{sample.id}.wav",
        "transcript": sample.meta.get("transcript", ""),
    }


def _table(columns: Sequence[str], rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    """Write a file that appears under its name only when it is complete."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)  # noqa: PTH105
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what the disk says into a message."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename or folder}: is gone; if another build writes there, let it end; then "
            "run the same command again: it goes on"
        ) from error
    except OSError as error:
        raise UserError(
            f"{error.filename or folder}: {error.strerror or error}; make room, or name another "
            "folder, and run the same command again: it goes on"
        ) from error
