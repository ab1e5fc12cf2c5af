"""Mei, a reader of Japanese whom only the content network hears: an HMM voice, through Open JTalk.

She reads made-up words. They mean nothing, but have all syllables of the language.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import readers
import soxr
from clips import Clip
from packages import python_package
from singing import MORAE

OPEN_JTALK = "pyopenjtalk-plus==0.4.1.post10"
NEEDED = "sudachipy==0.7.0"  # to be imported
SECONDS = 12 * 60
SPEED, SEMITONES = (0.8, 1.2), (-3.0, 3.0)
WORDS, LENGTH = (4, 9), (2, 4)  # of a sentence, morae of a word


def clips(work: Path) -> Iterator[Clip]:
    """Yield her clips."""
    return readers.clips_of(map(reader(work), sentences()), "mei", SECONDS)


def sentences() -> Iterator[str]:
    """Made-up words, without an end."""
    rng = random.Random("mei")
    while True:
        words = ("".join(rng.choices(MORAE, k=rng.randint(*LENGTH))) for _ in range(rng.randint(*WORDS)))
        yield "、".join(words) + "。"


def reader(work: Path) -> Callable[[str], np.ndarray]:
    """What reads a text aloud, each in a speed and a pitch of its own, as samples (n,) at readers.RATE."""
    sys.path[:0] = [str(python_package(work, package)) for package in (OPEN_JTALK, NEEDED)]
    import pyopenjtalk

    rng = random.Random("mei")

    def read(text: str) -> np.ndarray:
        samples, rate = pyopenjtalk.tts(text, speed=rng.uniform(*SPEED), half_tone=rng.uniform(*SEMITONES))
        return np.asarray(soxr.resample(samples / 32768, rate, readers.RATE), np.float32)

    return read
