"""What Windows asks of paths, as far as any system can tell; benchmarks/windows.py tries the real thing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from moksori.runtime import audio, files, naming
from moksori.runtime.naming import Style

DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³")}
RESERVED = ("CON", "prn", "Aux", "nul", "COM1", "lpt9", "con.mix", "COM¹")


@pytest.mark.parametrize(
    ("path", "opened"),
    [
        ("C:\\songs\\a.wav", "C:\\songs\\a.wav"),
        ("C:\\" + "노래\\" * 80 + "a.wav", "\\\\?\\C:\\" + "노래\\" * 80 + "a.wav"),
        ("\\\\nas\\music\\" + "b\\" * 150 + "a.wav", "\\\\?\\UNC\\nas\\music\\" + "b\\" * 150 + "a.wav"),
        ("\\\\?\\C:\\" + "b" * 250, "\\\\?\\C:\\" + "b" * 250),
    ],
)
def test_long_paths_get_the_prefix_that_lifts_the_limit(path: str, opened: str) -> None:
    """Microsoft, "Maximum Path Length Limitation": 260 characters, and \\\\?\\ or \\\\?\\UNC\\ for more."""
    assert files._extended(path) == opened
    assert len(opened) < 260 or opened.startswith("\\\\?\\")


@pytest.mark.parametrize("stem", RESERVED)
def test_devices_names_are_never_made(stem: str) -> None:
    name = naming.fill("{stem}", stem, Style("demo", "heart", 0.0, 4))
    assert PureWindowsPath(f"{name}.wav").name.partition(".")[0].upper() not in DEVICES


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60), st.text(max_size=30))
def test_any_name_is_one_windows_takes(stem: str, speaker: str) -> None:
    name = naming.fill("x{stem}_{speaker}_{key:+d}", stem, Style("demo", speaker, 0.0, 4)) + ".wav"
    assert PureWindowsPath("C:\\out", name).parent == PureWindowsPath("C:\\out")
    assert not PureWindowsPath(name).drive and name == name.rstrip(" .")


def test_a_read_only_source_is_read_and_a_read_only_result_is_replaced_or_told(tmp_path: Path) -> None:
    song = tmp_path / "a.wav"
    soundfile.write(song, np.full(100, 0.1), 8000)
    song.chmod(stat.S_IREAD)
    assert audio.info(song).frames == 100
    try:
        with audio.Writer(song, 8000) as file:
            file.write(np.zeros(50))
        assert audio.info(song).frames == 50  # Linux asks the folder, not the file
    except audio.AudioError as error:
        assert "cannot be written" in str(error)  # Windows
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("encoding", ["cp949", "cp437"])
def test_help_and_lists_can_be_printed_on_any_console(encoding: str, tmp_path: Path) -> None:
    home = tmp_path / "목소리 🎤"
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "MOKSORI_VOICES": str(home)}
    command = [sys.executable, "-m", "moksori.runtime.cli", "--voices"]
    done = subprocess.run(command, capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"heart" in done.stdout and ("목소리" in done.stdout.decode(encoding)) == (encoding == "cp949")
