"""SVOX Pico's voices, six readers whom only the content network hears.

Each reads English letters by the rules of its own language. That makes no words of the others, but sounds of theirs.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import readers
from clips import Clip
from packages import python_package

PICO = "ttspico==0.3.2"
VOICES = ("de-DE", "en-GB", "en-US", "es-ES", "fr-FR", "it-IT")
SECONDS = 10 * 60
SPEED, PITCH = (75, 120), (80, 130)  # %


def clips(work: Path, voice: str) -> Iterator[Clip]:
    """Yield a voice's clips."""
    return readers.clips(work, voice, reader(work, voice), SECONDS)


def reader(work: Path, voice: str) -> Callable[[str], np.ndarray]:
    """What reads a text aloud, each in a speed and a pitch of its own, as samples (n,) at readers.RATE."""
    folder = python_package(work, PICO)  # built from source: it needs a C compiler
    sys.path.insert(0, str(folder))
    from ttspico import TtsEngine

    engine, rng = TtsEngine(voice, str(folder / "languages")), random.Random(voice)

    def read(text: str) -> np.ndarray:
        engine.rate, engine.pitch = rng.randrange(*SPEED), rng.randrange(*PITCH)
        return np.frombuffer(engine.speak(text), np.int16).astype(np.float32) / 32768

    return read
