"""The Python of the README: its lines run as they stand, and say what they promise."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_readmes_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = EXAMPLE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len([line for line in example.splitlines() if line]) <= 5
    samples, rate = soundfile.read(ROOT / "tests" / "data" / "vocadito_10.flac", frames=3 * 44_100)
    soundfile.write(tmp_path / "song.wav", samples, rate)
    shutil.copy(tmp_path / "song.wav", tmp_path / "copy.wav")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    target, key, loudness = capsys.readouterr().out.split()
    assert target == "song_demo_auto.wav" and float(key) == 12 and -40 < float(loudness) < 0
    assert soundfile.info(target).duration == pytest.approx(3, abs=0.01)
    assert (tmp_path / "song.wav").read_bytes() == (tmp_path / "copy.wav").read_bytes()
