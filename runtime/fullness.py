"""Keeps a voice from fading where it has learned nothing: very high or low, denoiser and vocoder fall short of the
loudness that they are asked for, and the sound is raised to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.mel import MelSpec

Array = NDArray[np.float32]

TOLERATED_DB = 2.0  # voices miss the loudness by as much in their own range
LARGEST_DB = 12.0
SMOOTHING = 0.2  # seconds: a syllable's loudness is made up, not a pulse's


class Fullness:
    """A stream of sound, raised where it is voiced and more than 2 dB below what was asked for; 4 dB are made up whole.

    ``push`` tells what frames are asked for, ``apply`` takes their samples and gives those whose gain is known; the
    last 0.2 s wait for what follows. However the stream comes in pieces, the result is the same.
    """

    def __init__(self, spec: MelSpec) -> None:
        self.hop, self.width = spec.hop, max(1, round(SMOOTHING * spec.frame_rate))
        self.reach = self.width // 2 + self.width // 4 + 1  # frames to either side that a gain depends on
        self.wanted, self.voiced = np.zeros(0, np.float32), np.zeros(0, bool)
        self.samples = np.zeros(0, np.float32)  # from a frame's begin on, like the two above
        self.given = 0  # of them, are out already

    def push(self, wanted: Array, voiced: NDArray[np.bool_]) -> None:
        """``mel.loudness`` [k] of the frames that follow, and whether they are voiced [k]."""
        self.wanted, self.voiced = np.concatenate([self.wanted, wanted]), np.concatenate([self.voiced, voiced])

    def apply(self, samples: Array, last: bool) -> Array:
        """Take what follows [n]; no more of it than frames have been pushed."""
        held = self.samples = np.concatenate([self.samples, samples])
        frames = -(-len(held) // self.hop) if last else len(held) // self.hop
        sure = frames if last else frames - self.reach
        stop = len(held) if last else max(self.given, round((sure - 0.5) * self.hop))
        if stop <= self.given:
            return np.zeros(0, np.float32)
        at = (np.arange(self.given, stop) + 0.5) / self.hop - 0.5  # gains lie at frames' centres
        gains = np.interp(at, np.arange(frames), self._gains(held, frames))
        raised = held[self.given : stop] * 10 ** (gains / 20)
        drop = max(0, stop // self.hop - self.reach - 1)
        self.samples, self.given = held[drop * self.hop :], stop - drop * self.hop
        self.wanted, self.voiced = self.wanted[drop:], self.voiced[drop:]
        return raised.astype(np.float32)

    def _gains(self, held: Array, frames: int) -> NDArray[np.float64]:
        """dB of each of the first ``frames``."""
        whole = np.pad(held[: frames * self.hop], (0, max(0, frames * self.hop - len(held)))).astype(np.float64)
        made = np.square(whole).reshape(frames, self.hop).mean(1)
        asked = 10 ** (self.wanted[:frames].astype(np.float64) / 10)
        missing = 10 * np.log10(_mean(asked, self.width) / np.maximum(_mean(made, self.width), 1e-12))
        made_up = np.clip(np.minimum(missing, 2 * (missing - TOLERATED_DB)), 0, LARGEST_DB)
        return _mean(np.where(self.voiced[:frames], made_up, 0), self.width // 2)


def _mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Mean [T] of those of the ``width`` values around each that there are."""
    ones, start = np.ones(max(1, width)), max(0, width - 1) // 2
    part = slice(start, start + len(values))
    return (np.convolve(values, ones) / np.convolve(np.ones(len(values)), ones))[part]
