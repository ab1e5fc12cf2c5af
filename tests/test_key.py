"""The automatic key: octaves first, then the nearest fit, for single speakers and mixes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moksori.runtime import key
from moksori.runtime.key import Heights, Range
from moksori.runtime.manifest import Speaker

HEART, F001 = Range(162.3, 209.59, 522.54), Range(283.38, 428.21, 643.95)


def song(low: float, high: float) -> Heights:
    """Evenly sung between two pitches."""
    heights = Heights()
    f0 = np.geomspace(low, high, 500).astype(np.float32)
    heights.add(f0, np.ones(500, bool))
    return heights


@pytest.mark.parametrize(
    ("low", "high", "goal", "expected"),
    [
        (200, 400, HEART, 0),  # inside already
        (90, 200, HEART, 12),  # a baritone
        (45, 100, HEART, 24),
        (700, 1000, HEART, -12),  # all of it fits an octave down, 350 to 500 Hz
        (150, 300, F001, 12),
        (130, 290, HEART, 0),  # speech that falls below now and then
        (235, 460, F001, 0),  # so near that it need not move
        (80, 330, F001, 17),  # no octave fits: 12 leaves the low part out, 24 the high one
        (60, 4000, Range(200, 250, 300), -12),  # fits nowhere: the least of it outside
    ],
)
def test_the_key_that_suits(low: float, high: float, goal: Range, expected: int) -> None:
    found = key.automatic(song(low, high), goal)
    assert abs(found - expected) <= (0 if expected % 12 == 0 and low != 60 else 1)


@pytest.mark.parametrize(
    ("low", "high", "goal", "expected"),
    [
        (200, 400, HEART, 0),
        (130, 290, HEART, 2),  # speech that falls below now and then, where octaves leave it
        (90, 200, HEART, 8),  # an octave is more than it takes
        (700, 1000, HEART, -11),
        (150, 300, F001, 9),
        (60, 4000, Range(200, 250, 300), -13),  # fits nowhere: the least of it outside
    ],
)
def test_the_fewest_semitones(low: float, high: float, goal: Range, expected: int) -> None:
    heights = song(low, high)
    found = key.fewest(heights, goal)
    assert abs(found - expected) <= 1
    if heights.outside(goal, found) < 0.25:
        assert found == 0 or heights.outside(goal, found - np.sign(found)) >= 0.25


@given(st.floats(60, 900), st.floats(1.0, 1.8), st.floats(100, 400), st.floats(1.9, 3.0))
def test_a_narrow_song_lands_in_the_range_or_near(low: float, width: float, floor: float, reach: float) -> None:
    goal = Range(floor, floor * reach**0.5, floor * reach)
    heights = song(low, low * width)
    chosen = key.automatic(heights, goal)
    assert heights.inside(goal, chosen) >= 0.9 or heights.outside(goal, chosen) < 1 or chosen in (-36, 36)


def test_percentiles_are_numpys() -> None:
    f0 = (220 * 2 ** np.random.default_rng(0).normal(0, 0.3, 5000)).astype(np.float32)
    voiced = np.arange(5000) % 3 > 0
    heights = Heights()
    for start in range(0, 5000, 700):
        heights.add(f0[start : start + 700], voiced[start : start + 700])
    found = heights.range
    assert found is not None
    right = np.quantile(f0[voiced], [0.05, 0.5, 0.95])
    off = 1200 * np.log2(np.array([found.low, found.median, found.high]) / right)
    assert np.abs(off).max() < 12  # a bin is 10 cents


def test_a_mix_has_the_mixed_range() -> None:
    speakers = [Speaker(n, r.low, r.median, r.high, -20, "", "") for n, r in (("a", HEART), ("b", F001))]
    half = key.mixed(speakers, np.array([0.5, 0.5]))
    assert half.low == pytest.approx(np.sqrt(HEART.low * F001.low))
    assert half.median == pytest.approx(np.sqrt(HEART.median * F001.median))
    assert key.mixed(speakers, np.array([1.0, 0.0])).high == pytest.approx(HEART.high)


def test_without_pitch_the_key_stays() -> None:
    nothing = Heights()
    nothing.add(np.full(10, 220, np.float32), np.zeros(10, bool))
    assert nothing.range is None and key.automatic(nothing, HEART) == key.fewest(nothing, HEART) == 0
