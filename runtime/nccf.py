"""f0 fitted to the waveform: moved to where the sound around a frame is most like itself one period later.

The normalised cross-correlation function (Talkin 1995, "A Robust Algorithm for Pitch Tracking"), searched near what a
tracker that knows notes, octaves and noise has found; between its bins and its frames a waveform says more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.mel import hann

Array = NDArray[np.float32]
Numbers = NDArray[np.float64]

RATE = 16_000  # Hz
STEP = 25.0  # cents between candidates; a parabola finds what lies between
CENTS = np.arange(-150.0, 150.0 + STEP, STEP)
# What a semitone's distance from the tracker costs, in correlation, and twice that four times as much: little where the
# sound repeats itself exactly, more where echo and noise speak too, which is told by the best correlation.
TRUST, DOUBT = 0.02, 0.5
LEAST = 0.5  # correlation below which there is no period
POINTS = 64  # of a period, of which sums take every second; between fewer a cubic misses high harmonics
BATCH = 128  # frames held at once
SILENCE = 1e-13  # power, squared


def cubic(points: Iterable[Any], part: Any) -> Any:
    """Catmull and Rom's: what lies at ``part`` of the way from the second of four ``points`` to the third."""
    a, b, c, d = points
    return b + 0.5 * part * (c - a + part * (2 * a - 5 * b + 4 * c - d + part * (3 * (b - c) + d - a)))


HALVES = POINTS / 2 * 2 ** (-CENTS / 1200)  # points from a frame to half of each candidate's period
NEAREST, FARTHEST = int(HALVES.min()) - 1, int(HALVES.max()) + 2  # those that its cubics take
SIDE = np.arange(NEAREST, FARTHEST + 1)
AROUND = np.concatenate([-SIDE, SIDE])


def _sums() -> Array:
    """What products of all pairs AROUND a frame count for: [pairs, sums].

    The sums of each candidate are of the sound before times that after, of its square before, and of that after.
    """
    before, after = np.zeros((2, len(HALVES), len(AROUND)))
    for candidate, half in enumerate(HALVES):
        whole = int(half)
        first = whole - 1 - NEAREST
        taps = cubic(np.eye(4), half - whole)
        before[candidate, first : first + 4] = after[candidate, len(SIDE) + first : len(SIDE) + first + 4] = taps
    pairs = ((before, after), (before, before), (after, after))
    sums = np.concatenate([np.einsum("ck,cl->klc", *pair) for pair in pairs], 2)
    return sums.reshape(len(AROUND) ** 2, -1).astype(np.float32)


SUMS = _sums()


def fitted(audio: Array, times: NDArray[np.floating], f0: Array, periods: int) -> tuple[Array, Array]:
    """Move ``f0`` [F] in Hz at ``times`` [F] in s of ``audio`` [n] at 16 kHz by less than one and a half semitones.

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
    length = periods * POINTS + 2 * FARTHEST
    period = RATE / f0.astype(np.float64)[:, None]
    places = times[:, None] * RATE + (np.arange(length) - (length - 1) / 2) / POINTS * period
    alike = _alike(_between(padded, places))
    trust = TRUST + DOUBT * (1 - np.clip(alike.max(1, keepdims=True), 0, 1)) ** 2
    cost = trust * (CENTS / 100) ** 2
    best = (alike - cost).argmax(1)
    inside = np.clip(best, 1, len(CENTS) - 2)[:, None]
    before, peak, after = (np.take_along_axis(alike - cost, inside + side, 1)[:, 0] for side in (-1, 0, 1))
    bend, most = before - 2 * peak + after, np.take_along_axis(alike, inside, 1)[:, 0]
    found = (inside[:, 0] == best) & (bend < 0) & (most >= LEAST)
    moved = CENTS[inside[:, 0]] + STEP * 0.5 * (before - after) / np.where(found, bend, 1)
    return np.where(found, f0 * 2 ** (moved / 1200), f0).astype(np.float32), np.clip(most, 0, 1).astype(np.float32)


def _alike(sound: Array) -> Array:
    """[F, candidates]: correlation of ``sound`` [F, points] half a candidate's period earlier and as much later.

    Points are the same parts of every frame's period, so a candidate lies between the same of them in all frames, and
    its sums are weighted sums of the products of the sound at whole points.
    """
    length = sound.shape[1] - 2 * FARTHEST
    window = hann(length, length)[::2]
    shifted = np.lib.stride_tricks.sliding_window_view(sound, length, axis=1)[:, :, ::2]
    heard = shifted[:, AROUND + FARTHEST] * np.sqrt(window / window.sum())
    products = (heard @ heard.transpose(0, 2, 1)).reshape(len(sound), 1, -1)
    both, before, after = np.split((products @ SUMS)[:, 0], 3, axis=1)
    correlation: Array = both / np.sqrt(np.maximum(before * after, 0) + SILENCE)
    return correlation


def _between(padded: Array, places: Numbers) -> Array:
    """The sound at fractions of samples; silence before its begin and after its end."""
    places = np.clip(places + 2, 1, len(padded) - 3)
    at = places.astype(np.intp)
    part = (places - at).astype(np.float32)
    at -= 1
    # All are inside; "wrap" is the fastest way not to ask.
    sound: Array = cubic((padded[offset : len(padded) - 3 + offset].take(at, mode="wrap") for offset in range(4)), part)
    return sound
