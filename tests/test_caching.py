"""What is done once: each test counts the calls that a second run makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_cases as cases
from tiny_cases import Log

from phonoscope import media, protocol, weights
from phonoscope.events import Advanced, NetworkLoaded, StageStarted
from phonoscope.protocol import Protocol


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> Iterator[None]:
    with cases.loaded():
        yield


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setenv("PHONOSCOPE_TINY_LOG", str(tmp_path / "log"))
    return Log(tmp_path / "log")


def load(tmp_path: Path, **changes: Any) -> Protocol:
    return protocol.load(cases.protocol(tmp_path / "clips", **changes))


def with_metric(found: Protocol, name: str, **changes: Any) -> Protocol:
    """Return the protocol with one metric changed."""
    return replace(
        found,
        metrics=tuple(replace(m, **changes) if m.name == name else m for m in found.metrics),
    )


def with_view(found: Protocol, name: str, **changes: Any) -> Protocol:
    """Return the protocol with one view changed wherever a metric sees through it."""

    def changed(item: Any) -> Any:
        return replace(item, **changes) if item.name == name else item

    metrics = (
        replace(m, views={role: changed(item) for role, item in m.views.items()})
        for m in found.metrics
    )
    return replace(found, metrics=tuple(metrics))


def test_a_second_run_does_nothing_and_says_the_same(tmp_path: Path, log: Log) -> None:
    found, store = load(tmp_path), tmp_path / "store"
    cases.run(found, store)
    first, tables = log.take(), cases.tables(store)
    assert first["copy"] == 6 and first["net"] == 12 and first["load"] == 1
    stages: list[Any] = []
    cases.run(found, store, listeners=[stages.append])
    assert not log.take()
    assert cases.tables(store) == tables
    assert not [event for event in stages if isinstance(event, StageStarted | Advanced)]


def test_a_metric_of_another_version_is_measured_again_alone(tmp_path: Path, log: Log) -> None:
    found, store = load(tmp_path), tmp_path / "store"
    cases.run(found, store)
    log.take()
    events: list[Any] = []
    cases.run(with_metric(found, "tiny_rms", version="2"), store, listeners=[events.append])
    assert log.take() == {"rms": 12}  # two kinds of sound: the reference and noisy are one
    assert sum(event.count for event in events if isinstance(event, Advanced)) == 12


@pytest.mark.parametrize(
    ("change", "scale"),
    [({"version": "2"}, 1.0), ({"params": (("scale", 2.0),)}, 2.0)],
    ids=["version", "parameter"],
)
def test_a_changed_view_is_computed_again_alone(
    tmp_path: Path, log: Log, change: dict[str, Any], scale: float
) -> None:
    found, store = load(tmp_path), tmp_path / "store"
    before = cases.run(found, store)
    log.take()
    after = cases.run(with_view(found, "tiny_net", **change), store)
    again = log.take()
    assert again == {"load": 1, "net": 12, "level": 12}  # no generating, no other view or metric
    for old, new in zip(before.rows, after.rows, strict=True):
        level = old.cells["tiny_level"].estimate.value
        assert new.cells["tiny_level"].estimate.value == pytest.approx(scale * level, rel=1e-6)


def test_other_weights_recompute_the_view(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = {"w": "a" * 64}
    monkeypatch.setattr(weights, "digest", lambda name: hashes[name])
    monkeypatch.setattr(weights, "locate", lambda name: Path(__file__))
    monkeypatch.setattr(weights, "WEIGHTS", {"w": WEIGHTS_ROW})
    found = load(tmp_path, metrics=["tiny_rms", "tiny_level", "tiny_headroom"])
    store = tmp_path / "store"
    cases.run(with_view(found, "tiny_net", weights=("w",)), store)
    assert log.take()["net"] == 12
    cases.run(with_view(found, "tiny_net", weights=("w",)), store)
    assert not log.take()
    hashes["w"] = "b" * 64
    cases.run(with_view(found, "tiny_net", weights=("w",)), store)
    assert log.take() == {"load": 1, "net": 12, "level": 12}


class WEIGHTS_ROW:
    name, sha256, licence = "w", "a" * 64, "CC0"


def test_a_shared_reference_is_seen_once(tmp_path: Path, log: Log) -> None:
    found = load(
        tmp_path,
        systems=["noisy", "tiny_copy", "tiny_voice"],
        conditions={"snr_db": [5, 0, -5]},
        metrics=["tiny_distance", "tiny_headroom"],
        count=4,
    )
    loads: list[Any] = []
    cases.run(found, tmp_path / "store", listeners=[loads.append])
    lines = log.lines()
    seen = [line for line in lines if line.startswith(("net", "peak"))]
    assert len(seen) == len(set(seen))
    counts = log.take()
    assert counts["peak"] == 4
    # the references, three mixtures of each, three copies of each, and one voice for all
    assert counts["net"] == 4 + 3 * 4 + 3 * 4 + 1
    assert sum(isinstance(event, NetworkLoaded) for event in loads) == 1


def test_a_system_without_audio_is_generated_once_for_all_snrs(tmp_path: Path, log: Log) -> None:
    found = load(
        tmp_path,
        systems=["tiny_copy", "tiny_voice"],
        conditions={"snr_db": [5, 0, -5]},
        metrics=["tiny_rms"],
        count=4,
    )
    cases.run(found, tmp_path / "store")
    counts = log.take()
    assert counts["voice"] == 4
    assert counts["copy"] == 12


def test_an_axis_that_a_system_takes_is_part_of_its_clips(tmp_path: Path, log: Log) -> None:
    found = load(
        tmp_path,
        references=[],
        systems=["tiny_axis"],
        conditions={"gain": [1.0, 0.5]},
        metrics=["tiny_rms"],
    )
    loud, soft = cases.run(found, tmp_path / "store").rows
    assert log.take()["axis"] == 12
    ratio = soft.cells["tiny_rms"].estimate.value / loud.cells["tiny_rms"].estimate.value
    assert ratio == pytest.approx(0.5, rel=1e-5)


def test_changed_content_is_noticed(tmp_path: Path, log: Log) -> None:
    store, clips = tmp_path / "store", tmp_path / "clips"
    cases.run(load(tmp_path), store)
    cases.age(clips)
    cases.run(load(tmp_path), store)  # same content, another time: nothing to do
    log.take()
    sound = media.read_audio(media.Clip(str(clips / "002.wav")), rate=16_000)
    louder = media.Audio(sound.samples * 1.5, 16_000)
    media.write_wav(clips / "002.wav", louder)
    board = cases.run(load(tmp_path), store)
    counts = log.take()
    assert counts["copy"] == 1 and counts["rms"] == 2 and counts["peak"] == 1
    values = {s.sample: s.value for s in board.rows[0].cells["tiny_headroom"].samples}
    assert values["u002"] == pytest.approx(1 - abs(louder.samples).max(), abs=1e-6)


def test_digests_are_remembered_across_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    hashed = media._sha256

    def counted(path: str) -> str:
        read.append(path)
        return hashed(path)

    monkeypatch.setattr(media, "_sha256", counted)
    monkeypatch.setattr(media, "_digests", {})
    found, store = load(tmp_path), tmp_path / "store"
    cases.age(tmp_path / "clips")
    cases.run(found, store)
    assert {Path(path).name for path in read} >= {"000.wav", "005.wav"}
    cases.age(store)
    cases.run(found, store)
    read.clear()
    media._digests.clear()  # as in a new process
    cases.run(found, store)
    assert not read


def test_a_missing_generated_file_is_made_again(tmp_path: Path, log: Log) -> None:
    found, store = load(tmp_path), tmp_path / "store"
    cases.run(found, store)
    tables = cases.tables(store)
    log.take()
    next((store / "media").rglob("generated.wav")).unlink()
    cases.run(found, store)
    assert log.take() == {"copy": 1}
    assert cases.tables(store) == tables


def test_a_failure_that_may_pass_is_tried_again(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load(tmp_path, metrics=["tiny_slow", "tiny_rms"])
    store = tmp_path / "store"
    monkeypatch.setenv("PHONOSCOPE_TINY_SLEEP", "nonsense")
    board = cases.run(found, store)
    codes = {s.code for row in board.rows for s in row.cells["tiny_slow"].samples}
    assert codes == {"metric_error"}
    assert "nonsense" in json.dumps(board.rows[0].cells["tiny_slow"].samples[0].error)
    monkeypatch.setenv("PHONOSCOPE_TINY_SLEEP", "0")
    log.take()
    board = cases.run(found, store)
    assert log.take() == {"slow": 12}
    assert all(row.cells["tiny_slow"].estimate.n == 6 for row in board.rows)
