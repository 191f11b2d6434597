"""The serial engine: everything in this process, for debugging and notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from phonoscope.engines import Task


class Serial:
    """One item after the other."""

    name = "serial"

    def __init__(self, workers: int | None = None) -> None:
        self.workers = 1

    def map(self, task: Task, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) in order."""
        for index, item in enumerate(items):
            yield index, task(item)

    def close(self) -> None:
        """Nothing to stop."""
