"""The run store: rows, parts, what is no part, and disks that refuse."""

from __future__ import annotations

import ast
import errno
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_cases as cases
from tiny_cases import Log

from phonoscope import runner, store
from phonoscope.errors import StoreError
from phonoscope.events import PartSetAside
from phonoscope.store import RunStore


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> Iterator[None]:
    with cases.loaded():
        yield


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setenv("PHONOSCOPE_TINY_LOG", str(tmp_path / "log"))
    return Log(tmp_path / "log")


def digest_row(key: str, size: int = 1) -> dict[str, Any]:
    return {"key": key, "size": size, "mtime_ns": 2, "digest": f"of {key}"}


def clip_row(key: str, *, transient: bool = False) -> dict[str, Any]:
    row = {"key": key, "sample": "s", "status": "ok", "path": "p", "code": "", "error": ""}
    return row | {"transient": transient}


def parts(folder: Path, table: str) -> list[Path]:
    return sorted((folder / table).iterdir())


# -- rows ----------------------------------------------------------------------------------------


def test_rows_come_back(tmp_path: Path) -> None:
    opened = RunStore(tmp_path / "s")
    for number in range(10):
        opened.digests.add(digest_row(f"k{number}", number))
    before = opened.digests.fetch(["k3", "absent", "k9"])
    opened.flush()
    for found in (opened, RunStore(tmp_path / "s", create=False)):
        assert found.digests.fetch(["k3", "absent", "k9"]) == before
        assert before == [digest_row("k3", 3), None, digest_row("k9", 9)]
        assert len(found.digests) == 10 and "k4" in found.digests and "k10" not in found.digests
        assert list(found.digests.rows()) == [digest_row(f"k{n}", n) for n in range(10)]
        assert found.digests.fetch(["k1"], ["size"]) == [{"size": 1}]
    assert len(parts(tmp_path / "s", "digests")) == 1


def test_the_later_row_counts(tmp_path: Path) -> None:
    for size in range(4):
        opened = RunStore(tmp_path / "s")
        opened.digests.add(digest_row("k", size))
        assert opened.digests.fetch(["k"])[0]["size"] == size
        opened.flush()
    again = RunStore(tmp_path / "s")
    assert len(parts(tmp_path / "s", "digests")) == 4
    assert again.digests.fetch(["k"])[0]["size"] == 3
    assert len(again.digests) == 1


def test_what_may_pass_is_not_settled(tmp_path: Path) -> None:
    opened = RunStore(tmp_path / "s")
    opened.clips.add(clip_row("bad", transient=True))
    opened.clips.add(clip_row("good"))
    opened.flush()
    again = RunStore(tmp_path / "s")
    assert not again.clips.settled("bad") and again.clips.settled("good")
    assert "bad" in again.clips and not again.clips.settled("absent")
    again.clips.add(clip_row("bad"))
    again.flush()
    assert RunStore(tmp_path / "s").clips.settled("bad")


def view_row(key: str, data: bytes) -> dict[str, Any]:
    row = {"key": key, "view": "v", "status": "ok", "text": key, "data": data, "dtype": "uint8"}
    return row | {"shape": [len(data)], "code": "", "error": "", "transient": False}


def test_arrays_do_not_pile_up_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LIGHT_BYTES", 1_000)
    monkeypatch.setattr(store, "HELD_BYTES", 50_000)
    rows = [view_row(str(n), bytes([n]) * 10_000) for n in range(20)]
    opened = RunStore(tmp_path / "s")
    for row in rows:
        opened.views.add(row)
        opened.flush()
    for found in (opened, RunStore(tmp_path / "s")):
        keys = [row["key"] for row in rows]
        assert found.views.fetch(keys) == rows
        assert found.views.fetch(keys[::-1], ["data"]) == [{"data": r["data"]} for r in rows[::-1]]
        assert list(found.views.rows()) == rows
        assert sum(part.nbytes for part in found.views._parts) < 10_000
        assert sum(part.nbytes for part in found._held.values()) <= 50_000
    parts(tmp_path / "s", "views")[0].unlink()
    assert opened.views.fetch(["0"], ["text"]) == [{"text": "0"}]
    with pytest.raises(StoreError, match="s: "):
        opened.views.fetch(["0"])


def test_flushing_by_rows_and_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(store.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(store, "FLUSH_ROWS", 5)
    opened = RunStore(tmp_path / "s")
    for number in range(12):
        opened.digests.add(digest_row(f"a{number}"))
    assert len(parts(tmp_path / "s", "digests")) == 2
    now[0] += store.FLUSH_SECONDS + 1
    opened.digests.add(digest_row("late"))
    assert len(parts(tmp_path / "s", "digests")) == 3
    now[0] += 100_000
    opened.digests.add(digest_row("much later"))
    now[0] += store.FLUSH_SECONDS + 1  # a day long, a few seconds are no reason for a part
    opened.digests.add(digest_row("soon"))
    assert len(parts(tmp_path / "s", "digests")) == 4
    opened.flush()
    assert len(RunStore(tmp_path / "s").digests) == 15


# -- what is no part -----------------------------------------------------------------------------


def _cut(part: Path) -> None:
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])


def _empty(part: Path) -> None:
    part.write_bytes(b"")


def _flip(part: Path) -> None:
    raw = bytearray(part.read_bytes())
    for place in range(4, 60):
        raw[place] ^= 0xFF
    part.write_bytes(bytes(raw))


def _text(part: Path) -> None:
    part.write_text("notes of somebody\n")


def _other_columns(part: Path) -> None:
    pq.write_table(pa.table({"key": ["a"], "colour": ["red"]}), part)


def _other_types(part: Path) -> None:
    table = pq.read_table(part)
    place = table.schema.names.index("status")
    nested = pa.array([[1]] * len(table))
    pq.write_table(table.set_column(place, "status", nested), part)


def _no_keys(part: Path) -> None:
    table = pq.read_table(part)
    pq.write_table(table.set_column(0, "key", pa.nulls(len(table), pa.string())), part)


def _folder(part: Path) -> None:
    part.unlink()
    part.mkdir()
    (part / "inside.txt").write_text("x")


DAMAGES = [_cut, _empty, _flip, _text, _other_columns, _other_types, _no_keys, _folder]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_part_is_set_aside_and_measured_again(
    damage: Any, tmp_path: Path, log: Log
) -> None:
    found = cases.protocol(tmp_path / "clips", metrics=["tiny_rms", "tiny_gap"], count=3)
    folder = tmp_path / "store"
    cases.run(found, folder)
    tables = cases.tables(folder)
    log.take()
    (part,) = parts(folder, "records")
    damage(part)
    events: list[Any] = []
    board = cases.run(found, folder, listeners=[events.append])
    assert log.take() == {"rms": 6, "gap": 6}
    (event,) = [event for event in events if isinstance(event, PartSetAside)]
    assert event.path == str(part) and event.reason and "\n" not in event.reason
    assert Path(event.moved_to).exists() and not part.exists()
    assert Path(event.moved_to).parent == folder / "set_aside"
    (note,) = board.notes
    assert f"records/{part.name}" in note and event.reason in note
    assert note in json.loads((folder / "board/leaderboard.json").read_text())["notes"]
    assert part.stem in (folder / "board/leaderboard.md").read_text()
    assert cases.run(found, folder).notes == ()
    assert not log.take()
    assert cases.tables(folder) == tables


def test_a_foreign_file_costs_nothing(tmp_path: Path, log: Log) -> None:
    found = cases.protocol(tmp_path / "clips", count=3)
    folder = tmp_path / "store"
    cases.run(found, folder)
    for table in ("records", "views", "clips", "runs", "digests"):
        (folder / table).mkdir(exist_ok=True)
        (folder / table / "notes.txt").write_text("mine")
    log.take()
    assert len(cases.run(found, folder).notes) == 5
    assert not log.take()
    assert len(parts(folder, "set_aside")) == 5
    (folder / "records" / "notes.txt").write_text("mine again")
    cases.run(found, folder)
    texts = sorted(path.read_text() for path in parts(folder, "set_aside"))
    assert texts == ["mine"] * 5 + ["mine again"]  # the first was not overwritten


def test_hidden_and_temporary_files_are_no_parts(tmp_path: Path) -> None:
    opened = RunStore(tmp_path / "s")
    opened.digests.add(digest_row("k"))
    opened.flush()
    (part,) = parts(tmp_path / "s", "digests")
    left = [f".{part.name}.ab12.tmp", "part-0.parquet.tmp", ".DS_Store"]
    for name in left:
        (part.parent / name).write_bytes(b"PAR1 half")
    again = RunStore(tmp_path / "s")
    assert not again.set_aside and len(again.digests) == 1
    assert sorted(path.name for path in part.parent.iterdir()) == sorted([*left, part.name])


def test_readers_that_meet_over_a_bad_part(tmp_path: Path) -> None:
    RunStore(tmp_path / "s").flush()
    for number in range(20):
        (tmp_path / "s/records").mkdir(exist_ok=True)
        (tmp_path / f"s/records/part-{number:03d}.parquet").write_text("bad")
    errors: list[BaseException] = []
    together = threading.Barrier(6)

    def read() -> None:
        together.wait()
        try:
            RunStore(tmp_path / "s")
        except BaseException as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert not errors
    assert len(parts(tmp_path / "s", "set_aside")) == 20
    assert parts(tmp_path / "s", "records") == []


def test_a_part_that_another_reader_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = RunStore(tmp_path / "s")
    monkeypatch.setattr(RunStore, "_parts", lambda self, name: [f"{self.root}/{name}/gone.parquet"])
    again = RunStore(tmp_path / "s")
    assert len(again.set_aside) == 5
    assert "another run" in again.set_aside[0].reason
    assert not opened.set_aside


def test_a_bad_part_that_may_not_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = RunStore(tmp_path / "s")
    opened.digests.add(digest_row("k"))
    opened.flush()
    (tmp_path / "s/digests/notes.txt").write_text("x")
    monkeypatch.setattr(opened.fs, "mv", _refuse(errno.EROFS))
    again = RunStore(tmp_path / "s")
    (event,) = again.set_aside
    assert "left where it is" in event.reason and event.moved_to == ""
    assert "k" in again.digests


def test_a_part_that_cannot_be_read_is_not_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = RunStore(tmp_path / "s")
    opened.digests.add(digest_row("k"))
    opened.flush()
    monkeypatch.setattr(type(opened.fs), "open", _refuse(errno.EIO))
    with pytest.raises(StoreError, match="cannot be read"):
        RunStore(tmp_path / "s")
    assert len(parts(tmp_path / "s", "digests")) == 1


# -- what cannot be opened or written ------------------------------------------------------------


def _refuse(number: int) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"format": 2}')
    (tmp_path / "records").mkdir()
    (tmp_path / "records/part.of.tomorrow").write_text("x")
    with pytest.raises(StoreError, match=r"newer phonoscope .*format 2.*upgrade"):
        RunStore(tmp_path)
    assert (tmp_path / "records/part.of.tomorrow").exists()


@pytest.mark.parametrize("content", ["{}", "[]", "", "7", '{"format": "x"}', '{"format": null}'])
def test_what_is_no_store(tmp_path: Path, content: str) -> None:
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(StoreError, match="not a phonoscope store"):
        RunStore(tmp_path)


def test_places_where_no_store_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="--store"):
        RunStore(tmp_path / "file")
    with pytest.raises(StoreError, match="--store"):
        RunStore(tmp_path / "file" / "below")
    with pytest.raises(StoreError, match="no run store here"):
        RunStore(tmp_path / "absent", create=False)
    RunStore(tmp_path / "s")
    (tmp_path / "s" / "views").write_text("x")
    with pytest.raises(StoreError, match="move it away"):
        RunStore(tmp_path / "s")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "not writable; name another"),
        (errno.EROFS, "not writable; name another"),
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk is full; free some space"),
        (errno.EIO, "name another folder"),
    ],
)
def test_a_write_that_is_refused(
    number: int, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = RunStore(tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(opened.fs, "pipe_file", _refuse(number))
        opened.digests.add(digest_row("k"))
        with pytest.raises(StoreError, match=remedy) as caught:
            opened.flush()
        assert str(tmp_path / "s") in str(caught.value)
        with pytest.raises(StoreError, match=remedy):
            opened.write_text("note.json", "{}")
    assert "k" not in RunStore(tmp_path / "s").digests
    opened.flush()  # what was not written is still held
    assert "k" in RunStore(tmp_path / "s").digests


def test_no_folder_for_generated_clips(tmp_path: Path) -> None:
    found, folder = cases.protocol(tmp_path / "clips", count=2), tmp_path / "store"
    RunStore(folder)
    (folder / "media").write_text("in the way")
    with pytest.raises(StoreError, match=r"media: .*--store"):
        cases.run(found, folder)
    (folder / "media").unlink()
    assert all(row.cells["tiny_rms"].estimate.n == 2 for row in cases.run(found, folder).rows)


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))"


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_files_that_grow_too_large(engine: str, tmp_path: Path) -> None:
    """Nothing may be larger than 3 kB: the records' part is refused, generated clips before it."""
    found, folder = cases.protocol(tmp_path / "clips"), tmp_path / "store"
    cases.run(found | {"systems": []}, tmp_path / "elsewhere")  # the input clips exist
    for systems in ([], ["tiny_copy"]):
        errors = cases.ended(
            cases.start(found | {"systems": systems}, folder, engine=engine, before=LIMITED)
        )
        last = errors.strip().splitlines()[-1]
        assert last.startswith("phonoscope.errors.StoreError"), errors
        assert "the disk is full; free some space and run the same command" in last
        assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
    assert not RunStore(folder).set_aside
    cases.run(found, folder)
    cases.run(found, tmp_path / "clean")
    assert cases.tables(folder) == cases.tables(tmp_path / "clean")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here: that takes root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("room", range(0, 73, 8))
def test_a_full_disk(room: int, small_disk: Path, tmp_path: Path) -> None:
    """The disk fills up at one place or another: the run says so, and goes on once it has room."""
    found, folder = cases.protocol(tmp_path / "clips", count=4), small_disk / "store"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((240 - room) << 10))
    for _ in range(2):
        with pytest.raises(StoreError, match="the disk is full; free some space"):
            cases.run(found, folder)
    ballast.unlink()
    board = cases.run(found, folder)
    assert board.notes == ()
    cases.run(found, tmp_path / "clean")
    assert cases.tables(folder) == cases.tables(tmp_path / "clean")


# -- other places, other readers -----------------------------------------------------------------


def test_a_store_in_memory(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cases.protocol(tmp_path / "clips", count=3)
    url = f"memory://{tmp_path.name}/store"
    with pytest.raises(StoreError, match="PHONOSCOPE_MEDIA"):
        cases.run(found, url)
    monkeypatch.setenv("PHONOSCOPE_MEDIA", str(tmp_path / "media"))
    first = cases.run(found, url)
    assert log.take()["copy"] == 3
    assert cases.run(found, url) == first
    assert not log.take()
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/records/notes.txt", b"mine")
    assert len(cases.run(found, url).notes) == 1
    assert fs.cat_file(f"{root}/set_aside/records-notes.txt") == b"mine"
    assert not log.take()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled")
    cases.run(cases.protocol(root / "clips"), root / "store")
    return root / "store"


def test_pandas_reads_it(filled: Path) -> None:
    (filled / "records/.part-0.parquet.1.tmp").write_bytes(b"half")
    frame = pd.read_parquet(filled / "records")
    assert len(frame) == 12 * 5 + 6  # five metrics over two kinds of sound, one over references
    values = frame[frame.metric == "tiny_rms"].value
    assert len(values) == 12 and values.between(0, 1).all()
    assert set(frame.status) == {"ok"}


def test_no_pickle(filled: Path) -> None:
    plain = {"string", "double", "int64", "bool", "binary"}
    plain |= {"list<element: int64>", "list<element: string>"}
    tables = [pq.read_table(part) for part in filled.rglob("*.parquet")]
    assert len(tables) >= 5
    for table in tables:
        assert {str(kind) for kind in table.schema.types} <= plain
        if "dtype" in table.schema.names:
            assert set(table.column("dtype").to_pylist()) <= {"", "<f4", "<f8"}
    for name in ("store", "measure", "generate"):
        source = Path(store.__file__).with_name(f"{name}.py").read_text()
        imported = {
            alias.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not imported & {"pickle", "cloudpickle", "marshal", "shelve", "joblib"}


# -- two runs at once ----------------------------------------------------------------------------


@pytest.mark.parametrize("systems", [["tiny_slow_copy"], ["tiny_copy"]], ids=["same", "other"])
def test_two_runs_into_one_store_lose_nothing(
    systems: list[str], tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_TINY_SLEEP", "0.02")
    metrics = [*cases.METRICS, "tiny_slow"]
    found = cases.protocol(
        tmp_path / "clips", systems=["tiny_slow_copy"], metrics=metrics, count=16
    )
    other = found | {"systems": systems} | ({"limit": 9} if systems == ["tiny_copy"] else {})
    folder = tmp_path / "store"
    together = [cases.start(found, folder), cases.start(other, folder)]
    errors = [cases.ended(process) for process in together]
    assert [process.returncode for process in together] == [0, 0], errors
    log.take()
    for part in (found, other):
        cases.run(part, folder)
        assert not log.take()
        cases.run(part, tmp_path / "alone")
        log.take()
        assert cases.tables(folder) == cases.tables(tmp_path / "alone")
    assert not RunStore(folder).set_aside
    assert len(list((folder / "media").rglob("generated.wav"))) == 16 + 9 * (found != other)
    assert not list((folder / "media" / ".partial").iterdir())


def test_two_runs_make_one_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run puts the same clip into place while this one makes it."""
    found = cases.protocol(tmp_path / "clips", systems=["tiny_copy"], metrics=["tiny_gap"], count=3)
    cases.run(found, tmp_path / "first")
    folder = tmp_path / "second"
    shutil.copytree(tmp_path / "first" / "media", folder / "media")
    made = list((folder / "media").rglob("generated.wav"))
    made[0].unlink()  # a folder without its clip is replaced
    before = {path: path.stat().st_ino for path in made[1:]}
    cases.run(found, folder)
    assert {path: path.stat().st_ino for path in made[1:]} == before
    assert len(list((folder / "media").rglob("generated.wav"))) == 3
    assert cases.tables(folder) == cases.tables(tmp_path / "first")


def test_what_killed_runs_left_half_made_is_removed_in_time(tmp_path: Path) -> None:
    found, folder = cases.protocol(tmp_path / "clips", count=2), tmp_path / "store"
    left = folder / "media" / ".partial"
    for name in ("old", "young"):
        (left / name).mkdir(parents=True)
        (left / name / "half.wav").write_bytes(b"RIFF")
    os.utime(left / "old", (0, 0))
    cases.run(found, folder)
    assert [path.name for path in left.iterdir()] == ["young"]


def test_a_store_that_is_open_already_may_be_given(tmp_path: Path) -> None:
    found = cases.protocol(tmp_path / "clips", count=2)
    opened = runner.open_store(tmp_path / "store", runner.protocol.load(found))
    board = cases.run(found, opened)
    assert cases.run(found, tmp_path / "store") == board
