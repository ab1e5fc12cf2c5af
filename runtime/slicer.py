"""Cuts a stream of audio at quiet points into slices of bounded length; joined again they are the stream exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.errors import OptionError

Array = NDArray[np.float32]

FRAME_SECONDS = 0.01
PAUSE_FRAMES = 5  # a pause lasts at least 50 ms
PAUSE_MARGIN_DB = 6.0  # how far above the quietest stretch still counts as the same pause
LEGATO_SHARE = 0.25  # but no more than this part of its depth: in legato the quietest place counts, not the longest
FLOOR_DB = -60.0  # below this everything is equally silent


@dataclass(frozen=True)
class Slice:
    """``audio`` [n] float32 that begins at sample ``start`` of the stream."""

    start: int
    audio: Array


def slices(
    blocks: Iterable[Array], rate: int, minimum: float = 5.0, maximum: float = 15.0
) -> Iterator[Slice]:
    """Cut a stream where it is quietest, between ``minimum`` and ``maximum`` seconds after the last cut.

    Longer pauses win over shorter ones; without a pause (legato) the quietest 50 ms are cut. No slice is longer than
    ``maximum``. Only the last can be shorter than ``minimum``, and only if the whole stream is, or if ``maximum`` is
    less than twice ``minimum``. The cuts depend on the samples alone, not on the size of the blocks. Holds at most
    ``minimum`` + ``maximum`` seconds and one block.

    Raises:
        OptionError: not 0 < minimum <= maximum, or a maximum below 0.1 s.
    """
    if not 0 < minimum <= maximum or maximum < 0.1:
        raise OptionError(f"slices of {minimum} to {maximum} s are not possible: give 0 < minimum <= maximum")
    shortest, longest = max(1, round(minimum * rate)), round(maximum * rate)
    start = held = 0
    parts: list[Array] = []
    for block in blocks:
        parts.append(block)
        held += len(block)
        if held < shortest + longest:
            continue
        audio = np.concatenate(parts)
        while len(audio) >= shortest + longest:
            cut = _cut(audio, rate, shortest, longest)
            yield Slice(start, audio[:cut].copy())
            start, audio = start + cut, audio[cut:]
        parts, held = [audio.copy()], len(audio)
    rest = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    while len(rest) > longest:
        cut = _cut(rest, rate, shortest, max(shortest, min(longest, len(rest) - shortest)))
        yield Slice(start, rest[:cut].copy())
        start, rest = start + cut, rest[cut:]
    if len(rest):
        yield Slice(start, rest.copy())


def levels(audio: Array, rate: int) -> NDArray[np.float64]:
    """RMS of each whole 10 ms frame in dB of full scale, not below ``FLOOR_DB``: [n // (rate / 100)]."""
    hop = level_hop(rate)
    count = len(audio) // hop
    power = np.square(audio[: count * hop].reshape(count, hop), dtype=np.float64).mean(axis=1)
    return 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))


def _cut(audio: Array, rate: int, first: int, last: int) -> int:
    """The sample in [first, last] to cut at: the middle of the longest run of quiet 50 ms stretches."""
    level = levels(audio[first:last], rate)
    if len(level) < PAUSE_FRAMES:
        return last
    smooth = np.convolve(level, np.full(PAUSE_FRAMES, 1 / PAUSE_FRAMES), mode="valid")
    depth = float(np.median(smooth) - smooth.min())
    quiet = smooth <= smooth.min() + min(PAUSE_MARGIN_DB, LEGATO_SHARE * depth)
    edges = np.diff(quiet.astype(np.int8), prepend=0, append=0)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    longest = int(np.argmax(ends - begins))
    middle = (begins[longest] + ends[longest] - 1 + PAUSE_FRAMES) / 2
    return first + round(float(middle) * level_hop(rate))


def level_hop(rate: int) -> int:
    """Samples in one frame of ``levels``."""
    return max(1, round(rate * FRAME_SECONDS))
