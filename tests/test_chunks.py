"""Chunks cover a stream once with its true surroundings, and the Joiner makes one stream of them again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moksori.runtime.chunks import FADE, Chunk, Joiner, Margins, chunks, narrowed
from moksori.runtime.mel import MelSpec

SPEC = MelSpec(sample_rate=1_000, hop=10, n_fft=40, win=40, bins=4, fmin=20, fmax=500)  # 100 frames a second
MARGINS = Margins(0.3, 0.22)
BEFORE, AFTER = 32, 24  # frames of them, on a grid of 80 ms


def song(samples: int) -> np.ndarray:
    """Noise with pauses, so that cuts have somewhere to fall."""
    signal = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    return np.where(np.arange(samples) % 700 < 550, signal, 0.01 * signal).astype(np.float32)


def cut(signal: np.ndarray, at: list[int]) -> list[np.ndarray]:
    return np.split(signal, sorted(place % (len(signal) + 1) for place in at))


def frames_of(signal: np.ndarray) -> int:
    return -(-len(signal) // SPEC.hop)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 9_000),
    places=st.lists(st.integers(0, 9_000), max_size=12),
    shortest=st.sampled_from([0.3, 0.7, 1.0]),
    ratio=st.sampled_from([1.0, 1.3, 2.5]),
)
def test_cores_cover_the_stream_and_margins_are_its_own(
    samples: int, places: list[int], shortest: float, ratio: float
) -> None:
    signal = song(samples)
    found = list(chunks(cut(signal, places), SPEC, MARGINS, shortest, shortest * ratio))
    frames = frames_of(signal)
    whole = np.zeros(frames * SPEC.hop, np.float32)
    whole[:samples] = signal
    assert [chunk.begin for chunk in found] == [0, *(chunk.end for chunk in found[:-1])]
    assert found[-1].end == frames
    assert [chunk.last for chunk in found] == [False] * (len(found) - 1) + [True]
    assert found[-1].samples == samples
    for chunk in found:
        assert chunk.begin < chunk.end
        assert chunk.begin % 8 == 0  # on the grid of units and f0
        assert chunk.first == max(0, chunk.begin - BEFORE)
        until = min(frames, chunk.end + AFTER)
        np.testing.assert_array_equal(chunk.audio, whole[chunk.first * SPEC.hop : until * SPEC.hop])
        assert (chunk.core.start, chunk.core.stop) == (chunk.begin - chunk.first, chunk.end - chunk.first)


@settings(max_examples=15, deadline=None)
@given(places=st.lists(st.integers(0, 9_000), max_size=12))
def test_the_size_of_the_blocks_changes_nothing(places: list[int]) -> None:
    signal = song(7_777)
    one = list(chunks([signal], SPEC, MARGINS, 0.7, 1.6))
    other = list(chunks(cut(signal, places), SPEC, MARGINS, 0.7, 1.6))
    assert [(c.first, c.begin, c.end) for c in one] == [(c.first, c.begin, c.end) for c in other]
    assert len(one) > 4


@pytest.mark.parametrize("samples", [1, 9, 10, 11])
def test_less_than_a_frame_becomes_one_frame(samples: int) -> None:
    (chunk,) = chunks([np.ones(samples, np.float32)], SPEC, MARGINS, 1, 2)
    assert (chunk.first, chunk.begin, chunk.end) == (0, 0, frames_of(chunk.audio))
    assert (chunk.samples, chunk.last) == (samples, True)
    np.testing.assert_array_equal(chunk.audio, np.r_[np.ones(samples), np.zeros(-samples % 10)])


def test_no_sound_is_no_chunk() -> None:
    assert list(chunks([], SPEC, MARGINS, 1, 2)) == []
    assert list(chunks([np.zeros(0, np.float32)] * 3, SPEC, MARGINS, 1, 2)) == []


def test_only_as_much_is_held_as_a_chunk_needs() -> None:
    """A chunk comes as soon as its cut is certain and its margin is there, not at the end of the file."""
    given_out = 0

    def blocks() -> object:
        nonlocal given_out
        for _ in range(600):
            given_out += 1
            yield song(100)

    held = [given_out * 100 - chunk.end * SPEC.hop for chunk in chunks(blocks(), SPEC, MARGINS, 0.5, 1.0)]
    assert len(held) > 50
    assert max(held) <= 2 * 1_000 + 1_500 + 100  # the margin's slice, what the slicer looks ahead, one block


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 9_000),
    shortest=st.sampled_from([0.07, 0.3, 1.0]),
    ratio=st.sampled_from([1.5, 2.5]),
    narrow=st.sampled_from([0, 21, 100]),
)
def test_chunks_that_agree_join_to_the_whole(samples: int, shortest: float, ratio: float, narrow: int) -> None:
    signal = song(samples)
    frames = frames_of(signal)
    rng = np.random.default_rng(1)
    mel, f0 = rng.standard_normal((frames, 4)).astype(np.float32), rng.uniform(60, 900, frames).astype(np.float32)
    joiner, parts = Joiner(), []
    for wide in chunks([signal], SPEC, MARGINS, shortest, shortest * ratio):
        chunk = narrowed(wide, SPEC, narrow)
        heard = slice(chunk.first, chunk.first + len(chunk.audio) // SPEC.hop)
        assert chunk.begin - chunk.first == min(chunk.begin, max(FADE, narrow), BEFORE)
        np.testing.assert_array_equal(chunk.audio, np.pad(signal, (0, SPEC.hop))[heard.start * 10 : heard.stop * 10])
        parts.append(joiner.push(chunk, mel[heard], f0[heard]))
    joined, hertz = (np.concatenate(side) for side in zip(*parts, strict=True))
    assert joined.shape == mel.shape
    np.testing.assert_allclose(joined, mel, atol=1e-6)
    np.testing.assert_allclose(hertz, f0, rtol=1e-5)


def test_chunks_that_differ_fade_linearly_around_the_cut() -> None:
    """Two constants: a straight line of FADE frames centred on the cut; f0 fades by interval, not by hertz."""
    chunk_pair = [
        Chunk(np.zeros(0, np.float32), first=0, begin=0, end=100, samples=0, last=False),
        Chunk(np.zeros(0, np.float32), first=70, begin=100, end=160, samples=0, last=True),
    ]
    joiner = Joiner()
    first = joiner.push(chunk_pair[0], np.full((130, 2), -3, np.float32), np.full(130, 100, np.float32))
    second = joiner.push(chunk_pair[1], np.full((90, 2), 1, np.float32), np.full(90, 400, np.float32))
    assert len(first[0]) == 100 - FADE // 2
    mel, f0 = (np.concatenate(side) for side in zip(first, second, strict=True))
    share = np.clip((np.arange(160) + 0.5 - (100 - FADE / 2)) / FADE, 0, 1)
    np.testing.assert_allclose(mel, np.tile(-3 + 4 * share[:, None], 2), atol=1e-5)
    np.testing.assert_allclose(f0, 100 * 4**share, rtol=1e-5)
