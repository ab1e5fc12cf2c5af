"""Levels: bringing a source to the level a voice was trained at and back, keeping silence silent, never clipping."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import mel
from moksori.runtime.mel import MelSpec

Array = NDArray[np.float32]

LARGEST_GAIN_DB = 40.0
SILENCE_DB = -75.0  # of the loudest frame: a file below it has nothing to convert
ACTIVE_RANGE_DB = 25.0  # frames this far below the loudest ones still count as singing
KNEE = 0.9  # full scale; samples above it bend smoothly towards 1
EDGES = np.arange(mel.LOUDNESS_FLOOR_DB, 60, 0.5)  # dB, of the bins in which levels are counted


def active_level(blocks: Iterable[Array], spec: MelSpec) -> float | None:
    """Median level in dB of a stream's active frames, None if it is silent."""
    counts = np.zeros(len(EDGES))
    for block in blocks:
        counts += counted(mel.loudness(block, spec))
    return middle(counts)


def counted(levels: Array) -> NDArray[np.float64]:
    """How many of ``levels`` in dB lie in each bin."""
    places = np.clip(np.digitize(levels, EDGES) - 1, 0, len(EDGES) - 1)
    return np.bincount(places, minlength=len(EDGES)).astype(np.float64)


def middle(counts: NDArray[np.float64]) -> float | None:
    """The median level in dB of the active frames among those counted; None if all are silent."""
    filled = np.flatnonzero(counts)
    if not len(filled) or EDGES[filled[-1]] < SILENCE_DB:
        return None
    loud = EDGES[np.searchsorted(np.cumsum(counts), 0.98 * counts.sum())]  # a click is not the level of a song
    floor = max(loud - ACTIVE_RANGE_DB, SILENCE_DB)
    active = np.where(floor <= EDGES, counts, 0)
    if not active.any():
        active = counts
    return float(EDGES[np.searchsorted(np.cumsum(active), active.sum() / 2)]) + 0.25


def amplified(samples: Array, decibels: float) -> Array:
    return (samples * np.float32(10 ** (decibels / 20))).astype(np.float32)


def limited(samples: Array) -> Array:
    """Samples within ±1: unchanged up to the knee, bent by tanh above it."""
    bent = samples.astype(np.float32)
    loud = np.abs(bent) > KNEE
    over = bent[loud]
    bent[loud] = np.sign(over) * (KNEE + (1 - KNEE) * np.tanh((np.abs(over) - KNEE) / (1 - KNEE)))
    return bent


class Gate:
    """Mutes what the source does not sing: opens above one level, closes below a lower one, with ramps of a frame."""

    OPEN_DB, CLOSE_DB = -62.0, -68.0
    HOLD = 10  # frames that stay open after the level fell

    def __init__(self, spec: MelSpec) -> None:
        self.hop = spec.hop
        self.gains = np.zeros(0, np.float32)  # of frames whose samples are still to come; one frame of past in front
        self.open_for = 0
        self.place = 0  # samples into gains[1]

    def push(self, level: Array) -> Array:
        """Levels [k] in dB of the next frames; returns their gains [k], 0 or 1."""
        gains = np.empty(len(level), np.float32)
        for index, decibels in enumerate(level):
            still = self.CLOSE_DB if self.open_for else self.OPEN_DB
            self.open_for = self.HOLD if decibels > still else max(0, self.open_for - 1)
            gains[index] = self.open_for > 0
        past = self.gains if len(self.gains) else gains[:1]
        self.gains = np.concatenate([past, gains])
        return gains

    def apply(self, samples: Array) -> Array:
        """Gate the next samples, whose frames must have been pushed."""
        if self.gains.min(initial=1) < 1:
            at = (self.place + np.arange(len(samples)) + 0.5) / self.hop + 0.5  # gains lie at frame centres
            gains = np.interp(at, np.arange(len(self.gains)), self.gains)
            samples = samples * gains.astype(np.float32)
        self.place += len(samples)
        whole = self.place // self.hop
        self.gains, self.place = self.gains[whole:], self.place - whole * self.hop
        return samples.astype(np.float32)
