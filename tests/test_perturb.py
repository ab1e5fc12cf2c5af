"""Altered audio moves pitch by the ratio it says; units come back to the original's times."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import freqz, sosfilt

from moksori.train import perturb

RATE = perturb.RATE


def test_pitch_moves_and_time_shrinks_by_the_ratio() -> None:
    signal = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(4 * RATE) / RATE)).astype(np.float32)
    ratios = []
    for variant in range(20):
        found, ratio = perturb.altered(signal, perturb.generator("a", variant))
        spectrum = np.abs(np.fft.rfft(found * np.hanning(len(found)), 1 << 18))
        assert spectrum.argmax() * RATE / (1 << 18) == pytest.approx(1000 * ratio, rel=1e-3)
        assert len(found) == pytest.approx(len(signal) / ratio, abs=1)
        assert found.dtype == np.float32
        assert np.abs(found).max() <= 1
        ratios.append(ratio)
    assert min(ratios) >= 0.72
    assert max(ratios) <= 1.4
    assert min(abs(np.log(ratios))) >= 0.08
    assert min(ratios) < 0.85
    assert max(ratios) > 1.2


def test_the_same_slice_is_altered_the_same_way_and_others_are_not() -> None:
    signal = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32)
    once, again, other = (perturb.altered(signal, perturb.generator(*name)) for name in [("a", 1), ("a", 1), ("b", 1)])
    np.testing.assert_array_equal(once[0], again[0])
    assert once[1] == again[1] != other[1]


def test_noise_lies_25_to_45_db_below_and_colour_within_6_db() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        signal = rng.standard_normal(RATE)
        noise = perturb._noise(signal, rng)
        assert 24.9 <= 10 * np.log10(np.mean(signal**2) / np.mean(noise**2)) <= 45.1
        assert len(noise) == len(signal)


@pytest.mark.parametrize("gain", [-6.0, 3.0, 6.0])
def test_filters_have_the_gain_they_are_asked_for(gain: float) -> None:
    def decibels(section: np.ndarray, hz: float) -> float:
        response = freqz(section[:3], section[3:], worN=[hz], fs=RATE)[1][0]
        return float(20 * np.log10(abs(response)))

    peak = perturb._peak(1000, gain, 1.0)
    assert [decibels(peak, hz) for hz in (0, 1000, 8000)] == pytest.approx([0, gain, 0], abs=1e-6)
    low, high = perturb._shelf(300, gain, 1), perturb._shelf(3000, gain, -1)
    assert [decibels(low, hz) for hz in (0, 300, 8000)] == pytest.approx([gain, gain / 2, 0], abs=1e-6)
    assert [decibels(high, hz) for hz in (0, 3000, 8000)] == pytest.approx([0, gain / 2, gain], abs=1e-6)


def test_every_equaliser_is_stable() -> None:
    impulse = np.eye(1, RATE)[0]
    for seed in range(50):
        tail = sosfilt(perturb._equaliser(np.random.default_rng(seed)), impulse)[-100:]
        assert np.abs(tail).max() < 1e-6


@pytest.mark.parametrize("ratio", [0.72, 0.9, 1.1, 1.4])
def test_units_return_to_their_times(ratio: float) -> None:
    """A unit that tells the time, heard faster, tells the original's time after realigning."""
    count = 200
    faster = (np.arange(round(count / ratio)) + 0.5) * 0.02 * ratio
    found = perturb.realign(np.stack([faster, -faster], 1), ratio, count)
    times = (np.arange(count) + 0.5) * 0.02
    assert found.shape == (count, 2)
    np.testing.assert_allclose(found[2:-2], np.stack([times, -times], 1)[2:-2], atol=1e-6)
    assert np.abs(found[:, 0] - times).max() <= 0.02


def test_one_unit_is_repeated() -> None:
    np.testing.assert_array_equal(perturb.realign(np.ones((1, 3), np.float32), 1.3, 4), np.ones((4, 3)))
