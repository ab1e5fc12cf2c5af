"""svc-run with real graphs: formats, lengths, plots, bad recordings, damaged voices, Ctrl-C in a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from moksori.runtime import cli

TinyVoice = Callable[..., Path]
RATE, HOP = 24_000, 240  # of the tiny voice


@pytest.fixture
def voice(tmp_path: Path, tiny_voice: TinyVoice) -> Path:
    return tiny_voice(tmp_path / "voice")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "작업 folder"
    folder.mkdir()
    return folder


def run(voice: Path, *arguments: object) -> Result:
    words = [*arguments, "--voice", voice, "--device", "cpu"]
    return CliRunner().invoke(cli.main, [str(word) for word in words])


def tone(seconds: float, rate: int) -> NDArray[np.float64]:
    return 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)


def recording(path: Path, seconds: float = 1.5, rate: int = 16_000) -> Path:
    soundfile.write(path, tone(seconds, rate), rate)
    return path


@pytest.mark.parametrize(
    ("format", "container"),
    [("wav", "WAV"), ("flac", "FLAC"), ("ogg", "OGG"), ("opus", "OGG"), ("mp3", "MP3")],
)
def test_every_format_holds_the_whole_song(voice: Path, work: Path, format: str, container: str) -> None:
    result = run(voice, recording(work / "노래.wav"), "--format", format)
    assert result.exit_code == 0, result.stderr
    target = work / f"노래_tiny_+0.{format}"
    info = soundfile.info(target)
    assert (info.format, info.samplerate, info.channels) == (container, RATE, 1)
    assert abs(info.frames - 1.5 * RATE) <= HOP
    assert str(target) in result.stdout and "CPU (" in result.stdout
    assert result.stdout.count("real-time factor") == 1


def test_a_seed_gives_the_same_samples_again(voice: Path, work: Path) -> None:
    song = recording(work / "a.wav")
    takes = []
    for name, seed in (("b", 1), ("c", 1), ("d", 2)):
        assert run(voice, song, "-o", work / f"{name}.wav", "--seed", seed).exit_code == 0
        takes.append(soundfile.read(work / f"{name}.wav")[0])
    np.testing.assert_array_equal(takes[0], takes[1])
    assert not np.array_equal(takes[0], takes[2])


def test_speakers_and_mixes_differ(voice: Path, work: Path) -> None:
    song = recording(work / "a.wav")
    takes = {}
    for speaker in ("heart", "f001", "heart:0.5,f001:0.5"):
        assert run(voice, song, "--speaker", speaker, "--name", "{speaker}").exit_code == 0
    for name in ("heart", "f001", "heart_0.5,f001_0.5"):
        takes[name] = soundfile.read(work / f"{name}.wav")[0]
    assert len({samples.tobytes() for samples in takes.values()}) == 3


def test_a_plot_lies_beside_the_result(voice: Path, work: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run(voice, recording(work / "a.wav"), "-o", work / "b.wav", "--plot")
    assert result.exit_code == 0, result.stderr
    assert (work / "b.png").read_bytes().startswith(b"\x89PNG") and str(work / "b.png") in result.stdout


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        pytest.param(np.tile(tone(0.5, 48_000)[:, None], 8), 48_000, id="8 channels"),
        pytest.param(tone(1.0, 8_000), 8_000, id="8 kHz"),
        pytest.param(tone(0.5, 192_000), 192_000, id="192 kHz"),
    ],
)
def test_unusual_recordings_are_converted(
    voice: Path, work: Path, samples: NDArray[np.float64], rate: int
) -> None:
    soundfile.write(work / "a.wav", samples, rate)
    result = run(voice, work / "a.wav")
    assert result.exit_code == 0, result.stderr
    converted = soundfile.read(work / "a_tiny_+0.wav")[0]
    assert abs(len(converted) - len(samples) / rate * RATE) <= HOP
    assert np.isfinite(converted).all()


def test_a_cut_recording_is_converted_as_far_as_it_goes(voice: Path, work: Path) -> None:
    whole = recording(work / "a.wav").read_bytes()
    (work / "a.wav").write_bytes(whole[: len(whole) // 2])
    result = run(voice, work / "a.wav")
    assert result.exit_code == 0
    assert "is cut short: 0.75 s of 1.50 s" in result.stderr
    assert abs(soundfile.info(work / "a_tiny_+0.wav").frames - 0.75 * RATE) <= HOP


def with_nan(path: Path) -> None:
    samples = tone(1.0, 8_000)
    samples[4_000] = np.nan
    soundfile.write(path, samples, 8_000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda path: None, "does not exist", id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), "is empty", id="empty"),
        pytest.param(lambda path: soundfile.write(path, np.zeros(0), 8_000), "no sound", id="zero length"),
        pytest.param(lambda path: path.write_text("la la la"), "is not audio", id="not audio"),
        pytest.param(lambda path: path.mkdir(), "is a folder", id="a folder"),
        pytest.param(
            lambda path: soundfile.write(path, np.zeros(9_000), 8_000), "is silent", id="all silent"
        ),
        pytest.param(
            lambda path: soundfile.write(path, np.full(1, 0.5), 8_000), "is silent", id="one sample"
        ),
        pytest.param(with_nan, "NaN or infinite sample at 0.500 s", id="NaN"),
    ],
)
def test_bad_recordings_are_refused_in_one_line(
    voice: Path, work: Path, make: Callable[[Path], object], said: str
) -> None:
    make(work / "a.wav")
    before = sorted(work.iterdir())
    result = run(voice, work / "a.wav")
    assert result.exit_code == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and said in result.stderr
    assert str(work / "a.wav") in result.stderr
    assert sorted(work.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--speaker", "hart"], "has no speaker 'hart'"),
        (["--device", "abacus"], "there is no device 'abacus'"),
        (["--device", "cpu:7"], "there is no device 'cpu:7'"),
    ],
)
def test_unknown_speakers_and_devices_are_refused(
    voice: Path, work: Path, options: list[str], said: str
) -> None:
    song = recording(work / "a.wav")
    words = [str(song), "--voice", str(voice), "--device", "cpu", *options]
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and said in result.stderr
    assert [path.name for path in work.iterdir()] == ["a.wav"]


def test_an_altered_voice_is_refused(voice: Path, work: Path) -> None:
    graph = voice / "denoiser.onnx"
    altered = bytearray(graph.read_bytes())
    altered[len(altered) // 2] ^= 1
    graph.write_bytes(altered)
    result = run(voice, recording(work / "a.wav"))
    assert result.exit_code == 2 and "denoiser.onnx of voice 'tiny' is not the file" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_output_that_cannot_be_written_is_told(voice: Path, work: Path) -> None:
    song = recording(work / "a.wav")
    (work / "file").write_text("")
    result = run(voice, song, "-o", work / "file" / "b.wav")
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert "cannot be written" in result.stderr or "Not a directory" in result.stderr
    assert sorted(path.name for path in work.iterdir()) == ["a.wav", "file"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_leaves_no_trace(voice: Path, work: Path) -> None:
    song, out = recording(work / "a.wav", seconds=2000, rate=8_000), work / "out"
    words = [
        sys.executable,
        "-m",
        "moksori.runtime.cli",
        song,
        "--voice",
        voice,
        "--device",
        "cpu",
        "-o",
        out,
    ]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MOKSORI_THREADS": "1"},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a background job may inherit it ignored
    )
    deadline = time.monotonic() + 60
    while not out.is_dir() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (stdout, stderr) == ("", "stopped\n")
    # Where it came while a dataclass was being made, CPython ends by the signal itself; shells call both 130.
    assert process.returncode in (130, -signal.SIGINT)
    assert list(out.iterdir()) == []
