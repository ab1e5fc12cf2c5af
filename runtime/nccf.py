"""f0 fitted to the waveform: moved to where the sound around a frame is most like itself one period later.

The normalised cross-correlation function (Talkin 1995, "A Robust Algorithm for Pitch Tracking"), searched near what a
tracker that knows notes, octaves and noise has found; between its bins and its frames a waveform says more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.mel import hann

Array = NDArray[np.float32]
Numbers = NDArray[np.float64]

RATE = 16_000  # Hz
POINTS = 128  # of the tracker's period
STRIDE = 4  # points from one that counts in a sum to the next
HALVES = np.arange(58, 71)  # points of half a period: a semitone and a half up to as much down, in steps of 27 cents
SEMITONES = 12 * np.log2(POINTS / 2 / HALVES)
# What a semitone's distance from the tracker costs, in correlation, and twice that four times as much: little where the
# sound repeats itself exactly, more where echo and noise speak too, which is told by the best correlation.
TRUST, DOUBT = 0.02, 0.5
LEAST = 0.5  # correlation below which there is no period
BATCH = 128  # frames held at once
SILENCE = 1e-13  # power, squared


def fitted(audio: Array, times: NDArray[np.floating], f0: Array, periods: int) -> tuple[Array, Array]:
    """Move ``f0`` [F] in Hz at ``times`` [F] in s of ``audio`` [n] at 16 kHz by a semitone and a half or so at most.

    A frame is heard through a Hann window of ``periods`` periods. Where nothing repeats, f0 stays as it is.

    Returns:
        f0 [F] in Hz, and how much alike two periods are there [F], 0…1.
    """
    padded = np.pad(audio, (2, 3))
    starts = range(0, len(times), BATCH)
    parts = [_fitted(padded, times[at : at + BATCH], f0[at : at + BATCH], periods) for at in starts]
    if not parts:
        return f0, np.zeros_like(f0)
    return np.concatenate([moved for moved, _ in parts]), np.concatenate([alike for _, alike in parts])


def _fitted(padded: Array, times: NDArray[np.floating], f0: Array, periods: int) -> tuple[Array, Array]:
    length = periods * POINTS + 2 * HALVES[-1]
    period = RATE / f0.astype(np.float64)[:, None]
    places = times[:, None] * RATE + (np.arange(length) - (length - 1) / 2) / POINTS * period
    alike = _alike(_between(padded, places))
    trust = TRUST + DOUBT * (1 - np.clip(alike.max(1, keepdims=True), 0, 1)) ** 2
    cost = trust * SEMITONES**2
    best = (alike - cost).argmax(1)
    inside = np.clip(best, 1, len(HALVES) - 2)[:, None]
    before, peak, after = (np.take_along_axis(alike - cost, inside + side, 1)[:, 0] for side in (-1, 0, 1))
    bend, most = before - 2 * peak + after, np.take_along_axis(alike, inside, 1)[:, 0]
    found = (inside[:, 0] == best) & (bend < 0) & (most >= LEAST)
    half = HALVES[inside[:, 0]] + 0.5 * (before - after) / np.where(found, bend, 1)
    return np.where(found, f0 * (POINTS / 2 / half), f0).astype(np.float32), np.clip(most, 0, 1).astype(np.float32)


def _alike(sound: Array) -> Array:
    """[F, HALVES]: correlation of ``sound`` [F, points] so many points earlier with as many later."""
    length = sound.shape[1] - 2 * HALVES[-1]
    window = hann(length, length)[::STRIDE]
    root = np.sqrt(window / window.sum())

    def heard(first: int) -> Array:
        part: Array = sound[:, first : first + length : STRIDE] * root
        return part

    found = np.empty((len(sound), len(HALVES)), np.float32)
    for at, half in enumerate(HALVES):
        before, after = heard(HALVES[-1] - half), heard(HALVES[-1] + half)
        power = np.einsum("fn,fn->f", before, before) * np.einsum("fn,fn->f", after, after)
        found[:, at] = np.einsum("fn,fn->f", before, after) / np.sqrt(power + SILENCE)
    return found


def _between(padded: Array, places: Numbers) -> Array:
    """The sound at fractions of samples, by Catmull and Rom's cubic; silence before its begin and after its end."""
    places = np.clip(places + 2, 1, len(padded) - 3)
    at = places.astype(np.intp)
    part = (places - at).astype(np.float32)
    at -= 1
    # All are inside; "wrap" is the fastest way not to ask.
    a, b, c, d = (padded[offset : len(padded) - 3 + offset].take(at, mode="wrap") for offset in range(4))
    sound: Array = b + 0.5 * part * (c - a + part * (2 * a - 5 * b + 4 * c - d + part * (3 * (b - c) + d - a)))
    return sound
