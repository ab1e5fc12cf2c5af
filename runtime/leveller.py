"""The gain of a live stream: brings whoever sings to the level a voice was trained at, without knowing the song."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import loudness, mel
from moksori.runtime.mel import MelSpec
from moksori.runtime.tape import Tape

Array = NDArray[np.float32]

LARGEST_GAIN_DB = 24.0
QUIETEST_DB = -55.0  # of a frame that may be singing; a room is not to be amplified until it passes for a voice
MEMORY_SECONDS = 20.0  # of singing, after which half of it is forgotten
FASTEST, SLOWEST = 20.0, 2.0  # dB a second, in the first second of singing and later


class Leveller:
    """State of one stream. ``fixed`` is a gain in dB that stays; without it the gain follows the singer slowly."""

    def __init__(self, spec: MelSpec, goal: float, fixed: float | None = None) -> None:
        """``goal`` is the voice's level in dB."""
        self.spec, self.goal, self.fixed = spec, goal, fixed
        self.gain = fixed or 0.0  # dB at the end of the last block
        self.counts = np.zeros(len(loudness.EDGES))
        self.heard = 0.0  # seconds of singing
        self.gains = Tape()  # of each sample, as a factor

    def push(self, samples: Array) -> Array:
        """Whole frames of samples, amplified; the gain goes linearly (in dB) to where it should be after them."""
        before = self.gain
        if self.fixed is None:
            self._follow(mel.loudness(samples, self.spec))
        gains = (10 ** (np.linspace(before, self.gain, len(samples), endpoint=False) / 20)).astype(np.float32)
        self.gains.add(gains)
        return samples * gains

    def undo(self, samples: Array, begin: int) -> Array:
        """What is sung after the samples from ``begin`` on, brought back to the level of the singer."""
        gains = self.gains.cut(begin, begin + len(samples))
        self.gains.keep(begin + len(samples))
        return (samples / gains).astype(np.float32)

    def _follow(self, levels: Array) -> None:
        sung = levels[levels > QUIETEST_DB]
        seconds = len(sung) / self.spec.frame_rate
        self.counts = self.counts * 0.5 ** (seconds / MEMORY_SECONDS) + loudness.counted(sung)
        self.heard += seconds
        level = loudness.middle(self.counts)
        if level is None:
            return
        most = seconds * max(SLOWEST, FASTEST / max(1.0, self.heard))
        wanted = float(np.clip(self.goal - level, -LARGEST_GAIN_DB, LARGEST_GAIN_DB))
        self.gain += float(np.clip(wanted - self.gain, -most, most))
