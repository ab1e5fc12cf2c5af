"""What is found out about a song before it is sung: how loud it is, how high, and which channels differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import audio, curve, key, loudness, pitch
from moksori.runtime.errors import AudioError
from moksori.runtime.key import Heights, Range
from moksori.runtime.lufs import Meter
from moksori.runtime.master import Levels
from moksori.runtime.mel import MelSpec
from moksori.runtime.pitch import Track, Tracker
from moksori.runtime.report import Trace

Array = NDArray[np.float32]

LIMITED = 0.001  # of the samples; fewer are not heard
FAR = 7.0  # semitones beyond a speaker's range, where the demo voice begins to lose level here and there
FEW = 0.05  # of the sung time
ALIKE = 1e-4  # of full scale; channels that differ by less are one


@dataclass(frozen=True)
class Song:
    """One recording and how it will be sung.

    ``channels`` of the result each name the channel of the source that they are sung after, None for the mean of all.
    ``gain`` in dB brings the source to the voice's level; ``loudness`` in LUFS is the source's own. ``key`` in
    semitones; ``heights`` is known where the key was chosen from it. ``f0`` is what to sing instead of what a chunk is
    heard to have.
    """

    source: Path
    rate: int
    seconds: float
    channels: tuple[int | None, ...]
    gain: float
    loudness: float
    key: float
    heights: Heights | None
    f0: Track | None

    def blocks(self, channel: int | None, spec: MelSpec) -> Iterator[Array]:
        """One channel at the voice's rate and level."""
        for block in audio.blocks(self.source, spec.sample_rate, channel=channel):
            yield loudness.amplified(block, self.gain)


def listen(
    source: Path, spec: MelSpec, level: float, tracker: Tracker, goal: Range, asked: float | str, stereo: bool
) -> Song:
    """Go through a file once, and once more where its pitch is needed: for a key that is a word, and for stereo,
    whose channels are sung to one f0. Holds a block, and for stereo the f0.

    Args:
        level: dB at which the voice sings; goal: its range; asked: a key in semitones or one of key.WORDS.
    Raises:
        AudioError: the file cannot be read or is silent.
    """
    info = audio.info(source)
    pair = stereo and info.channels > 1
    ear = _Ear(spec.sample_rate)
    active = loudness.active_level(ear.mixed(source, pair), spec)
    if active is None:
        raise AudioError(f"{source} is silent: there is nothing to convert")
    gain = float(np.clip(level - active, -loudness.LARGEST_GAIN_DB, loudness.LARGEST_GAIN_DB))
    channels: tuple[int | None, ...] = (None,) if not pair else (0, 1) if ear.difference > ALIKE else (None, None)
    heights, f0 = None, None
    if asked in key.WORDS or channels == (0, 1):
        heights, f0 = _pitch(source, gain, tracker, keep=channels == (0, 1))
    word = key.WORDS.get(str(asked))
    semitones = word(heights, goal) if word and heights is not None else float(asked)
    return Song(
        source, info.rate, info.seconds, channels, gain, ear.meter.integrated(), semitones, heights, f0
    )


class _Ear:
    """Hears a file as one channel, and on the way its loudness and how far left and right are apart."""

    def __init__(self, rate: int) -> None:
        self.rate, self.meter, self.difference = rate, Meter(rate), 0.0

    def mixed(self, source: Path, pair: bool) -> Iterator[Array]:
        if not pair:
            for block in audio.blocks(source, self.rate):
                self.meter.push(block)
                yield block
            return
        for left, right in zip(*(audio.blocks(source, self.rate, channel=side) for side in (0, 1)), strict=True):
            self.meter.push(np.stack([left, right], 1))
            self.difference = max(self.difference, float(np.abs(left - right).max()))
            yield (left + right) / 2


def _pitch(source: Path, gain: float, tracker: Tracker, keep: bool) -> tuple[Heights, Track | None]:
    """How high a file is sung, and, if it is to be kept, when."""
    heights, kept = Heights(), []
    blocks = (loudness.amplified(block, gain) for block in audio.blocks(source, pitch.RATE))
    for times, f0, confidence in curve.heard(blocks, tracker):
        heights.add(f0, confidence >= tracker.options.threshold)
        if keep:
            kept.append((times, f0, confidence))
    if not keep:
        return heights, None
    times, f0, confidence = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return heights, Track(times, f0, confidence)


def together(streams: list[Iterator[Array]]) -> Iterator[list[Array]]:
    """Equally long pieces of streams that come in pieces of other lengths; holds what one is ahead of the others."""
    if len(streams) == 1:
        yield from ([piece] for piece in streams[0])
        return
    held = [np.zeros(0, np.float32) for _ in streams]
    ended = [False for _ in streams]
    while not all(ended):
        behind = min((at for at, end in enumerate(ended) if not end), key=lambda at: len(held[at]))
        piece = next(streams[behind], None)
        if piece is None:
            ended[behind] = True
            continue
        held[behind] = np.concatenate([held[behind], piece])
        ready = min(map(len, held))
        if ready:
            yield [part[:ready] for part in held]
            held = [part[ready:] for part in held]


def notices(
    song: Song, given: Track | None, levels: Levels, goal: Range, trace: Trace, stereo: bool
) -> Iterator[str]:
    """Sentences about what a person may not expect of a result, whose voice sings in the range ``goal``."""
    beyond = trace.beyond(goal, FAR)
    if beyond > FEW:
        yield f"{100 * beyond:.0f} % is sung far from the voice's {goal} and may be thin or rough: try another --key"
    if song.heights is not None and (own := song.heights.range) is not None and song.key == round(song.key):
        share = song.heights.inside(goal, song.key)
        if share < key.INSIDE:
            yield f"the song reaches over {own}, wider than the voice's {goal}: {100 * (1 - share):.0f} % lies outside"
    if stereo and len(song.channels) == 1:
        yield "the source is mono, and so is the result"
    if given is not None and song.seconds - given.times[-1] > 1:
        yield f"the f0 curve ends at {given.times[-1]:.1f} s; its last pitch goes on to the end at {song.seconds:.1f} s"
    if levels.limited > LIMITED:
        yield f"{100 * levels.limited:.1f} % of the samples were limited; a lower --loudness keeps them as they are"
