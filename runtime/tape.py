"""Rolling buffers of a stream: rows by absolute index, of which only the newest are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Tape:
    """Rows [n, ...] of which ``first`` is the index of the oldest that is kept and ``end`` that of the next to come."""

    def __init__(self, *width: int, dtype: type = np.float32) -> None:
        self.rows: Array = np.zeros((0, *width), dtype)
        self.first = 0

    @property
    def end(self) -> int:
        return self.first + len(self.rows)

    def add(self, rows: Array) -> None:
        self.rows = np.concatenate([self.rows, rows])

    def cut(self, begin: int, end: int) -> Array:
        """Rows ``begin`` to ``end``, all of which must be there."""
        if not self.first <= begin <= end <= self.end:
            raise IndexError(f"rows {begin} to {end} of a tape that holds {self.first} to {self.end}")
        return self.rows[begin - self.first : end - self.first]

    def keep(self, begin: int) -> None:
        """Let go of what lies before ``begin``."""
        drop = min(max(0, begin - self.first), len(self.rows))
        if drop:
            self.rows, self.first = self.rows[drop:].copy(), self.first + drop

    def restart(self, begin: int) -> None:
        """Let go of everything; the next row is ``begin``."""
        self.rows, self.first = self.rows[:0].copy(), begin
