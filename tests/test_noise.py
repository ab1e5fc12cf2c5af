"""Noise is a function of seed, stream and absolute frame, and it is white and normal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from moksori.runtime import noise

WHOLE = noise.frames("denoiser", 7, -200, 600, 5)


@settings(max_examples=50, deadline=None)
@given(start=st.integers(-200, 399), count=st.integers(0, 200))
def test_any_part_is_cut_from_one_whole(start: int, count: int) -> None:
    count = min(count, 400 - start)
    part = noise.frames("denoiser", 7, start, count, 5)
    assert (part.shape, part.dtype) == ((count, 5), np.float32)
    np.testing.assert_array_equal(part, WHOLE[start + 200 :][:count])


def test_it_is_standard_normal_and_white() -> None:
    values = noise.frames("vocoder", 1, -1_000, 4_000, 24)
    assert stats.kstest(values.ravel(), "norm").pvalue > 0.01
    for lag in (1, 2, 64):  # 64 frames are drawn at once
        assert abs(np.mean(values[lag:] * values[:-lag])) < 0.01
    assert abs(np.mean(values[:, 1:] * values[:, :-1])) < 0.01


def test_seeds_streams_and_places_differ() -> None:
    given = [("denoiser", 0, 0), ("vocoder", 0, 0), ("denoiser", 1, 0), ("denoiser", 0, 64), ("denoiser", 0, -64)]
    drawn = [noise.frames(stream, seed, start, 64, 100).ravel() for stream, seed, start in given]
    correlation = np.corrcoef(drawn) - np.eye(len(drawn))
    assert np.abs(correlation).max() < 0.06  # 6400 values: 4.8 deviations


def test_large_seeds_and_late_frames() -> None:
    late = 3_600 * 100 * 1_000
    np.testing.assert_array_equal(
        noise.frames("denoiser", 2**63, late, 70, 2)[5:], noise.frames("denoiser", 2**63, late + 5, 65, 2)
    )


def test_the_values_never_change() -> None:
    """A run with --seed must give the same song in the next release too: numpy's own Philox, drawn by hand."""
    for index in (0, 3):
        bits = np.random.Philox(key=[5, 1], counter=[0, 0, 0, index])
        wanted = np.random.Generator(bits).standard_normal((64, 3), dtype=np.float32)
        np.testing.assert_array_equal(noise.frames("denoiser", 5, 64 * index, 64, 3), wanted)
    with pytest.raises(KeyError):
        noise.frames("nothing", 0, 0, 1, 1)
