"""Engines map a task over items and yield results as they finish. They know nothing of metrics.

`serial` is one process, `processes` all cores of this machine (the default), `ray` a cluster.
A task is a picklable callable of one item; whatever it loads stays in its worker process.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from phonoscope.errors import UserError
from phonoscope.types import Failure

Task = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Lost:
    """Stands for the result of an item whose worker was killed."""

    reason: str

    def failure(self) -> Failure:
        """Return it as the failure of a sample."""
        return Failure("measure", "worker_died", self.reason)


class Engine(Protocol):
    """What runs the work."""

    name: str
    workers: int

    def map(self, task: Task, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (index of the item, result or `Lost`) in any order."""

    def close(self) -> None:
        """Stop the workers."""


NAMES = {"serial": "Serial", "processes": "Processes", "ray": "RayEngine"}


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def make(name: str = "processes", *, workers: int | None = None) -> Engine:
    """Return an engine by name.

    Raises
    ------
    UserError
        If there is no engine of that name.
    DependencyMissing
        If `ray` is asked for and not installed.
    """
    if name not in NAMES:
        raise UserError(f"there is no engine {name!r}; engines are {', '.join(NAMES)}")
    modules = {"ray": "cluster"}
    module = importlib.import_module(f"phonoscope.engines.{modules.get(name, name)}")
    engine: Engine = getattr(module, NAMES[name])(workers or cores())
    return engine
