"""What runs inside a worker, whichever engine started it."""

from __future__ import annotations

import pickle
from typing import Any

# The task in use: unpickled once, because a task of the user's script brings its classes along.
_held: dict[bytes, Any] = {}


def run(task: bytes, item: bytes) -> Any:
    """Run a pickled task on a pickled item; both were pickled by the process that started us."""
    if task not in _held:
        _held.clear()
        _held[task] = pickle.loads(task)  # noqa: S301
    return _held[task](pickle.loads(item))  # noqa: S301
