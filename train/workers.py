"""A pool of processes that ends with its parent, or, for one job, none at all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread, current_thread, main_thread
from typing import Any, TypeVar

from moksori.runtime import plugins

T = TypeVar("T")


BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pool(jobs: int) -> Iterator[Executor]:
    """An executor of ``jobs`` fresh processes of one thread each; with one job, it runs at once in this one."""
    executor = _Here() if jobs == 1 else _Processes(jobs, get_context("spawn"), _begin)
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    try:
        os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))  # the processes begin with the first tasks, and inherit it
        yield executor
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        executor.shutdown(cancel_futures=True)


class _Processes(ProcessPoolExecutor):
    """Begins its processes deaf to Ctrl-C: one that is still importing would show where."""

    begun = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self.begun or current_thread() is not main_thread():
            return super().submit(fn, *args, **kwargs)
        self.begun = True
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a new process inherits
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.signal(signal.SIGINT, before)


class _Here(Executor):
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """One at a time, as it is asked for."""
        return map(fn, *iterables)


def _begin() -> None:
    """Leave Ctrl-C to the parent, and end with it: one that is killed cannot end its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    plugins.load()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
