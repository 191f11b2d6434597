"""The run store: append-only Parquet parts in a folder (local, or any fsspec URL).

A part is written under a temporary name and renamed, and no two writers share one, so killing the
process loses at most what was not flushed, and two runs may write into one store. Reading takes all
parts; where a key stands twice, the later one counts. A broken or foreign part is moved to
`set_aside/` and named. Hidden files and ``*.tmp`` (what a killed writer left) are no parts.

Keys, texts and numbers stay in memory; the arrays of large parts are read again when they are asked
for, and the last few are held.
"""

from __future__ import annotations

import contextlib
import errno
import json
import time
import uuid
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from phonoscope.errors import StoreError
from phonoscope.events import PartSetAside

FORMAT = 1
FLUSH_ROWS = 20_000
# A killed run loses its last 5 s, or its last hundredth where that is longer: however long it
# takes, parts stay few.
FLUSH_SECONDS = 5.0
FLUSH_SHARE = 0.01
# The arrays of a part stay in memory if they are smaller; of the others the last few do.
LIGHT_BYTES = 1 << 20
HELD_BYTES = 256 << 20

FULL = "the disk is full; free some space and run the same command: it resumes"
LOCKED = "the folder is not writable; name another with --store"
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), LOCKED),
}

TEXT, REAL, FLAG, WHOLE = pa.string(), pa.float64(), pa.bool_(), pa.int64()
ARRAY = [("dtype", TEXT), ("shape", pa.list_(WHOLE))]
REASON = [("code", TEXT), ("error", TEXT), ("transient", FLAG)]
SCHEMAS = {
    "runs": [("key", TEXT), ("description", TEXT)],
    "clips": [("key", TEXT), ("sample", TEXT), ("status", TEXT), ("path", TEXT), *REASON],
    "digests": [("key", TEXT), ("size", WHOLE), ("mtime_ns", WHOLE), ("digest", TEXT)],
    "views": [
        *[("key", TEXT), ("view", TEXT), ("status", TEXT), ("text", TEXT), ("data", pa.binary())],
        *ARRAY,
        *REASON,
    ],
    "records": [
        *[("key", TEXT), ("metric", TEXT), ("status", TEXT), ("value", REAL)],
        *[("denominator", REAL), ("vectors", pa.binary()), *ARRAY],
        *[("flags", pa.list_(TEXT)), ("info", TEXT), ("stage", TEXT), *REASON],
    ],
}
ARRAYS = ("data", "vectors")


def _places(rows: list[int]) -> pa.Array:
    """Return row numbers as Arrow has them; `pa.array` would import pandas, which takes a while."""
    numbers = array("q", rows)
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(numbers)])


class Shelf:
    """One table of the store. Rows are dicts with a `key`; `add` makes them visible at once."""

    def __init__(self, name: str, store: RunStore) -> None:
        self.name, self._store = name, store
        self.schema = pa.schema(SCHEMAS[name])
        self._parts: list[pa.Table] = []
        self._files: dict[int, str] = {}
        self._index: dict[str, tuple[int, int]] = {}
        self._fresh: list[dict[str, Any]] = []
        self._transient: set[str] = set()
        self._opened = self._flushed = time.monotonic()

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def __len__(self) -> int:
        return len(self._index)

    def settled(self, key: str) -> bool:
        """Return whether there is a row of `key` that need not be tried again."""
        return key in self._index and key not in self._transient

    def load(self, table: pa.Table, path: str) -> None:
        """Take in one part that is on disk."""
        number = len(self._parts)
        arrays = [name for name in ARRAYS if name in self.schema.names]
        if arrays and table.select(arrays).nbytes > LIGHT_BYTES:
            self._files[number] = path
            self._store.hold(path, table)
            table = table.drop_columns(arrays)
        self._parts.append(table)
        keys = table.column("key").to_pylist()
        self._index.update((key, (number, row)) for row, key in enumerate(keys))
        if "transient" in self.schema.names:
            self._transient.difference_update(keys)
            again = table.filter(table.column("transient")).column("key").to_pylist()
            self._transient.update(again)

    def add(self, row: dict[str, Any]) -> None:
        """Append one row; it reaches the disk at the next flush."""
        self.extend([row])

    def extend(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows that are done at one time; a flush that is due takes all of them along."""
        for row in rows:
            self._index[row["key"]] = (-1, len(self._fresh))
            self._fresh.append(row)
        if self._due() or len(self._fresh) >= FLUSH_ROWS:
            self.flush()

    def _due(self) -> bool:
        now = time.monotonic()
        return now - self._flushed > FLUSH_SECONDS + FLUSH_SHARE * (now - self._opened)

    def flush(self) -> None:
        """Write the fresh rows as one part."""
        self._flushed = time.monotonic()
        if not self._fresh:
            return
        table = pa.Table.from_pylist(self._fresh, schema=self.schema)
        path = self._store.write_part(self.name, table)
        self._fresh = []
        self.load(table, path)

    def fetch(self, keys: Sequence[str], columns: Sequence[str] | None = None) -> list[Any]:
        """Return the rows of `keys` in order, None where there is none."""
        found: list[Any] = [None] * len(keys)
        wanted: dict[int, list[tuple[int, int]]] = {}
        for place, key in enumerate(keys):
            part, row = self._index.get(key, (-2, 0))
            if part == -1:
                found[place] = self._fresh[row]
            elif part >= 0:
                wanted.setdefault(part, []).append((place, row))
        for part, pairs in wanted.items():
            table = self._part(part, columns or self.schema.names)
            rows = table.take(_places([row for _, row in pairs])).to_pylist()
            for (place, _), row in zip(pairs, rows, strict=True):
                found[place] = row
        return found

    def _part(self, number: int, columns: Sequence[str]) -> pa.Table:
        asks_arrays = number in self._files and not set(ARRAYS).isdisjoint(columns)
        table = self._store.whole(self._files[number]) if asks_arrays else self._parts[number]
        return table.select(columns)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every row that counts."""
        keys = list(self._index)
        for start in range(0, len(keys), FLUSH_ROWS):
            yield from self.fetch(keys[start : start + FLUSH_ROWS])


class RunStore:
    """A store, opened for reading and writing.

    Parameters
    ----------
    url : str or Path
        A folder, or an fsspec URL such as ``s3://bucket/run`` or ``memory://run``.
    create : bool
        Make the folder where it is absent; otherwise that is an error.
    listen : callable
        Told of parts that were set aside.

    Raises
    ------
    StoreError
        If it cannot be opened, or was written by a newer version.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        create: bool = True,
        listen: Callable[[PartSetAside], None] = lambda event: None,
    ) -> None:
        self.url = str(url)
        self.fs, self.root = fsspec.core.url_to_fs(self.url)
        self._listen = listen
        self.set_aside: list[PartSetAside] = []
        self._held: OrderedDict[str, pa.Table] = OrderedDict()
        self._open(create)
        self.runs = self._shelf("runs")
        self.clips = self._shelf("clips")
        self.digests = self._shelf("digests")
        self.views = self._shelf("views")
        self.records = self._shelf("records")

    @property
    def local(self) -> Path | None:
        """The folder, if the store is on this machine."""
        return Path(self.root) if "file" in _protocols(self.fs) else None

    def _open(self, create: bool) -> None:
        self.fs.invalidate_cache()
        marker = f"{self.root}/store.json"
        if self.fs.exists(marker):
            self._check_format(marker)
            return
        if not create:
            raise StoreError(f"{self.url}: no run store here; `phonoscope run` makes one")
        with explained(self.url):
            self.fs.makedirs(self.root, exist_ok=True)
            self._write(marker, json.dumps({"format": FORMAT}).encode())

    def _check_format(self, marker: str) -> None:
        try:
            found = int(json.loads(self.fs.cat_file(marker))["format"])
        except (ValueError, KeyError, TypeError, IsADirectoryError):
            raise StoreError(f"{marker}: not a phonoscope store; name another folder") from None
        except OSError as error:
            raise StoreError(f"{marker}: cannot be read: {error.strerror or error}") from error
        if found > FORMAT:
            raise StoreError(
                f"{self.url}: written by a newer phonoscope (store format {found}, "
                f"this one reads up to {FORMAT}); upgrade phonoscope or name another folder"
            )

    def _shelf(self, name: str) -> Shelf:
        shelf = Shelf(name, self)
        for path in self._parts(name):
            table = self._read_part(path, shelf.schema)
            if table is not None:
                shelf.load(table, path)
        return shelf

    def hold(self, path: str, table: pa.Table) -> None:
        """Keep a whole part at hand, and let go of those that were not asked for lately."""
        self._held[path] = table
        self._held.move_to_end(path)
        while len(self._held) > 1 and sum(t.nbytes for t in self._held.values()) > HELD_BYTES:
            self._held.popitem(last=False)

    def whole(self, path: str) -> pa.Table:
        """Return a part with its arrays, read again if it is not at hand."""
        table = self._held.get(path)
        if table is None:
            with explained(self.url), self.fs.open(path, "rb") as file:
                table = pq.ParquetFile(file).read()
        self.hold(path, table)
        return table

    def _parts(self, name: str) -> list[str]:
        """Return everything in a table's folder that is no hidden file, oldest part first."""
        folder = f"{self.root}/{name}"
        if not self.fs.exists(folder):
            return []
        if not self.fs.isdir(folder):
            raise StoreError(f"{folder}: a file where the store has a folder; move it away")
        paths = self.fs.ls(folder, detail=False)
        names = [path.rstrip("/").rpartition("/")[2] for path in paths]
        ignored = [name for name in names if name.startswith(".") or name.endswith(".tmp")]
        return [f"{folder}/{name}" for name in sorted(set(names).difference(ignored))]

    def _read_part(self, path: str, schema: pa.Schema) -> pa.Table | None:
        try:
            with self.fs.open(path, "rb") as file:
                return _checked(pq.ParquetFile(file).read(), schema)
        except FileNotFoundError:
            reason = "gone when it was to be read: another run set it aside"
            self._name(PartSetAside(path, reason, f"{self.root}/set_aside"))
        except (pa.ArrowException, KeyError) as error:
            self._put_aside(path, f"{type(error).__name__}: {error}")
        except OSError as error:
            if error.errno not in (None, errno.EISDIR):
                text = f"{path}: cannot be read: {error.strerror}; check disk and permissions"
                raise StoreError(text) from error
            self._put_aside(path, f"no Parquet file: {error.strerror or error}")
        return None

    def _put_aside(self, path: str, reason: str) -> None:
        """Move a part away; where that is not allowed, leave it, for reading must go on."""
        reason = reason.splitlines()[0]
        target = f"{self.root}/set_aside/{'-'.join(path.rsplit('/', 2)[-2:])}"
        if self.fs.exists(target):
            target = f"{target}.{uuid.uuid4().hex[:8]}"
        try:
            self.fs.makedirs(f"{self.root}/set_aside", exist_ok=True)
            self.fs.mv(path, target, recursive=True)
        except FileNotFoundError:
            target = f"{self.root}/set_aside"
        except OSError as error:
            target, reason = "", f"{reason} (left where it is: {error.strerror or error})"
        self._name(PartSetAside(path, reason, target))

    def _name(self, event: PartSetAside) -> None:
        self.set_aside.append(event)
        self._listen(event)

    def write_part(self, name: str, table: pa.Table) -> str:
        """Write one part of a table, whole or not at all; return where it lies."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        file = f"part-{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.parquet"
        with explained(self.url):
            self.fs.makedirs(f"{self.root}/{name}", exist_ok=True)
            self._write(f"{self.root}/{name}/{file}", sink.getvalue().to_pybytes())
        return f"{self.root}/{name}/{file}"

    def _write(self, path: str, data: bytes) -> None:
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            self.fs.pipe_file(temporary, data)
            self.fs.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                self.fs.rm(temporary)
            raise

    def write_text(self, name: str, text: str) -> None:
        """Write a small file beside the tables, whole or not at all."""
        with explained(self.url):
            self._write(f"{self.root}/{name}", text.encode())

    def shelves(self) -> Iterable[Shelf]:
        """Return all tables."""
        return self.runs, self.clips, self.digests, self.views, self.records

    def flush(self) -> None:
        """Write everything that is still in memory."""
        for shelf in self.shelves():
            shelf.flush()


def _checked(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the store's columns of a table; raise `ArrowInvalid` or `KeyError` on any other."""
    found = table.select(schema.names).cast(schema)
    found.validate(full=True)
    if found.column("key").null_count:
        raise pa.ArrowInvalid("rows without a key")
    return found


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn an operating system's error into a `StoreError` that says what to do."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "name another folder with --store")
        raise StoreError(f"{url}: {error.strerror or error}: {remedy}") from error
