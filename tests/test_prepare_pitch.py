"""The f0 that training reads is the f0 that a conversion hears, by way of data.json and voice.json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import soxr
from click.testing import CliRunner, Result

from moksori.runtime import audio, library, mel, pitch, voice
from moksori.runtime.converter import Converter
from moksori.runtime.files import read_json
from moksori.runtime.manifest import PitchSpec
from moksori.runtime.voice import Voice
from moksori.train import prepare

SONG = Path(__file__).parent / "data" / "vocadito_10.flac"
SWIFT = library.installed()[voice.DEFAULT] / "pitch.onnx"
SECONDS = 2


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Singing in so much noise that the trackers go astray."""
    path = tmp_path / "audio" / "ann" / "song.wav"
    path.parent.mkdir(parents=True)
    song = audio.read(SONG, 24_000)[24_000 :][: SECONDS * 24_000]
    noise = np.random.default_rng(0).standard_normal(len(song)).astype(np.float32)
    soundfile.write(path, song + 0.03 * noise, 24_000, subtype="FLOAT")
    return path.parent.parent


def prepared(source: Path, target: Path, graph: Path, content: Path, *options: str) -> Result:
    given = ["--content", str(content), "--pitch", str(graph), "--jobs", "1", "--cache", "f0"]
    return CliRunner().invoke(prepare.main, [str(source), str(target), *given, *options])


@pytest.mark.parametrize(
    ("kind", "options", "differs"),
    [
        ("swift_scores", (), False),
        ("swift_scores", ("--octave-guard", "--threshold", "0.8"), True),
        ("swift_scores", ("--decoder", "weighted"), True),
        ("swift_scores", ("--median", "5"), True),
        ("swift_scores", ("--mean", "3"), True),
        ("swift_scores", ("--periods", "0"), True),
        ("crepe", (), False),
        ("crepe", ("--decoder", "weighted"), True),
        ("crepe", ("--periods", "4"), True),
        ("crepe", ("--decoder", "weighted", "--octave-guard", "--median", "3"), True),
    ],
)
def test_training_and_conversion_hear_the_same_f0(
    tmp_path: Path,
    recordings: Path,
    tiny_voice: Callable[..., Path],
    jumpy_crepe: Path,
    kind: str,
    options: tuple[str, ...],
    differs: bool,
) -> None:
    graph = SWIFT if kind == "swift_scores" else jumpy_crepe
    content = tiny_voice(tmp_path / "plain") / "content.onnx"
    result = prepared(recordings, tmp_path / "data", graph, content, *options)
    assert result.exit_code == 0, result.output
    facts = read_json(tmp_path / "data" / "data.json")
    spec = PitchSpec(**facts["pitch"])
    assert spec.kind == kind
    made = tiny_voice(tmp_path / "voice", {"pitch": onnx.load(graph)}, pitch=spec)
    converter = Converter(Voice.load(made, "cpu"))
    (piece,) = facts["slices"]
    sound = audio.read(tmp_path / "data" / "audio" / piece["speaker"] / f"{piece['id']}.flac", 24_000)
    with np.load(tmp_path / "data" / "features" / piece["speaker"] / f"{piece['id']}.npz") as features:
        f0, voiced = features["f0"], features["voiced"]
    times = mel.frame_times(len(f0), mel.MelSpec(**facts["mel"]))
    heard = converter.tracker.at(soxr.resample(sound, 24_000, 16_000), times)
    np.testing.assert_array_equal(heard[0], f0)
    np.testing.assert_array_equal(heard[1], voiced)
    assert 0 < voiced.mean() < 1
    usual = pitch.Tracker(converter.voice.pitch, kind, spec.fmin, spec.fmax)
    plain = usual.at(soxr.resample(sound, 24_000, 16_000), times)
    assert (np.array_equal(plain[0], f0) and np.array_equal(plain[1], voiced)) != differs


def test_what_a_tracker_cannot_do_is_refused(tmp_path: Path, recordings: Path, tiny_voice: Callable[..., Path]) -> None:
    plain = tiny_voice(tmp_path / "plain")
    for options, words in [
        (("--median", "2"), "median 2 and mean 1 must be odd"),
        (("--mean", "-1"), "mean -1 must be odd"),
        (("--threshold", "1"), "a threshold of 1 is not possible"),
        (("--threshold", "nan"), "a threshold of nan is not possible"),
        (("--periods", "21"), "periods is 21, and must be between 0 and 20"),
        (("--periods", "-1"), "periods is -1, and must be between 0 and 20"),
        (("--pitch", str(plain / "pitch.onnx"), "--decoder", "viterbi"), "the graph of --pitch decodes for itself"),
    ]:
        result = prepared(recordings, tmp_path / "data", SWIFT, plain / "content.onnx", *options)
        assert (result.exit_code, words in result.output, result.output.count("\n")) == (2, True, 1), result.output
    assert not (tmp_path / "data").exists()


def test_the_help_tells_each_trackers_defaults() -> None:
    text = " ".join(CliRunner().invoke(prepare.main, ["--help"]).output.split())
    assert "[default: 0.5 for swift, 0.45 for swift_scores, 0.3 for crepe]" in text
    assert "[default: weighted for swift, viterbi for swift_scores, viterbi for crepe]" in text
