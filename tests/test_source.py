"""The excitation: pulses at every cycle, in tune and of unit power, and an overlap-add that gives signals back."""

from __future__ import annotations

import numpy as np
import pytest

from moksori.runtime import mel, source
from moksori.runtime.istft_vocoder import Harmonics
from moksori.runtime.mel import MelSpec

SPEC = MelSpec()
RATE, HOP = SPEC.sample_rate, SPEC.hop


def train(hertz: float, frames: int = 100) -> np.ndarray:
    phase = source.phases(np.full(frames + 2, hertz, np.float32), HOP, RATE)
    return source.pulses(phase, 0.0)


@pytest.mark.parametrize("hertz", [82.4, 220, 441.7])
def test_constant_f0_is_a_line_spectrum_of_unit_power(hertz: float) -> None:
    pulses = train(hertz)[source.TAPS : -source.TAPS]
    assert np.mean(pulses.astype(np.float64) ** 2) == pytest.approx(1, abs=0.12)  # the sinc's taps end, its band too
    window = np.hanning(len(pulses))
    power = np.abs(np.fft.rfft(pulses * window)) ** 2
    freqs = np.fft.rfftfreq(len(pulses), 1 / RATE)
    below = freqs < 8_000
    off = np.abs(freqs / hertz - np.round(freqs / hertz)) * hertz  # distance to the nearest harmonic in Hz
    near = off < 4 * RATE / len(pulses)
    assert power[below & ~near].sum() < 1e-3 * power[below & near].sum()
    heights = [power[np.abs(freqs - k * hertz) < 4].max() for k in range(1, int(8_000 / hertz))]
    assert 10 * np.log10(max(heights) / min(heights)) < 3  # all harmonics alike


def test_pulses_lie_between_samples() -> None:
    """The centre of each pulse is where the phase crosses a whole number, to a few hundredths of a sample."""
    hertz = 97.3
    pulses = train(hertz).astype(np.float64)
    for cycle in (1, 7, 20):
        wanted = cycle * RATE / hertz - 1 + source.TAPS // 2  # phase counts the first sample already
        around = np.arange(int(wanted) - 20, int(wanted) + 20)
        fine = np.linspace(wanted - 1, wanted + 1, 2_001)
        wave = np.sinc(fine[:, None] - around) @ pulses[around]
        assert fine[wave.argmax()] == pytest.approx(wanted, abs=0.05)


def test_phase_is_the_integral_of_f0() -> None:
    """Linear f0: the phase is a quadratic, in cycles; in float64, an hour on it is still exact."""
    frames = 200
    hertz = np.linspace(100, 300, frames + 2)
    phase = source.phases(hertz, HOP, RATE, start=0.25)
    slope = (hertz[1] - hertz[0]) / HOP
    at = np.arange(1, frames * HOP + 1)
    start = hertz[1] - slope * HOP / 2  # f0 at the first frame's first edge
    wanted = 0.25 + (start * at + slope * at**2 / 2) / RATE
    np.testing.assert_allclose(phase, wanted, atol=1e-6)
    assert phase.dtype == np.float64


@pytest.mark.parametrize("cuts", [[1], [50, 51, 130], list(range(1, 200))])
def test_a_train_made_in_parts_is_the_whole(cuts: list[int]) -> None:
    hertz = (250 * 2 ** np.cumsum(np.random.default_rng(0).normal(0, 0.03, 202))).astype(np.float32)
    whole, parts = Harmonics(SPEC), Harmonics(SPEC)
    whole.extend(hertz)
    for begin, end in zip([0, *cuts], [*cuts, 200], strict=True):
        parts.extend(hertz[begin : end + 2])
    assert parts.frames == whole.frames == 200
    np.testing.assert_allclose(parts.train, whole.train, atol=1e-4)  # a pulse's place is one of 256 in a sample
    assert np.abs(parts.train - whole.train).mean() < 1e-6
    distance = (parts.phase - whole.phase + 0.5) % 1 - 0.5
    assert abs(distance) < 1e-9


@pytest.mark.parametrize("spec", [SPEC, MelSpec(44_100, 512, 2048, 2048), MelSpec(8_000, 80, 256, 200, 8, 40, 4_000)])
def test_overlap_add_inverts_the_spectrum(spec: MelSpec) -> None:
    frames = 30
    signal = np.random.default_rng(0).standard_normal((frames - 1) * spec.hop + spec.n_fft).astype(np.float32)
    spectra = source.spectrum(source.windows(signal, frames, spec), spec)
    assert spectra.shape == (frames, 2, spec.n_fft // 2 + 1)
    total, weight = source.overlap_add(spectra, spec)
    inner = slice((spec.n_fft - spec.hop) // 2, -(spec.n_fft - spec.hop) // 2)
    norm = np.sqrt((mel.hann(spec.win, spec.n_fft).astype(np.float64) ** 2).sum())
    np.testing.assert_allclose(total[inner] / weight[inner] * norm, signal[inner], atol=1e-4)


def test_spectra_of_white_noise_have_unit_power() -> None:
    white = np.random.default_rng(0).standard_normal(300 * HOP).astype(np.float32)
    spectra = source.spectrum(source.windows(white, 290, SPEC), SPEC)
    power = (spectra.astype(np.float64) ** 2).sum(1)[:, 1:-1]
    assert power.mean() == pytest.approx(1, abs=0.02)
