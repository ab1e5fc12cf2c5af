"""What vocoders excite themselves with: phase in float64, and for the iSTFT kind the spectra of pulses and noise."""

from __future__ import annotations

from functools import lru_cache

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
    before = np.maximum(0.5 - (np.arange(hop) + 0.5) / hop, 0)  # at each sample, the weight of the last frame's f0
    weights = np.stack([before, 1 - before - before[::-1], before[::-1]])
    hertz = f0.astype(np.float64)
    around = np.stack([hertz[:-2], hertz[1:-1], hertz[2:]], axis=1)
    phase: NDArray[np.float64] = np.cumsum(around @ (weights / rate))
    phase += start
    return phase


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
    hits = np.flatnonzero(np.diff(np.floor(phase), prepend=np.floor(start)) > 0)
    step = phase[hits] - np.where(hits > 0, phase[hits - 1], start)
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
    weights = window * np.float32(spec.n_fft / np.sqrt((window.astype(np.float64) ** 2).sum()))
    spectra = np.empty((len(frames), 2, spec.n_fft // 2 + 1), np.float32)
    for first in range(0, len(frames), mel.ROWS):
        some = frames[first : first + mel.ROWS].astype(np.float32, copy=False) * weights
        # Only with a float32 factor, which this norm brings, does numpy transform float32 as such, five times as fast.
        transform = np.fft.rfft(some, norm="forward")
        spectra[first : first + mel.ROWS, 0], spectra[first : first + mel.ROWS, 1] = transform.real, transform.imag
    return spectra


def overlap_add(spectra: Array, spec: mel.MelSpec) -> tuple[Array, Array]:
    """Inverse transform of spectra [T, 2, K] on the mel frames.

    Returns:
        The sum of windowed frames and the sum of squared windows, both [(T - 1)·hop + n_fft]: their quotient is the
        signal (Griffin & Lim 1984, eq. 6), and both can be added across chunks.
    """
    window, count, parts = mel.hann(spec.win, spec.n_fft), len(spectra), -(-spec.n_fft // spec.hop)
    total = np.zeros((2, count + parts - 1, spec.hop), np.float32)  # a row for each hop
    beyond = np.zeros(parts * spec.hop - spec.n_fft, np.float32)
    squared = np.concatenate([np.square(window), beyond]).reshape(parts, spec.hop)
    rows = np.zeros((min(count, mel.ROWS), parts * spec.hop), np.float32)
    for first in range(0, count, mel.ROWS):
        some = spectra[first : first + mel.ROWS]
        joined = np.empty((len(some), some.shape[-1]), np.complex64)
        joined.real, joined.imag = some[:, 0], some[:, 1]
        np.multiply(np.fft.irfft(joined, n=spec.n_fft), window, out=rows[: len(some), : spec.n_fft])
        frames = rows[: len(some)].reshape(-1, parts, spec.hop)
        for part in range(parts):
            total[0, first + part : first + part + len(some)] += frames[:, part]
    for part in range(parts):
        total[1, part : part + count] += squared[part]
    signal, weight = total.reshape(2, -1)[:, : (count - 1) * spec.hop + spec.n_fft]
    return signal, weight


@lru_cache(maxsize=1)
def _sinc_table() -> NDArray[np.float64]:
    """Windowed sincs for an impulse that lies ``back`` samples before index TAPS/2, [TABLE, TAPS]."""
    back = (np.arange(TABLE) + 0.5) / TABLE
    place = np.arange(TAPS) - TAPS // 2 + back[:, None]
    return np.sinc(place) * np.cos(np.pi * place / (TAPS + 2)) ** 2
