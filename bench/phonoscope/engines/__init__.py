"""Engines map a task over items and yield results as they finish. They know nothing of metrics.

`serial` is one process, `processes` all cores of this machine (the default), `ray` a cluster.
A task is a picklable callable of one item; whatever it loads stays in its worker process. An error
that a task raises ends the `map` and reaches its caller; a worker that dies costs one item.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from phonoscope.errors import UserError
from phonoscope.types import Failure

Task = Callable[[Any], Any]
T = TypeVar("T")


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
        """Yield (index of the item, result or `Lost`) in any order; items are drawn as needed."""

    def close(self) -> None:
        """Stop the workers; what they were doing is given up."""


NAMES = {"serial": "Serial", "processes": "Processes", "ray": "RayEngine"}
DEVICE = re.compile(r"cpu|cuda(:\d+)?")


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make(name: str = "processes", *, workers: int | None = None, device: str = "cpu") -> Engine:
    """Return an engine by name; networks will run on `device`.

    Raises
    ------
    UserError
        If there is no engine of that name, or `device` names none.
    DependencyMissing
        If `ray` is asked for and not installed.
    """
    if name not in NAMES:
        raise UserError(f"there is no engine {name!r}; engines are {', '.join(NAMES)}")
    if not DEVICE.fullmatch(device):
        raise UserError(f"there is no device {device!r}; devices are cpu, cuda, cuda:1 and so on")
    modules = {"ray": "cluster"}
    module = importlib.import_module(f"phonoscope.engines.{modules.get(name, name)}")
    options = {"device": device} if name == "ray" else {}
    engine: Engine = getattr(module, NAMES[name])(workers, **options)
    return engine


def divided(
    engine: Engine, task: Task, items: Iterable[T], split: Callable[[T], Sequence[T]]
) -> Iterator[tuple[T, Any]]:
    """Map like an engine, but yield the item itself, and divide what a worker died on.

    Parameters
    ----------
    split : callable
        Returns the parts of an item, or a single one where it cannot be divided. The parts of a
        lost item are run again, so that in the end only the guilty one is `Lost`.
    """
    waiting: Iterable[T] = items
    while True:
        held: dict[int, T] = {}
        again: list[T] = []
        for index, result in engine.map(task, _held(waiting, held)):
            item = held.pop(index)
            parts = split(item) if isinstance(result, Lost) else ()
            if len(parts) > 1:
                again += parts
            else:
                yield item, result
        if not again:
            return
        waiting = again


def _held(items: Iterable[T], held: dict[int, T]) -> Iterator[T]:
    for index, item in enumerate(items):
        held[index] = item
        yield item
