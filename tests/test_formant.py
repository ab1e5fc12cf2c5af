"""Formants: a vowel's resonances move by the asked ratio, its harmonics stay, and nothing asked changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from moksori.runtime import formant
from moksori.runtime.mel import MelSpec, filterbank, log_mel

SPEC = MelSpec()
RATE = SPEC.sample_rate
FORMANTS, WIDTHS = np.array([700.0, 1200.0, 2600.0, 3800.0]), np.array([90.0, 110.0, 160.0, 200.0])


def vowel(f0: float, ratio: float = 1.0, seconds: float = 0.5) -> np.ndarray:
    """Harmonics under four resonances at ``ratio`` times their place (Fant's source and filter)."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = np.zeros(len(time))
    for k in range(1, int(11_000 / f0)):
        s = 1j * k * f0
        gains = (FORMANTS * ratio) ** 2 / ((FORMANTS * ratio) ** 2 + s**2 + s * WIDTHS * ratio)
        wave += np.abs(np.prod(gains)) / (1 + (k * f0 / 500) ** 2) ** 0.5 * np.sin(2 * np.pi * k * f0 * time + k)
    return (0.1 * wave / np.abs(wave).max()).astype(np.float32)


def shifted(frames: np.ndarray, f0: float, semitones: float) -> np.ndarray:
    """All frames at one f0; 0 for unvoiced."""
    hertz, voiced = np.full(len(frames), f0 or 220, np.float32), np.full(len(frames), f0 > 0)
    return formant.shifted(frames, hertz, voiced, semitones, SPEC)


def resonances(mel: np.ndarray) -> np.ndarray:
    """Where linear prediction on the mel spectrum sees the first three formants: mel -> power -> LPC -> root angles."""
    weights = filterbank(SPEC).astype(np.float64)
    centres = weights @ np.fft.rfftfreq(SPEC.n_fft, 1 / RATE) / weights.sum(1)
    frequencies = np.linspace(0, 5500, 600)
    level = 2 * np.interp(frequencies, centres, np.median(mel, 0) - np.log(weights.sum(1)))
    power = np.exp(level) * (1 + (frequencies / 500) ** 2)
    correlation = np.fft.irfft(np.concatenate([power, power[-2:0:-1]]).astype(complex))[:13]
    order = 10
    matrix = correlation[np.abs(np.subtract.outer(np.arange(order), np.arange(order)))]
    solution = np.linalg.solve(matrix + 1e-9 * matrix[0, 0] * np.eye(order), correlation[1 : order + 1])
    roots = np.roots(np.concatenate([[1], -solution]))
    found = sorted(angle for angle in np.angle(roots[np.abs(roots) > 0.7]) if angle > 0.05)
    return np.array(found[:3]) * 5500 / np.pi


@pytest.mark.parametrize("semitones", [-3.0, 2.0, 4.0])
def test_the_envelope_moves_as_a_longer_or_shorter_throat_would(semitones: float) -> None:
    ratio = 2 ** (semitones / 12)
    moved = shifted(log_mel(vowel(130), SPEC)[5:-5], 130, semitones)
    right = log_mel(vowel(130, ratio), SPEC)[5:-5]
    plain = log_mel(vowel(130), SPEC)[5:-5]
    smooth = np.ones(9) / 9
    near, far = (
        np.convolve(np.median(right, 0) - np.median(other, 0), smooth, "valid")[5:85] for other in (moved, plain)
    )
    assert np.std(near) < 0.5 * np.std(far)


@pytest.mark.parametrize("semitones", [-2.0, 2.0, 3.0])
def test_linear_prediction_hears_the_other_throat(semitones: float) -> None:
    """Its resonances are those of a vowel made with moved formants; mel bins blur both alike."""
    plain, real = (log_mel(vowel(110, 2 ** (n / 12)), SPEC)[5:-5] for n in (0.0, semitones))
    found = resonances(shifted(plain, 110, semitones))[:2]
    np.testing.assert_allclose(found, resonances(real)[:2], rtol=0.07)
    assert ((found > resonances(plain)[:2]) == (semitones > 0)).all()


def test_harmonics_stay_where_they_are() -> None:
    frames = log_mel(vowel(300), SPEC)[5:-5]
    mel, moved = np.median(frames, 0), np.median(shifted(frames, 300, 4.0), 0)
    low = slice(2, 40)  # below 1.4 kHz single harmonics are seen
    peaks = [set(np.flatnonzero(np.diff(np.sign(np.diff(one[low]))) < 0)) for one in (mel, moved)]
    assert len(peaks[0]) >= 4
    assert all(min(abs(peak - other) for other in peaks[1]) <= 1 for peak in peaks[0])


def test_nothing_asked_changes_nothing_and_silence_stays() -> None:
    frames = log_mel(vowel(200), SPEC)
    np.testing.assert_allclose(shifted(frames, 200, 0.0), frames, atol=1e-5)
    flat = np.full((3, SPEC.bins), np.log(1e-5), np.float32)
    for hz in (0, 55, 1500):
        np.testing.assert_allclose(shifted(flat, hz, 5.0), flat, atol=1e-5)


def test_breath_moves_whole() -> None:
    """An unvoiced frame has no harmonics to keep."""
    bump = np.zeros((1, SPEC.bins), np.float32)
    bump[0, 50] = 3.0
    weights = filterbank(SPEC).astype(np.float64)
    centres = weights @ np.fft.rfftfreq(SPEC.n_fft, 1 / RATE) / weights.sum(1)
    moved = shifted(bump, 0, 3.0)[0]
    assert abs(12 * np.log2(centres[moved.argmax()] / centres[50]) - 3) < 0.3 and moved.min() >= 0


@pytest.mark.parametrize("bins", [20, 80, 128, 256])
def test_any_mel_can_be_moved(bins: int) -> None:
    spec = MelSpec(44_100, 512, 2048, 2048, bins, 40.0, 16_000.0)
    frames = np.random.default_rng(0).standard_normal((4, bins)).astype(np.float32)
    f0, voiced = np.array([30.0, 200.0, 1600.0, 440.0], np.float32), np.array([True, True, True, False])
    assert np.isfinite(formant.shifted(frames, f0, voiced, 12.0, spec)).all()
