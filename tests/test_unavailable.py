"""Columns that this machine cannot fill: said once, with the remedy, and the others go on."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_cases as cases
from typer.testing import CliRunner

from phonoscope import (
    Audio,
    catalogue,
    cli,
    measure,
    plugins,
    protocol,
    runner,
    views,
    weights,
)
from phonoscope.events import ColumnUnavailable, SampleFailed, StageFinished, StageStarted
from phonoscope.leaderboard import status_of
from phonoscope.media import write_wav
from phonoscope.store import RunStore
from phonoscope.types import Failure

METRICS = ["tiny_rms", "tiny_lost", "tiny_level", "tiny_lost_too"]


@pytest.fixture
def tiny() -> Iterator[None]:
    with cases.loaded():
        yield


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three clips, and an empty folder for weights."""
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "clips").mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).standard_normal(16_000) * 0.1
        write_wav(tmp_path / f"clips/{number}.wav", Audio(noise.astype(np.float32), 16_000))
    return tmp_path / "clips"


def run(folder: Path, **options: Any) -> tuple[Any, list[Any]]:
    events: list[Any] = []
    found = cases.protocol(folder / "clips", metrics=METRICS)
    board = cases.run(found, folder / "store", listeners=[events.append], workers=2, **options)
    return board, events


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_a_network_that_cannot_be_loaded_costs_its_columns_only(
    tmp_path: Path, tiny: None, engine: str
) -> None:
    board, events = run(tmp_path, engine=engine)
    told = [event for event in events if isinstance(event, ColumnUnavailable)]
    assert [event.metric for event in told] == ["tiny_lost", "tiny_lost_too"]
    assert {(event.code, event.error) for event in told} == {
        (
            "unavailable",
            "tiny_broken cannot be loaded on cpu (RuntimeError: no such operator); look at "
            "--device and at the versions of its packages, or report a defect of the plugin",
        )
    }
    assert not [event for event in events if isinstance(event, SampleFailed)]
    names = {column.metric for column in board.columns if column.unavailable}
    assert names == {"tiny_lost", "tiny_lost_too"}
    for row in board.rows:
        assert {name: cell.estimate.n for name, cell in row.cells.items()} == {
            "tiny_rms": 6,
            "tiny_level": 6,
        }


def test_it_is_tried_once_a_run_and_its_stage_ends(
    tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_TINY_LOG", str(tmp_path / "log"))
    log = cases.Log(tmp_path / "log")
    _, events = run(tmp_path)
    assert log.take()["load_broken"] == 1
    for kind in (StageStarted, StageFinished):
        stages = [event.what for event in events if isinstance(event, kind)]
        assert stages.count("tiny_broken") == 1
    run(tmp_path)
    assert dict(log.take()) == {"load_broken": 1}


def test_once_it_loads_the_columns_are_filled(
    tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the failure is kept in the store."""
    run(tmp_path)
    broken = views.VIEWS.get("tiny_broken").make
    monkeypatch.setattr(broken, "load", lambda self, device: None)
    monkeypatch.setattr(broken, "__call__", lambda self, batch: [0.5] * len(batch))
    board, events = run(tmp_path)
    assert not [event for event in events if isinstance(event, ColumnUnavailable)]
    assert all(row.cells["tiny_lost"].estimate.value == 0.5 for row in board.rows)


def test_ratings_are_held_against_the_columns_that_are_filled(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(
        "name: p\ntask: lip2speech\nreferences: [reference]\nmetrics: [utmos, dnsmos_p808]\n"
        "datasets: [{name: d, kind: folder, options: {reference: clips}}]\n"
    )
    lines = "".join(f"r{r},{s},reference,{1 + r + s}\n" for r in range(2) for s in range(3))
    (tmp_path / "mos.csv").write_text(f"rater,sample,system,score\n{lines}")
    running = ["run", "p.yaml", "--engine", "serial", "--tracking", "none", "--quiet"]
    CliRunner().invoke(cli.app, running)
    command = ["ratings", "mos.csv", "--scale", "mos", "--store", "runs/p"]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.stderr
    assert "dnsmos_p808\thigher\tsamples" in done.stdout and "utmos" not in done.stdout
    assert "lack a value" not in done.stderr


def test_status_says_which_columns_cannot_be_filled(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(
        "name: p\ntask: lip2speech\nreferences: [reference]\nmetrics: [utmos, si_sdr]\n"
        "datasets: [{name: d, kind: folder, options: {reference: clips}}]\n"
    )
    done = CliRunner().invoke(cli.app, ["run", "p.yaml", "--dry-run"])
    heads, row = (line.split("\t") for line in done.stdout.splitlines())
    assert heads[-2:] == ["utmos", "si_sdr"] and row[-2:] == ["unavailable", "0/3"]


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 40], ids=["empty", "garbage"])
def test_a_wrong_file_that_nobody_pinned_is_named_with_the_remedy(
    clips: Path, tmp_path: Path, content: bytes
) -> None:
    pytest.importorskip("torch", reason="utmos needs torch")
    path = tmp_path / "weights" / "utmos" / "utmos22_strong_step7459_v1.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    command = ["score", str(clips), "--metrics", "utmos,dnsmos_p808", "--engine", "serial"]
    done = CliRunner().invoke(cli.app, [*command, "--quiet"])
    assert done.exit_code == cli.FAILED
    assert done.stderr.count("ColumnUnavailable") == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: 0 and 2 more: utmos: failed: weights_mismatch: utmos_scores ")
    note = path.with_name(f"{path.name}.sha256")
    for words in (
        f"Is {path} what https://",
        f"delete it and {note}, and run `phonoscope weights fetch utmos/utmos22_strong`",
    ):
        assert words in error
    rows = {line.split("\t")[0]: line.split("\t")[5:7] for line in done.stdout.splitlines()}
    assert rows["utmos"] == ["0", "3"] and rows["dnsmos_p808"] == ["3", "0"]


def test_a_reason_that_columns_share_is_said_once(tmp_path: Path, tiny: None) -> None:
    board, _ = run(tmp_path)
    text = (tmp_path / "store" / "board" / "leaderboard.md").read_text("utf-8")
    assert text.count("no such operator") == 1
    assert "- Unavailable here: tiny\\_lost, tiny\\_lost\\_too: unavailable: tiny\\_broken" in text
    assert not [mark for row in board.rows for mark in row.marks]


def test_a_board_that_is_only_read_says_what_is_missing(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paper = "system,metric,value,source\nA,utmos,3.0,Table 1\nB,utmos,3.1,Table 1\n"
    (tmp_path / "published.csv").write_text(paper)
    (tmp_path / "p.yaml").write_text(
        "name: p\ntask: lip2speech\n"
        "datasets: [{name: d, kind: folder, options: {reference: clips}}]\n"
        "systems: [{name: A, plugin: imported, params: {folder: clips}},\n"
        "  {name: B, plugin: imported, optional: true, params: {folder: none}}]\n"
        "metrics: [utmos, si_sdr]\n"
    )
    quietly = ["--engine", "serial", "--tracking", "none", "--limit", "2"]
    done = CliRunner().invoke(cli.app, ["reproduce", "p.yaml", *quietly])
    absent = f"note: B is not run: no clip in {tmp_path / 'none'}"
    notes = ["note: Data set d: the first 2 samples", absent]
    assert done.exit_code == 3
    assert done.stderr.splitlines()[:2] == notes
    for command in (["board"], ["reproduce"]):
        read = CliRunner().invoke(cli.app, [*command, "runs/p"])
        told = read.stderr.splitlines()
        assert told[:2] == notes
        assert told[2].startswith("note: Unavailable here: utmos: weights_missing: weights ")
        assert len(told) == 3 and "phonoscope weights fetch" not in read.stdout


def test_doctor_says_for_each_state_of_weights_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PHONOSCOPE_ACCEPT_LICENSES", raising=False)
    plugins.discover()

    def told(metric: str) -> list[str]:
        _, rows = catalogue.checkup()
        (row,) = [row for row in rows if row[0].startswith(metric) and row[1].startswith("weights")]
        return row[1:]

    accept, fetch = "phonoscope weights accept nisqa", "phonoscope weights fetch nisqa/nisqa"
    assert told("nisqa_mos and ") == ["weights not accepted", f"{accept}; {fetch}"]
    (tmp_path / "nisqa").mkdir()
    file = tmp_path / "nisqa" / "nisqa.tar"
    file.write_bytes(b"cut")
    assert told("nisqa_mos and ") == ["weights not accepted", accept]
    monkeypatch.setenv("PHONOSCOPE_ACCEPT_LICENSES", "nisqa")
    assert told("nisqa_mos and ") == ["weights mismatch", f"rm {file}; {fetch}"]
    file.unlink()
    assert told("nisqa_mos and ") == ["weights missing", fetch]
    state, remedy = told("spksim_pyannote and 1 more")
    assert state == "weights missing" and "weights fetch" not in remedy
    assert remedy.startswith("get pytorch_model.bin of huggingface.co/pyannote/embedding, after ")
    utmos = tmp_path / "utmos" / "utmos22_strong_step7459_v1.pt"
    utmos.parent.mkdir()
    utmos.write_bytes(b"one")
    assert "utmos" not in {row[0] for row in catalogue.checkup()[1]}
    utmos.write_bytes(b"another")
    note = utmos.with_name(f"{utmos.name}.sha256")
    assert told("utmos") == [
        "weights mismatch",
        f"put the old copy back, or delete {note} if the new one is meant",
    ]


@pytest.mark.parametrize("command", ["list metrics", "weights list"])
def test_a_terminal_gets_one_line_for_each(command: str) -> None:
    """Names whole, the last column cut to the width."""
    lead, follow = pty.openpty()
    variables = os.environ | {"COLUMNS": "80", "TERM": "dumb"}
    code = "import sys; from phonoscope import cli; sys.argv[1:] = sys.argv[1].split(); cli.main()"
    words = [sys.executable, "-c", code, command]
    with subprocess.Popen(words, stdout=follow, stderr=follow, env=variables) as process:
        os.close(follow)
        text = b""
        with contextlib.suppress(OSError):
            while block := os.read(lead, 1 << 16):
                text += block
    os.close(lead)
    lines = text.decode().splitlines()
    plugins.discover()
    known = plugins.METRICS if command == "list metrics" else weights.WEIGHTS
    assert process.returncode == 0
    assert {line.split()[0] for line in lines[1:]} == set(known)
    assert len(lines) == 1 + len(known)
    assert max(map(len, lines)) <= 80
    assert any(line.rstrip().endswith("…") for line in lines)


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to another environment: it lacks what `tiny_level` needs."""
    why = Failure("view", "dependency_missing", "needs nemo")
    lacks = measure.lacks
    monkeypatch.setattr(
        measure, "lacks", lambda metric: why if metric.name == "tiny_level" else lacks(metric)
    )


def test_what_another_environment_measured_is_shown_in_this_one(
    tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cases.protocol(tmp_path / "clips", metrics=["tiny_rms", "tiny_level"])
    cases.run(found, tmp_path / "store")
    tables = cases.tables(tmp_path / "store")
    elsewhere(monkeypatch)
    events: list[Any] = []
    board = cases.run(found, tmp_path / "store", listeners=[events.append])
    assert cases.tables(tmp_path / "store") == tables
    assert not [event for event in events if isinstance(event, ColumnUnavailable)]
    assert not any(column.unavailable for column in board.columns)
    loaded = protocol.load(found)
    assert not runner.too_many_failures(board, loaded)
    (first, *_) = runner.status(loaded, RunStore(tmp_path / "store"))
    assert first.known == {"tiny_rms": 6, "tiny_level": 6}


def test_a_row_that_no_environment_measured_is_empty_and_the_others_are_not(
    tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cases.protocol(tmp_path / "clips", metrics=["tiny_rms", "tiny_level"])
    before = cases.run(found, tmp_path / "store")
    elsewhere(monkeypatch)
    found["systems"].append("tiny_voice")
    events: list[Any] = []
    board = cases.run(found, tmp_path / "store", listeners=[events.append])
    told = [event.metric for event in events if isinstance(event, ColumnUnavailable)]
    assert told == ["tiny_level"]
    assert board.columns[1].unavailable == "dependency_missing: needs nemo"
    *known, fresh = board.rows
    assert [row.cells["tiny_level"].estimate for row in known] == [
        row.cells["tiny_level"].estimate for row in before.rows
    ]
    assert "tiny_level" not in fresh.cells and fresh.cells["tiny_rms"].estimate.n == 6
    assert not any(row.marks for row in board.rows)
    statuses = [status_of(row, board.columns[1]) for row in board.rows]
    assert statuses == ["ok", "ok", "ok", "unavailable"]
    loaded = protocol.load(found)
    assert runner.too_many_failures(board, loaded)
    *_, last = runner.status(loaded, RunStore(tmp_path / "store"))
    assert last.known == {"tiny_rms": 6, "tiny_level": None}
