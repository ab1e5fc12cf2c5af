"""Readers whom only the content network hears: Flite's voices, so that it knows more speakers than have recordings."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from clips import Clip
from packages import DebianPackage, command, debian_root
from speech import MAX_S, MIN_S, gathered, sentences

FLITE = DebianPackage("flite", "usr/bin/flite")
LIBRARIES = (
    DebianPackage("libflite1", "usr/lib/*/libflite.so.1"),
    DebianPackage("libasound2", "usr/lib/*/libasound.so.2"),
)
VOICES = ("awb", "kal16", "rms", "slt")  # the 16 kHz ones: a Scot, two men and a woman of the United States
RATE = 16000
SECONDS = 12 * 60


def clips(work: Path, voice: str) -> Iterator[Clip]:
    """Yield a voice's clips, of the sentences of "heart", each voice's in an order of its own."""
    read, texts, total = reader(work, voice), sentences(work), 0.0
    random.Random(voice).shuffle(texts)
    for audio in gathered(map(read, texts), random.Random(voice), RATE):
        if MIN_S * RATE <= len(audio) <= MAX_S * RATE:
            yield Clip(audio, RATE)
            total += len(audio) / RATE
        if total >= SECONDS:
            return


def reader(work: Path, voice: str) -> Callable[[str], np.ndarray]:
    """What reads a text aloud, as samples (n,) at RATE."""
    program = debian_root(work, FLITE)[0] / FLITE.proof
    folders = [next(debian_root(work, package)[0].glob(package.proof)).parent for package in LIBRARIES]
    libraries = os.pathsep.join(map(str, folders))

    def read(text: str) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "read.wav")
            command([str(program), "-voice", voice, "-t", text, "-o", str(target)], libraries=libraries)
            return np.asarray(soundfile.read(target, dtype="float32")[0])

    return read
