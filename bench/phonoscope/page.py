"""The leaderboard as one self-contained HTML page.

Nothing is loaded from anywhere: style, script and figures stand in the file, and its content
security policy forbids the rest. Every text is escaped by the template engine.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from phonoscope import figures
from phonoscope.figures import printable
from phonoscope.leaderboard import (
    MINUS,
    Block,
    Cell,
    Column,
    Leaderboard,
    Row,
    Section,
    Shown,
    arrow,
    axes_of,
    axis_name,
    failed_samples,
    legend,
    marks_of,
    order_lines,
    paper_number,
    places,
    sections,
    seeds_of,
    show,
    show_condition,
    show_interval,
    show_number,
    signed,
    sources_of,
    troubles,
    unavailable,
)
from phonoscope.reproduce import RULE, Comparison, compare, parse_condition
from phonoscope.types import Estimate, Scalar

TEMPLATES = Path(__file__).parent / "templates"
LISTED = 1000


@dataclass(frozen=True, slots=True)
class HtmlCell:
    """One cell of the table: what is printed, what it sorts by, what hovering tells."""

    value: str
    std: str = ""
    sort: str = ""
    place: int = 0
    leaked: bool = False
    sub: tuple[str, ...] = ()
    warning: str = ""
    tip: str = ""


@dataclass(frozen=True, slots=True)
class HtmlRow:
    """One row of the table."""

    name: str
    kind: str
    slot: int
    marks: tuple[str, ...]
    seed: str
    n: str
    failed: int
    cells: tuple[HtmlCell, ...]
    source: str = ""


def page(board: Leaderboard) -> str:
    """Return the page."""
    script = _asset("board.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    found = sections(board)
    return (
        _environment()
        .get_template("leaderboard.html")
        .render(
            board=board,
            style=Markup(figures.STYLE + _asset("board.css")),  # noqa: S704 - our own files
            script=Markup(script),  # noqa: S704
            script_digest=digest,
            facts=list(_facts(board, found)),
            several_seeds=len(seeds_of(board)) > 1,
            tables=[(section, list(_blocks(board, section))) for section in found],
            keys=_keys(board),
            sources=sources_of(board),
            legend=(*legend(board), *unavailable(board)),
            curves=list(_curves(board)),
            spreads=list(_spreads(board, found)),
            failures=_failures(board, "failed"),
            unsupported=_failures(board, "unsupported"),
            comparisons=[_comparison(board, item) for item in compare(board, board.published)],
            orders=order_lines(board),
            rule=RULE,
            systems=list(_systems(board)),
        )
    )


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
    )
    made.filters["arrow"] = arrow
    made.filters["soft"] = _soft
    made.tests["mapping_like"] = lambda value: isinstance(value, Mapping)
    made.tests["listing"] = lambda value: isinstance(value, list | tuple)
    return made


def _soft(text: str) -> Markup:
    """Escape a name and let it break after its separators."""
    safe = str(escape(printable(text)))
    return Markup(re.sub(r"([_/.\\-])(?=\w)", r"\1<wbr>", safe))  # noqa: S704 - escaped above


@functools.cache
def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _facts(board: Leaderboard, found: Sequence[Section]) -> Iterator[tuple[str, str]]:
    systems = {row.system for row in board.rows if row.kind == "system"}
    yield "task", board.task.replace("2", " to ").replace("_", " ")
    yield "protocol", board.protocol
    yield "systems", str(len(systems))
    yield "metrics", str(len(board.columns))
    for section in found:
        counts = sorted({row.n_total for block in section.blocks for row in block.rows})
        if counts:
            yield section.dataset, "/".join(map(str, counts)) + " samples"
    yield "conditions", str(len({row.condition for row in board.rows}))


def _slots(board: Leaderboard) -> dict[str, int]:
    """Return colour and marker of every system: neutral ones for references and controls."""
    ranked = list(dict.fromkeys(row.system for row in board.rows if row.kind == "system"))
    others = list(dict.fromkeys(row.system for row in board.rows if row.system not in ranked))
    slots = {name: i for i, name in enumerate(ranked)}
    return slots | {name: figures.NEUTRAL + i for i, name in enumerate(others)}


def _keys(board: Leaderboard) -> list[tuple[str, Markup]]:
    slots = _slots(board)
    return [(name, _swatch(slot)) for name, slot in slots.items()]


def _swatch(slot: int) -> Markup:
    drawn = figures.swatch(slot, dashed=slot >= figures.NEUTRAL)
    return Markup(drawn)  # noqa: S704 - numbers only


def _blocks(board: Leaderboard, section: Section) -> Iterator[tuple[str, list[HtmlRow]]]:
    slots = _slots(board)
    for block in section.blocks:
        placed = [places(block.rows, column) for column in board.columns]
        rows = [
            _row(board, row, slots[row.system], [p.get(i, 0) for p in placed])
            for i, row in enumerate(block.rows)
        ]
        yield show_condition(block.condition), rows + list(_papers(board, block))


def _row(board: Leaderboard, row: Row, slot: int, placed: Sequence[int]) -> HtmlRow:
    cells = [_cell(row, c, show(row, c, p)) for c, p in zip(board.columns, placed, strict=True)]
    return HtmlRow(
        name=row.system,
        kind=row.kind,
        slot=slot,
        marks=marks_of(row),
        seed=str(row.seed),
        n=str(row.n_total),
        failed=failed_samples(row),
        cells=tuple(cells),
    )


def _cell(row: Row, column: Column, shown: Shown) -> HtmlCell:
    cell = row.cells.get(column.metric)
    found = cell.estimate if cell else None
    measured = found is not None and not math.isnan(found.value)
    place = {1: "best", 2: "second"}.get(shown.place, "")
    lines = [f"{column.label}, {row.system}"]
    lines += [show_condition(row.condition)] if row.condition.axes else []
    lines += [shown.reason] if shown.reason else []
    lines += [f"95 % interval {shown.interval}"] if shown.interval else []
    if found is not None:
        lines.append(f"n {found.n}, failed {found.n_failed}, unsupported {found.n_unsupported}")
        lines += [f"flags: {', '.join(found.flags)}"] if found.flags else []
    lines += [f"rank {shown.rank}"] if shown.rank else []
    lines += [f"{place} of the ranked systems"] if place else []
    lines += [f"the system was trained or guided with {column.encoder}"] if shown.leaked else []
    return HtmlCell(
        value=shown.value,
        std=shown.std,
        sort=repr(found.value) if measured and found else "",
        place=shown.place,
        leaked=shown.leaked,
        sub=_below(row, found, shown),
        warning=shown.warning,
        tip="\n".join(lines),
    )


def _below(row: Row, found: Estimate | None, shown: Shown) -> tuple[str, ...]:
    """Return what stands under the value: the rank range, and n where it is not the row's."""
    count = f"n {found.n}" if found and not shown.reason and found.n != row.n_total else ""
    text = " · ".join(filter(None, (f"rank {shown.rank}" if shown.rank else "", count)))
    return (text,) if text else ()


def _papers(board: Leaderboard, block: Block) -> Iterator[HtmlRow]:
    for paper in block.published:
        yield HtmlRow(
            name=paper.system,
            kind="published",
            slot=-1,
            marks=(),
            seed="",
            n=str(paper.n or ""),
            failed=0,
            cells=tuple(_paper(paper.cells.get(c.metric), c) for c in board.columns),
            source=paper.source,
        )


def _paper(item: Comparison | None, column: Column) -> HtmlCell:
    if item is None:
        return HtmlCell("", tip=f"{column.label}: not published")
    value, std = paper_number(item, column)
    one = item.published
    count = f"n {one.n}" if one.n else "n not stated"
    lines = [f"{column.label}, {one.system}, published", one.source, count, item.text]
    if item.difference is not None:
        lines.append(f"ours minus published: {signed(item.difference, column.decimals)}")
    lines += [one.note] if one.note else []
    tip = "\n".join(filter(None, lines))
    return HtmlCell(value, std, repr(one.value), sub=(item.verdict,), tip=tip)


def _numeric(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sweep_axis(board: Leaderboard) -> str | None:
    """Return the numeric axis with most values, if it has two or more."""
    values = {
        axis: {row.condition.get(axis) for row in board.rows if _numeric(row.condition.get(axis))}
        for axis in axes_of(board)
    }
    best = max(values, key=lambda axis: len(values[axis]), default=None)
    return best if best is not None and len(values[best]) > 1 else None


def sweeps(board: Leaderboard) -> dict[str, str]:
    """Return the board's curves as standalone SVG by a name for their files."""
    found: dict[str, str] = {}
    for number, (axis, _, rows) in enumerate(_facets(board)):
        for column in board.columns:
            drawn = _curve(board, rows, column, axis, standalone=True)
            if drawn is not None:
                found[f"{column.metric}-{number}" if number else column.metric] = str(drawn)
    return found


def spreads(board: Leaderboard) -> dict[str, str]:
    """Return the board's box plots as standalone SVG by a name for their files."""
    found: dict[str, str] = {}
    parts = sections(board)
    for section in parts:
        for block in section.blocks:
            names = [section.dataset] if len(parts) > 1 else []
            names += [str(block.condition)] if block.condition.axes else []
            for column in board.columns:
                drawn = _spread(board, block, column, standalone=True)
                if drawn is not None:
                    found[_file_name("-".join([column.metric, "box", *names]), found)] = str(drawn)
    return found


def _file_name(text: str, taken: Iterable[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", text)
    return name if name not in taken else f"{name}-{len(list(taken))}"


def _curves(board: Leaderboard) -> Iterator[tuple[str, list[Markup]]]:
    """Yield, per data set and remaining axes, one figure for each metric that was measured."""
    for axis, title, rows in _facets(board):
        drawn = [_curve(board, rows, column, axis) for column in board.columns]
        yield title, [one for one in drawn if one]


def _facets(board: Leaderboard) -> Iterator[tuple[str, str, list[Row]]]:
    axis = _sweep_axis(board)
    if axis is None:
        return
    facets: dict[tuple[str, str], list[Row]] = {}
    for row in board.rows:
        if _numeric(row.condition.get(axis)):
            rest = [pair for pair in row.condition.axes if pair[0] != axis]
            title = ", ".join(f"{axis_name(name)} {value}" for name, value in rest)
            facets.setdefault((row.dataset, title), []).append(row)
    for (dataset, point), rows in facets.items():
        yield axis, ", ".join(filter(None, (dataset, point))), rows


def _curve(
    board: Leaderboard, rows: Sequence[Row], column: Column, axis: str, *, standalone: bool = False
) -> Markup | None:
    slots, several = _slots(board), len(seeds_of(board)) > 1
    lines: dict[tuple[str, int], list[figures.Point]] = {}
    for row in rows:
        cell = row.cells.get(column.metric)
        if cell and cell.estimate and math.isfinite(cell.estimate.value):
            lines.setdefault((row.system, row.seed), []).append(_point(row, column, axis))
    if not lines:
        return None
    series = [
        figures.Series(
            f"{name}, seed {seed}" if several else name,
            tuple(points),
            slots[name],
            dashed=slots[name] >= figures.NEUTRAL,
        )
        for (name, seed), points in lines.items()
    ]
    unit = "" if column.unit in ("", "-") else f" ({column.unit})"
    drawn = figures.curve(
        series,
        x_label=axis_name(axis),
        y_label=f"{column.label}{unit}",
        title=f"{column.label} {arrow(column)}",
        legend=standalone,
        standalone=standalone,
        width=460 if standalone else 400,
        height=300 if standalone else 270,
        decimals=column.decimals,
    )
    return Markup(drawn)  # noqa: S704 - figures escapes its texts


def _point(row: Row, column: Column, axis: str) -> figures.Point:
    found = row.cells[column.metric].estimate
    x = row.condition.get(axis)
    assert found is not None and isinstance(x, int | float)  # noqa: S101 - the callers looked
    return figures.Point(float(x), found.value, found.low, found.high, f"n={found.n}")


def _spreads(board: Leaderboard, found: Sequence[Section]) -> Iterator[tuple[str, list[Markup]]]:
    """Yield, per data set and condition, one figure for each metric with values per sample."""
    for section in found:
        for block in section.blocks:
            drawn = [_spread(board, block, column) for column in board.columns]
            if any(drawn):
                names = [section.dataset if len(found) > 1 else ""]
                title = ", ".join(filter(None, [*names, show_condition(block.condition)]))
                yield title or section.dataset, [one for one in drawn if one]


def _spread(
    board: Leaderboard, block: Block, column: Column, *, standalone: bool = False
) -> Markup | None:
    slots, several = _slots(board), len(seeds_of(board)) > 1
    groups = []
    for row in block.rows:
        label = f"{row.system}, seed {row.seed}" if several else row.system
        groups.append(_group(label, row.cells.get(column.metric), slots[row.system]))
    if not any(group.values for group in groups):
        return None
    unit = "" if column.unit in ("", "-") else f"{column.unit}, "
    place = show_condition(block.condition) if standalone else ""
    drawn = figures.distribution(
        groups,
        label=", ".join(filter(None, (f"{unit}per sample", place))),
        title=f"{column.label} {arrow(column)}",
        decimals=column.decimals,
        standalone=standalone,
        width=460 if standalone else 400,
        tips=not standalone,
    )
    return Markup(drawn)  # noqa: S704 - figures escapes its texts


def _group(label: str, cell: Cell | None, slot: int) -> figures.Group:
    pairs = [
        (s.value, s.sample)
        for s in (cell.samples if cell else ())
        if s.status == "ok" and s.value is not None and math.isfinite(s.value)
    ]
    values, names = tuple(v for v, _ in pairs), tuple(n for _, n in pairs)
    low = high = math.nan
    found = cell.estimate if cell else None
    # The interval of another aggregate than the mean of samples does not belong to the diamond.
    if (
        found
        and values
        and math.isclose(found.value, math.fsum(values) / len(values), abs_tol=1e-9)
    ):
        low, high = found.low, found.high
    return figures.Group(label, values, names, slot, low, high)


def _failures(board: Leaderboard, status: str) -> dict[str, Any]:
    """Return samples of one status; rows in which a sample has the same error share a line."""
    found = [item for item in troubles(board) if item.status == status]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for item in found:
        key = item.row.dataset, item.sample, item.metrics, item.code, item.error
        groups.setdefault(key, []).append(item.row)
    labels = {column.metric: column.label for column in board.columns}
    lines = [
        {
            "where": _where(board, dataset, rows),
            "sample": sample,
            "metrics": ", ".join(labels.get(name, name) for name in metrics) or "all (no clip)",
            "code": code,
            "error": error,
        }
        for (dataset, sample, metrics, code, error), rows in list(groups.items())[:LISTED]
    ]
    return {"count": len(found), "lines": lines, "more": max(len(groups) - LISTED, 0)}


def _where(board: Leaderboard, dataset: str, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return (system, conditions) pairs, or one that says that all rows are meant."""
    several = len({row.dataset for row in board.rows}) > 1
    place = f"{dataset}, " if several else ""
    whole = sum(row.dataset == dataset for row in board.rows)
    if len(rows) == whole and whole > 1:
        return [("", f"{place}all {whole} rows")]
    conditions: dict[str, list[str]] = {}
    for row in rows:
        conditions.setdefault(row.system, []).append(_point_name(board, row))
    return [(name, place + "; ".join(filter(None, points))) for name, points in conditions.items()]


def _point_name(board: Leaderboard, row: Row) -> str:
    seed = f"seed {row.seed}" if len(seeds_of(board)) > 1 else ""
    return ", ".join(filter(None, (show_condition(row.condition), seed)))


def _comparison(board: Leaderboard, item: Comparison) -> dict[str, str]:
    column = next((c for c in board.columns if c.metric == item.published.metric), None)
    decimals = column.decimals if column else 2
    one, ours = item.published, item.ours
    printed = decimals if one.decimals is None else one.decimals
    std = "" if one.std is None else show_number(one.std, printed)
    return {
        "system": one.system,
        "metric": column.label if column else one.metric,
        "condition": show_condition(parse_condition(one.condition)),
        "ours": show_number(ours.value, decimals) if ours else "",
        "interval": show_interval(ours, decimals) if ours else "",
        "n": str(ours.n) if ours else "",
        "published": show_number(one.value, printed),
        "std": std,
        "published_n": str(one.n or ""),
        "difference": "" if item.difference is None else signed(item.difference, decimals),
        "tolerance": f"{item.tolerance:g}".replace("-", MINUS),
        "verdict": item.verdict,
        "why": item.why,
        "source": one.source,
        "note": one.note,
    }


def _systems(board: Leaderboard) -> Iterable[dict[str, str]]:
    rows = {row.system: row for row in reversed(board.rows)}
    for name in _slots(board):
        row = rows[name]
        yield {
            "name": name,
            "kind": row.kind,
            "trained_on": ", ".join(row.trained_on) or "not declared",
            "encoders": ", ".join(row.encoders) or "not declared",
        }
