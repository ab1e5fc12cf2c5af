"""A file that is named in several ways is one file to svc-run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from moksori.runtime import cli


def recording(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.2 * np.sin(2 * np.pi * 220 * np.arange(9600) / 16_000), 16_000)
    return path


def test_a_file_named_twice_is_converted_once(
    tmp_path: Path, tiny_voice: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = tiny_voice(tmp_path / "voice")
    first, _ = recording(tmp_path / "songs" / "가 🎤.wav"), recording(tmp_path / "songs" / "b.wav")
    monkeypatch.chdir(tmp_path)
    words = [first, "songs", Path("songs", "b.wav"), "--voice", voice, "--device", "cpu", "-o", "out"]
    result = CliRunner().invoke(cli.main, [str(word) for word in words])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("real-time factor") == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b_tiny_+0.wav", "가 🎤_tiny_+0.wav"]
