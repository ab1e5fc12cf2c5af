"""Formants moved without the pitch: the envelope of each mel frame is stretched, its harmonics stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import mel
from moksori.runtime.mel import MelSpec

Array = NDArray[np.float32]

LARGEST = 12.0  # semitones


def shifted(frames: Array, f0: Array, voiced: NDArray[np.bool_], semitones: float, spec: MelSpec) -> Array:
    """Log-mel frames [T, M] as a throat smaller by the ratio 2^(semitones/12) would shape them.

    The envelope of a voiced frame is what the frame is at its harmonics, with straight lines between; of any other, the
    frame itself. It is read at f / ratio for each bin's centre f, and goes on flat beyond the ends. What the frame has
    beside its envelope, harmonics and the gaps between them, stays where it is.

    Args:
        f0: [T] Hz, of the result; voiced: [T].
    """
    centres = mel.centres(spec)
    wanted = centres / 2 ** (semitones / 12)
    moved = np.empty_like(frames)
    for at, frame in enumerate(frames):
        points = np.arange(f0[at], centres[-1], f0[at]) if voiced[at] else centres
        heights = np.interp(points, centres, frame)
        moved[at] = frame - np.interp(centres, points, heights) + np.interp(wanted, points, heights)
    return moved
