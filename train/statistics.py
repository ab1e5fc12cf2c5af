"""What a data set is like: mel statistics over all of it; range, level and faults of each speaker."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import audio, mel, slicer
from moksori.train.features import Place
from moksori.train.histogram import Histogram

Array = NDArray[np.float32]

BIN_PERCENTILES = (0.1, 99.9)  # spec_min, spec_max
F0_PERCENTILES = (5, 50, 95)
QUIET_PERCENTILE = 5
SAMPLED_FRAMES = 100_000  # mel frames that the percentiles are taken from
LEAST_DEVIATION = 1e-3  # of a mel bin; what never changes must not be divided by nothing
FULL_SCALE = 32_766 / 32_768  # 16-bit samples at the end of their range
CLIPPED_RUN = 2  # of such samples; a single one is a peak that just fits
HIGHEST_HZ = 2200.0
STRANGE_SEMITONES = 9.0  # a song may be this far from a singer's others


@dataclass(frozen=True)
class Tally:
    """One slice: mel sums [M] over its frames, some of them [k, M], f0 [v] in Hz and level [v] in dB where voiced.

    ``levels`` are of all 10 ms in dB; ``clipped`` is in seconds; ``sizes`` are bytes on disk by product.
    """

    place: Place
    frames: int
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    sample: Array
    f0: Array
    loudness: Array
    levels: Array
    clipped: float
    sizes: dict[str, int]
    spent: float = 0.0  # seconds of a core


def tally(place: Place, spec: mel.MelSpec, stride: int) -> Tally:
    """Measure a slice from its files; every ``stride``-th mel frame is the sample."""
    began = time.process_time()
    samples = audio.read(place.flac, spec.sample_rate)
    frames = mel.log_mel(samples, spec)
    with np.load(place.npz) as features:
        f0, voiced = features["f0"], features["voiced"]
    return Tally(
        place,
        len(frames),
        frames.sum(0, dtype=np.float64),
        np.square(frames, dtype=np.float64).sum(0),
        frames[stride // 2 :: stride],
        f0[voiced],
        mel.loudness(samples, spec)[voiced if voiced.any() else slice(None)],
        slicer.levels(samples, spec.sample_rate).astype(np.float32),
        clipped_seconds(samples, spec.sample_rate),
        place.sizes(),
        time.process_time() - began,
    )


def clipped_seconds(samples: Array, rate: int) -> float:
    """How many 10 ms of ``samples`` [n] hold a run of samples at full scale."""
    full = np.abs(samples) >= FULL_SCALE
    runs = full.copy()
    for lag in range(1, CLIPPED_RUN):
        runs[lag:] &= full[:-lag]
        runs[:lag] = False
    hop = slicer.level_hop(rate)
    return len(np.unique(np.flatnonzero(runs) // hop)) * slicer.FRAME_SECONDS


def stride(frames: int) -> int:
    """Which of so many frames to sample: every n-th."""
    return max(1, frames // SAMPLED_FRAMES)


@dataclass
class Speaker:
    """Sums over the slices of one speaker so far."""

    name: str
    f0: Histogram
    loudness: Histogram
    levels: Histogram
    medians: dict[str, list[float]]  # source id -> median f0 of each of its slices, Hz
    slices: int = 0
    frames: int = 0
    clipped: float = 0.0

    def add(self, one: Tally) -> None:
        self.f0.add(one.f0)
        self.loudness.add(one.loudness)
        self.levels.add(one.levels)
        self.slices += 1
        self.frames += one.frames
        self.clipped += one.clipped
        if len(one.f0):
            self.medians.setdefault(one.place.id.rpartition("-")[0], []).append(float(np.median(one.f0)))

    def strangers(self) -> dict[str, float]:
        """Sources whose median f0 is far from the speaker's, and how far in semitones."""
        middles = {source: float(np.median(found)) for source, found in self.medians.items()}
        if not middles:
            return {}
        usual = float(np.median(list(middles.values())))
        apart = {source: 12 * float(np.log2(hertz / usual)) for source, hertz in middles.items()}
        return {source: semitones for source, semitones in apart.items() if abs(semitones) > STRANGE_SEMITONES}

    def facts(self, rate: float) -> dict[str, Any]:
        """What data.json says of a speaker; a voice that is nowhere voiced counts as 220 Hz, like its f0."""
        f0 = self.f0.percentiles(F0_PERCENTILES)[:, 0] if self.f0.total else np.full(3, 220.0)
        quiet, loud = self.levels.percentiles([QUIET_PERCENTILE, 100 - QUIET_PERCENTILE])[:, 0]
        return {
            "name": self.name,
            "seconds": round(self.frames / rate, 2),
            **{f"f0_{name}": round(float(hertz), 2) for name, hertz in zip(("low", "median", "high"), f0, strict=True)},
            "loudness": round(float(self.loudness.percentiles([50])[0, 0]), 2),
            "slices": self.slices,
            "voiced": round(self.f0.total / max(1, self.frames), 4),
            "clipped_seconds": round(self.clipped, 2),
            "contrast": round(float(loud - quiet), 2),
        }


class Summary:
    """Statistics of any number of slices, in memory that grows with the number of speakers and files only."""

    def __init__(self, bins: int) -> None:
        self.speakers: dict[str, Speaker] = {}
        self.sizes: Counter[str] = Counter()
        self._mel = Histogram(-16, 16, 0.001, bins)
        self._total, self._squares = np.zeros(bins), np.zeros(bins)
        self._frames = 0

    def add(self, one: Tally) -> None:
        name = one.place.speaker
        if name not in self.speakers:
            hertz, decibels, level = Histogram(0, HIGHEST_HZ, 0.01), Histogram(-130, 20, 0.01), Histogram(-70, 10, 0.01)
            self.speakers[name] = Speaker(name, hertz, decibels, level, {})
        self.speakers[name].add(one)
        self.sizes.update(one.sizes)
        self._mel.add(one.sample)
        self._total += one.total
        self._squares += one.squares
        self._frames += one.frames

    def facts(self, rate: float) -> dict[str, Any]:
        """``speakers``, ``statistics`` and ``bytes`` of data.json; ``rate`` is mel frames in a second."""
        mean = self._total / self._frames
        deviation = np.sqrt(np.maximum(self._squares / self._frames - mean**2, 0))
        low, high = self._mel.percentiles(BIN_PERCENTILES)
        bins = {
            "mean": mean,
            "deviation": np.maximum(deviation, LEAST_DEVIATION),
            "spec_min": low,
            "spec_max": np.maximum(high, low + LEAST_DEVIATION),
        }
        return {
            "speakers": [self.speakers[name].facts(rate) for name in sorted(self.speakers)],
            "statistics": {name: [round(float(x), 6) for x in values] for name, values in bins.items()},
            "bytes": {name: size for name, size in sorted(self.sizes.items()) if size},
        }
