"""The `processes` engine: a pool of worker processes on this machine.

Workers come from a fork server that has imported the plugins, with one BLAS thread each. If a
worker is killed (out of memory, a crash in C), the items that were under way are tried again alone,
so only the guilty one is lost.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any

import cloudpickle

from phonoscope.engines import Lost, Task, cores, worker

AHEAD = 3
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DEATH = "the worker process was killed on this sample (out of memory, or a crash in C code)"


class Processes:
    """A pool of worker processes, started at the first item."""

    name = "processes"

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or cores()
        self._pool: ProcessPoolExecutor | None = None
        self._running: dict[Future[Any], tuple[int, Any]] = {}

    def map(self, task: Task, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result or `Lost`) as items finish; only a few items are held at once."""
        packed = cloudpickle.dumps(task)
        queue = enumerate(items)
        running = self._running = {}
        while True:
            for index, item in itertools.islice(queue, self.workers * AHEAD - len(running)):
                running[self._submit(packed, item)] = index, item
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            suspects = [running[future] for future in self._settled(done) if _broken(future)]
            for future in done:
                index, _ = running.pop(future)
                if not _broken(future):
                    yield index, future.result()
            for index, item in suspects:
                yield index, self._alone(packed, item)

    def _settled(self, done: set[Future[Any]]) -> set[Future[Any]]:
        """Return what is done; if the pool broke, that is all that was under way."""
        if any(map(_broken, done)):
            done |= wait(self._running).done
            self.close()
        return done

    def _alone(self, task: bytes, item: Any) -> Any:
        future = self._submit(task, item)
        self._running[future] = -1, item
        wait([future])
        del self._running[future]
        if not _broken(future):
            return future.result()
        self.close()
        return Lost(DEATH)

    def _submit(self, task: bytes, item: Any) -> Future[Any]:
        packed = cloudpickle.dumps(item)
        if self._pool is None:
            self._pool = _new_pool(self.workers)
        try:
            with _single_threaded(), _main_hidden():
                return self._pool.submit(worker.run, task, packed)
        except BrokenProcessPool as error:
            broken: Future[Any] = Future()
            broken.set_exception(error)
            return broken

    def close(self) -> None:
        """Stop the workers, at once if any is busy; a later `map` starts new ones."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        workers = list((pool._processes or {}).values())
        if any(not future.done() for future in self._running):
            for process in workers:
                process.kill()
        pool.shutdown(cancel_futures=True)


def _broken(future: Future[Any]) -> bool:
    return future.done() and isinstance(future.exception(), BrokenProcessPool)


def _new_pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["phonoscope.engines.preload"])
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(worker.settings(),)
    )


def _begin(settings: dict[str, str]) -> None:
    """Let a worker end silently at Ctrl-C, and with the main process however that ends."""
    worker.take_over(settings)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Let processes started inside use one BLAS thread each."""
    absent = [name for name in ONE_THREAD if name not in os.environ]
    os.environ.update(dict.fromkeys(absent, "1"))
    try:
        yield
    finally:
        for name in absent:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep workers from running the user's script again (no `if __name__` guard is needed)."""
    main = vars(sys.modules["__main__"])
    hidden: tuple[str, ...] = ("__file__", "__spec__")
    kept = {name: main.pop(name) for name in hidden if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(kept)
