"""The iSTFT vocoder as a stream: mel and f0 frames in, samples out, equal to one pass over the whole to float error."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import noise, source
from moksori.runtime.mel import ROWS, MelSpec
from moksori.runtime.pitch import Session
from moksori.runtime.room import Room

Array = NDArray[np.float32]


class IstftSynthesizer:
    """State of one stream. A frame is synthesised once ``context`` frames after it are known."""

    def __init__(self, session: Session, spec: MelSpec, context: int, seed: int) -> None:
        self.session, self.spec, self.seed, self.room = session, spec, seed, Room()
        self.ahead = -(-spec.n_fft // (2 * spec.hop)) + 1  # frames of source that a frame's window reaches into
        self.context = max(context, self.ahead)
        self.mel = np.zeros((0, spec.bins), np.float32)
        self.f0 = np.zeros(0, np.float32)
        self.first = 0  # absolute index of the buffers' first frame
        self.done = 0  # frames synthesised
        self.harmonics = Harmonics(spec)
        self.tail = np.zeros((2, 0), np.float32)  # signal and window weight not yet complete
        self.lead = (spec.n_fft - spec.hop) // 2  # samples before the stream's start, still to be dropped

    def push(self, mel: Array, f0: Array) -> Array:
        """Take mel [k, M] and f0 [k] (positive everywhere); returns the samples that became final."""
        self.mel, self.f0 = np.concatenate([self.mel, mel]), np.concatenate([self.f0, f0])
        return self._synthesise(self.first + len(self.mel) - self.context, last=False)

    def flush(self) -> Array:
        """The rest, up to frames · hop samples in all."""
        return self._synthesise(self.first + len(self.mel), last=True)

    def render(self, mel: Array, f0: Array, final: int) -> Array:
        """Samples of the frames mel [k, M] and f0 [k], of which the first ``final`` are used up and the rest foreseen.

        The next call brings the foreseen ones again, as they are known by then. For a stream that cannot wait; it
        stands instead of ``push`` and ``flush``. [k · hop] samples; those of the last frames lack what follows.
        """
        start, spec, used = self.done, self.spec, len(self.mel)
        end, known = start + final, start + len(mel)
        before = -(-(spec.n_fft - spec.hop) // (2 * spec.hop))  # frames that reach into these
        begin = max(self.first, start - before)
        self.mel, self.f0 = np.concatenate([self.mel, mel]), np.concatenate([self.f0, f0])
        around = np.arange(self.harmonics.frames - 1, end + 1) - self.first
        self.harmonics.extend(self.f0[np.clip(around, 0, len(self.f0) - 1)])
        sure, self.harmonics = self.harmonics, copy.copy(self.harmonics)
        signal, weight = source.overlap_add(self._spectra(begin, known), spec)
        place = (start - begin) * spec.hop + (spec.n_fft - spec.hop) // 2
        part = slice(place, place + len(mel) * spec.hop)
        self.harmonics, self.done = sure, end
        keep = max(0, end - before - self.context - self.first)
        self.mel, self.f0 = self.mel[keep : used + final], self.f0[keep : used + final]
        self.first += keep
        sure.forget(begin)
        return (signal[part] / np.maximum(weight[part], 1e-4)).astype(np.float32)

    def _synthesise(self, end: int, last: bool) -> Array:
        parts = [np.zeros(0, np.float32)]
        for stop, spectra in self.room.stretches(self.done, end, self._spectra):
            parts.append(self._joined(spectra, stop, last and stop == end))
        return np.concatenate(parts)

    def _joined(self, spectra: Array, end: int, last: bool) -> Array:
        """The samples that spectra of the frames up to ``end`` make final; ``last`` of the stream or not."""
        start, spec = self.done, self.spec
        signal, weight = (
            _added(carried, fresh) for carried, fresh in zip(self.tail, source.overlap_add(spectra, spec), strict=True)
        )
        pad = (spec.n_fft - spec.hop) // 2
        final = (end - start) * spec.hop + (pad if last else 0)
        self.tail = np.stack([signal[final:], weight[final:]])
        self.done = end
        drop = max(0, start - self.context - self.first)
        self.mel, self.f0, self.first = self.mel[drop:], self.f0[drop:], self.first + drop
        samples = signal[:final] / np.maximum(weight[:final], 1e-4)
        dropped = min(self.lead, len(samples))
        self.lead -= dropped
        return samples[dropped:].astype(np.float32)

    def _spectra(self, start: int, end: int) -> Array:
        """Spectra [end - start, 2, K] of absolute frames, run with all the context there is, up to ``context``."""
        left = max(self.first, start - self.context)
        right = min(self.first + len(self.mel), end + self.context)
        self._extend_source(end)
        excitation = np.zeros((2, right - left, 2, self.spec.n_fft // 2 + 1), np.float32)
        excitation[0, start - left : end - left] = self.harmonics.spectra(start, end - start)
        excitation[1, start - left : end - left] = self._noise(start, end - start)
        frames = slice(left - self.first, right - self.first)
        inputs = {
            "mel": self.mel[None, frames],
            "f0": self.f0[None, frames],
            "harmonic": excitation[:1],
            "noise": excitation[1:],
        }
        return self.session.run(None, inputs)[0][0, start - left : end - left]

    def _extend_source(self, end: int) -> None:
        """Make the pulse train as far as the windows of the frames before ``end`` reach."""
        first, wanted = self.harmonics.frames, end + self.ahead - 1
        at = np.arange(first - 1, wanted + 1) - self.first
        self.harmonics.extend(self.f0[np.clip(at, 0, len(self.f0) - 1)])

    def _noise(self, start: int, count: int) -> Array:
        spec, pad = self.spec, (self.spec.n_fft - self.spec.hop) // 2
        before = -(-pad // spec.hop)
        white = noise.frames("vocoder", self.seed, start - before, count + 2 * before + 1, spec.hop).reshape(-1)
        return source.spectrum(source.windows(white[before * spec.hop - pad :], count, spec), spec)


class Harmonics:
    """The pulse train of a stream, with the phase carried in float64."""

    def __init__(self, spec: MelSpec) -> None:
        self.spec = spec
        self.frames = 0  # made so far
        self.phase = 0.0  # cycles
        self.origin = -((spec.n_fft - spec.hop) // 2) - source.TAPS  # sample index of train[0]
        self.train = np.zeros(source.TAPS // 2 - self.origin, np.float32)

    def extend(self, f0: Array) -> None:
        """Add the frames of ``f0`` [k + 2], which has one frame of context on each side."""
        if len(f0) <= 2:
            return
        self.train = np.concatenate([self.train, np.zeros((len(f0) - 2) * self.spec.hop, np.float32)])
        for at in range(0, len(f0) - 2, ROWS):
            phase = source.phases(f0[at : at + ROWS + 2], self.spec.hop, self.spec.sample_rate, self.phase)
            place = len(self.train) - (len(f0) - 2 - at) * self.spec.hop - source.TAPS
            self.train[place : place + len(phase) + source.TAPS] += source.pulses(phase, self.phase)
            self.phase = float(phase[-1] % 1)
        self.frames += len(f0) - 2

    def spectra(self, start: int, count: int) -> Array:
        """Spectra [count, 2, K] of frames from ``start`` on; earlier frames cannot be asked for again."""
        self.forget(start)
        return source.spectrum(source.windows(self.train, count, self.spec), self.spec)

    def forget(self, start: int) -> None:
        """Let go of what only frames before ``start`` need."""
        begin = start * self.spec.hop - (self.spec.n_fft - self.spec.hop) // 2
        self.train, self.origin = self.train[begin - self.origin :], begin


def _added(carried: Array, fresh: Array) -> Array:
    total = fresh.copy()
    total[: len(carried)] += carried
    return total
