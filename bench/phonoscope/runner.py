"""Run: the straight line from a protocol to a leaderboard."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonoscope import assemble, engines, generate, media, plugins, protocol
from phonoscope.assemble import Line
from phonoscope.engines import Engine
from phonoscope.events import Listener, RunFinished, RunMeasured, RunStarted
from phonoscope.leaderboard import Leaderboard, render
from phonoscope.measure import Planner, measure
from phonoscope.protocol import Protocol
from phonoscope.store import RunStore
from phonoscope.types import Clip, Failure, Window
from phonoscope.views import attempt

STORE = "runs/{name}"


def run(
    source: str | Path | Mapping[str, Any] | Protocol,
    store: str | Path | RunStore | None = None,
    *,
    engine: str | Engine = "processes",
    workers: int | None = None,
    device: str = "cpu",
    limit: int | None = None,
    plugin_files: Sequence[Path | str] = (),
    listeners: Sequence[Listener] = (),
    formats: Sequence[str] = ("html", "md", "tex", "csv", "json"),
) -> Leaderboard:
    """Run a protocol and return its board; what the store has already is not done again.

    Parameters
    ----------
    source : path, name of a packaged board, mapping, or Protocol
        What to measure.
    store : path, URL or RunStore
        Where results are kept; ``runs/<protocol name>`` by default.
    engine : {"serial", "processes", "ray"} or Engine
        What runs the work.
    workers : int, optional
        Worker processes; all cores by default.
    device : str
        Where networks run: ``cpu``, ``cuda``, ``cuda:1``.
    limit : int, optional
        Use only the first samples of each data set.
    plugin_files : sequence of paths
        Python files with further metrics, views, systems or data sets.
    listeners : sequence of callables
        Told of every event of `phonoscope.events`.
    formats : sequence of str
        Files written to ``<store>/board``; nothing for a store that is not on this machine.

    Raises
    ------
    UserError
        On a wrong protocol, an unknown name, or a store that cannot be used.
    """
    plugins.discover([Path(file) for file in plugin_files])
    found = source if isinstance(source, Protocol) else protocol.load(source, limit=limit)
    opened = open_store(store, found, listeners)
    worker = engines.make(engine, workers=workers) if isinstance(engine, str) else engine
    try:
        return _run(found, opened, worker, listeners, device, formats)
    finally:
        remember_digests(opened)
        opened.flush()
        if isinstance(engine, str):
            worker.close()


def _run(
    found: Protocol,
    store: RunStore,
    engine: Engine,
    listeners: Sequence[Listener],
    device: str,
    formats: Sequence[str],
) -> Leaderboard:
    _tell(listeners, _started(found, store))
    generate.generate(found, store, engine, listeners)
    planner = Planner(found, store, shared_windows(found, store))
    measure(planner, engine, listeners, device=device)
    rows = list(assemble.lines(planner))
    for line in rows:
        _tell(listeners, measured(line))
    board = assemble.leaderboard(planner, rows)
    folder = store.local / "board" if store.local and formats else None
    files = render(board, folder, formats=formats) if folder else []
    _tell(listeners, RunFinished(found.spec.name, board, [str(file) for file in files]))
    return board


def open_store(
    store: str | Path | RunStore | None, found: Protocol, listeners: Sequence[Listener] = ()
) -> RunStore:
    """Return the opened store, with the file digests that it remembers."""
    if isinstance(store, RunStore):
        return store
    url = store or STORE.format(name=found.spec.name)
    opened = RunStore(url, listen=lambda event: _tell(listeners, event))
    media.remember(
        (row["key"], row["size"], row["mtime_ns"], row["digest"]) for row in opened.digests.rows()
    )
    return opened


def remember_digests(store: RunStore) -> None:
    """Keep the digests of files in the store, so that a later run need not read them."""
    rows = {row["key"]: row for row in store.digests.rows()}
    for path, size, mtime_ns, digest in media.known_digests():
        row = {"key": path, "size": size, "mtime_ns": mtime_ns, "digest": digest}
        if rows.get(path) != row:
            store.digests.add(row)


def _started(found: Protocol, store: RunStore) -> RunStarted:
    specs = list(found.runs())
    cells = sum(len(spec.dataset.samples) for spec in specs) * len(found.metrics)
    details = assemble.provenance(found) | {"git_commit": git_commit()}
    return RunStarted(found.spec.name, store.url, len(specs), cells, details)


def git_commit() -> str:
    """Return the commit of the working folder's repository, marked where it has changes, or ''."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def measured(line: Line) -> RunMeasured:
    """Return the event that tells one row's estimates."""
    spec = line.plan.spec
    return RunMeasured(
        key=spec.key,
        system=spec.entry.name,
        dataset=spec.dataset.name,
        dataset_revision=spec.dataset.revision,
        condition=dict(spec.condition.axes),
        seed=spec.seed,
        estimates=line.estimates,
        parameters=assemble.parameters(line),
    )


def shared_windows(found: Protocol, store: RunStore) -> dict[tuple[str, str], Window]:
    """Return, for ``window: shortest``, the window of each sample that all systems share."""
    if found.spec.window != "shortest":
        return {}
    shortest: dict[tuple[str, str], float] = {}
    for spec in found.runs():
        made = generate.generated(spec, store)
        for sample, clip in zip(spec.samples(), made, strict=True):
            for seconds in _lengths(clip, sample.reference):
                key = spec.dataset.name, sample.id
                shortest[key] = min(seconds, shortest.get(key, seconds))
    return {key: Window(0.0, seconds) for key, seconds in shortest.items()}


def _lengths(*clips: Any) -> Iterator[float]:
    for clip in clips:
        if isinstance(clip, Clip):
            seconds = attempt("view", media.seconds, clip)
            if not isinstance(seconds, Failure):
                yield seconds


@dataclass(frozen=True)
class Progress:
    """How much of one row the store has: of each metric, cells known and cells in all."""

    system: str
    dataset: str
    condition: str
    seed: int
    generated: int
    known: Mapping[str, int]
    total: int


def status(found: Protocol, store: RunStore) -> list[Progress]:
    """Return how far each row of the protocol has come; measures nothing."""
    planner = Planner(found, store, {})
    rows = []
    for spec in found.runs():
        plan = planner.plan(spec)
        known = {
            name: sum(not isinstance(cell, str) or store.records.settled(cell) for cell in cells)
            - cells.count(None)
            for name, cells in plan.cells.items()
        }
        made = sum(item is not None for item in plan.made)
        names = spec.entry.name, spec.dataset.name, str(spec.condition), spec.seed
        rows.append(Progress(*names, made, known, len(plan.samples)))
    return rows


def _tell(listeners: Sequence[Listener], event: Any) -> None:
    for listener in listeners:
        listener(event)
