"""Figures: well-formed, escaped, readable ticks, nothing drawn that was not measured."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import deltaE_ciede2000, rgb2lab

from phonoscope import figures, runner
from phonoscope.figures import (
    Group,
    Point,
    Series,
    Share,
    curve,
    distribution,
    number,
    shares,
    ticks,
)
from phonoscope.leaderboard import Cell, Column, Leaderboard, Row, SampleValue
from phonoscope.types import Condition, Estimate

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


# Colours


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def seen(colour: str, eye: list[list[float]]) -> np.ndarray:
    """Return the CIELAB colour that such an eye sees."""
    value = np.clip(np.array(eye) @ linear(colour), 0, 1)
    shown = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return rgb2lab(shown[None, None])[0, 0]


# Machado, Oliveira and Fernandes 2009, severity 1.
EYES = {
    "normal": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize(
    ("colours", "grey"), [(figures.LIGHT, "#59636e"), (figures.DARK, "#9aa5b1")]
)
def test_every_eye_tells_the_colours_apart(colours: tuple[str, ...], grey: str, eye: str) -> None:
    assert grey in figures.STYLE
    labs = [seen(colour, EYES[eye]) for colour in (*colours, grey)]
    least = min(deltaE_ciede2000(a, b) for a, b in itertools.combinations(labs, 2))
    assert least >= 8


@pytest.mark.parametrize(("colours", "paper"), [(figures.LIGHT, 1.0), (figures.DARK, 0.007)])
def test_colours_stand_out_from_the_paper(colours: tuple[str, ...], paper: float) -> None:
    shares = (0.2126, 0.7152, 0.0722)
    for colour in colours:
        light = float(linear(colour) @ shares)
        assert (max(light, paper) + 0.05) / (min(light, paper) + 0.05) >= 2.9, colour


def test_nine_systems_and_three_references_look_all_different() -> None:
    slots = [*range(9), *range(figures.NEUTRAL, figures.NEUTRAL + 3)]
    looks = {(figures._slot(slot), figures._shape(slot)) for slot in slots}
    assert len(looks) == len(slots)
    assert {figures._slot(slot) for slot in slots[-3:]} == {figures.GREY}
    assert figures.GREY not in {figures._slot(slot) for slot in slots[:-3]}


# Many series, many ties, means, votes


def test_bars_take_the_place_of_bands_that_would_hide_each_other() -> None:
    few = draw([Series(f"s{i}", LINE, i) for i in range(figures.BANDS)])
    many = draw([Series(f"s{i}", LINE, i) for i in range(figures.BANDS + 1)])
    assert (len(classes(few, "b")), len(classes(few, "w"))) == (figures.BANDS, 0)
    bars = classes(many, "w")
    assert (len(classes(many, "b")), len(bars)) == (0, 3 * (figures.BANDS + 1))
    places = {re.match(r"M([\d.]+) ", bar.get("d") or "")[1] for bar in bars}
    assert len(places) == len(bars)


def test_legend_entries_do_not_touch() -> None:
    names = ["Clean", "Noisy", "SGMSE+", "AV-Gen", "WWW@@@", "IL2S (SSL)", "MMMMM", "LipDiffuser"]
    text, _ = figures._legend([Series(name, LINE, i) for i, name in enumerate(names)], 460)
    lines = re.findall(r'd="M([\d.]+) ([\d.]+)h24"', text)
    texts = re.findall(r'class="k" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)<', text)
    for (x, y, name), (next_x, next_y) in zip(texts[:-1], lines[1:], strict=True):
        assert y != next_y or float(x) + figures._width(name) < float(next_x)


def test_the_interval_of_the_mean_is_drawn_and_told() -> None:
    group = Group("a", (1.0, 2.0, 3.0), (), 0, 1.5, 2.75)
    root = ET.fromstring(distribution([group], label="x", title="t"))
    tips = [item.text for item in root.iter(f"{SVG}title")]
    assert "a: mean 2.00, n = 3, 95 % 1.50 to 2.75" in tips
    assert len(classes(root, "i")) == 1
    assert len(classes(root, "o")) == 1
    bare = ET.fromstring(distribution([Group("a", (1.0, 2.0))], label="x", title="t"))
    assert not classes(bare, "i")


def test_few_different_values_are_discs_whose_area_is_their_share() -> None:
    values = (1.0,) * 16 + (2.0,) * 4 + (5.0,) * 1
    root = ET.fromstring(
        distribution([Group("a", values), Group("b", (3.0,))], label="x", title="t")
    )
    discs = [(float(d.get("r") or 0), d[0].text) for d in classes(root, "d")]
    assert [text for _, text in discs][:3] == ["1.00: 16 of 21", "2.00: 4 of 21", "5.00: 1 of 21"]
    assert discs[0][0] / discs[1][0] == pytest.approx(2, abs=0.03)
    assert discs[0][0] / discs[2][0] == pytest.approx(4, abs=0.06)


def test_without_tips_the_same_dots_are_one_path() -> None:
    group = Group("a", tuple(float(i * i) for i in range(40)))
    full = ET.fromstring(distribution([group], label="x", title="t"))
    short = ET.fromstring(distribution([group], label="x", title="t", tips=False))
    dots = {(d.get("cx"), d.get("cy")) for d in classes(full, "d")}
    path = classes(short, "e")[0].get("d") or ""
    assert set(re.findall(r"M([\d.]+) ([\d.]+)h0", path)) == dots
    assert not classes(short, "d")


def test_limits_are_the_ends_of_the_axis() -> None:
    root = ET.fromstring(
        distribution([Group("a", (40.0, 60.0))], label="x", title="t", limits=(0, 100))
    )
    assert {"0", "100"} <= {item.text for item in root.iter(f"{SVG}text")}


def test_votes_divide_a_bar_where_their_share_is() -> None:
    row = Share("X", "Y", 30, 10, 2, 0.6, 0.9, (2, 5))
    root = ET.fromstring(shares([row, Share("X", "Z", 0, 0, 3)], title="t"))
    first, second = classes(root, "v")
    wide, narrow = (float(part.get("width") or 0) for part in (first, second))
    assert wide / narrow == pytest.approx(3, abs=0.02)
    start = float(first.get("x") or 0)
    ends = re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", classes(root, "z")[0].get("d") or "")
    low, high = (float(end) for end in ends[0])
    assert (low - start) / (wide + narrow) == pytest.approx(0.6, abs=0.002)
    assert (high - start) / (wide + narrow) == pytest.approx(0.9, abs=0.002)
    texts = {item.text for item in root.iter(f"{SVG}text")}
    assert {"30", "10", "X", "Y (2 ties)", "Z (3 ties)"} <= texts
    assert {tip.text for tip in root.iter(f"{SVG}title")} == {"30 for X", "10 for Y"}


def test_a_count_stands_only_where_there_is_room() -> None:
    root = ET.fromstring(shares([Share("X", "Y", 999, 1)], title="t"))
    assert "1" not in {item.text for item in root.iter(f"{SVG}text")}
    assert "1 for Y" in {tip.text for tip in root.iter(f"{SVG}title")}


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_name_of_a_voted_system_is_well_formed(a: str, b: str) -> None:
    assert ET.fromstring(shares([Share(a, b, 3, 4, 1, 0.1, 0.8)], title=a)).tag.endswith("svg")


# The board's figures


def test_a_board_has_curves_and_a_box_plot_per_point(tmp_path: Path) -> None:
    samples = tuple(SampleValue(f"s{i}", "g", 1.0 + i) for i in range(3))
    rows = [
        Row(name, "demo", "r", Condition((("snr_db", snr),)), 0, "system", 3, {
            "pesq_wb": Cell(Estimate(2.0, 1.5, 2.5, 0.8, 3), samples),
            "wer": Cell(Estimate(1.0, 0.5, 1.5, math.nan, 3), samples),
        })
        for snr in (0, -10)
        for name in ("a", "b")
    ]  # fmt: skip
    columns = (Column("pesq_wb", "PESQ", "MOS", "higher"), Column("wer", "WER", "-", "lower"))
    board = Leaderboard("t", "", "p", "lip2speech", columns, tuple(rows))
    files = runner.drawn(board, tmp_path)
    names = {path.name for path in files}
    boxes = {f"{m}-box-snr_db_{s}.svg" for m in ("pesq_wb", "wer") for s in ("0", "-10")}
    assert names == {"pesq_wb.svg", "wer.svg"} | boxes
    assert all(path.parent == tmp_path / "figures" for path in files)
    pesq, wer = (
        (tmp_path / "figures" / f"{name}-box-snr_db_-10.svg").read_text("utf-8")
        for name in ("pesq_wb", "wer")
    )
    assert "a: mean 2.00, n = 3, 95 % 1.50 to 2.50" in pesq
    # The board's WER is no mean over samples, so its interval is not the diamond's.
    assert "a: mean 2.00, n = 3<" in wer


def test_a_title_is_cut_to_what_bold_letters_leave_room_for() -> None:
    """They are about a fifth wider than what `shorten` measures."""
    text = "WER (QuartzNet15x5Base-En, evalse_tfs, utterance mean) " * 3
    root = ET.fromstring(distribution([Group("a", (1.0, 2.0))], label="x", title=text))
    title = classes(root, "t")[0].text or ""
    assert title.endswith("…")
    assert figures._width(title) * 1.15 <= 460 - 24
