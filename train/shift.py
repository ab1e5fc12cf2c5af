"""Targets moved in pitch, formants with it, so that a voice sings beyond the range that it was recorded in.

The network is told by how much (Conditioner.shift_in), so it learns both what the singer sounds like, at 0, and what
harmonics at other f0 look like. This is the "augmentation shift" of DDSP-SVC and Diffusion-SVC: a window ratio times as
long is read as if it had the usual length, which multiplies every frequency by the ratio and leaves time alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import mel
from moksori.runtime.mel import MelSpec

Array = NDArray[np.float32]

FARTHEST = 5.0  # semitones, either way


def length(semitones: float, spec: MelSpec) -> int:
    """Samples of the window that moves a mel by about ``semitones``, such that it lies evenly around a frame."""
    return spec.hop + 2 * round((spec.n_fft * 2 ** (semitones / 12) - spec.hop) / 2)


def log_mel_frames(windows: Array, spec: MelSpec) -> Array:
    """Log mel [T, M] of windows [T, L], every frequency times L / n_fft; what had been above the highest is silent."""
    samples = windows.shape[1]
    window = mel.hann(spec.win * samples // spec.n_fft // 2 * 2, samples)
    magnitude = np.abs(np.fft.rfft(windows * window, axis=-1)) * (spec.n_fft / samples)
    wanted = spec.n_fft // 2 + 1
    magnitude = np.pad(magnitude, ((0, 0), (0, max(0, wanted - magnitude.shape[1]))))[:, :wanted]
    return np.log(np.maximum(magnitude @ mel.filterbank(spec).T, mel.FLOOR)).astype(np.float32)


def drawn(share: float, seed: int, index: int) -> float:
    """Semitones for crop number ``index``: 0 for all but a ``share`` of them, and the same for the same crop."""
    rng = np.random.default_rng([seed, index, 2])
    moved, semitones = rng.random() < share, rng.uniform(-FARTHEST, FARTHEST)
    return float(semitones) if moved else 0.0
