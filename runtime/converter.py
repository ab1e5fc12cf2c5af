"""From a recording to the same song in another voice, in bounded memory.

audio ──► content (units, 50 Hz) ─┐
      └─► pitch (f0)              ├─► conditions ─► denoiser × few steps ─► mel ─► vocoder ─► audio
          speaker, loudness, key ─┘
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from moksori.runtime import (
    audio,
    chunks,
    content,
    curve,
    hearing,
    lanes,
    mel,
    naming,
    pace,
    pitch,
    tags,
    vocoder,
)
from moksori.runtime.chunks import Chunk, Joiner, Margins
from moksori.runtime.denoiser import Conditions
from moksori.runtime.fullness import Fullness
from moksori.runtime.hearing import Song
from moksori.runtime.loudness import Gate
from moksori.runtime.manifest import FAR
from moksori.runtime.master import Master
from moksori.runtime.options import Options
from moksori.runtime.performer import Performer
from moksori.runtime.report import Report, Trace
from moksori.runtime.voice import Voice

Array = NDArray[np.float32]

STAGES = ("decode", "pitch", "content", "denoiser", "vocoder", "encode")
ENOUGH_SECONDS = 0.5  # around what hears everything at once; four seconds change a result no less (docs/engine.md)


class Converter(Performer):
    """Sings files in one voice with one set of options; holds no state between files."""

    def __init__(self, voice: Voice, options: Options | None = None, memory: int | None = None) -> None:
        """``memory`` is how many bytes the process may take, in all; by default what is free."""
        super().__init__(voice, options)
        chosen = self.options
        self.curve = curve.read(chosen.f0) if chosen.f0 is not None else None
        self.settings = chosen.settings(voice)
        self.pace = pace.plan(voice, self._margins, memory)

    def convert(
        self, source: Path | str, target: Path | str | None = None, progress: Callable[[float], None] | None = None
    ) -> Report:
        """Convert a file of any length; ``target`` appears only when all of it is done.

        Without a target the result lies beside the source, named as svc-run names it; one that exists is replaced.
        ``progress`` is called with the share that is done, 0 to 1.

        Raises:
            AudioError: the source cannot be read or is silent, or the target cannot be written.
            DeviceError: a graph failed on its device.
        """
        source = Path(source)
        target = naming.beside(source, self.style) if target is None else Path(target)
        began, clock = time.perf_counter(), Stopwatch()
        spec, chosen = self.voice.manifest.mel, self.options
        halving = pace.Halving(spec, self._margins)
        with clock("decode"):
            song = hearing.listen(source, spec, self.level, self.tracker, self.range, chosen.key, chosen.stereo)
        rate = song.rate if chosen.rate == "source" else chosen.rate or spec.sample_rate
        format = target.suffix[1:].lower() or naming.DEFAULT_FORMAT
        writer = audio.Writer(
            target, rate, format, subtype=audio.subtype(format, chosen.bits),
            channels=len(song.channels), frames=max(1, round(song.seconds * rate)),
            fields=tags.of_result(source, {**self.settings, "sung": f"{song.key:+g}"}),
        )  # fmt: skip
        writer.check()
        trace, written = Trace(spec), 0
        with Master(target, spec.sample_rate, len(song.channels)) as master:
            for samples in self._channels(song, trace, clock, halving):
                with clock("encode"):
                    master.push(samples)
                written += len(samples)
                if progress is not None:
                    progress(min(1.0, written / max(1.0, song.seconds * spec.sample_rate)))
            with clock("encode"), writer:
                levels = master.write(writer, song.loudness if chosen.loudness is None else chosen.loudness)
        return Report(
            source, target, rate, len(song.channels), writer.samples / rate, time.perf_counter() - began, song.key,
            levels, self.settings, clock.seconds,
            {role: str(session.device) for role, session in self.voice.sessions.items()},
            (
                *self.voice.notices, *halving.notices,
                *hearing.notices(song, self.curve, levels, self.range, trace, chosen.stereo),
            ), trace,
        )  # fmt: skip

    @property
    def style(self) -> naming.Style:
        """What a result's name can tell."""
        chosen, voice = self.options, self.voice
        speaker, steps = chosen.speaker or voice.speaker_names[0], chosen.steps or voice.manifest.denoiser.steps
        return naming.Style(voice.name, speaker, chosen.key, steps)

    def _channels(self, song: Song, trace: Trace, clock: Stopwatch, halving: pace.Halving) -> Iterator[Array]:
        """Samples [n], or [n, 2]: left and right sung apart, to one f0, with the same noise."""
        spec = self.voice.manifest.mel
        streams = [
            self._sing(
                clock.each("decode", song.blocks(channel, spec)), song, trace if not at else Trace(spec), clock, halving
            )
            for at, channel in enumerate(dict.fromkeys(song.channels))  # alike ones are sung once
        ]
        for pieces in hearing.together(streams):
            yield pieces[0] if len(song.channels) == 1 else np.stack([pieces[0], pieces[-1]], 1)

    def _sing(
        self, blocks: Iterator[Array], song: Song, trace: Trace, clock: Stopwatch, halving: pace.Halving
    ) -> Iterator[Array]:
        """Converted samples of a stream at the voice's rate and of its average level."""
        facts = self.voice.manifest
        synthesizer = halving.sharing(
            vocoder.synthesizer(self.voice.vocoder, facts.mel, facts.vocoder, self.options.seed)
        )
        joiner, gate, fullness = Joiner(), Gate(facts.mel), Fullness(facts.mel)
        length = 0
        pieces = chunks.chunks(blocks, facts.mel, self._margins, self.pace.shortest, self.pace.longest)
        heard = partial(halving.each, lambda chunk: self._heard(chunk, song, clock))
        for _, (chunk, given, found) in chain.from_iterable(lanes.ordered(heard, pieces, self.pace.lanes)):
            frames, f0 = joiner.push(chunk, found, given.f0)
            with clock("vocoder"):
                trace.add(chunk.end, f0, given.voiced[chunk.core], gate.push(given.loudness[chunk.core]))
                samples = synthesizer.push(frames, f0)
                if chunk.last:
                    samples = np.concatenate([samples, synthesizer.flush()])
                    samples = samples[: max(0, chunk.samples - length)]  # the last frame reaches beyond the end
                length += len(samples)
                fullness.push(given.loudness[chunk.core], given.voiced[chunk.core])
                samples = fullness.apply(samples, chunk.last)
            if len(samples):
                yield gate.apply(samples)

    def _heard(self, chunk: Chunk, song: Song, clock: Stopwatch) -> tuple[Chunk, Conditions, Array]:
        """All that a chunk needs no neighbour for, with what the denoiser looks at around it; runs in a lane."""
        spec = self.voice.manifest.mel
        given = self._conditions(chunk, song, clock)
        near = chunks.narrowed(chunk, spec, self.voice.manifest.denoiser.context)
        begin = near.first - chunk.first
        given = given.cut(slice(begin, begin + spec.frames(len(near.audio))))
        with clock("denoiser"):
            return near, given, self.mel(given, near.first, near.audio)

    def _conditions(self, chunk: Chunk, song: Song, clock: Stopwatch) -> Conditions:
        """Hear a chunk: what is sung, how high, how loud."""
        facts = self.voice.manifest
        heard = soxr.resample(chunk.audio, facts.mel.sample_rate, pitch.RATE)
        frames = facts.mel.frames(len(chunk.audio))
        with clock("pitch"):
            f0, voiced = self._f0(heard, chunk.first, frames, song)
        with clock("content"):
            units = content.units(self.voice.content, heard)
        return Conditions(
            units=units,
            mel2ph=content.mel2ph(frames, len(units)),
            f0=pitch.transpose(f0, song.key),
            voiced=voiced,
            loudness=mel.loudness(chunk.audio, facts.mel),
            speaker=self.speaker,
        )

    def _f0(self, heard: Array, first: int, frames: int, song: Song) -> tuple[Array, NDArray[np.bool_]]:
        """f0 in Hz and voicing [T] of a chunk that begins at frame ``first``: a given curve's, or as it is heard."""
        spec, given = self.voice.manifest.mel, self.curve or song.f0
        if given is None:
            return self.tracker.at(heard, mel.frame_times(frames, spec))
        times = mel.frame_times(frames, spec) + first * spec.hop / spec.sample_rate
        return pitch.at_times(given, times, self.tracker.options)

    @property
    def _margins(self) -> Margins:
        """The surroundings that a chunk is heard with, so that its own part does not feel the cut."""
        facts = self.voice.manifest
        units, near = facts.units, facts.denoiser.context / facts.mel.frame_rate
        if units.lookahead < FAR:  # all that a unit can depend on
            return Margins(near + units.context, near + units.lookahead)
        usual = max(min(units.context, ENOUGH_SECONDS), near)
        return Margins(usual, usual)


class Stopwatch:
    """Wall-clock seconds per stage; those of lanes add up."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            with self.lock:
                self.seconds[stage] += time.perf_counter() - began

    def each(self, stage: str, items: Iterator[Array]) -> Iterator[Array]:
        """The same items, with the time it takes to make each counted."""
        while True:
            with self(stage):
                item = next(items, None)
            if item is None:
                return
            yield item
