"""Loudness as broadcasters and streaming services measure it: ITU-R BS.1770-4, gated, in LUFS, over a stream."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

STEP_SECONDS = 0.1  # blocks of 400 ms that overlap by three quarters advance by it
STEPS = 4
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU below the mean of what passes the absolute gate
OFFSET = -0.691  # makes a 997 Hz sine of full scale in one channel -3.01 LUFS


class Meter:
    """Takes a stream of [n] or [n, channels] samples at ``rate`` Hz; left and right count alike (equation 2, G = 1).

    Keeps one number for every tenth of a second.
    """

    def __init__(self, rate: int) -> None:
        self.step = max(1, round(rate * STEP_SECONDS))
        self._reach, self._size, self._spectrum = _convolver(rate)
        self._past = np.zeros((0, 1))  # what the filter still hears
        self._held = np.zeros(0)  # weighted energies that do not fill a step yet
        self._energies: list[float] = []  # of whole steps, summed over channels

    def push(self, samples: NDArray[np.floating]) -> None:
        columns = samples.reshape(len(samples), -1)
        for start in range(0, len(columns), self._size - self._reach):
            piece = columns[start : start + self._size - self._reach].astype(np.float64)
            squares = np.concatenate([self._held, np.square(self._weighted(piece)).sum(1)])
            whole = len(squares) // self.step * self.step
            self._energies += squares[:whole].reshape(-1, self.step).mean(1).tolist()
            self._held = squares[whole:]

    def integrated(self) -> float:
        """LUFS of all that was pushed (equations 3 to 7), -inf for silence. Less than 400 ms are one block."""
        energies = np.array(self._energies)
        if len(energies) < STEPS:
            energies = np.append(energies, [self._held.mean()] if len(self._held) else [])
            return _lufs(float(energies.mean())) if len(energies) else -np.inf
        blocks = np.convolve(energies, np.full(STEPS, 1 / STEPS), "valid")
        loud = blocks[blocks > _energy(ABSOLUTE_GATE)]
        if not len(loud):
            return -np.inf
        return _lufs(float(loud[loud > _energy(_lufs(float(loud.mean())) + RELATIVE_GATE)].mean()))

    def _weighted(self, samples: Numbers) -> Numbers:
        """Filter the next samples [n, channels], n ≤ size - reach, by fast convolution."""
        if self._past.shape[1] != samples.shape[1] or not len(self._past):
            self._past = np.zeros((self._reach, samples.shape[1]))
        joined = np.concatenate([self._past, samples])
        self._past = joined[len(samples) :]
        # What wraps around falls on the past, which is cut off.
        spectrum = np.fft.rfft(joined, self._size, axis=0) * self._spectrum[:, None]
        return np.fft.irfft(spectrum, self._size, axis=0)[self._reach : len(joined)]


@lru_cache(maxsize=8)
def _convolver(rate: int) -> tuple[int, int, NDArray[np.complex128]]:
    """Samples of past that the weighting hears, length of a transform, and the weighting's own."""
    response = weighting(rate)
    reach = len(response) - 1
    size = 1 << (4 * reach).bit_length()  # short, so that it stays in the processor's cache
    return reach, size, np.fft.rfft(response, size)


@lru_cache(maxsize=8)
def weighting(rate: int) -> Numbers:
    """Impulse response of the K-weighting, an eighth of a second: its slowest pole has then fallen by 250 dB.

    The standard gives two biquads at 48 kHz; these are they at any rate, by the bilinear transform of their analogue
    prototypes (De Man, "Evaluation of Implementations of the EBU R128 Loudness Measurement", AES 145, 2018).
    """
    count = rate // 8
    turn = 2 * np.pi * np.arange(count // 2 + 1) / count
    z = np.cos(turn) - 1j * np.sin(turn)  # z to the power -1
    response = np.ones(len(z), np.complex128)
    for b, a in biquads(rate):
        response *= np.polyval(b[::-1], z) / np.polyval(a[::-1], z)
    return np.fft.irfft(response, count)


def biquads(rate: int) -> list[tuple[Numbers, Numbers]]:
    """(b, a) of the head's high shelf and of the high-pass."""
    k, q, gain = np.tan(np.pi * 1681.974450955533 / rate), 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    middle = gain**0.4996667741545416
    norm = 1 + k / q + k * k
    shelf = np.array([gain + middle * k / q + k * k, 2 * (k * k - gain), gain - middle * k / q + k * k]) / norm
    shelf_poles = np.array([norm, 2 * (k * k - 1), 1 - k / q + k * k]) / norm
    k, q = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    norm = 1 + k / q + k * k
    return [
        (shelf, shelf_poles),
        (np.array([1.0, -2.0, 1.0]), np.array([norm, 2 * (k * k - 1), 1 - k / q + k * k]) / norm),
    ]


def _lufs(energy: float) -> float:
    return OFFSET + 10 * float(np.log10(energy)) if energy > 0 else -np.inf


def _energy(lufs: float) -> float:
    return 10 ** ((lufs - OFFSET) / 10)
