"""MLflow: a window on the runs, not the store of truth. The only module that imports mlflow.

What MLflow shows of a protocol:

- a parent run, with versions, weight hashes and the git commit as tags, the rendered files as
  artifacts, and the Markdown board as its description;
- below it one run for each `RunSpec` (system x dataset x condition x seed): parameters, every
  metric that is finite, `<metric>/low`, `/high` and `/std`, and the counts `<metric>/n`,
  `/n_failed` and `/n_unsupported`;
- where the condition has an `snr_db`, one more run for each curve (the same without the SNR),
  whose metrics hold one point per SNR, so that a line chart of the experiment draws the sweep.

The step is the SNR in whole decibels (`floor(snr_db + 0.5)`, MLflow's steps are integers); the
exact SNR is the parameter and the metric `snr_db`, which a chart may take as its x axis.

Every message goes to `<store>/outbox` first, one JSON-lines file each, written under a temporary
name and renamed, and is removed once MLflow has it. Sending a message again changes nothing: runs
are found by the tag ``phonoscope.key``, and what was logged before is known by its digest. So a
server that is away costs one time-out, a killed process loses nothing, and `sync` may be repeated.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import re
import sqlite3
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from phonoscope.errors import StoreError
from phonoscope.events import (
    ColumnUnavailable,
    Event,
    Listener,
    RunFinished,
    RunMeasured,
    RunStarted,
)
from phonoscope.types import Estimate, Scalar, fingerprint

FORMAT = 1
EXPERIMENT = "phonoscope"
RUN_SECONDS, SYNC_SECONDS = 10, 60
NAME_LENGTH, DIGEST_LENGTH, TAG_LENGTH, PARAM_LENGTH = 250, 36, 5000, 6000
METRICS_PER_CALL, TEXTS_PER_CALL = 500, 20
CUT = " ... [cut]"

# What can go wrong on the way to a tracking server, and is no reason to stop a run. The classes of
# artifact stores count only where their package was imported by mlflow.
FAILURES = (
    ("mlflow.exceptions", "MlflowException"),
    ("sqlalchemy.exc", "SQLAlchemyError"),
    ("alembic.util.exc", "CommandError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("boto3.exceptions", "Boto3Error"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("azure.core.exceptions", "AzureError"),
)
REJECTIONS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST")


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a delivery did.

    Attributes
    ----------
    sent, left : int
        Messages that MLflow has now, and messages that wait in the outbox.
    rejected : int
        Messages that MLflow will never take; they are kept in ``outbox/rejected``.
    problems : tuple of str
        Why messages were left or rejected.
    """

    sent: int = 0
    left: int = 0
    rejected: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to tell MLflow, complete in itself: a line of JSON in the outbox.

    Attributes
    ----------
    kind : str
        ``started``, ``measured`` or ``finished``.
    server : str
        Tracking URI without a password; empty for the store's own database.
    parent : str
        Key of the protocol's run.
    run, sweep : mapping
        ``key``, ``name`` and ``params`` of the run, and of the curve that it is a point of.
    files : sequence of str
        Relative to the store where they lie in it.
    """

    kind: str
    server: str
    experiment: str
    time_ms: int
    protocol: str
    parent: str
    tags: Mapping[str, str] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    sweep: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    dataset: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()
    format: int = FORMAT


def listener(
    store: Path,
    *,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    warn: Callable[[str], None],
) -> Listener:
    """Return a listener that shows a run in MLflow.

    Parameters
    ----------
    store : Path
        Folder of the run store.
    tracking_uri : str, optional
        `MLFLOW_TRACKING_URI` where not given, else ``mlflow.db`` in the store.
    experiment : str, optional
        `MLFLOW_EXPERIMENT_NAME` where not given, else ``phonoscope``.
    warn : callable
        Told once if MLflow cannot be reached.

    Raises
    ------
    StoreError
        If the outbox cannot be written (when called, and at every event).
    """
    return MlflowListener(
        Path(store),
        uri=tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", ""),
        experiment=experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT,
        warn=warn,
    )


def sync(store: Path, tracking_uri: str | None = None) -> SyncReport:
    """Send what an earlier run could not.

    Parameters
    ----------
    store : Path
        Folder of the run store.
    tracking_uri : str, optional
        Where to; by default where the run wanted to send it.

    Returns
    -------
    SyncReport
        With `left` above 0 and the reasons in `problems` if a server is still away.
    """
    store = Path(store)
    if not _outbox(store).is_dir():
        return SyncReport()
    return _deliver(store, {}, uri=tracking_uri, seconds=SYNC_SECONDS)


def default_uri(store: Path) -> str:
    """Return the tracking URI of the database in the store's folder."""
    return f"sqlite:///{(Path(store).resolve() / 'mlflow.db').as_posix()}"


class MlflowListener:
    """Turns events into messages, and sends them as long as MLflow answers. See `listener`."""

    def __init__(
        self, store: Path, *, uri: str, experiment: str, warn: Callable[[str], None]
    ) -> None:
        self._store, self._uri, self._experiment, self._warn = store, uri, experiment, warn
        self._remotes: Remotes = {}
        self._unavailable: dict[str, str] = {}
        self._protocol = self._parent = ""
        self._away = False

    def __call__(self, event: Event) -> None:
        """Take one event; those that MLflow does not show cost nothing."""
        if isinstance(event, RunMeasured | RunFinished) and not self._parent:
            self._enter("")
        if isinstance(event, RunStarted):
            self._enter(event.protocol)
            self._send("started", tags=_opening(event))
        elif isinstance(event, ColumnUnavailable):
            self._unavailable[event.metric] = f"{event.metric}: {event.code}: {event.error}"
        elif isinstance(event, RunMeasured):
            self._send("measured", **_measured(event, self._parent))
        elif isinstance(event, RunFinished):
            files = tuple(_relative(self._store, file) for file in event.files)
            tags = {"phonoscope.unavailable": "\n".join(self._unavailable.values()) or "none"}
            self._send("finished", last=True, tags=_tags(tags), files=files)

    def _enter(self, protocol: str) -> None:
        self._protocol = protocol or EXPERIMENT
        self._parent = fingerprint("protocol", _identity(self._store), self._protocol)
        self._away = False
        self._unavailable.clear()

    def _send(self, kind: str, *, last: bool = False, **content: Any) -> None:
        message = Message(
            kind=kind,
            server=_public(self._uri),
            experiment=self._experiment,
            time_ms=time.time_ns() // 1_000_000,
            protocol=self._protocol,
            parent=self._parent,
            **content,
        )
        _post(self._store, message)
        if last or not self._away:
            self._flush()

    def _flush(self) -> None:
        report = _deliver(
            self._store,
            self._remotes,
            uri=self._uri or default_uri(self._store),
            only=_public(self._uri),
            seconds=RUN_SECONDS,
        )
        if report.rejected or (report.left and not self._away):
            self._warn(_warning(self._store, report))
        self._away = bool(report.left)


def _warning(store: Path, report: SyncReport) -> str:
    why = "; ".join(report.problems)
    if not report.left:
        return (
            f"MLflow refused {report.rejected} messages, kept in {_outbox(store)}/rejected: {why}"
        )
    return (
        f"MLflow is away ({why}). The run goes on; what MLflow should have is kept in "
        f"{_outbox(store)}; `phonoscope sync {store}` sends it"
    )


# Events to content: texts within MLflow's limits, finite numbers only.


def _opening(event: RunStarted) -> dict[str, str]:
    facts = dict(_flat(event.provenance))
    tags = {f"phonoscope.{key}": value for key, value in facts.items()}
    counts = {"runs": event.runs, "cells": event.cells}
    tags |= {f"phonoscope.{key}": str(value) for key, value in counts.items()}
    commit = next((facts[k] for k in ("git_commit", "git.commit", "commit") if facts.get(k)), "")
    if commit:
        tags["mlflow.source.git.commit"] = commit
    return _tags(tags)


def _measured(event: RunMeasured, parent: str) -> dict[str, Any]:
    curve = {axis: value for axis, value in event.condition.items() if axis != "snr_db"}
    snr = _decibels(event.condition)
    metrics = _metrics(event.estimates) | ({} if snr is None else {"snr_db": snr})
    content: dict[str, Any] = {
        "run": _run(event, event.condition, fingerprint(parent, event.key)),
        "metrics": metrics,
        "tags": _remarks(event),
        "dataset": {"name": event.dataset, "revision": event.dataset_revision},
    }
    if snr is not None:
        axes = [_texts(event.parameters), _texts(curve), event.seed]
        key = fingerprint(parent, event.system, event.dataset, event.dataset_revision, axes)
        content |= {"sweep": _run(event, curve, key), "step": math.floor(snr + 0.5)}
    return content


def _run(event: RunMeasured, axes: Mapping[str, Scalar], key: str) -> dict[str, Any]:
    fixed: dict[str, Scalar] = {
        "system": event.system,
        "dataset": event.dataset,
        "seed": event.seed,
    }
    params = {f"system.{name}": value for name, value in event.parameters.items()}
    where = [f"{axis}={value}" for axis, value in axes.items()]
    curve = ["snr_db=*"] if "snr_db" in event.condition and "snr_db" not in axes else []
    parts = [event.system, event.dataset, *where, *curve, f"seed={event.seed}"]
    return {
        "key": key,
        "name": _cut(" | ".join(parts), NAME_LENGTH),
        "params": _texts(params | dict(axes) | fixed),
    }


def _decibels(condition: Mapping[str, Scalar]) -> float | None:
    snr = condition.get("snr_db")
    if isinstance(snr, bool) or not isinstance(snr, int | float) or not math.isfinite(snr):
        return None
    return float(snr)


def _metrics(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric, item in estimates.items():
        name = _key(metric)
        numbers = {"": item.value, "/low": item.low, "/high": item.high, "/std": item.std}
        counts = {"/n": item.n, "/n_failed": item.n_failed, "/n_unsupported": item.n_unsupported}
        found |= {name + end: float(x) for end, x in (numbers | counts).items() if math.isfinite(x)}
    return found


def _remarks(event: RunMeasured) -> dict[str, str]:
    """Return tags for what is no number: metrics without a value, and flags."""
    items = event.estimates.items()
    empty = [metric for metric, item in items if not math.isfinite(item.value)]
    flags = [f"{metric}: {', '.join(item.flags)}" for metric, item in items if item.flags]
    tags = {
        "phonoscope.run": event.key,
        "phonoscope.dataset_revision": event.dataset_revision,
        "phonoscope.not_measured": ", ".join(empty) or "none",
        "phonoscope.flags": "; ".join(flags) or "none",
    }
    return _tags(tags)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            yield f"{prefix}{key}", value
        else:
            yield f"{prefix}{key}", json.dumps(value, default=str)


def _texts(values: Mapping[str, Scalar]) -> dict[str, str]:
    return {_key(key): _cut(str(value), PARAM_LENGTH) for key, value in values.items()}


def _tags(values: Mapping[str, str]) -> dict[str, str]:
    return {_key(key): _cut(value, TAG_LENGTH) for key, value in values.items()}


def _key(name: str) -> str:
    """Return `name` with only what MLflow allows in the name of a metric, parameter or tag."""
    parts = re.sub(r"[^\w.\- /]", "_", name).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))[:NAME_LENGTH] or "_"


def _cut(text: str, length: int) -> str:
    """Return `text` as valid Unicode of at most `length` characters, with a mark if it was cut."""
    clean = text.encode("utf-8", "replace").decode().replace("\0", "?")
    return clean if len(clean) <= length else clean[: length - len(CUT)] + CUT


def _public(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)


def _relative(store: Path, file: str) -> str:
    path, root = Path(file).resolve(), store.resolve()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


# The outbox.


def _outbox(store: Path) -> Path:
    return store / "outbox"


_numbers = itertools.count()
_process = uuid.uuid4().hex


def _post(store: Path, message: Message) -> None:
    name = f"{time.time_ns():020d}-{next(_numbers):06d}-{os.getpid()}.jsonl"
    line = json.dumps(asdict(message), allow_nan=False, default=str) + "\n"
    _write(_outbox(store) / name, line)


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path.parent}: what MLflow should have cannot be kept here ({error}); free some "
            "space or make the folder writable, then run again: what was measured is in the store"
        ) from error


def _identity(store: Path) -> str:
    """Return what tells this store from others, also after it was moved."""
    path = _outbox(store) / "identity"
    if not path.exists():
        _write(path.with_name("lock"), "")
        with _locked(store):
            if not path.exists():
                _write(path, uuid.uuid4().hex + "\n")
    return path.read_text(encoding="utf-8").strip()


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Hold the outbox against other processes, where the system and the drive have locks."""
    path = _outbox(store) / "lock"
    try:
        file = path.open("a")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error}); make it writable") from error
    with file:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _pending(store: Path) -> list[Path]:
    return sorted(path for path in _outbox(store).glob("*.jsonl") if path.name[0] != ".")


def _read(path: Path) -> Message:
    """Read one message.

    Raises
    ------
    ValueError
        If it is no message of this format.
    """
    try:
        message = Message(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is no message ({error})") from error
    if message.format != FORMAT:
        raise ValueError(
            f"{path.name} is of format {message.format}, not {FORMAT}: update phonoscope"
        )
    return message


# Delivery.

Remotes: TypeAlias = MutableMapping[tuple[str, str], "Remote"]


@dataclass
class _Tally:
    sent: int = 0
    left: int = 0
    rejected: int = 0
    problems: dict[str, str] = field(default_factory=dict)

    def report(self) -> SyncReport:
        return SyncReport(self.sent, self.left, self.rejected, tuple(self.problems.values()))


def _deliver(
    store: Path, remotes: Remotes, *, uri: str | None, seconds: int, only: str | None = None
) -> SyncReport:
    """Send the outbox in order: to `uri`, or where each message wants to go."""
    tally = _Tally()
    with _locked(store):
        _take_over(store, remotes)
        pending = _pending(store)
        if pending:
            with _quiet(seconds):
                for path in pending:
                    _deliver_one(store, path, remotes, uri=uri, only=only, tally=tally)
    return tally.report()


def _take_over(store: Path, remotes: Remotes) -> None:
    """Forget what is known of the servers if another sender was here since: it is out of date."""
    path, name = _outbox(store) / "sender", f"{_process} {os.getpid()} {id(remotes)}"
    if not path.exists() or path.read_text(encoding="utf-8") != name:
        remotes.clear()
        _write(path, name)


def _deliver_one(
    store: Path, path: Path, remotes: Remotes, *, uri: str | None, only: str | None, tally: _Tally
) -> None:
    try:
        message = _read(path)
    except ValueError as error:
        _reject(path, str(error), tally)
        return
    target = uri or message.server or default_uri(store)
    if only is not None and message.server != only:
        return
    if target in tally.problems:
        tally.left += 1
        return
    try:
        _send(message, store, remotes, target)
    except _failures() as error:
        why = _reason(error)
        if (target, message.experiment) in remotes and getattr(
            error, "error_code", ""
        ) in REJECTIONS:
            _reject(path, f"{path.name}: {why}", tally)
        else:
            remotes.pop((target, message.experiment), None)
            tally.problems[target] = f"{_public(target)}: {why}"
            tally.left += 1
    else:
        path.unlink(missing_ok=True)
        tally.sent += 1


def _send(message: Message, store: Path, remotes: Remotes, uri: str) -> None:
    where = (uri, message.experiment)
    if where in remotes:
        try:
            remotes[where].send(message)
            return
        except _failures():  # perhaps a run was deleted meanwhile: look at the server afresh
            del remotes[where]
    remotes[where] = Remote(store, uri, message.experiment)
    remotes[where].send(message)


def _reject(path: Path, why: str, tally: _Tally) -> None:
    folder = path.parent / "rejected"
    folder.mkdir(exist_ok=True)
    path.replace(folder / path.name)
    tally.rejected += 1
    tally.problems[path.name] = why


def _failures() -> tuple[type[Exception], ...]:
    known = [getattr(sys.modules.get(module), name, None) for module, name in FAILURES]
    return (OSError, ImportError, _GoneError, *(item for item in known if item is not None))


def _reason(error: Exception) -> str:
    text = _public(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."


@contextlib.contextmanager
def _quiet(seconds: int) -> Iterator[None]:
    """Let mlflow give up soon, and say nothing on the console; the user's own settings win."""
    wanted = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    ours = {key: value for key, value in wanted.items() if key not in os.environ}
    os.environ.update(ours)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(ImportError):  # its import sets the level of its logger
                import mlflow  # noqa: F401
            with _silenced("mlflow", "alembic", "urllib3"):
                yield
    finally:
        for key in ours:
            os.environ.pop(key, None)


@contextlib.contextmanager
def _silenced(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    levels = [item.level for item in loggers]
    for item in loggers:
        item.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for item, level in zip(loggers, levels, strict=True):
            item.setLevel(level)


# The other side.


@dataclass
class _Run:
    id: str
    status: str
    tags: dict[str, str]
    params: set[str]


class _GoneError(Exception):
    """The experiment was deleted."""


class Remote:
    """One experiment on one tracking server, and the runs in it that are ours.

    Parameters
    ----------
    store : Path
        Where relative files lie.
    uri, experiment : str
        The experiment is made where it does not exist.
    """

    def __init__(self, store: Path, uri: str, experiment: str) -> None:
        from mlflow import MlflowClient

        database = _database(uri)
        if database and not database.exists():
            _make_database(database)
        self._store = store
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = _experiment(self._client, experiment, _artifact_location(uri))
        self._runs: dict[str, _Run] = {}
        self._listed: set[str] = set()

    def send(self, message: Message) -> None:
        """Tell MLflow; doing it again changes nothing."""
        parent = {"key": message.parent, "name": message.protocol, "params": {}}
        run = self._ensure(parent, "protocol", message)
        if message.kind == "started":
            if run.status != "RUNNING":
                self._client.update_run(run.id, status="RUNNING")
                run.status = "RUNNING"
            self._log(run, message, tags=message.tags)
        elif message.kind == "measured":
            self._measured(run, message)
        else:
            self._finish(run, message)

    def _measured(self, parent: _Run, message: Message) -> None:
        self._add_dataset(parent, message)
        if message.sweep:
            curve = self._ensure(message.sweep, "sweep", message, parent)
            mark = f"phonoscope.point.{message.metrics['snr_db']:.10g}"
            self._fill(curve, message.sweep, message, mark=mark)
        point = self._ensure(message.run, "run", message, parent)
        self._fill(point, message.run, message, mark="phonoscope.content")

    def _fill(self, run: _Run, spec: Mapping[str, Any], message: Message, *, mark: str) -> None:
        """Log the numbers unless `mark`, which is written last, says that they are there."""
        tags = message.tags if mark == "phonoscope.content" else {}
        digest = fingerprint(spec["params"], tags, message.metrics, message.dataset, message.step)
        if run.tags.get(mark) != digest:
            self._client.log_inputs(run.id, datasets=[_dataset(message.dataset)])
            self._log(
                run, message, metrics=message.metrics, params=spec["params"],
                tags={**tags, mark: digest},
            )  # fmt: skip
        self._close(run, message)

    def _add_dataset(self, parent: _Run, message: Message) -> None:
        mark = _key(f"phonoscope.dataset.{message.dataset['name']}")
        revision = _cut(message.dataset["revision"], TAG_LENGTH)
        if parent.tags.get(mark) != revision:
            self._client.log_inputs(parent.id, datasets=[_dataset(message.dataset)])
            self._log(parent, message, tags={mark: revision})

    def _finish(self, parent: _Run, message: Message) -> None:
        paths = [self._store / file for file in message.files]
        there = [path for path in paths if path.exists()]
        for path, folder in _placed(there):
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(parent.id, str(path), folder)
        gone = ", ".join(str(path) for path in paths if path not in there)
        tags = {**message.tags, **_note(there), "phonoscope.missing_files": gone or "none"}
        self._log(parent, message, tags=_tags(tags))
        self._close(parent, message)

    def _close(self, run: _Run, message: Message) -> None:
        if run.status != "FINISHED":
            self._client.set_terminated(run.id, "FINISHED", message.time_ms)
            run.status = "FINISHED"

    def _log(
        self,
        run: _Run,
        message: Message,
        *,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log in few calls within MLflow's limits. MLflow writes the tags of a call last."""
        from mlflow.entities import Metric, Param, RunTag

        numbers = [Metric(k, v, message.time_ms, message.step) for k, v in (metrics or {}).items()]
        fresh = [Param(k, v) for k, v in (params or {}).items() if k not in run.params]
        texts = [RunTag(k, v) for k, v in (tags or {}).items() if run.tags.get(k) != v]
        parts = (
            _chunks(numbers, METRICS_PER_CALL),
            _chunks(fresh, TEXTS_PER_CALL),
            _chunks(texts, TEXTS_PER_CALL),
        )
        for some in _side_by_side(*parts):
            self._client.log_batch(run.id, *some)
        run.params.update(item.key for item in fresh)
        run.tags.update({item.key: item.value for item in texts})

    def _ensure(
        self, spec: Mapping[str, Any], kind: str, message: Message, parent: _Run | None = None
    ) -> _Run:
        """Return the run of this key, made if MLflow has none."""
        key = spec["key"]
        self._list(message.parent)
        if key not in self._runs:
            self._search("phonoscope.key", key)
        if key not in self._runs:
            tags = {"phonoscope.key": key, "phonoscope.protocol": message.parent}
            tags |= {"phonoscope.kind": kind, "mlflow.source.name": "phonoscope"}
            tags |= {"mlflow.parentRunId": parent.id} if parent else {}
            made = self._client.create_run(
                self._experiment, start_time=message.time_ms, tags=tags, run_name=spec["name"]
            )
            self._runs[key] = _Run(made.info.run_id, "RUNNING", tags, set())
        return self._runs[key]

    def _list(self, protocol: str) -> None:
        if protocol not in self._listed:
            self._search("phonoscope.protocol", protocol)
            self._listed.add(protocol)

    def _search(self, tag: str, value: str) -> None:
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{tag}` = '{value}'", max_results=1000, page_token=token
            )
            for run in page:
                tags = dict(run.data.tags)
                item = _Run(run.info.run_id, run.info.status, tags, set(run.data.params))
                self._runs.setdefault(tags["phonoscope.key"], item)
            token = page.token
            if not token:
                return


def _experiment(client: Any, name: str, location: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=location))
    if found.lifecycle_stage != "active":
        raise _GoneError(
            f"the experiment {name!r} was deleted in MLflow; restore it "
            f"(mlflow experiments restore -x {found.experiment_id}) or choose another name"
        )
    return str(found.experiment_id)


def _database(uri: str) -> Path | None:
    """Return the file of an sqlite URI."""
    plain = uri.startswith("sqlite:///") and "?" not in uri and ":memory:" not in uri
    return Path(uri.removeprefix("sqlite:///")).resolve() if plain else None


def _make_database(path: Path) -> None:
    """Make MLflow's tables elsewhere: MLflow never opens a database whose making was killed."""
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        draft = Path(folder) / "mlflow.db"
        MlflowClient(tracking_uri=f"sqlite:///{draft.as_posix()}").search_experiments()
        with (
            contextlib.closing(sqlite3.connect(draft)) as made,
            contextlib.closing(sqlite3.connect(part)) as copy,
        ):
            made.backup(copy)
    try:
        path.hardlink_to(part)
    except FileExistsError:  # another process was faster
        pass
    except OSError:  # a drive without links
        part.replace(path)
    part.unlink(missing_ok=True)


def _artifact_location(uri: str) -> str | None:
    """Return a folder beside a local database; MLflow's default is the working directory."""
    database = _database(uri)
    return (database.parent / "mlflow-artifacts").as_uri() if database else None


def _dataset(facts: Mapping[str, str]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"tags": {"mlflow.source.name": "phonoscope", **facts}})
    item = Dataset(
        name=_cut(facts["name"], NAME_LENGTH),
        digest=facts["revision"][:DIGEST_LENGTH] or "none",
        source_type="code",
        source=source,
    )
    return DatasetInput(item, [InputTag("mlflow.data.context", "evaluation")])


def _placed(paths: Sequence[Path]) -> list[tuple[Path, str | None]]:
    """Return each file with its folder among the artifacts: as on disk, below what all share."""
    if not paths:
        return []
    root = os.path.commonpath([path.resolve().parent for path in paths])
    below = [path.resolve() if path.is_dir() else path.resolve().parent for path in paths]
    places = [folder.relative_to(root).as_posix() for folder in below]
    return [(path, None if at == "." else at) for path, at in zip(paths, places, strict=True)]


def _note(paths: Sequence[Path]) -> dict[str, str]:
    """Return the Markdown board, or the lines of it that fit, as the description of the run."""
    boards = [path for path in paths if path.suffix == ".md" and path.is_file()]
    if not boards:
        return {}
    text = boards[0].read_text(encoding="utf-8", errors="replace")
    if len(text) > TAG_LENGTH:
        more = f"\n\n(and more: see the artifact {boards[0].name})"
        text = text[: TAG_LENGTH - len(more)].rpartition("\n")[0] + more
    return {"mlflow.note.content": text}


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _side_by_side(*columns: Sequence[Sequence[Any]]) -> list[tuple[Sequence[Any], ...]]:
    """Return rows of one chunk per column, the last chunks of all in the last row."""
    turned = [list(reversed(column)) for column in columns]
    return list(itertools.zip_longest(*turned, fillvalue=()))[::-1]
