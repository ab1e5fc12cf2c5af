"""Slices join to the stream exactly, are bounded, and depend on the samples alone."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moksori.runtime.errors import OptionError
from moksori.runtime.slicer import Slice, levels, slices

RATE = 1000  # the slicer knows no frequencies


def noise(seconds: float, seed: int = 0, level: float = 0.3) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def with_pauses(seconds: float, *pauses: tuple[float, float]) -> np.ndarray:
    """Noise that is 40 dB quieter in each (begin, end)."""
    signal = noise(seconds)
    for begin, end in pauses:
        signal[round(begin * RATE) : round(end * RATE)] *= 0.01
    return signal


def ends(found: list[Slice]) -> list[float]:
    return [(piece.start + len(piece.audio)) / RATE for piece in found]


@settings(max_examples=60, deadline=None)
@given(
    seconds=st.floats(0, 12),
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=6).filter(any),
    limits=st.sampled_from([(1.0, 3.0), (0.5, 1.0), (1.0, 1.0), (1.5, 2.0)]),
    seed=st.integers(0, 99),
)
def test_block_size_changes_nothing(
    seconds: float, sizes: list[int], limits: tuple[float, float], seed: int
) -> None:
    envelope = np.repeat(np.random.default_rng(seed).uniform(0, 1, 200) ** 4, 70)
    signal = noise(seconds, seed) * envelope[: round(seconds * RATE)].astype(np.float32)

    def pieces() -> Iterator[np.ndarray]:
        at = index = 0
        while at < len(signal):
            yield signal[at : at + sizes[index % len(sizes)]]
            at, index = at + sizes[index % len(sizes)], index + 1

    whole, streamed = list(slices([signal], RATE, *limits)), list(slices(pieces(), RATE, *limits))
    assert [piece.start for piece in streamed] == [piece.start for piece in whole]
    joined = np.concatenate([piece.audio for piece in streamed] or [signal[:0]])
    np.testing.assert_array_equal(joined, signal)
    assert [piece.start for piece in whole] == [0, *np.cumsum([len(piece.audio) for piece in whole])][: len(whole)]
    lengths = [len(piece.audio) for piece in whole]
    assert max(lengths, default=0) <= limits[1] * RATE
    assert min(lengths[:-1], default=limits[0] * RATE) >= limits[0] * RATE
    if limits[1] >= 2 * limits[0] and len(whole) > 1:
        assert lengths[-1] >= limits[0] * RATE


def test_cuts_lie_in_the_pauses() -> None:
    found = list(slices([with_pauses(30, (8.0, 8.4), (19.0, 19.2))], RATE))
    assert ends(found) == pytest.approx([8.2, 19.1, 30], abs=0.02)


def test_a_longer_pause_wins_over_a_shorter_one() -> None:
    found = list(slices([with_pauses(20, (6.0, 6.1), (9.0, 9.5), (12.0, 12.2))], RATE))
    assert ends(found)[0] == pytest.approx(9.25, abs=0.02)


def test_a_gap_shorter_than_a_pause_loses_to_a_pause() -> None:
    found = list(slices([with_pauses(20, (6.0, 6.02), (9.0, 9.08), (12.0, 12.02))], RATE))
    assert ends(found)[0] == pytest.approx(9.04, abs=0.02)


def test_legato_is_cut_at_its_quietest_and_never_beyond_the_maximum() -> None:
    time = np.arange(40 * RATE) / RATE
    signal = (np.sin(2 * np.pi * 110 * time) * (1.2 - np.cos(2 * np.pi * time / 11))).astype(np.float32)
    found = list(slices([signal], RATE))
    assert ends(found)[:3] == pytest.approx([11, 22, 33], abs=0.3)
    steady = list(slices([np.ones(100 * RATE, np.float32)], RATE))
    assert max(len(piece.audio) for piece in steady) <= 15 * RATE


def test_a_short_stream_is_one_slice_and_an_empty_one_none() -> None:
    assert [piece.start for piece in slices([noise(0.001)], RATE)] == [0]
    assert [len(piece.audio) for piece in slices([noise(15)], RATE)] == [15_000]
    assert list(slices([], RATE)) == []
    assert list(slices([noise(0)], RATE)) == []


def test_memory_is_bounded() -> None:
    tracemalloc.start()
    total = sum(len(piece.audio) for piece in slices((noise(1, seed) for seed in range(2000)), RATE))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 2000 * RATE
    assert peak < 8 * (15 + 5) * RATE * 4  # a few copies of the longest wait, of 8 MB


def test_levels_are_rms_in_decibels() -> None:
    signal = np.concatenate([np.full(10, 0.1), np.zeros(10), np.full(15, 1.0)]).astype(np.float32)
    np.testing.assert_allclose(levels(signal, RATE), [-20, -60, 0], atol=1e-5)


@pytest.mark.parametrize("limits", [(0, 15), (5, 4), (-1, 1), (0.01, 0.05), (float("nan"), 1)])
def test_impossible_lengths_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(OptionError, match="minimum <= maximum"):
        list(slices([noise(1)], RATE, *limits))
