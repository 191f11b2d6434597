"""What a run tells its listeners (console, JSON log, MLflow). A listener is any callable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from phonoscope.types import Estimate, Scalar


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A protocol begins: `cells` counts (run, sample, metric) triples."""

    protocol: str
    store: str
    runs: int
    cells: int
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageStarted:
    """One pass begins: `generate`, `view` or `measure`, over `total` items of `what`."""

    stage: str
    what: str
    total: int


@dataclass(frozen=True, slots=True)
class Advanced:
    """`count` more items of the pass are done, `failed` of them without a result."""

    stage: str
    what: str
    count: int
    failed: int = 0


@dataclass(frozen=True, slots=True)
class StageFinished:
    """The pass is over."""

    stage: str
    what: str


@dataclass(frozen=True, slots=True)
class NetworkLoaded:
    """A network was loaded, in the worker `worker`."""

    view: str
    device: str
    worker: str


@dataclass(frozen=True, slots=True)
class SampleFailed:
    """One sample has no clip, or one metric has no record of it."""

    system: str
    sample: str
    metric: str
    stage: str
    code: str
    error: str


@dataclass(frozen=True, slots=True)
class ColumnUnavailable:
    """A metric cannot run on this machine."""

    metric: str
    code: str
    error: str


@dataclass(frozen=True, slots=True)
class PartSetAside:
    """The store holds a file that is no part of it, or a broken one; it was moved to `moved_to`."""

    path: str
    reason: str
    moved_to: str


@dataclass(frozen=True, slots=True)
class RunMeasured:
    """All estimates of one system x dataset x condition x seed."""

    key: str
    system: str
    dataset: str
    dataset_revision: str
    condition: Mapping[str, Scalar]
    seed: int
    estimates: Mapping[str, Estimate]
    parameters: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The protocol is done: `board` is the `Leaderboard`, `files` what was rendered."""

    protocol: str
    board: Any
    files: Sequence[str] = ()


Event: TypeAlias = (
    RunStarted
    | StageStarted
    | Advanced
    | StageFinished
    | NetworkLoaded
    | SampleFailed
    | ColumnUnavailable
    | PartSetAside
    | RunMeasured
    | RunFinished
)
Listener: TypeAlias = Callable[[Event], None]


def tell(listeners: Sequence[Listener], event: Event) -> None:
    """Tell every listener of an event."""
    for listener in listeners:
        listener(event)
