"""From a recording to the same song in another voice, in bounded memory.

audio ──► content (units, 50 Hz) ─┐
      └─► pitch (f0)              ├─► conditions ─► denoiser × few steps ─► mel ─► vocoder ─► audio
          speaker, loudness, key ─┘
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from moksori.runtime import audio, chunks, content, denoiser, loudness, mel, noise, pitch, samplers
from moksori.runtime.chunks import Chunk, Joiner
from moksori.runtime.denoiser import Conditions
from moksori.runtime.errors import AudioError, OptionError
from moksori.runtime.loudness import Gate
from moksori.runtime.vocoder import Synthesizer
from moksori.runtime.voice import Voice

Array = NDArray[np.float32]

STAGES = ("decode", "pitch", "content", "denoiser", "vocoder", "encode")
LONGEST_SECONDS = 12.0  # of one chunk; attention grows with its square
SHORTEST_SECONDS = 4.0


@dataclass(frozen=True)
class Options:
    """How to sing; ``None`` takes the voice's own default. ``speaker`` may be a mix such as "heart:0.7,f001:0.3"."""

    speaker: str | None = None
    key: float = 0.0  # semitones
    steps: int | None = None
    sampler: str | None = None
    noise_scale: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """What one conversion did. ``seconds`` is the audio's length, ``elapsed`` and ``stages`` are wall-clock seconds."""

    source: Path
    target: Path
    sample_rate: int
    seconds: float
    elapsed: float
    stages: dict[str, float]
    devices: dict[str, str]
    notices: tuple[str, ...]


class Converter:
    """Sings files in one voice with one set of options; holds no state between files."""

    def __init__(self, voice: Voice, options: Options | None = None) -> None:
        self.voice, self.options = voice, options or Options()
        facts, chosen = voice.manifest, self.options
        self.speaker = voice.speaker_weights(chosen.speaker)
        self.plan = samplers.plan(
            facts.denoiser.prediction, chosen.sampler or facts.denoiser.sampler, chosen.steps or facts.denoiser.steps
        )
        self.noise_scale = facts.denoiser.noise_scale if chosen.noise_scale is None else chosen.noise_scale
        self.tracker = pitch.Tracker(voice.pitch, facts.pitch.kind, facts.pitch.fmin, facts.pitch.fmax)
        self.level = float(self.speaker @ np.array([s.loudness for s in facts.speakers], np.float32))
        if not -60 <= chosen.key <= 60:
            raise OptionError(f"a key of {chosen.key:g} semitones leaves the range of voices; use -60 to 60")

    def convert(self, source: Path, target: Path, progress: Callable[[float], None] | None = None) -> Report:
        """Convert a file of any length; ``target`` appears only when all of it is done.

        ``progress`` is called with the share that is done, 0 to 1.

        Raises:
            AudioError: the source cannot be read or is silent, or the target cannot be written.
            DeviceError: a graph failed on its device.
        """
        source, target = Path(source), Path(target)
        began, clock = time.perf_counter(), Stopwatch()
        spec = self.voice.manifest.mel
        total = audio.info(source).seconds
        with clock("decode"):
            active = loudness.active_level(audio.blocks(source, spec.sample_rate), spec)
        if active is None:
            raise AudioError(f"{source} is silent: there is nothing to convert")
        gain = float(np.clip(self.level - active, -loudness.LARGEST_GAIN_DB, loudness.LARGEST_GAIN_DB))
        blocks = (loudness.amplified(block, gain) for block in audio.blocks(source, spec.sample_rate))
        written, expected = 0, max(1, round(total * spec.sample_rate))
        format = target.suffix[1:].lower() or "wav"
        with audio.Writer(target, spec.sample_rate, format, frames=expected) as writer:
            for samples in self._sing(clock.each("decode", blocks), clock):
                with clock("encode"):
                    writer.write(loudness.limited(loudness.amplified(samples, -gain)))
                written += len(samples)
                if progress is not None:
                    progress(min(1.0, written / expected))
        return Report(
            source, target, spec.sample_rate, written / spec.sample_rate, time.perf_counter() - began, clock.seconds,
            {role: str(session.device) for role, session in self.voice.sessions.items()}, self.voice.notices,
        )  # fmt: skip

    def _sing(self, blocks: Iterator[Array], clock: Stopwatch) -> Iterator[Array]:
        """Converted samples of a stream at the voice's rate and of its average level."""
        facts = self.voice.manifest
        synthesizer = Synthesizer(self.voice.vocoder, facts.mel, facts.vocoder.context, self.options.seed)
        joiner, gate = Joiner(), Gate(facts.mel)
        length = 0
        for chunk in chunks.chunks(blocks, facts.mel, self._margin, SHORTEST_SECONDS, LONGEST_SECONDS):
            given = self._conditions(chunk, clock)
            with clock("denoiser"):
                frames, f0 = joiner.push(chunk, self._mel(chunk, given), given.f0)
            with clock("vocoder"):
                gate.push(given.loudness[chunk.core])
                samples = synthesizer.push(frames, f0)
                if chunk.last:
                    samples = np.concatenate([samples, synthesizer.flush()])
                    samples = samples[: max(0, chunk.samples - length)]  # the last frame reaches beyond the end
                length += len(samples)
            yield gate.apply(samples)

    def _conditions(self, chunk: Chunk, clock: Stopwatch) -> Conditions:
        """Hear a chunk: what is sung, how high, how loud."""
        facts = self.voice.manifest
        heard = soxr.resample(chunk.audio, facts.mel.sample_rate, pitch.RATE)
        frames = facts.mel.frames(len(chunk.audio))
        with clock("pitch"):
            track = self.tracker.track(heard)
            f0, voiced = pitch.at_times(track, mel.frame_times(frames, facts.mel), facts.pitch.threshold)
        with clock("content"):
            units = content.units(self.voice.content, heard)
        return Conditions(
            units=units,
            mel2ph=content.mel2ph(frames, len(units)),
            f0=pitch.transpose(f0, self.options.key),
            voiced=voiced,
            loudness=mel.loudness(chunk.audio, facts.mel),
            speaker=self.speaker,
        )

    def _mel(self, chunk: Chunk, given: Conditions) -> Array:
        """Denoise a chunk: natural-log mel [T, M]."""
        spec = self.voice.manifest.denoiser
        condition = denoiser.condition(self.voice.condition, given)
        start = noise.frames("denoiser", self.options.seed, chunk.first, len(given.f0), len(spec.mean))
        normal = denoiser.sample(self.voice.denoiser, condition, self.noise_scale * start.T, self.plan)
        return (normal.T * np.array(spec.deviation, np.float32) + np.array(spec.mean, np.float32)).astype(np.float32)

    @property
    def _margin(self) -> float:
        """Seconds of surroundings that a chunk is heard with, so that its own part does not feel the cut."""
        facts = self.voice.manifest
        return max(facts.units.context, facts.denoiser.context / facts.mel.frame_rate)


class Stopwatch:
    """Wall-clock seconds per stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - began

    def each(self, stage: str, items: Iterator[Array]) -> Iterator[Array]:
        """The same items, with the time it takes to make each counted."""
        while True:
            with self(stage):
                item = next(items, None)
            if item is None:
                return
            yield item
