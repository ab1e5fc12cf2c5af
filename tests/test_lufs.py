"""Loudness against the standards' own numbers: BS.1770-4's filter table, EBU Tech 3341's tones, scipy's filters."""

from __future__ import annotations

import numpy as np
import pytest

from moksori.runtime import lufs
from moksori.runtime.lufs import Meter

# ITU-R BS.1770-4, tables 1 and 2, for 48 kHz.
SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))


def tone(seconds: float, rate: int, decibels: float, hz: float = 1000.0, channels: int = 1) -> np.ndarray:
    wave = 10 ** (decibels / 20) * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, 1) if channels > 1 else wave


def integrated(samples: np.ndarray, rate: int, block: int = 10_000) -> float:
    meter = Meter(rate)
    for start in range(0, len(samples), block):
        meter.push(samples[start : start + block])
    return meter.integrated()


def test_the_filters_are_the_standards() -> None:
    for (b, a), (right_b, right_a) in zip(lufs.biquads(48_000), (SHELF, HIGH_PASS), strict=True):
        np.testing.assert_allclose(np.array(a) / a[0], right_a, atol=1e-9)
        scale = a[0] if right_b is SHELF[0] else 1  # the table leaves the high-pass's numerator whole
        np.testing.assert_allclose(np.array(b) / scale, right_b, atol=1e-9)


@pytest.mark.parametrize(("rate", "within"), [(16_000, 0.05), (24_000, 0.03), (44_100, 0.01), (48_000, 0.01)])
def test_a_full_scale_tone_in_one_channel_is_minus_3_01(rate: int, within: float) -> None:
    """At low rates the bilinear transform bends the shelf, a little at 1 kHz already."""
    assert integrated(tone(3, rate, 0, 997), rate) == pytest.approx(-3.01, abs=within)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_the_weighting_is_scipys_recursion(rate: int) -> None:
    signal = pytest.importorskip("scipy.signal")
    noise = np.random.default_rng(0).standard_normal(rate)
    right = noise
    for b, a in lufs.biquads(rate):
        right = signal.lfilter(b, a, right)
    found = signal.fftconvolve(noise, lufs.weighting(rate))[: len(noise)]
    np.testing.assert_allclose(found, right, atol=1e-9 * np.abs(right).max())


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(5, -23)], -23.0),  # EBU Tech 3341, cases 1 to 5, shortened
        ([(5, -33)], -33.0),
        ([(2.5, -36), (15, -23), (2.5, -36)], -23.0),
        ([(2.5, -72), (2.5, -36), (15, -23), (2.5, -36), (2.5, -72)], -23.0),
        ([(20, -26), (20.1, -20), (20, -26)], -23.0),
    ],
)
def test_the_gates_are_the_ebus(parts: list[tuple[float, float]], expected: float) -> None:
    rate = 8_000
    samples = np.concatenate([tone(seconds, rate, decibels, channels=2) for seconds, decibels in parts])
    # The shelf at 1 kHz differs between 8 and 48 kHz by what the bilinear transform bends.
    offset = integrated(tone(5, rate, -23, channels=2), rate) + 23
    assert abs(offset) < 0.2
    assert integrated(samples, rate) - offset == pytest.approx(expected, abs=0.1)


def test_blocks_of_any_size_give_the_same() -> None:
    noise = 0.1 * np.random.default_rng(1).standard_normal(30_000)
    whole = integrated(noise, 16_000, 30_000)
    for block in (1, 777, 1600, 29_999):
        if block > 1:
            assert integrated(noise, 16_000, block) == pytest.approx(whole, abs=1e-9)
    assert integrated(noise[:50], 16_000, 1) == pytest.approx(integrated(noise[:50], 16_000), abs=1e-9)


def test_short_and_silent_sounds() -> None:
    assert Meter(48_000).integrated() == -np.inf
    assert integrated(np.zeros(48_000), 48_000) == -np.inf
    assert integrated(tone(0.25, 48_000, 0, 997), 48_000) == pytest.approx(-3.01, abs=0.1)
    meter = Meter(48_000)
    meter.push(tone(0.25, 48_000, 0, 997))
    assert meter.integrated() == meter.integrated()  # asking changes nothing
