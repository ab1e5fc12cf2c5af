"""Working on several chunks at once, each in a thread of its own, with the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 0.2  # seconds; on Windows Ctrl-C does not end a wait that has no limit


def ordered(
    work: Callable[[Item], Result], items: Iterable[Item], lanes: int
) -> Iterator[Result]:
    """``work`` of each item, in order, ``lanes`` of them made at a time while the caller uses the last one.

    Items are taken in the caller's thread, one for each result that is handed out: ``lanes`` + 1 of them wait or run.
    An error of ``work`` or of ``items`` is raised in its turn; leaving early waits for what has begun.
    """
    if lanes == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(lanes, "lane")
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(work, item))
            if len(running) > lanes:
                yield _finished(running)
        while running:
            yield _finished(running)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _finished(running: deque[Future[Result]]) -> Result:
    future = running.popleft()
    while True:
        try:
            return future.result(PATIENCE)
        except Late:
            if future.done():
                raise  # the work itself timed out
