"""Pseudo-singing of those who only read, for the content network: their recordings drawn out and re-pitched.

Each clip has formants moved by a ratio of its own, as if another person sang. What is said in it, the teacher hears in
the result, so it need not sound well, but as singing does to a network: vowels last, and f0 is where a melody wants it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr
from clips import Clip
from speech import RATE
from sung import FRAME_S, HOP, VOICED_HZ, sung

from moksori.runtime import audio, devices, pitch
from moksori.runtime.backends import cpu

SECONDS = 15 * 60
SMALLER, LARGER = 1.25, 0.8  # ratios of formants
SLOWEST, FASTEST = 3.0, 1.2  # times as long as read
BELOW, ABOVE = 0.85, 3.0  # times the median f0 of a reader
FMIN, FMAX = 60.0, 600.0  # Hz, of reading


def clips(folder: Path, graph: Path) -> Iterator[Clip]:
    """Yield the recordings of a folder as sung; ``graph`` is the pitch tracker's."""
    session = devices.open_session(graph, cpu(), threads=1, name=str(graph), spin=False)
    tracker = pitch.Tracker(session, "swift_scores", FMIN, FMAX)
    total = 0.0
    rng = np.random.default_rng(440)
    files = sorted(folder.glob("*.flac"))
    for number, index in enumerate(rng.permutation(len(files))):
        ratio = float(np.exp(rng.uniform(np.log(LARGER), np.log(SMALLER))))
        speech = soxr.resample(audio.read(files[index], RATE), RATE * ratio, RATE)
        speech = speech[: len(speech) // HOP * HOP]
        times = (np.arange(len(speech) // HOP) + 0.5) * FRAME_S
        f0, voiced = tracker.at(soxr.resample(speech, RATE, pitch.RATE), times)
        if not voiced.any():
            continue
        median = float(np.median(f0[voiced]))
        within = max(VOICED_HZ, BELOW * median), ABOVE * median
        stretch = float(np.exp(rng.uniform(np.log(FASTEST), np.log(SLOWEST))))
        result = sung(speech.astype(np.float64), np.where(voiced, f0, VOICED_HZ), number, rng, stretch, within)
        yield Clip(result, RATE)
        total += len(result) / RATE
        if total >= SECONDS:
            return
