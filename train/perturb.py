"""Audio altered in pitch, formants and timbre, so that what a network learns from units is not who speaks.

Units of the altered audio say the same at other times; ``realign`` puts them back on the original's grid.
The idea is that of NANSY (Choi et al. 2021, section 3.1), with a change of speed in place of separate pitch and
formant shifts: it moves both by one ratio, has no artefacts, and costs nothing.
"""

from __future__ import annotations

import hashlib

import numpy as np
import soxr
from numpy.typing import NDArray

Array = NDArray[np.float32]

RATE = 16_000  # Hz
LOWEST_RATIO, HIGHEST_RATIO = 0.72, 1.4  # speed, and so pitch and formants
NEAREST_LOG_RATIO = 0.08  # nearer to 1 the speaker is still there
BANDS = 4  # peaks between the two shelves
GAIN_DB = 6.0
CORNERS_HZ = (80.0, 7000.0)
SNR_DB = (25.0, 45.0)


def altered(audio: Array, rng: np.random.Generator) -> tuple[Array, float]:
    """Change speed, colour and noise of ``audio`` [n] at 16 kHz.

    Returns:
        audio [about n / ratio], and the speed ratio: pitch and formants are multiplied by it, times divided.
    """
    from scipy.signal import sosfilt  # here, so that svc-prepare --help needs no scipy

    ratio = _ratio(rng)
    faster = soxr.resample(np.asarray(audio, np.float32), RATE * ratio, RATE)
    coloured = sosfilt(_equaliser(rng), faster)
    noisy = coloured + _noise(coloured, rng)
    return (noisy / max(1.0, float(np.abs(noisy).max(initial=0)))).astype(np.float32), ratio


def realign(units: Array, ratio: float, count: int) -> Array:
    """Bring units [Tu, D] of audio played ``ratio`` times as fast to the ``count`` units of the original.

    Unit i stands for the time (i + 1/2) · hop; between units it is linear, beyond the ends constant: [count, D].
    """
    position = np.clip((np.arange(count) + 0.5) / ratio - 0.5, 0, len(units) - 1)
    left = np.minimum(position.astype(np.int64), max(0, len(units) - 2))
    right = np.minimum(left + 1, len(units) - 1)
    weight = (position - left)[:, None].astype(np.float32)
    return units[left] * (1 - weight) + units[right] * weight


def generator(name: str, variant: int) -> np.random.Generator:
    """The same random numbers for the same slice and variant, on every machine."""
    digest = hashlib.sha256(f"{name}/{variant}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _ratio(rng: np.random.Generator) -> float:
    """Log-uniform over both sides of 1, each side weighed by its length."""
    down, up = -np.log(LOWEST_RATIO) - NEAREST_LOG_RATIO, np.log(HIGHEST_RATIO) - NEAREST_LOG_RATIO
    draw = rng.uniform(-down, up)
    return float(np.exp(draw + np.copysign(NEAREST_LOG_RATIO, draw)))


def _equaliser(rng: np.random.Generator) -> NDArray[np.float64]:
    """Second-order sections: a low shelf, some peaks, a high shelf, each of up to ±6 dB."""
    low, high = np.log(CORNERS_HZ)
    peaks = np.exp(rng.uniform(low, high, BANDS))
    widths = rng.uniform(0.5, 2.0, BANDS)
    gains = rng.uniform(-GAIN_DB, GAIN_DB, BANDS + 2)
    shelves = (_shelf(float(rng.uniform(100, 400)), gains[0], 1), _shelf(float(rng.uniform(2000, 5000)), gains[1], -1))
    return np.array([*shelves, *(_peak(f, g, q) for f, g, q in zip(peaks, gains[2:], widths, strict=True))])


def _peak(hz: float, gain_db: float, q: float) -> NDArray[np.float64]:
    """Peaking section of R. Bristow-Johnson's Audio EQ Cookbook."""
    omega, root = 2 * np.pi * hz / RATE, 10 ** (gain_db / 40)
    alpha, cos = np.sin(omega) / (2 * q), np.cos(omega)
    section = np.array([1 + alpha * root, -2 * cos, 1 - alpha * root, 1 + alpha / root, -2 * cos, 1 - alpha / root])
    return section / section[3]


def _shelf(hz: float, gain_db: float, side: int) -> NDArray[np.float64]:
    """Shelving section of the same cookbook with Q = 1/√2; side 1 is the low shelf, -1 the high one."""
    omega, root = 2 * np.pi * hz / RATE, 10 ** (gain_db / 40)
    cos, slope = side * np.cos(omega), np.sin(omega) * np.sqrt(2 * root)
    plus, minus = root + 1, root - 1
    top = root * np.array([plus - minus * cos + slope, 2 * side * (minus - plus * cos), plus - minus * cos - slope])
    bottom = np.array([plus + minus * cos + slope, -2 * side * (minus + plus * cos), plus + minus * cos - slope])
    return np.concatenate([top, bottom]) / bottom[0]


def _noise(audio: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise between white and brown, 25 to 45 dB below the audio."""
    from scipy.fft import next_fast_len

    slope, snr = rng.uniform(0, 2), rng.uniform(*SNR_DB)
    size = next_fast_len(len(audio), real=True)
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / RATE), 50.0)
    spectrum = np.fft.rfft(rng.standard_normal(size)) * frequency ** (-slope / 2)
    noise = np.fft.irfft(spectrum, size)[: len(audio)]
    level = np.sqrt(np.mean(audio**2) / max(float(np.mean(noise**2)), 1e-20))
    return noise * level * 10 ** (-snr / 20)
