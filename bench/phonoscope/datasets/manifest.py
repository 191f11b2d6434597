"""Data sets that are a table: CSV, JSONL or Parquet with the roles as columns."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from phonoscope.datasets import NoisePlace, build, read_noises
from phonoscope.errors import DatasetError, SpecError
from phonoscope.plugins import dataset
from phonoscope.types import TEXT_ROLES, Clip, Dataset, Sample

REQUIRED = ("id", "group")
CLIPS = ("reference", "video", "audio", "enrollment", "image")
COLUMNS = REQUIRED + CLIPS + TEXT_ROLES
Row: TypeAlias = tuple[str, Mapping[str, str]]


@dataset
def manifest(
    name: str,
    *,
    path: str | Path,
    root: str | Path | None = None,
    noise: Mapping[str, NoisePlace] | None = None,
) -> Dataset:
    """Read samples from a table: CSV, JSONL or Parquet, a row each, in the table's order.

    Columns: `id` and `group` (required in every row); files `reference`, `video`, `audio`,
    `enrollment`, `image`; texts `transcript`, `label`, `prompt`. An empty cell (in JSONL also null
    or an absent key) means that the sample has no such thing. All values are text.

    An id may hold anything (spaces, quotes, slashes, ``../``, 300 characters): it names results and
    is never used as the name of a file that is written. No two rows may have the same id.

    Whether the files exist is not asked here: a missing one is a failure of its sample, by name.

    Parameters
    ----------
    name : str
        Of the data set.
    path : path
        ``.csv``, ``.jsonl`` or ``.parquet``; UTF-8.
    root : path, optional
        Where relative paths in the table start; the table's own folder by default.
    noise : mapping of name to path, optional
        Sound files, folders or lists of them, or data sets of noises, for `snr_db` conditions;
        paths are relative to `root`.

    Raises
    ------
    SpecError
        For a column that is missing or unknown, or a value of another type: names the file, the
        line, the column and what is allowed.
    DatasetError
        If two rows have one id.
    """
    path = Path(path).expanduser().absolute()
    base = Path(root).expanduser().absolute() if root else path.parent
    samples: dict[str, Sample] = {}
    lines: dict[str, str] = {}
    for where, row in _rows(path):
        sample = _sample(where, row, base)
        if sample.id in samples:
            raise DatasetError(
                f"{where}: the id {sample.id!r} is that of {lines[sample.id]} already"
            )
        samples[sample.id], lines[sample.id] = sample, where
    if not samples:
        raise DatasetError(f"{path}: the table has no rows")
    noises, gaps = read_noises(noise, base)
    return build(name, samples.values(), noises, lacking=gaps)


def _sample(where: str, row: Mapping[str, str], base: Path) -> Sample:
    for column in REQUIRED:
        if not row.get(column):
            raise SpecError(f"{where}: {column} is empty; every sample needs one")
    clips = {role: Clip(str(base / row[role])) for role in CLIPS if row.get(role)}
    return Sample(
        id=row["id"],
        group=row["group"],
        reference=clips.pop("reference", None),
        inputs=clips,
        meta={role: row[role] for role in TEXT_ROLES if row.get(role)},
    )


def _rows(path: Path) -> Iterator[Row]:
    """Yield the place of each row (for messages) and its cells."""
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SpecError(f"{path}: unknown kind of table; allowed: {', '.join(readers)}")
    if not path.is_file():
        raise SpecError(f"{path}: no such file; correct the path of the manifest")
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 ({error}); save the table as UTF-8") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror or error})") from None


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            _check_columns(f"{path}: line 1", header)
            for cells in reader:
                where = f"{path}: line {reader.line_num}"
                if cells:
                    yield where, _zipped(where, header, cells)
        except csv.Error as error:
            raise SpecError(f"{path}: line {reader.line_num}: not valid CSV: {error}") from None


def _zipped(where: str, header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise SpecError(
            f"{where}: {len(cells)} cells under {len(header)} columns; "
            "put a value that holds a comma into double quotes"
        )
    return dict(zip(header, cells, strict=True))


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}: line {number}"
            if line.strip():
                row = _object(where, line)
                _check_columns(where, row)
                yield where, _texts(where, row)


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise SpecError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise SpecError(f"{where}: a line is an object with the keys {', '.join(COLUMNS)}")
    return row


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow.lib
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.lib.ArrowException as error:
        raise SpecError(f"{path}: not a Parquet file that can be read: {error}") from None
    _check_columns(str(path), table.column_names)
    for number, row in enumerate(table.to_pylist(), 1):
        where = f"{path}: row {number}"
        yield where, _texts(where, row)


def _check_columns(where: str, columns: Iterable[str]) -> None:
    columns = list(columns)
    allowed = f"allowed: {', '.join(COLUMNS)}"
    for column in columns:
        if column not in COLUMNS:
            near = difflib.get_close_matches(column, COLUMNS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SpecError(f"{where}: unknown column {column!r}; {hint}{allowed}")
        if columns.count(column) > 1:
            raise SpecError(f"{where}: the column {column} stands in the table twice")
    for column in REQUIRED:
        if column not in columns:
            raise SpecError(f"{where}: the column {column} is missing; {allowed}")


def _texts(where: str, row: Mapping[str, Any]) -> dict[str, str]:
    return {
        column: _text(where, column, value) for column, value in row.items() if value is not None
    }


def _text(where: str, column: str, value: Any) -> str:
    if not isinstance(value, str):
        kind = type(value).__name__
        raise SpecError(f"{where}: {column} is {value!r} ({kind}); it has to be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SpecError(f"{where}: {column} holds half a character ({value!r})") from None
    return value
