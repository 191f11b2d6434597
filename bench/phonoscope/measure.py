"""Measure: view by view, then metric by metric; each cell ends as a record or says why not.

`plan` says for one run which record each cell needs. Records are keyed by content: the same clips
under the same metric are measured once, whichever systems, conditions or runs share them.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from phonoscope import media, views, weights
from phonoscope.engines import Engine, Lost, divided
from phonoscope.errors import NonfiniteOutput, SetupError
from phonoscope.events import (
    Advanced,
    ColumnUnavailable,
    Listener,
    NetworkLoaded,
    SampleFailed,
    StageFinished,
    StageStarted,
    tell,
)
from phonoscope.generate import TRANSIENT, Generated, generated
from phonoscope.plugins import Metric, missing_packages
from phonoscope.protocol import Protocol, RunSpec
from phonoscope.store import RunStore
from phonoscope.types import (
    Clip,
    Failure,
    Outcome,
    Ratio,
    Record,
    Sample,
    Unsupported,
    Value,
    Window,
    fingerprint,
)
from phonoscope.views import View, attempt, frontier, look

RENAMED = {
    ("reference", "silent_audio"): "silent_reference",
    ("reference", "missing_clip"): "missing_reference",
    ("enrollment", "missing_clip"): "missing_enrollment",
}
CHUNK = 64
CHUNK_SECONDS = 2.0
F = TypeVar("F", bound=Failure | Unsupported)
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """The cells of one sample that are to be measured."""

    sample: str
    system: str
    clips: Mapping[str, Clip]
    digests: Mapping[str, str]
    texts: Mapping[str, str]
    wanted: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Plan:
    """What one run needs: for each metric and sample the key of a record, or an outcome."""

    spec: RunSpec
    samples: tuple[Sample, ...]
    made: tuple[Generated | None, ...]
    cells: Mapping[str, tuple[str | Outcome | None, ...]]
    jobs: tuple[Job, ...]


def roles(task: str, sample: Sample, clip: Clip, window: Window | None = None) -> dict[str, Clip]:
    """Return the clips of a sample by role, as metrics name them."""
    other = "audio" if task == "talking_face" else "video"
    made = "video" if task == "talking_face" else "audio"
    found = {"generated": clip, made: clip}
    rest = {
        "reference": sample.reference,
        "enrollment": sample.inputs.get("enrollment"),
        other: sample.inputs.get(other),
    }
    for role, item in rest.items():
        if item is not None:
            found[role] = replace(item, window=window) if window else item
    return found


def used(metric: Metric, clips: Mapping[str, Clip]) -> dict[str, Clip]:
    """Return the clips that a metric looks at."""
    return {role: clips[role] for role in metric.views}


class Planner:
    """Plans runs of one protocol; identities and digests are computed once."""

    def __init__(
        self, protocol: Protocol, store: RunStore, windows: Mapping[tuple[str, str], Window]
    ) -> None:
        self.protocol, self.store, self.windows = protocol, store, windows
        self.unavailable = {m.name: reason for m in protocol.metrics if (reason := lacks(m))}
        self._identities = {m.name: known for m in protocol.metrics if (known := _identity(m))}
        self._digests: dict[Clip, str | Failure] = {}
        self._plans: dict[str, Plan] = {}

    def plan(self, spec: RunSpec) -> Plan:
        """Return the plan of one run, made at the first call: generate before."""
        if spec.key not in self._plans:
            self._plans[spec.key] = self._plan(spec)
        return self._plans[spec.key]

    def withdraw(self, view: View, why: Failure) -> list[str]:
        """Take out the metrics whose view cannot be had after all; return their names."""
        names = [
            metric.name
            for metric in self.protocol.metrics
            if metric.name not in self.unavailable and view in map(frontier, metric.views.values())
        ]
        self.unavailable |= dict.fromkeys(names, why)
        self._plans.clear()
        return names

    def absent(self) -> list[str]:
        """Return the metrics that cannot be measured here and that the store does not have."""
        plans = [self.plan(spec) for spec in self.protocol.runs()]
        return [
            name
            for name, why in self.unavailable.items()
            if any(why in plan.cells[name] for plan in plans)
        ]

    def _plan(self, spec: RunSpec) -> Plan:
        samples = tuple(spec.samples())
        made = tuple(generated(spec, self.store))
        media.prefetch(clip for clip in made if isinstance(clip, Clip))
        cells: dict[str, list[Any]] = {metric.name: [] for metric in self.protocol.metrics}
        jobs: list[Job] = []
        for sample, clip in zip(samples, made, strict=True):
            jobs += self._sample(spec, sample, clip, cells)
        frozen = {name: tuple(items) for name, items in cells.items()}
        return Plan(spec, samples, made, frozen, tuple(jobs))

    def _sample(
        self, spec: RunSpec, sample: Sample, made: Generated | None, cells: dict[str, list[Any]]
    ) -> Iterator[Job]:
        if not isinstance(made, Clip):
            for items in cells.values():
                items.append(made)
            return
        window = self.windows.get((spec.dataset.name, sample.id), self.protocol.window)
        cut = replace(made, window=window) if window else made
        clips = roles(self.protocol.spec.task, sample, cut, window)
        digests = {role: self._digest(clip) for role, clip in clips.items()}
        wanted = []
        for number, metric in enumerate(self.protocol.metrics):
            cell = self._cell(metric, sample, clips, digests)
            cells[metric.name].append(cell)
            if isinstance(cell, str):
                wanted.append((number, cell))
        if wanted:
            good = {role: digest for role, digest in digests.items() if isinstance(digest, str)}
            yield Job(sample.id, spec.entry.name, clips, good, sample.meta, tuple(wanted))

    def _digest(self, clip: Clip) -> str | Failure:
        found = self._digests.get(clip)
        if found is None:
            found = self._digests[clip] = attempt("view", media.digest, clip)
        return found

    def _cell(
        self,
        metric: Metric,
        sample: Sample,
        clips: Mapping[str, Clip],
        digests: Mapping[str, str | Failure],
    ) -> str | Outcome:
        """Return what is known of a cell, or its key; what the store has needs no network here."""
        why = self.unavailable.get(metric.name)
        if metric.name not in self._identities and why:
            return why
        cell = self._key(metric, sample, clips, digests)
        lost = why and isinstance(cell, str) and not self.store.records.settled(cell)
        return why if why and lost else cell

    def _key(
        self,
        metric: Metric,
        sample: Sample,
        clips: Mapping[str, Clip],
        digests: Mapping[str, str | Failure],
    ) -> str | Outcome:
        absent = [role for role in metric.views if role not in digests]
        absent += [text for text in metric.texts if text not in sample.meta]
        if absent and absent[0] in sample.missing:
            return sample.missing[absent[0]]
        if absent:
            text = (
                f"sample {sample.id} has no {absent[0]}, which {metric.name} needs; "
                "give the data set one, or leave the metric out"
            )
            return Unsupported(f"missing_{absent[0]}", text)
        for role in metric.views:
            digest = digests[role]
            if isinstance(digest, Failure):
                return named(renamed(digest, role, clips[role]), clips)
        texts = [sample.meta[name] for name in metric.texts]
        used = [digests[role] for role in metric.views]
        return fingerprint(self._identities[metric.name], used, texts)


def _identity(metric: Metric) -> str:
    """Return the identity; an empty text where it hangs on weights that are not here."""
    try:
        return metric.identity
    except SetupError:
        return ""


def lacks(metric: Metric) -> Failure | None:
    """Return why a metric cannot run on this machine, if it cannot."""
    absent = missing_packages(metric.packages)
    if absent:
        text = f"needs {', '.join(absent)}; `phonoscope doctor` says how to install it"
        return Failure("view", "dependency_missing", text)
    try:
        for name in metric.weights:
            weights.locate(name)
    except SetupError as error:
        return Failure("view", error.code, str(error))
    return None


def renamed(failure: F, role: str, clip: Clip) -> F:
    """Return the failure under the name that it has in this role, and say which role it was.

    The file is left out: what a store keeps is keyed by content, which may lie in several files.
    """
    code = RENAMED.get((role, failure.code), failure.code)
    return replace(failure, code=code, error=f"{role}: {_unplaced(failure, clip).error}")


def _unplaced(output: T, clip: Clip) -> T:
    if isinstance(output, Failure | Unsupported):
        return replace(output, error=output.error.removeprefix(f"{clip.path}: "))
    return output


def named(failure: F, clips: Mapping[str, Clip]) -> F:
    """Return a failure of the store as the failure of one sample: its message names the files."""
    role, _, rest = failure.error.partition(": ")
    if role in clips:
        return replace(failure, error=f"{role} {clips[role].path}: {rest}")
    files = ", ".join(f"{role} {clip.path}" for role, clip in clips.items())
    return replace(failure, error=f"{failure.error} ({files})")


@dataclass(frozen=True)
class ViewTask:
    """Compute one view of a list of clips; runs in a worker."""

    view: View
    device: str

    def __call__(
        self, clips: Sequence[tuple[str, Clip]]
    ) -> tuple[list[Any], list[tuple[str, str]]] | SetupError:
        """Return (outputs of the (key, clip) pairs in order, networks that were loaded for it).

        Or why a network cannot be loaded: an error raised here would end the whole run.
        """
        try:
            outputs = views.see(self.view, [clip for _, clip in clips], device=self.device)
        except SetupError as error:
            return error
        return outputs, views.loads()


@dataclass(frozen=True)
class MeasureTask:
    """Run the metrics' functions on (job, known view outputs by role) pairs; runs in a worker."""

    metrics: tuple[Metric, ...]

    def __call__(self, items: list[tuple[Job, Mapping[str, Any]]]) -> list[list[Outcome]]:
        """Return the outcomes of each job's wanted cells, in order."""
        return [[self._cell(n, job, known) for n, _ in job.wanted] for job, known in items]

    def _cell(self, number: int, job: Job, known: Mapping[str, Any]) -> Outcome:
        metric = self.metrics[number]
        seen: dict[str, Any] = {}
        for role, item in metric.views.items():
            output = look(item, job.clips[role], known.get(role, views.NOTHING))
            if isinstance(output, Failure | Unsupported):
                return renamed(output, role, job.clips[role])
            seen[role] = output
        texts = {name: job.texts[name] for name in metric.texts}
        outcome: Outcome = attempt("measure", _measured, metric, seen | texts)
        return outcome


def _measured(metric: Metric, filled: Mapping[str, Any]) -> Record:
    """Return the record, if it is one that a store can hold."""
    record = metric(**filled)
    if not _finite(record.value):
        raise NonfiniteOutput(f"{metric.name} gave {record.value!r}")
    if record.info:
        json.dumps(_plain(record.info))
    return record


def _finite(value: Value) -> bool:
    if isinstance(value, Ratio):
        return math.isfinite(value.numerator) and math.isfinite(value.denominator)
    if isinstance(value, tuple):
        return bool(np.isfinite(np.stack(value)).all())
    return math.isfinite(value)


def measure(
    planner: Planner, engine: Engine, listeners: Sequence[Listener] = (), *, device: str = "cpu"
) -> None:
    """Measure every cell of the protocol that the store does not have yet.

    The metrics of a network that cannot be loaded become unavailable; the others go on.
    """
    store = planner.store
    _tell_unavailable(planner, planner.absent(), listeners)
    for event in _foreseen(planner):
        tell(listeners, event)
    jobs, known = pending(planner), len(planner.unavailable)
    metrics = planner.protocol.metrics
    for view, clips in _needed_views(jobs, metrics).items():
        why = _see_all(view, clips, store, engine, listeners, device)
        if why:
            gone = planner.withdraw(view, Failure("view", why.code, str(why)))
            _tell_unavailable(planner, set(gone).intersection(planner.absent()), listeners)
    if len(planner.unavailable) > known:
        jobs = pending(planner)
    _measure_all(jobs, metrics, store, engine, listeners)
    store.flush()


def _tell_unavailable(
    planner: Planner, names: Iterable[str], listeners: Sequence[Listener]
) -> None:
    for name in sorted(names, key=list(planner.unavailable).index):
        failure = planner.unavailable[name]
        tell(listeners, ColumnUnavailable(name, failure.code, failure.error))


def _foreseen(planner: Planner) -> Iterator[SampleFailed]:
    """Yield the failures that need no measuring: files that are not there."""
    for spec in planner.protocol.runs():
        plan = planner.plan(spec)
        for number, (sample, made) in enumerate(zip(plan.samples, plan.made, strict=True)):
            cells = {name: found[number] for name, found in plan.cells.items()}
            if isinstance(made, Failure):
                told = spec.entry.system.materialise and made not in sample.missing.values()
                cells = {} if told else {"": made}
            for name, cell in cells.items():
                if isinstance(cell, Failure) and name not in planner.unavailable:
                    names = spec.entry.name, sample.id, name
                    yield SampleFailed(*names, cell.stage, cell.code, cell.error)


def pending(planner: Planner) -> list[Job]:
    """Return the jobs whose records are not in the store, each record once."""
    taken: set[str] = set()
    settled = planner.store.records.settled
    jobs = []
    for spec in planner.protocol.runs():
        for job in planner.plan(spec).jobs:
            wanted = tuple(
                cell for cell in job.wanted if cell[1] not in taken and not settled(cell[1])
            )
            taken.update(key for _, key in wanted)
            if wanted:
                jobs.append(replace(job, wanted=wanted))
    return jobs


def view_key(view: View, digest: str) -> str:
    """Return the key of a view's output in the store."""
    return fingerprint(view.identity, digest)


def _needed_views(jobs: Sequence[Job], metrics: Sequence[Metric]) -> dict[View, dict[str, Clip]]:
    needed: dict[str, tuple[View, dict[str, Clip]]] = {}
    for job in jobs:
        for view, role in _stored_views(job, metrics):
            _, clips = needed.setdefault(view.identity, (view, {}))
            clips[view_key(view, job.digests[role])] = job.clips[role]
    return dict(needed.values())


def _stored_views(job: Job, metrics: Sequence[Metric]) -> Iterator[tuple[View, str]]:
    for number, _ in job.wanted:
        for role, view in metrics[number].views.items():
            stored = frontier(view)
            if stored is not None:
                yield stored, role


def _see_all(
    view: View,
    clips: Mapping[str, Clip],
    store: RunStore,
    engine: Engine,
    listeners: Sequence[Listener],
    device: str,
) -> SetupError | None:
    """Compute what the store lacks; return why a network cannot be loaded, if it cannot."""
    keys = [key for key in clips if not store.views.settled(key)]
    if not keys:
        return None
    why: SetupError | None = None
    tell(listeners, StageStarted("view", str(view), len(keys)))
    pace = _Pace(len(keys), engine.workers, least=view.batch)
    parts = pace.parts((key, clips[key]) for key in keys)
    for part, result in divided(engine, ViewTask(view, device), parts, _singly):
        if isinstance(result, SetupError):
            why = result
            break
        pace.done += len(part)
        outputs, loaded = _unpacked(result, len(part))
        store.views.extend(
            _view_row(key, view, _unplaced(output, clip))
            for (key, clip), output in zip(part, outputs, strict=True)
        )
        for name, where in loaded:
            tell(listeners, NetworkLoaded(name, where, engine.name))
        failed = sum(isinstance(output, Failure) for output in outputs)
        tell(listeners, Advanced("view", str(view), len(part), failed))
    store.views.flush()
    tell(listeners, StageFinished("view", str(view)))
    return why


def _unpacked(result: Any, count: int) -> tuple[list[Any], list[tuple[str, str]]]:
    if isinstance(result, Lost):
        return [replace(result.failure(), stage="view")] * count, []
    return result  # type: ignore[no-any-return]


class _Pace:
    """How many items a worker gets at once: what takes it about `CHUNK_SECONDS`, as far as known.

    So few are lost when a run is killed, sending them costs little, and all workers are busy to the
    end. `done` is counted by the caller.
    """

    def __init__(self, total: int, workers: int, *, least: int = 1) -> None:
        self.done, self._workers, self._start = 0, workers, time.monotonic()
        self._least = max(1, least)
        self._most = max(self._least, min(CHUNK, total // (workers * 8)))

    @property
    def size(self) -> int:
        """Items of the next part."""
        elapsed = max(time.monotonic() - self._start, 1e-6)
        fair = int(self.done / elapsed / self._workers * CHUNK_SECONDS)
        return max(self._least, min(self._most, fair))

    def parts(self, items: Iterable[T]) -> Iterator[list[T]]:
        """Yield the items in lists, each as long as seems right when it is asked for."""
        iterator = iter(items)
        while part := list(itertools.islice(iterator, self.size)):
            yield part


def _measure_all(
    jobs: Sequence[Job],
    metrics: tuple[Metric, ...],
    store: RunStore,
    engine: Engine,
    listeners: Sequence[Listener],
) -> None:
    if not jobs:
        return
    what = f"{len(metrics)} metrics"
    tell(listeners, StageStarted("measure", what, sum(len(job.wanted) for job in jobs)))
    pace = _Pace(len(jobs), engine.workers)
    supplied = (list(_with_outputs(part, metrics, store)) for part in pace.parts(jobs))
    for part, result in divided(engine, MeasureTask(metrics), supplied, _by_cell):
        pace.done += len(part)
        cells = [
            (job, metrics[number], key, outcome)
            for job, outcomes in _paired([job for job, _ in part], result)
            for (number, key), outcome in zip(job.wanted, outcomes, strict=True)
        ]
        store.records.extend(record_row(key, item.name, found) for _, item, key, found in cells)
        for job, metric, _, outcome in cells:
            _report(job, metric, outcome, listeners)
        failed = sum(isinstance(outcome, Failure) for *_, outcome in cells)
        tell(listeners, Advanced("measure", what, len(cells), failed))
    store.records.flush()
    tell(listeners, StageFinished("measure", what))


def _singly(part: Sequence[T]) -> list[list[T]]:
    return [[item] for item in part]


def _by_cell(part: list[tuple[Job, S]]) -> list[list[tuple[Job, S]]]:
    """Divide jobs that a worker died on, at last into single cells."""
    if len(part) > 1:
        return _singly(part)
    job, known = part[0]
    return [[(replace(job, wanted=(cell,)), known)] for cell in job.wanted]


def _paired(part: Sequence[Job], result: Any) -> Iterator[tuple[Job, list[Outcome]]]:
    for number, job in enumerate(part):
        lost = isinstance(result, Lost)
        yield job, [result.failure()] * len(job.wanted) if lost else result[number]


def _report(job: Job, metric: Metric, outcome: Outcome, listeners: Sequence[Listener]) -> None:
    if isinstance(outcome, Failure):
        names = job.system, job.sample, metric.name
        told = named(outcome, used(metric, job.clips))
        tell(listeners, SampleFailed(*names, told.stage, told.code, told.error))


def _with_outputs(
    part: Sequence[Job], metrics: Sequence[Metric], store: RunStore
) -> Iterator[tuple[Job, dict[str, dict[str, Any]]]]:
    for job in part:
        pairs = list(_stored_views(job, metrics))
        rows = store.views.fetch([view_key(view, job.digests[role]) for view, role in pairs])
        known: dict[str, dict[str, Any]] = {}
        for (view, role), row in zip(pairs, rows, strict=True):
            known.setdefault(role, {})[view.identity] = view_output(row)
        yield job, known


def _view_row(key: str, view: View, output: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": key,
        "view": str(view),
        "status": "ok",
        "text": "",
        "data": b"",
        "dtype": "",
    }
    row |= {"shape": [], "code": "", "error": "", "transient": False}
    fields = attempt("view", _output_fields, output)
    return row | (fields if isinstance(fields, dict) else _failed_fields(_of(view, fields)))


def _output_fields(output: Any) -> dict[str, Any]:
    if isinstance(output, Failure | Unsupported):
        return _failed_fields(output)
    if isinstance(output, np.ndarray):
        if not np.isfinite(output).all():
            raise NonfiniteOutput("a NaN or an infinity in the output")
        return _array_fields(output, "data")
    try:
        return {"text": json.dumps(_plain(output), allow_nan=False)}
    except ValueError:
        raise NonfiniteOutput("a NaN or an infinity in the output") from None


def _of(view: View, failure: Failure) -> Failure:
    return replace(failure, error=f"view {view}: {failure.error}")


def _failed_fields(output: Failure | Unsupported) -> dict[str, Any]:
    status = "failed" if isinstance(output, Failure) else "unsupported"
    transient = output.code in TRANSIENT
    return {"status": status, "code": output.code, "error": output.error, "transient": transient}


def _array_fields(array: Any, name: str) -> dict[str, Any]:
    array = np.ascontiguousarray(array)
    return {name: array.tobytes(), "dtype": array.dtype.str, "shape": list(array.shape)}


def _plain(output: Any) -> Any:
    if isinstance(output, Mapping):
        return {str(name): _plain(value) for name, value in output.items()}
    return output.item() if isinstance(output, np.generic) else output


def view_output(row: Mapping[str, Any]) -> Any:
    """Return the output, or the failure, that a row of the store's `views` holds."""
    if row["status"] == "failed":
        return Failure("view", row["code"], row["error"])
    if row["status"] == "unsupported":
        return Unsupported(row["code"], row["error"])
    if row["dtype"]:
        return np.frombuffer(row["data"], row["dtype"]).reshape(row["shape"])
    return json.loads(row["text"])


EMPTY_RECORD: dict[str, Any] = {
    "status": "ok", "value": None, "denominator": None, "vectors": b"", "dtype": "", "shape": [],
    "flags": [], "info": "", "stage": "", "code": "", "error": "", "transient": False,
}  # fmt: skip


def record_row(key: str, metric: str, outcome: Outcome) -> dict[str, Any]:
    """Return the row of the store's `records` that holds an outcome."""
    row: dict[str, Any] = {**EMPTY_RECORD, "key": key, "metric": metric}
    if isinstance(outcome, Failure | Unsupported):
        return row | _failed_fields(outcome) | {"stage": getattr(outcome, "stage", "")}
    info = {name: _plain(value) for name, value in outcome.info.items()}
    row |= {"flags": list(outcome.flags), "info": json.dumps(info) if info else ""}
    if isinstance(outcome.value, Ratio):
        return row | {
            "value": float(outcome.value.numerator),
            "denominator": float(outcome.value.denominator),
        }
    if isinstance(outcome.value, tuple):
        return row | _array_fields(np.stack(outcome.value), "vectors")
    return row | {"value": float(outcome.value)}


def outcome_of(row: Mapping[str, Any]) -> Outcome:
    """Return the outcome that a row of the store's `records` holds."""
    if row["status"] == "unsupported":
        return Unsupported(row["code"], row["error"])
    if row["status"] == "failed":
        return Failure(row["stage"], row["code"], row["error"])
    flags, info = tuple(row["flags"]), json.loads(row["info"] or "{}")
    if row["dtype"]:
        stack = np.frombuffer(row["vectors"], row["dtype"]).reshape(row["shape"])
        return Record(tuple(stack), flags, info)
    if row["denominator"] is not None:
        return Record(Ratio(row["value"], row["denominator"]), flags, info)
    return Record(row["value"], flags, info)
