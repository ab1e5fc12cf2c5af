"""SwiftF0's decoding: the original's own f0, every path tried, closed forms, and singing that deceives it."""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("parselmouth")
from moksori.benchmarks import pitch as benchmark
from moksori.benchmarks import singing
from moksori.benchmarks.harmonics import Clip
from moksori.export.pitch import export_swift
from moksori.runtime import audio, library, swift, voice
from moksori.runtime.pitch import TRACKERS, Options, Tracker
from moksori.train import measures

RATE = 16_000
SONG = Path(__file__).parent / "data" / "vocadito_10.flac"
SHIPPED = library.installed()[voice.DEFAULT] / "pitch.onnx"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    path = tmp_path_factory.mktemp("graphs") / "pitch.onnx"
    export_swift(path)
    return opened(path)


def opened(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def test_the_best_bins_are_the_packages_own_f0(session: onnxruntime.InferenceSession) -> None:
    """Real singing through the package's graph, decoding and all, and through ours."""
    package = importlib.util.find_spec("swift_f0")
    assert package is not None and package.origin is not None
    song = audio.read(SONG, RATE)[None]
    limits = {"fmin": np.array(swift.FMIN, np.float32), "fmax": np.array(swift.FMAX, np.float32)}
    published = opened(Path(package.origin).with_name("model.onnx"))
    wanted, sure = published.run(["pitch", "confidence"], {"audio": song, **limits})
    scores, confidence = session.run(None, {"audio": song})
    found = swift.frequencies(scores[0], swift.peaks(scores[0]))
    np.testing.assert_allclose(found, wanted[0], rtol=1e-5)
    np.testing.assert_allclose(confidence, sure, atol=1e-6)


def test_the_demo_voice_hears_the_same(session: onnxruntime.InferenceSession) -> None:
    song = audio.read(SONG, RATE)[None]
    ours, shipped = (one.run(None, {"audio": song}) for one in (session, opened(SHIPPED)))
    for mine, theirs in zip(ours, shipped, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_viterbi_is_the_best_of_all_paths(seed: int) -> None:
    """Of the 4^5 paths over four bins; steps cost 8 an octave, and everything weighs as the frames are voiced."""
    generator = np.random.default_rng(seed)
    bins = (3, 20, 37, 71)
    scores = np.full((5, swift.BINS), -1e6, np.float32)
    scores[:, bins] = generator.normal(-6, 4, (5, 4))
    confidence = generator.uniform(0, 1, 5).astype(np.float32)
    weights = np.maximum(confidence, 0.05)
    octaves = np.arange(95) * np.log2(2093.75 / 46.875) / 94

    def worth(path: tuple[int, ...]) -> float:
        steps = np.abs(np.diff(octaves[list(path)]))
        return float(np.sum(weights * scores[range(5), path]) - 8 * np.sum(weights[1:] * weights[:-1] * steps))

    assert tuple(swift.viterbi(scores, confidence)) == max(itertools.product(bins, repeat=5), key=worth)


def test_f0_by_hand() -> None:
    """Scores of log 3 and log 1 on two neighbours: a quarter of the way from one to the other; an end has one side."""
    scores = np.full((3, 95), -50, np.float32)
    scores[0, 40], scores[0, 41], scores[1, 0], scores[2, 94] = np.log(3), 0, 5, 5
    step = 1200 * np.log2(2093.75 / 46.875) / 94
    found = 1200 * np.log2(swift.frequencies(scores, np.array([40, 0, 94])) / 46.875)
    np.testing.assert_allclose(found, [40.25 * step, 0, 94 * step], atol=0.01)


@pytest.mark.parametrize("hertz", [110.0, 233.1, 392.0, 622.3])
def test_only_bins_whose_odd_harmonics_are_missing_are_too_low(hertz: float) -> None:
    time = np.arange(RATE) / RATE
    harmonics = [np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, int(7_000 / hertz))]
    tone = np.sum(harmonics, axis=0).astype(np.float32)
    evidence = swift.too_low(tone, 62)
    assert evidence.shape == (62, 95) and evidence.max() <= 0
    inner = evidence[4:-4]

    def near(frequency: float) -> np.ndarray:
        return inner[:, round(94 * np.log2(frequency / 46.875) / np.log2(2093.75 / 46.875))]

    assert near(hertz / 2).max() < -10
    assert near(hertz).min() == near(2 * hertz).min() == 0


def test_in_silence_nothing_is_too_low() -> None:
    assert not swift.too_low(np.zeros(1_000, np.float32), 3).any()


@pytest.mark.parametrize(
    ("style", "condition", "plain_errs"),
    [("soprano", singing.noisy(5), True), ("yodel", singing.CONDITIONS["clean"], False)],
)
def test_fewer_octaves_are_wrong_and_leaps_are_kept(
    session: onnxruntime.InferenceSession, style: str, condition: object, plain_errs: bool
) -> None:
    clip: Clip = condition(singing.melody(style, singing.STYLES[style], 4, seed=5))  # type: ignore[operator]

    def octave_errors(options: Options | None) -> float:
        tracker = Tracker(session, "swift_scores", 50, 1_600, options)
        return benchmark.errors([benchmark.differences(clip, tracker.track(clip.audio), tracker.options)]).octave

    assert (octave_errors(Options()) > 0.1) == plain_errs
    assert octave_errors(None) < 0.03


@pytest.mark.parametrize("style", ["melody, low", "melody, high", "wide vibrato", "breathy"])
def test_f0_fitted_to_the_waveform_is_nearer_to_what_is_sung(session: onnxruntime.InferenceSession, style: str) -> None:
    clip = singing.melody(style, singing.STYLES[style], 4, seed=5)

    def errors(periods: int) -> measures.PitchErrors:
        options = replace(TRACKERS["swift_scores"].options, periods=periods)
        track = Tracker(session, "swift_scores", 50, 1_600, options).track(clip.audio)
        assert np.diff(track.times) == pytest.approx(0.008 if periods else 0.016)
        return benchmark.errors([benchmark.differences(clip, track, options)])

    plain, fitted = errors(0), errors(6)
    assert fitted.cents < 0.75 * plain.cents
    assert fitted.voicing <= plain.voicing


def test_a_part_is_heard_as_in_the_whole(session: onnxruntime.InferenceSession) -> None:
    """From a quarter of a second off the cut on."""
    song = audio.read(SONG, RATE)
    tracker = Tracker(session, "swift_scores", 50, 1_600)
    whole, part = tracker.track(song), tracker.track(song[2 * RATE : 6 * RATE])
    first, margin = int(np.searchsorted(whole.times, 2 - 1e-6)), 32
    inner = slice(margin, len(part.f0) - margin)
    there = slice(first + margin, first + len(part.f0) - margin)
    cents = 1200 * np.log2(part.f0[inner] / whole.f0[there])
    voiced = part.confidence[inner] >= tracker.options.threshold
    np.testing.assert_array_equal(voiced, whole.confidence[there] >= tracker.options.threshold)
    assert np.abs(cents[voiced]).max() <= 1.01
