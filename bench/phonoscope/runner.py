"""Run: the straight line from a protocol to a leaderboard."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonoscope import assemble, engines, gate, generate, media, plugins, protocol
from phonoscope.assemble import Line
from phonoscope.engines import Engine
from phonoscope.errors import StoreError
from phonoscope.events import Listener, RunFinished, RunMeasured, RunStarted, tell
from phonoscope.leaderboard import Leaderboard, render
from phonoscope.measure import Planner, measure
from phonoscope.protocol import Protocol
from phonoscope.store import RunStore, explained
from phonoscope.types import Clip, Failure, Window
from phonoscope.views import attempt

STORE = "runs/{name}"
SOURCE = "source.json"


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
    check_rules(found)
    opened = open_store(store, found, listeners)
    worker = (
        engines.make(engine, workers=workers, device=device) if isinstance(engine, str) else engine
    )
    with contextlib.ExitStack() as leaving:
        leaving.callback(opened.flush)
        leaving.callback(remember_digests, opened)
        if isinstance(engine, str):
            leaving.callback(worker.close)
        return _run(found, opened, worker, listeners, device, formats)


def _run(
    found: Protocol,
    store: RunStore,
    engine: Engine,
    listeners: Sequence[Listener],
    device: str,
    formats: Sequence[str],
) -> Leaderboard:
    tell(listeners, _started(found, store))
    _describe_runs(found, store)
    generate.generate(found, store, engine, listeners)
    plans = planner(found, store)
    measure(plans, engine, listeners, device=device)
    rows = list(assemble.lines(plans))
    for line in rows:
        tell(listeners, measured(line))
    made = assemble.leaderboard(plans, rows)
    folder = store.local / "board" if store.local and formats else None
    with explained(store.url):
        files = _render(made, rows, folder, formats) if folder else []
    tell(listeners, RunFinished(found.spec.name, made, [str(file) for file in files]))
    return made


def check_rules(found: Protocol) -> None:
    """Refuse a protocol with a wrong gate rule now, not when the gate is asked."""
    gate.rules_from(list(found.spec.gate), f"{found.path or 'protocol'}: gate")


def open_store(
    store: str | Path | RunStore | None, found: Protocol, listeners: Sequence[Listener] = ()
) -> RunStore:
    """Return the opened store, with the file digests that it remembers."""
    if isinstance(store, RunStore):
        return store
    url = store or STORE.format(name=found.spec.name)
    opened = RunStore(url, listen=lambda event: tell(listeners, event))
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


def _render(
    made: Leaderboard, rows: Sequence[Line], folder: Path, formats: Sequence[str]
) -> list[Path]:
    return [*render(made, folder, formats=formats), samples(rows, folder), *drawn(made, folder)]


def drawn(made: Leaderboard, folder: Path) -> list[Path]:
    """Write one SVG per metric, curves of a sweep and box plots, to ``figures/``; return the files.

    A box plot shows one data set and condition.
    """
    from phonoscope.page import spreads, sweeps

    files = []
    for name, svg in (sweeps(made) | spreads(made)).items():
        path = folder / "figures" / f"{name}.svg"
        path.parent.mkdir(exist_ok=True)
        path.write_text(svg, encoding="utf-8", newline="\n")
        files.append(path)
    return files


def samples(rows: Sequence[Line], folder: Path) -> Path:
    """Write one CSV line per row of the board, sample and metric; return the file."""
    path = folder / "samples.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(assemble.sample_table(rows))
    return path


def _describe_runs(found: Protocol, store: RunStore) -> None:
    """Say in the store what each run key stands for."""
    for spec in found.runs():
        if spec.key not in store.runs:
            store.runs.add({"key": spec.key, "description": json.dumps(spec.described())})


def _started(found: Protocol, store: RunStore) -> RunStarted:
    specs = list(found.runs())
    cells = sum(len(spec.dataset.samples) for spec in specs) * len(found.metrics)
    recipes = {metric.name: assemble.recipe(metric) for metric in found.metrics}
    hashes = [row for recipe in recipes.values() for row in recipe["weights"]]
    details = assemble.provenance(found) | {
        "git_commit": git_commit(),
        "metrics": {name: recipe["metric_version"] for name, recipe in recipes.items()},
        "weights": {row["name"]: row["sha256"] for row in hashes},
    }
    return RunStarted(found.spec.name, store.url, len(specs), cells, details)


def git_commit() -> str:
    """Return the commit of the working folder's repository, marked where it has changes, or ''."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
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
    """Return, for ``window: shortest``, the window of each sample that all systems share.

    It is as long as the shortest of the reference and the systems' clips; controls do not count.
    """
    if found.spec.window != "shortest":
        return {}
    shortest: dict[tuple[str, str], float] = {}
    for spec in found.runs():
        if spec.entry.kind == "control":
            continue
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
    """How much of one row the store has: of each metric, cells known and cells in all.

    A metric that cannot run here has None.
    """

    system: str
    dataset: str
    condition: str
    seed: int
    generated: int
    known: Mapping[str, int | None]
    total: int


def status(found: Protocol, store: RunStore) -> list[Progress]:
    """Return how far each row of the protocol has come; measures nothing."""
    plans = planner(found, store)
    rows = []
    for spec in found.runs():
        plan = plans.plan(spec)
        known = {
            name: None
            if plans.unavailable.get(name, "") in cells
            else sum(not isinstance(cell, str) or store.records.settled(cell) for cell in cells)
            - cells.count(None)
            for name, cells in plan.cells.items()
        }
        made = sum(item is not None for item in plan.made)
        names = spec.entry.name, spec.dataset.name, str(spec.condition), spec.seed
        rows.append(Progress(*names, made, known, len(plan.samples)))
    return rows


def board(found: Protocol, store: RunStore) -> Leaderboard:
    """Return the board of what the store holds; measures nothing."""
    return assemble.leaderboard(planner(found, store))


def planner(found: Protocol, store: RunStore) -> Planner:
    """Return the planner of a protocol over its store."""
    return Planner(found, store, shared_windows(found, store))


def remember_source(
    store: RunStore,
    source: str,
    *,
    limit: int | None,
    plugins: Sequence[Path],
    systems: Sequence[str] = (),
) -> None:
    """Note in a local store which protocol fills it, so that the store alone can be named later."""
    if store.local is None:
        return
    path = Path(source)
    note = {
        "source": str(path.resolve()) if path.exists() else source,
        "limit": limit,
        "plugins": [str(file.resolve()) for file in plugins],
        "systems": list(systems),
    }
    store.write_text(SOURCE, json.dumps(note, indent=1))


def reopen(source: str, store: str | None = None) -> tuple[Protocol, RunStore]:
    """Return the protocol and the opened store that `source` names: a store, or a protocol.

    Raises
    ------
    UserError
        If it is neither, or the store was not made by `phonoscope run`.
    """
    folder = Path(source)
    if not os.path.isfile(folder / "store.json"):  # noqa: PTH113 - any text may be asked for
        found = protocol.load(source)
        url = store or STORE.format(name=found.spec.name)
        return found, RunStore(url, create=False)
    note_file = folder / SOURCE
    if not note_file.is_file():
        raise StoreError(f"{folder}: does not say which protocol filled it; name the protocol")
    try:
        note = json.loads(note_file.read_text("utf-8"))
        source, limit, files = note["source"], note["limit"], map(Path, note["plugins"])
        systems = note.get("systems", [])
    except (OSError, ValueError, KeyError, TypeError):
        raise StoreError(f"{note_file}: cannot be read; name the protocol instead") from None
    plugins.discover(list(files))
    found = protocol.load(source, limit=limit, systems=systems)
    return found, RunStore(folder, create=False)


def too_many_failures(made: Leaderboard, found: Protocol) -> bool:
    """Return whether a cell has more failures than the protocol allows, or a column none at all."""
    counts = [
        cell.estimate.n_failed
        for row in made.rows
        for cell in row.cells.values()
        if cell.estimate is not None
    ]
    gone = any(column.unavailable for column in made.columns)
    return gone or max(counts, default=0) > found.spec.max_failed
