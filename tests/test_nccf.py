"""f0 fitted to the waveform: on sound whose every period is known, and where there is nothing to fit to."""

from __future__ import annotations

import numpy as np
import pytest

from moksori.runtime import nccf

RATE = 16_000
TIMES = np.arange(0.1, 0.9, 0.01)


def glide(low: float, high: float, seconds: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Harmonics up to 4 kHz of an f0 that rises by the same interval in each second, and its f0 at TIMES."""
    time = np.arange(int(seconds * RATE)) / RATE
    octaves = np.log2(high / low)
    phase = 2 * np.pi * low * (2 ** (octaves * time) - 1) / (octaves * np.log(2))
    count = max(1, int(4_000 / high))
    audio = 0.1 * np.sum([np.sin(k * phase + k) / k for k in range(1, count + 1)], axis=0)
    return audio.astype(np.float32), (low * 2 ** (octaves * TIMES)).astype(np.float32)


def cents(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.abs(1200 * np.log2(found / wanted))


# lowest f0 in Hz, and the part of a mistake that may stay
HARMONICS = [(60.0, 1 / 20), (110.0, 1 / 20), (220.0, 1 / 20), (440.0, 1 / 10), (880.0, 1 / 6)]


@pytest.mark.parametrize(("low", "left"), HARMONICS)
@pytest.mark.parametrize("away", [-120.0, -80.0, -12.0, 0.0, 30.0, 80.0, 120.0])
def test_an_f0_that_is_told_wrong_by_a_semitone_and_a_bit_is_mended(low: float, left: float, away: float) -> None:
    """The tracker is still trusted for a part of its mistake: the more, the fewer harmonics there are to tell."""
    audio, f0 = glide(low, low * 2 ** (3 / 12))
    found, alike = nccf.fitted(audio, TIMES, f0 * np.float32(2 ** (away / 1200)), periods=6)
    assert (found.dtype, found.shape) == (np.float32, f0.shape)
    assert cents(found, f0).max() < 6 + left * abs(away)
    assert alike.min() > 0.9


def test_another_octave_is_left_alone() -> None:
    """Two periods are alike too, and so stay: which octave is sung is the tracker's to say."""
    audio, f0 = glide(220, 221)
    assert cents(nccf.fitted(audio, TIMES, f0 / 2, periods=6)[0], f0 / 2).max() < 4


@pytest.mark.parametrize(
    "audio",
    [np.zeros(RATE), np.random.default_rng(0).standard_normal(RATE) * 0.1, np.zeros(1), np.zeros(0)],
    ids=["silence", "noise", "one sample", "nothing"],
)
def test_where_nothing_repeats_f0_stays(audio: np.ndarray) -> None:
    f0 = np.full(len(TIMES), 200, np.float32)
    found, alike = nccf.fitted(audio.astype(np.float32), TIMES, f0, periods=6)
    np.testing.assert_array_equal(found, f0)
    assert alike.max() < 0.5


def test_no_frames_are_none() -> None:
    f0, alike = nccf.fitted(np.zeros(RATE, np.float32), np.zeros(0), np.zeros(0, np.float32), periods=6)
    assert len(f0) == len(alike) == 0


def test_a_frame_is_fitted_alike_in_any_company() -> None:
    """A stream asks for a few frames at a time, training for all of a slice."""
    audio, f0 = glide(150, 300)
    together, _ = nccf.fitted(audio, TIMES, f0, periods=6)
    alone = [nccf.fitted(audio, TIMES[at : at + 1], f0[at : at + 1], periods=6)[0][0] for at in range(len(f0))]
    np.testing.assert_array_equal(together, alone)


def test_echo_and_noise_do_not_lead_it_far() -> None:
    """With noise 12 dB below, f0 that was right is moved by little."""
    audio, f0 = glide(200, 230)
    noise = np.random.default_rng(1).standard_normal(len(audio)).astype(np.float32) * (audio.std() / 4)
    found, _ = nccf.fitted(audio + noise, TIMES, f0, periods=6)
    assert np.median(cents(found, f0)) < 4
    assert cents(found, f0).max() < 50


def test_the_less_two_periods_are_alike_the_more_the_tracker_is_believed() -> None:
    audio, f0 = glide(200, 230)
    noise = np.random.default_rng(1).standard_normal(len(audio)).astype(np.float32) * audio.std()
    found = [nccf.fitted(audio + part * noise, TIMES, f0 * 2 ** (60 / 1200), periods=6)[0] for part in (0, 0.6, 1)]
    wrong = [float(np.median(1200 * np.log2(one / f0))) for one in found]
    assert 0 < wrong[0] < 3 < wrong[1] < 6 < wrong[2] < 20
