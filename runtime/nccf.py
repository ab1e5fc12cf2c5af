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
STEP = 25.0  # cents between candidates; a parabola finds what lies between
CENTS = np.arange(-100.0, 100.0 + STEP, STEP)
TRUST = 0.1  # what a semitone's distance from the tracker costs, in correlation, and twice that four times as much
LEAST = 0.5  # correlation below which there is no period
POINTS = 32  # samples of a period
BATCH = 256  # frames held at once
SILENCE = 1e-9  # power


def fitted(audio: Array, times: NDArray[np.floating], f0: Array, periods: int) -> tuple[Array, Array]:
    """Move ``f0`` [F] in Hz at ``times`` [F] in s of ``audio`` [n] at 16 kHz by less than a semitone.

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
    length = periods * POINTS
    period = RATE / f0.astype(np.float64)[:, None]
    places = times[:, None] * RATE + (np.arange(length) - (length - 1) / 2) / POINTS * period
    alike = np.stack([_correlation(padded, places, period * 2 ** (-cents / 1200)) for cents in CENTS], 1)
    cost = TRUST * (CENTS / 100) ** 2
    best = (alike - cost).argmax(1)
    inside = np.clip(best, 1, len(CENTS) - 2)
    before, peak, after = (np.take_along_axis(alike - cost, inside[:, None] + side, 1)[:, 0] for side in (-1, 0, 1))
    bend, most = before - 2 * peak + after, peak + cost[inside]
    found = (inside == best) & (bend < 0) & (most >= LEAST)
    moved = CENTS[inside] + STEP * 0.5 * (before - after) / np.where(found, bend, 1)
    return np.where(found, f0 * 2 ** (moved / 1200), f0).astype(np.float32), np.clip(most, 0, 1).astype(np.float32)


def _correlation(padded: Array, places: Numbers, lag: Numbers) -> Array:
    """[F] of the sound half a ``lag`` [F, 1] before ``places`` [F, N] with that half a lag after, all in samples."""
    window = hann(places.shape[1], places.shape[1])
    before, after = (_between(padded, places + shift) for shift in (-lag / 2, lag / 2))
    power = (before * before * window).sum(1) * (after * after * window).sum(1)
    correlation: Array = (before * after * window).sum(1) / np.sqrt(power + SILENCE)
    return correlation


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
