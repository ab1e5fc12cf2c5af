"""Clips of readers whom only the content network hears, so that it knows more speakers than have recordings."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from clips import Clip
from speech import MAX_S, MIN_S, gathered, sentences

RATE = 16000


def clips(work: Path, name: str, read: Callable[[str], np.ndarray], seconds: float) -> Iterator[Clip]:
    """Yield clips of the sentences of "heart", in an order that hangs on ``name``; ``read`` gives a text's samples."""
    texts = sentences(work)
    random.Random(name).shuffle(texts)
    return clips_of(map(read, texts), name, seconds)


def clips_of(sentences: Iterable[np.ndarray], name: str, seconds: float) -> Iterator[Clip]:
    """Yield clips of sentences read, until they last so many seconds together."""
    total = 0.0
    for audio in gathered(sentences, random.Random(name), RATE):
        if MIN_S * RATE <= len(audio) <= MAX_S * RATE:
            yield Clip(audio, RATE)
            total += len(audio) / RATE
        if total >= seconds:
            return
