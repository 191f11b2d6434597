"""The leaderboard's formats: golden files, escaping, marks, and no number where there is none."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import leaderboard
from phonoscope.leaderboard import (
    FORMATS,
    Cell,
    Column,
    Leaderboard,
    Published,
    Row,
    SampleValue,
    places,
    render,
    sections,
    to_csv,
    to_html,
    to_json,
    to_latex,
    to_markdown,
)
from phonoscope.types import Condition, Estimate

GOLDEN = Path(__file__).parent / "golden"
PESQ = Column("pesq_wb", "PESQ", "MOS", "higher", encoder="net")
WER = Column("wer", "WER", "%", "lower", decimals=1)
NASTY = "<script>alert('x')</script> & \"q\" \\textbf{} $_{1}^{2}$ 100% #~|`*[a](b) 混合 \u202e\x00"


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_board", GOLDEN / "board.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small() -> Leaderboard:
    return _maker().small()


def cell(value: float, samples: str = "abc", **more: Any) -> Cell:
    found = Estimate(value, value - 0.1, value + 0.1, 0.25, len(samples))
    return Cell(replace(found, **more), tuple(SampleValue(s, s, value) for s in samples))


def row(system: str, value: float, **more: Any) -> Row:
    cells = {"pesq_wb": cell(value), "wer": cell(10 * value)}
    line = Row(system, "demo", "r1", Condition(), 0, "system", 3, cells)
    return replace(line, **more)


def board(*rows: Row, **more: Any) -> Leaderboard:
    made = Leaderboard("Title", "What it is.", "p", "lip2speech", (PESQ, WER), rows)
    return replace(made, **more)


class Page(HTMLParser):
    """Texts, tags and attributes of a page; tags that never close fail."""

    VOID = frozenset({"meta", "link", "br", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, name: str, **wanted: str) -> Iterator[dict[str, str | None]]:
        for tag, attributes in self.tags:
            if tag == name and wanted.items() <= attributes.items():
                yield attributes


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_golden(small: Leaderboard, name: str) -> None:
    expected = (GOLDEN / f"leaderboard.{name}").read_text(encoding="utf-8")
    assert FORMATS[name](small) == expected, "if this is wanted, run tests/golden/board.py"


def test_render_writes_the_same_bytes_twice(small: Leaderboard, tmp_path: Path) -> None:
    first = render(small, tmp_path / "a" / "b")
    second = render(_maker().small(), tmp_path / "c")
    assert [path.name for path in first] == [f"leaderboard.{name}" for name in FORMATS]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_render_takes_formats_and_refuses_others(small: Leaderboard, tmp_path: Path) -> None:
    (path,) = render(small, tmp_path, formats=["csv"])
    assert path.read_text(encoding="utf-8") == to_csv(small)
    with pytest.raises(ValueError, match="no format 'pdf'"):
        render(small, tmp_path, formats=["pdf"])


def test_best_and_second_follow_the_direction() -> None:
    rows = row("a", 3.0), row("b", 2.0), row("c", 1.0)
    assert places(rows, PESQ) == {0: 1, 1: 2}
    assert places(rows, WER) == {2: 1, 1: 2}


def test_values_that_print_alike_share_a_mark() -> None:
    rows = row("a", 3.001), row("b", 3.0), row("c", 1.0)
    assert places(rows, PESQ) == {0: 1, 1: 1, 2: 2}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "reference"},
        {"kind": "control"},
        {"marks": ("not_ranked",)},
        {"encoders": ("net",)},
        {"cells": {"pesq_wb": replace(cell(9.0), marks=("leakage",))}},
        {"cells": {"pesq_wb": cell(9.0, "ab")}},
        {"cells": {"pesq_wb": cell(9.0, "abd")}},
        {"cells": {"pesq_wb": Cell(None)}},
        {"cells": {"pesq_wb": cell(math.nan)}},
        {"cells": {}},
        {"seed": 1},
    ],
)
def test_what_is_not_comparable_takes_no_mark(change: dict[str, Any]) -> None:
    rows = row("a", 3.0), row("b", 2.0), row("c", 9.0, **change)
    assert places(rows, PESQ) == {0: 1, 1: 2}


def test_a_single_system_is_not_best() -> None:
    assert places([row("a", 3.0)], PESQ) == {}


def test_conditions_are_marked_apart() -> None:
    rows = [
        row(name, value, condition=Condition((("snr_db", snr),)))
        for snr, values in ((0, (3.0, 2.0)), (-5, (1.0, 2.0)))
        for name, value in zip("ab", values, strict=True)
    ]
    (section,) = sections(board(*rows))
    assert [places(block.rows, PESQ) for block in section.blocks] == [{0: 1, 1: 2}, {1: 1, 0: 2}]


def test_leakage_gets_a_dagger_and_its_explanation() -> None:
    made = board(row("a", 3.0, encoders=("net",)), row("b", 2.0), row("c", 1.0))
    assert "3.00†" in to_markdown(made)
    assert r"3.00\textdagger{}" in to_latex(made)
    assert "† The system was trained or guided" in to_markdown(made)
    assert "†" not in to_markdown(board(row("a", 3.0), row("b", 2.0)))


def test_latex_bolds_the_best_and_underlines_the_second() -> None:
    text = to_latex(board(row("a", 3.0), row("b", 2.0), row("c", 1.0)))
    assert r"\textbf{3.00} {\scriptsize $\pm$ 0.25}" in text
    assert r"\underline{2.00}" in text
    assert r"\toprule" in text


def test_latex_escapes_every_special() -> None:
    text = to_latex(board(row(NASTY, 3.0), row("[b]", 2.0)))
    line = next(line for line in text.splitlines() if "script" in line and "&" in line)
    name = line.split(" & ")[0]
    bare = re.sub(r"\\[a-z]+\{\}|\\[&%$#_{}]|-\{\}|\{''\}", "", name)
    assert not set('&%$#_\\^~<>|`"') & set(bare)
    assert bare.count("{") == bare.count("}") == 1
    assert "{[b]} & " in text
    assert text.count(r"\\" + "\n") == 3


def test_markdown_tables_keep_their_shape() -> None:
    text = to_markdown(board(row(NASTY + "\n\nx|y", 3.0), row("b", 2.0)))
    table = [line for line in text.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
    assert widths == {6}
    assert "<script" not in text
    assert r"\*" in text


def test_nothing_measured_is_a_dash_with_a_reason_and_never_nan() -> None:
    nothing = Cell(Estimate(math.nan, math.nan, math.nan, math.nan, 0, 2, 1))
    planned = Column("lse", "LSE", "-", "lower", planned=True)
    gone = Column("fad", "FAD", "-", "lower", unavailable="weights_missing: no vggish")
    lines = row("a", 3.0, cells={"pesq_wb": nothing}), row("b", 2.0)
    made = board(*lines, columns=(PESQ, WER, planned, gone))
    for name in FORMATS:
        assert not re.search(r"(?i)\bnan\b", FORMATS[name](made)), name
    for text in (to_markdown(made), to_html(made)):
        assert "no sample was measured (2 failed, 1 not supported)" in text
        assert "not measured" in text
        assert "planned" in text
        assert "Unavailable here: fad: weights_missing: no vggish" in text.replace("\\", "")
    statuses = [line["status"] for line in csv.DictReader(io.StringIO(to_csv(made)))]
    first, second = ["failed", "not_measured"], ["ok", "ok"]
    rest = ["planned", "unavailable"]
    assert statuses == [*first, *rest, *second, *rest]


def test_infinity_is_printed_and_null_in_json() -> None:
    made = board(row("a", 3.0, cells={"pesq_wb": cell(math.inf, std=math.nan)}), row("b", 2.0))
    assert "∞" in to_markdown(made)
    assert r"$\infty$" in to_latex(made)
    found = json.loads(to_json(made))["rows"][0]["cells"]["pesq_wb"]
    assert found["estimate"]["value"] is None
    assert found["status"] == "ok"


def test_csv_has_a_line_per_row_and_metric(small: Leaderboard) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(small))))
    assert len(lines) == len(small.rows) * len(small.columns)
    keys = [(line["system"], line["condition"], line["metric"]) for line in lines]
    assert keys == [
        (row.system, str(row.condition), column.metric)
        for row in small.rows
        for column in small.columns
    ]
    for line, (item, column) in zip(
        lines, ((r, c) for r in small.rows for c in small.columns), strict=True
    ):
        found = item.cells.get(column.metric)
        if found and found.estimate:
            assert float(line["value"]) == found.estimate.value
            assert int(line["n_failed"]) == found.estimate.n_failed


def test_json_is_the_whole_board(small: Leaderboard) -> None:
    found = json.loads(to_json(small))
    assert found["schema"] == "phonoscope.leaderboard/1"
    assert [item["metric"] for item in found["columns"]] == [c.metric for c in small.columns]
    first = found["rows"][0]
    assert first["condition"] == {"snr_db": 0}
    samples = first["cells"]["wer_pocketsphinx_grid"]["samples"]
    assert {len(samples[name]) for name in ("sample", "group", "value", "status")} == {6}
    assert samples["value"][5] is None
    assert [item["code"] for item in samples["remarks"]] == ["no_transcript"]
    assert {item["verdict"] for item in found["published"]} >= {"differs", "not run"}
    failed = [row for row in found["rows"] if row["generation_failures"]]
    assert failed[0]["generation_failures"][0]["code"] == "missing_clip"


def test_rows_with_failures_are_marked_and_listed(small: Leaderboard) -> None:
    markdown, html = to_markdown(small), to_html(small)
    assert r"spectral\_gate (incomplete, not ranked) | 6 | 2 |" in markdown
    for text in (markdown, html):
        assert "PESQ found no speech in the reference" in text
        assert "no such file" in text
    assert ">2 failed<" in html


def test_generation_failures_are_listed_once_not_per_metric(small: Leaderboard) -> None:
    found = [item for item in leaderboard.troubles(small) if item.code == "missing_clip"]
    assert len(found) == 2
    assert all(item.metrics == () for item in found)


def test_published_rows_stand_apart_with_verdicts(small: Leaderboard) -> None:
    page = Page(to_html(small))
    classes = [attributes.get("class") for attributes in page.all("tr")]
    assert classes.count("published") == 5
    assert "subset (n=6 of 1321)" in page.texts
    assert "not comparable: subset (n=6 of 1321)" in to_markdown(small)
    assert "Spearman" in to_markdown(small)


def test_published_numbers_of_a_point_that_was_not_run_have_their_own_block() -> None:
    item = Published("a", "pesq_wb", 2.0, source="T1", condition="snr_db=-40")
    made = board(row("a", 3.0), row("b", 2.0), published=(item,))
    (section,) = sections(made)
    assert [len(block.rows) for block in section.blocks] == [2, 0]
    assert "SNR \N{MINUS SIGN}40 dB" in to_html(made)
    empty = board(published=(item,))
    assert "not run: the board has no such system" in to_markdown(empty)


def test_the_page_loads_nothing(small: Leaderboard) -> None:
    text = to_html(replace(small, published=()))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in {"img", "iframe", "object", "embed", "base"}
        assert not attributes.get("src")
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in (policy["content"] or "")


def test_sources_that_are_urls_stay_text(small: Leaderboard) -> None:
    page = Page(to_html(small))
    assert any("https://example.org" in text for text in page.texts)
    assert not any("example" in (a.get("href") or "") for a in page.all("a"))


def test_the_script_is_the_one_that_the_policy_allows(small: Leaderboard) -> None:
    import base64
    import hashlib

    text = to_html(small)
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in text.replace("&#39;", "'")
    assert text.count("<script>") == 1


def test_the_page_is_accessible(small: Leaderboard) -> None:
    page = Page(to_html(small))
    assert len(list(page.all("caption"))) == len(list(page.all("table")))
    assert all(attributes.get("scope") for attributes in page.all("th"))
    figures = list(page.all("svg", role="img"))
    assert len(figures) == 4 + 2 * 4
    assert all(attributes.get("aria-label") for attributes in figures)
    tips = [a for a in page.all("td") if a.get("tabindex") == "0"]
    assert any("95 % interval" in (a.get("title") or "") for a in tips)
    anchors = {(a["href"] or "")[1:] for a in page.all("a")}
    assert anchors <= {a.get("id") for _, a in page.tags}


def test_weights_and_versions_are_in_the_page(small: Leaderboard) -> None:
    texts = Page(to_html(small)).texts
    assert "8a3f1c0d9b7e6f5a4c3b2a1908f7e6d5c4b3a29180f7e6d5c4b3a29180f7e6d5" in texts
    assert {"CC-BY-4.0", "2.2.6", "dnsmos/model_v8"} <= set(texts)


def test_markup_in_texts_is_only_text() -> None:
    failure = ((NASTY, "decode_error", NASTY),)
    made = board(
        row(NASTY, 3.0, generation_failures=failure, trained_on=(NASTY,)),
        row("b", 2.0, marks=(NASTY,)),
        title=NASTY,
        description=NASTY,
        notes=(NASTY,),
        provenance={NASTY: {NASTY: [NASTY]}},
        columns=(replace(PESQ, label=NASTY, unit=NASTY, recipe={NASTY: NASTY}), WER),
        published=(Published(NASTY, "pesq_wb", 2.0, source=NASTY, note=NASTY),),
    )
    page = Page(to_html(made))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    for name in ("md", "tex"):
        assert "\x00" not in FORMATS[name](made)
    json.loads(to_json(made))


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_names_give_valid_files(first: str, second: str) -> None:
    source = Published(second, "pesq_wb", 2.0, source=first, note=second)
    rows = row(first, 3.0, generation_failures=((second, first, second),)), row("b" + second, 2.0)
    made = board(*rows, title=first, published=(source,))
    Page(to_html(made))
    lines = list(csv.DictReader(io.StringIO(to_csv(made), newline="")))
    assert [line["metric"] for line in lines] == ["pesq_wb", "wer"] * 2
    assert {line["kind"] for line in lines} == {"system"}
    json.loads(to_json(made))
    for make in FORMATS.values():
        make(made).encode("utf-8")


def test_several_data_sets_seeds_and_axes_have_their_own_places() -> None:
    rows = [
        row("a", 2.0 + seed, dataset=data, seed=seed, condition=Condition(axes))
        for data in ("one", "two")
        for seed in (0, 1)
        for axes in (
            (("noise", "babble"), ("snr_db", 0)),
            (("noise", "babble"), ("snr_db", -5)),
        )
    ]
    text = to_html(board(*rows))
    assert "noise babble" in text
    assert "a, seed 1" in text
    markdown = to_markdown(board(*rows))
    assert "## one" in markdown
    assert "| noise | SNR (dB) | System | seed |" in markdown
    assert to_latex(board(*rows)).count(r"\begin{table}") == 2


def test_an_empty_board_is_a_page_too() -> None:
    for make in FORMATS.values():
        assert make(board())


def test_failures_beyond_the_limit_are_counted() -> None:
    many = tuple((f"s{i}", "decode_error", "broken") for i in range(150))
    text = to_markdown(board(row("a", 1.0, generation_failures=many)))
    assert "50 more are in the JSON file." in text
