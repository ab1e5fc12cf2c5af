"""What vocoders excite themselves with: phase in float64, and for the iSTFT kind the spectra of pulses and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import mel

Array = NDArray[np.float32]

TAPS = 16  # length of the windowed sinc that places a pulse between samples
TABLE = 256  # sub-sample positions


def phases(f0: Array, hop: int, rate: int, start: float = 0.0) -> NDArray[np.float64]:
    """Phase in cycles at every sample, summed in float64.

    Args:
        f0: [T + 2] Hz at frame centres, one frame of context on each side.
        start: phase in cycles before the first sample.
    Returns:
        [T·hop]; the last value is the next chunk's ``start`` (its fraction is enough).
    """
    count = len(f0) - 2
    samples = (np.arange(count * hop) + 0.5) / hop + 0.5  # in frames, where frame centres are 0, 1, 2, … of f0
    per_sample = np.interp(samples, np.arange(len(f0)), f0.astype(np.float64)) / rate
    return start + np.cumsum(per_sample)


def frame_phases(f0: Array, spec: mel.MelSpec, bend: float = 0.0) -> NDArray[np.float64]:
    """Phase in cycles at the begin of every frame, [T], from 0 on; summed in float64.

    Args:
        f0: [T] Hz at the frames' begins.
        bend: share of the way to the next frame's f0 that a frame has on average; 0 when f0 is held.
    """
    hertz = f0.astype(np.float64)
    per_frame = (hertz[:-1] + np.diff(hertz) * bend) * (spec.hop / spec.sample_rate)
    return np.concatenate([np.zeros(min(1, len(f0))), np.cumsum(per_frame)])


def pulses(phase: NDArray[np.float64], start: float) -> Array:
    """Unit-power pulse train, [n + TAPS]: a band-limited impulse at every whole cycle, scaled by √period.

    The impulse of sample s lies at index s + TAPS/2 and reaches TAPS/2 samples to each side, so that chunks can be
    added into one signal.
    """
    before = np.concatenate([[start], phase[:-1]])
    hits = np.flatnonzero(np.floor(phase) > np.floor(before))
    step = phase[hits] - before[hits]
    back = (phase[hits] - np.floor(phase[hits])) / step  # samples since the crossing, 0…1
    shape = _sinc_table()[np.minimum((back * TABLE).astype(np.int64), TABLE - 1)] / np.sqrt(step)[:, None]
    out = np.zeros(len(phase) + TAPS)
    np.add.at(out, hits[:, None] + np.arange(TAPS), shape)
    return out.astype(np.float32)


def windows(signal: Array, count: int, spec: mel.MelSpec) -> Array:
    """``count`` frames of n_fft samples, a hop apart, from the signal's first sample on: [count, n_fft]."""
    return np.lib.stride_tricks.sliding_window_view(signal, spec.n_fft)[:: spec.hop][:count]


def spectrum(frames: Array, spec: mel.MelSpec) -> Array:
    """Unit-power spectra of windowed frames [T, n_fft] -> [T, 2, K] (real, imaginary)."""
    window = mel.hann(spec.win, spec.n_fft)
    scale = 1 / np.sqrt((window.astype(np.float64) ** 2).sum())
    transform = np.fft.rfft(frames * window, axis=-1)
    return (np.stack([transform.real, transform.imag], axis=-2) * scale).astype(np.float32)


def overlap_add(spectra: Array, spec: mel.MelSpec) -> tuple[Array, Array]:
    """Inverse transform of spectra [T, 2, K] on the mel frames.

    Returns:
        The sum of windowed frames and the sum of squared windows, both [(T - 1)·hop + n_fft]: their quotient is the
        signal (Griffin & Lim 1984, eq. 6), and both can be added across chunks.
    """
    window = mel.hann(spec.win, spec.n_fft)
    joined = np.stack([spectra[:, 0], spectra[:, 1]], axis=-1).view(np.complex64)[..., 0]
    frames = np.fft.irfft(joined, n=spec.n_fft, axis=-1) * window
    total = np.zeros((2, (len(frames) - 1) * spec.hop + spec.n_fft))
    squared = window.astype(np.float64) ** 2
    for index, frame in enumerate(frames):
        place = slice(index * spec.hop, index * spec.hop + spec.n_fft)
        total[0, place] += frame
        total[1, place] += squared
    return total[0].astype(np.float32), total[1].astype(np.float32)


def _sinc_table() -> NDArray[np.float64]:
    """Windowed sincs for an impulse that lies ``back`` samples before index TAPS/2, [TABLE, TAPS]."""
    back = (np.arange(TABLE) + 0.5) / TABLE
    place = np.arange(TAPS) - TAPS // 2 + back[:, None]
    return np.sinc(place) * np.cos(np.pi * place / (TAPS + 2)) ** 2
