"""What a data set is like: mel statistics over all of it, f0 range and loudness of each speaker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import audio, mel
from moksori.train.features import Place

Array = NDArray[np.float32]

BIN_PERCENTILES = (0.1, 99.9)  # spec_min, spec_max
F0_PERCENTILES = (5, 50, 95)
SAMPLED_FRAMES = 100_000  # mel frames that the percentiles are taken from
LEAST_DEVIATION = 1e-3  # of a mel bin; what never changes must not be divided by nothing


@dataclass(frozen=True)
class Tally:
    """One slice: mel sums [M] over its frames, some of them [k, M], f0 [v] in Hz and level [v] in dB where voiced."""

    speaker: str
    frames: int
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    sample: Array
    f0: Array
    loudness: Array


def tally(place: Place, spec: mel.MelSpec, stride: int) -> Tally:
    """Measure a slice from its files; every ``stride``-th mel frame is the sample."""
    samples = audio.read(place.flac, spec.sample_rate)
    frames = mel.log_mel(samples, spec)
    with np.load(place.npz) as features:
        f0, voiced = features["f0"], features["voiced"]
    active = voiced if voiced.any() else np.ones_like(voiced)
    return Tally(
        place.speaker,
        len(frames),
        frames.sum(0, dtype=np.float64),
        np.square(frames, dtype=np.float64).sum(0),
        frames[stride // 2 :: stride],
        f0[active],
        mel.loudness(samples, spec)[active],
    )


def stride(frames: int) -> int:
    """Which of so many frames to sample: every n-th."""
    return max(1, frames // SAMPLED_FRAMES)


def summary(tallies: Iterable[Tally], rate: float) -> dict[str, Any]:
    """``speakers`` and ``statistics`` of data.json, of slices in any order; ``rate`` is in frames per second."""
    found = list(tallies)
    frames = sum(t.frames for t in found)
    mean = sum(t.total for t in found) / frames
    deviation = np.sqrt(np.maximum(sum(t.squares for t in found) / frames - mean**2, 0))
    low, high = np.percentile(np.concatenate([t.sample for t in found]), BIN_PERCENTILES, axis=0)
    bins = {
        "mean": mean,
        "deviation": np.maximum(deviation, LEAST_DEVIATION),
        "spec_min": low,
        "spec_max": np.maximum(high, low + LEAST_DEVIATION),
    }
    names = sorted({t.speaker for t in found})
    return {
        "speakers": [_speaker(name, [t for t in found if t.speaker == name], rate) for name in names],
        "statistics": {name: [round(float(x), 6) for x in values] for name, values in bins.items()},
    }


def _speaker(name: str, tallies: list[Tally], rate: float) -> dict[str, Any]:
    low, median, high = np.percentile(np.concatenate([t.f0 for t in tallies]), F0_PERCENTILES)
    return {
        "name": name,
        "seconds": round(sum(t.frames for t in tallies) / rate, 2),
        "f0_low": round(float(low), 2),
        "f0_median": round(float(median), 2),
        "f0_high": round(float(high), 2),
        "loudness": round(float(np.median(np.concatenate([t.loudness for t in tallies]))), 2),
    }
