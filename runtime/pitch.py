"""Pitch: a tracker graph gives f0 and confidence on its own grid; ``at_times`` carries them to the mel frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

RATE = 16_000  # Hz, what every tracker hears
SILENCE_PEAK = 1e-3  # full scale; below it a tracker sees only its own floor and answers at random

CREPE_FRAME = 1024  # samples
CREPE_HOP = 160  # samples, 10 ms
CREPE_BATCH = 512  # frames in one run; bounds the memory of the widest activation
CREPE_BINS = 360
CENTS_PER_BIN = 20
CREPE_CENTS_OFFSET = 1997.3794084376191  # bin 0 in cents above 10 Hz (Kim et al. 2018)


class Session(Protocol):
    """What this package needs of a loaded graph (devices.Session, onnxruntime.InferenceSession)."""

    def run(self, outputs: None, inputs: Mapping[str, NDArray[Any]], /) -> list[Array]: ...


@dataclass(frozen=True)
class Track:
    """f0 as the tracker gave it: times [F] in seconds, f0 [F] in Hz, confidence [F] in 0…1."""

    times: NDArray[np.floating]
    f0: Array
    confidence: Array


class Tracker:
    """Runs a pitch graph of one of the known kinds ("swift" or "crepe") over 16 kHz audio."""

    def __init__(self, session: Session, kind: str, fmin: float, fmax: float) -> None:
        self.session, self.fmin, self.fmax = session, fmin, fmax
        self._track = {"swift": self._swift, "crepe": self._crepe}[kind]

    def track(self, audio: Array) -> Track:
        """Track ``audio`` [n] at 16 kHz; any length from one sample on."""
        track = self._track(np.pad(audio, (0, max(0, CREPE_FRAME - len(audio)))))
        inside = (track.f0 >= self.fmin) & (track.f0 <= self.fmax)
        return Track(track.times, track.f0, np.where(inside, track.confidence, 0).astype(np.float32))

    def _swift(self, audio: Array) -> Track:
        """SwiftF0 (Nieradzik 2025): one frame every 256 samples, centred on its first sample."""
        hop = 256
        f0, confidence = (output[0] for output in self.session.run(None, {"audio": audio[None]}))
        peaks = np.abs(np.pad(audio, (0, max(0, len(f0) * hop - len(audio))))[: len(f0) * hop]).reshape(-1, hop).max(1)
        confidence = np.where(peaks < SILENCE_PEAK, 0, confidence)
        return Track(np.arange(len(f0)) * (hop / RATE), f0, confidence.astype(np.float32))

    def _crepe(self, audio: Array) -> Track:
        """CREPE: 1024-sample frames centred every 10 ms; f0 is the salience-weighted mean around the peak."""
        padded = np.pad(audio, CREPE_FRAME // 2)
        frames = np.lib.stride_tricks.sliding_window_view(padded, CREPE_FRAME)[::CREPE_HOP]
        runs = range(0, len(frames), CREPE_BATCH)
        batches = (np.ascontiguousarray(frames[i : i + CREPE_BATCH]) for i in runs)
        salience = np.concatenate([self.session.run(None, {"frames": batch})[0] for batch in batches])
        confidence = np.where(np.abs(frames).max(1) < SILENCE_PEAK, 0, salience.max(1))
        times = np.arange(len(frames)) * (CREPE_HOP / RATE)
        return Track(times, weighted_argmax(salience), confidence.astype(np.float32))


def weighted_argmax(salience: Array) -> Array:
    """CREPE's decoding: mean of the nine bins around the peak, weighted by salience. [F, 360] -> f0 [F] Hz."""
    peak = salience.argmax(1)
    around = np.clip(peak[:, None] + np.arange(-4, 5), 0, CREPE_BINS - 1)
    inside = np.abs(around - peak[:, None]) == np.abs(np.arange(-4, 5))  # bins past either end count once
    weights = np.take_along_axis(salience, around, 1) * inside
    cents = (weights * (CENTS_PER_BIN * around + CREPE_CENTS_OFFSET)).sum(1) / np.maximum(weights.sum(1), 1e-9)
    return from_cents(cents)


def at_times(track: Track, times: NDArray[np.floating], threshold: float) -> tuple[Array, NDArray[np.bool_]]:
    """Carry a track to other times.

    f0 is interpolated linearly in log-frequency between voiced frames, through unvoiced stretches too, so that it is
    positive everywhere; with nothing voiced it is 0 nowhere but a constant 220 Hz.

    Returns:
        f0 [T] in Hz, voiced [T].
    """
    voiced = track.confidence >= threshold
    nearest = np.clip(np.searchsorted((track.times[1:] + track.times[:-1]) / 2, times), 0, len(track.times) - 1)
    if not voiced.any():
        return np.full(len(times), 220, np.float32), np.zeros(len(times), bool)
    log_f0 = np.interp(times, track.times[voiced], np.log(track.f0[voiced]))
    return np.exp(log_f0).astype(np.float32), voiced[nearest]


def transpose(f0: Array, semitones: float) -> Array:
    """Shift by equal-tempered semitones; fractions allowed."""
    return (f0 * np.float32(2 ** (semitones / 12))).astype(np.float32)


def from_cents(cents: NDArray[np.floating]) -> Array:
    """Cents above 10 Hz -> Hz."""
    return (10 * 2 ** (cents / 1200)).astype(np.float32)
