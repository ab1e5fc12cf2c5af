"""CREPE around its graph (Kim, Salamon, Li & Bello, ICASSP 2018): audio to salience, and salience to pitch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Bins = NDArray[np.int64]

RATE = 16_000  # Hz
WINDOW = 1024  # samples
BATCH = 64  # frames in one run; the widest activation of the full network takes 1 MiB a frame
BINS = 360
CENTS_PER_BIN = 20
FIRST_BIN_CENTS = 1997.3794084376191  # above 10 Hz
REACH = 4  # bins on each side of the peak that share in the mean
STRIDE = 12  # bins from which on a step of Viterbi's path is all but impossible


class Session(Protocol):
    """What this package needs of a loaded graph (devices.Session, onnxruntime.InferenceSession)."""

    def run(self, outputs: None, inputs: Mapping[str, NDArray[Any]], /) -> list[Array]: ...


def salience(session: Session, audio: Array, hop: int) -> tuple[Array, Array]:
    """Run the graph over ``audio`` [n] at 16 kHz, in frames of 1024 samples centred every ``hop`` samples.

    Returns:
        salience [F, 360] in 0…1 and the largest sample of each frame [F], with F = n // hop + 1.
    """
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, WINDOW // 2), WINDOW)[::hop]
    found, peaks = [], []
    for start in range(0, len(frames), BATCH):
        batch = np.ascontiguousarray(frames[start : start + BATCH])
        found.append(session.run(None, {"frames": batch})[0])
        peaks.append(np.abs(batch).max(1))
    return np.concatenate(found), np.concatenate(peaks)


def within(salience: Array, fmin: float, fmax: float) -> Array:
    """Salience with 0 in the bins outside ``fmin`` to ``fmax`` in Hz; a bin that the range touches is inside."""
    low, high = ((1200 * np.log2(hertz / 10) - FIRST_BIN_CENTS) / CENTS_PER_BIN for hertz in (fmin, fmax))
    inside = slice(max(0, int(np.floor(low))), max(0, int(np.ceil(high))))
    limited = np.zeros_like(salience)
    limited[:, inside] = salience[:, inside]
    return limited


def peaks(salience: Array) -> Bins:
    """The most salient bin of each frame: [F, 360] -> [F]."""
    return salience.argmax(1)


def viterbi(salience: Array) -> Bins:
    """Bins [F] of the likeliest path through salience [F, 360] (0 where a bin is out of range), as torchcrepe has it.

    A frame's probabilities are the softmax of its salience; those of a step of d bins fall linearly and end at d = 12.
    """
    tiny = np.finfo(np.float32).tiny
    raised = np.where(salience > 0, np.exp(salience), 0)
    seen = np.log(raised / np.maximum(raised.sum(1, keepdims=True), tiny) + tiny)
    steps = np.abs(np.subtract.outer(np.arange(BINS), np.arange(BINS)))
    likely = np.maximum(STRIDE - steps, 0).astype(float)
    likely /= likely.sum(1, keepdims=True)
    # Row d of both: coming from d - 11 bins above. All farther steps cost the same, so the best of them is one number.
    padded = np.full(BINS + 2 * (STRIDE - 1), -np.inf)
    comings = np.lib.stride_tricks.sliding_window_view(padded, BINS)
    costs = np.full(comings.shape, -np.inf)
    for d in range(len(costs)):
        to = np.arange(BINS)
        origin = to + d - (STRIDE - 1)
        real = (origin >= 0) & (origin < BINS)
        costs[d, real] = np.log(likely[origin[real], to[real]] + tiny)
    value, here = seen[0] - np.log(BINS), padded[STRIDE - 1 : 1 - STRIDE]
    came = np.empty(salience.shape, np.int64)
    every = np.arange(BINS)
    for time in range(1, len(seen)):
        here[:] = value
        scores = comings + costs
        best = scores.argmax(0)
        near, (far, leap) = scores[best, every], (value.argmax(), value.max() + np.log(tiny))
        came[time] = np.where(near >= leap, every + best - (STRIDE - 1), far)
        value = seen[time] + np.maximum(near, leap)
    path = np.empty(len(seen), np.int64)
    path[-1] = value.argmax()
    for time in range(len(seen) - 1, 0, -1):
        path[time - 1] = came[time, path[time]]
    return path


DECODERS = {"weighted": peaks, "viterbi": viterbi}


def frequencies(salience: Array, bins: Bins) -> Array:
    """f0 [F] in Hz: the mean of the nine bins around ``bins`` [F], weighted by salience [F, 360]."""
    offsets = np.arange(-REACH, REACH + 1)
    around = bins[:, None] + offsets
    real = (around >= 0) & (around < BINS)
    around = np.clip(around, 0, BINS - 1)
    weights = np.take_along_axis(salience, around, 1) * real + 1e-9 * (offsets == 0)  # a path may cross silence
    cents = (weights * (CENTS_PER_BIN * around + FIRST_BIN_CENTS)).sum(1) / weights.sum(1)
    return (10 * 2 ** (cents / 1200)).astype(np.float32)
