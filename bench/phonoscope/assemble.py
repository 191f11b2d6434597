"""Assemble: from a protocol and its store to the leaderboard. Measures nothing."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phonoscope import reproduce, stats, weights
from phonoscope.leaderboard import Cell, Column, Leaderboard, Row, SampleValue
from phonoscope.measure import Plan, Planner, named, outcome_of, used
from phonoscope.plugins import METRICS, Metric
from phonoscope.protocol import Protocol
from phonoscope.store import RunStore
from phonoscope.types import (
    Clip,
    Dataset,
    Estimate,
    Failure,
    Outcome,
    Ratio,
    Record,
    Sample,
    Scalar,
    Unsupported,
    Value,
    notes_of,
)

PACKAGES = ("phonoscope", "numpy", "scipy", "soundfile", "soxr", "av")
LOSSY = (".mp4", ".m4a", ".mp3", ".ogg", ".aac", ".opus", ".webm", ".mpg", ".avi", ".mkv")


@dataclass(frozen=True)
class Line:
    """One row of the board with everything behind it."""

    plan: Plan
    outcomes: Mapping[str, tuple[Outcome | None, ...]]
    estimates: Mapping[str, Estimate]

    @property
    def kind(self) -> str:
        """`system`, `reference` or `control`."""
        return self.plan.spec.entry.kind


def lines(planner: Planner) -> Iterator[Line]:
    """Yield every row of the protocol, from what the store holds."""
    for spec in planner.protocol.runs():
        plan = planner.plan(spec)
        outcomes = {
            metric.name: _outcomes(plan, metric, planner.store)
            for metric in planner.protocol.metrics
        }
        groups = [sample.group for sample in plan.samples]
        estimates = {
            metric.name: estimate(metric, outcomes[metric.name], groups)
            for metric in planner.protocol.metrics
        }
        yield Line(plan, outcomes, estimates)


def _outcomes(plan: Plan, metric: Metric, store: RunStore) -> tuple[Outcome | None, ...]:
    cells = plan.cells[metric.name]
    rows = store.records.fetch([cell if isinstance(cell, str) else "" for cell in cells])
    clips = {job.sample: job.clips for job in plan.jobs}
    return tuple(
        _outcome(row, metric, clips[sample.id]) if isinstance(cell, str) else cell
        for sample, cell, row in zip(plan.samples, cells, rows, strict=True)
    )


def _outcome(row: Any, metric: Metric, clips: Mapping[str, Clip]) -> Outcome | None:
    if row is None:
        return None
    outcome = outcome_of(row)
    return outcome if isinstance(outcome, Record) else named(outcome, used(metric, clips))


def estimate(metric: Metric, outcomes: Sequence[Outcome | None], groups: Sequence[str]) -> Estimate:
    """Aggregate one metric over the samples of one row."""
    good = [(o.value, g) for o, g in zip(outcomes, groups, strict=True) if isinstance(o, Record)]
    result = stats.estimate(
        [value for value, _ in good],
        [group for _, group in good],
        aggregate=metric.aggregate,
        n_failed=sum(isinstance(outcome, Failure) for outcome in outcomes),
        n_unsupported=sum(isinstance(outcome, Unsupported) for outcome in outcomes),
    )
    if any(outcome is None for outcome in outcomes):
        result = replace(result, flags=(*result.flags, "not_run"))
    return result


def leaderboard(planner: Planner, found: Sequence[Line] | None = None) -> Leaderboard:
    """Return the board of a protocol from its store."""
    protocol, rows = planner.protocol, list(lines(planner) if found is None else found)
    ranks = _ranks(planner, rows)
    return Leaderboard(
        title=protocol.spec.title or protocol.spec.name,
        description=protocol.spec.description,
        protocol=protocol.spec.name,
        task=protocol.spec.task,
        columns=tuple(_columns(planner, rows)),
        rows=tuple(_row(planner, line, ranks.get(number, {})) for number, line in enumerate(rows)),
        published=_published(protocol),
        provenance=provenance(protocol),
        notes=tuple(_notes(planner)),
    )


def _published(protocol: Protocol) -> tuple[reproduce.Published, ...]:
    path = protocol.path.parent / "published.csv" if protocol.path else None
    return reproduce.read_published(path) if path and path.is_file() else ()


def lacking(planner: Planner, line: Line, metric: str) -> bool:
    """Return whether a row cannot be measured here and is not in the store either."""
    why = planner.unavailable.get(metric)
    return why is not None and why in line.outcomes[metric]


def _columns(planner: Planner, rows: Sequence[Line]) -> Iterator[Column]:
    for metric in planner.protocol.metrics:
        gone = any(lacking(planner, line, metric.name) for line in rows)
        failure = planner.unavailable[metric.name] if gone else None
        yield Column(
            metric=metric.name,
            label=metric.label,
            unit=metric.unit,
            better=metric.better,
            decimals=metric.decimals,
            ideal=metric.ideal,
            encoder=metric.encoder,
            version=metric.version,
            recipe=recipe(metric),
            unavailable=f"{failure.code}: {failure.error}" if failure else "",
        )
    for name in planner.protocol.spec.planned:
        if name in METRICS:
            metric = METRICS.get(name)
            yield Column(name, metric.label, metric.unit, metric.better, planned=True)
        else:
            yield Column(name, name, "-", "higher", planned=True)


def recipe(metric: Metric) -> dict[str, Any]:
    """Return how the metric's numbers are made: views, packages, weights, aggregate."""
    rows = [weights.WEIGHTS.get(name) for name in metric.weights]
    return {
        "metric_version": metric.version,
        "aggregate": metric.aggregate.name,
        "views": {role: _chain(item) for role, item in metric.views.items()},
        "packages": versions(metric.packages),
        "weights": [
            {"name": row.name, "sha256": weights.known_digest(row.name), "licence": row.licence}
            for row in rows
        ],
    }


def _chain(view: Any) -> str:
    return " <- ".join(f"{link} v{link.version}" for link in view.chain())


@functools.cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        owners = importlib.metadata.packages_distributions().get(name, [])
        return importlib.metadata.version(owners[0]) if owners else "absent"


def versions(names: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each package."""
    return {name: _version(name) for name in sorted(set(names))}


def provenance(protocol: Protocol) -> dict[str, Any]:
    """Return what decides the board's numbers, besides the metrics' recipes: no dates, no times."""
    spec = protocol.spec
    return {
        "protocol": spec.name,
        "task": spec.task,
        "packages": versions(PACKAGES),
        "datasets": {item.name: item.revision for item in protocol.datasets},
        "seeds": list(spec.seeds),
        "window": spec.window if isinstance(spec.window, str) else list(spec.window or ()),
        "mixing": spec.mixing.model_dump() if "snr_db" in spec.conditions else {},
        "max_failed": spec.max_failed,
        "interval": "95 % percentile bootstrap over groups, 2000 draws, seed 0",
    }


def notes(protocol: Protocol) -> Iterator[str]:
    """Yield, for people, how much is measured: of each data set, and which systems are left out."""
    yield from filter(None, map(_told, protocol.datasets))
    yield from protocol.absences()


def _notes(planner: Planner) -> Iterator[str]:
    yield from notes(planner.protocol)
    for event in planner.store.set_aside:
        name = "/".join(event.path.rsplit("/", 2)[-2:])
        yield f"A part of the store was set aside: {name}: {event.reason}"


def _told(dataset: Dataset) -> str:
    """Return what the revision says of the data set besides its digest."""
    notes = notes_of(dataset.revision)
    said = [f"the first {note[1:]} samples" if note.startswith(":") else note for note in notes]
    return f"Data set {dataset.name}: {'; '.join(said)}" if said else ""


def _row(planner: Planner, line: Line, ranks: Mapping[str, tuple[int, int]]) -> Row:
    spec, plan = line.plan.spec, line.plan
    cells = {
        metric.name: _cell(metric, line, ranks.get(metric.name))
        for metric in planner.protocol.metrics
        if not lacking(planner, line, metric.name)
    }
    failures = tuple(
        (sample.id, made.code, made.error)
        for sample, made in zip(plan.samples, plan.made, strict=True)
        if isinstance(made, Failure)
    )
    return Row(
        system=spec.entry.name,
        dataset=spec.dataset.name,
        dataset_revision=spec.dataset.revision,
        condition=spec.condition,
        seed=spec.seed,
        kind=spec.entry.kind,
        n_total=len(plan.samples),
        cells=cells,
        marks=tuple(_marks(planner, line)),
        trained_on=spec.entry.trained_on,
        encoders=spec.entry.encoders,
        generation_failures=failures,
    )


def _marks(planner: Planner, line: Line) -> Iterator[str]:
    made = [item for item in line.plan.made if isinstance(item, Clip)]
    if any(Path(clip.path).suffix.lower() in LOSSY for clip in made):
        yield "lossy"
    if _most_failed(planner, line):
        yield "incomplete"
    if line.kind == "system" and not _ranked(planner, line):
        yield "not_ranked"


def _most_failed(planner: Planner, line: Line) -> int:
    """Return the failures of the worst column; those that nobody can have here do not count."""
    counts = (
        result.n_failed
        for name, result in line.estimates.items()
        if not lacking(planner, line, name)
    )
    return max(counts, default=0)


def _ranked(planner: Planner, line: Line) -> bool:
    few = _most_failed(planner, line) <= planner.protocol.spec.max_failed
    return line.kind == "system" and few


def _cell(metric: Metric, line: Line, ranks: tuple[int, int] | None) -> Cell:
    pairs = zip(line.plan.samples, line.outcomes[metric.name], strict=True)
    samples = tuple(
        _sample_value(sample.id, sample.group, outcome)
        for sample, outcome in pairs
        if outcome is not None
    )
    result = line.estimates[metric.name]
    marks = ("leakage",) if metric.encoder in line.plan.spec.entry.encoders else ()
    return Cell(result if samples else None, samples, ranks, marks)


def _sample_value(sample: str, group: str, outcome: Outcome) -> SampleValue:
    if isinstance(outcome, Failure):
        return SampleValue(sample, group, None, "failed", outcome.code, outcome.error)
    if isinstance(outcome, Unsupported):
        return SampleValue(sample, group, None, "unsupported", outcome.code, outcome.error)
    return SampleValue(sample, group, scalar(outcome.value), "ok", flags=outcome.flags)


def scalar(value: Value) -> float | None:
    """Return one number for a record, or None where only the aggregate has one."""
    if isinstance(value, tuple):
        return None
    if isinstance(value, Ratio):
        return value.numerator / value.denominator if value.denominator else None
    return float(value)


def values(line: Line, metric: str) -> dict[str, Value]:
    """Return the measured values of a row by sample."""
    pairs = zip(line.plan.samples, line.outcomes[metric], strict=True)
    return {sample.id: outcome.value for sample, outcome in pairs if isinstance(outcome, Record)}


def _ranks(planner: Planner, rows: Sequence[Line]) -> dict[int, dict[str, tuple[int, int]]]:
    """Return rank ranges by row number and metric: systems of one table, on the same samples."""
    tables: dict[tuple[Any, ...], list[int]] = {}
    for number, line in enumerate(rows):
        if _ranked(planner, line):
            spec = line.plan.spec
            table = (spec.dataset.name, spec.condition.axes, spec.seed)
            tables.setdefault(table, []).append(number)
    ranks: dict[int, dict[str, tuple[int, int]]] = {}
    for numbers in tables.values():
        for metric in planner.protocol.metrics:
            for number, found in _table_ranks(metric, rows, numbers).items():
                ranks.setdefault(number, {})[metric.name] = found
    return ranks


def _table_ranks(
    metric: Metric, rows: Sequence[Line], numbers: Sequence[int]
) -> dict[int, tuple[int, int]]:
    measured = {n: values(rows[n], metric.name) for n in numbers}
    measured = {n: found for n, found in measured.items() if found}
    same = len({tuple(found) for found in measured.values()}) == 1
    if len(measured) < 2 or not same or not metric.aggregate.linear:
        return {}
    first = next(iter(measured))
    groups = {sample.id: sample.group for sample in rows[first].plan.samples}
    ordered = [groups[sample] for sample in measured[first]]
    names = {str(n): list(found.values()) for n, found in measured.items()}
    found = stats.rank_ranges(
        list(names), stats.pairwise(names, ordered, aggregate=metric.aggregate), metric.better
    )
    return {int(name): span for name, span in found.items()}


SAMPLE_HEADS = (
    *("system", "dataset", "condition", "seed", "sample", "group", "metric"),
    *("value", "status", "code", "error", "flags", "info"),
)


def sample_table(rows: Sequence[Line]) -> Iterator[Sequence[Any]]:
    """Yield the heads, then one row per row of the board, sample and metric."""
    yield SAMPLE_HEADS
    for line in rows:
        spec = line.plan.spec
        place = (spec.entry.name, spec.dataset.name, str(spec.condition), spec.seed)
        for number, sample in enumerate(line.plan.samples):
            for metric, outcomes in line.outcomes.items():
                outcome = outcomes[number]
                if outcome is not None:
                    yield *place, sample.id, sample.group, metric, *_sample_cells(sample, outcome)


def _sample_cells(sample: Sample, outcome: Outcome) -> tuple[Any, ...]:
    found = _sample_value(sample.id, sample.group, outcome)
    info = json.dumps(dict(outcome.info)) if isinstance(outcome, Record) and outcome.info else ""
    value = "" if found.value is None else repr(found.value)
    return value, found.status, found.code, found.error, " ".join(found.flags), info


def parameters(line: Line) -> dict[str, Scalar]:
    """Return the system's parameters as flat text, for trackers."""
    return {name: str(value) for name, value in line.plan.spec.entry.params.items()}


def finite(value: float) -> float | None:
    """Return the value, or None for NaN and infinities."""
    return value if math.isfinite(value) else None
