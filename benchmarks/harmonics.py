"""A voice made of harmonics: whatever f0 it is given, it has exactly, and any throat, breath and roughness with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.mel import hann

Array = NDArray[np.float32]
Numbers = NDArray[np.float64]

RATE = 16_000  # Hz
HOP = 80  # samples between control points, 5 ms
FFT = 1024
HIGHEST = 7_600.0  # Hz, of the partials
ENVELOPE = 24  # samples of the cepstrum that are kept, 1.5 ms: the throat, not the harmonics
UNVOICED_BREATH = 0.3  # noise where nothing is voiced


@dataclass(frozen=True, eq=False)
class Clip:
    """Audio [n] at 16 kHz with its f0 [T] in Hz and voicing [T], a point every 5 ms."""

    name: str
    audio: Array
    f0: Numbers
    voiced: NDArray[np.bool_]

    @property
    def times(self) -> Numbers:
        """Seconds [T]."""
        return np.arange(len(self.f0)) * np.float64(HOP / RATE)


@dataclass(frozen=True)
class Manner:
    """How the folds move: ``partials`` are gains of the first harmonics (1 for the others), ``tilt`` is in dB an octave
    above the first, ``breath`` is noise beside the harmonics, ``shimmer`` how much each period's strength is off.
    """

    partials: tuple[float, ...] = ()
    tilt: float = 0.0
    breath: float = 0.05
    shimmer: float = 0.0


def sing(f0: Numbers, voiced: NDArray[np.bool_], envelope: Numbers, seed: int, manner: Manner = Manner()) -> Array:
    """Harmonics of exactly ``f0`` [T] under magnitudes ``envelope`` [T, 513], and breath: [(T - 1) * HOP] samples."""
    generator = np.random.default_rng(seed)
    length = (len(f0) - 1) * HOP
    at, points = np.arange(length) / HOP, np.arange(len(f0))
    cycles = np.cumsum(2 ** np.interp(at, points, np.log2(f0))) / RATE
    total = np.zeros(length)
    for k in range(1, int(HIGHEST / f0[voiced].min()) + 1):
        place = np.minimum(k * f0 / RATE * FFT, FFT // 2 - 1)
        below = place.astype(int)
        height = envelope[points, below] + (place - below) * (envelope[points, below + 1] - envelope[points, below])
        height = height * voiced * (k * f0 < HIGHEST) * 10 ** (-manner.tilt * np.log2(k) / 20)
        height *= manner.partials[k - 1] if k <= len(manner.partials) else 1
        total += np.interp(at, points, height) * np.sin(2 * np.pi * k * cycles + generator.uniform(0, 2 * np.pi))
    if manner.shimmer:
        strengths = 1 + manner.shimmer * generator.standard_normal(int(cycles[-1]) + 2)
        total *= np.interp(cycles, np.arange(len(strengths)), strengths)
    total += _breath(voiced, envelope, manner.breath, generator, length)
    return (0.5 * total / np.abs(total).max()).astype(np.float32)


def envelopes(song: Array) -> Numbers:
    """Smooth magnitudes [n // HOP + 1, 513] by the cepstrum."""
    padded = np.pad(song.astype(np.float64), FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP]
    log = np.log(np.abs(np.fft.rfft(frames * hann(FFT, FFT))) + 1e-5)
    cepstrum = np.fft.irfft(log)
    cepstrum[:, ENVELOPE : FFT - ENVELOPE + 1] = 0
    return np.exp(np.fft.rfft(cepstrum).real)


def _breath(
    voiced: NDArray[np.bool_], envelope: Numbers, amount: float, generator: np.random.Generator, length: int
) -> Numbers:
    """Noise [length] under the envelope [T, 513]."""
    share = np.where(voiced, amount, UNVOICED_BREATH)[:, None] / np.sqrt(FFT)
    window = hann(FFT, FFT)
    noise = np.fft.irfft(np.fft.rfft(generator.standard_normal((len(voiced), FFT)) * window) * envelope * share)
    breath = np.zeros(length + FFT)
    for point, frame in enumerate(noise * window):
        start = point * HOP
        breath[start : start + FFT] += frame[: len(breath) - start]
    return breath[FFT // 2 :][:length]
