"""A listening test's report: tables, Markdown, CSV, JSON and figures of what raters said."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonoscope import figures, opinions, ratings
from phonoscope.figures import number
from phonoscope.leaderboard import DASH, dump, md, md_table, show_number, show_range, signed
from phonoscope.opinions import Correlation, Opinions, Preference
from phonoscope.types import Estimate

SCHEMA = "phonoscope.ratings/1"
HEADS = ("system", "mean", "95 % interval", "rank", "raters", "samples", "ratings")
PAIR_HEADS = ("A", "B", "A - B", "95 % interval", "p (Holm)", "n")
VOTE_HEADS = (
    *("A", "B", "for A", "for B", "ties", "share of A", "exact 95 %", "p (Holm)"),
    *("95 % over raters and samples", "raters", "samples", "for the first shown"),
)
CORRELATION_HEADS = ("metric", "better", "over", "Pearson", "Spearman", "Kendall", "n")
MEANS = (
    "Every rating counts alike. Intervals are 95 % percentiles of the pigeonhole bootstrap over "
    "raters and samples (Owen 2007; 2,000 draws). Ranks are what the pairwise differences "
    "(Holm) leave open."
)
VOTES = (
    "Ties are counted, and left out of share, interval and test (the sign test). The exact "
    "interval is Clopper and Pearson's and p the two-sided binomial test of 1/2, Holm's over all "
    "pairs; both take votes as independent. The last interval does not: it draws raters and "
    "samples (Owen 2007)."
)
CORRELATED = (
    "Over pairs of system and sample that have ratings and the metric. `systems`: mean rating and "
    "aggregate of each system; `samples`: mean rating and value of each pair; `samples of X`: the "
    "same within X. A metric of which lower is better should correlate negatively."
)


@dataclass(frozen=True, slots=True)
class Report:
    """What a file of ratings, or of preferences, says."""

    title: str
    opinions: Opinions | None = None
    preferences: tuple[Preference, ...] = ()
    correlations: tuple[Correlation, ...] = ()
    notes: tuple[str, ...] = ()


def of_scores(
    path: Path,
    scale: str,
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    partial: bool = False,
    screen: str = "",
    run: opinions.Measured | None = None,
) -> Report:
    """Return the report of a file of scores.

    Parameters
    ----------
    path, scale, columns, where, partial
        As for `phonoscope.ratings.read_ratings`.
    screen : str
        The hidden reference by which raters are screened; nobody is where it is empty.
    run : Measured, optional
        What metrics say of the same clips.

    Raises
    ------
    UserError
        On a wrong file, or where nothing of it was measured.
    """
    found = ratings.read_ratings(path, scale, columns=columns, where=where, partial=partial)
    said_of_raters: tuple[str, ...] = ()
    if screen:
        found, note = opinions.screened(found, screen)
        said_of_raters = (note,)
    correlated, more = opinions.correlations(found, run) if run else ((), ())
    said = opinions.opinions(found, scale, notes=said_of_raters)
    return Report(path.stem, said, (), correlated, (*said.notes, *more))


def of_choices(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
) -> Report:
    """Return the report of a file of AB preferences.

    Raises
    ------
    RatingsError
        On a wrong file.
    """
    found = ratings.read_choices(path, columns=columns, where=where)
    return Report(path.stem, preferences=opinions.preferences(found))


def _decimals(found: Opinions) -> int:
    return 1 if found.scale.high > 10 else 2


def _interval(low: float, high: float, decimals: int) -> str:
    if math.isnan(low) or math.isnan(high):
        return DASH
    return f"{number(low, decimals)} to {number(high, decimals)}"


def _p(value: float) -> str:
    if math.isnan(value):
        return DASH
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def mean_rows(found: Opinions) -> list[list[str]]:
    """Return one line per system, with the heads `HEADS`."""
    digits = _decimals(found)
    return [
        [
            item.system,
            f"{number(item.estimate.value, digits)} ± {number(item.estimate.std, digits)}",
            _interval(item.estimate.low, item.estimate.high, digits),
            show_range(item.ranks),
            str(item.raters),
            str(item.samples),
            str(item.estimate.n),
        ]
        for item in found.systems
    ]


def pair_rows(found: Opinions) -> list[list[str]]:
    """Return one line per pair of systems, with the heads `PAIR_HEADS`."""
    digits = _decimals(found)
    return [
        [
            *(item.a, item.b, signed(item.paired.difference, digits)),
            _interval(item.paired.low, item.paired.high, digits),
            *(_p(item.p_adjusted), str(item.paired.n)),
        ]
        for item in found.comparisons
    ]


def vote_rows(found: Sequence[Preference]) -> list[list[str]]:
    """Return one line per pair of systems, with the heads `VOTE_HEADS`."""
    return [
        [
            *(item.a, item.b, str(item.for_a), str(item.for_b), str(item.ties)),
            show_number(item.share, 3),
            _interval(item.low, item.high, 3),
            _p(item.p_adjusted),
            _interval(item.crossed.low, item.crossed.high, 3),
            *(str(item.raters), str(item.samples)),
            f"{item.shown_first} of {item.for_a + item.for_b}",
        ]
        for item in found
    ]


def correlation_rows(found: Sequence[Correlation]) -> list[list[str]]:
    """Return one line per metric and level, with the heads `CORRELATION_HEADS`."""
    return [
        [
            *(item.metric, item.better, item.level),
            *(show_number(value, 3) for value in (item.pearson, item.spearman, item.kendall)),
            str(item.n),
        ]
        for item in found
    ]


Table = tuple[str, Sequence[str], list[list[str]], int, str]


def tables(report: Report, *, brief: bool = False) -> list[Table]:
    """Return title, heads, lines, number of text columns, and legend of every table.

    A brief report has no correlations within single systems.
    """
    found: list[Table] = []
    if report.opinions:
        title = f"Mean {report.opinions.scale.label}"
        found.append((title, HEADS, mean_rows(report.opinions), 1, MEANS))
    if report.preferences:
        found.append(("Preferences", VOTE_HEADS, vote_rows(report.preferences), 2, VOTES))
    if report.correlations:
        kept = [c for c in report.correlations if not brief or c.level in ("systems", "samples")]
        lines = correlation_rows(kept)
        found.append(("Ratings and metrics", CORRELATION_HEADS, lines, 3, CORRELATED))
    if report.opinions and report.opinions.comparisons:
        lines = pair_rows(report.opinions)
        found.append(("Differences", PAIR_HEADS, lines, 2, "n counts pairs of rater and sample."))
    return found


def to_markdown(report: Report) -> str:
    """Return all tables for GitHub."""
    parts = [f"# {md(report.title)}"]
    for title, heads, lines, left, legend in tables(report):
        cells = [[md(text) for text in line] for line in lines]
        parts += [f"## {title}", md_table([md(head) for head in heads], cells, left=left), legend]
    parts.append("\n".join(f"- {md(note)}" for note in notes(report)))
    return "\n\n".join(part for part in parts if part) + "\n"


def notes(report: Report) -> list[str]:
    """Return what is to be said of the file and of its intervals."""
    flagged = sorted({flag for item in _estimates(report) for flag in item.flags})
    return [*report.notes, *(FLAGS[flag] for flag in flagged if flag in FLAGS)]


FLAGS = {
    "few_groups": "Fewer than ten raters or samples: the intervals over both are too narrow.",
    "one_group": "One rater, or one sample: no interval over both.",
    "zero_denominator": "Some draws held no rating of a system; they are left out.",
}


def _estimates(report: Report) -> Iterable[Estimate]:
    systems = report.opinions.systems if report.opinions else ()
    return [*(item.estimate for item in systems), *(item.crossed for item in report.preferences)]


def to_json(report: Report) -> str:
    """Return the report as JSON, with the numbers as they are; NaN is null."""
    said = report.opinions
    whole: dict[str, Any] = {
        "schema": SCHEMA,
        "title": report.title,
        "scale": said.scale.name if said else ratings.AB,
        "systems": [_system(item) for item in said.systems] if said else [],
        "differences": list(said.comparisons) if said else [],
        "preferences": list(report.preferences),
        "correlations": list(report.correlations),
        "notes": notes(report),
    }
    lines = [f"{dump(name)}: {_entry(value)}" for name, value in whole.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _entry(value: Any) -> str:
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(dump(item) for item in value) + "\n]"
    return dump(value)


def _system(item: opinions.Opinion) -> dict[str, Any]:
    return {
        "system": item.system,
        **{name: getattr(item.estimate, name) for name in ("value", "low", "high", "std", "n")},
        "flags": item.estimate.flags,
        "raters": item.raters,
        "samples": item.samples,
        "ranks": item.ranks,
    }


def to_csv(report: Report) -> str:
    """Return the main table as CSV, with the numbers as they are; what is not defined is empty."""
    said = report.opinions
    rows = [_system(item) for item in said.systems] if said else _votes(report.preferences)
    return _csv(rows)


def _votes(found: Sequence[Preference]) -> list[dict[str, Any]]:
    fields = [name for name in Preference.__dataclass_fields__ if name != "crossed"]
    return [
        {
            **{name: getattr(item, name) for name in fields},
            "crossed_low": item.crossed.low,
            "crossed_high": item.crossed.high,
            "flags": item.crossed.flags,
        }
        for item in found
    ]


def correlations_csv(report: Report) -> str:
    """Return the correlations as CSV."""
    fields = Correlation.__dataclass_fields__
    return _csv([{name: getattr(c, name) for name in fields} for c in report.correlations])


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows[0] if rows else ())
    writer.writerows([_text(value) for value in row.values()] for row in rows)
    return out.getvalue()


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return str(value)


def figure(report: Report) -> str:
    """Return the picture: a box plot of the scores with means, or the shares of the votes."""
    if report.opinions is None:
        names = list(dict.fromkeys(n for item in report.preferences for n in (item.a, item.b)))
        rows = [_share(item, names) for item in report.preferences]
        return figures.shares(rows, title=report.title)
    said = report.opinions
    groups = [
        figures.Group(
            item.system, item.scores, item.names, i, item.estimate.low, item.estimate.high
        )
        for i, item in enumerate(said.systems)
    ]
    return figures.distribution(
        groups,
        label=said.scale.label,
        title=report.title,
        decimals=_decimals(said),
        limits=(said.scale.low, said.scale.high),
    )


def _share(item: Preference, names: Sequence[str]) -> figures.Share:
    votes = item.for_a, item.for_b, item.ties
    slots = names.index(item.a), names.index(item.b)
    return figures.Share(item.a, item.b, *votes, item.low, item.high, slots)


def write(report: Report, folder: Path) -> list[Path]:
    """Write ``ratings.md``, ``.csv``, ``.json`` and ``.svg`` into `folder`; return the files.

    Correlations go to ``correlations.csv``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "ratings.md": to_markdown(report),
        "ratings.csv": to_csv(report),
        "ratings.json": to_json(report),
        "ratings.svg": figure(report),
    }
    if report.correlations:
        texts["correlations.csv"] = correlations_csv(report)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in texts]
