"""Our numbers beside those that papers print.

A published number is never ranked and never a baseline. It stands beside ours with a verdict and
the reason for it.

Definitions
-----------
With d = ours - published; r = half a unit of the last digit that the source prints; [low, high] our
95 % interval, and se = (high - low) / (2 * 1.96) its standard error; std and n as published:

============== =====================================================================================
verdict        the first of these that holds
============== =====================================================================================
unavailable    the metric cannot run on this machine
not run        the board has no such metric, system or condition, or no sample was measured
not comparable not the same samples (another n, another data set or a part of it, samples of ours
               that failed), our copy of the outputs is lossy, or our value is flagged
reproduced     equal as printed: abs(d) <= r, or at most the tolerance where one is stated
reproduced     inside our interval: low - r <= published <= high + r
reproduced     within the combined uncertainty: abs(d) <= r + 1.96 sqrt(se^2 + std^2 / n)
differs        none of these
============== =====================================================================================

The last two allow for chance in what a system generates: another seed or another training gives
other outputs for the same samples, and the combined uncertainty is that of two independent draws.
Its published part knows no speakers and is the smaller for it. Where the very same outputs are
measured, chance has no part, and only ``equal as printed`` says that the metric is the same. Each
cell is decided alone: of a hundred faithful cells about five may differ by chance, and with few
groups (``few_groups``, see `phonoscope.stats`) more. A wide interval reproduces easily, so it
stands beside every verdict.

Of several seeds the first is compared.

References
----------
Cumming and Finch, Inference by eye: confidence intervals and how to read pictures of data, American
Psychologist 60, 2005 (two independent means).
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from phonoscope.errors import SpecError
from phonoscope.types import Condition, Estimate, Scalar, gaps_of

if TYPE_CHECKING:
    from phonoscope.leaderboard import Cell, Leaderboard, Row

Verdict = Literal["reproduced", "differs", "not comparable", "not run", "unavailable"]
VERDICTS: tuple[Verdict, ...] = (
    *("reproduced", "differs", "not comparable", "not run", "unavailable"),
)
SCHEMA = "phonoscope.reproduction/1"
REPRODUCED, DIFFERS, NOTHING = 0, 1, 3

COLUMNS = ("system", "metric", "value", "std", "n", "dataset", "condition", "source", "note")
REQUIRED = ("system", "metric", "value", "source")
# They speak of our interval, not of our value.
INTERVAL_FLAGS = frozenset({"few_groups", "one_group", "no_interval"})
FEWEST = 3
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Published:
    """One number of a paper.

    Attributes
    ----------
    std : float or None
        As printed; None where the paper gives none.
    n : int or None
        Samples behind it; None where the paper does not say.
    condition : str
        As `str(Condition)` prints it, such as ``snr_db=-10``; empty for no condition.
    source : str
        Where the number stands; printed as plain text.
    dataset : str
        Empty where any data set of the board may stand beside it.
    decimals : int or None
        Digits after the point that the source prints; None where that is not known.
    """

    system: str
    metric: str
    value: float
    std: float | None = None
    n: int | None = None
    condition: str = ""
    source: str = ""
    dataset: str = ""
    note: str = ""
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One published number beside ours.

    Attributes
    ----------
    row : Row or None
        The row of the board that was held against it.
    difference : float or None
        Ours minus published.
    tolerance : float
        Largest absolute difference that counts as reproduced whatever the intervals say.
    why : str
        The reason of the verdict, in words.
    combined : float
        Half the width of the 95 % interval of the difference of two independent draws; NaN where
        ours or the published std or n is not known.
    """

    published: Published
    row: Row | None
    ours: Estimate | None
    difference: float | None
    tolerance: float
    verdict: Verdict
    why: str = ""
    combined: float = math.nan

    @property
    def text(self) -> str:
        """Verdict and reason, as printed."""
        return f"{self.verdict}: {self.why}" if self.why else self.verdict


@dataclass(frozen=True, slots=True)
class Ordering:
    """Spearman's rank correlation between our column and a paper's, over systems.

    Attributes
    ----------
    rho : float
        In [-1, 1]; NaN for fewer than three systems, or where all values of a side are equal.
    systems : tuple of str
        Those present in both, in board order.
    """

    metric: str
    dataset: str
    condition: Condition
    source: str
    rho: float
    systems: tuple[str, ...]


def read_published(path: Path | str) -> tuple[Published, ...]:
    """Read a `published.csv`.

    Parameters
    ----------
    path : path
        CSV in UTF-8 with a header. Columns: `system`, `metric`, `value`, `source` (required),
        `std`, `n`, `dataset`, `condition` (such as ``snr_db=-10, noise=babble``), `note`.

    Returns
    -------
    tuple of Published
        In order. All numbers of one metric and source have as many `decimals` as the longest of
        them, because spreadsheets drop a zero at the end.

    Raises
    ------
    SpecError
        Naming file, line and column.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({error})") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _check_header(path, reader.fieldnames or ())
        found = [(reader.line_num, _published(_Line(path, reader.line_num, row))) for row in reader]
    except csv.Error as error:
        raise SpecError(
            f"{path}, line {reader.reader.line_num}: not valid CSV ({error})"
        ) from error
    _check_unique(path, found)
    return _as_printed([item for _, item in found])


def _as_printed(found: Sequence[Published]) -> tuple[Published, ...]:
    finest: Counter[tuple[str, str]] = Counter()
    for item in found:
        key = item.metric, item.source
        finest[key] = max(finest[key], item.decimals or 0)
    return tuple(replace(item, decimals=finest[item.metric, item.source]) for item in found)


def _check_header(path: Path, names: Sequence[str]) -> None:
    where = f"{path}, line 1"
    for name in names:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"columns are {', '.join(COLUMNS)}"
            raise SpecError(f"{where}: unknown column {name!r}; {hint}")
    if len(set(names)) < len(names):
        raise SpecError(f"{where}: a column stands there twice")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise SpecError(f"{where}: column {missing[0]!r} is missing; it is required")


def _check_unique(path: Path, found: Sequence[tuple[int, Published]]) -> None:
    seen: dict[tuple[object, ...], int] = {}
    for line, item in found:
        key = item.system, item.metric, item.dataset, parse_condition(item.condition), item.source
        if key in seen:
            raise SpecError(
                f"{path}, line {line}: {item.system!r} has {item.metric!r} of the same source "
                f"in line {seen[key]} already; remove one"
            )
        seen[key] = line


@dataclass(frozen=True)
class _Line:
    """One row of the file, with errors that say where they are."""

    path: Path
    number: int
    cells: Mapping[str | None, str | None]

    def wrong(self, column: str, reason: str) -> SpecError:
        return SpecError(f"{self.path}, line {self.number}, column {column!r}: {reason}")

    def text(self, column: str) -> str:
        value = (self.cells.get(column) or "").strip()
        if not value and column in REQUIRED:
            raise self.wrong(column, "is empty; it is required")
        return value

    def number_in(self, column: str) -> float | None:
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.wrong(column, f"{text!r} is no finite number")
        return value


def _published(line: _Line) -> Published:
    if None in line.cells:
        raise SpecError(
            f"{line.path}, line {line.number}: more cells than columns; "
            "quote a text that holds a comma"
        )
    value, std, n = (line.number_in(name) for name in ("value", "std", "n"))
    if std is not None and std < 0:
        raise line.wrong("std", "is negative")
    if n is not None and (n < 1 or n != int(n)):
        raise line.wrong("n", f"{line.text('n')!r} is no count of samples")
    condition = line.text("condition")
    try:
        parse_condition(condition)
    except ValueError as error:
        raise line.wrong("condition", str(error)) from None
    return Published(
        system=line.text("system"),
        metric=line.text("metric"),
        value=math.nan if value is None else value,
        std=std,
        n=None if n is None else int(n),
        condition=condition,
        source=line.text("source"),
        dataset=line.text("dataset"),
        note=line.text("note"),
        decimals=_decimals(line.text("value")),
    )


def _decimals(text: str) -> int:
    exponent = Decimal(text).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def parse_condition(text: str) -> Condition:
    """Return the condition that ``snr_db=-10, noise=babble`` writes; empty or ``-`` is none.

    Raises
    ------
    ValueError
        If a part is not ``axis=value``, or an axis stands there twice.
    """
    axes: dict[str, Scalar] = {}
    for part in text.split(",") if text.strip() not in ("", "-") else []:
        axis, equals, value = (item.strip() for item in part.partition("="))
        if not (axis and equals and value) or axis in axes:
            raise ValueError(f"{text!r} is no condition; write axis=value, such as snr_db=-10")
        axes[axis] = _scalar(value)
    return Condition(tuple(sorted(axes.items())))


def _scalar(text: str) -> Scalar:
    words: dict[str, Scalar] = {"True": True, "true": True, "False": False, "false": False}
    if text in words:
        return words[text]
    try:
        return float(text)
    except ValueError:
        return text


def same_condition(left: Condition, right: Condition) -> bool:
    """Whether two conditions name the same point (-10 is -10.0, the order of axes is free)."""
    return dict(left.axes) == dict(right.axes)


def compare(
    board: Leaderboard,
    published: Sequence[Published],
    *,
    tolerance: float | Mapping[str, float] | None = None,
) -> tuple[Comparison, ...]:
    """Hold each published number against the row of the board that it belongs to.

    Parameters
    ----------
    tolerance : float, or mapping of metric name to float, optional
        Largest absolute difference that counts as reproduced, in the metric's unit.
        `board.tolerances` by default, and half a unit of the last printed digit where that says
        nothing.

    Returns
    -------
    tuple of Comparison
        One per published number, in order.
    """
    return tuple(_compare(board, item, tolerance) for item in published)


def tolerances(texts: Sequence[str]) -> dict[str, float]:
    """Read ``estoi=0.01`` and its like.

    Raises
    ------
    SpecError
        On a text without a metric's name or a finite number that is not negative.
    """
    found = {}
    for text in texts:
        name, _, number = (part.strip() for part in text.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value) or value < 0:
            raise SpecError(f"--tolerance {text}: write metric=number, such as estoi=0.01")
        found[name] = value
    return found


def require_columns(tolerances: Mapping[str, float], metrics: Sequence[str]) -> None:
    """Refuse a tolerance of a metric that the board does not have.

    Raises
    ------
    SpecError
        Naming the metrics.
    """
    for name in tolerances:
        if name not in metrics:
            near = difflib.get_close_matches(name, metrics, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            told = f"{hint}metrics are {', '.join(metrics)}"
            raise SpecError(f"--tolerance {name}: the board has no such metric; {told}")


def rounding(board: Leaderboard, item: Published) -> float:
    """Return half a unit of the last digit that is printed: by the source, or by our column."""
    found = next((c.decimals for c in board.columns if c.metric == item.metric), 2)
    return 0.5 * 10.0 ** -(found if item.decimals is None else item.decimals)


def _tolerance(
    board: Leaderboard, item: Published, given: float | Mapping[str, float] | None
) -> float:
    if isinstance(given, float | int):
        return float(given)
    stated = board.tolerances if given is None else given
    return stated.get(item.metric, rounding(board, item))


def _compare(
    board: Leaderboard, item: Published, given: float | Mapping[str, float] | None
) -> Comparison:
    tolerance = _tolerance(board, item, given)
    row = _row_of(board, item)
    cell = row.cells.get(item.metric) if row else None
    ours = cell.estimate if cell else None
    if row is None or cell is None or ours is None or not math.isfinite(ours.value):
        return Comparison(item, row, None, None, tolerance, *_absent(board, item, row))
    difference, combined = ours.value - item.value, _combined(item, ours)
    verdict, why = _decided(item, ours, tolerance, rounding(board, item), combined)
    reasons = "; ".join(_reasons(item, row, cell, ours))
    if reasons:
        verdict, why = "not comparable", reasons
    return Comparison(item, row, ours, difference, tolerance, verdict, why, combined)


def _combined(item: Published, ours: Estimate) -> float:
    if item.std is None or item.n is None:
        return math.nan
    return Z95 * math.hypot((ours.high - ours.low) / (2 * Z95), item.std / math.sqrt(item.n))


def _decided(
    item: Published, ours: Estimate, tolerance: float, half: float, combined: float
) -> tuple[Verdict, str]:
    """Return the verdict on two numbers of the same samples, and why. Half is the rounding."""
    size, slack = abs(ours.value - item.value), 1e-9
    unsure = "" if item.n is not None else "; the source states no n"
    if size <= tolerance + slack:
        near = "equal as printed" if tolerance <= half else f"within the tolerance {tolerance:g}"
        return "reproduced", near + unsure
    if ours.low - half - slack <= item.value <= ours.high + half + slack:
        return "reproduced", "inside our 95 % interval" + unsure
    if size <= half + combined + slack:
        return "reproduced", "within the combined 95 % uncertainty" + unsure
    return "differs", _beyond(ours, size, combined) + unsure


def _beyond(ours: Estimate, size: float, combined: float) -> str:
    if math.isnan(ours.low):
        return "not equal as printed, and no interval is defined"
    few = "; of few groups, so the interval is too narrow" if "few_groups" in ours.flags else ""
    if math.isnan(combined) or not combined:
        return f"outside our 95 % interval{few}"
    return f"the difference is {size / combined:.1f} times the combined 95 % uncertainty{few}"


def _row_of(board: Leaderboard, item: Published) -> Row | None:
    condition = parse_condition(item.condition)
    name = item.system.strip().casefold()
    rows = [
        row
        for row in board.rows
        if row.system.strip().casefold() == name and same_condition(row.condition, condition)
    ]
    return next((row for row in rows if item.dataset in ("", row.dataset)), next(iter(rows), None))


def _absent(board: Leaderboard, item: Published, row: Row | None) -> tuple[Verdict, str]:
    """Return why there is no number of ours: as a verdict, and in words."""
    column = next((c for c in board.columns if c.metric == item.metric), None)
    if column is None:
        return "not run", f"the board has no {item.metric}"
    if column.unavailable:
        return "unavailable", column.unavailable.partition(":")[0]
    if column.planned:
        return "not run", "planned"
    if row is None:
        known = any(r.system.casefold() == item.system.strip().casefold() for r in board.rows)
        why = "not under this condition" if known else "the board has no such system"
        return "not run", why
    return "not run", _unmeasured(row, item.metric)


def _unmeasured(row: Row, metric: str) -> str:
    """Return why a row has no number, with the error that most of its samples share."""
    cell = row.cells.get(metric)
    told = Counter(f"{s.code}: {s.error}" for s in (cell.samples if cell else ()) if s.code)
    common = told.most_common(1)
    return "no sample was measured" + (f" ({common[0][0]})" if common else "")


def _reasons(item: Published, row: Row, cell: Cell, ours: Estimate) -> Iterator[str]:
    if item.n is not None and ours.n < item.n:
        yield f"subset (n={ours.n} of {item.n})"
    if item.n is not None and ours.n > item.n:
        yield f"other samples (n={ours.n}, published n={item.n})"
    if item.n is None or ours.n == item.n:
        yield from (f"part of the data ({gap})" for gap in gaps_of(row.dataset_revision))
    if item.dataset and item.dataset != row.dataset:
        yield f"other data set ({row.dataset}, published on {item.dataset})"
    if ours.n_failed:
        yield f"{ours.n_failed} of our samples failed"
    # What the data set itself holds is no copy, whatever its codec: its revision pins it.
    if "lossy" in row.marks and row.kind != "reference":
        yield "our copy of the outputs is lossy"
    flags = [flag for flag in ours.flags if flag not in INTERVAL_FLAGS]
    if flags:
        yield f"flagged {', '.join(flags)}"


def orderings(board: Leaderboard, published: Sequence[Published]) -> tuple[Ordering, ...]:
    """Return the `Ordering` of every metric, source, data set and condition, in published order."""
    groups: dict[tuple[str, str, Condition, str], list[Comparison]] = {}
    for item in compare(board, published):
        if item.ours is not None and item.row is not None and item.row.kind == "system":
            key = (
                item.published.metric,
                item.row.dataset,
                item.row.condition,
                item.published.source,
            )
            groups.setdefault(key, []).append(item)
    return tuple(_ordering(*key, pairs) for key, pairs in groups.items())


def _ordering(
    metric: str, dataset: str, condition: Condition, source: str, pairs: Sequence[Comparison]
) -> Ordering:
    from phonoscope.stats import spearman

    ours = [pair.ours.value for pair in pairs if pair.ours is not None]
    theirs = [pair.published.value for pair in pairs]
    flat = len(set(ours)) < 2 or len(set(theirs)) < 2
    rho = math.nan if flat or len(pairs) < FEWEST else float(spearman(ours, theirs))
    systems = tuple(pair.published.system for pair in pairs)
    return Ordering(metric, dataset, condition, source, rho, systems)


HEADS: tuple[str, ...] = (
    *("system", "metric", "condition", "source", "verdict"),
    *("ours", "95 % interval", "n", "published", "n", "difference"),
)


def table(board: Leaderboard, items: Sequence[Comparison]) -> list[list[str]]:
    """Return one line per published number, with the heads `HEADS`."""
    columns = {column.metric: column for column in board.columns}
    return [_line(item, columns.get(item.published.metric)) for item in items]


def _line(item: Comparison, column: Any) -> list[str]:
    from phonoscope.leaderboard import show_condition, show_interval, show_number, signed

    one, ours = item.published, item.ours
    decimals = column.decimals if column else 2
    mine = ["", "", ""]
    if ours is not None:
        std = f" ± {show_number(ours.std, decimals)}" if math.isfinite(ours.std) else ""
        mine = [show_number(ours.value, decimals) + std, show_interval(ours, decimals), str(ours.n)]
    printed = decimals if one.decimals is None else one.decimals
    std = "" if one.std is None else f" ± {show_number(one.std, printed)}"
    difference = "" if item.difference is None else signed(item.difference, max(decimals, printed))
    where = show_condition(parse_condition(one.condition))
    theirs = [show_number(one.value, printed) + std, str(one.n or "")]
    words = [one.system, one.metric, where, one.source, item.text]
    return [*words, *mine, *theirs, difference]


def narrowed(lines: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return heads and lines for a terminal: verdicts last, no column that says always the same."""
    fixed = {HEADS.index(name) for name in ("condition", "source")}
    kept = [i for i in range(len(HEADS)) if i not in fixed or len({line[i] for line in lines}) > 1]
    kept.sort(key=lambda i: HEADS[i] == "verdict")
    return tuple(HEADS[i] for i in kept), [[line[i] for i in kept] for line in lines]


def counts(items: Sequence[Comparison]) -> dict[Verdict, int]:
    """Return how many cells have each verdict, in the order of `VERDICTS`."""
    found = Counter(item.verdict for item in items)
    return {verdict: found[verdict] for verdict in VERDICTS}


def summary(items: Sequence[Comparison]) -> str:
    """Return the verdicts in one line."""
    if not items:
        return "the board has no published numbers: nothing to reproduce"
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts(items).items() if count)
    return f"{len(items)} published numbers: {told}"


def exit_code(items: Sequence[Comparison], *, strict: bool = False) -> int:
    """Return the exit code of ``phonoscope reproduce``.

    Returns
    -------
    int
        1 where a cell differs; else 3 where no cell could be compared, or, if `strict`, where any
        could not; else 0.
    """
    found = counts(items)
    if found["differs"]:
        return DIFFERS
    lacking = len(items) > found["reproduced"] if strict else not found["reproduced"]
    return NOTHING if lacking or not items else REPRODUCED


def to_record(item: Comparison) -> dict[str, Any]:
    """Return a comparison as flat data for JSON."""
    published = {name: getattr(item.published, name) for name in Published.__dataclass_fields__}
    return {
        **published,
        "ours": item.ours,
        "difference": item.difference,
        "tolerance": item.tolerance,
        "combined": item.combined,
        "verdict": item.verdict,
        "why": item.why,
    }


RULE = (
    "A cell is reproduced where the two are equal as printed, where the published value lies "
    "inside our 95 % interval (cluster bootstrap over speakers or source videos), or where the "
    "difference is within the combined 95 % uncertainty of two independent draws, our bootstrap "
    "and the published std / sqrt(n). Each cell is decided alone: of a hundred faithful cells "
    "about five may differ by chance. Numbers of other samples are never compared."
)


def to_markdown(board: Leaderboard, items: Sequence[Comparison]) -> str:
    """Return the verdicts as Markdown: the table, orders of systems, notes, the rule, recipes."""
    from phonoscope.leaderboard import comparison_table, md, order_lines, unavailable

    notes = (*order_lines(board), *board.notes, *unavailable(board))
    parts = [f"# {md(board.title)}: reproduction", md(summary(items))]
    parts += [comparison_table(board, items)] if items else []
    parts += ["\n".join(f"- {md(line)}" for line in notes), RULE]
    parts += ["## Recipes", "\n".join(f"- {md(line)}" for line in _recipes(board))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _recipes(board: Leaderboard) -> Iterator[str]:
    for column in (c for c in board.columns if c.recipe):
        views = "; ".join(
            f"{role}: {view}" for role, view in column.recipe.get("views", {}).items()
        )
        files = [f"{w['name']} {w['sha256'][:12]}" for w in column.recipe.get("weights", ())]
        told = [views, f"weights {', '.join(files)}" if files else ""]
        yield f"{column.metric} v{column.version}: {'; '.join(filter(None, told))}"
    packages = board.provenance.get("packages", {})
    yield ", ".join(f"{name} {version}" for name, version in packages.items())


def to_json(board: Leaderboard, items: Sequence[Comparison]) -> str:
    """Return the verdicts as JSON, with the recipe behind our numbers; NaN is null."""
    from phonoscope.leaderboard import dump

    head = {
        "schema": SCHEMA,
        "protocol": board.protocol,
        "title": board.title,
        "notes": board.notes,
        "unavailable": {c.metric: c.unavailable for c in board.columns if c.unavailable},
        "counts": counts(items),
        "exit_code": exit_code(items),
        "provenance": board.provenance,
        "recipes": {column.metric: column.recipe for column in board.columns if column.recipe},
    }
    cells = ",\n".join(dump(to_record(item)) for item in items)
    lines = [f"{dump(name)}: {dump(value)}" for name, value in head.items()]
    return "{\n" + ",\n".join([*lines, f'"cells": [\n{cells}\n]']) + "\n}\n"
