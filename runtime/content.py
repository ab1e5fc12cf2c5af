"""Content: what is said, not who says it. A graph turns 16 kHz audio into units, one every 20 ms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.pitch import Session

Array = NDArray[np.float32]

RATE = 16_000  # Hz
UNIT_HOP = 320  # samples, 20 ms
MINIMUM = 4 * UNIT_HOP  # the front ends mirror up to 200 samples and convolve a few frames


def units(session: Session, audio: Array) -> Array:
    """Units of ``audio`` [n] at 16 kHz: [ceil(n / 320), D]. Audio is padded with zeros to whole units."""
    count = -(-len(audio) // UNIT_HOP)
    padded = np.pad(audio, (0, max(count * UNIT_HOP, MINIMUM) - len(audio)))
    return session.run(None, {"audio": padded[None]})[0][0, :count]


def mel2ph(frames: int, count: int) -> NDArray[np.int64]:
    """1-based unit index of each mel frame by linear stretch: unit i ends at int(i·d + d + 0.5), d = frames / count."""
    stretch = frames / count
    ends = np.floor(np.arange(count) * stretch + stretch + 0.5).astype(np.int64)
    return np.minimum(np.searchsorted(ends, np.arange(frames), side="right") + 1, count)
