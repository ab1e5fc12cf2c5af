"""Which key suits a voice: how high a song is sung, counted once through, against the range it is to be sung in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.manifest import Speaker

Array = NDArray[np.float32]

BIN = 0.1  # semitones
LOWEST_HZ = 20.0
BINS = 1000  # up to 6.4 kHz
INSIDE = 0.9  # of the voiced time: what the range of a speaker itself holds, from its 5th to its 95th percentile
NEAR = 1.0  # semitones outside, in the mean over the voiced time: as speech is that now and then falls to a creak
CLOSE = 0.25  # semitones outside in the mean, where a key need not be an octave: nearly all of it inside
OCTAVES = (0, 12, -12, 24, -24, 36, -36)
FARTHEST = 36  # semitones


@dataclass(frozen=True)
class Range:
    """Hz: 5 % of the voiced time lies below ``low``, half below ``median``, 5 % above ``high``."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.0f}–{self.high:.0f} Hz"


class Heights:
    """A histogram of f0 over log frequency: as small after an hour as after a second."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)

    def add(self, f0: Array, voiced: NDArray[np.bool_]) -> None:
        places = np.round(_semitones(f0[voiced]) / BIN).astype(np.int64)
        self.counts += np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS)

    @property
    def range(self) -> Range | None:
        """None when nothing was voiced."""
        if not self.counts.any():
            return None
        share = np.cumsum(self.counts) / self.counts.sum()
        low, median, high = (float(np.searchsorted(share, q)) * BIN for q in (0.05, 0.5, 0.95))
        return Range(_hertz(low), _hertz(median), _hertz(high))

    def inside(self, goal: Range, key: float) -> float:
        """The share of the voiced time that lies in ``goal`` when moved by ``key`` semitones."""
        return float(self.counts[self._away(goal, key) <= BIN / 2].sum() / max(self.counts.sum(), 1))

    def outside(self, goal: Range, key: float) -> float:
        """Mean distance to ``goal`` in semitones, over the voiced time."""
        return float(self.counts @ self._away(goal, key) / max(self.counts.sum(), 1))

    def _away(self, goal: Range, key: float) -> NDArray[np.float64]:
        at = np.arange(BINS) * BIN + key
        low, high = _semitones(goal.low), _semitones(goal.high)
        return np.maximum(np.maximum(low - at, at - high), 0)


def mixed(speakers: Sequence[Speaker], weights: Array) -> Range:
    """The range of a mix: the weighted mean of the speakers' own, on the scale that ears hear."""

    def mean(values: list[float]) -> float:
        return float(np.exp(weights @ np.log(values) / weights.sum()))

    return Range(
        mean([one.f0_low for one in speakers]),
        mean([one.f0_median for one in speakers]),
        mean([one.f0_high for one in speakers]),
    )


def automatic(song: Heights, goal: Range) -> int:
    """Whole semitones that bring a song into a range.

    The smallest octave shift, none at all first, that puts 90 % of the song inside, or leaves it less than a semitone
    outside in the mean: with it an accompaniment need not move. Failing that, the semitones that leave the song closest
    to the range, and among equals, closest to its middle. A song without pitch stays.
    """
    for key in OCTAVES:
        if song.inside(goal, key) >= INSIDE or song.outside(goal, key) < NEAR:
            return key
    return _closest(song, goal)


def fewest(song: Heights, goal: Range) -> int:
    """The fewest whole semitones, octave or not, that leave a song CLOSE to a range: for speech, or singing alone.

    Failing that, those that leave it closest, as ``automatic``. A song without pitch stays.
    """
    for key in sorted(range(-FARTHEST, FARTHEST + 1), key=abs):
        if song.outside(goal, key) < CLOSE:
            return key
    return _closest(song, goal)


WORDS: Mapping[str, Callable[[Heights, Range], int]] = {"auto": automatic, "speech": fewest}


def _closest(song: Heights, goal: Range) -> int:
    own = song.range
    if own is None:
        return 0
    middle = _semitones(goal.median) - _semitones(own.median)
    return min(
        range(-FARTHEST, FARTHEST + 1),
        key=lambda key: (round(song.outside(goal, key), 2), abs(key - middle), abs(key)),
    )


def _semitones(hertz: float | Array) -> NDArray[np.float64]:
    return np.asarray(12 * np.log2(np.maximum(hertz, LOWEST_HZ) / LOWEST_HZ), np.float64)


def _hertz(semitones: float) -> float:
    return LOWEST_HZ * 2 ** (semitones / 12)
