"""MLflow: what arrives, what must not arrive, and a server that comes and goes."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phonoscope import tracking
from phonoscope.errors import StoreError
from phonoscope.events import (
    ColumnUnavailable,
    Event,
    RunFinished,
    RunMeasured,
    RunStarted,
    SampleFailed,
    StageStarted,
)
from phonoscope.types import Estimate, fingerprint

SYSTEMS = ("noisy", "spectral_gate")
SNRS = (5, 0, -5, -10)
REVISION = fingerprint("demo", 24)
PROVENANCE = {
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "versions": {"phonoscope": "0.1.0", "numpy": "2.4.6"},
    "weights": {
        "dnsmos/model_v8": "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91"
    },
    "metrics": {"estoi": {"version": "1"}},
}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)


def estimates(system: str, snr: float) -> dict[str, Estimate]:
    base = 0.55 + 0.02 * snr + (0.05 if system == "spectral_gate" else 0.0)
    return {
        "estoi": Estimate(base, base - 0.04, base + 0.04, 0.11, 24),
        "pesq_wb": Estimate(1.6 + base, 1.5, 2.4, 0.3, 22, 2),
        "wer_pocketsphinx_grid": Estimate(math.nan, math.nan, math.nan, math.nan, 0, 24),
        "fd_logmel": Estimate(31.25, math.nan, math.inf, math.nan, 24, flags=("rank_deficient",)),
    }


def measured(system: str, snr: float, seed: int = 0) -> RunMeasured:
    return RunMeasured(
        key=fingerprint(system, "demo", snr, seed),
        system=system,
        dataset="demo",
        dataset_revision=REVISION,
        condition={"noise": "pink", "snr_db": snr},
        seed=seed,
        estimates=estimates(system, snr),
        parameters={"strength": 0.9} if system == "spectral_gate" else {},
    )


def rendered(store: Path) -> list[str]:
    board = store / "board"
    (board / "figures").mkdir(parents=True, exist_ok=True)
    (board / "board.md").write_text("| system | estoi |\n|---|---|\n| noisy | 0.55 ± 0.11 |\n")
    (board / "samples.csv").write_text("sample,metric,value\ns1,estoi,0.5\n")
    (board / "figures" / "estoi.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return [str(path) for path in sorted(board.rglob("*.*")) if path.is_file()]


def protocol(store: Path, snrs: tuple[float, ...] = SNRS) -> list[Event]:
    runs = [measured(system, snr) for system in SYSTEMS for snr in snrs]
    return [
        RunStarted("quickstart", str(store), len(runs), 24 * 4 * len(runs), PROVENANCE),
        StageStarted("generate", "noisy", 24),
        ColumnUnavailable("nisqa", "weights_missing", "run `phonoscope weights accept nisqa`"),
        SampleFailed("noisy", "s7", "pesq_wb", "measure", "no_utterances", "s7: no speech"),
        *runs,
        RunFinished("quickstart", None, rendered(store)),
    ]


def play(store: Path, events: list[Event], uri: str | None = None) -> list[str]:
    """Run the events through a fresh listener; return its warnings."""
    warnings: list[str] = []
    listen = tracking.listener(store, tracking_uri=uri, warn=warnings.append)
    for event in events:
        listen(event)
    return warnings


class Seen:
    """What MLflow holds, read through its own client."""

    def __init__(self, uri: str, experiment: str = "phonoscope") -> None:
        import mlflow

        self.client = mlflow.MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(experiment)
        self.runs = list(self.client.search_runs([found.experiment_id], max_results=1000))

    def of(self, kind: str) -> list[Any]:
        return [run for run in self.runs if run.data.tags["phonoscope.kind"] == kind]

    def one(self, kind: str, **params: str) -> Any:
        (run,) = [r for r in self.of(kind) if params.items() <= r.data.params.items()]
        return run

    def points(self) -> dict[tuple[str, str], list[tuple[int, float]]]:
        """Every point of every metric of every run, by the run's key."""
        found = {}
        for run in self.runs:
            for metric in run.data.metrics:
                history = self.client.get_metric_history(run.info.run_id, metric)
                key = run.data.tags["phonoscope.key"], metric
                found[key] = sorted((point.step, point.value) for point in history)
        return found

    def artifacts(self, run: Any, folder: str | None = None) -> list[str]:
        items = self.client.list_artifacts(run.info.run_id, folder)
        below = [self.artifacts(run, item.path) for item in items if item.is_dir]
        return sorted(
            [item.path for item in items if not item.is_dir] + [x for y in below for x in y]
        )


def assert_complete(seen: Seen, snrs: tuple[float, ...] = SNRS) -> None:
    """The whole protocol is there, once."""
    (parent,) = seen.of("protocol")
    assert len(seen.of("run")) == len(SYSTEMS) * len(snrs)
    assert len(seen.of("sweep")) == len(SYSTEMS)
    assert {run.info.status for run in seen.runs} == {"FINISHED"}
    for run in seen.of("run") + seen.of("sweep"):
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    points = seen.points()
    for system in SYSTEMS:
        sweep = seen.one("sweep", system=system)
        history = points[sweep.data.tags["phonoscope.key"], "estoi"]
        assert history == sorted((int(snr), estimates(system, snr)["estoi"].value) for snr in snrs)
        for snr in snrs:
            run = seen.one("run", system=system, snr_db=str(snr))
            point = (int(snr), estimates(system, snr)["estoi"].value)
            assert points[run.data.tags["phonoscope.key"], "estoi"] == [point]
    assert seen.artifacts(parent) == ["board.md", "figures/estoi.svg", "samples.csv"]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A fresh MLflow database without our experiment: its tables take seconds, a copy none."""
    folder = tmp_path_factory.mktemp("database")
    listen = tracking.listener(folder, experiment="other", warn=pytest.fail)
    listen(RunStarted("warm-up", str(folder), 0, 0))
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "a store"
    folder.mkdir()
    return folder


@pytest.fixture
def local(store: Path, database: bytes) -> Path:
    """A store whose MLflow database has its tables already."""
    (store / "mlflow.db").write_bytes(database)
    return store


def outbox(store: Path) -> list[Path]:
    return sorted((store / "outbox").glob("*.jsonl"))


# A database in the store.


def test_a_protocol_arrives_whole(local: Path) -> None:
    assert play(local, protocol(local)) == []
    seen = Seen(tracking.default_uri(local))
    assert_complete(seen)
    assert outbox(local) == []
    run = seen.one("run", system="spectral_gate", snr_db="-10")
    assert run.data.params == {
        "system": "spectral_gate",
        "system.strength": "0.9",
        "dataset": "demo",
        "noise": "pink",
        "snr_db": "-10",
        "seed": "0",
    }
    assert run.data.metrics["pesq_wb/n"] == 22
    assert run.data.metrics["pesq_wb/n_failed"] == 2
    assert (
        run.data.metrics["estoi/low"] < run.data.metrics["estoi"] < run.data.metrics["estoi/high"]
    )


def test_only_finite_numbers_reach_mlflow(local: Path) -> None:
    play(local, protocol(local))
    seen = Seen(tracking.default_uri(local))
    for points in seen.points().values():
        assert all(math.isfinite(value) for _, value in points)
    run = seen.one("run", system="noisy", snr_db="0")
    assert "wer_pocketsphinx_grid" not in run.data.metrics
    assert run.data.metrics["wer_pocketsphinx_grid/n_failed"] == 24
    assert "fd_logmel" in run.data.metrics
    assert not {"fd_logmel/low", "fd_logmel/high", "fd_logmel/std"} & set(run.data.metrics)
    assert run.data.tags["phonoscope.not_measured"] == "wer_pocketsphinx_grid"
    assert run.data.tags["phonoscope.flags"] == "fd_logmel: rank_deficient"


def test_the_outbox_holds_strict_json(store: Path) -> None:
    play(store, protocol(store)[:-1], uri="http://127.0.0.1:9")

    def refuse(token: str) -> None:
        raise AssertionError(token)

    lines = [line for path in outbox(store) for line in path.read_text().splitlines()]
    assert len(lines) == 1 + len(SYSTEMS) * len(SNRS)
    for line in lines:
        json.loads(line, parse_constant=refuse)


def test_provenance_becomes_tags_of_the_parent(local: Path) -> None:
    play(local, protocol(local))
    (parent,) = Seen(tracking.default_uri(local)).of("protocol")
    tags = parent.data.tags
    assert tags["mlflow.source.git.commit"] == PROVENANCE["git_commit"]
    assert tags["phonoscope.versions.numpy"] == "2.4.6"
    assert tags["phonoscope.weights.dnsmos/model_v8"].startswith("9246480c")
    assert tags["phonoscope.metrics.estoi.version"] == "1"
    assert tags["phonoscope.unavailable"].startswith("nisqa: weights_missing: run")
    assert tags["mlflow.note.content"].startswith("| system | estoi |")


def test_datasets_are_inputs(local: Path) -> None:
    import mlflow

    play(local, protocol(local))
    for run in Seen(tracking.default_uri(local)).runs:
        (item,) = run.inputs.dataset_inputs
        assert (item.dataset.name, item.dataset.digest) == ("demo", REVISION)
        assert {tag.key: tag.value for tag in item.tags} == {"mlflow.data.context": "evaluation"}
        assert mlflow.data.get_source(item).to_dict()["tags"]["revision"] == REVISION


def test_artifacts_lie_in_the_store_and_can_be_read(local: Path, tmp_path: Path) -> None:
    play(local, protocol(local))
    seen = Seen(tracking.default_uri(local))
    (parent,) = seen.of("protocol")
    assert (local / "mlflow-artifacts").is_dir()
    target = tmp_path / "download"
    target.mkdir()
    path = seen.client.download_artifacts(parent.info.run_id, "samples.csv", str(target))
    assert Path(path).read_text() == "sample,metric,value\ns1,estoi,0.5\n"


def test_running_again_adds_nothing(local: Path) -> None:
    play(local, protocol(local))
    first = Seen(tracking.default_uri(local))
    assert play(local, protocol(local)) == []
    again = Seen(tracking.default_uri(local))
    assert {run.info.run_id for run in again.runs} == {run.info.run_id for run in first.runs}
    assert again.points() == first.points()


def test_a_stopped_protocol_goes_on_in_the_same_runs(local: Path) -> None:
    play(local, protocol(local)[:7])
    seen = Seen(tracking.default_uri(local))
    (parent,) = seen.of("protocol")
    assert parent.info.status == "RUNNING"
    assert len(seen.of("run")) == 3
    play(local, protocol(local))
    seen = Seen(tracking.default_uri(local))
    assert_complete(seen)
    assert seen.of("protocol")[0].info.run_id == parent.info.run_id


def test_a_new_value_is_a_new_point_of_the_same_run(local: Path) -> None:
    play(local, protocol(local))
    event = measured("noisy", -5)
    better = {**event.estimates, "estoi": replace(event.estimates["estoi"], value=0.9)}
    play(local, [protocol(local)[0], replace(event, estimates=better)])
    run = Seen(tracking.default_uri(local)).one("run", system="noisy", snr_db="-5")
    assert run.data.metrics["estoi"] == 0.9


def test_a_moved_store_and_its_copy_of_the_outbox_are_one_protocol(
    local: Path, tmp_path: Path
) -> None:
    uri = tracking.default_uri(local)
    play(local, protocol(local))
    before = len(Seen(uri).runs)
    moved = local.rename(tmp_path / "moved")
    (tmp_path / "shared.db").write_bytes((moved / "mlflow.db").read_bytes())
    shared = f"sqlite:///{tmp_path / 'shared.db'}"
    play(moved, protocol(moved), uri=shared)
    assert len(Seen(shared).runs) == before


def test_two_stores_share_a_server_without_mixing(local: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    uri = tracking.default_uri(local)
    play(local, protocol(local), uri=uri)
    play(other, protocol(other), uri=uri)
    seen = Seen(uri)
    assert len(seen.of("protocol")) == 2
    assert len(seen.of("run")) == 2 * len(SYSTEMS) * len(SNRS)


def test_two_listeners_of_one_store_log_each_point_once(local: Path) -> None:
    """As two processes that resume one protocol: what one knows of MLflow, the other outdates."""
    both = [tracking.listener(local, warn=pytest.fail) for _ in range(2)]
    for event in protocol(local):
        for listen in both:
            listen(event)
            time.sleep(0.002)  # another time stamp: MLflow drops equal points by itself
    assert_complete(Seen(tracking.default_uri(local)))


def test_a_run_deleted_in_mlflow_is_made_again(local: Path) -> None:
    uri = tracking.default_uri(local)
    warnings: list[str] = []
    listen = tracking.listener(local, warn=warnings.append)
    events = protocol(local)
    for event in events[:-1]:
        listen(event)
    seen = Seen(uri)
    for run in seen.of("protocol"):
        seen.client.delete_run(run.info.run_id)
    listen(events[-1])
    assert warnings == []
    (parent,) = Seen(uri).of("protocol")
    assert parent.info.status == "FINISHED"


def test_steps_are_whole_decibels_and_halves_do_not_meet(local: Path) -> None:
    snrs = (2.5, 1.5, 0.0, -2.5, -7.5)
    for _ in range(2):
        play(local, [protocol(local)[0], *(measured("noisy", snr) for snr in snrs)])
    seen = Seen(tracking.default_uri(local))
    key = seen.one("sweep", system="noisy").data.tags["phonoscope.key"]
    assert seen.points()[key, "snr_db"] == [(-7, -7.5), (-2, -2.5), (0, 0.0), (2, 1.5), (3, 2.5)]


def test_snrs_closer_than_a_step_are_still_logged_once(local: Path) -> None:
    snrs = (0.1, 0.2, 0.3)
    for _ in range(3):
        play(local, [protocol(local)[0], *(measured("noisy", snr) for snr in snrs)])
    seen = Seen(tracking.default_uri(local))
    key = seen.one("sweep", system="noisy").data.tags["phonoscope.key"]
    assert seen.points()[key, "snr_db"] == [(0, 0.1), (0, 0.2), (0, 0.3)]


@pytest.mark.parametrize("snr", [None, "clean", math.inf, True])
def test_a_condition_without_a_number_is_no_point_of_a_sweep(local: Path, snr: Any) -> None:
    event = replace(measured("noisy", 0), condition={"snr_db": snr})
    assert play(local, [protocol(local)[0], event]) == []
    seen = Seen(tracking.default_uri(local))
    assert seen.of("sweep") == []
    assert seen.one("run").data.params["snr_db"] == str(snr)
    assert "snr_db" not in seen.one("run").data.metrics


def test_seeds_and_noises_are_curves_of_their_own(local: Path) -> None:
    runs = [measured("noisy", snr, seed) for snr in (0, -5) for seed in (0, 1)]
    babble = [
        replace(r, key=r.key[::-1], condition={**r.condition, "noise": "babble"}) for r in runs
    ]
    play(local, [protocol(local)[0], *runs, *babble])
    seen = Seen(tracking.default_uri(local))
    assert len(seen.of("sweep")) == 4
    assert len(seen.of("run")) == 8


def test_hostile_names_and_long_texts_fit(local: Path) -> None:
    name = "../<b>sys\x00tem</b>\ud800 'quoted\" `tick` é " + "x" * 300
    event = replace(
        measured("noisy", -5),
        system=name,
        dataset="d" * 600,
        dataset_revision="r" * 100,
        parameters={"prompt: a//b?": "p" * 7000},
        estimates={"../../etc//a b?": Estimate(1.0, 1.0, 1.0, 0.0, 1)},
    )
    start = RunStarted(
        "p'\"`%", str(local), 1, 1, {"a b/../c?": "v" * 9000, "l": [1, {"x": math.nan}]}
    )
    assert play(local, [start, event, RunFinished("p'\"`%", None, [])]) == []
    seen = Seen(tracking.default_uri(local))
    run = seen.one("run")
    assert run.data.metrics["etc/a b_"] == 1.0
    cut = run.data.params["system.prompt_ a/b_"]
    assert len(cut) == tracking.PARAM_LENGTH
    assert cut.endswith(tracking.CUT)
    assert run.data.params["system"].startswith("../<b>sys?tem</b>? 'quoted\"")
    (parent,) = seen.of("protocol")
    assert parent.data.tags["phonoscope.a b/c_"].endswith(tracking.CUT)
    assert parent.data.tags["mlflow.runName"] == "p'\"`%"
    (item,) = run.inputs.dataset_inputs
    assert item.dataset.digest == "r" * 36


def test_many_metrics_and_tags_go_in_several_calls(local: Path) -> None:
    many = {f"m{i}": Estimate(float(i), 0.0, 1.0, 1.0, 1) for i in range(200)}
    facts = {f"package{i}": "1.0" for i in range(150)}
    start = RunStarted("big", str(local), 1, 1, facts)
    assert play(local, [start, replace(measured("noisy", -5), estimates=many)]) == []
    seen = Seen(tracking.default_uri(local))
    assert len(seen.one("run").data.metrics) == 7 * 200 + 1
    (parent,) = seen.of("protocol")
    assert sum(key.startswith("phonoscope.package") for key in parent.data.tags) == 150


def test_a_long_board_is_described_by_its_first_lines(local: Path) -> None:
    board = local / "board.md"
    board.write_text("".join(f"| row {i} | 0.5 |\n" for i in range(2000)))
    assert play(local, [protocol(local)[0], RunFinished("quickstart", None, [str(board)])]) == []
    (parent,) = Seen(tracking.default_uri(local)).of("protocol")
    note = parent.data.tags["mlflow.note.content"]
    assert len(note) <= tracking.TAG_LENGTH
    assert note.startswith("| row 0 | 0.5 |\n| row 1 |")
    assert note.endswith("| 0.5 |\n\n(and more: see the artifact board.md)")


def test_a_file_that_is_gone_is_named(local: Path) -> None:
    events = protocol(local)
    lost = str(local / "board" / "lost.html")
    kept = [str(local / "board" / "samples.csv"), lost]
    assert play(local, [events[0], RunFinished("quickstart", None, kept)]) == []
    seen = Seen(tracking.default_uri(local))
    (parent,) = seen.of("protocol")
    assert parent.data.tags["phonoscope.missing_files"] == lost
    assert seen.artifacts(parent) == ["samples.csv"]


def test_settings_of_the_environment_are_respected(
    local: Path, tmp_path: Path, database: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.db").write_bytes(database)
    uri = f"sqlite:///{tmp_path / 'mine.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "lips")
    play(local, protocol(local))
    assert_complete(Seen(uri, "lips"))
    assert (local / "mlflow.db").read_bytes() == database


def test_nothing_global_changes(local: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import mlflow

    before = dict(os.environ), mlflow.get_tracking_uri(), os.listdir()
    (local / "mlflow.db").unlink()  # making the tables is what mlflow talks about
    play(local, protocol(local)[:5])
    assert (dict(os.environ), mlflow.get_tracking_uri(), os.listdir()) == before
    assert capfd.readouterr() == ("", "")


def test_events_without_a_start_have_a_parent(local: Path) -> None:
    assert play(local, [measured("noisy", 0)]) == []
    (parent,) = Seen(tracking.default_uri(local)).of("protocol")
    assert parent.data.tags["mlflow.runName"] == "phonoscope"


def test_a_deleted_experiment_is_named_with_its_remedy(local: Path) -> None:
    play(local, protocol(local)[:5])
    seen = Seen(tracking.default_uri(local))
    seen.client.delete_experiment(seen.runs[0].info.experiment_id)
    (warning,) = play(local, protocol(local))
    assert "mlflow experiments restore" in warning
    assert len(outbox(local)) == len(SYSTEMS) * len(SNRS) + 2


# What MLflow will never take, and folders that cannot be written.


def test_a_broken_message_is_set_aside_and_the_rest_is_sent(local: Path) -> None:
    play(local, protocol(local), uri="http://127.0.0.1:9")
    (local / "outbox" / "0-torn.jsonl").write_text('{"kind": "measu')
    newer = json.loads(outbox(local)[1].read_text()) | {"format": 99}
    (local / "outbox" / "0-newer.jsonl").write_text(json.dumps(newer))
    report = tracking.sync(local, tracking.default_uri(local))
    assert (report.sent, report.left, report.rejected) == (10, 0, 2)
    assert any("torn" in problem for problem in report.problems)
    assert any("format 99" in problem for problem in report.problems)
    assert len(list((local / "outbox" / "rejected").iterdir())) == 2
    assert_complete(Seen(tracking.default_uri(local)))


def test_what_mlflow_refuses_does_not_block_the_rest(local: Path) -> None:
    play(local, protocol(local), uri="http://127.0.0.1:9")
    path = outbox(local)[2]
    message = json.loads(path.read_text())
    message["metrics"] |= {"no?such*name": 1.0}
    path.write_text(json.dumps(message))
    report = tracking.sync(local, tracking.default_uri(local))
    assert (report.sent, report.left, report.rejected) == (9, 0, 1)
    (problem,) = report.problems
    assert "no?such*name" in problem


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_store_is_a_clear_error(store: Path) -> None:
    store.chmod(0o500)
    with pytest.raises(StoreError, match="make the folder writable"):
        play(store, protocol(store)[:1])


def test_a_file_in_the_place_of_the_outbox_is_a_clear_error(store: Path) -> None:
    (store / "outbox").write_text("")
    with pytest.raises(StoreError, match="cannot be kept here"):
        play(store, [RunStarted("quickstart", str(store), 0, 0)])


# Servers that are away.


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_never_was(local: Path) -> None:
    (warning,) = play(local, protocol(local), uri=f"http://127.0.0.1:{free_port()}")
    assert "MLflow is away" in warning
    assert "phonoscope sync" in warning
    assert len(outbox(local)) == len(SYSTEMS) * len(SNRS) + 2
    report = tracking.sync(local)
    assert (report.sent, report.left, len(report.problems)) == (0, 10, 1)
    assert tracking.sync(local, tracking.default_uri(local)).sent == 10
    assert_complete(Seen(tracking.default_uri(local)))
    assert tracking.sync(local) == tracking.SyncReport()


def test_after_a_failure_the_run_asks_once_more_at_its_end(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def refuse(*args: object) -> None:
        tries.append(args)
        raise ConnectionError("nobody is there")

    monkeypatch.setattr(tracking, "Remote", refuse)
    assert len(play(store, protocol(store))) == 1
    assert len(tries) == 2


def test_a_password_is_neither_kept_nor_shown(store: Path) -> None:
    uri = f"http://me:secret@127.0.0.1:{free_port()}"
    (warning,) = play(store, protocol(store), uri=uri)
    texts = [path.read_text() for path in (store / "outbox").iterdir()]
    assert not any("secret" in text for text in [warning, *texts])


def test_a_store_without_an_outbox_has_nothing_to_send(store: Path) -> None:
    assert tracking.sync(store) == tracking.SyncReport()
    assert list(store.iterdir()) == []


def test_a_scheme_that_mlflow_does_not_know(store: Path) -> None:
    (warning,) = play(store, protocol(store), uri="carrier-pigeon://roof")
    assert "carrier-pigeon" in warning


@pytest.mark.parametrize("stop", range(0, 49, 6))
def test_a_client_cut_off_at_any_call_ends_complete(
    local: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call to MLflow may be the last: before it or, the answer lost, after it."""
    import mlflow

    calls = 0
    names = (
        "create_run",
        "log_batch",
        "log_inputs",
        "set_terminated",
        "update_run",
        "log_artifact",
    )

    def cut(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == stop:
                raise ConnectionError("the cable was pulled")
            result = original(*args, **kwargs)
            if calls == stop + 1:
                raise ConnectionError("the answer was lost")
            return result

        return call

    for name in names:
        monkeypatch.setattr(mlflow.MlflowClient, name, cut(getattr(mlflow.MlflowClient, name)))
    play(local, protocol(local))
    assert calls > 49
    tracking.sync(local)
    assert outbox(local) == []
    assert_complete(Seen(tracking.default_uri(local)))


def die(store: Path, stop: int) -> None:
    """Play the protocol, and be killed at the call number `stop` to MLflow."""
    import mlflow

    log_batch, calls = mlflow.MlflowClient.log_batch, iter(range(1, 1000))

    def fatal(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return log_batch(*args, **kwargs)

    mlflow.MlflowClient.log_batch = fatal
    play(store, protocol(store))


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_process_killed_again_and_again_ends_complete(local: Path) -> None:
    for stop in (1, 6, 9):
        code = f"import pathlib, sys, test_tracking as t\nt.die(pathlib.Path(sys.argv[1]), {stop})"
        command = [sys.executable, "-c", code, str(local)]
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path})
        assert done.returncode == -signal.SIGKILL
        assert len(outbox(local)) == 1
    assert play(local, protocol(local)) == []
    assert outbox(local) == []
    assert_complete(Seen(tracking.default_uri(local)))


def test_a_database_is_never_left_half_made(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    def pull(*args: Any) -> None:
        raise ConnectionError("killed while MLflow makes its tables")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "search_experiments", pull)
        (warning,) = play(store, protocol(store))
    assert "killed while" in warning
    assert not (store / "mlflow.db").exists()
    assert tracking.sync(store).sent == 10
    assert_complete(Seen(tracking.default_uri(store)))
    assert not list(store.glob(".*.part"))


# A real server.


SERVER_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # not needed, and its processes start slowly
}


class Server:
    """`mlflow server` on loopback."""

    def __init__(self, folder: Path, database: bytes) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "server.db").write_bytes(database)
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | SERVER_SETTINGS,
            )  # fmt: skip
        for _ in range(600):
            if self.process.poll() is None and self.healthy():
                return
            time.sleep(0.2)
        raise AssertionError((self.folder / "log.txt").read_text())

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database: bytes) -> Iterator[Server]:
    pytest.importorskip("flask", reason="`mlflow server` needs the full mlflow (extra `ui`)")
    server = Server(tmp_path_factory.mktemp("server"), database)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own time-out, above ours: the machine of a test may be slow."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")


def test_a_real_server_holds_the_protocol_once(server: Server, store: Path, patient: None) -> None:
    name = "once"
    for _ in range(2):
        listen = tracking.listener(
            store, tracking_uri=server.uri, experiment=name, warn=pytest.fail
        )
        for event in protocol(store):
            listen(event)
        assert tracking.sync(store) == tracking.SyncReport()
    seen = Seen(server.uri, name)
    assert_complete(seen)
    (parent,) = seen.of("protocol")
    path = seen.client.download_artifacts(parent.info.run_id, "figures/estoi.svg", str(store))
    assert Path(path).read_text().startswith("<svg")
    assert all(run.inputs.dataset_inputs[0].dataset.name == "demo" for run in seen.runs)
    assert all(math.isfinite(v) for points in seen.points().values() for _, v in points)


def test_a_real_server_dies_in_the_middle_and_comes_back(
    server: Server, store: Path, patient: None
) -> None:
    warnings: list[str] = []
    listen = tracking.listener(
        store, tracking_uri=server.uri, experiment="dies", warn=warnings.append
    )
    for number, event in enumerate(protocol(store)):
        if number == 7:
            server.kill()
        listen(event)
    assert len(warnings) == 1
    assert len(outbox(store)) == 6
    assert tracking.sync(store).left == 6
    server.start()
    for sent in (6, 0):
        assert tracking.sync(store) == tracking.SyncReport(sent=sent)
    assert_complete(Seen(server.uri, "dies"))


def test_something_else_answers(store: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html>welcome to the hotel</html>")
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    hotel = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        (warning,) = play(store, protocol(store), uri=f"http://127.0.0.1:{port}")
    finally:
        hotel.kill()
        hotel.wait()
    assert "MLflow is away" in warning
    assert len(outbox(store)) == 10
