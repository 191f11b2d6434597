"""Figures as SVG: a metric against a numeric condition, the spread over samples, shares of votes.

An SVG of ours needs nothing outside itself. Standalone, it brings its own colours for light and
dark and a background, so it can be read in a README; inside a page (`standalone=False`) the page
includes `STYLE` once. The first colours are Okabe and Ito's; the others were searched for: under
simulated protanopia, deuteranopia and tritanopia, as for everybody else, any two of the eight and
the grey of references differ by 8 or more (CIEDE2000). Every series has a marker of its own, so
that nothing depends on colour.

References
----------
Okabe and Ito, Color Universal Design, 2008. Machado, Oliveira and Fernandes, A physiologically
based model for simulation of color vision deficiency, IEEE TVCG 15, 2009. Tukey, Exploratory Data
Analysis, 1977 (the box).
"""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

LIGHT = ("#0072B2", "#D55E00", "#009E73", "#BE7FAA", "#3C0064", "#8C503C", "#7F7FFA", "#501400")
DARK = ("#4DA6E0", "#FF8A47", "#2CC79B", "#FFC8F0", "#FFFF00", "#8C7850", "#6478A0", "#B4FFB4")
GREY = len(LIGHT)
NEUTRAL = 1000
DRAWN = 150
BANDS = 5
BUBBLES = 12
BOLDER = 1.2

_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',Helvetica,Arial,sans-serif"
# Pixels at 12 px in DejaVu Sans, the widest of the fonts above.
_CHAR, _CAPITAL, _WIDE = 7.2, 8.4, 12.0
_WIDTHS = dict.fromkeys(" iIjl.,:;'|![]()/\\", 3.9) | dict.fromkeys("mwMW@%+=<>~_±", 10.4)
_INVALID = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def _palette(colours: Sequence[str]) -> str:
    return "".join(f".pf .s{i}{{color:{colour}}}" for i, colour in enumerate(colours))


STYLE = (
    f".pf{{font-family:{_FONT};font-size:12px;font-variant-numeric:tabular-nums}}"
    ".pf text{fill:#59636e}.pf .t{fill:#1f2328;font-size:13px;font-weight:600}"
    ".pf .k{fill:#1f2328}.pf .g{stroke:#e4e8ec;stroke-width:1}.pf .a{stroke:#9aa4ae;stroke-width:1}"
    ".pf .l{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}"
    ".pf .r{stroke-dasharray:5 4;stroke-width:1.6}.pf .b{fill:currentColor;opacity:.14}"
    ".pf .m{fill:currentColor;stroke:#fff;stroke-width:1.2}.pf .d{fill:currentColor;opacity:.5}"
    ".pf .q{fill:currentColor;fill-opacity:.13;stroke:currentColor;stroke-width:1.2}"
    ".pf .w{fill:none;stroke:currentColor;stroke-width:1.2}.pf .h{stroke-width:2.6}"
    ".pf .e{fill:none;stroke:currentColor;stroke-width:4.4;stroke-linecap:round;opacity:.45}"
    ".pf .o{fill:#fff;stroke:currentColor;stroke-width:1.8}.pf .i{stroke-width:2.2}"
    ".pf .n{fill:#fff;font-weight:600}.pf .v{fill:currentColor;opacity:.85}"
    ".pf .z{stroke:#1f2328;stroke-width:1.2;fill:none}.pf .bg{fill:#fff}"
    + _palette((*LIGHT, "#59636e"))
    + "@media screen and (prefers-color-scheme:dark){.pf text{fill:#9aa5b1}"
    ".pf .t,.pf .k{fill:#e8ecf0}.pf .g{stroke:#2a3038}.pf .a{stroke:#5d6773}"
    ".pf .m{stroke:#14171b}.pf .bg,.pf .o,.pf .n{fill:#14171b}.pf .z{stroke:#e8ecf0}"
    + _palette((*DARK, "#9aa5b1"))
    + "}"
)


@dataclass(frozen=True, slots=True)
class Point:
    """One estimate at `x`. `low` and `high` are NaN where there is no interval."""

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    note: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of `curve`.

    Attributes
    ----------
    slot : int
        Which colour and marker; from `NEUTRAL` on grey, for what is no system under test.
    dashed : bool
        For rows that are no systems under test.
    """

    label: str
    points: tuple[Point, ...]
    slot: int = 0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """One row of `distribution`: finite values and the sample that each belongs to.

    `low` and `high` are the interval of the mean; NaN where none is drawn.
    """

    label: str
    values: tuple[float, ...]
    names: tuple[str, ...] = ()
    slot: int = 0
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Share:
    """One row of `shares`: votes between `a` and `b`, and the interval of the share of `a`."""

    a: str
    b: str
    for_a: int
    for_b: int
    ties: int = 0
    low: float = math.nan
    high: float = math.nan
    slots: tuple[int, int] = (0, 1)


def printable(text: object) -> str:
    """Return `text` without characters that no HTML, XML or UTF-8 file may hold."""
    return _INVALID.sub("\N{REPLACEMENT CHARACTER}", str(text))


def escape(text: object) -> str:
    """Return `text` for HTML and XML, between tags or in a quoted attribute."""
    return html.escape(printable(text), quote=True)


def number(value: float, decimals: int) -> str:
    """Return a number with a true minus sign, and never a negative zero."""
    text = f"{value:.{decimals}f}"
    if text.startswith("-"):
        text = text[1:] if not text.strip("-0.") else "\N{MINUS SIGN}" + text[1:]
    return text


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return about `count` round numbers within [low, high]: steps of 1, 2, 2.5 or 5 times 10^k."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _decimals(marks: Sequence[float]) -> int:
    for decimals in range(7):
        if all(abs(round(mark, decimals) - mark) < 1e-9 for mark in marks):
            return decimals
    return 7


@dataclass(frozen=True)
class _Scale:
    """A linear map from values to pixels."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)


def _scale(values: Iterable[float], start: float, stop: float, *, pad: float = 0.05) -> _Scale:
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    margin = (high - low) * pad or max(abs(high), 1.0) * pad
    return _Scale(low - margin, high + margin, start, stop)


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _path(points: Iterable[tuple[float, float]], *, close: bool = False) -> str:
    return "M" + "L".join(f"{_px(x)} {_px(y)}" for x, y in points) + ("Z" if close else "")


def _width(text: str) -> float:
    return sum(map(_advance, text))


def _advance(char: str) -> float:
    if ord(char) > 0x2E7F:
        return _WIDE
    return _WIDTHS.get(char, _CAPITAL if char.isupper() else _CHAR)


def _title(text: str, width: float) -> str:
    # Bold and larger than the text that `shorten` measures.
    return f'<text class="t" x="12" y="20">{escape(shorten(text, (width - 24) / BOLDER))}</text>'


def shorten(text: str, pixels: float) -> str:
    """Return `text` cut to about that many pixels at 12 px, with an ellipsis."""
    text = printable(text)
    if _width(text) <= pixels:
        return text
    while text and _width(text) > pixels - _WIDE:
        text = text[:-1]
    return text.rstrip() + "…"


def _ring(corners: int, radius: float, turn: float) -> list[tuple[float, float]]:
    angles = [math.tau * (i / corners + turn) for i in range(corners)]
    return [(radius * math.sin(a), -radius * math.cos(a)) for a in angles]


def _cross(radius: float, turn: float) -> list[tuple[float, float]]:
    arm, r = radius * 0.36, radius
    outline = [
        (-arm, -r), (arm, -r), (arm, -arm), (r, -arm), (r, arm), (arm, arm),
        (arm, r), (-arm, r), (-arm, arm), (-r, arm), (-r, -arm), (-arm, -arm),
    ]  # fmt: skip
    c, s = math.cos(math.tau * turn), math.sin(math.tau * turn)
    return [(x * c - y * s, x * s + y * c) for x, y in outline]


def _star(radius: float) -> list[tuple[float, float]]:
    outer, inner = _ring(5, radius, 0), _ring(5, radius * 0.45, 0.1)
    return [corner for pair in zip(outer, inner, strict=True) for corner in pair]


_SHAPES: tuple[Callable[[float], list[tuple[float, float]]], ...] = (
    lambda r: _ring(24, r, 0),
    lambda r: _ring(4, r * 1.25, 0.125),
    lambda r: _ring(3, r * 1.35, 0),
    lambda r: _ring(4, r * 1.3, 0),
    lambda r: _ring(3, r * 1.35, 0.5),
    lambda r: _cross(r * 1.2, 0),
    lambda r: _cross(r * 1.2, 0.125),
    lambda r: _star(r * 1.45),
    lambda r: _ring(6, r, 0),
)


def marker(slot: int, x: float, y: float, *, radius: float = 4.2) -> str:
    """Return the marker of a series, as an SVG path of class ``m``."""
    corners = _SHAPES[_shape(slot)](radius)
    return f'<path class="m" d="{_path(((x + dx, y + dy) for dx, dy in corners), close=True)}"/>'


def swatch(slot: int, *, dashed: bool = False) -> str:
    """Return a legend entry's line and marker as a small inline SVG (for pages)."""
    return (
        '<svg class="pf" width="28" height="14" viewBox="0 0 28 14" aria-hidden="true">'
        f'<g class="s{_slot(slot)}"><path class="l{" r" if dashed else ""}" d="M1 7L27 7"/>'
        f"{marker(slot, 14, 7)}</g></svg>"
    )


def _slot(slot: int) -> int:
    return GREY if slot >= NEUTRAL else slot % GREY


def _shape(slot: int) -> int:
    """Return which shape a slot has: of systems the first, of the rest the last comes first."""
    return (slot if slot < NEUTRAL else slot - NEUTRAL + GREY) % len(_SHAPES)


def curve(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    title: str,
    legend: bool = True,
    standalone: bool = True,
    width: int = 460,
    height: int = 300,
    decimals: int = 2,
) -> str:
    """Draw a metric against a numeric condition, with intervals.

    They are bands where there are at most `BANDS` series, and bars beside each other where more
    bands would hide one another.

    Parameters
    ----------
    series : sequence of Series
        A point whose `y` is NaN leaves a gap.
    legend : bool
        Whether the names stand above the plot.
    standalone : bool
        Whether the SVG brings its own colours and background.

    Returns
    -------
    str
        One ``<svg>`` element.
    """
    key, key_height = _legend(series, width) if legend else ("", 0.0)
    top, bottom = 34 + key_height, 46
    height += round(key_height)
    points = [p for one in series for p in one.points if math.isfinite(p.y)]
    edges = [v for p in points for v in (p.y, p.low, p.high)]
    y = _scale(edges, height - bottom, top)
    marks = ticks(y.low, y.high)
    left = 22 + max(_width(number(mark, _decimals(marks))) for mark in marks) + 6
    x = _scale([p.x for p in points], left, width - 16, pad=0.04)
    body = [
        _title(title, width),
        key,
        _grid(x, y, marks, _x_ticks(x, points), width=width),
        _axis_titles(x_label, y_label, left=left, width=width, top=top, height=height),
        *(_spread(one, i, len(series), x, y) for i, one in enumerate(series)),
        *(_line(one, x, y, decimals) for one in series),
    ]
    names = ", ".join(one.label for one in series)
    about = f"{title}: {y_label} against {x_label}, for {names}"
    return _svg(body, width, height, about=about, standalone=standalone)


def _x_ticks(x: _Scale, points: Sequence[Point]) -> list[float]:
    seen = sorted({p.x for p in points})
    pixels = [x(value) for value in seen]
    roomy = all(b - a >= 26 for a, b in pairwise(pixels))
    return seen if seen and roomy else ticks(x.low, x.high, count=6)


def _grid(
    x: _Scale, y: _Scale, y_marks: Sequence[float], x_marks: Sequence[float], *, width: int
) -> str:
    parts, floor = [], y.start
    for mark in y_marks:
        at, text = _px(y(mark)), number(mark, _decimals(y_marks))
        parts.append(f'<path class="g" d="M{_px(x.start)} {at}H{width - 16}"/>')
        parts.append(
            f'<text x="{_px(x.start - 6)}" y="{at}" dy=".34em" text-anchor="end">{text}</text>'
        )
    for mark in x_marks:
        at, text = _px(x(mark)), number(mark, _decimals(x_marks))
        parts.append(f'<path class="a" d="M{at} {_px(floor)}v4"/>')
        parts.append(f'<text x="{at}" y="{_px(floor + 17)}" text-anchor="middle">{text}</text>')
    parts.append(f'<path class="a" d="M{_px(x.start)} {_px(floor)}H{width - 16}"/>')
    return "".join(parts)


def _axis_titles(
    x_label: str, y_label: str, *, left: float, width: int, top: float, height: int
) -> str:
    middle, half = (left + width - 16) / 2, (top + height - 46) / 2
    return (
        f'<text x="{_px(middle)}" y="{height - 10}" text-anchor="middle">'
        f"{escape(shorten(x_label, width - left))}</text>"
        f'<text transform="translate(16 {_px(half)}) rotate(-90)" text-anchor="middle">'
        f"{escape(shorten(y_label, height - top - 46))}</text>"
    )


def _runs(points: Sequence[Point], known: Callable[[Point], bool]) -> Iterator[list[Point]]:
    ordered = sorted(points, key=lambda p: p.x)
    for good, run in groupby(ordered, key=known):
        if good:
            yield list(run)


def _spread(series: Series, number: int, count: int, x: _Scale, y: _Scale) -> str:
    if count <= BANDS:
        return _band(series, x, y)
    shift = (number - (count - 1) / 2) * min(2.4, 12 / count)
    known = (p for p in series.points if math.isfinite(p.low) and math.isfinite(p.high))
    bars = [_bar(x(p.x) + shift, y(p.low), y(p.high)) for p in known]
    return f'<g class="s{_slot(series.slot)}">{"".join(bars)}</g>'


def _bar(x: float, low: float, high: float) -> str:
    caps = "".join(f"M{_px(x - 2)} {_px(end)}h4" for end in (low, high))
    return f'<path class="w" d="M{_px(x)} {_px(low)}V{_px(high)}{caps}"/>'


def _band(series: Series, x: _Scale, y: _Scale) -> str:
    parts = []
    for run in _runs(series.points, lambda p: math.isfinite(p.low) and math.isfinite(p.high)):
        ring = [(x(p.x), y(p.high)) for p in run] + [(x(p.x), y(p.low)) for p in reversed(run)]
        shape = _path(ring, close=True)
        parts.append(f'<path class="b" d="{shape}"/>' if len(run) > 1 else _whisker(run[0], x, y))
    return f'<g class="s{_slot(series.slot)}">{"".join(parts)}</g>'


def _whisker(point: Point, x: _Scale, y: _Scale) -> str:
    at = _px(x(point.x))
    return f'<path class="w" d="M{at} {_px(y(point.low))}V{_px(y(point.high))}"/>'


def _line(series: Series, x: _Scale, y: _Scale, decimals: int) -> str:
    parts = []
    for run in _runs(series.points, lambda p: math.isfinite(p.y)):
        if len(run) > 1:
            dash = " r" if series.dashed else ""
            parts.append(f'<path class="l{dash}" d="{_path((x(p.x), y(p.y)) for p in run)}"/>')
        for point in run:
            tip = escape(_point_text(series.label, point, decimals))
            drawn = marker(series.slot, x(point.x), y(point.y))
            parts.append(f"<g><title>{tip}</title>{drawn}</g>")
    return f'<g class="s{_slot(series.slot)}">{"".join(parts)}</g>'


def _point_text(label: str, point: Point, decimals: int) -> str:
    text = f"{label}, {number(point.x, _decimals([point.x]))}: {number(point.y, decimals)}"
    if math.isfinite(point.low) and math.isfinite(point.high):
        text += f" [{number(point.low, decimals)}, {number(point.high, decimals)}]"
    return f"{text} {point.note}".rstrip()


def _legend(series: Sequence[Series], width: int) -> tuple[str, float]:
    parts, x, y = [], 12.0, 40.0
    for one in series:
        label = shorten(one.label, 170)
        wide = 30 + _width(label) + 16
        if x > 12 and x + wide > width:
            x, y = 12.0, y + 19
        dash = " r" if one.dashed else ""
        parts.append(
            f'<g class="s{_slot(one.slot)}"><path class="l{dash}" d="M{_px(x)} {_px(y)}h24"/>'
            f"{marker(one.slot, x + 12, y)}</g>"
            f'<text class="k" x="{_px(x + 30)}" y="{_px(y)}" dy=".34em">{escape(label)}</text>'
        )
        x += wide
    return "".join(parts), (y - 40 + 22 if series else 0.0)


def distribution(
    groups: Sequence[Group],
    *,
    label: str,
    title: str,
    decimals: int = 2,
    standalone: bool = True,
    width: int = 460,
    limits: tuple[float, float] | None = None,
    tips: bool = True,
) -> str:
    """Draw every sample's value as a dot, with box, median and mean (a diamond) per group.

    The box spans the quartiles, the whiskers reach to the last value within 1.5 times its length;
    the mean's interval is a bar through its diamond. At most `DRAWN` dots are drawn per group,
    evenly by rank with both ends; box and mean use all values. Where there are many values and at
    most `BUBBLES` different ones, such as opinion scores, a disc per value stands in the place of
    dots, its area the share of the value.

    Parameters
    ----------
    limits : (float, float), optional
        Ends of the axis; those of the values by default.
    tips : bool
        Whether every dot tells its sample when it is pointed at. Files are smaller without.

    Returns
    -------
    str
        One ``<svg>`` element.
    """
    left = 24 + min(max((_width(g.label) for g in groups), default=0), width * 0.34) + 14
    ends = [v for g in groups for v in (*g.values, g.low, g.high)] if limits is None else limits
    x = _scale(ends, left, width - 16, pad=0.04)
    row, top = 40, 34
    floor = top + row * max(len(groups), 1)
    height = floor + 46
    dots = _discs if _few(groups) else _dots if tips else _plain_dots
    body = [
        _title(title, width),
        _columns(x, top, floor, width),
        *(
            _strip(g, x, top + row * (i + 0.5), left, decimals, dots=dots)
            for i, g in enumerate(groups)
        ),
        f'<text x="{_px((left + width - 16) / 2)}" y="{height - 10}" text-anchor="middle">'
        f"{escape(shorten(label, width - left))}</text>",
    ]
    about = f"{title}: {label}, for {', '.join(g.label for g in groups)}"
    return _svg(body, width, height, about=about, standalone=standalone)


def _few(groups: Sequence[Group]) -> bool:
    different = {value for group in groups for value in group.values}
    return len(different) <= BUBBLES < max((len(group.values) for group in groups), default=0)


_Dots = Callable[[Group, "_Scale", float, int], Iterator[str]]


def _columns(x: _Scale, top: float, floor: float, width: int) -> str:
    marks = ticks(x.low, x.high)
    lines = [
        f'<path class="g" d="M{_px(x(mark))} {_px(top)}V{_px(floor)}"/>'
        f'<text x="{_px(x(mark))}" y="{_px(floor + 17)}" text-anchor="middle">'
        f"{number(mark, _decimals(marks))}</text>"
        for mark in marks
    ]
    return "".join([*lines, f'<path class="a" d="M{_px(x.start)} {_px(floor)}H{width - 16}"/>'])


def _strip(group: Group, x: _Scale, y: float, left: float, decimals: int, *, dots: _Dots) -> str:
    name = escape(shorten(group.label, left - 34))
    parts = [
        marker(group.slot, 16, y),
        f'<text class="k" x="26" y="{_px(y)}" dy=".34em"><title>{escape(group.label)}</title>'
        f"{name}</text>",
    ]
    if group.values:
        parts += [*dots(group, x, y, decimals), _box(group, x, y), _mean(group, x, y, decimals)]
    else:
        parts.append(f'<text x="{_px(left + 8)}" y="{_px(y)}" dy=".34em">nothing measured</text>')
    return f'<g class="s{_slot(group.slot)}">{"".join(parts)}</g>'


def _picked(group: Group, x: _Scale, y: float) -> Iterator[tuple[float, float, float, str]]:
    """Yield place, value and name of the dots that are drawn."""
    names = group.names or ("",) * len(group.values)
    ordered = sorted(zip(group.values, names, strict=True))
    picks = sorted({round(i) for i in np.linspace(0, len(ordered) - 1, DRAWN)})
    for i, pick in enumerate(picks):
        value, name = ordered[pick]
        # The golden ratio keeps neighbours in rank apart, so that dots do not hide each other.
        lane = (i * 0.6180339887) % 1 - 0.5
        yield x(value), y + lane * 18, value, name


def _dots(group: Group, x: _Scale, y: float, decimals: int) -> Iterator[str]:
    for at, lane, value, name in _picked(group, x, y):
        tip = f"{escape(name)}: {number(value, decimals)}" if name else number(value, decimals)
        place = f'cx="{_px(at)}" cy="{_px(lane)}"'
        yield f'<circle class="d" {place} r="2.2"><title>{tip}</title></circle>'


def _plain_dots(group: Group, x: _Scale, y: float, _decimals: int) -> Iterator[str]:
    """Yield all dots as one path: round ends of lines without length."""
    points = (f"M{_px(at)} {_px(lane)}h0" for at, lane, *_ in _picked(group, x, y))
    yield f'<path class="e" d="{"".join(points)}"/>'


def _discs(group: Group, x: _Scale, y: float, decimals: int) -> Iterator[str]:
    counts = Counter(group.values)
    for value, count in sorted(counts.items()):
        radius = 15 * math.sqrt(count / len(group.values))
        tip = f"{number(value, decimals)}: {count} of {len(group.values)}"
        place = f'cx="{_px(x(value))}" cy="{_px(y)}" r="{_px(max(radius, 1))}"'
        yield f'<circle class="d" {place}><title>{tip}</title></circle>'


def _box(group: Group, x: _Scale, y: float) -> str:
    values = np.sort(np.asarray(group.values, dtype=float))
    q1, median, q3 = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    reach = 1.5 * (q3 - q1)
    low = float(values[values >= q1 - reach][0])
    high = float(values[values <= q3 + reach][-1])
    box = f'x="{_px(x(q1))}" y="{_px(y - 12)}" width="{_px(max(x(q3) - x(q1), 1))}" height="24"'
    return (
        f'<path class="w" d="M{_px(x(low))} {_px(y)}H{_px(x(q1))}'
        f'M{_px(x(q3))} {_px(y)}H{_px(x(high))}"/>'
        f'<rect class="q" {box} rx="2"/>'
        f'<path class="w h" d="M{_px(x(median))} {_px(y - 12)}v24"/>'
    )


def _mean(group: Group, x: _Scale, y: float, decimals: int) -> str:
    value = math.fsum(group.values) / len(group.values)
    tip = f"{escape(group.label)}: mean {number(value, decimals)}, n = {len(group.values)}"
    bar = ""
    if math.isfinite(group.low) and math.isfinite(group.high):
        tip += f", 95 % {number(group.low, decimals)} to {number(group.high, decimals)}"
        caps = "".join(f"M{_px(x(end))} {_px(y - 5)}v10" for end in (group.low, group.high))
        bar = f'<path class="w i" d="M{_px(x(group.low))} {_px(y)}H{_px(x(group.high))}{caps}"/>'
    corners = _path(((x(value) + dx, y + dy) for dx, dy in _ring(4, 6.2, 0)), close=True)
    return f'<g><title>{tip}</title>{bar}<path class="o" d="{corners}"/></g>'


def shares(rows: Sequence[Share], *, title: str, standalone: bool = True, width: int = 640) -> str:
    """Draw votes between two systems as a divided bar, with the interval of the division.

    Ties are no part of the bar; their number stands behind it.

    Returns
    -------
    str
        One ``<svg>`` element.
    """
    sides = [[row.a for row in rows], [_other(row) for row in rows]]
    left, right = (16 + min(max(map(_width, side), default=0), width * 0.3) for side in sides)
    x = _Scale(0.0, 100.0, left, width - right)
    step, top = 40, 34
    floor = top + step * max(len(rows), 1)
    half = f'<path class="z" stroke-dasharray="3 3" d="M{_px(x(50))} {top}V{floor}"/>'
    marks = [
        f'<text x="{_px(x(mark))}" y="{floor + 15}" text-anchor="middle">{mark} %</text>'
        for mark in (0, 25, 50, 75, 100)
    ]
    body = [_title(title, width)]
    body += [_divided(row, x, top + step * (i + 0.5), width) for i, row in enumerate(rows)]
    label = "share of the votes that are no ties, with exact 95 % intervals"
    body += [
        half,
        *marks,
        f'<text x="{_px((x.start + x.stop) / 2)}" y="{floor + 36}" text-anchor="middle">'
        f"{label}</text>",
    ]
    about = f"{title}: votes for {', '.join(f'{row.a} against {row.b}' for row in rows)}"
    return _svg(body, width, floor + 48, about=about, standalone=standalone)


def _other(row: Share) -> str:
    ties = f" ({row.ties} tie{'s' * (row.ties != 1)})" if row.ties else ""
    return row.b + ties


def _divided(row: Share, x: _Scale, y: float, width: int) -> str:
    a, b = escape(shorten(row.a, x.start - 14)), escape(shorten(_other(row), width - x.stop - 14))
    parts = [
        f'<text class="k" x="{_px(x.start - 8)}" y="{_px(y)}" dy=".34em" text-anchor="end">{a}'
        f'</text><text class="k" x="{_px(x.stop + 8)}" y="{_px(y)}" dy=".34em">{b}</text>'
    ]
    if row.for_a + row.for_b:
        cut = x(100 * row.for_a / (row.for_a + row.for_b))
        ends = ((row.for_a, x.start, cut, 0), (row.for_b, cut, x.stop, 1))
        parts += [_part(row, *end, y=y) for end in ends]
        low, high = x(100 * row.low), x(100 * row.high)
        parts.append(
            f'<path class="z" d="M{_px(low)} {_px(y + 15)}H{_px(high)}M{_px(low)} {_px(y + 12)}v6'
            f'M{_px(high)} {_px(y + 12)}v6"/>'
        )
    return "".join(parts)


def _part(row: Share, count: int, start: float, stop: float, side: int, *, y: float) -> str:
    """Draw one side of a divided bar; its count stands at its outer end where there is room."""
    box = f'x="{_px(start)}" y="{_px(y - 11)}" width="{_px(stop - start)}" height="22"'
    at, anchor = ((start + 6, "start"), (stop - 6, "end"))[side]
    tip = f"{count} for {escape((row.a, row.b)[side])}"
    text = (
        f'<text class="n" x="{_px(at)}" y="{_px(y)}" dy=".34em" text-anchor="{anchor}">{count}'
        "</text>"
        if stop - start > _width(str(count)) + 12
        else ""
    )
    rect = f'<rect class="v" {box}><title>{tip}</title></rect>'
    return f'<g class="s{_slot(row.slots[side])}">{rect}{text}</g>'


def _svg(body: Iterable[str], width: int, height: float, *, about: str, standalone: bool) -> str:
    size = f'viewBox="0 0 {width} {_px(height)}"'
    label = f'role="img" aria-label="{escape(about)}"'
    if not standalone:
        return f'<svg class="pf" {size} {label}>{"".join(body)}</svg>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pf" width="{width}" '
        f'height="{_px(height)}" {size} {label}><style>{STYLE}</style>'
        f'<rect class="bg" width="{width}" height="{_px(height)}" rx="8"/>{"".join(body)}</svg>\n'
    )
