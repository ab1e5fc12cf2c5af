"""svc-prepare in trouble: folders and files that cannot be read, change, or have odd names; a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from moksori.runtime import audio, manifest
from moksori.runtime.files import read_json
from moksori.train import build, corpus, features, pipeline, prepare

RATE = 24_000
Run = Callable[..., Result]


def song(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * 220 * time) * (time % 2 < 1.8)


def record(path: Path, seconds: float = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, song(seconds), RATE)
    return path


@pytest.fixture
def run(tmp_path: Path, tiny_voice: Callable[[Path], Path]) -> Run:
    graphs = tiny_voice(tmp_path / "graphs")

    def call(*options: str, source: Path = tmp_path / "in", target: Path = tmp_path / "data") -> Result:
        given = ["--content", str(graphs / "content.onnx"), "--pitch", str(graphs / "pitch.onnx"), "--jobs", "1"]
        return CliRunner().invoke(prepare.main, [str(source), str(target), *given, "--min", "1", *options])

    return call


def speakers(data: Path) -> list[str]:
    return [one["name"] for one in read_json(data / "data.json")["speakers"]]


def test_a_folder_that_cannot_be_looked_into_is_named(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "in" / "ann" / "a.wav")
    record(tmp_path / "in" / "ann" / "locked" / "b.wav")
    scan = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = run("--strict")
    assert (result.exit_code, "locked cannot be read (Permission denied)" in result.output) == (1, True), result.output
    assert "made 1 of 1 files" in result.output
    (tmp_path / "in" / "ann" / "a.wav").unlink()
    result = run()
    assert (result.exit_code, "holds no audio (" in result.output and "locked" in result.output) == (2, True)


def test_names_become_such_as_a_voice_can_hold(tmp_path: Path, run: Run) -> None:
    rule = manifest.RULES[manifest.Speaker]["name"]
    long = "가" * 80
    for folder in ("Kim, takes: 1|2", long, ". .hidden?"[3:], "nearly long enough " * 4):
        record(tmp_path / "in" / folder / f"{'x' * 240}.wav")
    assert run().exit_code == 0
    found = speakers(tmp_path / "data")
    assert set(found) == {"Kim_ takes_ 1_2", "가" * 64, "hidden_", ("nearly long enough " * 4)[:64].strip()}
    assert all(rule.holds(name) for name in found)
    assert corpus.speaker_name("...") == "speaker" and rule.holds(corpus.speaker_name("a\x1b[31m\udcff/"))
    record(tmp_path / "in" / "kim_ TAKES_ 1?2" / "a.wav")
    result = run()
    assert (result.exit_code, "would both be speaker" in result.output) == (2, True)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
def test_names_that_are_no_text(tmp_path: Path, run: Run) -> None:
    """Left by archives of another time: a folder, a good and a bad file in EUC-KR."""
    folder = os.fsencode(tmp_path / "in") + b"/\xb9\xce\xc1\xf6"
    record(tmp_path / "in" / "good.wav")
    Path(os.fsdecode(folder)).mkdir()
    for name, content in ((b"\xb3\xeb\xb7\xa1.wav", (tmp_path / "in" / "good.wav").read_bytes()), (b"\xb3.wav", b"no")):
        with open(folder + b"/" + name, "wb") as file:
            file.write(content)
    (tmp_path / "in" / "good.wav").unlink()
    for words in ("made 1 of 2 files", "nothing to do"):
        result = run()
        assert (result.exit_code, words in result.output) == (0, True), result.output.encode("utf-8", "replace")
        assert "1 of 2 files were skipped" in result.output
    assert speakers(tmp_path / "data") == ["____"]


def test_links_are_followed_and_never_in_circles(tmp_path: Path, run: Run) -> None:
    record(tmp_path / "elsewhere" / "a.wav")
    ann = tmp_path / "in" / "ann"
    record(ann / "b.wav")
    try:
        (ann / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (ann / "again").symlink_to(ann, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert "made 2 of 2 files" in run().output


def test_a_file_that_changes_or_goes_while_it_is_read(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = tmp_path / "in" / "ann"
    growing, gone, touched, _ = (record(ann / f"{name}.wav") for name in ("growing", "gone", "touched", "still"))
    blocks, readable = audio.blocks, pipeline.make

    def changing(path: Path, rate: int) -> Iterator[np.ndarray]:
        yield from blocks(path, rate)
        if path == growing:
            soundfile.write(path, song(3), RATE)
        if path == touched:
            os.utime(path, (0, 0))

    def going(*given: Any) -> Any:
        gone.unlink()
        return readable(*given)

    with monkeypatch.context() as patch:
        patch.setattr(audio, "blocks", changing)
        patch.setattr(pipeline, "make", going)
        result = run("--strict")
    assert result.exit_code == 1
    assert "growing.wav changed while it was read" in result.output
    assert "gone.wav cannot be read (No such file" in result.output
    assert "made 1 of 4 files" in result.output
    assert "made 2 of 3 files" in run().output  # growing.wav, whole now, and touched.wav
    assert "nothing to do" in run().output
    seconds = sum(piece["seconds"] for piece in read_json(tmp_path / "data" / "data.json")["slices"])
    assert seconds == pytest.approx(1.8 + 1.8 + 3, abs=0.3)


def test_one_sample_and_nothing_else(tmp_path: Path, run: Run) -> None:
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "one.wav", [0.5], RATE)
    result = run()
    assert (result.exit_code, "all is silent or too short" in result.output) == (2, True)
    record(tmp_path / "in" / "two.wav")
    assert "1 slices" in run().output


def test_a_disk_that_fills_up_is_one_sentence(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """While features are written, while a record is, and while data.json is."""
    record(tmp_path / "in" / "ann" / "a.wav")

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    for module, name in ((features, "_write"), (corpus, "write_json"), (build, "write_json")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
            result = run()
        assert result.exit_code == 2, name
        last = result.output.splitlines()[-1]
        assert last.startswith("Error: ") and "data cannot be written (No space left on device)" in last
    assert run().exit_code == 0
    assert "nothing to do" in run().output
    assert not list((tmp_path / "data").rglob("*.part*"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file system that can be filled")
def test_a_real_disk_that_is_full(tmp_path: Path, run: Run) -> None:
    """/dev/full-like: a file system of 256 KB, where mounting is allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting is not allowed here")
    try:
        record(tmp_path / "in" / "ann" / "a.wav", 20)
        result = run(target=disk / "data")
        assert result.exit_code == 2
        last = result.output.splitlines()[-1]
        assert last.startswith("Error: ") and ("disk is full" in last or "No space left" in last), last
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        result = run(target=disk / "data")
        assert (result.exit_code, result.output.splitlines()[-1].startswith("Error: ")) == (2, True), result.output
        assert "Read-only" in result.output
        subprocess.run(["mount", "-o", "remount,rw,size=64m", str(disk)], check=True)
        assert run(target=disk / "data").exit_code == 0
    finally:
        subprocess.run(["umount", str(disk)], check=False)
