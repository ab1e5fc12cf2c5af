"""Two people whom only the content network hears: a Russian who reads, an Italian who speaks telephone prompts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from clips import Clip, is_silent, joined
from packages import DebianPackage, debian_root
from prompts import GAP_S, NOT_SPEECH, RATE, grouped, split

NSH = DebianPackage("festvox-ru", "usr/share/festival/voices/russian/msu_ru_nsh_clunits/wav/ru_0001.wav")
MENARDI = DebianPackage("asterisk-prompt-it-menardi-wav", "usr/share/asterisk/sounds/it_IT_f_Menardi/vm-goodbye.wav")
SECONDS = 30 * 60


def clips(work: Path, package: DebianPackage) -> Iterator[Clip]:
    """Yield clips of a package's recordings."""
    root, _ = debian_root(work, package)
    files = sorted((root / package.proof).parent.rglob("*.wav"))
    pieces = [piece for file in files if file.stem not in NOT_SPEECH for piece in split(read(file))]
    pieces = [piece for piece in pieces if not is_silent(piece)]
    random.Random(package.name).shuffle(pieces)
    total = 0.0
    for group in grouped(pieces):
        audio = joined(group, RATE, GAP_S)
        yield Clip(audio, RATE)
        total += len(audio) / RATE
        if total >= SECONDS:
            return


def read(file: Path) -> np.ndarray:
    """A recording as samples (n,) at RATE."""
    samples, rate = soundfile.read(file, dtype="float32")
    return np.asarray(soxr.resample(samples, rate, RATE))
