"""Comparing: two runs or systems sample by sample, and a store held against a gate's baseline."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import phonoscope
from phonoscope import assemble, gate, runner, stats
from phonoscope.assemble import Line
from phonoscope.errors import GateError, UserError
from phonoscope.gate import RowData, Verdict
from phonoscope.measure import Planner
from phonoscope.plugins import METRICS, Metric
from phonoscope.stats import Paired
from phonoscope.types import Ratio, Value

DASH = "\N{EN DASH}"
HEADS = ("row", "metric", "A", "B", "A - B", "low", "high", "p (Holm)", "n", "")


@dataclass(frozen=True)
class Difference:
    """One metric of one pair of rows."""

    row: str
    metric: str
    a: float
    b: float
    paired: Paired
    p_adjusted: float
    remark: str

    def cells(self) -> list[str]:
        """Return the row of a table with the heads `HEADS`."""
        digits = METRICS.get(self.metric).decimals + 1
        numbers = (self.a, self.b, self.paired.difference, self.paired.low, self.paired.high)
        shown = [DASH if x != x else f"{x:.{digits}f}" for x in numbers]
        p = DASH if self.p_adjusted != self.p_adjusted else f"{self.p_adjusted:.4f}"
        return [self.row, self.metric, *shown, p, str(self.paired.n), self.remark]


@dataclass(frozen=True)
class _Side:
    planner: Planner
    rows: Mapping[str, Line]


def compare(
    a: str, b: str, *, store: str | None = None, metrics: Sequence[str] = ()
) -> list[Difference]:
    """Compare A with B on the samples that both have.

    Parameters
    ----------
    a, b : str
        Two stores: rows of the same system, data set, condition and seed are compared. Or two
        systems of `store`: rows of the same data set, condition and seed are.
    metrics : sequence of str
        Only these; all that both sides have by default.

    Raises
    ------
    UserError
        If a name is neither a store nor a system, or nothing is in common.
    """
    # Not Path.is_file: a system's name may be too long for one.
    stores = [name for name in (a, b) if os.path.isfile(Path(name, "store.json"))]  # noqa: PTH113
    if len(stores) == 2:
        left, right = (_side(name) for name in stores)
    elif store is None:
        missing = next(name for name in (a, b) if name not in stores)
        raise UserError(f"{missing}: not a store; to compare two systems, name their --store")
    else:
        left, right = (_system_side(store, name) for name in (a, b))
    found = list(_differences(left, right, metrics))
    if not found:
        raise UserError(f"{a} and {b} have no measured row and metric in common")
    adjusted = stats.holm([item.paired.p for item in found])
    return [_with_p(item, p) for item, p in zip(found, adjusted, strict=True)]


def _with_p(item: Difference, p: float) -> Difference:
    return Difference(item.row, item.metric, item.a, item.b, item.paired, p, item.remark)


def _place(line: Line, *, with_system: bool) -> str:
    spec = line.plan.spec
    parts = [spec.entry.name] if with_system else []
    return " / ".join([*parts, spec.dataset.name, str(spec.condition), f"seed {spec.seed}"])


def _side(source: str) -> _Side:
    planner = runner.planner(*runner.reopen(source))
    rows = assemble.lines(planner)
    return _Side(planner, {_place(line, with_system=True): line for line in rows})


def _system_side(store: str, system: str) -> _Side:
    planner = runner.planner(*runner.reopen(store))
    rows = {
        _place(line, with_system=False): line
        for line in assemble.lines(planner)
        if line.plan.spec.entry.name == system
    }
    if not rows:
        names = ", ".join(entry.name for entry in planner.protocol.entries)
        raise UserError(f"{store} has no system {system!r}; it has {names}")
    return _Side(planner, rows)


def _differences(left: _Side, right: _Side, wanted: Sequence[str]) -> Iterator[Difference]:
    others = {metric.name: metric for metric in right.planner.protocol.metrics}
    for row in left.rows:
        for metric in left.planner.protocol.metrics:
            chosen = metric.name in others and (not wanted or metric.name in wanted)
            if row in right.rows and chosen:
                yield from _difference(row, metric, left.rows[row], right.rows[row])


def _difference(row: str, metric: Metric, a: Line, b: Line) -> Iterator[Difference]:
    ours, theirs = assemble.values(a, metric.name), assemble.values(b, metric.name)
    shared = [name for name in ours if name in theirs]
    if not shared:
        return
    groups = {sample.id: sample.group for sample in a.plan.samples}
    paired = stats.paired(
        [ours[name] for name in shared],
        [theirs[name] for name in shared],
        [groups[name] for name in shared],
        aggregate=metric.aggregate,
    )
    left_out = len(set(ours) ^ set(theirs))
    remark = f"{left_out} samples only on one side" if left_out else ""
    values = a.estimates[metric.name].value, b.estimates[metric.name].value
    yield Difference(row, metric.name, *values, paired, float("nan"), remark)


def to_json(rows: Sequence[Difference]) -> str:
    """Return the differences as JSON; null where there is no number."""
    return json.dumps([_plain(item) for item in rows], indent=2, ensure_ascii=False)


def _plain(item: Difference) -> dict[str, Any]:
    return {
        "row": item.row,
        "metric": item.metric,
        "a": assemble.finite(item.a),
        "b": assemble.finite(item.b),
        "difference": assemble.finite(item.paired.difference),
        "low": assemble.finite(item.paired.low),
        "high": assemble.finite(item.paired.high),
        "p_holm": assemble.finite(item.p_adjusted),
        "n": item.paired.n,
        "remark": item.remark,
    }


def gate_rows(planner: Planner) -> list[RowData]:
    """Return every row and metric of a run as the gate compares them; controls are left out."""
    return [
        _gate_row(metric, line)
        for line in assemble.lines(planner)
        for metric in planner.protocol.metrics
        if line.kind != "control" and not assemble.lacking(planner, line, metric.name)
    ]


def _gate_row(metric: Metric, line: Line) -> RowData:
    spec = line.plan.spec
    measured = assemble.values(line, metric.name)
    groups = {s.id: s.group for s in line.plan.samples if s.id in measured}
    return RowData(
        system=spec.entry.name,
        dataset=spec.dataset.name,
        dataset_revision=spec.dataset.revision,
        condition=dict(spec.condition.axes),
        seed=spec.seed,
        metric=metric.name,
        metric_identity=metric.identity,
        better=metric.better,
        estimate=line.estimates[metric.name],
        groups=groups,
        values=_numbers(measured) if metric.aggregate.linear else {},
        aggregate=metric.aggregate.name,
        recipe={"version": metric.version, **_hashes(metric)},
    )


def _hashes(metric: Metric) -> dict[str, str]:
    return {row["name"]: row["sha256"] for row in assemble.recipe(metric)["weights"]}


def _numbers(measured: Mapping[str, Value]) -> dict[str, float | Ratio]:
    return {
        name: value if isinstance(value, Ratio) else float(value)
        for name, value in measured.items()
        if not isinstance(value, tuple)
    }


def write_baseline(source: str | None, path: Path) -> int:
    """Write a baseline from a run's store; return the number of rows."""
    if source is None:
        raise GateError("name the store that the baseline is made of, such as runs/quickstart")
    planner = runner.planner(*runner.reopen(source))
    rows = gate_rows(planner)
    created = {
        "protocol": planner.protocol.spec.name,
        "phonoscope": phonoscope.__version__,
        "git_commit": runner.git_commit(),
    }
    gate.write_baseline(path, rows, created=created)
    return len(rows)


def judge(source: str | None, path: Path, *, margins: Sequence[str] = ()) -> list[Verdict]:
    """Hold a run's store against a baseline, by the given margins, then the protocol's rules."""
    baseline = gate.read_baseline(path)
    name = source or runner.STORE.format(name=baseline.created.get("protocol", ""))
    planner = runner.planner(*runner.reopen(name))
    where = f"{planner.protocol.path}: gate"
    rules = gate.rules_from(list(planner.protocol.spec.gate), where)
    return gate.judge(gate_rows(planner), baseline, gate.rules_of(margins, rules))
