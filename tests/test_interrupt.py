"""Kill a run at any moment and run it again: the same final tables, and what was kept is used."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_cases as cases
from tiny_cases import Log

from phonoscope.store import RunStore

KILLS = 10
SLEEP = "0.03"


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> Iterator[None]:
    with cases.loaded():
        yield


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setenv("PHONOSCOPE_TINY_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PHONOSCOPE_TINY_SLEEP", SLEEP)
    return Log(tmp_path / "log")


def slowish(tmp_path: Path) -> dict[str, Any]:
    return cases.protocol(
        tmp_path / "clips",
        systems=["noisy", "tiny_slow_copy"],
        metrics=[*cases.METRICS, "tiny_slow"],
        count=40,
    )


def interrupt(process: subprocess.Popen[str], log: Log, calls: int, delay: float) -> bool:
    """Kill a run some time after it has made so many calls; return whether it was in time."""
    before = len(log.lines())
    cases.eventually(lambda: len(log.lines()) >= before + calls or process.poll() is not None, 60)
    time.sleep(delay)
    process.kill()
    cases.ended(process)
    return process.returncode == -signal.SIGKILL


def test_killed_ten_times_and_run_again(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, store = slowish(tmp_path), tmp_path / "store"
    monkeypatch.setenv("PHONOSCOPE_TINY_SLEEP", "0")
    cases.run(found, tmp_path / "whole")
    whole = log.take()
    monkeypatch.setenv("PHONOSCOPE_TINY_SLEEP", SLEEP)

    draw = random.Random("phonoscope")
    kept, killed = [], 0
    for _ in range(KILLS):
        process = cases.start(found, store)
        killed += interrupt(process, log, draw.randint(1, 45), draw.uniform(0, 0.1))
        opened = RunStore(store)
        kept.append(len(opened.clips) + len(opened.views) + len(opened.records))
    assert killed == KILLS, f"only {killed} of {KILLS} runs were killed before their end"
    assert kept == sorted(kept) and len(set(kept)) > 3  # the runs went on from one another
    assert kept[-1] > 0
    log.take()

    process = cases.start(found, store)
    errors = cases.ended(process)
    assert process.returncode == 0, errors
    last = log.take()
    assert cases.tables(store) == cases.tables(tmp_path / "whole")
    assert not RunStore(store).set_aside
    assert last["slow_copy"] < whole["slow_copy"]  # it found what the killed runs had left
    assert sum(last.values()) < sum(whole.values()) - kept[-1] / 2
    cases.run(found, store)
    assert not log.take()


def test_a_run_killed_while_it_only_measures(tmp_path: Path, log: Log) -> None:
    """Of a single kill, all that was flushed before it stays."""
    found, store = slowish(tmp_path), tmp_path / "store"
    process = cases.start(found, store)
    assert cases.eventually(lambda: count(log)["slow"] >= 40, 60)
    os.kill(process.pid, signal.SIGKILL)
    cases.ended(process)
    first = log.take()
    assert first["slow_copy"] == 40 and first["net"] == 80 and first["peak"] == 40
    cases.run(found, store)
    second = log.take()
    assert not second.keys() & {"slow_copy", "net", "peak", "load"}
    assert 0 < second["slow"] < 80
    assert first["slow"] + second["slow"] < 110


def count(log: Log) -> Counter[str]:
    return Counter(line.split()[0] for line in log.lines())


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop(name: signal.Signals, tmp_path: Path, log: Log) -> None:
    """Ctrl-C keeps even what was not flushed; either way the next run goes on."""
    found, store = slowish(tmp_path), tmp_path / "store"
    process = cases.start(found, store)
    assert cases.eventually(lambda: count(log)["slow_copy"] >= 20, 60)
    workers = cases.children(process.pid)
    os.kill(process.pid, name)
    cases.ended(process, 20)
    assert process.returncode != 0
    assert cases.eventually(lambda: not cases.alive(workers), 5)
    done = log.take()["slow_copy"]
    kept = len(RunStore(store).clips)
    assert done - 8 <= kept <= done if name is signal.SIGINT else kept <= done
    cases.run(found, store)
    assert log.take()["slow_copy"] == 40 - kept
