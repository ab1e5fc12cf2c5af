"""How many frames are made at once: fewer from the moment that a device's memory does not hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from moksori.runtime.errors import MemoryFull

Result = TypeVar("Result")

SMALLEST_FRAMES = 64  # what does not fit is halved down to it
ALL = 1 << 62


@dataclass
class Room:
    """At most ``frames`` at a time; ``reason`` says why there are no more, once memory ran out."""

    frames: int = ALL
    reason: str = ""

    def stretches(self, begin: int, end: int, work: Callable[[int, int], Result]) -> Iterator[tuple[int, Result]]:
        """From frame ``begin`` to ``end``, in order: where each stretch ends, and ``work`` (its begin, its end).

        A stretch that does not fit is tried again at half its length, and all later ones are as short.

        Raises:
            MemoryFull: not even a short one fits.
        """
        while begin < end:
            stop = min(end, begin + self.frames)
            try:
                result = work(begin, stop)
            except MemoryFull as error:
                if stop - begin < 2 * SMALLEST_FRAMES:
                    raise
                self.frames, self.reason = -(-(stop - begin) // 2), str(error)
                continue
            yield stop, result
            begin = stop
