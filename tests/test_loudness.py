"""Levels against tones and noise of known power, the limiter's curve, and the gate."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from moksori.runtime import loudness
from moksori.runtime.loudness import Gate
from moksori.runtime.mel import MelSpec

SPEC = MelSpec()
TIME = np.arange(3 * SPEC.sample_rate) / SPEC.sample_rate


def tone(decibels: float, hertz: float = 440) -> np.ndarray:
    """A sine whose RMS is ``decibels`` below full scale."""
    return (np.sqrt(2) * 10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * TIME)).astype(np.float32)


@pytest.mark.parametrize("decibels", [-6, -20.3, -41, -60])
def test_the_level_of_a_tone(decibels: float) -> None:
    assert loudness.active_level([tone(decibels)], SPEC) == pytest.approx(decibels, abs=0.3)  # bins of half a dB


def test_pauses_are_not_part_of_the_level_and_blocks_do_not_matter() -> None:
    signal = np.where(TIME % 1 < 0.4, tone(-18), 0).astype(np.float32)
    found = [loudness.active_level(np.array_split(signal, parts), SPEC) for parts in (1, 3, 10)]
    assert found == pytest.approx([-18] * 3, abs=0.5)


def test_clicks_are_not_the_level() -> None:
    """One fills five frames of 300 with some -27 dB, far above what counts as singing beside it."""
    signal = tone(-60)
    signal[40_000] = 1
    assert loudness.active_level([signal], SPEC) == pytest.approx(-60, abs=0.5)


@pytest.mark.parametrize("signal", [np.zeros(5_000), np.zeros(0), np.ones(1), np.full(9_000, 1e-5)])
def test_silence_has_no_level(signal: np.ndarray) -> None:
    assert loudness.active_level([signal.astype(np.float32)], SPEC) is None
    assert loudness.active_level([], SPEC) is None


def test_gain_is_in_decibels() -> None:
    np.testing.assert_allclose(loudness.amplified(tone(-20), 14), tone(-6), atol=1e-6)


def test_the_limiter() -> None:
    """Straight to the knee, then bent: rising, smooth, odd, never beyond full scale."""
    x = np.linspace(0, 3, 3_001).astype(np.float32)
    y = loudness.limited(x)
    np.testing.assert_array_equal(y[x <= 0.9], x[x <= 0.9])
    assert (np.diff(y) >= 0).all()
    assert (np.diff(y)[x[1:] < 1.2] > 0).all()
    assert y.max() <= 1
    assert (y[x < 1.4] < 1).all()
    np.testing.assert_array_equal(loudness.limited(-x), -y)
    slopes = np.diff(y) / np.diff(x)
    assert np.abs(np.diff(slopes)).max() < 0.02  # no corner at the knee


def gated(signal: np.ndarray, levels: np.ndarray, cuts: list[int]) -> np.ndarray:
    """The gate fed in frames ``cuts``; samples follow a frame behind, as they do behind the vocoder."""
    gate, out, hop = Gate(SPEC), [], SPEC.hop
    edges = [0, *cuts, len(levels)]
    done = 0
    for begin, end in pairwise(edges):
        gate.push(levels[begin:end])
        until = len(signal) if end == len(levels) else max(done, (end - 1) * hop)
        out.append(gate.apply(signal[done:until]))
        done = until
    return np.concatenate(out)


def test_the_gate_shuts_out_silence_and_leaves_sound_alone() -> None:
    levels = np.repeat([-80.0, -30.0, -80.0], 40)
    signal = np.ones(120 * SPEC.hop, np.float32)
    found = gated(signal, levels, []).reshape(120, SPEC.hop)
    np.testing.assert_array_equal(found[:39], 0)
    np.testing.assert_array_equal(found[41 : 79 + Gate.HOLD - 1], 1)
    np.testing.assert_array_equal(found[80 + Gate.HOLD + 1 :], 0)
    np.testing.assert_allclose(found.reshape(-1)[40 * SPEC.hop - 1 : 40 * SPEC.hop + 1], 0.5, atol=1 / SPEC.hop)
    steps = np.diff(found.reshape(-1))
    assert np.abs(steps).max() == pytest.approx(1 / SPEC.hop, rel=1e-3)  # ramps of one frame
    assert (steps[: 60 * SPEC.hop] >= 0).all() and (steps[60 * SPEC.hop :] <= 0).all()


def test_the_gate_has_hysteresis() -> None:
    """Between its two levels it stays as it was."""
    between = (Gate.OPEN_DB + Gate.CLOSE_DB) / 2
    levels = np.r_[np.full(30, between), np.full(5, -40), np.full(60, between)]
    found = gated(np.ones(95 * SPEC.hop, np.float32), levels, []).reshape(95, SPEC.hop)
    assert found[:29].max() == 0
    assert found[32:].min() == 1


def test_the_gate_does_not_care_how_it_is_fed() -> None:
    rng = np.random.default_rng(0)
    levels = np.repeat(rng.uniform(-80, -50, 20), rng.integers(1, 20, 20))
    signal = rng.standard_normal(len(levels) * SPEC.hop).astype(np.float32)
    whole = gated(signal, levels, [])
    for cuts in ([1], [5, 6, 7, 60], list(range(1, len(levels)))):
        np.testing.assert_allclose(gated(signal, levels, cuts), whole, atol=1e-6)
    assert 0.1 < (whole == 0).mean() < 0.9
