"""A pool of processes that ends with its parent, or, for one job, none at all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def pool(jobs: int) -> Iterator[Executor]:
    """An executor of ``jobs`` fresh processes; with one job, it runs at once in this one."""
    executor = _Here() if jobs == 1 else ProcessPoolExecutor(jobs, get_context("spawn"), _begin)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


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


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
