"""Generate: every sample of a run ends as a clip or as a failure."""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from phonoscope import enrollment, media
from phonoscope.engines import Engine, Lost
from phonoscope.errors import StoreError
from phonoscope.events import Advanced, Listener, SampleFailed, StageFinished, StageStarted, tell
from phonoscope.protocol import Entry, Protocol, RunSpec
from phonoscope.store import RunStore, explained
from phonoscope.types import Clip, Failure, Sample, Unsupported, Window, fingerprint
from phonoscope.views import attempt

STAGE: Final = "generate"
PROBE = 1 << 16
PARTIAL = ".partial"
LEFT_BEHIND = 86_400.0  # seconds
# Of these another try may think better: what is keyed by content cannot be missing.
TRANSIENT = (
    *("worker_died", "metric_error"),
    *("missing_clip", "missing_reference", "missing_enrollment"),
)
Generated = Clip | Failure | Unsupported


@dataclass(frozen=True)
class Job:
    """One sample for one system."""

    key: str
    sample: Sample
    seed: int
    entry: Entry
    folder: Path
    extra: tuple[tuple[str, Any], ...] = ()


def key_of(spec: RunSpec, sample: Sample) -> str | None:
    """Return the digest of all that decides the clip, or None if an input cannot be read.

    Only inputs that the system needs count: one without `audio` generates once for all SNRs.
    """
    used = {role: _role(sample, role) for role in spec.entry.system.needs}
    digests = {role: attempt(STAGE, media.digest, clip) for role, clip in used.items() if clip}
    if any(isinstance(digest, Failure) for digest in digests.values()):
        return None
    meta = dict(sorted(sample.meta.items()))
    identities = {"dataset": spec.dataset.revision, "condition": spec.condition.axes}
    asked = [(name, identities.get(name, value)) for name, value in extras(spec)]
    return fingerprint(spec.entry.identity, sample.id, spec.seed, digests, meta, asked)


def _role(sample: Sample, role: str) -> Clip | None:
    return sample.reference if role == "reference" else sample.inputs.get(role)


def lacking(entry: Entry, sample: Sample) -> Failure | Unsupported | None:
    """Return why the sample is not for this system, if it is not."""
    absent = [role for role in entry.system.needs if _role(sample, role) is None]
    if not absent:
        return None
    if absent[0] in sample.missing:
        return sample.missing[absent[0]]
    text = (
        f"sample {sample.id} has no {', '.join(absent)}, which system {entry.name} needs; "
        "give the data set one, or leave the system out"
    )
    return Unsupported(f"missing_{absent[0]}", text)


def _call(job: Job) -> Generated:
    """Run the system on one sample: it writes into a folder that is renamed when it is whole."""
    if job.entry.system.materialise:
        return _produce(job)
    return _named(job, job.folder)


def _named(job: Job, folder: Path) -> Generated:
    params = {**job.entry.params, **dict(job.extra)}
    result = attempt(STAGE, job.entry.system, job.sample, folder, seed=job.seed, **params)
    if isinstance(result, Failure | Unsupported | Clip):
        return result
    if not isinstance(result, str | os.PathLike):
        text = f"system {job.entry.name} returned {result!r:.40}; return the path that it wrote"
        return Failure(STAGE, "metric_error", text)
    return Clip(str(result))


def _produce(job: Job) -> Generated:
    partial = _partial(job.folder)
    with explained(str(job.folder.parents[1])):
        partial.mkdir(parents=True)
        job.folder.parent.mkdir(exist_ok=True)
    try:
        return _installed(job, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(folder: Path) -> Path:
    """Return a name that nobody has, on the same disk, for what is not a clip yet or any more."""
    return folder.parents[1] / PARTIAL / f"{folder.name}.{uuid.uuid4().hex[:8]}"


def _clear(root: Path) -> None:
    """Remove what killed runs left half made; a run that is under way may have younger folders."""
    for folder in (root / PARTIAL).glob("*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > LEFT_BEHIND:
                shutil.rmtree(folder)


def _installed(job: Job, partial: Path) -> Generated:
    made = _named(job, partial)
    if isinstance(made, Failure) and made.code == "metric_error":
        _require_space(job, partial)
    if not isinstance(made, Clip):
        return made
    if Path(made.path).parent != partial:
        return made if made.effect is None else _unwritten(job)
    name = Path(made.path).name
    if not Path(made.path).is_file():
        text = f"system {job.entry.name} returned {name}, but wrote no such file"
        return Failure(STAGE, "missing_clip", text)
    with explained(str(job.folder.parents[1])):
        _install(partial, job.folder, name)
    return replace(made, path=str(job.folder / name))


def _require_space(job: Job, partial: Path) -> None:
    """Tell a full disk, which spares no sample, from an error of the system."""
    with explained(str(job.folder.parents[1])):
        (partial / "probe").write_bytes(bytes(PROBE))


def _install(partial: Path, folder: Path, name: str) -> None:
    """Rename a whole clip into place; if another run was quicker, its clip stays."""
    try:
        partial.replace(folder)
    except OSError:
        if (folder / name).is_file():
            return
        if not folder.is_dir():
            raise
        damaged = _partial(folder)
        with contextlib.suppress(FileNotFoundError):
            folder.replace(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
        _install(partial, folder, name)


def _unwritten(job: Job) -> Failure:
    text = f"system {job.entry.name} returned an input; declare it with materialise=False"
    return Failure(STAGE, "metric_error", text)


def generate(
    protocol: Protocol, store: RunStore, engine: Engine, listeners: Sequence[Listener] = ()
) -> None:
    """Generate what the store does not have yet, run by run."""
    for spec in protocol.runs():
        if spec.entry.system.materialise:
            _generate_run(spec, store, engine, listeners)


def _generate_run(
    spec: RunSpec, store: RunStore, engine: Engine, listeners: Sequence[Listener]
) -> None:
    jobs = [job for job in _jobs(spec, store) if not _known(store, job)]
    if not jobs:
        return
    _clear(media_folder(store))
    what = f"{spec.entry.name} on {spec.dataset.name} [{spec.condition}]"
    tell(listeners, StageStarted(STAGE, what, len(jobs)))
    for index, result in engine.map(_call, jobs):
        job = jobs[index]
        made = replace(result.failure(), stage=STAGE) if isinstance(result, Lost) else result
        store.clips.add(_row(job, made, store))
        failed = not isinstance(made, Clip)
        if isinstance(made, Failure):
            tell(
                listeners,
                SampleFailed(spec.entry.name, job.sample.id, "", STAGE, made.code, made.error),
            )
        tell(listeners, Advanced(STAGE, what, 1, int(failed)))
    store.clips.flush()
    tell(listeners, StageFinished(STAGE, what))


def _jobs(spec: RunSpec, store: RunStore) -> Iterator[Job]:
    extra = extras(spec)
    root = media_folder(store)
    for sample in spec.samples():
        if lacking(spec.entry, sample):
            continue
        key = key_of(spec, sample)
        if key is not None:
            yield Job(key, sample, spec.seed, spec.entry, root / key[:2] / key, extra)


def extras(spec: RunSpec) -> tuple[tuple[str, Any], ...]:
    """Return what a system asks for by name: its data set, the condition, or an axis of it."""
    asked = inspect.signature(spec.entry.system.function).parameters
    offered = {**dict(spec.condition.axes), **given(spec)}
    return tuple((name, value) for name, value in offered.items() if name in asked)


def given(spec: RunSpec) -> dict[str, Any]:
    """Return what any system may ask for by these names."""
    return {"dataset": spec.dataset, "condition": spec.condition}


def media_folder(store: RunStore) -> Path:
    """Return where generated clips of the store lie.

    Raises
    ------
    StoreError
        If the store is remote and `PHONOSCOPE_MEDIA` names no folder.
    """
    named = os.environ.get("PHONOSCOPE_MEDIA")
    if named:
        return Path(named)
    if store.local is None:
        raise StoreError(
            f"{store.url}: generated clips need a folder on this machine; set PHONOSCOPE_MEDIA"
        )
    return store.local / "media"


def _known(store: RunStore, job: Job) -> bool:
    row = store.clips.fetch([job.key])[0]
    if row is None or row["transient"]:
        return False
    return row["status"] != "ok" or _located(store, row["path"]).is_file()


def _located(store: RunStore, path: str) -> Path:
    return media_folder(store) / path


def _row(job: Job, made: Generated, store: RunStore) -> dict[str, Any]:
    if isinstance(made, Clip):
        path = os.path.relpath(made.path, media_folder(store))
        inside = not path.startswith("..")
        return _clip_row(job, "ok", path=path if inside else made.path)
    status = "failed" if isinstance(made, Failure) else "unsupported"
    transient = made.code in TRANSIENT
    return _clip_row(job, status, code=made.code, error=made.error, transient=transient)


def _clip_row(job: Job, status: str, **fields: Any) -> dict[str, Any]:
    empty = {"path": "", "code": "", "error": "", "transient": False}
    return {"key": job.key, "sample": job.sample.id, "status": status, **empty, **fields}


def generated(
    spec: RunSpec, store: RunStore, window: Window | None = None
) -> list[Generated | None]:
    """Return each sample's clip or failure in order; None where nothing was generated yet."""
    samples = list(spec.samples())
    if spec.entry.system.materialise:
        found = _from_store(spec, store, samples)
    else:
        found = list(_directly(spec, samples))
    return [_cut(item, window) for item in found]


def _cut(item: Generated | None, window: Window | None) -> Generated | None:
    if window and isinstance(item, Clip) and item.window is None:
        return replace(item, window=window)
    return item


def _directly(spec: RunSpec, samples: Iterable[Sample]) -> Iterator[Generated]:
    extra = extras(spec)
    for sample in samples:
        job = Job("", sample, spec.seed, spec.entry, Path(), extra)
        yield lacking(spec.entry, sample) or _call(job)


def _from_store(
    spec: RunSpec, store: RunStore, samples: Sequence[Sample]
) -> list[Generated | None]:
    keys = [None if lacking(spec.entry, s) else key_of(spec, s) for s in samples]
    rows = store.clips.fetch([key or "" for key in keys])
    return [_outcome(spec, store, *triple) for triple in zip(samples, keys, rows, strict=True)]


def _outcome(spec: RunSpec, store: RunStore, sample: Sample, key: str | None, row: Any) -> Any:
    reason = lacking(spec.entry, sample)
    if reason:
        return reason
    if key is None:
        return _unreadable(spec, sample)
    if row is None:
        return None
    if row["status"] == "unsupported":
        return Unsupported(row["code"], row["error"])
    if row["status"] == "failed":
        return Failure(STAGE, row["code"], row["error"])
    return Clip(str(_located(store, row["path"])))


def _unreadable(spec: RunSpec, sample: Sample) -> Any:
    for role in spec.entry.system.needs:
        clip = _role(sample, role)
        digest = attempt(STAGE, media.digest, clip) if clip else None
        if isinstance(digest, Failure):
            code = enrollment.CODE if role == enrollment.ROLE else "missing_input"
            return replace(digest, code=code, error=f"{role}: {digest.error}")
    return None
