"""NSF-HiFiGAN as a stream: mel and f0 frames in, samples out, equal to one pass over the whole to float error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import noise, source
from moksori.runtime.devices import Session
from moksori.runtime.errors import VoiceError
from moksori.runtime.mel import MelSpec
from moksori.runtime.room import Room

Array = NDArray[np.float32]

LONGEST = 400  # frames synthesised at once; memory grows with it


class NsfSynthesizer:
    """State of one stream. A frame is synthesised once ``context`` frames after it are known.

    The graph gets the sine's phase at the begin of each frame, which is summed here in float64, so that neither the
    length of a chunk nor that of the song costs precision.
    """

    bend = 0.0  # f0 is held through a frame
    noisy = True

    def __init__(self, session: Session, spec: MelSpec, context: int, seed: int) -> None:
        self.session, self.spec, self.context, self.seed = session, spec, context, seed
        self.room = Room(LONGEST)
        self.mel = np.zeros((0, spec.bins), np.float32)
        self.f0 = np.zeros(0, np.float32)
        self.phase = np.zeros(0, np.float64)  # cycles
        self.first = 0  # absolute index of the buffers' first frame
        self.done = 0  # frames synthesised

    def push(self, mel: Array, f0: Array) -> Array:
        """Take mel [k, M] and f0 [k] Hz; returns the samples that became final."""
        self._append(mel, f0)
        return self._synthesise(self.first + len(self.mel) - self.context)

    def flush(self) -> Array:
        """The rest, up to frames · hop samples in all."""
        return self._synthesise(self.first + len(self.mel))

    def render(self, mel: Array, f0: Array, final: int) -> Array:
        """As ``IstftSynthesizer.render``."""
        start, used = self.done, len(self.mel)
        self._append(mel, f0)
        samples = self._samples(start, start + len(mel))
        kept = slice(used + final)
        self.mel, self.f0, self.phase = self.mel[kept], self.f0[kept], self.phase[kept]
        self.done = start + final
        self._drop()
        return samples

    def _append(self, mel: Array, f0: Array) -> None:
        phase = source.frame_phases(np.concatenate([self.f0[-1:], f0]), self.spec, self.bend)
        if len(self.phase):
            phase = (phase + self.phase[-1])[1:] % 1
        self.mel, self.f0 = np.concatenate([self.mel, mel]), np.concatenate([self.f0, f0])
        self.phase = np.concatenate([self.phase, phase % 1])

    def _synthesise(self, end: int) -> Array:
        parts = [np.zeros(0, np.float32)]
        for stop, samples in self.room.stretches(self.done, end, self._samples):
            parts.append(samples)
            self.done = stop
        self._drop()
        return np.concatenate(parts)

    def _drop(self) -> None:
        """Let go of what lies before the context of the next frame."""
        drop = max(0, self.done - self.context - self.first)
        if drop:
            keep = min(drop, len(self.mel) - 1)  # the last frame says where the phase goes on
            self.mel, self.f0, self.phase = self.mel[keep:], self.f0[keep:], self.phase[keep:]
            self.first += keep

    def _samples(self, start: int, stop: int) -> Array:
        """Samples of absolute frames, run with all the context there is, up to ``context``."""
        left = max(self.first, start - self.context)
        right = min(self.first + len(self.mel), stop + self.context)
        frames, hop = slice(left - self.first, right - self.first), self.spec.hop
        inputs = {
            "mel": self.mel[None, frames],
            "f0": self.f0[None, frames],
            "phase": self.phase[None, frames].astype(np.float32),
        }
        if self.noisy:
            inputs["noise"] = noise.frames("vocoder", self.seed, left, right - left, hop)[None]
        waveform: Array = self.session.run(None, inputs)[0][0]
        return waveform[(start - left) * hop : (stop - left) * hop]


class MiniNsfSynthesizer(NsfSynthesizer):
    """The kind with one sine at an inner rate, whose f0 goes linearly from frame to frame."""

    noisy = False

    def __init__(self, session: Session, spec: MelSpec, context: int, seed: int) -> None:
        super().__init__(session, spec, context, seed)
        said = session.metadata.get("source_hop", "")
        if not (said.isdecimal() and 0 < int(said) <= spec.hop):
            raise VoiceError(f"{session.name} does not say its source_hop in its metadata; export the voice again")
        self.bend = (int(said) - 1) / (2 * int(said))
