"""A real tracker on tones of known f0, and the way to mel frames; test_pitch_crepe.py has CREPE's decoding."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from moksori.export.pitch import export_swift
from moksori.runtime import pitch
from moksori.runtime.pitch import Options, Track, Tracker

RATE = 16_000


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    path = tmp_path_factory.mktemp("graphs") / "pitch.onnx"
    export_swift(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Tracker(session, "swift_scores", 50, 1_600)


def tone(hertz: float, seconds: float = 1, level: float = 0.1) -> np.ndarray:
    """Eight harmonics of a steady f0."""
    phase = 2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE
    return (level * np.sum([np.sin(k * phase) / k for k in range(1, 9)], axis=0)).astype(np.float32)


def cents(found: np.ndarray, wanted: float | np.ndarray) -> np.ndarray:
    return 1200 * np.log2(found / wanted)


@pytest.mark.parametrize("hertz", [82.41, 196, 440, 987.8])
def test_swift_hears_a_tone(swift: Tracker, hertz: float) -> None:
    track = swift.track(tone(hertz))
    inner = slice(4, -4)
    assert track.confidence[inner].min() > 0.5
    assert np.abs(cents(track.f0[inner], hertz)).max() < 10


@pytest.mark.parametrize(
    "audio", [np.zeros(RATE), np.full(RATE, 1e-4), tone(220, level=1e-4), np.zeros(1), np.zeros(0)]
)
def test_silence_is_not_voiced(swift: Tracker, audio: np.ndarray) -> None:
    track = swift.track(audio.astype(np.float32))
    assert len(track.f0) == len(track.confidence) == len(track.times) > 0
    assert track.confidence.max() == 0


def test_what_lies_outside_the_range_is_not_voiced(swift: Tracker) -> None:
    low = Tracker(swift.session, "swift_scores", 50, 200).track(tone(440))
    assert low.confidence.max() == 0
    assert Tracker(swift.session, "swift_scores", 50, 500).track(tone(440)).confidence[4:-4].min() > 0.5


def track(voiced: list[bool]) -> Track:
    confidence = np.where(voiced, 0.8, 0.2).astype(np.float32)
    return Track(np.arange(5) * 0.1, np.array([100, 200, 7, 400, 800], np.float32), confidence)


def test_f0_is_interpolated_by_interval() -> None:
    """Half-way between 100 and 200 Hz lies 141.4; an unvoiced frame is bridged; the ends are held."""
    times = np.array([-1, 0, 0.05, 0.2, 0.35, 9])
    f0, voiced = pitch.at_times(track([True, True, False, True, True]), times, Options())
    np.testing.assert_allclose(f0, [100, 100, 100 * 2**0.5, 200 * 2**0.5, 400 * 2**0.5, 800], rtol=1e-5)
    assert voiced.tolist() == [True, True, True, False, True, True]


def test_voicing_is_the_nearest_frames() -> None:
    times = np.array([0.04, 0.06, 0.14, 0.16, 0.26])
    _, voiced = pitch.at_times(track([False, True, False, True, False]), times, Options())
    assert voiced.tolist() == [False, True, True, False, True]


def test_a_faint_frame_has_its_own_f0_and_stays_unvoiced() -> None:
    """Confidence 0.2 is less than voiced; 100 and 800 Hz lie beside 200, instead of being held from it."""
    given, times = track([False, True, False, False, False]), np.array([0, 0.1, 0.2, 0.4])
    f0, voiced = pitch.at_times(given, times, Options(faint=0.2))
    np.testing.assert_allclose(f0, [100, 200, 7, 800], rtol=1e-5)
    assert voiced.tolist() == [False, True, False, False]
    for nowhere in (0.3, 0.9, 1.0):  # no frame between faint and voiced; more than voiced changes nothing
        np.testing.assert_allclose(pitch.at_times(given, times, Options(faint=nowhere))[0], 200, rtol=1e-5)


def test_with_nothing_voiced_f0_is_still_positive() -> None:
    f0, voiced = pitch.at_times(track([False] * 5), np.linspace(0, 1, 7), Options())
    assert f0.tolist() == [220] * 7
    assert not voiced.any()


def test_the_threshold_belongs_to_what_is_voiced() -> None:
    _, voiced = pitch.at_times(track([True] * 5), np.array([0.0]), Options(threshold=float(np.float32(0.8))))
    assert voiced.tolist() == [True]


@pytest.mark.parametrize(("semitones", "factor"), [(0, 1), (12, 2), (-24, 0.25), (7, 1.4983), (0.5, 1.0293)])
def test_transposing(semitones: float, factor: float) -> None:
    f0 = np.array([110, 441], np.float32)
    found = pitch.transpose(f0, semitones)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, f0 * factor, rtol=1e-4)
