"""Figures: well-formed, escaped, readable ticks, nothing drawn that was not measured."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phonoscope import figures
from phonoscope.figures import Group, Point, Series, curve, distribution, number, ticks

SVG = "{http://www.w3.org/2000/svg}"
LINE = tuple(Point(x, 1 + x / 10, 0.9 + x / 10, 1.2 + x / 10) for x in (-10.0, 0.0, 5.0))


def draw(series: list[Series], **options: object) -> ET.Element:
    text = curve(series, x_label="SNR (dB)", y_label="PESQ", title="PESQ", **options)
    return ET.fromstring(text)


def classes(root: ET.Element, name: str) -> list[ET.Element]:
    return [item for item in root.iter() if name in (item.get("class") or "").split()]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-20, 5, [-20, -15, -10, -5, 0, 5]),
        (1.03, 4.4, [2, 3, 4]),
        (0.31, 0.52, [0.35, 0.4, 0.45, 0.5]),
        (3, 3, [3]),
        (0, math.inf, [0]),
    ],
)
def test_ticks_are_round_numbers_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_stay_inside_and_are_few(low: float, span: float) -> None:
    marks = ticks(low, low + span)
    slack = span * 1e-6 + abs(low) * 1e-9
    assert 1 <= len(marks) <= 12
    assert all(low - slack <= mark <= low + span + slack for mark in marks)
    assert marks == sorted(set(marks))


def test_number_has_a_true_minus_and_no_negative_zero() -> None:
    assert number(-1.25, 1) == "\N{MINUS SIGN}1.2"
    assert number(-0.001, 2) == "0.00"
    assert number(-0.0, 0) == "0"


def test_a_curve_has_a_marker_per_point_a_band_and_a_legend() -> None:
    root = draw([Series("a", LINE, 0), Series("b", LINE, 1, dashed=True)])
    assert len(classes(root, "b")) == 2
    assert len(classes(root, "m")) == 2 * 3 + 2
    assert len(classes(root, "r")) == 2  # the dashed line, and its legend entry
    shapes = {item.get("d") for item in classes(root, "m")}
    assert len(shapes) == 8
    assert {item.text for item in root.iter(f"{SVG}text")} >= {"a", "b", "SNR (dB)"}


def test_markers_of_different_series_have_different_shapes() -> None:
    drawn = {figures.marker(slot, 0, 0) for slot in (*range(figures.GREY), figures.NEUTRAL)}
    assert len(drawn) == figures.GREY + 1


def test_points_are_drawn_where_their_values_are() -> None:
    root = draw([Series("a", LINE)], legend=False)
    line = classes(root, "l")[0].get("d") or ""
    (x0, y0), (x1, y1), (x2, y2) = (
        (float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", line)
    )
    assert x0 < x1 < x2
    assert y0 > y1 > y2
    assert (x1 - x0) / (x2 - x1) == pytest.approx(2, abs=0.02)
    assert (y0 - y1) / (y1 - y2) == pytest.approx(2, abs=0.02)


def test_a_gap_stays_a_gap() -> None:
    points = (Point(0, 1), Point(1, math.nan), Point(2, 1.5), Point(3, 2))
    root = draw([Series("a", points)], legend=False)
    assert len(classes(root, "m")) == 3
    assert len(classes(root, "l")) == 1
    assert "nan" not in ET.tostring(root, "unicode").lower()


def test_a_single_point_with_an_interval_gets_a_whisker() -> None:
    root = draw([Series("a", (Point(0, 1, 0.5, 1.5),))], legend=False)
    assert len(classes(root, "w")) == 1
    assert not classes(root, "b")


def test_equal_values_and_no_values_are_drawn_too() -> None:
    lines = [[Series("a", (Point(0, 2), Point(1, 2)))], [Series("a", (Point(0, math.nan),))], []]
    assert all(draw(series).tag.endswith("svg") for series in lines)
    for groups in ([], [Group("a", (1.0, 1.0))]):
        assert ET.fromstring(distribution(groups, label="x", title="t")).tag.endswith("svg")


def test_distribution_draws_every_sample_a_box_and_the_mean() -> None:
    values = (1.0, 2.0, 3.0, 4.0, 50.0)
    text = distribution(
        [Group("a", values, tuple("vwxyz")), Group("empty", ())], label="MOS", title="t"
    )
    root = ET.fromstring(text)
    tips = [item.text for item in root.iter(f"{SVG}title")]
    assert [tip for tip in tips if tip and tip.startswith("z")] == ["z: 50.00"]
    assert len(classes(root, "d")) == 5
    assert "a: mean 12.00, n = 5" in tips
    assert "nothing measured" in text


def test_whiskers_stop_at_the_last_value_within_reach() -> None:
    text = distribution([Group("a", (1.0, 2.0, 3.0, 4.0, 50.0))], label="x", title="t")
    root = ET.fromstring(text)
    whisker = classes(root, "w")[0].get("d") or ""
    dots = sorted(float(item.get("cx") or 0) for item in classes(root, "d"))
    assert f"H{figures._px(dots[3])}" in whisker
    assert f"H{figures._px(dots[4])}" not in whisker


def test_many_samples_are_thinned_with_both_ends_kept() -> None:
    values = tuple(float(i) for i in range(5000))
    root = ET.fromstring(distribution([Group("a", values)], label="x", title="t", decimals=0))
    tips = [item.text for item in root.iter(f"{SVG}title")]
    assert len(classes(root, "d")) == figures.DRAWN
    assert {"0", "4999"} <= set(tips)
    assert any("n = 5000" in (tip or "") for tip in tips)


def test_standalone_brings_its_own_colours_for_both_themes() -> None:
    text = curve([Series("a", LINE)], x_label="x", y_label="y", title="t")
    assert text.startswith("<svg xmlns=")
    assert "prefers-color-scheme:dark" in text
    assert len(re.findall("http", text)) == 1
    inline = curve([Series("a", LINE)], x_label="x", y_label="y", title="t", standalone=False)
    assert "<style" not in inline
    assert "http" not in inline


@given(st.text(max_size=40))
def test_any_name_gives_well_formed_xml(name: str) -> None:
    series, groups = [Series(name, LINE)], [Group(name, (1.0, 2.0), (name, name))]
    for text in (
        curve(series, x_label=name, y_label=name, title=name),
        distribution(groups, label=name, title=name),
    ):
        assert ET.fromstring(text).tag.endswith("svg")
        assert text.encode()


def test_shorten_keeps_short_names_and_cuts_long_ones() -> None:
    assert figures.shorten("abc", 100) == "abc"
    cut = figures.shorten("a" * 300, 100)
    assert cut.endswith("…")
    assert len(cut) < 17
