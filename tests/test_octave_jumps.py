"""Octave jumps of the pitch tracker do not reach the song: svc-run as it ships, on a clip in which it jumps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from numpy.typing import NDArray

from moksori.runtime import cli, curve
from moksori.runtime.pitch import Options, Tracker
from moksori.runtime.voice import Voice

RATE = 16_000
SECONDS = 2.4
JUMPS = (0.5, 0.9, 1.3, 1.7)  # seconds at which the throat creaks, which puts a tone an octave below
CREAK = 0.09  # seconds


def melody(at: NDArray[np.floating]) -> NDArray[np.float64]:
    """Hz: two semitones up over the clip, with a vibrato of 30 cents."""
    return 220 * 2 ** ((2 * at / SECONDS + 0.3 * np.sin(2 * np.pi * 5 * at)) / 12)


def sung(path: Path, leap: tuple[float, float] = (9, 9)) -> Path:
    """Ten harmonics on the melody, with creaks; or without them, and an octave higher during ``leap``."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    high = (time >= leap[0]) & (time < leap[1])
    phase = 2 * np.pi * np.cumsum(melody(time) * np.where(high, 2, 1)) / RATE
    creak = np.zeros(len(time))
    for start in JUMPS if leap[0] > SECONDS else ():
        creak[(time >= start) & (time < start + CREAK)] = 1.5
    creak = np.convolve(creak, np.hanning(64) / np.hanning(64).sum(), "same")
    sound = sum((np.sin(k * phase) + creak * np.sin((k - 0.5) * phase)) / k for k in range(1, 11))
    noise = np.random.default_rng(0).normal(0, 0.002, len(time))
    soundfile.write(path, 0.15 * np.asarray(sound) + noise, RATE)
    return path


def converted(song: Path, folder: Path) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Times and cents above the melody of what svc-run sang, where it is voiced."""
    words = [song, "-o", folder / "out.wav", "--save-f0", "--device", "cpu", "--steps", "1"]
    result = CliRunner().invoke(cli.main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    track = curve.read(folder / "out.f0.csv")
    voiced = (track.confidence > 0) & (track.times > 0.1) & (track.times < SECONDS - 0.1)
    assert voiced.sum() > 0.95 * 100 * (SECONDS - 0.2)
    times = track.times[voiced]
    return times, 1200 * np.log2(track.f0[voiced] / melody(times))


@pytest.fixture(scope="module")
def voice() -> Voice:
    return Voice.load("demo", "cpu", threads=1)


def test_jumps_are_repaired(voice: Voice, tmp_path: Path) -> None:
    song, spec = sung(tmp_path / "song.wav"), voice.manifest.pitch
    bare = Tracker(voice.pitch, spec.kind, spec.fmin, spec.fmax, Options(decoder="weighted"))
    track = bare.track(soundfile.read(song, dtype="float32")[0])
    astray = 1200 * np.log2(track.f0 / melody(track.times))
    inside = (track.times > 0.1) & (track.times < SECONDS - 0.1) & (track.confidence >= 0.5)
    assert (np.abs(astray[inside]) > 600).sum() >= 10  # else there is nothing to repair
    _, cents = converted(song, tmp_path)
    assert np.abs(cents).max() < 100 and np.median(np.abs(cents)) < 10


def test_an_octave_that_is_sung_stays(tmp_path: Path) -> None:
    times, cents = converted(sung(tmp_path / "song.wav", leap=(1.0, 1.5)), tmp_path)
    high, low = (times > 1.06) & (times < 1.44), (times < 0.94) | (times > 1.56)
    assert np.abs(cents[high] - 1200).max() < 100 and np.abs(cents[low]).max() < 100
