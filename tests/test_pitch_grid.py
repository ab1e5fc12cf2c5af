"""Tracks lie on whole cents, so that machines whose last digits differ sing one curve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from moksori.runtime import pitch
from moksori.runtime.pitch import Tracker

HOP = 256  # samples of SwiftF0
F0 = np.geomspace(55, 1500, 4001).astype(np.float32)


class Hearing:
    """A graph of SwiftF0's kind that hears what it is told."""

    def __init__(self, f0: NDArray[np.float32]) -> None:
        self.f0 = f0

    def run(self, outputs: None, inputs: Mapping[str, NDArray[np.float32]], /) -> list[NDArray[np.float32]]:
        return [self.f0[None], np.full((1, len(self.f0)), 0.9, np.float32)]


def heard(f0: NDArray[np.float64] | NDArray[np.float32]) -> pitch.Track:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, len(f0) * HOP)
    return Tracker(Hearing(f0.astype(np.float32)), "swift", 50, 1600).track(noise.astype(np.float32))


def test_a_track_is_off_by_half_a_cent_at_most() -> None:
    found = heard(F0).f0
    cents = 1200 * np.log2(found.astype(float) / 440)
    assert np.abs(cents - np.round(cents)).max() < 1e-3
    assert np.abs(cents - 1200 * np.log2(F0.astype(float) / 440)).max() <= 0.501
    np.testing.assert_array_equal(heard(found).f0, found)


@pytest.mark.parametrize("hertz", [55, 110, 220, 440, 880])
def test_octaves_of_a_are_exact(hertz: float) -> None:
    assert (heard(np.full(50, hertz)).f0 == hertz).all()


def test_other_last_digits_give_the_same_track() -> None:
    """As far apart as onnxruntime on two systems hears a song: 0.0007 cents rms."""
    rng = np.random.default_rng(1)
    off = F0 * 2 ** (rng.normal(0, 0.0007, len(F0)) / 1200)
    flips = np.flatnonzero(heard(F0).f0 != heard(off).f0)
    assert np.mean(off.astype(np.float32) != F0) > 0.5 and len(flips) <= len(F0) * 0.003


def test_a_vibrato_stays_smooth() -> None:
    """5.5 Hz and 60 cents deep, carried to mel frames: its steps are those of the sine to a cent."""
    times = np.arange(250) * HOP / pitch.RATE
    frames = np.arange(20, 380) * 0.01

    def sine(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return 440 * 2 ** (0.05 * np.sin(2 * np.pi * 5.5 * at))

    f0, voiced = pitch.at_times(heard(sine(times)), frames, pitch.Options())
    sung = pitch.Track(times, sine(times).astype(np.float32), np.ones(250, np.float32))
    asked, _ = pitch.at_times(sung, frames, pitch.Options())
    assert voiced.all() and np.abs(1200 * np.log2(f0 / asked)).max() <= 0.51
    assert np.abs(np.diff(1200 * np.log2(f0)) - np.diff(1200 * np.log2(asked))).max() < 1
