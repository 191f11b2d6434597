"""The packaged boards of LipDiffuser and GRID: their published numbers, and real runs of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import corpora
import lipdiffuser_cases as cases
import pytest
import tiny_cases
import yaml

from phonoscope import plugins, protocol, reproduce, runner, views
from phonoscope.errors import SpecError
from phonoscope.events import StageStarted
from phonoscope.protocol import ProtocolSpec, conditions
from phonoscope.reproduce import Published, compare, parse_condition, same_condition

FOLDERS = {f"lipdiffuser_{name}" for name in ("table1", "table2", "table3", "figure4")}
COLUMNS = ("dnsmos_p808", "nisqa_mos", "lps", "wer_quartznet", "spksim_wespeaker")
Sums = tuple[float, ...]
LISTENER = Path(__file__).resolve().parent / "plugins" / "listener.py"


def written(board: str) -> ProtocolSpec:
    return ProtocolSpec.model_validate(yaml.safe_load(protocol.find(board).read_text("utf-8")))


def published(board: str) -> tuple[Published, ...]:
    return reproduce.read_published(protocol.find(board).parent / "published.csv")


@pytest.fixture
def tree(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo clips as the boards look for them."""
    cases.lay_out(tmp_path, shared_data)
    for name, value in cases.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path


def run(board: str | Mapping[str, Any], tree: Path, **options: Any) -> Any:
    store = options.pop("store", tree / "store")
    return runner.run(board, store, engine="serial", **{"formats": ("md", "csv")} | options)


def fewer(board: str, *metrics: str, **changes: Any) -> dict[str, Any]:
    """Return the board's protocol with fewer metrics."""
    raw = yaml.safe_load(protocol.find(board).read_text("utf-8"))
    return {**raw, "metrics": list(metrics), **changes}


class TestPublished:
    @pytest.mark.parametrize("board", sorted(FOLDERS))
    def test_every_number_belongs_to_a_cell_that_the_board_can_have(self, board: str) -> None:
        spec = written(board)
        points = conditions(spec.conditions)
        names = {item.name for item in (*spec.references, *spec.systems)}
        for item in published(board):
            assert item.system in names
            assert item.metric in spec.metrics
            assert item.dataset == spec.datasets[0].name
            assert any(same_condition(parse_condition(item.condition), one) for one in points)

    @pytest.mark.parametrize("board", sorted(FOLDERS))
    def test_every_system_of_the_paper_has_its_numbers(self, board: str) -> None:
        spec = written(board)
        names = {item.name for item in (*spec.references, *spec.systems)} - {"*"}
        assert {item.system for item in published(board)} == names

    @pytest.mark.parametrize(
        ("board", "rows", "n", "values", "stds"),
        [
            (1, 10, 1321, (29.71, 28.32, 5.16, 5.21, 3.73), (2.66, 5.56, 2.61, 3.15, 1.49)),
            (2, 7, None, (20.79, 17.8, 2.89, 5.15, 2.2), (1.52, 2.9, 1.33, 1.73, 0.87)),
            (3, 4, 1179, (13.88, 16.43, 2.1, 2.14, 1.61), (1.31, 2.68, 1.08, 1.74, 0.67)),
        ],
    )
    def test_all_rows_and_columns_are_there(
        self, board: int, rows: int, n: int | None, values: Sums, stds: Sums
    ) -> None:
        """The sums of the columns are those of the printed table."""
        found = published(f"lipdiffuser_table{board}")
        assert {item.n for item in found} == {n}
        for name, total, spread in zip(COLUMNS, values, stds, strict=True):
            column = [item for item in found if item.metric == name]
            assert len(column) == rows
            assert sum(item.value for item in column) == pytest.approx(total, abs=1e-9)
            assert sum(item.std or 0 for item in column) == pytest.approx(spread, abs=1e-9)

    def test_both_readings_of_table_3_have_the_same_numbers(self) -> None:
        columns: dict[str, list[tuple[float, float | None]]] = {}
        for item in published("lipdiffuser_table3"):
            columns.setdefault(item.metric, []).append((item.value, item.std))
        assert columns["spksim_wespeaker"] == columns["spksim_wespeaker_enrollment"]

    def test_figure_4_has_those_of_table_1(self) -> None:
        whole = {(i.system, i.metric): (i.value, i.std) for i in published("lipdiffuser_table1")}
        figure = {(i.system, i.metric): (i.value, i.std) for i in published("lipdiffuser_figure4")}
        assert len(figure) == 30
        assert figure.items() <= whole.items()

    def test_all_metrics_exist(self) -> None:
        plugins.discover()
        for board in (*FOLDERS, "grid_snr"):
            assert set(written(board).metrics) <= set(plugins.METRICS)
            assert not written(board).planned


class TestTable1:
    def test_the_demo_clips_fill_it_where_they_can(self, tree: Path) -> None:
        board = run(fewer("lipdiffuser_table1", "dnsmos_p808"), tree, limit=2)
        assert [row.system for row in board.rows] == [
            *("Clean", "Noisy", "AV-Gen", "DiffV2S", "IL2S (SSL)", "LipVoicer", "LipDiffuser")
        ]
        assert {str(row.condition) for row in board.rows} == {"snr_db=-10, enrollment=same_clean"}
        assert all(row.cells["dnsmos_p808"].estimate.n == 2 for row in board.rows)
        levels = {row.system: row.cells["dnsmos_p808"].estimate.value for row in board.rows}
        assert levels["Noisy"] < min(value for name, value in levels.items() if name != "Noisy")
        assert board.notes[0] == (
            "Data set lrs3_chime3: clean track: enhanced; partial: 5 of 1321 clips; noise chime3: "
            "found 1 recordings, none of BUS, CAF, PED; the first 2 samples"
        )
        assert [note.partition(" is not run")[0] for note in board.notes[1:]] == [
            *("SGMSE+", "Lip2Speech", "IL2S")
        ]

    def test_by_one_command(self, tree: Path) -> None:
        """All columns: those that this machine cannot fill say so and fail nothing."""
        command = [sys.executable, "-m", "phonoscope.cli", "reproduce", "lipdiffuser_table1"]
        options = ["--limit", "1", "--engine", "serial", "--tracking", "none", "--json", "out.json"]
        done = subprocess.run(
            [*command, *options], cwd=tree, env=os.environ, capture_output=True, text=True
        )
        assert done.returncode in (0, 3), done.stderr
        cells = json.loads((tree / "out.json").read_text("utf-8"))
        assert "LipDiffuser" in done.stdout and "subset (n=1 of 1321)" in json.dumps(cells)
        page = tree / "runs" / "lipdiffuser_table1" / "board" / "leaderboard.html"
        assert "SGMSE+ is not run" in page.read_text("utf-8")

    def test_beside_the_paper_a_part_is_not_comparable_and_the_rest_not_run(
        self, tree: Path
    ) -> None:
        source = protocol.find("lipdiffuser_table1")
        loaded = protocol.load(source, limit=1)
        metrics = tuple(m for m in loaded.metrics if m.name == "dnsmos_p808")
        board = run(replace(loaded, metrics=metrics), tree)
        told = {
            item.published.system: item.text
            for item in compare(board, board.published)
            if item.published.metric == "dnsmos_p808"
        }
        assert told["LipDiffuser"].startswith("not comparable: subset (n=1 of 1321)")
        assert told["SGMSE+"] == "not run: the board has no such system"
        assert len(told) == 10

    def test_any_folder_is_a_row_and_any_plugin(self, tree: Path, shared_data: Path) -> None:
        for name in cases.utterances(shared_data):
            demo = shared_data / "lrs3_demo" / "lipvoicer" / f"{name}.mp4"
            cases.link(demo, tree / "systems" / "ours" / "lrs3" / "any_snr" / f"{name}.mp4")
        command = [sys.executable, "-m", "phonoscope.cli", "run"]
        (tree / "short.yaml").write_text(
            yaml.safe_dump(fewer("lipdiffuser_table1", "dnsmos_p808")), "utf-8"
        )
        options = ["--limit", "1", "--engine", "serial", "--tracking", "none", "--store", "mine"]
        more = ["--plugin", str(LISTENER), "--system", "listener"]
        done = subprocess.run(
            [*command, "short.yaml", *options, *more], cwd=tree, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        rows = (tree / "mine/board/leaderboard.csv").read_text("utf-8")
        assert "\nours," in rows.replace('"', "") and "\nlistener," in rows.replace('"', "")
        again = [sys.executable, "-m", "phonoscope.cli", "status", "mine"]
        done = subprocess.run(again, cwd=tree, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "listener" in done.stdout

    def test_what_is_not_set_or_not_there_is_named(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PHONOSCOPE_SYSTEMS")
        left = list(protocol.load("lipdiffuser_table1").absences())
        assert len(left) == 8 and all("PHONOSCOPE_SYSTEMS is not set" in text for text in left)
        monkeypatch.delenv("PHONOSCOPE_LRS3_ENHANCED")
        with pytest.raises(SpecError, match="export PHONOSCOPE_LRS3_ENHANCED="):
            protocol.load("lipdiffuser_table1")
        monkeypatch.setenv("PHONOSCOPE_LRS3_ENHANCED", "")
        (own, *_) = protocol.load("lipdiffuser_table1").datasets[0].samples
        assert own.reference == own.inputs["video"]


class TestFigure4:
    def test_a_system_that_does_not_hear_is_measured_once(
        self, tree: Path, shared_data: Path
    ) -> None:
        events: list[Any] = []
        board = run(
            fewer("lipdiffuser_figure4", "dnsmos_p808"), tree, limit=1, listeners=[events.append]
        )
        points = Counter(row.system for row in board.rows)
        deaf = ("Clean", "DiffV2S", "IL2S (SSL)", "LipVoicer", "LipDiffuser")
        assert all(points[name] == 6 for name in (*deaf, "Noisy"))
        assert points["AV-Gen"] == 1  # has clips at -10 dB only
        (seen,) = [e for e in events if isinstance(e, StageStarted) and e.stage == "view"]
        assert seen.total == len(deaf) + 6 + 1
        values = {
            (row.system, row.condition.get("snr_db")): row.cells["dnsmos_p808"].estimate.value
            for row in board.rows
        }
        assert len({values[name, snr] for name in deaf for snr in (5, 0, -20)}) == len(deaf)
        assert values["Noisy", 5] > values["Noisy", -20]
        assert "AV-Gen is not run on lrs3_chime3 under snr_db=5" in " ".join(board.notes)


class TestTable3:
    def test_every_source_of_the_voice(
        self, tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Five utterances of two speakers; a plugin that is told the voice."""
        cases.lay_out(tmp_path, shared_data, videos=2)
        for name, value in cases.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        for film in (tmp_path / "lrs3_enhanced").rglob("*.mp4"):
            name = film.relative_to(tmp_path / "lrs3_enhanced")
            cases.link(film.resolve(), tmp_path / "systems" / "sgmse" / "lrs3" / "-10" / name)
        plugins.discover()
        spec = fewer("lipdiffuser_table3", "dnsmos_p808", "spksim_ge2e_enrollment")
        with plugin(LISTENER):
            found = protocol.load(spec, systems=["listener"])
            assert [len(d.samples) for d in found.datasets] == [5]
            board = run(found, tmp_path)
        rows = {
            row.condition.get("enrollment"): row for row in board.rows if row.system == "listener"
        }
        assert list(rows) == ["same_clean", "other_clean", "same_enhanced", "same_noisy"]
        assert all(row.cells["dnsmos_p808"].estimate.n == 5 for row in rows.values())
        levels = {name: row.cells["dnsmos_p808"].estimate.value for name, row in rows.items()}
        assert levels["same_clean"] == levels["same_enhanced"]  # here the same clips
        assert len(set(levels.values())) == 3
        (demo,) = [row for row in board.rows if row.system == "LipDiffuser"]
        assert demo.condition.get("enrollment") == "same_clean"

    def test_the_filter_can_be_lowered_for_a_part(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(protocol.DatasetError, match="no group has 2 samples"):
            protocol.load("lipdiffuser_table3")
        monkeypatch.setenv("PHONOSCOPE_MIN_UTTERANCES", "1")
        found = protocol.load("lipdiffuser_table3")
        assert len(found.datasets[0].samples) == 5
        assert {str(run.condition) for run in found.runs()} == {"snr_db=-10, enrollment=same_clean"}
        monkeypatch.setenv("PHONOSCOPE_MIN_UTTERANCES", "two")
        with pytest.raises(SpecError, match=r"min_utterances: .*integer \(got 'two'\)$"):
            protocol.load("lipdiffuser_table3")


@contextlib.contextmanager
def plugin(file: Path) -> Iterator[None]:
    """Have a plugin for a while."""
    with tiny_cases.loaded():
        views.load_file(file)
        yield


def test_table_2_takes_the_mixtures_of_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cases.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    who, what = ("09F", "24M"), ("si1000", "si1001")
    corpora.tcd(tmp_path / "tcd", who, what)
    corpora.ntcd(tmp_path / "ntcd", who, what, Babble=["-5", "0"], White=["-5"])
    for number, noise in enumerate(("Babble", "White")):
        for speaker in who:
            for utterance in what:
                name = f"{noise}/-5/{speaker}/{utterance}.wav"
                corpora.wav(tmp_path / "systems/sgmse/ntcd_timit" / name, seed=number)
    board = run(fewer("lipdiffuser_table2", "dnsmos_p808", "si_sdr"), tmp_path)
    assert [row.system for row in board.rows] == ["Clean", "Noisy", "SGMSE+"]
    assert {row.n_total for row in board.rows} == {8}
    clean, noisy, _ = (row.cells["si_sdr"].estimate for row in board.rows)
    assert clean.value == 100 and noisy.value < 50


class TestGrid:
    def test_si_sdr_is_the_snr_and_the_order_is_that_of_the_noise(
        self, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PHONOSCOPE_DATA", str(shared_data))
        board = run(fewer("grid_snr", "si_sdr", "estoi", systems=[]), tmp_path)
        noisy = {r.condition.get("snr_db"): r.cells for r in board.rows if r.system == "noisy"}
        assert list(noisy) == [5, 0, -5, -10, -15, -20]
        assert all(cells["si_sdr"].estimate.n == 8 for cells in noisy.values())
        for snr, cells in noisy.items():
            assert cells["si_sdr"].estimate.value == pytest.approx(snr, abs=1)
        estoi = [cells["estoi"].estimate.value for cells in noisy.values()]
        assert estoi == sorted(estoi, reverse=True)
        for row in board.rows:
            if row.system == "reference":
                assert row.cells["estoi"].estimate.value == pytest.approx(1)

    def test_a_gate_helps_at_5_db(
        self, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PHONOSCOPE_DATA", str(shared_data))
        spec = fewer("grid_snr", "si_sdr", "pesq_wb", conditions={"snr_db": 5})
        _, noisy, gated = run(spec, tmp_path).rows
        for name in ("si_sdr", "pesq_wb"):
            assert gated.cells[name].estimate.value > noisy.cells[name].estimate.value
