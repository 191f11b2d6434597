"""The `ray` engine: actors on a cluster hold the networks, Ray moves the work."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable, Iterator
from typing import Any

import cloudpickle

from phonoscope.engines import Lost, Task
from phonoscope.errors import DependencyMissing

AHEAD = 2
RETRIES = 2


class RayEngine:
    """A pool of Ray actors, on the cluster of `RAY_ADDRESS` or on a local one.

    Raises
    ------
    DependencyMissing
        If ray is not installed.
    """

    name = "ray"

    def __init__(self, workers: int) -> None:
        try:
            import ray
        except ImportError:
            raise DependencyMissing(
                "the ray engine needs ray; install it with: pip install 'phonoscope[ray]'"
            ) from None
        self._ray = ray
        self.workers = workers
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
        self.actors = [self._actor() for _ in range(workers)]

    def _actor(self) -> Any:
        options = {"max_restarts": -1, "max_task_retries": RETRIES, "num_cpus": 1}
        return self._ray.remote(**options)(_Actor).remote()

    def map(self, task: Task, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result or `Lost`) as actors finish; a killed actor is started again."""
        shared = self._ray.put(cloudpickle.dumps(task))
        queue = enumerate(items)
        running: dict[Any, tuple[int, Any]] = {}
        for actor in self.actors:
            for index, item in itertools.islice(queue, AHEAD):
                running[actor.run.remote(shared, cloudpickle.dumps(item))] = index, actor
        while running:
            done, _ = self._ray.wait(list(running), num_returns=1)
            index, actor = running.pop(done[0])
            for following, item in itertools.islice(queue, 1):
                running[actor.run.remote(shared, cloudpickle.dumps(item))] = following, actor
            yield index, self._result(done[0])

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayActorError:
            return Lost(f"the Ray actor died on this sample, {RETRIES + 1} times")

    def close(self) -> None:
        """Stop the actors, and the local cluster if this engine started it."""
        for actor in self.actors:
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()


class _Actor:
    """One worker: unpickles a task once and runs it on items."""

    def __init__(self) -> None:
        self._tasks: dict[bytes, Any] = {}

    def run(self, task: bytes, item: bytes) -> Any:
        if task not in self._tasks:
            self._tasks = {task: pickle.loads(task)}  # noqa: S301 - bytes that the driver made
        return self._tasks[task](pickle.loads(item))  # noqa: S301
