"""The `ray` engine: actors on a cluster hold the networks, Ray moves the work.

Every machine of the cluster needs phonoscope, and the clips and plugin files under the same paths.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import cloudpickle

from phonoscope.engines import Lost, Task, cores, worker
from phonoscope.errors import DependencyMissing, SetupError

AHEAD = 2
STARTS = 3
DEATH = "the Ray actor died on this sample, and again when it was the only one"
READY: Final = -1
PATIENCE = 20.0  # seconds
NO_ROOM = (
    "the Ray cluster has no room for any of %d actors yet (one core each): waiting; "
    "`ray status` shows what holds it"
)
_logger = logging.getLogger(__name__)


class RayEngine:
    """A pool of Ray actors, started at the first item.

    They run on the cluster that Ray is connected to or `RAY_ADDRESS` names. Where there is neither,
    a cluster on this machine is started, and stopped by `close`. If an actor dies, another takes
    its place, and what it had in hand is tried again alone, so only the guilty item is lost.

    Parameters
    ----------
    workers : int, optional
        Actors; by default one for each core of the cluster.
    device : str
        On ``cuda``, actors share the GPUs of the cluster.

    Raises
    ------
    DependencyMissing
        If ray is not installed.
    """

    name = "ray"

    def __init__(self, workers: int | None = None, *, device: str = "cpu") -> None:
        try:
            import ray
        except ImportError:
            raise DependencyMissing(
                "the ray engine needs ray; install it with: pip install 'phonoscope[ray]'"
            ) from None
        self._ray = ray
        self._connected = not ray.is_initialized()
        if self._connected:
            _connect(ray, workers)
        resources = ray.cluster_resources()
        room = max(1, int(resources.get("CPU", 1)))
        self.workers = min(workers or room, room)
        gpus = resources.get("GPU", 0) if device.startswith("cuda") else 0
        self._options = {"num_cpus": 1, "num_gpus": share(gpus, self.workers)}
        self._actors: list[Any] = []

    def _actor(self) -> Any:
        kind = self._ray.remote(**self._options)(_Actor)
        return kind.remote(str(Path.cwd()), list(sys.path), worker.settings())

    def map(self, task: Task, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result or `Lost`) as actors finish; only a few items are held at once."""
        packed = self._ray.put(cloudpickle.dumps(task))
        work = _Work(packed, iter(enumerate(items)), {})
        self._actors = self._actors or [self._actor() for _ in range(self.workers)]
        for actor in self._actors:
            work.greet(actor)
        suspects, refused = [], 0
        while work.left:
            actor, index, item, result = self._next(work.running)
            if not isinstance(result, Lost):
                work.feed(actor, AHEAD if index == READY else 1)
                if index != READY:
                    yield index, result
                continue
            if index != READY:
                suspects.append((index, item))
            refused = refused + 1 if index == READY else 0
            self._check_starts(refused, result)
            if actor in self._actors:
                work.greet(self._replaced(actor))
        for index, item in suspects:
            yield index, self._alone(packed, item)

    def _next(self, running: dict[Any, Any]) -> tuple[Any, int, Any, Any]:
        done: list[Any] = []
        while not done:
            done, _ = self._ray.wait(list(running), num_returns=1, timeout=PATIENCE)
            if not done and all(index == READY for _, index, _ in running.values()):
                _logger.warning(NO_ROOM, self.workers)
        actor, index, item = running.pop(done[0])
        return actor, index, item, self._result(done[0])

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause or error from None
        except self._ray.exceptions.RayError as error:
            return Lost(f"{DEATH}: {str(error).strip().splitlines()[0]}")

    def _replaced(self, actor: Any) -> Any:
        fresh = self._actors[self._actors.index(actor)] = self._actor()
        self._ray.kill(actor)
        return fresh

    def _check_starts(self, refused: int, last: Lost) -> None:
        if refused > STARTS:
            question = "is phonoscope installed on every machine of the cluster?"
            raise SetupError(f"Ray actors do not start; {question} {last.reason}")

    def _alone(self, task: Any, item: Any) -> Any:
        """Run one item while nothing else runs, on an actor that has just answered."""
        for refused in itertools.count():
            running = {actor.ready.remote(): (actor, READY, None) for actor in self._actors}
            actor, _, _, answer = self._next(running)
            if not isinstance(answer, Lost):
                break
            self._check_starts(refused, answer)
            self._replaced(actor)
        result = self._result(actor.run.remote(task, cloudpickle.dumps(item)))
        if isinstance(result, Lost):
            self._replaced(actor)
        return result

    def close(self) -> None:
        """Stop the actors, and the local cluster if this engine started it."""
        actors, self._actors = self._actors, []
        if not self._ray.is_initialized():
            return
        for actor in actors:
            self._ray.kill(actor)
        if self._connected:
            self._ray.shutdown()


class _Work:
    """What is left of one `map`: items to come, and what the actors have in hand."""

    def __init__(
        self, task: Any, queue: Iterator[tuple[int, Any]], running: dict[Any, Any]
    ) -> None:
        self.task, self.queue, self.running = task, queue, running
        self._more = True

    @property
    def left(self) -> bool:
        """Whether items are under way or to come."""
        return self._more or any(index != READY for _, index, _ in self.running.values())

    def greet(self, actor: Any) -> None:
        """Ask an actor to answer: one that the cluster has no room for is given no items."""
        self.running[actor.ready.remote()] = actor, READY, None

    def feed(self, actor: Any, count: int) -> None:
        """Give an actor the next items."""
        for _ in range(count):
            index, item = next(self.queue, (READY, None))
            if index == READY:
                self._more = False
                return
            self.running[actor.run.remote(self.task, cloudpickle.dumps(item))] = actor, index, item


def _connect(ray: Any, workers: int | None) -> None:
    quiet = {"log_to_driver": False, "configure_logging": False}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address, **quiet)
    else:
        ray.init("local", num_cpus=workers or cores(), include_dashboard=False, **quiet)


def share(gpus: float, workers: int) -> float:
    """Return the part of a GPU that each worker takes, so that all of them find room."""
    return 1 / math.ceil(workers / gpus) if gpus else 0


class _Actor:
    """One worker: unpickles a task once and runs it on items."""

    def __init__(self, folder: str, path: list[str], settings: dict[str, str]) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)
        sys.path += [entry for entry in path if entry not in sys.path]
        worker.take_over(settings)

    def ready(self) -> bool:
        """Answer as soon as the actor runs."""
        return True

    def run(self, task: bytes, item: bytes) -> Any:
        return worker.run(task, item)
