"""Pseudo-singing of recordings: drawn out and re-pitched.

For the content network those who only read sing, with formants moved by a ratio that each clip has of its own, as if
another person sang. What is said, the teacher hears in the result, so it need not sound well, but as singing does to a
network: vowels last, and f0 is where a melody wants it. For the denoiser "f001" sings higher than her synthesiser can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from clips import Clip
from sung import FRAME_S, VOICED_HZ, sung

from moksori.runtime import audio, devices, pitch
from moksori.runtime.backends import cpu

FMIN, FMAX = 60.0, 700.0  # Hz, of the recordings


@dataclass(frozen=True)
class Manner:
    """How recordings are sung; pairs are the least and the most."""

    seconds: float
    rate: int
    formants: tuple[float, float]  # ratios
    stretch: tuple[float, float]  # times as long
    reach: tuple[float, float]  # times the median f0 of a recording


READ = Manner(seconds=15 * 60, rate=24000, formants=(0.8, 1.25), stretch=(1.2, 3.0), reach=(0.85, 3.0))
# Pitch marks fall on samples, and at 24 kHz a period of 900 Hz has 27 of them.
HIGHER = Manner(seconds=6 * 60, rate=48000, formants=(1.0, 1.0), stretch=(1.0, 1.2), reach=(1.1, 2.3))


def clips(folder: Path, graph: Path, manner: Manner = READ) -> Iterator[Clip]:
    """Yield the recordings of a folder as sung; ``graph`` is the pitch tracker's."""
    session = devices.open_session(graph, cpu(), threads=1, name=str(graph), spin=False)
    tracker = pitch.Tracker(session, "swift_scores", FMIN, FMAX)
    total, rate = 0.0, manner.rate
    hop = round(rate * FRAME_S)
    rng = np.random.default_rng(440)
    files = sorted(folder.glob("*.flac"))
    for number, index in enumerate(rng.permutation(len(files))):
        ratio = between(rng, manner.formants)
        speech = soxr.resample(audio.read(files[index], rate), rate * ratio, rate)
        speech = speech[: len(speech) // hop * hop]
        times = (np.arange(len(speech) // hop) + 0.5) * FRAME_S
        f0, voiced = tracker.at(soxr.resample(speech, rate, pitch.RATE), times)
        if not voiced.any():
            continue
        low, high = float(np.median(f0[voiced])) * np.array(manner.reach)
        within = max(VOICED_HZ, float(low)), float(high)
        stretch = between(rng, manner.stretch)
        result = sung(speech.astype(np.float64), np.where(voiced, f0, VOICED_HZ), number, rng, stretch, within, rate)
        yield Clip(result, rate)
        total += len(result) / rate
        if total >= manner.seconds:
            return


def between(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    """A random ratio between two, as likely to enlarge as to lessen."""
    return float(np.exp(rng.uniform(*np.log(ends))))
