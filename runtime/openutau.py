"""A vocoder in OpenUtau's form, mel and f0 to waveform, as a stream.

Its phase begins anew in every run, so neighbouring runs are laid over each other where they agree best, at most half a
period away from their place, and cross-faded (waveform similarity overlap-add, Verhelst & Roelands 1993).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.devices import Session
from moksori.runtime.mel import MelSpec
from moksori.runtime.room import Room

Array = NDArray[np.float32]

FADE_SECONDS = 0.02  # over which one run gives way to the next
LOWEST = 60.0  # Hz; half a period of it is as far as a run is ever moved


class OpenUtauSynthesizer:
    """State of one stream; ``context`` frames to each side of what a run is used for are thrown away."""

    def __init__(self, session: Session, spec: MelSpec, context: int, seed: int) -> None:
        """``seed`` is for other kinds; a graph of this form holds its own noise."""
        self.session, self.spec, self.room = session, spec, Room()
        self.fade = round(FADE_SECONDS * spec.sample_rate)
        self.farthest = round(spec.sample_rate / (2 * LOWEST))
        self.least = -(-2 * self.fade // spec.hop)  # frames of a run, so that its fade fits
        self.context = context + -(-(self.fade + self.farthest) // spec.hop)
        self.mel = np.zeros((0, spec.bins), np.float32)
        self.f0 = np.zeros(0, np.float32)
        self.first = 0  # absolute index of the buffers' first frame
        self.done = 0  # frames synthesised
        self.tail = np.zeros(0, np.float32)  # how the last run goes on

    def push(self, mel: Array, f0: Array) -> Array:
        """Take mel [k, M] and f0 [k] Hz; returns the samples that became final."""
        self.mel, self.f0 = np.concatenate([self.mel, mel]), np.concatenate([self.f0, f0])
        end = self.first + len(self.mel) - self.context
        return self._synthesise(end if end - self.done >= self.least else self.done)

    def flush(self) -> Array:
        """The rest, up to frames · hop samples in all."""
        return self._synthesise(self.first + len(self.mel))

    def render(self, mel: Array, f0: Array, final: int) -> Array:
        """As ``IstftSynthesizer.render``; laid where it agrees best with how the last call went on."""
        start, used, count = self.done, len(self.mel), len(mel) * self.spec.hop
        self.mel, self.f0 = np.concatenate([self.mel, mel]), np.concatenate([self.f0, f0])
        run, begin = self._placed(start, start + len(mel))
        samples, last = run[begin : begin + count].copy(), begin + final * self.spec.hop
        self.mel, self.f0 = self.mel[: used + final], self.f0[: used + final]
        self._use_up(start + final, run[last : last + self.fade])
        return samples

    def _synthesise(self, end: int) -> Array:
        parts = [np.zeros(0, np.float32)]
        for stop, (run, begin) in self.room.stretches(self.done, end, self._placed):
            parts.append(self._faded(run, begin, stop))
        return np.concatenate(parts)

    def _faded(self, run: Array, begin: int, end: int) -> Array:
        """Samples of the frames up to ``end``, which begin at sample ``begin`` of ``run``, faded in."""
        count = (end - self.done) * self.spec.hop
        samples = run[begin : begin + count].copy()
        faded = min(len(self.tail), count)
        weight = ((np.arange(faded) + 0.5) / max(1, faded)).astype(np.float32)
        samples[:faded] = self.tail[:faded] * (1 - weight) + samples[:faded] * weight
        self._use_up(end, run[begin + count : begin + count + self.fade])
        return samples

    def _placed(self, start: int, end: int) -> tuple[Array, int]:
        """A run for absolute frames with all the context there is, and the sample of it at which they begin best."""
        left = max(self.first, start - self.context)
        right = min(self.first + len(self.mel), end + self.context)
        frames = slice(left - self.first, right - self.first)
        feed = {"mel": self.mel[None, frames], "f0": self.f0[None, frames]}
        run: Array = np.asarray(self.session.run(None, feed)[0], np.float32).reshape(-1)
        begin = (start - left) * self.spec.hop
        begin += self._offset(run, begin, float(self.f0[start - self.first]))
        return np.pad(run, (0, self.farthest + self.fade)), begin  # at the song's end there is no more to move up

    def _use_up(self, end: int, tail: Array) -> None:
        """Frames before ``end`` are made; ``tail`` is how their run goes on."""
        self.tail, self.done = tail, end
        drop = max(0, end - self.context - self.first)
        self.mel, self.f0, self.first = self.mel[drop:], self.f0[drop:], self.first + drop

    def _offset(self, run: Array, begin: int, hertz: float) -> int:
        """Samples from ``begin`` to where ``run`` goes on most like the tail, at most half a period away."""
        if not len(self.tail):
            return 0
        most = min(self.farthest, begin, round(self.spec.sample_rate / (2 * max(hertz, LOWEST))))
        length = min(len(self.tail), len(run) - begin - most)
        if length <= 0 or not most:
            return 0
        places = np.lib.stride_tricks.sliding_window_view(run[begin - most : begin + most + length], length)
        energy = np.einsum("ij,ij->i", places, places)
        likeness = places @ self.tail[:length] / np.sqrt(energy + 1e-9)
        return int(np.argmax(likeness)) - most
