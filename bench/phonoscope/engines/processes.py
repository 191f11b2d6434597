"""The `processes` engine: a pool of worker processes on this machine.

Workers come from a fork server that has imported the plugins, with one BLAS thread each. If a
worker is killed (out of memory, a crash in C), the items that were under way are tried again alone,
so only the guilty one is lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import cloudpickle

from phonoscope.engines import Lost, Task

AHEAD = 3
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def _call(payload: bytes) -> Any:
    task, item = pickle.loads(payload)  # noqa: S301 - bytes that this process's parent made
    return task(item)


def _die_with_parent() -> None:
    """End this worker when the fork server ends, as it does if the main process is killed."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


class Processes:
    """A pool of worker processes, started at the first item."""

    name = "processes"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def map(self, task: Task, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result or `Lost`) as items finish; only a few items are held at once."""
        queue = enumerate(items)
        running: dict[Future[Any], tuple[int, Any]] = {}
        while True:
            for index, item in itertools.islice(queue, self.workers * AHEAD - len(running)):
                running[self._submit(task, item)] = index, item
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                suspects = sorted(running.values(), key=lambda pair: pair[0])
                finished = list(self._salvage(running))
                running = {}
                yield from finished
                known = {index for index, _ in finished}
                yield from self._one_by_one(task, [p for p in suspects if p[0] not in known])
                continue
            for future in done:
                yield running.pop(future)[0], future.result()

    def _salvage(self, running: dict[Future[Any], tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        self.close()
        for future, (index, _) in running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield index, future.result()

    def _one_by_one(self, task: Task, items: list[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        for index, item in items:
            try:
                yield index, self._submit(task, item).result()
            except BrokenProcessPool:
                self.close()
                yield index, Lost("the worker process was killed (out of memory?) on this sample")

    def _submit(self, task: Task, item: Any) -> Future[Any]:
        payload = cloudpickle.dumps((task, item))
        if self._pool is None:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["phonoscope.engines.preload"])
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=_die_with_parent
            )
        with _single_threaded(), _main_hidden():
            return self._pool.submit(_call, payload)

    def close(self) -> None:
        """Stop the workers; a later `map` starts new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Let processes started inside use one BLAS thread each."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update({name: os.environ.get(name) or "1" for name in ONE_THREAD})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep workers from running the user's script again (no `if __name__` guard is needed)."""
    main = vars(sys.modules["__main__"])
    kept: dict[str, Any] = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(kept)
