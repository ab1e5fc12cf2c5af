"""Smoothing of a track and the octave guard, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from moksori.runtime.pitch import Options, Track, refined

HOP = 0.01  # seconds


def track(f0: np.ndarray, voiced: np.ndarray | None = None) -> Track:
    confidence = np.ones(len(f0)) if voiced is None else np.where(voiced, 0.9, 0.1)
    return Track(np.arange(len(f0)) * HOP, f0.astype(np.float32), confidence.astype(np.float32))


def walk(frames: int) -> np.ndarray:
    return 220 * 2 ** (np.cumsum(np.random.default_rng(0).normal(0, 0.1, frames)) / 12)


@pytest.mark.parametrize("width", [3, 5, 9])
def test_median_is_scipys(width: int) -> None:
    f0 = walk(60)
    found = refined(track(f0), Options(median=width)).f0
    inner = slice(width // 2, -(width // 2))
    np.testing.assert_allclose(found[inner], ndimage.median_filter(f0, width)[inner], rtol=1e-5)
    assert found[0] == pytest.approx(2 ** np.median(np.log2(f0[: width // 2 + 1])), rel=1e-5)


@pytest.mark.parametrize("width", [3, 5])
def test_mean_is_scipys_over_octaves(width: int) -> None:
    f0 = walk(60)
    found = refined(track(f0), Options(mean=width)).f0
    inner = slice(width // 2, -(width // 2))
    np.testing.assert_allclose(found[inner], 2 ** ndimage.uniform_filter1d(np.log2(f0), width)[inner], rtol=1e-5)


def test_unvoiced_frames_neither_give_nor_take() -> None:
    f0, voiced = np.array([200, 200, 900, 200, 400, 7]), np.array([1, 1, 0, 1, 1, 0], bool)
    for options in (Options(median=3), Options(mean=3), Options(octave_guard=True)):
        found = refined(track(f0, voiced), options)
        assert found.f0[[2, 5]].tolist() == [900, 7]
        assert found.f0[:2].tolist() == [200, 200]
    assert refined(track(f0, voiced), Options(mean=3)).f0[3] == pytest.approx(200 * 2**0.5)


def test_nothing_voiced_and_one_frame_pass() -> None:
    for f0 in (np.array([100.0]), np.array([100.0, 300, 500])):
        options = Options(median=3, mean=3, octave_guard=True)
        np.testing.assert_array_equal(refined(track(f0, np.zeros(len(f0), bool)), options).f0, f0)
        assert np.isfinite(refined(track(f0), options).f0).all()


def test_the_default_changes_nothing() -> None:
    f0 = walk(30)
    np.testing.assert_array_equal(refined(track(f0), Options()).f0, f0.astype(np.float32))


@pytest.mark.parametrize("factor", [2, 0.5, 4])
@pytest.mark.parametrize("frames", [1, 5, 9])
def test_the_guard_brings_stray_octaves_home(factor: float, frames: int) -> None:
    """In a vibrato of ±60 cents; what lies beside the stray frames stays as it is."""
    f0 = 330 * 2 ** (0.05 * np.sin(2 * np.pi * 6 * np.arange(80) * HOP))
    astray = f0.copy()
    astray[30 : 30 + frames] *= factor
    np.testing.assert_allclose(refined(track(astray), Options(octave_guard=True)).f0, f0, rtol=1e-5)


@pytest.mark.parametrize("factor", [2, 0.5])
def test_the_guard_leaves_a_sung_octave(factor: float) -> None:
    """A leap that is held, and a note of 0.2 s between two others."""
    for sung in (slice(40, 80), slice(40, 60)):
        f0 = np.full(80, 330.0)
        f0[sung] *= factor
        np.testing.assert_array_equal(refined(track(f0), Options(octave_guard=True)).f0, f0.astype(np.float32))


def test_the_guard_leaves_other_leaps() -> None:
    """A fifth and a ninth for three frames are no octave errors."""
    for semitones in (7, 15):
        f0 = np.full(60, 220.0)
        f0[30:33] *= 2 ** (semitones / 12)
        np.testing.assert_array_equal(refined(track(f0), Options(octave_guard=True)).f0, f0.astype(np.float32))
