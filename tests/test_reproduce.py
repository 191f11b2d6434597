"""Published numbers: reading them, and the verdict beside ours."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from typer.testing import CliRunner, Result

from phonoscope import cli, media
from phonoscope.errors import SpecError
from phonoscope.leaderboard import Cell, Column, Leaderboard, Row, SampleValue
from phonoscope.reproduce import (
    HEADS,
    Published,
    compare,
    counts,
    exit_code,
    narrowed,
    orderings,
    parse_condition,
    read_published,
    require_columns,
    summary,
    table,
    to_json,
    to_markdown,
    tolerances,
)
from phonoscope.stats import estimate
from phonoscope.types import Audio, Condition, Estimate

HEAD = "system,metric,value,std,n,dataset,condition,source,note\n"
SNR = Condition((("snr_db", -10),))
EQUAL = "reproduced: equal as printed"
INSIDE = "reproduced: inside our 95 % interval"
COMBINED = "reproduced: within the combined 95 % uncertainty"
OUTSIDE = "differs: outside our 95 % interval; of few groups, so the interval is too narrow"


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
        "A", "pesq_wb", 2.31, 0.4, 1321, "snr_db=-10, noise=babble", "T1", "LRS3", "a, b", 2
    )
    assert second == Published("B", "pesq_wb", -1.0, source="T1", decimals=2)


@pytest.mark.parametrize(
    ("texts", "decimals"),
    [(("2.31", "0.5"), 2), (("22", "7"), 0), (("1e-3", "1"), 3), (("1e3",), 0), (("0.50",), 2)],
)
def test_a_column_of_a_source_prints_as_its_longest_number(
    tmp_path: Path, texts: tuple[str, ...], decimals: int
) -> None:
    lines = "".join(f"S{i},wer,{text},,,,,T1,\n" for i, text in enumerate(texts))
    found = read_published(write(tmp_path, HEAD + lines + "S,wer,1,,,,,T2,\nS,lps,1,,,,,T1,\n"))
    assert {item.decimals for item in found[: len(texts)]} == {decimals}
    assert [item.decimals for item in found[len(texts) :]] == [0, 0]


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
    assert verdict(paper(condition="snr_db=-10.0"), row("A", 2.0)) == EQUAL
    with pytest.raises(ValueError, match="axis=value"):
        parse_condition("a=1, a=2")


def test_reproduced_within_the_interval_or_the_tolerance() -> None:
    """Ours is 2.0 in [1.9, 2.1], and what the paper prints as 2.10 may be 2.105."""
    alone = {"std": None}
    assert verdict(paper(2.005, **alone), row("A", 2.0)) == EQUAL
    assert verdict(paper(2.09, **alone), row("A", 2.0)) == INSIDE
    assert verdict(paper(2.104, **alone), row("A", 2.0)) == INSIDE
    assert verdict(paper(2.11, **alone), row("A", 2.0)) == OUTSIDE
    assert verdict(paper(2.11, decimals=1, **alone), row("A", 2.0)) == INSIDE
    assert verdict(paper(2.04, decimals=1, **alone), row("A", 2.0)) == EQUAL
    near = "reproduced: within the tolerance 0.2"
    assert verdict(paper(2.11, **alone), row("A", 2.0), tolerance=0.2) == near
    assert verdict(paper(2.11, **alone), row("A", 2.0), tolerance={"pesq_wb": 0.2}) == near
    assert verdict(paper(2.11, **alone), row("A", 2.0), tolerance={"estoi": 0.2}) == OUTSIDE


def test_the_combined_uncertainty_is_that_of_two_independent_means() -> None:
    """Held against scipy's interval of a normal difference: se of ours from its 95 % interval."""
    ours, theirs = 0.2 / (2 * norm.ppf(0.975)), 0.2 / math.sqrt(5)
    half = norm.interval(0.95, scale=math.sqrt(ours**2 + theirs**2))[1]
    (found,) = compare(board(row("A", 2.0)), [paper(2.15)])
    assert found.combined == pytest.approx(half, rel=1e-9)
    assert found.text == COMBINED
    assert verdict(paper(2.0 + half + 0.0049), row("A", 2.0)) == COMBINED
    text = verdict(paper(2.0 + half + 0.0051), row("A", 2.0))
    assert text.startswith("differs: the difference is 1.0 times the combined 95 % uncertainty")
    assert math.isnan(compare(board(row("A", 2.0)), [paper(std=None)])[0].combined)


def test_a_published_std_of_zero_leaves_our_interval() -> None:
    assert verdict(paper(2.09, std=0.0), row("A", 2.0)) == INSIDE
    assert verdict(paper(2.2, std=0.0), row("A", 2.0)).startswith("differs: the difference is 2.0")


def test_faithful_cells_are_reproduced_and_others_are_not() -> None:
    """Two draws of one system: about 95 in 100 reproduce. A shift of four errors: hardly any."""
    rng = np.random.default_rng(5)

    def share(shift: float) -> float:
        good = 0
        for _ in range(400):
            ours, theirs = rng.normal(0, 1, 400), rng.normal(shift, 1, 400)
            found = estimate(ours.tolist(), [str(i) for i in range(400)], draws=400)
            line = row("A", 0.0, n=400, cells={"pesq_wb": Cell(found)})
            item = paper(round(theirs.mean(), 2), std=theirs.std(), n=400, decimals=2)
            good += compare(board(line), [item])[0].verdict == "reproduced"
        return good / 400

    assert 0.93 < share(0.0) < 0.99
    assert share(4 * math.sqrt(2 / 400)) < 0.05


def test_without_an_interval_half_a_printed_digit_decides() -> None:
    found = Estimate(2.004, math.nan, math.nan, math.nan, 5)
    line = row("A", 2.0, cells={"pesq_wb": Cell(found)})
    assert verdict(paper(2.0), line) == EQUAL
    assert verdict(paper(2.01), line) == (
        "differs: not equal as printed, and no interval is defined"
    )
    assert compare(board(line), [paper()])[0].tolerance == pytest.approx(0.005)
    assert compare(board(line), [paper(decimals=0)])[0].tolerance == pytest.approx(0.5)


def test_the_board_states_its_tolerances() -> None:
    stated = replace(board(row("A", 2.0)), tolerances={"pesq_wb": 1.0})
    assert compare(stated, [paper(2.9)])[0].verdict == "reproduced"


def test_other_samples_are_not_comparable() -> None:
    assert verdict(paper(n=1321), row("A", 2.0)) == "not comparable: subset (n=5 of 1321)"
    assert "other samples (n=5, published n=4)" in verdict(paper(n=4), row("A", 2.0))
    assert verdict(paper(n=None), row("A", 2.0)) == f"{EQUAL}; the source states no n"
    assert verdict(paper(9.0, n=None), row("A", 2.0)).endswith("; the source states no n")
    text = verdict(paper(dataset="LRS3"), row("A", 2.0))
    assert text == "not comparable: other data set (demo, published on LRS3)"


def test_flags_and_lossy_copies_are_not_comparable() -> None:
    found = Estimate(2.0, 1.9, 2.1, 0.1, 5, flags=("few_groups", "rank_deficient"))
    assert "rank_deficient" in verdict(paper(), row("A", 2.0, cells={"pesq_wb": Cell(found)}))
    assert "lossy" in verdict(paper(), row("A", 2.0, marks=("lossy",)))
    clean = row("A", 2.0, marks=("lossy",), kind="reference")
    assert verdict(paper(), clean) == EQUAL


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("[partial: 5 of 1321 clips]", "part of the data (5 of 1321 clips)"),
        ("[clean track: orig][:5]", "part of the data (the first 5 samples)"),
        ("[partial: a][:5]", "part of the data (a); part of the data (the first 5 samples)"),
        ("[clean track: orig][min_utterances=2]", ""),
    ],
)
@pytest.mark.parametrize("n", [5, None])
def test_a_part_of_the_data_is_not_comparable(end: str, why: str, n: int | None) -> None:
    """Also where the paper says no n, or where our n is the same by chance."""
    told = verdict(paper(n=n), row("A", 2.0, dataset_revision=f"r1{end}"))
    if why:
        assert told == f"not comparable: {why}"
    else:
        assert told.startswith(EQUAL)


@pytest.mark.parametrize("n", [5, None])
def test_failed_samples_are_not_comparable(n: int | None) -> None:
    found = Estimate(2.0, 1.9, 2.1, 0.1, 5, n_failed=2)
    line = row("A", 2.0, cells={"pesq_wb": Cell(found)})
    assert verdict(paper(n=n), line) == "not comparable: 2 of our samples failed"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"system": "Z"}, "the board has no such system"),
        ({"condition": "snr_db=5"}, "not under this condition"),
        ({"metric": "nisqa"}, "planned"),
        ({"metric": "wer"}, "the board has no wer"),
    ],
)
def test_not_run_says_why(change: dict[str, str], why: str) -> None:
    assert verdict(paper(**change), row("A", 2.0)) == f"not run: {why}"


def test_a_column_that_cannot_run_here_is_unavailable() -> None:
    text = verdict(paper(metric="lse_d"), row("A", 2.0))
    assert text == "unavailable: weights_missing"
    made = board(row("A", 2.0))
    items = compare(made, [paper(metric="lse_d"), paper(metric="lse_d", system="B")])
    report = to_markdown(made, items)
    assert report.count("no syncnet") == 1
    assert "- Unavailable here: lse\\_d: weights\\_missing: no syncnet" in report
    assert json.loads(to_json(made, items))["unavailable"] == {
        "lse_d": "weights_missing: no syncnet"
    }


def test_not_run_names_the_error_that_most_samples_have() -> None:
    found = Estimate(math.nan, math.nan, math.nan, math.nan, 0, 3)
    samples = [("a", "missing_clip", "x"), ("b", "too_short", "y"), ("c", "missing_clip", "x")]
    told = tuple(SampleValue(s, "g", None, "failed", code, text) for s, code, text in samples)
    line = row("A", 2.0, cells={"pesq_wb": Cell(found, told)})
    assert verdict(paper(), line) == "not run: no sample was measured (missing_clip: x)"


def test_nan_is_not_run() -> None:
    found = Estimate(math.nan, math.nan, math.nan, math.nan, 0, 5)
    line = row("A", 2.0, cells={"pesq_wb": Cell(found)})
    assert verdict(paper(), line) == "not run: no sample was measured"


def test_the_row_of_the_same_data_set_is_preferred() -> None:
    rows = row("A", 9.0, dataset="other"), row("A", 2.0)
    assert verdict(paper(), *rows) == EQUAL


def test_difference_is_ours_minus_published() -> None:
    assert compare(board(row("A", 2.5)), [paper(2.0)])[0].difference == pytest.approx(0.5)


def test_ordering_is_spearman_over_systems_in_both() -> None:
    rows = [row("A", 3.0), row("B", 2.0), row("C", 1.0), row("D", 0.5), row("noisy", 0.0)]
    rows[-1] = replace(rows[-1], kind="reference")
    values = {"A": 3.6, "B": 2.9, "C": 3.1, "E": 9.0, "noisy": 7.0}
    items = [paper(value, system=name, n=1321) for name, value in values.items()]
    (found,) = orderings(board(*rows), items)
    assert found.metric == "pesq_wb"
    assert found.systems == ("A", "B", "C")
    assert found.rho == pytest.approx(0.5)
    assert orderings(board(*rows), [paper(1.0, system="E")]) == ()


def test_two_systems_have_no_ordering() -> None:
    items = [paper(1.0), paper(2.0, system="B")]
    (found,) = orderings(board(row("A", 1.0), row("B", 2.0)), items)
    assert math.isnan(found.rho)


def test_a_flat_side_has_no_ordering() -> None:
    rows = [row(name, 1.0) for name in "ABC"]
    items = [paper(i, system=name) for i, name in enumerate("ABC")]
    (found,) = orderings(board(*rows), items)
    assert math.isnan(found.rho)


def items_of(*values: float, **more: object) -> list:
    return list(compare(board(row("A", 2.0)), [paper(v, std=None, **more) for v in values]))


def test_exit_codes_and_the_summary() -> None:
    good, bad, other = items_of(2.0), items_of(3.0), items_of(2.0, n=7)
    assert exit_code(good) == exit_code(good + other) == 0
    assert exit_code(good + other + bad) == exit_code(bad) == 1
    assert exit_code(other) == exit_code([]) == 3
    assert exit_code(good, strict=True) == 0
    assert exit_code(good + other, strict=True) == 3
    assert exit_code(good + bad + other, strict=True) == 1
    assert counts(good + other)["not comparable"] == 1
    assert summary(good + good + other) == ("3 published numbers: 2 reproduced, 1 not comparable")
    assert "nothing to reproduce" in summary([])


def test_a_terminal_sees_verdicts_last_and_nothing_twice() -> None:
    items = items_of(2.0, 3.0)
    lines = table(board(row("A", 2.0)), items)
    heads, short = narrowed(lines)
    assert heads == ("system", "metric", *HEADS[5:], "verdict")
    assert [line[-1] for line in short] == [item.text for item in items]
    other = [*lines, ["x"] * len(HEADS)]
    assert {"condition", "source"} <= set(narrowed(other)[0])


def test_tolerances_are_read_or_refused() -> None:
    assert tolerances(["estoi=0.01", " pesq_wb = 1 "]) == {"estoi": 0.01, "pesq_wb": 1.0}
    for wrong in ("estoi", "=1", "estoi=x", "estoi=-1", "estoi=nan", "estoi=inf"):
        with pytest.raises(SpecError, match="write metric=number"):
            tolerances([wrong])


Command = Callable[..., Result]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `phonoscope reproduce` on a board of four tones in two groups, with noise in them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    for number in range(4):
        tone = np.sin(np.arange(16_000) * (0.05 + 0.02 * number)) * 0.3
        rough = tone + rng.standard_normal(16_000) * 0.03 * (1 + number)
        for folder, sound in (("clean", tone), ("model", rough)):
            path = tmp_path / "data" / folder / f"s{number % 2}" / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            media.write_wav(path, Audio(sound.astype(np.float32), 16_000))
    (tmp_path / "board").mkdir()
    (tmp_path / "board/protocol.yaml").write_text(
        "{name: tones, title: Tones, task: lip2speech, metrics: [si_sdr], planned: [wer_x],"
        " references: [{name: Clean, plugin: reference}],"
        " systems: [{name: Model, plugin: imported, params: {folder: ../data/model}}],"
        " datasets: [{name: tones, kind: folder, options: {reference: ../data/clean,"
        " inputs: {audio: ../data/clean}}}]}"
    )

    def run(source: str, *options: str) -> Result:
        running = ["--engine", "serial", "--tracking", "none", "--quiet"]
        return CliRunner().invoke(cli.app, ["reproduce", source, *options, *running])

    return run


def published(*lines: str) -> None:
    write(Path("board"), HEAD + "".join(line + "\n" for line in lines))


PROTOCOL = "board/protocol.yaml"


def test_reproduce_runs_a_board_and_then_reads_its_store(command: Command) -> None:
    published("Model,si_sdr,0,,4,,,Table 1,", "Model,wer_x,0.4,,4,,,Table 1,")
    first = command(PROTOCOL, "--json", "-")
    assert first.exit_code == 1, first.output
    ours = json.loads(first.stdout)["cells"][0]["ours"]
    assert ours["n"] == 4
    published(
        f"Model,si_sdr,{ours['value']:.2f},,4,,,Table 1,",
        "Clean,si_sdr,100.00,,1321,,,Table 1,",
        "Model,wer_x,0.40,,4,,,Table 1,",
        "Other,si_sdr,4,,4,,,Table 1,",
    )
    for options in ((PROTOCOL, "--no-run"), ("runs/tones",)):
        done = command(*options, "--markdown", "out/report.md", "--json", "out/report.json")
        assert done.exit_code == 0, done.output
        heads, *lines = [line.split("\t") for line in done.stdout.splitlines()[:5]]
        assert heads == list(HEADS)
        assert [line[4] for line in lines] == [
            EQUAL,
            "not comparable: subset (n=4 of 1321)",
            "not run: planned",
            "not run: the board has no such system",
        ]
        assert "4 published numbers: 1 reproduced, 1 not comparable, 2 not run" in done.stdout
    report = Path("out/report.md").read_text("utf-8")
    assert report.startswith("# Tones: reproduction\n\n4 published numbers: 1 reproduced")
    assert "not comparable: subset (n=4 of 1321)" in report
    assert "si\\_sdr v" in report
    found = json.loads(Path("out/report.json").read_text("utf-8"))
    assert found["schema"] == "phonoscope.reproduction/1"
    assert found["counts"]["reproduced"] == 1
    assert found["recipes"]["si_sdr"]["views"]
    assert [cell["verdict"] for cell in found["cells"]][:2] == ["reproduced", "not comparable"]
    assert command(PROTOCOL, "--no-run", "--strict").exit_code == 3


def test_reproduce_measures_only_what_it_is_asked_to(command: Command) -> None:
    published("Model,si_sdr,0,,4,,,Table 1,")
    missing = command(PROTOCOL, "--no-run")
    assert missing.exit_code == 2
    assert "runs/tones" in missing.stderr
    assert not Path("runs").exists()
    subset = command(PROTOCOL, "--limit", "2")
    assert subset.exit_code == 3
    assert "subset (n=2 of 4)" in subset.stdout


def test_a_board_without_published_numbers_is_run_all_the_same(command: Command) -> None:
    done = command(PROTOCOL)
    assert done.exit_code == 3
    assert "no published numbers" in done.stdout
    assert Path("runs/tones/board/leaderboard.md").is_file()


def test_the_board_command_draws_the_figures(command: Command) -> None:
    published("Model,si_sdr,0,,4,,,Table 1,")
    assert command(PROTOCOL).exit_code == 1
    for formats, names in (("svg", ["si_sdr-box.svg"]), ("md", [])):
        done = CliRunner().invoke(
            cli.app, ["board", "runs/tones", "--formats", formats, "--output", formats]
        )
        assert done.exit_code == 0, done.output
        assert [path.name for path in Path(formats, "figures").glob("*")] == names


def test_a_tolerance_decides(command: Command) -> None:
    published("Model,si_sdr,0,,4,,,Table 1,")
    done = command(PROTOCOL, "--tolerance", "si_sdr=100")
    assert done.exit_code == 0, done.output
    assert "reproduced: within the tolerance 100" in done.stdout
    assert command(PROTOCOL, "--tolerance", "si_sdr").exit_code == 2
    wrong = command(PROTOCOL, "--tolerance", "si_sd=1")
    assert wrong.exit_code == 2 and "did you mean si_sdr?" in wrong.stderr


@pytest.mark.parametrize("source", ["nowhere", "nowhere.yaml"])
def test_what_is_no_board_is_exit_code_2(command: Command, source: str) -> None:
    done = command(source)
    assert done.exit_code == 2
    assert done.stderr
    assert done.stdout == ""


def test_a_tolerance_of_no_column_is_refused() -> None:
    with pytest.raises(SpecError, match=r"--tolerance pesq: .*did you mean pesq_wb\? metrics are"):
        require_columns({"pesq_wb": 0.1, "pesq": 0.1}, ["pesq_wb", "nisqa"])
