"""Protocols over the small world of `plugins/tiny.py`, and what tests ask of their results."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from phonoscope import plugins, runner, views

TINY = Path(__file__).resolve().parent / "plugins" / "tiny.py"
METRICS = ("tiny_rms", "tiny_gap", "tiny_ratio", "tiny_level", "tiny_distance", "tiny_headroom")
TABLES = ("leaderboard.csv", "leaderboard.json", "leaderboard.md", "samples.csv")


@contextlib.contextmanager
def loaded() -> Iterator[None]:
    """Have the small world's plugins for a while: tests over all plugins are not to see them."""
    plugins.discover()
    registries = (plugins.METRICS, plugins.SYSTEMS, plugins.DATASETS, views.VIEWS)
    before = [dict(registry._items) for registry in registries]
    modules = set(sys.modules)
    views._networks.clear()
    views.load_file(TINY)
    try:
        yield
    finally:
        for registry, items in zip(registries, before, strict=True):
            registry._items = items
        for name in set(sys.modules) - modules:
            if name.startswith(views.PLUGIN_PREFIX):
                del sys.modules[name]


def protocol(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return a protocol over clips in `folder`; `count` says how many, the rest are its keys."""
    options = {"folder": str(folder), "count": changes.pop("count", 6)}
    return {
        "name": "tiny",
        "task": "lip2speech",
        "datasets": [{"name": "tiny", "options": options}],
        "references": ["reference"],
        "systems": ["noisy", "tiny_copy"],
        "metrics": list(METRICS),
        **changes,
    }


def run(found: Any, store: Any, **options: Any) -> Any:
    """Run it, serially unless told otherwise, and render tables only."""
    given = {"engine": "serial", "formats": ("csv", "json", "md"), "plugin_files": [TINY]}
    return runner.run(found, store, **given | options)


def tables(store: Path) -> dict[str, str]:
    """Return the board's files by name, with the store's own path taken out."""
    folder = store / "board"
    return {
        name: (folder / name).read_text("utf-8").replace(str(store), "STORE") for name in TABLES
    }


class Log:
    """Counts what the small world did."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        """Every call, oldest first."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    def take(self) -> Counter[str]:
        """Return how often each thing was done since the last time."""
        found = Counter(line.split()[0] for line in self.lines())
        self.path.unlink(missing_ok=True)
        return found


def age(folder: Path) -> None:
    """Make files a minute old, so that their digests are remembered."""
    then = time.time() - 60
    for path in folder.rglob("*.wav"):
        os.utime(path, (then, then))


def children(pid: int) -> set[int]:
    """Return all living descendants of a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while fresh := {child for child, parent in parents.items() if parent in found} - found:
        found |= fresh
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    """Return those processes that have not ended."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                found.add(pid)
    return found


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> bool:
    """Wait until the condition holds; return whether it did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


CHILD = """
import sys
from phonoscope import runner, store
found, folder, plugin, engine = eval(sys.argv[1])
store.FLUSH_SECONDS = 0.05
formats = ("csv", "json", "md")
runner.run(found, folder, engine=engine, workers=2, plugin_files=[plugin], formats=formats)
"""


def start(
    found: dict[str, Any],
    store: Path,
    *,
    engine: str = "processes",
    before: str = "",
    **variables: str,
) -> subprocess.Popen[str]:
    """Run a protocol in a process of its own that flushes often; `before` is run first."""
    given = (found, str(store), str(TINY), engine)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", before + CHILD, repr(given)],
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | variables,
    )


def ended(process: subprocess.Popen[str], seconds: float = 120) -> str:
    """Wait for a process; return what it said on stderr."""
    return process.communicate(timeout=seconds)[1]
