"""A reader of many tongues whom only the content network hears: eSpeak NG, with formants for a voice.

It reads English letters by the rules of other languages. That makes no words, but sounds that English lacks, and a
network that is to hear units needs no more.
"""

from __future__ import annotations

import ctypes
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soxr
from clips import Clip
from packages import python_package
from readers import RATE
from speech import MAX_S, sentences

ESPEAK = "espeakng-loader==0.2.4"
LANGUAGES = (
    *("en-us", "en-gb", "es", "it", "fr-fr", "de", "pt", "pl", "cs", "fi"),
    *("hu", "tr", "nl", "sv", "id", "sw", "ro", "hr", "ca", "lv"),
)
VARIANTS = (*(f"m{number}" for number in range(1, 9)), *(f"f{number}" for number in range(1, 6)))
WORDS_A_MINUTE, PITCH = (120, 200), (20, 80)  # as eSpeak counts them
SECONDS, MIN_S = 40 * 60, 2.5
SYNCHRONOUS, PLAIN, RATE_PARAMETER, PITCH_PARAMETER = 2, 1, 1, 3  # of espeak-ng/speak_lib.h
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def clips(work: Path) -> Iterator[Clip]:
    """Yield the spoken clips, each a sentence in a language and a voice of its own."""
    read, rng = reader(work), random.Random("espeak")
    texts, total = sentences(work), 0.0
    rng.shuffle(texts)
    for text in texts:
        voice = f"{rng.choice(LANGUAGES)}+{rng.choice(VARIANTS)}"
        audio = read(text, voice, rng.randrange(*WORDS_A_MINUTE), rng.randrange(*PITCH))
        if MIN_S * RATE <= len(audio) <= MAX_S * RATE:
            yield Clip(audio, RATE)
            total += len(audio) / RATE
        if total >= SECONDS:
            return


def reader(work: Path) -> Callable[[str, str, int, int], np.ndarray]:
    """What reads a text in a voice, so fast and so high, as samples (n,) at RATE."""
    sys.path.insert(0, str(python_package(work, ESPEAK)))
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    heard: list[np.ndarray] = []

    def take(samples: object, count: int, events: object) -> int:
        if samples and count:
            heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = CALLBACK(take)

    def read(text: str, voice: str, words: int, pitch: int) -> np.ndarray:
        heard.clear()
        library.espeak_SetSynthCallback(callback)  # here, so that it lives as long as it may be called
        library.espeak_SetVoiceByName(voice.encode())
        library.espeak_SetParameter(RATE_PARAMETER, words, 0)
        library.espeak_SetParameter(PITCH_PARAMETER, pitch, 0)
        given = text.encode() + b"\0"
        library.espeak_Synth(given, len(given), 0, 0, 0, PLAIN, None, None)
        samples = np.concatenate([*heard, np.zeros(0, np.int16)]).astype(np.float32) / 32768
        return np.asarray(soxr.resample(samples, rate, RATE))

    return read
