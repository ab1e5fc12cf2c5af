"""Gaussian noise as a function of seed and absolute frame: overlapping chunks agree and a run can be repeated."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BLOCK = 64  # frames drawn at once; part of the definition, so never change it

STREAMS = {"denoiser": 1, "vocoder": 2}


def frames(stream: str, seed: int, start: int, count: int, width: int) -> NDArray[np.float32]:
    """Standard normal values of frames ``start`` to ``start + count``; frames before 0 exist too. [count, width]."""
    first, last = start // BLOCK, (start + count - 1) // BLOCK
    drawn = [_block(stream, seed, index, width) for index in range(first, last + 1)]
    return np.concatenate(drawn)[start - first * BLOCK :][:count] if drawn else np.zeros((0, width), np.float32)


@lru_cache(maxsize=16)
def _block(stream: str, seed: int, index: int, width: int) -> NDArray[np.float32]:
    key = np.array([seed, STREAMS[stream]], np.uint64)
    counter = np.array([0, 0, 0, index % 2**64], np.uint64)  # the highest word, so that blocks never meet
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    return generator.standard_normal((BLOCK, width), dtype=np.float32)
