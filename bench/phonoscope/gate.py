"""The gate: whether a run is worse than a baseline by more than a stated margin.

A baseline is a JSON file in the user's repository; it moves by a commit only. It holds the value of
every sample, so that this run is compared with it pair by pair.

Definitions
-----------
The *drop* of a row is how much worse it has become, in the metric's unit: baseline minus now where
higher is better, now minus baseline where lower is better. Its interval is the two-sided 95 %
interval of `phonoscope.stats.paired`: each of the two decisions below is meant to err in 2.5 % of
runs at most, and errs more often with few groups, which the reason then says. With the margin m:

============== ===== ==============================================================================
verdict        exit  when
============== ===== ==============================================================================
PASS           0     the whole interval lies at or below m: not worse by more than m
WORSE          1     the whole interval lies above m
UNMEASURED     2     the two cannot be compared; never a pass (see `judge`)
INCONCLUSIVE   3     the interval lies on both sides of m: more clips or a wider margin would tell
============== ===== ==============================================================================

A run that equals the baseline clip by clip has the interval [0, 0] and passes with a margin of 0; a
run that differs a little in both directions does not, so give every metric that wobbles a margin.
A corpus aggregate (a Fréchet distance) has no interval: its drop alone is held against m, PASS or
WORSE. Ends within 1e-9 (relative) of m count as at m.

Of several verdicts WORSE wins over UNMEASURED, that over INCONCLUSIVE, and that over PASS: a known
loss is the first thing to repair.
"""

from __future__ import annotations

import enum
import json
import math
import os
import re
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from phonoscope.errors import GateError
from phonoscope.stats import FEW_GROUPS, LINEAR, Paired, paired
from phonoscope.types import Better, Estimate, Ratio, Scalar

SCHEMA = 1


class Grade(enum.IntEnum):
    """A verdict's outcome; the value is the exit code."""

    PASS = 0
    WORSE = 1
    UNMEASURED = 2
    INCONCLUSIVE = 3


SEVERITY = (Grade.WORSE, Grade.UNMEASURED, Grade.INCONCLUSIVE, Grade.PASS)


@dataclass(frozen=True)
class RowData:
    """One row and metric of a run: what the gate compares.

    Attributes
    ----------
    system, dataset, dataset_revision, condition, seed, metric
        Whose row it is. `system` must tell apart two sets of parameters of one system.
    metric_identity : str
        `Metric.identity`: digest of version, views, parameters and weights.
    better : {"higher", "lower"}
        The metric's direction.
    estimate : Estimate
        The row's number; `n` counts the samples of `groups`.
    groups : mapping of sample id to group
        The samples that were measured, and no others.
    values : mapping of sample id to float or Ratio
        Their values; empty for a corpus aggregate.
    aggregate : str
        Name of the metric's `Aggregate`.
    recipe : mapping
        What is behind `metric_identity` in words (version, weights), to name what changed.

    Raises
    ------
    ValueError
        If samples, groups and `estimate.n` do not agree.
    """

    system: str
    dataset: str
    dataset_revision: str
    condition: Mapping[str, Scalar]
    seed: int
    metric: str
    metric_identity: str
    better: Better
    estimate: Estimate
    groups: Mapping[str, str]
    values: Mapping[str, float | Ratio] = field(default_factory=dict)
    aggregate: str = "mean"
    recipe: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.estimate.n != len(self.groups):
            raise ValueError(f"{self}: n is {self.estimate.n}, but {len(self.groups)} have a group")
        if self.linear and self.values.keys() != self.groups.keys():
            odd = sorted(self.values.keys() ^ self.groups.keys())
            raise ValueError(f"{self}: {_some(odd)} has a value or a group, but not both")

    @property
    def linear(self) -> bool:
        """Whether the aggregate has an interval."""
        return self.aggregate in LINEAR

    @property
    def key(self) -> tuple[Any, ...]:
        """What finds the same row in another run."""
        axes = tuple(sorted(self.condition.items(), key=lambda item: item[0]))
        return self.system, self.dataset, axes, self.seed, self.metric

    def __str__(self) -> str:
        return f"{self.metric} of {self.system} on {self.where}"

    @property
    def where(self) -> str:
        """Data set, condition and seed, in words."""
        axes = [f"{axis}={value}" for axis, value in sorted(self.condition.items())]
        return ", ".join([self.dataset, *axes, f"seed {self.seed}"])


@dataclass(frozen=True)
class Baseline:
    """Rows of an earlier run.

    Attributes
    ----------
    rows : tuple of RowData
        In a fixed order.
    created : mapping of str to str
        What made it, such as version and commit.
    """

    rows: tuple[RowData, ...]
    created: Mapping[str, str] = field(default_factory=dict)


class Rule(BaseModel):
    """How much a metric may lose. Patterns are as in `fnmatch`; a name itself always matches.

    Attributes
    ----------
    metric, system, dataset : str
        Patterns of the rows that the rule is for; all by default.
    condition : mapping of axis to value or pattern
        Axes not named here may have any value.
    margin : float
        The drop that is allowed, in the metric's unit; 0 by default.
    relative : float, optional
        Instead of `margin`: as a fraction of the baseline's value.
    max_failed : int, optional
        Failed samples that are allowed; as many as the baseline had by default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = "*"
    margin: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    relative: Annotated[FiniteFloat, Field(ge=0)] | None = None
    system: str = "*"
    dataset: str = "*"
    condition: dict[str, Scalar] = Field(default_factory=dict)
    max_failed: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_margin(self) -> Rule:
        if self.margin and self.relative is not None:
            raise ValueError("give margin or relative, not both")
        return self

    def matches(self, row: RowData) -> bool:
        """Whether the rule is for `row`."""
        return (
            _like(row.metric, self.metric)
            and _like(row.system, self.system)
            and _like(row.dataset, self.dataset)
            and all(
                axis in row.condition and _like(row.condition[axis], pattern)
                for axis, pattern in self.condition.items()
            )
        )

    def allowed(self, value: float) -> float:
        """Return the drop that is allowed from a baseline of `value`."""
        return self.margin if self.relative is None else self.relative * abs(value)

    def __str__(self) -> str:
        parts = {"metric": self.metric, "system": self.system, "dataset": self.dataset}
        stated = {**{k: v for k, v in parts.items() if v != "*"}, **self.condition}
        return ", ".join(f"{name}={value}" for name, value in stated.items()) or "every row"


def _like(value: Scalar, pattern: Scalar) -> bool:
    return value == pattern or fnmatchcase(str(value), str(pattern))


@dataclass(frozen=True)
class Verdict:
    """What a rule says of one row of the baseline.

    Attributes
    ----------
    rule : Rule
        The first rule that is for the row.
    row : RowData or None
        The baseline's row; None where the rule is for none.
    outcome : Grade
        PASS, WORSE, UNMEASURED or INCONCLUSIVE.
    reason : str
        In words.
    difference, low, high : float
        Now minus baseline, in the metric's unit, with its 95 % interval; NaN where undefined.
    n : int
        Samples compared.
    margin : float
        The drop that was allowed.
    now : float
        This run's value.
    """

    rule: Rule
    row: RowData | None
    outcome: Grade
    reason: str
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    margin: float = math.nan
    now: float = math.nan


# --- judging ----------------------------------------------------------------------------------


def judge(
    current: Iterable[RowData], baseline: Baseline, rules: Sequence[Rule] = ()
) -> list[Verdict]:
    """Hold a run against a baseline.

    Each row of the baseline is judged once, by the first rule that is for it; rows that no rule is
    for are left alone, as are rows that only this run has. Without rules every row has a margin
    of 0.

    A row is UNMEASURED where this run has no such row, or where data set revision, metric identity
    (version, recipe, weights), direction, aggregate or the groups are others, where its value or a
    sample's is NaN, where a clip of the baseline was not measured, where more samples failed than
    allowed, and, for a corpus aggregate, where clips were added. Otherwise added clips are left
    out. A rule that is for no row of the baseline is UNMEASURED too: it may be a typing error.

    Raises
    ------
    GateError
        If this run has two rows of the same name.
    """
    rules = tuple(rules) or (Rule(),)
    known = _by_key(current, "this run")
    verdicts, used = [], set()
    for row in baseline.rows:
        hits = [number for number, rule in enumerate(rules) if rule.matches(row)]
        used.update(hits)
        if hits:
            verdicts.append(_judge_row(rules[hits[0]], row, known.get(row.key)))
    for number, rule in enumerate(rules):
        if number not in used:
            reason = f"the baseline has no row for the rule ({rule}); correct it or the baseline"
            verdicts.append(Verdict(rule, None, Grade.UNMEASURED, reason))
    return verdicts


def _by_key(rows: Iterable[RowData], where: str) -> dict[tuple[Any, ...], RowData]:
    known: dict[tuple[Any, ...], RowData] = {}
    for row in rows:
        if row.key in known:
            raise GateError(f"{where} has two rows of {row}; give the two systems different names")
        known[row.key] = row
    return known


def _judge_row(rule: Rule, base: RowData, now: RowData | None) -> Verdict:
    margin = rule.allowed(base.estimate.value)
    causes = list(_causes(rule, base, now))
    if causes or now is None:
        value = now.estimate.value if now else math.nan
        reason = "; ".join(causes)
        return Verdict(rule, base, Grade.UNMEASURED, reason, margin=margin, now=value)
    found = _compare(base, now)
    scale = max(abs(base.estimate.value), abs(now.estimate.value), margin)
    outcome, reason = _decide(found, base, margin=margin, tolerance=1e-9 * scale)
    reason = "; ".join([reason, *_remarks(base, now)])
    interval = found.difference, found.low, found.high
    return Verdict(
        rule, base, outcome, reason, *interval, found.n, margin=margin, now=now.estimate.value
    )


def _causes(rule: Rule, base: RowData, now: RowData | None) -> Iterator[str]:
    """Yield why the two rows cannot be compared."""
    if now is None:
        yield "this run has no such row; was the metric unavailable, or the system left out?"
        return
    yield from _changed(base, now)
    if not math.isfinite(now.estimate.value):
        yield f"this run's value is {now.estimate.value}"
    odd = [sample for sample, value in now.values.items() if not _finite(value)]
    if odd:
        yield f"the value of {_some(odd)} is not finite"
    missing = sorted(base.groups.keys() - now.groups.keys())
    if missing:
        yield f"{len(missing)} clips of the baseline were not measured: {_some(missing)}"
    allowed = base.estimate.n_failed if rule.max_failed is None else rule.max_failed
    if now.estimate.n_failed > allowed:
        yield f"{now.estimate.n_failed} samples failed, {allowed} are allowed"


def _changed(base: RowData, now: RowData) -> Iterator[str]:
    """Yield what makes the numbers numbers of two different things."""
    for name in ("dataset_revision", "metric_identity", "better", "aggregate"):
        before, after = getattr(base, name), getattr(now, name)
        if before != after:
            recipe = _recipe_change(base, now) if name == "metric_identity" else ""
            yield f"another {name.replace('_', ' ')}: {before} before, {after} now{recipe}"
    moved = [s for s, group in base.groups.items() if now.groups.get(s, group) != group]
    if moved:
        yield f"another group of {_some(sorted(moved))}"
    added = sorted(now.groups.keys() - base.groups.keys())
    if added and not base.linear:
        yield f"{len(added)} clips that the baseline lacks: {_some(added)}"


def _recipe_change(base: RowData, now: RowData) -> str:
    names = sorted(base.recipe.keys() | now.recipe.keys())
    pairs = [(name, base.recipe.get(name), now.recipe.get(name)) for name in names]
    changed = [f"{name} {old} -> {new}" for name, old, new in pairs if old != new]
    return f" ({', '.join(changed)})" if changed else ""


def _finite(value: float | Ratio) -> bool:
    parts = (value.numerator, value.denominator) if isinstance(value, Ratio) else (value,)
    return all(math.isfinite(part) for part in parts)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _compare(base: RowData, now: RowData) -> Paired:
    if not base.linear:
        difference = now.estimate.value - base.estimate.value
        return Paired(difference, math.nan, math.nan, math.nan, base.estimate.n)
    samples = sorted(base.groups)
    return paired(
        [now.values[sample] for sample in samples],
        [base.values[sample] for sample in samples],
        [base.groups[sample] for sample in samples],
        aggregate=LINEAR[base.aggregate],
    )


def _decide(found: Paired, base: RowData, *, margin: float, tolerance: float) -> tuple[Grade, str]:
    """Hold the drop's interval against the margin."""
    ends = (found.low, found.high) if base.linear else (found.difference, found.difference)
    low, high = ends if base.better == "lower" else (-ends[1], -ends[0])
    if math.isnan(found.difference):
        return Grade.UNMEASURED, "the clips in common have no number: their denominators add to 0"
    if math.isnan(low):
        return Grade.INCONCLUSIVE, "all clips are of one group, so there is no interval"
    least, most = f"{low:.4g}", f"{high:.4g}"
    drop = f"drop {least}" if least == most else f"drop in [{least}, {most}]"
    if low == high == 0:
        return Grade.PASS, "no difference"
    if high <= margin + tolerance:
        return Grade.PASS, f"{drop}, {margin:.4g} allowed"
    if low > margin + tolerance:
        return Grade.WORSE, f"{drop}, {margin:.4g} allowed"
    return Grade.INCONCLUSIVE, f"{drop}, on both sides of the {margin:.4g} allowed"


def _remarks(base: RowData, now: RowData) -> Iterator[str]:
    extra, groups = len(now.groups) - len(base.groups), len(set(base.groups.values()))
    if extra:
        yield f"{extra} clips that the baseline lacks are left out"
    if base.linear and 1 < groups < FEW_GROUPS:
        yield f"only {groups} groups, so the interval is narrower than it should be"


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Return 0 to 3 for the gravest verdict; nothing judged at all is UNMEASURED."""
    return int(_gravest(verdicts))


def _gravest(verdicts: Iterable[Verdict]) -> Grade:
    grades = {verdict.outcome for verdict in verdicts} or {Grade.UNMEASURED}
    return next(grade for grade in SEVERITY if grade in grades)


# --- rules ------------------------------------------------------------------------------------


def rules_from(items: Any, where: str) -> list[Rule]:
    """Check rules given as plain data: a list of mappings with the fields of `Rule`.

    Raises
    ------
    GateError
        Naming `where` and the key.
    """
    if not isinstance(items, list | tuple):
        raise GateError(f"{where}: rules are a list, such as [{{metric: pesq_wb, margin: 0.05}}]")
    found = []
    for number, item in enumerate(items):
        try:
            found.append(Rule.model_validate(item))
        except ValidationError as error:
            raise GateError(f"{where}: {_first(error, f'rules[{number}]')}") from error
    return found


def read_rules(path: Path) -> list[Rule]:
    """Read rules from a YAML or JSON file: a list, or a mapping with the one key ``rules``.

    Raises
    ------
    GateError
        Naming the file and the key.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GateError(f"{path}: the rules cannot be read: {error}") from error
    if isinstance(data, dict) and list(data) == ["rules"]:
        data = data["rules"]
    return rules_from(data, str(path))


def rules_of(margins: Iterable[str], rest: Sequence[Rule] = ()) -> list[Rule]:
    """Return the rules of command-line options such as ``pesq_wb=0.05`` or ``wer*=2%``.

    They go before `rest` (a file's, a protocol's); without `rest`, every other row has a margin
    of 0.

    Raises
    ------
    GateError
        If an option is not ``METRIC=NUMBER`` or ``METRIC=NUMBER%``.
    """
    return [*(_rule_of(text) for text in margins), *(rest or [Rule()])]


def _rule_of(text: str) -> Rule:
    metric, equals, number = text.rpartition("=")
    percent = number.endswith("%")
    try:
        value = float(number.removesuffix("%"))
        if not (metric and equals and math.isfinite(value) and value >= 0):
            raise ValueError(number)
    except ValueError as error:
        raise GateError(
            f"--margin {text!r}: say METRIC=NUMBER (0 or more, in the metric's unit) or "
            "METRIC=NUMBER%, such as pesq_wb=0.05"
        ) from error
    if percent:
        return Rule(metric=metric, relative=value / 100)
    return Rule(metric=metric, margin=value)


# --- the file ---------------------------------------------------------------------------------


class _FileModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _FileEstimate(_FileModel):
    """An `Estimate` without its `n`; null is "none defined"."""

    value: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    std: FiniteFloat | None
    n_failed: Annotated[int, Field(ge=0)]
    n_unsupported: Annotated[int, Field(ge=0)]
    flags: list[str]


class _FileRow(_FileModel):
    system: str
    dataset: str
    dataset_revision: str
    condition: dict[str, str | bool | int | FiniteFloat | None]
    seed: int
    metric: str
    metric_identity: str
    recipe: dict[str, str | bool | int | FiniteFloat | None]
    better: Literal["higher", "lower"]
    aggregate: str
    estimate: _FileEstimate
    groups: dict[str, str]
    values: dict[str, FiniteFloat | Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]]


class _FileBaseline(_FileModel):
    schema_version: int
    created: dict[str, str]
    rows: list[_FileRow]


def write_baseline(
    path: Path, rows: Iterable[RowData], *, created: Mapping[str, str] | None = None
) -> None:
    """Write a baseline: rows in any order give the same bytes, and floats come back exactly.

    Parameters
    ----------
    path : Path
        JSON, to be committed; it is replaced in one step.
    rows : iterable of RowData
        All with a number: what was not measured can be no baseline.
    created : mapping of str to str, optional
        What made it, such as version and commit.

    Raises
    ------
    GateError
        Naming the row that has no finite value, or the file that cannot be written.
    """
    known = _by_key(rows, "this run")
    ordered = sorted(known.values(), key=_order)
    data = {
        "schema_version": SCHEMA,
        "created": dict(created or {}),
        "rows": [_plain(row) for row in ordered],
    }
    text = json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, text.encode())
    except OSError as error:
        raise GateError(f"{path}: the baseline cannot be written: {error}") from error


def _order(row: RowData) -> tuple[str, ...]:
    return row.dataset, row.metric, row.system, json.dumps(row.key, sort_keys=True)


def _plain(row: RowData) -> dict[str, Any]:
    bad = [sample for sample, value in row.values.items() if not _finite(value)]
    if bad or not math.isfinite(row.estimate.value):
        raise GateError(
            f"{row} has no finite value{' for ' + _some(bad) if bad else ''}, so it can be no "
            "baseline; repair the run, or leave the row out"
        )
    numbers = {name: _or_none(value) for name, value in asdict(row.estimate).items()}
    del numbers["n"]
    shown = {name: getattr(row, name) for name in _FileRow.model_fields}
    values = {sample: _number(value) for sample, value in row.values.items()}
    changed = {
        "estimate": {**numbers, "flags": list(row.estimate.flags)},
        "values": values,
        "groups": dict(row.groups),
        "condition": dict(row.condition),
        "recipe": dict(row.recipe),
    }
    return {**shown, **changed}


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | Ratio) -> float | list[float]:
    if isinstance(value, Ratio):
        return [float(value.numerator), float(value.denominator)]
    return float(value)


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_baseline(path: Path) -> Baseline:
    """Read and check a baseline.

    Raises
    ------
    GateError
        Naming the file and the key: no such file, no JSON, a NaN, an unknown or missing key, a key
        or a row that is there twice, values that do not make the row's number, another schema.
    """
    try:
        data = json.loads(
            path.read_bytes().decode("utf-8"),
            parse_constant=_no_constant,
            object_pairs_hook=_unique,
        )
    except FileNotFoundError as error:
        raise GateError(f"{path}: there is no baseline yet; write one from a good run") from error
    except (OSError, ValueError, RecursionError) as error:
        raise GateError(f"{path}: the baseline cannot be read: {error}") from error
    _check_schema(data, path)
    try:
        found = _FileBaseline.model_validate(data)
    except ValidationError as error:
        raise GateError(f"{path}: {_first(error)}") from error
    rows = tuple(_row(item, f"{path}: rows[{number}]") for number, item in enumerate(found.rows))
    _by_key(rows, str(path))
    return Baseline(rows, found.created)


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"the key {repeated[0]!r} is there twice in one object")
    return dict(pairs)


def _check_schema(data: Any, path: Path) -> None:
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA:
        raise GateError(
            f"{path}: schema_version is {version!r}, and this phonoscope reads {SCHEMA}; write the "
            "baseline again, or use the phonoscope that wrote it"
        )


def _row(item: _FileRow, where: str) -> RowData:
    numbers = item.estimate.model_dump()
    numbers.update({k: math.nan for k in ("low", "high", "std") if numbers[k] is None})
    numbers["flags"] = tuple(numbers["flags"])
    fields = {name: getattr(item, name) for name in _FileRow.model_fields}
    values = {k: Ratio(*v) if isinstance(v, list) else v for k, v in item.values.items()}
    fields.update(values=values, estimate=Estimate(n=len(item.groups), **numbers))
    try:
        row = RowData(**fields)
        again = LINEAR[row.aggregate].reduce(list(values.values()))[0] if row.linear else None
    except ValueError as error:
        raise GateError(f"{where}.values: {error}") from error
    if again is not None and not math.isclose(again, row.estimate.value, rel_tol=1e-9):
        raise GateError(
            f"{where}.estimate.value is {row.estimate.value}, but its values make {again}; was the "
            "file edited by hand? Write it again from a run"
        )
    return row


def _first(error: ValidationError, root: str = "") -> str:
    """Return the first thing that is wrong as ``key: what``."""
    found = error.errors(include_url=False)[0]
    key = root
    for part in found["loc"]:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    return f"{key}: {found['msg']} (found {str(found['input'])[:60]!r})"


# --- reports ----------------------------------------------------------------------------------


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """Return a summary: a headline, then the verdicts, the gravest first. Text is escaped."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    parts = [f"{counts[grade]} {grade.name}" for grade in SEVERITY if counts[grade]]
    head = "Result", "Metric", "System", "Where", "n", "Baseline", "Now", "Difference", "Why"
    lines = [
        f"### Gate: {_gravest(verdicts).name}",
        "",
        f"{', '.join(parts) or 'nothing was judged'}. Difference is now minus baseline, with its "
        "95 % interval.",
        "",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
    ]
    ordered = sorted(verdicts, key=lambda verdict: SEVERITY.index(verdict.outcome))
    lines += [f"| {' | '.join(_cells(verdict))} |" for verdict in ordered]
    return "\n".join(lines) + "\n"


def _cells(verdict: Verdict) -> list[str]:
    row = verdict.row
    interval = "" if math.isnan(verdict.low) else f" [{verdict.low:+.4g}, {verdict.high:+.4g}]"
    difference = "" if math.isnan(verdict.difference) else f"{verdict.difference:+.4g}{interval}"
    name = f"**{verdict.outcome.name}**" if verdict.outcome else verdict.outcome.name
    text = [
        row.metric if row else verdict.rule.metric,
        row.system if row else verdict.rule.system,
        row.where if row else "-",
        str(verdict.n),
        f"{row.estimate.value:.4g}" if row else "",
        "" if math.isnan(verdict.now) else f"{verdict.now:.4g}",
        difference,
        verdict.reason,
    ]
    return [name, *(_escape(cell) for cell in text)]


def _escape(text: str) -> str:
    """Replace what Markdown or HTML would read as markup by entities, and line breaks by spaces.

    A single underscore inside a word is no markup and stays, so that `pesq_wb` can be read.
    """
    flat = " ".join(_printable(text).split())
    flat = re.sub(r"[&<>|`*\\~$@#]|\](?=[(\[])", lambda found: f"&#{ord(found[0])};", flat)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", "&#95;", flat)


def _printable(text: str) -> str:
    """Replace what XML 1.0 cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def to_junit(verdicts: Sequence[Verdict]) -> str:
    """Return JUnit XML: a test case per verdict.

    WORSE and INCONCLUSIVE are failures, UNMEASURED is an error; `type` says which.
    """
    counts = Counter(verdict.outcome for verdict in verdicts)
    suite = ET.Element(
        "testsuite",
        name="phonoscope gate",
        tests=str(len(verdicts)),
        failures=str(counts[Grade.WORSE] + counts[Grade.INCONCLUSIVE]),
        errors=str(counts[Grade.UNMEASURED]),
        skipped="0",
        time="0",
    )
    for verdict in verdicts:
        suite.append(_case(verdict))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    body = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _case(verdict: Verdict) -> ET.Element:
    row = verdict.row
    name = f"{row.metric} on {row.where}" if row else f"rule {verdict.rule}"
    owner = row.system if row else "rules"
    case = ET.Element("testcase", name=_printable(name), classname=_printable(owner), time="0")
    if verdict.outcome:
        tag = "error" if verdict.outcome is Grade.UNMEASURED else "failure"
        reason = _printable(verdict.reason)
        child = ET.SubElement(case, tag, type=verdict.outcome.name, message=reason)
        child.text = reason
    return case


def publish_summary(text: str) -> bool:
    """Append `text` to the job's page where GitHub Actions runs this; say whether it did.

    Raises
    ------
    GateError
        If the file that ``GITHUB_STEP_SUMMARY`` names cannot be written.
    """
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return False
    try:
        with Path(name).open("a", encoding="utf-8", errors="replace") as file:
            file.write(text.rstrip("\n") + "\n\n")
    except OSError as error:
        raise GateError(f"GITHUB_STEP_SUMMARY={name}: cannot be written: {error}") from error
    return True
