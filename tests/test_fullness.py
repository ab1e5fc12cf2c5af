"""What falls short of the loudness that was asked for is raised to it, in pieces as at once, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from moksori.runtime import mel
from moksori.runtime.fullness import Fullness

SPEC = mel.MelSpec()
FRAMES = 300


def tone(decibels: NDArray[np.float64]) -> NDArray[np.float32]:
    """A sine whose level in dB of full scale is given frame by frame."""
    at = np.arange(len(decibels) * SPEC.hop) / SPEC.hop
    level = 10 ** (np.interp(at, np.arange(len(decibels)) + 0.5, decibels) / 20)
    return (np.sqrt(2) * level * np.sin(2 * np.pi * 5 * at / 1.1)).astype(np.float32)


def raised(made: NDArray[np.float64], wanted: float, voiced: bool = True) -> NDArray[np.float64]:
    """By how many dB each frame of a tone is raised."""
    fullness, sound = Fullness(SPEC), tone(made)
    fullness.push(np.full(len(made), wanted, np.float32), np.full(len(made), voiced))
    out = fullness.apply(sound, last=True)
    assert len(out) == len(sound)
    before, after = (np.square(part).reshape(-1, SPEC.hop).mean(1) for part in (sound, out))
    return 10 * np.log10(after / before)


@pytest.mark.parametrize(("short", "made_up"), [(-5, 0), (0, 0), (2, 0), (3, 2), (4, 4), (9, 9), (30, 12)])
def test_a_steady_tone_is_raised_by_what_it_misses(short: float, made_up: float) -> None:
    assert raised(np.full(FRAMES, -20.0 - short), -20) == pytest.approx(made_up, abs=0.05)


def test_a_dropout_is_filled_and_its_surroundings_stay() -> None:
    """Half a second that lacks 8 dB."""
    made = np.full(FRAMES, -20.0)
    made[120:170] -= 8
    gain = raised(made, -20)
    assert gain[135:155] == pytest.approx(8, abs=0.3)
    assert np.abs(gain[:100]).max() < 0.05 and np.abs(gain[190:]).max() < 0.05
    assert np.abs(np.diff(gain)).max() < 1  # dB in 10 ms


def test_what_is_not_voiced_stays() -> None:
    assert np.abs(raised(np.full(FRAMES, -40.0), -20, voiced=False)).max() == 0


def test_digital_silence_stays_silent() -> None:
    fullness = Fullness(SPEC)
    fullness.push(np.full(FRAMES, -20, np.float32), np.full(FRAMES, True))
    assert np.abs(fullness.apply(np.zeros(FRAMES * SPEC.hop, np.float32), last=True)).max() == 0


@pytest.mark.parametrize("seed", range(3))
def test_pieces_of_any_length_give_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = -25 + np.cumsum(rng.normal(0, 1, FRAMES))
    wanted = (-25 + rng.normal(0, 3, FRAMES)).astype(np.float32)
    voiced, sound = rng.random(FRAMES) < 0.8, tone(made)[: -SPEC.hop // 3]  # the last frame is not whole
    once = Fullness(SPEC)
    once.push(wanted, voiced)
    whole = once.apply(sound, last=True)
    stream, parts, frame, at = Fullness(SPEC), [], 0, 0
    while at < len(sound):
        count = int(rng.integers(0, 60))
        stream.push(wanted[frame : frame + count], voiced[frame : frame + count])
        frame = min(FRAMES, frame + count)
        end = len(sound) if frame == FRAMES else max(at, frame * SPEC.hop - int(rng.integers(0, 900)))
        parts.append(stream.apply(sound[at:end], last=end == len(sound)))
        at = end
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-7)
    assert len(whole) == len(sound) and np.abs(whole / np.where(sound == 0, 1, sound)).max() > 1.2


def test_a_stream_shorter_than_a_frame_passes() -> None:
    fullness = Fullness(SPEC)
    fullness.push(np.array([-10], np.float32), np.array([True]))
    assert fullness.apply(np.full(7, 0.1, np.float32), last=True) == pytest.approx(0.1 * 10 ** (12 / 20), rel=0.01)
