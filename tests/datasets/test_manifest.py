"""Data sets that are a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phonoscope.datasets.manifest import COLUMNS, manifest
from phonoscope.errors import DatasetError, SpecError
from phonoscope.types import Clip

ROWS = [
    {"id": "a", "group": "s1", "reference": "clean/a.wav", "audio": "a.wav", "transcript": "hello"},
    {"id": "b", "group": "s1", "reference": "clean/b.wav", "audio": "", "transcript": 'x, "y"'},
    {"id": "c", "group": "s2", "reference": "/far/c.wav", "audio": "../c.wav", "transcript": ""},
]


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    quoted = [['"' + str(v).replace('"', '""') + '"' for v in row.values()] for row in rows]
    return "\n".join([",".join(rows[0]), *(",".join(row) for row in quoted)]) + "\n"


def written(folder: Path, kind: str, rows: Sequence[dict[str, Any]] = ROWS) -> Path:
    path = folder / f"table.{kind}"
    if kind == "csv":
        path.write_text(csv_text(rows), encoding="utf-8")
    elif kind == "jsonl":
        lines = [json.dumps({k: v for k, v in row.items() if v != ""}) for row in rows]
        path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_all_kinds_of_table_give_the_same_samples(tmp_path: Path, kind: str) -> None:
    found = manifest("mine", path=written(tmp_path, kind))
    a, b, c = found.samples
    assert [(s.id, s.group) for s in found.samples] == [("a", "s1"), ("b", "s1"), ("c", "s2")]
    assert a.reference == Clip(str(tmp_path / "clean/a.wav"))
    assert a.inputs == {"audio": Clip(str(tmp_path / "a.wav"))}
    assert b.inputs == {}
    assert b.meta == {"transcript": 'x, "y"'}
    assert c.reference == Clip("/far/c.wav")
    assert c.inputs["audio"].path == str(tmp_path / "../c.wav")
    assert c.meta == {}


def test_all_kinds_of_table_give_the_same_revision(tmp_path: Path) -> None:
    kinds = ("csv", "jsonl", "parquet")
    assert len({manifest("m", path=written(tmp_path, k)).revision for k in kinds}) == 1


def test_paths_may_start_elsewhere(tmp_path: Path) -> None:
    found = manifest("mine", path=written(tmp_path, "csv"), root=tmp_path / "data")
    assert found.samples[0].reference == Clip(str(tmp_path / "data/clean/a.wav"))


def test_noise(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "n/1.wav").write_bytes(b"x")
    found = manifest("mine", path=written(tmp_path, "csv"), noise={"street": "n"})
    assert found.noises == {"street": (Clip(str(tmp_path / "n/1.wav")),)}


STRANGE = [
    "../../etc/passwd",
    "/abs/olute",
    "with space",
    "quo'te\"s",
    "\u6f22\u5b57 \U0001f600",
    "x" * 300,
    "a\nb",
    "{id}",
    "%s",
]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_ids_may_hold_anything(tmp_path: Path, kind: str) -> None:
    rows = [{"id": name, "group": "g"} for name in STRANGE]
    found = manifest("mine", path=written(tmp_path, kind, rows))
    assert [s.id for s in found.samples] == STRANGE


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_duplicate_ids_name_both_rows(tmp_path: Path, kind: str) -> None:
    rows = [{"id": name, "group": "g"} for name in ("a", "b", "a")]
    with pytest.raises(DatasetError) as error:
        manifest("mine", path=written(tmp_path, kind, rows))
    first, last = (2, 4) if kind == "csv" else (1, 3)
    word = "row" if kind == "parquet" else "line"
    assert f"{word} {last}: the id 'a'" in str(error.value)
    assert f"{word} {first} already" in str(error.value)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("column", ["id", "group"])
def test_a_missing_column_is_named_with_what_is_allowed(
    tmp_path: Path, kind: str, column: str
) -> None:
    rows = [{name: value for name, value in row.items() if name != column} for row in ROWS]
    with pytest.raises(SpecError) as error:
        manifest("mine", path=written(tmp_path, kind, rows))
    assert f"the column {column} is missing; allowed: {', '.join(COLUMNS)}" in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_unknown_column_gets_a_suggestion(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SpecError, match=r"unknown column 'transcrit'; did you mean transcript\?"):
        manifest(
            "mine", path=written(tmp_path, kind, [{"id": "a", "group": "g", "transcrit": "x"}])
        )


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_empty_id_or_group_is_named(tmp_path: Path, kind: str) -> None:
    rows = [{"id": "a", "group": "g"}, {"id": "b", "group": ""}]
    with pytest.raises(SpecError, match=r"(line|row) [23].*group"):
        manifest("mine", path=written(tmp_path, kind, rows))


@pytest.mark.parametrize("value", [3, 2.5, True, ["x"], {"a": 1}])
def test_a_value_of_another_type_is_named(tmp_path: Path, value: Any) -> None:
    rows = [{"id": "a", "group": "g"}, {"id": "b", "group": "g", "audio": value}]
    with pytest.raises(SpecError, match=r"line 2: audio is .*; it has to be text"):
        manifest("mine", path=written(tmp_path, "jsonl", rows))


def test_a_parquet_column_of_numbers_is_named(tmp_path: Path) -> None:
    rows = [{"id": 1, "group": "g"}, {"id": 2, "group": "g"}]
    with pytest.raises(SpecError, match=r"row 1: id is 1 \(int\); it has to be text"):
        manifest("mine", path=written(tmp_path, "parquet", rows))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"id,group\na,g,extra\n", "line 2: 3 cells under 2 columns"),
        ("t.csv", b'id,group\n"a,g\n', "not valid CSV"),
        ("t.csv", b"id,group,id\na,g,b\n", "the column id stands in the table twice"),
        ("t.csv", b"id,group\n\xff,g\n", "not UTF-8"),
        ("t.csv", b"", "the column id is missing"),
        ("t.jsonl", b'{"id": "a", "group": "g"}\n{"id": \n', "line 2: not valid JSON"),
        ("t.jsonl", b"[1]\n", "line 1: a line is an object"),
        ("t.jsonl", b'{"id": "\\ud800", "group": "g"}\n', "id holds half a character"),
        ("t.parquet", b"no parquet", "not a Parquet file"),
        ("t.xlsx", b"", r"unknown kind of table; allowed: \.csv, \.jsonl, \.parquet"),
    ],
)
def test_a_broken_table_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SpecError, match=message) as error:
        manifest("mine", path=path)
    assert str(path) in str(error.value)


def test_an_absent_table_and_one_without_rows(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file; correct the path"):
        manifest("mine", path=tmp_path / "nowhere.csv")
    (tmp_path / "t.csv").write_text("id,group\n")
    with pytest.raises(DatasetError, match="has no rows"):
        manifest("mine", path=tmp_path / "t.csv")


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfid,group\r\na,g\r\n\r\nb,g\r\n")
    assert [s.id for s in manifest("mine", path=path).samples] == ["a", "b"]
