"""The last stage: loudness as asked at any rate, full scale never passed, lengths exact, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from moksori.runtime import audio
from moksori.runtime.errors import AudioError
from moksori.runtime.lufs import Meter
from moksori.runtime.master import Levels, Master

RATE = 24_000


def written(path: Path, samples: np.ndarray, goal: float, rate: int = RATE) -> tuple[np.ndarray, Levels]:
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    writer = audio.Writer(path, rate, subtype="FLOAT", channels=channels)
    with Master(path, RATE, channels) as master:
        for start in range(0, len(samples), 5000):
            master.push(samples[start : start + 5000])
        with writer:
            levels = master.write(writer, goal)
    return soundfile.read(path)[0], levels


def loudness(samples: np.ndarray, rate: int) -> float:
    meter = Meter(rate)
    meter.push(samples)
    return meter.integrated()


def voice(seconds: float = 2.0) -> np.ndarray:
    """As peaky as singing: pulses of a resonance, under a slow swell."""
    noise = np.random.default_rng(0).standard_normal(round(seconds * RATE))
    swell = np.abs(np.sin(np.arange(len(noise)) / 3000)) ** 3
    return (0.1 * noise * swell).astype(np.float32)


@pytest.mark.parametrize("goal", [-40.0, -23.0, -14.0])
@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100])
def test_the_loudness_is_as_asked_and_nothing_clips(tmp_path: Path, goal: float, rate: int) -> None:
    tone = (0.05 * np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE)).astype(np.float32)
    for samples in (tone, voice()) if rate == RATE else (tone,):
        found, levels = written(tmp_path / "a.wav", samples, goal, rate)
        assert len(found) == round(len(samples) * rate / RATE)
        assert loudness(found, rate) == pytest.approx(goal, abs=0.2)
        assert levels.loudness == pytest.approx(goal, abs=0.15)
        assert np.abs(found).max() < 1


def test_what_the_limiter_bends_is_counted(tmp_path: Path) -> None:
    _, quiet = written(tmp_path / "a.wav", voice(), -40.0)
    _, loud = written(tmp_path / "a.wav", voice(), -10.0)
    assert quiet.limited == 0 < 0.001 < loud.limited < 0.3


def test_stereo_stays_apart(tmp_path: Path) -> None:
    samples = np.stack([voice(), 0.25 * voice()], 1)
    found, _ = written(tmp_path / "a.wav", samples, -30.0, 48_000)
    assert found.shape == (2 * len(samples), 2)
    np.testing.assert_allclose(found[:, 1], 0.25 * found[:, 0], atol=1e-6)


def test_silence_and_nothing_at_all(tmp_path: Path) -> None:
    found, levels = written(tmp_path / "a.wav", np.zeros(1000, np.float32), -14.0, 44_100)
    assert len(found) == 1838 and not found.any() and levels.gain == 0


def test_nothing_is_left_of_a_result_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Master(tmp_path / "new" / "a.wav", RATE) as master:
        master.push(voice())
        assert list((tmp_path / "new").iterdir()) == []  # not even while it waits: a kill leaves no trace
        raise ZeroDivisionError
    assert list((tmp_path / "new").iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AudioError, match=r"a\.wav cannot be written .*: choose another place"):
        Master(tmp_path / "file" / "a.wav", RATE).__enter__()
