"""Published numbers: reading them, and the verdict beside ours."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from phonoscope.errors import SpecError
from phonoscope.leaderboard import Cell, Column, Leaderboard, Row, SampleValue
from phonoscope.reproduce import (
    Published,
    compare,
    ordering,
    orderings,
    parse_condition,
    read_published,
)
from phonoscope.types import Condition, Estimate

HEAD = "system,metric,value,std,n,dataset,condition,source,note\n"
SNR = Condition((("snr_db", -10),))


def row(
    system: str, value: float, *, n: int = 5, condition: Condition = SNR, **more: object
) -> Row:
    found = Estimate(value, value - 0.1, value + 0.1, 0.3, n, flags=("few_groups",))
    samples = tuple(SampleValue(f"s{i}", "g", value) for i in range(n))
    line = Row(system, "demo", "r1", condition, 0, "system", n, {"pesq_wb": Cell(found, samples)})
    return replace(line, **more)


def board(*rows: Row) -> Leaderboard:
    columns = (
        Column("pesq_wb", "PESQ", "MOS", "higher"),
        Column("nisqa", "NISQA", "MOS", "higher", planned=True),
        Column("lse_d", "LSE-D", "-", "lower", unavailable="weights_missing: no syncnet"),
    )
    return Leaderboard("t", "", "p", "lip2speech", columns, rows)


def paper(value: float = 2.0, **more: object) -> Published:
    item = Published("A", "pesq_wb", value, 0.2, 5, "snr_db=-10", "Table 1", "demo")
    return replace(item, **more)


def verdict(item: Published, *rows: Row, **options: object) -> str:
    return compare(board(*rows), [item], **options)[0].text


def write(folder: Path, text: str) -> Path:
    path = folder / "published.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_every_column(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "\ufeff" + HEAD + 'A,pesq_wb,2.31,0.4,1321,LRS3,"snr_db=-10, noise=babble",T1,"a, b"\n'
        "B,pesq_wb,-1,,,,,T1,\n",
    )
    first, second = read_published(path)
    assert first == Published(
        "A", "pesq_wb", 2.31, 0.4, 1321, "snr_db=-10, noise=babble", "T1", "LRS3", "a, b"
    )
    assert second == Published("B", "pesq_wb", -1.0, source="T1")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("system,metrc,value,source\n", 1, "did you mean 'metric'"),
        ("system,metric,value\n", 1, "'source' is missing"),
        ("", 1, "'system' is missing"),
        ("system,system,metric,value,source\n", 1, "twice"),
        (HEAD + "A,pesq_wb,2,,,,,T,\nA,pesq_wb,two,,,,,T,\n", 3, "column 'value': 'two'"),
        (HEAD + "A,pesq_wb,nan,,,,,T,\n", 2, "column 'value': 'nan'"),
        (HEAD + "A,pesq_wb,1,inf,,,,T,\n", 2, "column 'std'"),
        (HEAD + "A,pesq_wb,1,-1,,,,T,\n", 2, "column 'std': is negative"),
        (HEAD + "A,pesq_wb,1,,2.5,,,T,\n", 2, "column 'n': '2.5'"),
        (HEAD + "A,pesq_wb,1,,0,,,T,\n", 2, "column 'n'"),
        (HEAD + ",pesq_wb,1,,,,,T,\n", 2, "column 'system': is empty"),
        (HEAD + "A,pesq_wb,1,,,,,,\n", 2, "column 'source': is empty"),
        (HEAD + "A,pesq_wb,1,,,,loud,T,\n", 2, "column 'condition': 'loud'"),
        (HEAD + "A,pesq_wb,1,,,,,T,a,b\n", 2, "more cells than columns"),
        (HEAD + "A,pesq_wb,1,,,,,T,\nA,pesq_wb,2,,,,,T,\n", 3, "in line 2 already"),
        (HEAD + 'A,"pesq"x,1,,,,,T,\n', 2, "not valid CSV"),
    ],
)
def test_errors_name_file_line_and_column(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        read_published(path)
    message = str(caught.value)
    assert str(path) in message
    assert f"line {line}" in message
    assert words in message


def test_a_missing_or_binary_file_is_a_spec_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_published(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="cannot be read"):
        read_published(tmp_path / "b.csv")


def test_conditions_are_compared_by_value_not_by_spelling() -> None:
    assert parse_condition("snr_db=-10.0") == Condition((("snr_db", -10.0),))
    assert parse_condition(" - ") == parse_condition("") == Condition()
    assert verdict(paper(condition="snr_db=-10.0"), row("A", 2.0)) == "reproduced"
    with pytest.raises(ValueError, match="axis=value"):
        parse_condition("a=1, a=2")


def test_reproduced_within_the_interval_or_the_tolerance() -> None:
    assert verdict(paper(2.09), row("A", 2.0)) == "reproduced"
    assert verdict(paper(2.11), row("A", 2.0)) == "differs"
    assert verdict(paper(2.11), row("A", 2.0), tolerance=0.2) == "reproduced"
    assert verdict(paper(2.11), row("A", 2.0), tolerance={"pesq_wb": 0.2}) == "reproduced"
    assert verdict(paper(2.11), row("A", 2.0), tolerance={"estoi": 0.2}) == "differs"


def test_without_an_interval_half_a_printed_digit_decides() -> None:
    found = Estimate(2.004, math.nan, math.nan, math.nan, 5)
    line = row("A", 2.0, cells={"pesq_wb": Cell(found)})
    assert verdict(paper(2.0), line) == "reproduced"
    assert verdict(paper(2.01), line) == "differs"
    assert compare(board(line), [paper()])[0].tolerance == pytest.approx(0.005)


def test_the_board_states_its_tolerances() -> None:
    stated = replace(board(row("A", 2.0)), tolerances={"pesq_wb": 1.0})
    assert compare(stated, [paper(2.9)])[0].verdict == "reproduced"


def test_other_samples_are_not_comparable() -> None:
    assert verdict(paper(n=1321), row("A", 2.0)) == "not comparable: subset (n=5 of 1321)"
    assert "other samples (n=5, published n=4)" in verdict(paper(n=4), row("A", 2.0))
    assert verdict(paper(n=None), row("A", 2.0)) == "reproduced"
    text = verdict(paper(dataset="LRS3"), row("A", 2.0))
    assert text == "not comparable: other data set (demo, published on LRS3)"


def test_flags_and_lossy_copies_are_not_comparable() -> None:
    found = Estimate(2.0, 1.9, 2.1, 0.1, 5, flags=("few_groups", "rank_deficient"))
    assert "rank_deficient" in verdict(paper(), row("A", 2.0, cells={"pesq_wb": Cell(found)}))
    assert "lossy" in verdict(paper(), row("A", 2.0, marks=("lossy",)))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"system": "Z"}, "the board has no such system"),
        ({"condition": "snr_db=5"}, "not under this condition"),
        ({"metric": "nisqa"}, "planned"),
        ({"metric": "lse_d"}, "weights_missing: no syncnet"),
        ({"metric": "wer"}, "the board has no wer"),
    ],
)
def test_not_run_says_why(change: dict[str, str], why: str) -> None:
    assert verdict(paper(**change), row("A", 2.0)) == f"not run: {why}"


def test_nan_is_not_run() -> None:
    found = Estimate(math.nan, math.nan, math.nan, math.nan, 0, 5)
    line = row("A", 2.0, cells={"pesq_wb": Cell(found)})
    assert verdict(paper(), line) == "not run: no sample was measured"


def test_the_row_of_the_same_data_set_is_preferred() -> None:
    rows = row("A", 9.0, dataset="other"), row("A", 2.0)
    assert verdict(paper(), *rows) == "reproduced"


def test_difference_is_ours_minus_published() -> None:
    assert compare(board(row("A", 2.5)), [paper(2.0)])[0].difference == pytest.approx(0.5)


def test_ordering_is_spearman_over_systems_in_both() -> None:
    rows = [row("A", 3.0), row("B", 2.0), row("C", 1.0), row("D", 0.5), row("noisy", 0.0)]
    rows[-1] = replace(rows[-1], kind="reference")
    values = {"A": 3.6, "B": 2.9, "C": 3.1, "E": 9.0, "noisy": 7.0}
    items = [paper(value, system=name, n=1321) for name, value in values.items()]
    found = ordering(board(*rows), items, "pesq_wb")
    assert found is not None
    assert found.systems == ("A", "B", "C")
    assert found.rho == pytest.approx(0.5)
    assert ordering(board(*rows), items, "nisqa") is None


def test_two_systems_have_no_ordering() -> None:
    items = [paper(1.0), paper(2.0, system="B")]
    (found,) = orderings(board(row("A", 1.0), row("B", 2.0)), items)
    assert math.isnan(found.rho)


def test_a_flat_side_has_no_ordering() -> None:
    rows = [row(name, 1.0) for name in "ABC"]
    items = [paper(i, system=name) for i, name in enumerate("ABC")]
    (found,) = orderings(board(*rows), items)
    assert math.isnan(found.rho)
