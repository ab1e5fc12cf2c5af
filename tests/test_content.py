"""Units on their 20 ms grid, and the stretch that carries them to mel frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moksori.runtime import content


def by_loop(frames: int, count: int) -> list[int]:
    """DESIGN.md: with d = T/Tu, unit i ends at int(i·d + d + 0.5); the last one takes what is left."""
    d, found, start = frames / count, [], 0
    for unit in range(count):
        end = int(unit * d + d + 0.5)
        found += [unit + 1] * (end - start)
        start = end
    return (found + [count] * frames)[:frames]


@settings(max_examples=200, deadline=None)
@given(frames=st.integers(1, 700), count=st.integers(1, 400))
def test_the_stretch_is_the_designs(frames: int, count: int) -> None:
    found = content.mel2ph(frames, count)
    assert found.dtype == np.int64
    assert found.tolist() == by_loop(frames, count)


def test_at_100_frames_a_second_each_unit_has_two() -> None:
    assert content.mel2ph(8, 4).tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert content.mel2ph(0, 4).tolist() == []


class Hearing:
    """A content graph that answers with the sum of each 320 samples, and one row more, as some front ends do."""

    def __init__(self) -> None:
        self.heard = np.zeros(0)

    def run(self, outputs: None, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        self.heard = inputs["audio"][0]
        sums = self.heard.reshape(-1, 320).sum(1)
        return [np.r_[sums, 99.0][None, :, None]]


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 1_279, 1_280, 5_000])
def test_units_are_padded_to_whole_ones_and_trimmed(samples: int) -> None:
    graph = Hearing()
    audio = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    found = content.units(graph, audio)
    count = (samples + 319) // 320
    assert found.shape == (count, 1)
    assert len(graph.heard) == max(4, count) * 320
    np.testing.assert_array_equal(graph.heard, np.r_[audio, np.zeros(len(graph.heard) - samples, np.float32)])
    np.testing.assert_allclose(found[:, 0], [audio[at : at + 320].sum() for at in range(0, samples, 320)], atol=1e-4)
