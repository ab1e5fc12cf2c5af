"""Readers whom only the content network hears: Flite's voices, so that it knows more speakers than have recordings."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
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
    texts = sentences(work)
    random.Random(voice).shuffle(texts)
    total = 0.0
    for audio in gathered((read(work, voice, text) for text in texts), random.Random(voice), RATE):
        if MIN_S * RATE <= len(audio) <= MAX_S * RATE:
            yield Clip(audio, RATE)
            total += len(audio) / RATE
        if total >= SECONDS:
            return


def read(work: Path, voice: str, text: str) -> np.ndarray:
    """A sentence, read aloud (samples,)."""
    program = debian_root(work, FLITE)[0] / FLITE.proof
    folders = [next(debian_root(work, package)[0].glob(package.proof)).parent for package in LIBRARIES]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "read.wav")
        line = [str(program), "-voice", voice, "-t", text, "-o", str(target)]
        command(line, libraries=os.pathsep.join(map(str, folders)))
        audio, _ = soundfile.read(target, dtype="float32")
    return np.asarray(audio)
