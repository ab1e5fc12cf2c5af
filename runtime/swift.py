"""SwiftF0 around its graph (Nieradzik, arXiv:2508.18440): scores and audio to bins, and bins to pitch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.mel import hann

Array = NDArray[np.float32]
Bins = NDArray[np.int64]

RATE = 16_000  # Hz
HOP = 256  # samples, 16 ms
BINS = 95
FMIN, FMAX = 46.875, 2093.75  # Hz, of the first and the last bin; equal steps of 70 cents lie between them
HERTZ = np.geomspace(FMIN, FMAX, BINS)
OCTAVES = np.log2(HERTZ)
JUMP = 8.0  # of the score: what a step of an octave costs
UNSURE = 0.05  # confidence below which a frame weighs no less

WINDOW = 1024  # samples of the spectrum
FFT = 2048
FINE = 4  # heights of a bin at which its harmonics are looked for
ODD = (1, 3, 5, 7)  # harmonics
HIGHEST = 4_000.0  # Hz, of the odd harmonics that count
DEEPEST, TALLEST = -25.0, 10.0  # dB of one harmonic
SPARED = 5.0  # dB by which odd harmonics may be weaker than their neighbours
LINES = int(HIGHEST * 4 / 3 * FFT / RATE) + 4  # of a spectrum, up to the harmonic above the highest
BATCH = 128  # frames whose spectra are held at once


def peaks(scores: Array) -> Bins:
    """The best bin of each frame: [F, 95] -> [F]."""
    return scores.argmax(1)


def viterbi(scores: NDArray[np.floating], confidence: Array) -> Bins:
    """Bins [F] of the best path through scores [F, 95].

    A step costs JUMP for each octave, as Praat's tracker has it (Boersma 1993). Scores and steps weigh as much as the
    frames are voiced, so that a path is free to move where nothing is sung.
    """
    weights = np.maximum(confidence, UNSURE)
    costs = JUMP * np.abs(np.subtract.outer(OCTAVES, OCTAVES))
    value = weights[0] * scores[0]
    came = np.zeros(scores.shape, np.int64)
    every = np.arange(BINS)
    for time in range(1, len(scores)):
        reached = value - weights[time] * weights[time - 1] * costs
        came[time] = reached.argmax(1)
        value = reached[every, came[time]] + weights[time] * scores[time]
    path = np.empty(len(scores), np.int64)
    path[-1] = value.argmax()
    for time in range(len(scores) - 1, 0, -1):
        path[time - 1] = came[time, path[time]]
    return path


def too_low(audio: Array, frames: int) -> Array:
    """How clearly each bin [frames, 95] lies below the pitch: dB by which its odd harmonics are missing.

    Of a tone at f the harmonics of f / 2 are there at even numbers only: each odd one lies in a valley. Noise and the
    echo of another note deceive a tracker about the octave sooner than they fill the valleys. 0 where none is missing.
    """
    padded = np.pad(audio, (WINDOW // 2, max(0, frames * HOP - len(audio)) + WINDOW))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    found = [_missing(windows[start : min(start + BATCH, frames)]) for start in range(0, frames, BATCH)]
    return np.concatenate(found)


def frequencies(scores: Array, bins: Bins) -> Array:
    """f0 [F] in Hz: the mean of the three bins around ``bins`` [F] in octaves, weighted by softmax of their scores."""
    around = bins[:, None] + np.arange(-1, 2)
    real = (around >= 0) & (around < BINS)
    around = np.clip(around, 0, BINS - 1)
    near = np.where(real, np.take_along_axis(scores, around, 1).astype(np.float64), -np.inf)
    weights = np.exp(near - near.max(1, keepdims=True))
    return (2 ** ((weights * OCTAVES[around]).sum(1) / weights.sum(1))).astype(np.float32)


def _missing(windows: Array) -> Array:
    """``too_low`` of windows [n, WINDOW]."""
    # Only with a float32 factor, which this norm brings, does numpy transform float32 as such.
    spectra = np.fft.rfft(windows * hann(WINDOW, WINDOW), FFT, norm="forward")[:, :LINES]
    levels = 20 * np.log10(np.abs(spectra) * np.float32(FFT) + np.float32(1e-6))
    sides = np.pad(levels, ((0, 0), (1, 1)), mode="edge")
    levels = np.maximum(levels, np.maximum(sides[:, :-2], sides[:, 2:]))  # a harmonic falls between two lines
    within_bin = (np.arange(FINE) + 0.5) / FINE - 0.5
    heights = (HERTZ[:, None] * (FMAX / FMIN) ** (within_bin / (BINS - 1))).ravel()

    def at(number: int) -> Array:
        return levels[:, np.rint(number * heights[:low] * FFT / RATE).astype(int)]

    total, count = np.zeros((len(windows), len(heights)), np.float32), np.zeros(len(heights), np.float32)
    for odd in ODD:
        low = int(np.searchsorted(odd * heights, HIGHEST))  # of the heights, those whose harmonic counts
        beside = at(2) if odd == 1 else (at(odd - 1) + at(odd + 1)) / 2
        total[:, :low] += np.clip(at(odd) - beside, DEEPEST, TALLEST)
        count[:low] += 1
    evidence = (total / count).reshape(-1, BINS, FINE).max(2)
    return np.minimum(0, evidence + SPARED)
