"""Our numbers beside those that papers print.

A published number is never ranked and never a baseline. It stands beside ours with a verdict:
``reproduced``, ``differs``, ``not run``, or ``not comparable`` with the reason.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from phonoscope.errors import SpecError
from phonoscope.types import Condition, Estimate, Scalar

if TYPE_CHECKING:
    from phonoscope.leaderboard import Cell, Leaderboard, Row

Verdict = Literal["reproduced", "differs", "not run", "not comparable"]

COLUMNS = ("system", "metric", "value", "std", "n", "dataset", "condition", "source", "note")
REQUIRED = ("system", "metric", "value", "source")
# They speak of our interval, not of our value.
INTERVAL_FLAGS = frozenset({"few_groups", "one_group", "no_interval"})
FEWEST = 3


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
        Largest absolute difference that counts as reproduced.
    why : str
        The reason of ``not run`` and ``not comparable``.
    """

    published: Published
    row: Row | None
    ours: Estimate | None
    difference: float | None
    tolerance: float
    verdict: Verdict
    why: str = ""

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
    return tuple(item for _, item in found)


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
    )


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
        `board.tolerances` by default, and half a unit of the column's last printed digit where
        that says nothing.

    Returns
    -------
    tuple of Comparison
        One per published number, in order. ``reproduced`` means that the difference is within the
        tolerance, or that the published value lies inside our 95 % interval.
    """
    return tuple(
        _compare(board, item, _tolerance(board, item.metric, tolerance)) for item in published
    )


def _tolerance(board: Leaderboard, metric: str, given: float | Mapping[str, float] | None) -> float:
    if isinstance(given, float | int):
        return float(given)
    stated = board.tolerances if given is None else given
    decimals = next((c.decimals for c in board.columns if c.metric == metric), 2)
    return stated.get(metric, 0.5 * 10.0**-decimals)


def _compare(board: Leaderboard, item: Published, tolerance: float) -> Comparison:
    row = _row_of(board, item)
    cell = row.cells.get(item.metric) if row else None
    ours = cell.estimate if cell else None
    if row is None or cell is None or ours is None or not math.isfinite(ours.value):
        why = _why_not_run(board, item, row)
        return Comparison(item, row, None, None, tolerance, "not run", why)
    difference = ours.value - item.value
    reasons = "; ".join(_reasons(item, row, cell, ours))
    if reasons:
        return Comparison(item, row, ours, difference, tolerance, "not comparable", reasons)
    near = abs(difference) <= tolerance + 1e-9 or ours.low <= item.value <= ours.high
    return Comparison(item, row, ours, difference, tolerance, "reproduced" if near else "differs")


def _row_of(board: Leaderboard, item: Published) -> Row | None:
    condition = parse_condition(item.condition)
    name = item.system.strip().casefold()
    rows = [
        row
        for row in board.rows
        if row.system.strip().casefold() == name and same_condition(row.condition, condition)
    ]
    return next((row for row in rows if item.dataset in ("", row.dataset)), next(iter(rows), None))


def _why_not_run(board: Leaderboard, item: Published, row: Row | None) -> str:
    column = next((c for c in board.columns if c.metric == item.metric), None)
    if column is None:
        return f"the board has no {item.metric}"
    if column.unavailable or column.planned:
        return column.unavailable or "planned"
    if row is None:
        known = any(r.system.casefold() == item.system.strip().casefold() for r in board.rows)
        return "not under this condition" if known else "the board has no such system"
    return "no sample was measured"


def _reasons(item: Published, row: Row, cell: Cell, ours: Estimate) -> Iterator[str]:
    if item.n is not None and ours.n < item.n:
        yield f"subset (n={ours.n} of {item.n})"
    if item.n is not None and ours.n > item.n:
        yield f"other samples (n={ours.n}, published n={item.n})"
    if item.dataset and item.dataset != row.dataset:
        yield f"other data set ({row.dataset}, published on {item.dataset})"
    if "lossy" in row.marks:
        yield "our copy of the outputs is lossy"
    flags = [flag for flag in ours.flags if flag not in INTERVAL_FLAGS]
    if flags:
        yield f"flagged {', '.join(flags)}"


def ordering(board: Leaderboard, published: Sequence[Published], metric: str) -> Ordering | None:
    """Return how far our order of the systems agrees with the published one.

    Only rows of kind ``system`` count. Where several sources, data sets or conditions are
    published, the one that shares most systems with the board is taken; None where none shares any.
    """
    found = [item for item in orderings(board, published) if item.metric == metric]
    return max(found, key=lambda item: len(item.systems), default=None)


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
