"""README's commands, run as they stand from top to bottom in a folder with recordings and a song.

Training gets networks of a few weights; test_docs.py parses the benchmarks' commands, test_api.py runs the Python.
"""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import yaml
from click.testing import CliRunner

from moksori.runtime import audio

ROOT = Path(__file__).resolve().parent.parent
SONG = ROOT / "tests" / "data" / "vocadito_10.flac"
FENCE = re.compile(r"^```(?:sh|bat)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = {
    "svc-prepare": "moksori.train.prepare", "svc-train": "moksori.train.cli", "svc-export": "moksori.export.cli",
    "svc-run": "moksori.runtime.cli", "svc-live": "moksori.runtime.live",
}  # fmt: skip
# What needs more than a test has, and the test that does it with less.
ELSEWHERE = {
    "svc-prepare recordings data --pitch crepe": "test_extractors.py",
    "svc-prepare recordings data --rate 44100 --cache f0 --jobs 4 --memory 4G": "test_prepare.py",
    "svc-export --from model/": "test_import.py",
    "svc-live": "test_live.py",
}
LOOP = {"schedule": "constant", "warmup": 1, "validate_every": 1000, "save_every": 2, "workers": 1}
TINY = {
    "denoiser": {"channels": 32, "hidden": 48, "layers": 2, "kernel": 5},
    "vocoder": {"channels": 16, "hidden": 24, "layers": 1, "kernel": 3},
}


def lines() -> list[str]:
    """The commands of ours, training first, since a later line of another block sings with what was trained."""
    blocks = FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    found = [line.split("  #")[0].split(" # ")[0].strip() for block in blocks for line in block.splitlines()]
    ours = [line for line in dict.fromkeys(found) if line.split(" ")[0] in COMMANDS]
    return sorted(ours, key=lambda line: line.startswith("svc-run"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what README's reader has: recordings, a song, and a curve that was edited."""
    folder = tmp_path_factory.mktemp("readme 읽기 🎤")
    samples, rate = soundfile.read(SONG)
    for name, start, seconds in (
        ("recordings/take.wav", 0, 5.6), ("recordings/other.wav", 3, 5.6), ("song.wav", 0, 2), ("a.wav", 2, 1.5),
        ("b.flac", 3, 1.5), ("songs/album/c.wav", 4, 1.5),
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, samples[start * rate : int((start + seconds) * rate)], rate)
    (folder / "edited.csv").write_text("seconds,hz\n0,220\n2,330\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


def words(line: str) -> list[str]:
    """The line's words, and for a training a network of a few weights."""
    given = shlex.split(line)
    if given[0] == "svc-train":
        config = {"batch": 2, "frames": 24, "network": TINY[given[1]], "loop": LOOP}
        Path("tiny.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        given += ["--steps", "2", "--config", "tiny.yaml", "--threads", "1"]
    return given


@pytest.mark.parametrize("line", [line for line in lines() if not any(line.startswith(one) for one in ELSEWHERE)])
def test_it_runs(place: Path, line: str) -> None:
    command, *arguments = words(line)
    done = CliRunner().invoke(importlib.import_module(COMMANDS[command]).main, arguments)
    assert done.exit_code == 0, done.output


def test_what_it_leaves_behind(place: Path) -> None:
    """The results that the lines above name; 2 s of them where all of the song was sung."""
    assert {path.name for path in place.joinpath("voices", "me").glob("*.onnx")} == {
        "content.onnx", "pitch.onnx", "condition.onnx", "denoiser.onnx", "vocoder.onnx"
    }  # fmt: skip
    assert audio.info(place / "edited.wav").seconds == pytest.approx(2, abs=0.01)
    assert {path.suffix for path in (place / "out").iterdir()} == {".flac"}
    assert [path.parent.name for path in (place / "converted").rglob("*.wav")] == ["album"]
    assert (place / "song_demo_+0.f0.csv").is_file()


def test_what_runs_elsewhere_is_there() -> None:
    shown = lines()
    for line, file in ELSEWHERE.items():
        here = any(one.startswith(line) for one in shown)
        assert not here or (ROOT / "tests" / file).is_file(), line


def test_make_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very line of the Makefile, its results elsewhere."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\t\.venv/bin/svc-run (.*)$", makefile, re.MULTILINE)
    shutil.copytree(ROOT / "tests" / "data", tmp_path / "tests" / "data")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(importlib.import_module(COMMANDS["svc-run"]).main, shlex.split(line))
    assert done.exit_code == 0, done.output
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".wav", ".png"}
