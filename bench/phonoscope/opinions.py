"""Human ratings: means with intervals, preferences, and what metrics say beside them.

Definitions
-----------
Mean. Every rating counts alike. The 95 % interval is the pigeonhole bootstrap over raters and
samples (`phonoscope.stats.crossed`): other raters, who hear other samples. Where a file says to
which `group` (speaker) a sample belongs, groups are drawn in the place of samples. Differences of
systems share the draws; their p-values are Holm's; ranks are what these leave open.

Preference. Of the votes for one of two systems, the share of the first, with Clopper and Pearson's
exact 95 % interval and the exact two-sided binomial test of 1/2, Holm's over all pairs of a file. A
tie is a vote for neither: it is counted and shown, and left out of share, interval and test (the
sign test). These take every vote as independent; that votes of one rater are not is told by the
interval over raters and samples beside them.

Correlation. Between ratings and a metric, over pairs of a system and a sample that have both:
``systems`` correlates the systems' mean ratings with their aggregates, ``samples`` the mean rating
of every pair with the metric's value, ``samples of X`` the same within the system X. Pearson,
Spearman and Kendall's tau-b; NaN for fewer than three points.

Screening (ITU-R BS.1534-3, 4.1.2). A rater who scores the hidden reference below 90 for more than
15 % of the samples is left out, on demand, and named.

References
----------
Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007.
Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of the
binomial, Biometrika 26, 1934.
Dixon and Mood, The statistical sign test, J. Am. Stat. Assoc. 41, 1946.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from phonoscope import assemble, runner, stats
from phonoscope.errors import RatingsError, UserError
from phonoscope.plugins import Metric
from phonoscope.ratings import SCALES, Choice, Rating, Scale, not_among
from phonoscope.reproduce import FEWEST, parse_condition, same_condition
from phonoscope.types import Better, Condition, Estimate, Value

SUFFIXES = frozenset((".wav", ".flac", ".mp3", ".ogg", ".m4a", ".mp4", ".mkv", ".avi", ".webm"))
SCREEN_BELOW, SCREEN_SHARE = 90.0, 0.15


@dataclass(frozen=True, slots=True)
class Opinion:
    """One system's ratings.

    Attributes
    ----------
    estimate : Estimate
        Of the mean; `n` counts ratings.
    ranks : (int, int)
        Best and worst rank that the differences leave open.
    """

    system: str
    estimate: Estimate
    raters: int
    samples: int
    ranks: tuple[int, int]
    scores: tuple[float, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opinions:
    """All systems of a file, in its order, and all differences of two."""

    scale: Scale
    systems: tuple[Opinion, ...]
    comparisons: tuple[stats.Comparison, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preference:
    """The votes between two systems.

    Attributes
    ----------
    share : float
        Of the votes that are no ties, those for `a`; NaN where all are ties.
    low, high : float
        Clopper and Pearson's 95 % interval of it.
    p, p_adjusted : float
        Exact two-sided test of 1/2; the same by Holm over all pairs.
    crossed : Estimate
        The share again, with the interval over raters and samples.
    shown_first : int
        Votes for the system that stood in column A: far from half, the order was heard.
    """

    a: str
    b: str
    for_a: int
    for_b: int
    ties: int
    share: float
    low: float
    high: float
    p: float
    p_adjusted: float
    raters: int
    samples: int
    crossed: Estimate
    shown_first: int


@dataclass(frozen=True, slots=True)
class Correlation:
    """Ratings against a metric, over `n` points; see the module for `level`."""

    metric: str
    better: Better
    level: str
    pearson: float
    spearman: float
    kendall: float
    n: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of a run for each system: values by metric, system and sample."""

    metrics: tuple[Metric, ...]
    values: Mapping[str, Mapping[str, Mapping[str, Value]]]


def screened(ratings: Sequence[Rating], reference: str) -> tuple[tuple[Rating, ...], str]:
    """Leave out raters who do not hear the hidden reference; return the rest, and a note.

    Raises
    ------
    RatingsError
        If there is no system of that name, or nobody is left.
    """
    hidden = [item for item in ratings if item.system == reference]
    if not hidden:
        names = list(dict.fromkeys(item.system for item in ratings))
        raise RatingsError(f"--screen {reference}: {not_among(reference, names)}")
    low: dict[str, list[bool]] = {}
    for item in hidden:
        low.setdefault(item.rater, []).append(item.score < SCREEN_BELOW)
    out = [rater for rater, each in low.items() if sum(each) / len(each) > SCREEN_SHARE]
    kept = tuple(item for item in ratings if item.rater not in out)
    if not kept:
        raise RatingsError(f"--screen {reference}: no rater is left")
    told = ", ".join(out) if out else "nobody"
    note = f"Raters left out for {reference} below 90 in more than 15 % of samples: {told}."
    return kept, note


def opinions(
    ratings: Sequence[Rating], scale: str, *, notes: Sequence[str] = (), seed: int = 0
) -> Opinions:
    """Return mean, interval and rank of every system, and all differences.

    Raises
    ------
    ValueError
        If there are no ratings.
    """
    by_system: dict[str, list[Rating]] = {}
    for item in ratings:
        by_system.setdefault(item.system, []).append(item)
    found = stats.crossed(
        {name: [item.score for item in items] for name, items in by_system.items()},
        {name: [item.rater for item in items] for name, items in by_system.items()},
        {name: [item.group for item in items] for name, items in by_system.items()},
        seed=seed,
    )
    ranks = stats.rank_ranges(list(by_system), found.comparisons, "higher")
    systems = tuple(
        _opinion(name, items, found.estimates[name], ranks[name])
        for name, items in by_system.items()
    )
    return Opinions(SCALES[scale], systems, found.comparisons, (*notes, *_design(by_system)))


def _opinion(
    system: str, items: Sequence[Rating], estimate: Estimate, ranks: tuple[int, int]
) -> Opinion:
    return Opinion(
        system=system,
        estimate=estimate,
        raters=len({item.rater for item in items}),
        samples=len({item.sample for item in items}),
        ranks=ranks,
        scores=tuple(item.score for item in items),
        names=tuple(f"{item.rater}, {item.sample}" for item in items),
    )


def _design(by_system: Mapping[str, Sequence[Rating]]) -> Iterator[str]:
    """Say where systems were not rated by the same raters on the same samples."""
    cells = [{(item.rater, item.sample) for item in items} for items in by_system.values()]
    everywhere = set.intersection(*cells)
    somewhere = set.union(*cells)
    if everywhere != somewhere:
        yield (
            f"Of {len(somewhere)} pairs of rater and sample, {len(everywhere)} have all systems: "
            "means of different systems are over different pairs."
        )


def preferences(choices: Sequence[Choice], *, seed: int = 0) -> tuple[Preference, ...]:
    """Return the votes of every pair of systems; the first is the one that the file names first."""
    pairs: dict[frozenset[str], list[Choice]] = {}
    for item in choices:
        pairs.setdefault(frozenset((item.a, item.b)), []).append(item)
    names = list(dict.fromkeys(name for item in choices for name in (item.a, item.b)))
    tests = [_counted(items, names) for items in pairs.values()]
    adjusted = stats.holm([p for *_, p in tests])
    return tuple(
        _preference(items, test, p, seed)
        for items, test, p in zip(pairs.values(), tests, adjusted, strict=True)
    )


_Counted = tuple[str, str, int, int, float, float, float]


def _counted(items: Sequence[Choice], names: Sequence[str]) -> _Counted:
    """Return both names, votes for each, the interval of the first's share, and p."""
    from scipy.stats import binomtest

    a, b = sorted((items[0].a, items[0].b), key=names.index)
    for_a, for_b = (sum(item.chosen == name for item in items) for name in (a, b))
    if not for_a + for_b:
        return a, b, 0, 0, math.nan, math.nan, math.nan
    test = binomtest(for_a, for_a + for_b)
    interval = test.proportion_ci(stats.LEVEL, method="exact")
    return a, b, for_a, for_b, float(interval.low), float(interval.high), float(test.pvalue)


def _preference(
    items: Sequence[Choice], counted: _Counted, adjusted: float, seed: int
) -> Preference:
    a, b, for_a, for_b, low, high, p = counted
    votes = [item for item in items if item.chosen]
    none = Estimate(math.nan, math.nan, math.nan, math.nan, 0, flags=("no_samples",))
    return Preference(
        a=a,
        b=b,
        for_a=for_a,
        for_b=for_b,
        ties=len(items) - len(votes),
        share=for_a / len(votes) if votes else math.nan,
        low=low,
        high=high,
        p=p,
        p_adjusted=adjusted,
        raters=len({item.rater for item in items}),
        samples=len({item.sample for item in items}),
        crossed=_crossed_share(votes, a, seed) if votes else none,
        shown_first=sum(item.chosen == item.a for item in votes),
    )


def _crossed_share(votes: Sequence[Choice], a: str, seed: int) -> Estimate:
    found = stats.crossed(
        {a: [float(item.chosen == a) for item in votes]},
        {a: [item.rater for item in votes]},
        {a: [item.group for item in votes]},
        seed=seed,
    )
    return found.estimates[a]


def measured(
    source: str, *, store: str | None = None, condition: str = "", dataset: str = ""
) -> Measured:
    """Return what a run measured: one row per system.

    Parameters
    ----------
    source, store : str
        As for `phonoscope.runner.reopen`.
    condition, dataset : str
        Which rows, where the run has several; of several seeds the first.

    Raises
    ------
    UserError
        If that leaves no row, or several.
    """
    planner = runner.planner(*runner.reopen(source, store))
    rows = list(assemble.lines(planner))
    specs = {id(row): row.plan.spec for row in rows}
    wanted = _condition(condition)
    if condition:
        rows = [r for r in rows if same_condition(specs[id(r)].condition, wanted)]
    if dataset:
        rows = [r for r in rows if specs[id(r)].dataset.name == dataset]
    places = dict.fromkeys((specs[id(r)].dataset.name, str(specs[id(r)].condition)) for r in rows)
    if len(places) != 1:
        told = "; ".join(f"--dataset {name} --condition '{point}'" for name, point in places)
        raise UserError(f"{source}: " + (f"say which rows: {told}" if places else "no such row"))
    first = {specs[id(r)].entry.name: r for r in reversed(rows)}
    metrics = planner.protocol.metrics
    values = {
        metric.name: {name: assemble.values(row, metric.name) for name, row in first.items()}
        for metric in metrics
    }
    filled = tuple(metric for metric in metrics if any(values[metric.name].values()))
    return Measured(filled, values)


def _condition(text: str) -> Condition:
    try:
        return parse_condition(text)
    except ValueError as error:
        raise UserError(f"--condition: {error}") from None


def correlations(
    ratings: Sequence[Rating], run: Measured
) -> tuple[tuple[Correlation, ...], tuple[str, ...]]:
    """Hold ratings against metrics; return the correlations, and what could not be matched.

    Systems match by their names in any case, samples by id or, where that is unique, by the last
    part of it, without the suffix of a media file.

    Raises
    ------
    UserError
        If no system or no sample of the ratings was measured.
    """
    names = _matched_systems(ratings, run)
    found: list[Correlation] = []
    notes = [f"Rated, but not in the run: {name}." for name, known in names.items() if not known]
    lost: set[str] = set()
    for metric in run.metrics:
        joined, unknown = _joined(ratings, names, run.values[metric.name])
        lost |= unknown
        found += _levels(metric, joined)
    if not found:
        there = {name for rows in run.values.values() for row in rows.values() for name in row}
        rated, measured = (", ".join(sorted(names)[:3]) for names in (lost, there))
        raise UserError(
            f"no rated sample was measured; rated are {rated}, the run has {measured or 'none'}"
        )
    if lost:
        some = ", ".join(sorted(lost)[:3])
        notes.append(f"{len(lost)} rated samples lack a value of some metric, such as {some}.")
    return tuple(found), tuple(notes)


def _matched_systems(ratings: Sequence[Rating], run: Measured) -> dict[str, str]:
    """Return the run's name of every rated system; empty where it has none."""
    known = {name.strip().casefold(): name for rows in run.values.values() for name in rows}
    rated = dict.fromkeys(item.system for item in ratings)
    names = {name: known.get(name.casefold(), "") for name in rated}
    if not any(names.values()):
        raise UserError(
            f"no rated system is in the run; rated are {', '.join(rated)}; "
            f"the run has {', '.join(known.values())}"
        )
    return names


@dataclass(frozen=True)
class _Pair:
    """One sample of one system: its ratings, and the metric's record."""

    system: str
    scores: tuple[float, ...]
    value: Value


def _joined(
    ratings: Sequence[Rating],
    names: Mapping[str, str],
    values: Mapping[str, Mapping[str, Value]],
) -> tuple[list[_Pair], set[str]]:
    scores: dict[tuple[str, str], list[float]] = {}
    for item in ratings:
        scores.setdefault((names[item.system], item.sample), []).append(item.score)
    pairs, unknown = [], set()
    finders = {system: _finder(list(found)) for system, found in values.items()}
    for (system, sample), given in scores.items():
        if not system:
            continue
        key = finders[system](sample)
        if key is None:
            unknown.add(sample)
        else:
            pairs.append(_Pair(system, tuple(given), values[system][key]))
    return pairs, unknown


def _finder(ids: Sequence[str]) -> Callable[[str], str | None]:
    whole = {_bare(name): name for name in ids}
    ends: dict[str, list[str]] = {}
    for name in ids:
        ends.setdefault(PurePosixPath(_bare(name)).name, []).append(name)

    def find(sample: str) -> str | None:
        bare = _bare(sample)
        if bare in whole:
            return whole[bare]
        like = ends.get(PurePosixPath(bare).name, [])
        return like[0] if len(like) == 1 else None

    return find


def _bare(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)


def _levels(metric: Metric, pairs: Sequence[_Pair]) -> Iterator[Correlation]:
    by_system: dict[str, list[_Pair]] = {}
    for pair in pairs:
        by_system.setdefault(pair.system, []).append(pair)
    if not by_system:
        return
    means = [
        (_mean([score for pair in found for score in pair.scores]), _total(metric, found))
        for found in by_system.values()
    ]
    yield _correlation(metric, "systems", means)
    yield _correlation(metric, "samples", _points(pairs))
    for system, found in by_system.items():
        yield _correlation(metric, f"samples of {system}", _points(found))


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)


def _total(metric: Metric, pairs: Sequence[_Pair]) -> float:
    """Return the metric's aggregate over the rated samples of one system."""
    values = [pair.value for pair in pairs]
    groups = [str(i) for i in range(len(values))]
    return stats.estimate(values, groups, aggregate=metric.aggregate, draws=1).value


def _points(pairs: Sequence[_Pair]) -> list[tuple[float, float]]:
    numbers = [(_mean(pair.scores), assemble.scalar(pair.value)) for pair in pairs]
    return [(rated, value) for rated, value in numbers if value is not None]


def _correlation(metric: Metric, level: str, points: Sequence[tuple[float, float]]) -> Correlation:
    known = [point for point in points if math.isfinite(point[1])]
    x, y = [a for a, _ in known], [b for _, b in known]
    enough = len(known) >= FEWEST
    pearson, spearman, kendall = (
        measure(x, y) if enough else math.nan
        for measure in (stats.pearson, stats.spearman, stats.kendall)
    )
    return Correlation(metric.name, metric.better, level, pearson, spearman, kendall, len(known))
