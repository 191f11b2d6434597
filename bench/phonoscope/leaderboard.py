"""The leaderboard: what a protocol measured, and how it is printed.

A `Leaderboard` is plain data. Rows and columns stand in protocol order, and the same board gives
the same bytes in every format, so that the files can be kept under version control.

Best and second are marked per data set, condition and seed, among ranked systems that were
measured on the same samples. Values that print alike share a mark. Rows of kind ``reference`` or
``control`` and published numbers are never ranked; nor is a cell whose metric looks through a
network that the system was trained or guided with (a dagger).
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from phonoscope.figures import number, printable
from phonoscope.reproduce import (
    FEWEST,
    HEADS,
    INTERVAL_FLAGS,
    Comparison,
    Published,
    compare,
    orderings,
    parse_condition,
    same_condition,
    summary,
    table,
    to_record,
)
from phonoscope.types import Better, Condition, Estimate, Scalar, Status

__all__ = [
    "Cell",
    "Column",
    "Leaderboard",
    "Published",
    "Row",
    "SampleValue",
    "render",
    "to_csv",
    "to_html",
    "to_json",
    "to_latex",
    "to_markdown",
]

SCHEMA = "phonoscope.leaderboard/1"
STEM = "leaderboard"
DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
FAILURES_LISTED = 100
AXES = {"snr_db": "SNR (dB)"}

Kind = Literal["system", "reference", "control"]


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of the board.

    Attributes
    ----------
    recipe : mapping
        How the number is made: `views` (role to description), `packages` (name to version),
        `weights` (a list of mappings with `name`, `sha256`, `licence`), `licence`.
    unavailable : str
        Why the whole column cannot run here; empty where it can.
    planned : bool
        A metric that the board will have once its plugin exists.
    """

    metric: str
    label: str
    unit: str
    better: Better
    decimals: int = 2
    ideal: float | None = None
    encoder: str | None = None
    version: str = "1"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    unavailable: str = ""
    planned: bool = False


@dataclass(frozen=True, slots=True)
class SampleValue:
    """One metric of one sample. `value` is None where there is no single number."""

    sample: str
    group: str
    value: float | None
    status: Status = "ok"
    code: str = ""
    error: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one row.

    Attributes
    ----------
    ranks : (int, int) or None
        Best and worst rank that the intervals allow; None where the cell is not ranked.
    marks : tuple of str
        Such as ``leakage``.
    """

    estimate: Estimate | None
    samples: tuple[SampleValue, ...] = ()
    ranks: tuple[int, int] | None = None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One system under one condition of one data set with one seed.

    Attributes
    ----------
    n_total : int
        Samples that the protocol asked for.
    cells : mapping of metric name to Cell
        A metric that is missing here was not measured.
    marks : tuple of str
        ``lossy``, ``incomplete``, ``not_ranked``, ...
    encoders : tuple of str
        Networks that the system was trained or guided with.
    generation_failures : tuple of (sample, code, error)
        Samples without a clip.
    """

    system: str
    dataset: str
    dataset_revision: str
    condition: Condition
    seed: int
    kind: Kind
    n_total: int
    cells: Mapping[str, Cell]
    marks: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    generation_failures: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """A protocol's result.

    Attributes
    ----------
    provenance : mapping
        Versions, commit, engine and whatever else explains the numbers; may be nested. No dates and
        no wall times: the same store must give the same bytes.
    tolerances : mapping of metric name to float
        Largest difference to a published number that counts as reproduced; half a unit of the last
        printed digit where it is not stated.
    """

    title: str
    description: str
    protocol: str
    task: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    published: tuple[Published, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tolerances: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """The numbers of one system in one source, by metric."""

    system: str
    source: str
    n: int | None
    cells: Mapping[str, Comparison]


@dataclass(frozen=True, slots=True)
class Block:
    """What stands side by side: one data set under one condition."""

    dataset: str
    condition: Condition
    rows: tuple[Row, ...]
    published: tuple[PublishedRow, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One data set."""

    dataset: str
    revision: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A cell as every format prints it.

    Attributes
    ----------
    value, std : str
        With a true minus sign; `value` is a dash where nothing was measured, `std` empty where none
        is defined.
    place : int
        1 for best, 2 for second, else 0.
    rank, interval : str
        Empty where there is none.
    reason : str
        Why there is no number.
    warning : str
        Failures and flags.
    note : str
        What differs from the rest of the row: another n, unsupported samples, the warning.
    """

    value: str
    std: str = ""
    place: int = 0
    leaked: bool = False
    rank: str = ""
    interval: str = ""
    reason: str = ""
    warning: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One sample that failed, or that metrics do not support, with all metrics that it concerns."""

    row: Row
    sample: str
    status: Status
    code: str
    error: str
    metrics: tuple[str, ...]


def axis_name(axis: str) -> str:
    """Return the printed name of a condition's axis."""
    return AXES.get(axis, axis.replace("_", " "))


def show_scalar(value: Scalar) -> str:
    """Return a condition's value as printed."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return str(value)
    text = f"{value:g}"
    return MINUS + text[1:] if text.startswith("-") else text


def show_condition(condition: Condition) -> str:
    """Return a condition for people, such as ``SNR 5 dB, noise babble``."""
    return ", ".join(
        f"SNR {show_scalar(value)} dB"
        if axis == "snr_db"
        else f"{axis_name(axis)} {show_scalar(value)}"
        for axis, value in condition.axes
    )


def arrow(column: Column) -> str:
    """Return the arrow that points to better."""
    return "\N{UPWARDS ARROW}" if column.better == "higher" else "\N{DOWNWARDS ARROW}"


def axes_of(board: Leaderboard) -> tuple[str, ...]:
    """Return the axes of all conditions, in order of appearance."""
    named = [parse_condition(item.condition) for item in board.published]
    conditions = [row.condition for row in board.rows] + named
    return tuple(dict.fromkeys(axis for condition in conditions for axis, _ in condition.axes))


def seeds_of(board: Leaderboard) -> tuple[int, ...]:
    """Return the seeds, in order of appearance."""
    return tuple(dict.fromkeys(row.seed for row in board.rows))


def sources_of(board: Leaderboard) -> dict[str, int]:
    """Return the number that stands for each source of published values."""
    named = dict.fromkeys(item.source for item in board.published)
    return {source: i for i, source in enumerate(named, start=1)}


def sections(board: Leaderboard) -> tuple[Section, ...]:
    """Return the board's rows by data set and condition, with the published rows beside them.

    A published number whose data set or condition was not run stands in a block without rows.
    """
    blocks: dict[tuple[str, Condition], list[Row]] = {}
    for row in board.rows:
        blocks.setdefault((row.dataset, row.condition), []).append(row)
    beside: dict[tuple[str, Condition], list[Comparison]] = {key: [] for key in blocks}
    for item in compare(board, board.published):
        beside.setdefault(_place_of(item, list(blocks)), []).append(item)
    made = [
        Block(*key, tuple(blocks.get(key, ())), _published_rows(items))
        for key, items in beside.items()
    ]
    revisions = {row.dataset: row.dataset_revision for row in reversed(board.rows)}
    return tuple(
        Section(name, revisions.get(name, ""), tuple(b for b in made if b.dataset == name))
        for name in dict.fromkeys(block.dataset for block in made)
    )


def _place_of(item: Comparison, keys: Sequence[tuple[str, Condition]]) -> tuple[str, Condition]:
    if item.row is not None:
        return item.row.dataset, item.row.condition
    condition, name = parse_condition(item.published.condition), item.published.dataset
    alike = [key for key in keys if same_condition(key[1], condition)]
    exact = [key for key in alike if name in ("", key[0])]
    return next(iter(exact or alike), (name or (keys[0][0] if keys else ""), condition))


def _published_rows(items: Iterable[Comparison]) -> tuple[PublishedRow, ...]:
    rows: dict[tuple[str, str, int | None], dict[str, Comparison]] = {}
    for item in items:
        one = item.published
        rows.setdefault((one.system, one.source, one.n), {})[one.metric] = item
    return tuple(PublishedRow(*key, cells) for key, cells in rows.items())


def leaked(row: Row, column: Column) -> bool:
    """Whether the system was trained or guided with the network behind the metric."""
    cell = row.cells.get(column.metric)
    marked = cell is not None and "leakage" in cell.marks
    return marked or (column.encoder is not None and column.encoder in row.encoders)


def places(rows: Sequence[Row], column: Column) -> dict[int, int]:
    """Return which rows are best (1) and second (2), by their position in `rows`.

    Fewer than two comparable cells give no mark.
    """
    found: dict[int, int] = {}
    for seed in dict.fromkeys(row.seed for row in rows):
        values = _comparable([(i, row) for i, row in enumerate(rows) if row.seed == seed], column)
        if len(values) > 1:
            order = sorted(set(values.values()), reverse=column.better == "higher")
            found |= {i: order.index(v) + 1 for i, v in values.items() if order.index(v) < 2}
    return found


def _comparable(rows: Iterable[tuple[int, Row]], column: Column) -> dict[int, float]:
    values, samples = {}, {}
    for i, row in rows:
        cell = row.cells.get(column.metric)
        ranked = row.kind == "system" and "not_ranked" not in row.marks
        if cell and cell.estimate and ranked and not leaked(row, column):
            values[i] = round(cell.estimate.value, column.decimals)
            samples[i] = cell.estimate.n, {s.sample for s in cell.samples if s.status == "ok"}
    finite = [i for i, value in values.items() if math.isfinite(value)]
    widest = max((samples[i] for i in finite), key=lambda item: item[0], default=None)
    return {i: values[i] for i in finite if samples[i] == widest}


def show(row: Row, column: Column, place: int = 0) -> Shown:
    """Return the row's cell of `column` as printed."""
    cell = row.cells.get(column.metric)
    estimate = cell.estimate if cell else None
    if cell is None or estimate is None or math.isnan(estimate.value):
        return Shown(DASH, reason=reason_of(row, column))
    warning = _warning(cell, estimate)
    return Shown(
        value=show_number(estimate.value, column.decimals),
        std=show_number(estimate.std, column.decimals) if math.isfinite(estimate.std) else "",
        place=place,
        leaked=leaked(row, column),
        rank=show_range(cell.ranks),
        interval=show_interval(estimate, column.decimals),
        warning=warning,
        note=_note(row, estimate, warning),
    )


def show_number(value: float, decimals: int) -> str:
    """Return a number as printed; a dash for NaN."""
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return ("" if value > 0 else MINUS) + "\N{INFINITY}"
    return number(value, decimals)


def show_range(ranks: tuple[int, int] | None) -> str:
    """Return a rank range, such as 1 to 2."""
    if ranks is None:
        return ""
    low, high = ranks
    return f"{low}" if low == high else f"{low}{DASH}{high}"


def show_interval(estimate: Estimate, decimals: int) -> str:
    """Return the 95 % interval as printed; empty where there is none."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    low, high = (show_number(edge, decimals) for edge in (estimate.low, estimate.high))
    return f"{low} to {high}"


def _warning(cell: Cell, estimate: Estimate) -> str:
    parts = [f"{estimate.n_failed} failed"] if estimate.n_failed else []
    flags = [flag for flag in estimate.flags if flag not in INTERVAL_FLAGS]
    parts += [text.replace("_", " ") for text in (*flags, *cell.marks) if text != "leakage"]
    return ", ".join(parts)


def _note(row: Row, estimate: Estimate, warning: str) -> str:
    odd = estimate.n != row.n_total or estimate.n_failed or estimate.n_unsupported
    parts = [f"n={estimate.n}"] if odd else []
    parts += [f"{estimate.n_unsupported} unsupported"] if estimate.n_unsupported else []
    return ", ".join([*parts, *([warning] if warning else [])])


def reason_of(row: Row, column: Column) -> str:
    """Return why the row has no number of `column`."""
    cell = row.cells.get(column.metric)
    estimate = cell.estimate if cell else None
    if estimate is None:
        return column.unavailable or ("planned" if column.planned else "not measured")
    counts = [(estimate.n_failed, "failed"), (estimate.n_unsupported, "not supported")]
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    return f"no sample was measured ({told})" if told else "no sample was measured"


def failed_samples(row: Row) -> int:
    """Return how many samples of the row have no clip, or no record of some metric."""
    named = {sample for sample, _, _ in row.generation_failures}
    counts = [0]
    for cell in row.cells.values():
        named |= {s.sample for s in cell.samples if s.status == "failed"}
        counts.append(cell.estimate.n_failed if cell.estimate else 0)
    return max(len(named), *counts)


def troubles(board: Leaderboard) -> tuple[Trouble, ...]:
    """Return all samples that failed or are not supported, in board order.

    Metrics with the same error on the same sample share a line; what failed when it was generated
    stands once, for all metrics (`metrics` is empty).
    """
    return tuple(trouble for row in board.rows for trouble in _row_troubles(row))


def _row_troubles(row: Row) -> Iterator[Trouble]:
    generated = {sample for sample, _, _ in row.generation_failures}
    for sample, code, error in row.generation_failures:
        yield Trouble(row, sample, "failed", code, error, ())
    found: dict[tuple[str, Status, str, str], list[str]] = {}
    for name, cell in row.cells.items():
        for item in cell.samples:
            if item.status != "ok" and item.sample not in generated:
                key = item.sample, item.status, item.code, item.error
                found.setdefault(key, []).append(name)
    for (sample, status, code, error), names in found.items():
        yield Trouble(row, sample, status, code, error, tuple(names))


def legend(board: Leaderboard) -> tuple[str, ...]:
    """Return how the table is to be read, followed by the board's own notes."""
    lines = [
        "Values are mean ± standard deviation over samples (ddof 0). Arrows point to better.",
        "Best is bold and second underlined, per condition, among ranked systems on the same "
        "samples; references, controls and published numbers are not ranked.",
    ]
    if any(cell.ranks for row in board.rows for cell in row.cells.values()):
        lines.append("The range of ranks is what the 95 % intervals leave open.")
    if any(leaked(row, column) for row in board.rows for column in board.columns):
        lines.append("† The system was trained or guided with the metric's network: not ranked.")
    if any("not_ranked" in row.marks for row in board.rows):
        lines.append("Rows with more failures than the protocol allows are shown, not ranked.")
    return (*lines, *board.notes)


def render(
    board: Leaderboard,
    folder: Path,
    *,
    formats: Sequence[str] = ("html", "md", "tex", "csv", "json"),
) -> list[Path]:
    """Write the board as ``leaderboard.<format>`` into `folder`, which is made if need be.

    Returns
    -------
    list of Path
        In the order of `formats`.

    Raises
    ------
    ValueError
        For a format that does not exist.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"no format {unknown[0]!r}; formats are {', '.join(FORMATS)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in formats:
        path = folder / f"{STEM}.{name}"
        path.write_text(FORMATS[name](board), encoding="utf-8", newline="\n")
        paths.append(path)
    return paths


def to_html(board: Leaderboard) -> str:
    """Return one self-contained page: nothing is loaded from anywhere."""
    # jinja2 is needed for this format alone.
    from phonoscope.page import page

    return page(board)


def to_markdown(board: Leaderboard) -> str:
    """Return the board as Markdown for GitHub."""
    parts = [f"# {md(board.title)}", md(board.description)]
    found = sections(board)
    for section in found:
        parts.append(f"## {md(section.dataset)}" if len(found) > 1 else "")
        parts.append(_md_section(board, section))
    parts.append("\n".join(f"- {md(line)}" for line in (*legend(board), *missing(board))))
    parts += [_md_published(board), _md_troubles(board)]
    return "\n\n".join(part for part in parts if part) + "\n"


def unavailable(board: Leaderboard) -> tuple[str, ...]:
    """Return why columns cannot be filled on this machine, once per reason."""
    reasons: dict[str, list[str]] = {}
    for column in board.columns:
        if column.unavailable:
            reasons.setdefault(column.unavailable, []).append(column.metric)
    return tuple(f"Unavailable here: {', '.join(n)}: {why}" for why, n in reasons.items())


def missing(board: Leaderboard) -> tuple[str, ...]:
    """Return why dashes stand in the table, once per column or cell."""
    lines = [f"{column.label}: planned" for column in board.columns if column.planned]
    for row in board.rows:
        where = ", ".join(filter(None, (row.system, show_condition(row.condition))))
        for column in board.columns:
            if not (column.unavailable or column.planned) and show(row, column).reason:
                lines.append(f"{column.label}, {where}: {reason_of(row, column)}")
    return (*(f"{DASH} {line}" for line in dict.fromkeys(lines)), *unavailable(board))


def md(text: object) -> str:
    """Escape text for a line or cell of Markdown."""
    line = " ".join(printable(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", line)


def md_table(head: Sequence[str], lines: Iterable[Sequence[str]], *, left: int) -> str:
    """Return a table in Markdown of escaped cells; the first `left` columns are texts."""
    rule = [":--" if i < left else "--:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def _heading(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit not in ("", "-") else ""
    return f"{column.label}{unit} {arrow(column)}"


def _md_section(board: Leaderboard, section: Section) -> str:
    axes, several = axes_of(board), len(seeds_of(board)) > 1
    head = [*(md(axis_name(axis)) for axis in axes), "System", *(["seed"] if several else [])]
    head += ["n", "failed", *(md(_heading(column)) for column in board.columns)]
    lines = []
    for block in section.blocks:
        point = [md(show_scalar(block.condition.get(axis, DASH))) for axis in axes]
        placed = [places(block.rows, column) for column in board.columns]
        for i, row in enumerate(block.rows):
            seed = [str(row.seed)] if several else []
            cells = [_md_cell(show(row, c, p.get(i, 0))) for c, p in _zip(board.columns, placed)]
            lines.append(
                [*point, _md_name(row), *seed, str(row.n_total), str(failed_samples(row)), *cells]
            )
        for paper in block.published:
            seed, n = [""] if several else [], str(paper.n or "")
            cells = [_md_paper(paper.cells.get(c.metric), c) for c in board.columns]
            lines.append([*point, f"*{md(paper.system)}* (published)", *seed, n, "", *cells])
    return md_table(head, lines, left=len(axes) + 1)


def _zip(
    columns: Sequence[Column], placed: Sequence[Mapping[int, int]]
) -> Iterator[tuple[Column, Mapping[int, int]]]:
    return zip(columns, placed, strict=True)


def marks_of(row: Row) -> tuple[str, ...]:
    """Return what is said of a row beside its name: its kind, then its marks."""
    kind = () if row.kind == "system" else (row.kind,)
    return tuple(text.replace("_", " ") for text in (*kind, *row.marks))


def _md_name(row: Row) -> str:
    marks = marks_of(row)
    return f"{md(row.system)} ({md(', '.join(marks))})" if marks else md(row.system)


def _md_cell(shown: Shown) -> str:
    wrap = {1: "**{}**", 2: "<ins>{}</ins>"}.get(shown.place, "{}")
    text = wrap.format(shown.value) + ("†" if shown.leaked else "")
    text += f" ± {shown.std}" if shown.std else ""
    text += f" <sub>{shown.rank}</sub>" if shown.rank else ""
    return text + (f" ({md(shown.note)})" if shown.note else "")


def paper_number(item: Comparison, column: Column) -> tuple[str, str]:
    """Return a published value and std as printed."""
    one = item.published
    decimals = column.decimals if one.decimals is None else one.decimals
    std = "" if one.std is None else show_number(one.std, decimals)
    return show_number(one.value, decimals), std


def _md_paper(item: Comparison | None, column: Column) -> str:
    if item is None:
        return ""
    value, std = paper_number(item, column)
    return f"*{value}*" + (f" ± {std}" if std else "")


def signed(value: float, decimals: int) -> str:
    """Return a difference with its sign."""
    text = show_number(value, decimals)
    return text if value < 0 or not text.strip("0.") else f"+{text}"


def _md_published(board: Leaderboard) -> str:
    items = compare(board, board.published)
    if not items:
        return ""
    parts = ["## Beside published numbers", summary(items), comparison_table(board, items)]
    return "\n\n".join([*parts, "\n".join(f"- {md(line)}" for line in order_lines(board))]).rstrip()


def comparison_table(board: Leaderboard, items: Sequence[Comparison]) -> str:
    """Return published numbers beside ours, with verdicts, as a table in Markdown."""
    lines = [[md(text) for text in line] for line in table(board, items)]
    return md_table(HEADS, lines, left=5)


def order_lines(board: Leaderboard) -> tuple[str, ...]:
    """Return one line per metric with three or more systems in both: how far the orders agree."""
    labels = {column.metric: column.label for column in board.columns}
    lines = []
    for item in orderings(board, board.published):
        if len(item.systems) < FEWEST:
            continue
        where = ", ".join(filter(None, (item.dataset, show_condition(item.condition))))
        count = f"{len(item.systems)} systems"
        rho = (
            f"\N{GREEK SMALL LETTER RHO} = {number(item.rho, 2)}"
            if math.isfinite(item.rho)
            else "not defined"
        )
        name = labels.get(item.metric, item.metric)
        lines.append(f"{name} ({where}) against {item.source}: Spearman {rho} over {count}")
    return tuple(lines)


def _md_troubles(board: Leaderboard) -> str:
    found = troubles(board)
    if not found:
        return ""
    head = ["System", "Condition", "Sample", "Metric", "Status", "Error"]
    lines = []
    for item in found[:FAILURES_LISTED]:
        where, names = show_condition(item.row.condition), ", ".join(item.metrics) or "all"
        error = f"{item.code}: {item.error}"
        texts = (item.row.system, where, item.sample, names, item.status, error)
        lines.append([md(text) for text in texts])
    rest = len(found) - FAILURES_LISTED
    more = [f"{rest} more are in the JSON file."] if rest > 0 else []
    table = md_table(head, lines, left=len(head))
    return "\n\n".join(["## Failures and unsupported samples", table, *more])


_TEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "-": "-{}",
    '"': "{''}",
    "†": r"\textdagger{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "\N{GREEK SMALL LETTER RHO}": r"$\rho$",
    "∞": r"$\infty$",
    MINUS: "$-$",
    DASH: "--",
} | {char: f"\\{char}" for char in "&%$#_{}"}


def _tex(text: object) -> str:
    """Escape text for LaTeX."""
    line = " ".join(printable(text).split())
    return "".join(_TEX.get(char, char) for char in line)


def to_latex(board: Leaderboard) -> str:
    """Return one booktabs table per data set.

    Needs ``booktabs`` only. Names outside the Latin script need XeLaTeX or LuaLaTeX.
    """
    head = "% \\usepackage{booktabs}; names outside the Latin script need XeLaTeX or LuaLaTeX.\n"
    return head + "\n".join(_tex_section(board, section) for section in sections(board))


def _tex_section(board: Leaderboard, section: Section) -> str:
    several = len(seeds_of(board)) > 1
    names = ["System", *(["Seed"] if several else []), "$n$", "failed"]
    width = len(names) + len(board.columns)
    lines = [_tex_line([*names, *(_tex(_heading(column)) for column in board.columns)])]
    for block in section.blocks:
        lines.append(r"\midrule")
        if block.condition.axes:
            title = rf"\textit{{{_tex(show_condition(block.condition))}}}"
            lines.append(rf"\multicolumn{{{width}}}{{@{{}}l}}{{{title}}} \\")
        lines += _tex_block(board, block, several=several)
    caption = _tex(f"{board.title} ({section.dataset}). {' '.join(legend(board))}")
    numbered = sources_of(board) if any(block.published for block in section.blocks) else {}
    label = re.sub(r"[^a-z0-9]+", "-", f"{board.protocol}-{section.dataset}".lower())
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{@{{}}l{'r' * (width - 1)}@{{}}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par{{\footnotesize [{i}] {_tex(text)}}}" for text, i in numbered.items()),
            r"\end{table}",
            "",
        ]
    )


def _tex_line(cells: Sequence[str]) -> str:
    # A row that starts with [ or * would be read as an argument of the \\ before it.
    return " & ".join(["{" + cells[0] + "}", *cells[1:]]) + r" \\"


def _tex_block(board: Leaderboard, block: Block, *, several: bool) -> Iterator[str]:
    placed = [places(block.rows, column) for column in board.columns]
    numbers = sources_of(board)
    for i, row in enumerate(block.rows):
        marks = ", ".join(marks_of(row))
        name = _tex(f"{row.system} ({marks})" if marks else row.system)
        seed = [str(row.seed)] if several else []
        cells = [_tex_cell(show(row, c, p.get(i, 0))) for c, p in _zip(board.columns, placed)]
        yield _tex_line([name, *seed, str(row.n_total), str(failed_samples(row)), *cells])
    for paper in block.published:
        name = rf"\textit{{{_tex(paper.system)}}} [{numbers.get(paper.source, '')}]"
        seed = [""] if several else []
        cells = [_tex_paper(paper.cells.get(column.metric), column) for column in board.columns]
        yield _tex_line([name, *seed, str(paper.n or ""), "", *cells])


def _tex_cell(shown: Shown) -> str:
    wrap = {1: r"\textbf{%s}", 2: r"\underline{%s}"}.get(shown.place, "%s")
    text = wrap % _tex(shown.value) + (r"\textdagger{}" if shown.leaked else "")
    text += rf" {{\scriptsize $\pm$ {_tex(shown.std)}}}" if shown.std else ""
    text += rf"\,{{\tiny({_tex(shown.rank)})}}" if shown.rank else ""
    return text + (rf" {{\tiny {_tex(shown.note)}}}" if shown.note else "")


def _tex_paper(item: Comparison | None, column: Column) -> str:
    if item is None:
        return ""
    value, std = paper_number(item, column)
    tail = rf" {{\scriptsize $\pm$ {_tex(std)}}}" if std else ""
    return rf"\textit{{{_tex(value)}}}{tail}"


CSV_COLUMNS = (
    *("system", "kind", "dataset", "dataset_revision", "condition", "seed", "metric", "value"),
    *("low", "high", "std", "n", "n_failed", "n_unsupported", "rank_low", "rank_high", "flags"),
    *("unit", "better", "metric_version", "status", "reason", "marks"),
)


def to_csv(board: Leaderboard) -> str:
    """Return one line per row and metric; what is not defined is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in board.rows:
        for column in board.columns:
            line = _csv_line(row, column)
            texts = (printable(line[name]) for name in CSV_COLUMNS)
            # The writer quotes a line feed, but not a carriage return.
            writer.writerow([text.replace("\r\n", "\n").replace("\r", "\n") for text in texts])
    return out.getvalue()


def _csv_line(row: Row, column: Column) -> dict[str, Any]:
    cell = row.cells.get(column.metric, Cell(None))
    found = cell.estimate
    ranks = cell.ranks or ("", "")
    numbers = {
        name: _csv_number(getattr(found, name, None)) for name in ("value", "low", "high", "std")
    }
    return {
        "system": row.system,
        "kind": row.kind,
        "dataset": row.dataset,
        "dataset_revision": row.dataset_revision,
        "condition": "" if not row.condition.axes else str(row.condition),
        "seed": row.seed,
        "metric": column.metric,
        **numbers,
        **{name: getattr(found, name, "") for name in ("n", "n_failed", "n_unsupported")},
        "rank_low": ranks[0],
        "rank_high": ranks[1],
        "flags": " ".join(found.flags if found else ()),
        "unit": column.unit,
        "better": column.better,
        "metric_version": column.version,
        "status": status_of(row, column),
        "reason": show(row, column).reason,
        "marks": " ".join(dict.fromkeys((*row.marks, *cell.marks))),
    }


def _csv_number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def status_of(row: Row, column: Column) -> str:
    """Return ``ok``, ``failed``, ``unsupported``, ``not_measured``, ``unavailable`` or ``planned``.

    ``ok`` says that there is a number; how many samples failed stands beside it.
    """
    cell = row.cells.get(column.metric)
    found = cell.estimate if cell else None
    if found is None:
        lacking = "planned" if column.planned else "not_measured"
        return "unavailable" if column.unavailable else lacking
    if not math.isnan(found.value):
        return "ok"
    if found.n_failed:
        return "failed"
    return "unsupported" if found.n_unsupported else "not_measured"


def to_json(board: Leaderboard) -> str:
    """Return the whole board as JSON; NaN and infinities are null.

    The samples of a cell stand column by column: `sample`, `group`, `value` and `status` are lists
    of one length; `remarks` holds code, error and flags of the samples that have any.
    """
    whole = {
        "schema": SCHEMA,
        "title": board.title,
        "description": board.description,
        "protocol": board.protocol,
        "task": board.task,
        "columns": [_fields(column) for column in board.columns],
        "rows": [_json_row(board, row) for row in board.rows],
        "published": [to_record(item) for item in compare(board, board.published)],
        "orderings": [
            {**_fields(item), "condition": dict(item.condition.axes)}
            for item in orderings(board, board.published)
        ],
        "provenance": board.provenance,
        "notes": board.notes,
    }
    lines = ",\n".join(f"{dump(name)}: {_json_entry(value)}" for name, value in whole.items())
    return f"{{\n{lines}\n}}\n"


def _json_entry(value: Any) -> str:
    """Return one entry of the board: a list has a line per item, so that a diff can be read."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(dump(item) for item in value) + "\n]"
    return dump(value)


def dump(value: Any) -> str:
    """Return `value` as one line of JSON; NaN and infinities are null."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _json_row(board: Leaderboard, row: Row) -> dict[str, Any]:
    cells = {
        column.metric: {
            **_json_cell(row.cells.get(column.metric, Cell(None))),
            "status": status_of(row, column),
            "reason": show(row, column).reason,
        }
        for column in board.columns
    }
    failures = [
        {"sample": sample, "code": code, "error": error}
        for sample, code, error in row.generation_failures
    ]
    condition = dict(row.condition.axes)
    return {
        **_fields(row),
        "condition": condition,
        "cells": cells,
        "generation_failures": failures,
    }


def _json_cell(cell: Cell) -> dict[str, Any]:
    """Return a cell with its samples column by column, and remarks on those that have any."""
    told = [item for item in cell.samples if item.code or item.error or item.flags]
    columns = {
        name: [getattr(item, name) for item in cell.samples]
        for name in ("sample", "group", "value", "status")
    }
    remarks = [
        {name: getattr(item, name) for name in ("sample", "code", "error", "flags")}
        for item in told
    ]
    return {**_fields(cell), "samples": {**columns, "remarks": remarks}}


def _plain(value: Any) -> Any:
    """Return `value` as JSON knows it."""
    if hasattr(value, "__dataclass_fields__"):
        return _plain(_fields(value))
    if isinstance(value, Mapping):
        return {printable(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return printable(value)


FORMATS = {
    "html": to_html,
    "md": to_markdown,
    "tex": to_latex,
    "csv": to_csv,
    "json": to_json,
}
