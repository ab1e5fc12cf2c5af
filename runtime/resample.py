"""Resampling of a stream whose delay is known to the sample and is little more than a millisecond.

soxr, which files are resampled with, works in blocks and holds back up to 38 ms at a time (measured, 48 to 24 kHz).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

CROSSINGS = 32  # zero crossings of the windowed sinc to either side, at the lower of the two rates
CUTOFF = 0.94  # of half the lower rate, in the middle of the slope, which is 0.13 of it wide
BETA = 6.8  # of Kaiser's window: 70 dB


@dataclass(frozen=True)
class Ratio:
    """From one rate in Hz to another, output sample j lying ``late`` parts before input sample j·step.

    A part is 1/step.denominator of an input sample; ``wing`` is how many of these an output sample hears on each side.
    """

    source: int
    target: int
    late: int = 0

    @classmethod
    def prompt(cls, source: int, target: int, own: int) -> Ratio:
        """So late that after n samples n / step are known, and by whole samples of ``own``, one of the two rates."""
        plain = cls(source, target)
        parts = (1 + plain.wing) * plain.step.denominator - plain.step.numerator
        unit = plain.step.denominator if own == source else plain.step.numerator
        return cls(source, target, -(-parts // unit) * unit)

    @property
    def step(self) -> Fraction:
        """Input samples from one output sample to the next."""
        return Fraction(self.source, self.target)

    @property
    def wing(self) -> int:
        return 0 if self.source == self.target else -(-CROSSINGS * self.source // min(self.source, self.target))

    def delay(self, own: int) -> int:
        """Samples by which a ratio made by ``prompt`` is late."""
        return self.late // (self.step.denominator if own == self.source else self.step.numerator)

    def ready(self, count: Any) -> Any:
        """Output samples known after ``count`` input samples, of integers or arrays of them.

        One is known with ``wing`` input samples after it.
        """
        parts = (count - 1 - self.wing) * self.step.denominator + self.late
        return np.maximum(0, parts // self.step.numerator + 1)

    def needed(self, count: Any) -> Any:
        """Input samples after which that many output samples are known, of integers or arrays of them."""
        parts = (count - 1) * self.step.numerator - self.late
        return -(-parts // self.step.denominator) + 1 + self.wing


class Resampler:
    """State of one stream; the result does not depend on the size of the blocks."""

    def __init__(self, ratio: Ratio) -> None:
        self.ratio = ratio
        self.held = np.zeros(3 * ratio.wing + 2, np.float32)  # what lies before the first sample is silent
        self.origin = -len(self.held)  # index of held[0]
        self.given = 0

    def push(self, samples: Array) -> Array:
        """Take samples [n]; returns those of the other rate that became known."""
        ratio = self.ratio
        if ratio.source == ratio.target:
            return samples.astype(np.float32)
        self.held = np.concatenate([self.held, samples])
        end = int(ratio.ready(self.origin + len(self.held)))
        if end <= self.given:
            return np.zeros(0, np.float32)
        up, down = ratio.step.denominator, ratio.step.numerator
        place, phase = np.divmod(np.arange(self.given, end) * down - ratio.late, up)
        around = np.lib.stride_tricks.sliding_window_view(self.held, 2 * ratio.wing)
        made = np.einsum("ij,ij->i", around[place + 1 - ratio.wing - self.origin], filters(ratio)[phase])
        self.given = end
        drop = max(0, (end * down - ratio.late) // up + 1 - ratio.wing - self.origin)
        self.held, self.origin = self.held[drop:].copy(), self.origin + drop
        return made.astype(np.float32)


@lru_cache(maxsize=16)
def filters(ratio: Ratio) -> Array:
    """Kaiser-windowed sincs of unit gain for each place between input samples, [phases, 2·wing]."""
    up, wing = ratio.step.denominator, ratio.wing
    away = np.arange(1 - wing, wing + 1) - np.arange(up)[:, None] / up
    scale = CUTOFF * min(1.0, ratio.target / ratio.source)
    window = np.i0(BETA * np.sqrt(np.maximum(0, 1 - (away / wing) ** 2)))
    taps = np.sinc(scale * away) * window
    return (taps / taps.sum(1, keepdims=True)).astype(np.float32)
