"""svc-run as people use it: names, refusals, several files, messages, exit codes. The engine here is a stand-in
that copies the sound; test_cli_voice.py converts with real graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

import moksori.runtime
from moksori.runtime import audio, cli, tags
from moksori.runtime.errors import AudioError, VoiceError
from moksori.runtime.master import Levels
from moksori.runtime.mel import MelSpec
from moksori.runtime.naming import Style
from moksori.runtime.options import Options
from moksori.runtime.report import Report, Trace


@dataclass
class Engine:
    """What the stand-in was asked, and what it is to do."""

    asked: list[Any] = field(default_factory=list)
    loaded: list[tuple[str, str]] = field(default_factory=list)
    memory: list[int | None] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    voice = SimpleNamespace(name="demo")

    class Voice:
        @staticmethod
        def load(name: str, device: str) -> object:
            if name != "demo":
                raise VoiceError(f"there is no voice '{name}'")
            engine.loaded.append((name, device))
            return voice

    class Converter:
        def __init__(self, voice: object, options: Options, memory: int | None) -> None:
            self.voice, self.options = voice, options
            engine.memory.append(memory)
            self.style = Style("demo", options.speaker or "heart", options.key, options.steps or 4)
            self.settings = {"key": str(options.key), "speaker": options.speaker or "heart"}

        def convert(self, source: Path, target: Path, progress: Callable[[float], None]) -> Report:
            engine.asked.append(self.options)
            samples = audio.read(source, 8000)
            fields = tags.of_result(source, {**self.settings, "sung": "+0"})
            with audio.Writer(target, 8000, target.suffix[1:].lower(), fields=fields) as file:
                progress(0.5)
                engine.meanwhile()
                file.write(samples)
            trace = Trace(MelSpec())
            trace.add(2, np.array([220, 440], np.float32), np.array([True, False]), np.ones(2, np.float32))
            return Report(
                source, target, 8000, 1, len(samples) / 8000, 0.25, 0.0, Levels(-23.04, 0.5, 0.0), self.settings,
                {"decode": 0.05, "denoiser": 0.2},
                {"content": "CPU (Abacus)", "pitch": "CPU (Abacus)", "denoiser": "cuda:0 (Loom)"},
                ("the pitch graph runs on the CPU",), trace,
            )  # fmt: skip

    monkeypatch.setattr(moksori.runtime, "Voice", Voice, raising=False)
    monkeypatch.setattr(moksori.runtime, "Converter", Converter, raising=False)
    return engine


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return recording(tmp_path / "song.wav")


def recording(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(8000) / 10), 8000)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_song_is_converted_beside_itself_and_the_report_says_it_all(engine: Engine, song: Path) -> None:
    result = run(song)
    assert (result.exit_code, result.stderr) == (0, "")
    assert files(song.parent) == ["song.wav", "song_demo_+0.wav"]
    assert result.stdout.splitlines() == [
        str(song.with_name("song_demo_+0.wav")),
        "  1.00 s of audio in 0.25 s: real-time factor 0.250",
        "  key +0, -23.0 LUFS, 8000 Hz, mono",
        "  seconds  decode 0.05  denoiser 0.20",
        "  CPU (Abacus) ran content, pitch",
        "  cuda:0 (Loom) ran denoiser",
        "  note: the pitch graph runs on the CPU",
    ]


def test_options_reach_the_engine(engine: Engine, song: Path) -> None:
    result = run(
        song, "--speaker", "f001", "--key", "-2.5", "--steps", 8, "--sampler", "ab2", "--depth", 0.4,
        "--guidance", 2, "--seed", 7, "--device", "cpu", "--formant", "1.5",
        "--memory", "2G", "--loudness", "-14", "--rate", "44100", "--bits", "16", "--stereo",
        "--name", "{stem} {voice} {speaker} {key:+d} {steps}", "--format", "FLAC", "-o", song.parent / "새 폴더",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert files(song.parent) == ["song.wav", "새 폴더/song demo f001 -2.5 8.flac"]
    asked = engine.asked[0]
    assert asked == Options(
        "f001", -2.5, 1.5, steps=8, sampler="ab2",
        seed=7, depth=0.4, guidance=2, stereo=True, loudness=-14, rate=44100, bits="16",
    )  # fmt: skip
    assert engine.loaded == [("demo", "cpu")] and engine.memory == [2 * 10**9]


def test_one_file_can_be_named(engine: Engine, song: Path) -> None:
    assert run(song, "-o", song.parent / "out" / "a b 🎤.ogg").exit_code == 0
    assert soundfile.info(song.parent / "out" / "a b 🎤.ogg").format == "OGG"


def test_nothing_is_overwritten_without_force(engine: Engine, song: Path) -> None:
    target = song.with_name("song_demo_+0.wav")
    target.write_bytes(b"precious")
    result = run(song)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        f"Error: {target} exists and was made otherwise: overwrite it by --force, or name another by -o or --name"
    ]
    assert target.read_bytes() == b"precious" and engine.asked == []
    assert run(song, "--force").exit_code == 0
    assert soundfile.info(target).frames == 8000


def test_an_input_is_never_overwritten_even_by_force(engine: Engine, song: Path) -> None:
    before = song.read_bytes()
    other = recording(song.with_name("other.wav"))
    for arguments in (
        [song, "-o", song],
        [song, "--name", "{stem}"],
        [song, "-o", song.parent / "x" / ".." / "song.wav"],
        [other, song, "--name", "song"],
    ):
        result = run(*arguments, "--force")
        assert result.exit_code == 2
        assert "is an input, which is never overwritten" in result.stderr
    assert song.read_bytes() == before and files(song.parent) == ["other.wav", "song.wav"]


def test_a_link_to_the_input_is_the_input(engine: Engine, song: Path) -> None:
    link = song.with_name("link.wav")
    try:
        link.symlink_to(song)
    except OSError:
        pytest.skip("no links here")
    assert "is an input" in run(song, "-o", link, "--force").stderr


def test_one_bad_file_does_not_stop_the_others(engine: Engine, tmp_path: Path) -> None:
    good = [recording(tmp_path / name) for name in ("a.wav", "c.wav")]
    (tmp_path / "b.wav").write_text("not audio")
    result = run(good[0], tmp_path / "b.wav", tmp_path / "missing.wav", good[1], "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert files(tmp_path / "out") == ["a_demo_+0.wav", "c_demo_+0.wav"]
    errors = result.stderr.splitlines()
    assert len(errors) == 3 and errors[2] == "2 of 4 files were not converted"
    assert "b.wav is not audio" in errors[0] and "missing.wav does not exist" in errors[1]
    assert len(engine.loaded) == 1


def test_inputs_that_would_become_one_file_are_refused(engine: Engine, tmp_path: Path) -> None:
    one, two = recording(tmp_path / "a" / "song.wav"), recording(tmp_path / "b" / "song.wav")
    result = run(one, two, recording(tmp_path / "c.wav"), "-o", tmp_path / "out", "--force")
    assert result.exit_code == 2
    assert result.stderr.count(f"{one}, {two} would all become {tmp_path / 'out' / 'song_demo_+0.wav'}") == 2
    assert files(tmp_path / "out") == ["c_demo_+0.wav"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name an audio file to convert"),
        (["s.wav", "--voice", "nobody"], "there is no voice 'nobody'"),
        (["s.wav", "--name", "{stem.x}"], "--name knows no field {stem.x}"),
        (["s.wav", "--format", "aiff"], "'aiff' is not one of 'wav', 'flac', 'ogg', 'opus', 'mp3'"),
        (["s.wav", "--key", "nan"], "nan is no number of semitones: give one such as 12, -5 or 0.5, or auto or speech"),
        (["s.wav", "--key", "high"], "high is no number of semitones"),
        (["s.wav", "--key", "99"], "a key of 99 semitones"),
        (["s.wav", "--key", "auto", "--f0", "a.csv"], "the key auto and an f0 curve both"),
        (["s.wav", "--key", "Speech", "--f0", "a.csv"], "the key speech and an f0 curve both"),
        (["s.wav", "--rate", "44.1k"], "44.1k is no sample rate: give one in Hz, such as 44100, or source"),
        (["s.wav", "--bits", "float", "--format", "flac"], "flac has no samples of float bits"),
        (["s.wav", "--bits", "16", "--format", "mp3"], "mp3 has no samples of 16 bits"),
        (["s.wav", "--loudness", "7"], "a loudness of 7 LUFS"),
        (["s.wav", "--formant", "30"], "formants 30 semitones away"),
        (["s.wav", "--steps", "0"], "0 is not in the range"),
        (["s.wav", "--depth", "0"], "0.0 is not in the range"),
        (["s.wav", "--guidance", "11"], "11.0 is not in the range"),
        (["s.wav", "--seed", "-1"], "-1 is not in the range"),
        (["s.wav", "--shout"], "No such option"),
        (["a.wav", "b.wav", "-o", "c.wav"], "c.wav is one file for 2 inputs"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(engine: Engine, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2 and engine.asked == []
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("Error: ")
    assert said in result.stderr


def test_system_errors_are_one_line_too(engine: Engine, song: Path) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device", "out.wav")

    engine.meanwhile = fail
    result = run(song)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert "No space left on device" in result.stderr
    assert files(song.parent) == ["song.wav"]


def test_errors_of_several_lines_become_one(engine: Engine, song: Path) -> None:
    def fail() -> None:
        raise AudioError("first\n  second")

    engine.meanwhile = fail
    assert run(song).stderr == "Error: first second\n"


def test_an_error_of_ours_keeps_its_traceback(engine: Engine, song: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    engine.meanwhile = fail
    assert isinstance(run(song).exception, ZeroDivisionError)


def test_ctrl_c_ends_with_130_and_leaves_nothing(engine: Engine, song: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    engine.meanwhile = interrupt
    result = run(song, recording(song.with_name("next.wav")))
    assert (result.exit_code, result.stderr.strip()) == (130, "stopped")
    assert files(song.parent) == ["next.wav", "song.wav"] and len(engine.asked) == 1


def test_a_cut_file_is_warned_about(engine: Engine, song: Path) -> None:
    song.write_bytes(song.read_bytes()[:9000])
    result = run(song)
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: ") and "is cut short" in result.stderr


def test_a_plot_without_matplotlib_still_converts(
    engine: Engine, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run(song, "--plot")
    assert result.exit_code == 0 and files(song.parent) == ["song.wav", "song_demo_+0.wav"]
    assert result.stderr.splitlines() == [
        'Warning: --plot needs matplotlib, so no PNG is drawn: pip install "moksori[plot]"'
    ]


def test_an_existing_picture_is_not_overwritten_either(engine: Engine, song: Path) -> None:
    pytest.importorskip("matplotlib")
    song.with_name("song_demo_+0.png").write_bytes(b"precious")
    assert "song_demo_+0.png exists" in run(song, "--plot").stderr
    assert engine.asked == []
