"""Percentiles of any amount of data in memory that does not grow."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Histogram:
    """Counts of values rounded to whole ``step``s between ``low`` and ``high``, in ``rows`` side by side."""

    def __init__(self, low: float, high: float, step: float, rows: int = 1) -> None:
        self.low, self.step = low, step
        self.counts = np.zeros((rows, round((high - low) / step) + 1), np.int32)

    def add(self, values: NDArray[np.floating]) -> None:
        """Count values [n], or [n, rows]; those outside count at the end they are beyond."""
        table = values.reshape(-1, len(self.counts))
        width = self.counts.shape[1]
        index = np.clip(np.rint((table.astype(np.float64) - self.low) / self.step), 0, width - 1).astype(np.int64)
        for row, column in zip(self.counts, index.T, strict=True):
            np.add.at(row, column, 1)

    @property
    def total(self) -> int:
        """Values counted in each row."""
        return int(self.counts[0].sum())

    def percentiles(self, wanted: ArrayLike) -> NDArray[np.float64]:
        """As numpy.percentile along the first axis, to half a step: [percentiles, rows]; NaN of nothing."""
        rank = np.asarray(wanted, np.float64) / 100 * (self.total - 1)
        if not self.total:
            return np.full((len(rank), len(self.counts)), np.nan)
        found = []
        for row in self.counts:
            ends = np.cumsum(row)
            below, above = (np.searchsorted(ends, side(rank), side="right") for side in (np.floor, np.ceil))
            found.append(below + (rank - np.floor(rank)) * (above - below))
        return np.round(self.low / self.step + np.array(found).T, 6) * self.step

    def coarse(self, edges: NDArray[np.floating]) -> NDArray[np.int64]:
        """Counts of the first row between wider edges."""
        values = self.low + self.step * np.arange(self.counts.shape[1])
        return np.histogram(values, edges, weights=self.counts[0])[0].astype(np.int64)
