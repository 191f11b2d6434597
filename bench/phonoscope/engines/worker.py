"""What runs inside a worker, whichever engine started it."""

from __future__ import annotations

import os
import pickle
from typing import Any

PREFIX = "PHONOSCOPE_"

# The task in use: unpickled once, because a task of the user's script brings its classes along.
_held: dict[bytes, Any] = {}


def run(task: bytes, item: bytes) -> Any:
    """Run a pickled task on a pickled item; both were pickled by the process that started us."""
    if task not in _held:
        _held.clear()
        _held[task] = pickle.loads(task)  # noqa: S301
    return _held[task](pickle.loads(item))  # noqa: S301


def settings() -> dict[str, str]:
    """Return the environment variables that workers have to share: they may be older than those."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


def take_over(settings: dict[str, str]) -> None:
    """Set the variables that `settings` gave in the main process, and no others of their kind."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(settings)
