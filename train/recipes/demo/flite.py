"""Flite's voices, four readers of English whom only the content network hears."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import readers
import soundfile
from clips import Clip
from packages import DebianPackage, command, debian_root

FLITE = DebianPackage("flite", "usr/bin/flite")
LIBRARIES = (
    DebianPackage("libflite1", "usr/lib/*/libflite.so.1"),
    DebianPackage("libasound2", "usr/lib/*/libasound.so.2"),
)
VOICES = ("awb", "kal16", "rms", "slt")  # the 16 kHz ones: a Scot, two men and a woman of the United States
SECONDS = 12 * 60


def clips(work: Path, voice: str) -> Iterator[Clip]:
    """Yield a voice's clips."""
    return readers.clips(work, voice, reader(work, voice), SECONDS)


def reader(work: Path, voice: str) -> Callable[[str], np.ndarray]:
    """What reads a text aloud, as samples (n,) at readers.RATE."""
    program = debian_root(work, FLITE)[0] / FLITE.proof
    folders = [next(debian_root(work, package)[0].glob(package.proof)).parent for package in LIBRARIES]
    libraries = os.pathsep.join(map(str, folders))

    def read(text: str) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "read.wav")
            command([str(program), "-voice", voice, "-t", text, "-o", str(target)], libraries=libraries)
            return np.asarray(soundfile.read(target, dtype="float32")[0])

    return read
