"""Log-mel spectrogram and frame loudness: the only implementation, used by training and by inference alike.

The convention is the one of community vocoders: periodic Hann window, reflection padding of (n_fft - hop)/2 on each
side, no centring, slaney mel scale with slaney normalisation, natural logarithm of the magnitude clamped at 1e-5.
Frame t is centred on sample (t + 1/2)·hop, and n samples give n // hop frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

FLOOR = 1e-5  # magnitude below which a mel bin is silence
LOUDNESS_FLOOR_DB = -80.0
ROWS = 128  # frames worked on at a time, so that what lies between stays in the processor's cache


@dataclass(frozen=True)
class MelSpec:
    """What one mel frame means. Rates in Hz, lengths in samples."""

    sample_rate: int = 24_000
    hop: int = 240
    n_fft: int = 1024
    win: int = 1024
    bins: int = 100
    fmin: float = 40.0
    fmax: float = 12_000.0

    def __post_init__(self) -> None:
        if (self.n_fft - self.hop) % 2 or self.win > self.n_fft or not 0 <= self.fmin < self.fmax:
            raise ValueError(f"mel spec is not usable: {self}")
        if self.fmax > self.sample_rate / 2:
            raise ValueError(f"fmax {self.fmax} Hz is above half the sample rate {self.sample_rate} Hz")

    @property
    def frame_rate(self) -> float:
        return self.sample_rate / self.hop

    def frames(self, samples: int) -> int:
        return samples // self.hop


def log_mel(audio: Array, spec: MelSpec) -> Array:
    """Natural-log mel spectrogram.

    Args:
        audio: [n] mono samples at ``spec.sample_rate``; shorter than a window is padded with zeros.
    Returns:
        [n // hop, bins] float32.
    """
    return log_mel_frames(_frames(audio, spec), spec)


def log_mel_frames(frames: Array, spec: MelSpec) -> Array:
    """``log_mel`` of frames [T, n_fft] cut elsewhere."""
    magnitude = np.abs(np.fft.rfft(frames * hann(spec.win, spec.n_fft), axis=-1)).astype(np.float32)
    return np.log(np.maximum(magnitude @ filterbank(spec).T, FLOOR)).astype(np.float32)


def loudness(audio: Array, spec: MelSpec) -> Array:
    """Frame level in dB of full scale (RMS of the Hann-weighted frame), [n // hop], not below -80."""
    return loudness_frames(_frames(audio, spec), spec)


def loudness_frames(frames: Array, spec: MelSpec) -> Array:
    """``loudness`` of frames [T, n_fft] cut elsewhere."""
    window = hann(spec.win, spec.n_fft)
    weights, power = window / window.sum(), np.empty(len(frames), np.float32)
    for at in range(0, len(frames), ROWS):
        power[at : at + ROWS] = np.square(frames[at : at + ROWS], dtype=np.float32) @ weights
    return np.maximum(10 * np.log10(np.maximum(power, 1e-12)), LOUDNESS_FLOOR_DB).astype(np.float32)


def frame_times(count: int, spec: MelSpec) -> NDArray[np.floating]:
    """Centre of each frame in seconds."""
    return (np.arange(count) + 0.5) * (spec.hop / spec.sample_rate)


@lru_cache(maxsize=8)
def filterbank(spec: MelSpec) -> Array:
    """Triangular mel filters with slaney area normalisation, [bins, n_fft/2 + 1]."""
    edges = _mel_to_hz(np.linspace(_hz_to_mel(spec.fmin), _hz_to_mel(spec.fmax), spec.bins + 2))
    freqs = np.fft.rfftfreq(spec.n_fft, 1 / spec.sample_rate)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (freqs - lower) / (centre - lower), (upper - freqs) / (upper - centre)
    weights = np.maximum(0, np.minimum(rising, falling)) * (2 / (upper - lower))
    return np.ascontiguousarray(weights, np.float32)


def centres(spec: MelSpec) -> NDArray[np.float64]:
    """Hz at the middle of each filter, [bins]."""
    weights = filterbank(spec).astype(np.float64)
    return weights @ np.fft.rfftfreq(spec.n_fft, 1 / spec.sample_rate) / np.maximum(weights.sum(1), 1e-12)


@lru_cache(maxsize=8)
def hann(win: int, n_fft: int) -> Array:
    """Periodic Hann window of ``win`` samples in the middle of ``n_fft``."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win) / win)
    left = (n_fft - win) // 2
    return np.pad(window, (left, n_fft - win - left)).astype(np.float32)


def _frames(audio: Array, spec: MelSpec) -> Array:
    count = spec.frames(len(audio))
    pad = (spec.n_fft - spec.hop) // 2
    audio = np.pad(audio, (0, max(0, max(pad + 1, spec.hop) - len(audio))))  # reflection needs more than it mirrors
    padded = np.pad(audio, pad, mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop][:count]


def _hz_to_mel(hz: float) -> float:
    """Slaney's scale: linear below 1 kHz, logarithmic above (Auditory Toolbox, 1998)."""
    return 3 * hz / 200 if hz < 1000 else 15 + 27 * float(np.log(hz / 1000)) / float(np.log(6.4))


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))
