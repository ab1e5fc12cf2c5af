"""Cutting a stream into chunks that are heard with their surroundings, and joining the mel of neighbours again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import slicer
from moksori.runtime.mel import MelSpec
from moksori.runtime.slicer import Slice

Array = NDArray[np.float32]

BEAT = Fraction(80, 1000)  # seconds; units (20 ms) and SwiftF0's frames (16 ms) both begin on it
COARSEST = 50  # frames in which a grid is looked for
OPENING = (1.5, 3.0)  # seconds of the first chunk, which is short so that the first sound comes soon
FADE = 20  # mel frames over which one chunk gives way to the next


@dataclass(frozen=True)
class Margins:
    """Seconds of surroundings that a chunk is heard with."""

    before: float
    after: float

    @property
    def both(self) -> float:
        return self.before + self.after


@dataclass(frozen=True)
class Chunk:
    """Audio of whole frames: a core and its margins. Frame numbers are absolute unless in ``core``."""

    audio: Array  # [frames · hop], core and margins
    first: int  # frame at which the audio begins
    begin: int  # frames of the core, from …
    end: int  # … to
    samples: int  # length of the stream so far; of all of it when ``last``
    last: bool

    @property
    def core(self) -> slice:
        return slice(self.begin - self.first, self.end - self.first)


def chunks(
    blocks: Iterable[Array], spec: MelSpec, margins: Margins, shortest: float, longest: float
) -> Iterator[Chunk]:
    """Chunks whose cores cover the stream once, cut at quiet points between ``shortest`` and ``longest`` seconds.

    Margins (less at the stream's ends) surround each core. The last frame is completed with zeros. Holds one chunk, its
    margins and what the slicer holds.
    """
    hop, step = spec.hop, grid(spec)
    before, after = _frames(margins.before, spec), _frames(margins.after, spec)
    held, origin, begin = np.zeros(0, np.float32), 0, 0  # origin: frame of held[0]
    cuts: list[int] = []
    for piece in _slices(blocks, spec.sample_rate, shortest, longest):
        held = np.concatenate([held, piece.audio])
        end = piece.start + len(piece.audio)
        cuts.append(max(round(end / (hop * step)) * step, (cuts[-1] if cuts else begin) + step))
        while len(cuts) > 1 and (cuts[0] + after) * hop <= end:
            first, stop = max(0, begin - before), cuts[0] + after
            part = held[(first - origin) * hop : (stop - origin) * hop]
            yield Chunk(part, first, begin, cuts[0], end, last=False)
            begin = cuts.pop(0)
            keep = max(0, begin - before)
            held, origin = held[(keep - origin) * hop :], keep
    total = origin * hop + len(held)
    frames = -(-total // hop)
    if frames == 0:
        return
    held = np.pad(held, (0, (frames - origin) * hop - len(held)))
    for stop in [*(cut for cut in cuts[:-1] if cut < frames), frames]:
        first, until = max(0, begin - before), min(frames, stop + after)
        part = held[(first - origin) * hop : (until - origin) * hop]
        yield Chunk(part, first, begin, stop, total, last=stop == frames)
        begin = stop


def halves(chunk: Chunk, spec: MelSpec, margins: Margins) -> tuple[Chunk, Chunk]:
    """The same stretch as two chunks, each with as much of its margins as ``chunk`` holds."""
    step, hop = grid(spec), spec.hop
    before, after = _frames(margins.before, spec), _frames(margins.after, spec)
    middle = chunk.begin + max(step, (chunk.end - chunk.begin) // (2 * step) * step)
    left, right = min(middle + after - chunk.first, len(chunk.audio) // hop), max(0, middle - before - chunk.first)
    return (
        replace(chunk, audio=chunk.audio[: left * hop], end=middle, last=False),
        replace(chunk, audio=chunk.audio[right * hop :], first=chunk.first + right, begin=middle),
    )


def narrowed(chunk: Chunk, spec: MelSpec, frames: int) -> Chunk:
    """The chunk with at most so many frames of margin, and no fewer than a fade needs."""
    reach, whole = max(FADE, frames), len(chunk.audio) // spec.hop
    begin, end = max(0, chunk.core.start - reach), min(whole, chunk.core.stop + reach)
    return replace(chunk, audio=chunk.audio[begin * spec.hop : end * spec.hop], first=chunk.first + begin)


class Joiner:
    """Cross-fades the mel and f0 of neighbouring chunks, which both know the frames around the cut."""

    def __init__(self) -> None:
        self.held: tuple[Array, Array] | None = None  # mel and log f0 of the fade, as the last chunk has them

    def push(self, chunk: Chunk, mel: Array, f0: Array) -> tuple[Array, Array]:
        """Take all frames of a chunk, mel [T, M] and f0 [T]; returns the frames that are final."""
        start = chunk.begin - chunk.first - (len(self.held[0]) // 2 if self.held is not None else 0)
        log_f0 = np.log(f0)
        if self.held is not None:
            before, before_f0 = self.held
            weight = ((np.arange(len(before)) + 0.5) / len(before)).astype(np.float32)
            part = slice(start, start + len(before))
            mel, log_f0 = mel.copy(), log_f0.copy()
            mel[part] = before * (1 - weight[:, None]) + mel[part] * weight[:, None]
            log_f0[part] = before_f0 * (1 - weight) + log_f0[part] * weight
        stop = chunk.end - chunk.first
        if not chunk.last:
            half = min(FADE // 2, len(mel) - stop, chunk.end - chunk.begin)
            self.held = (mel[stop - half : stop + half], log_f0[stop - half : stop + half])
            stop -= half
        return mel[start:stop], np.exp(log_f0[start:stop]).astype(np.float32)


def grid(spec: MelSpec) -> int:
    """Frames between places where a chunk may begin: there units and f0 are heard as in any other chunk.

    2 where frames and units share no such places (512 samples of 44.1 kHz).
    """
    frame = Fraction(spec.hop, spec.sample_rate)
    return next((count for count in range(1, COARSEST + 1) if count * frame % BEAT == 0), 2)


def _slices(blocks: Iterable[Array], rate: int, shortest: float, longest: float) -> Iterator[Slice]:
    """The slicer's slices, after one that is as short as an opening."""
    low, high = min(OPENING[0], shortest), min(OPENING[1], longest)
    enough = round((low + high) * rate) + 1
    source, head = iter(blocks), np.zeros(0, np.float32)
    while len(head) < enough and (block := next(source, None)) is not None:
        head = np.concatenate([head, block])
    first = next(slicer.slices([head[:enough]], rate, low, high), None)
    if first is None:
        return
    yield first
    start = len(first.audio)
    for piece in slicer.slices(chain([head[start:]], source), rate, shortest, longest):
        yield Slice(start + piece.start, piece.audio)


def _frames(seconds: float, spec: MelSpec) -> int:
    """Frames of a margin, on the grid and wide enough for a fade."""
    step = grid(spec)
    return -(-max(FADE, round(seconds * spec.frame_rate)) // step) * step
