"""The parts of `make windows` that need no Wine: what the resolver is asked, what is made of its answer, and paths."""

from __future__ import annotations

import os
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from moksori.benchmarks import windows
from moksori.benchmarks.wine import Windows

pytestmark = pytest.mark.skipif(os.name == "nt", reason="runs on Linux")


def resolver(folder: Path, script: str) -> Path:
    """A stand-in for uv."""
    path = folder / "uv"
    (folder / "uv.py").write_text(f"import sys\n{script}\n", encoding="utf-8")
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$0.py" "$@"\n', encoding="utf-8")  # its path may have spaces
    path.chmod(0o755)
    return path


def test_what_fits_is_counted(tmp_path: Path) -> None:
    script = "print('numpy==2.4.6\\nrich==15.0.0\\nonnxruntime-directml==1.24.4')\nprint(sys.stdin.read(), file=open"
    uv = resolver(tmp_path, f"{script}({str(tmp_path / 'asked')!r}, 'w'))\nprint('\\n'.join(sys.argv))")
    found = windows.available(uv, "3.12", "directml")
    assert found == {"fits": True, "packages": 3, "numpy": "2.4.6", "onnxruntime-directml": "1.24.4"}
    asked = (tmp_path / "asked").read_text().splitlines()
    assert 'onnxruntime-directml>=1.24; sys_platform == "win32"' in asked and "soundfile>=0.13" in asked


def test_what_does_not_fit_is_told_in_a_line(tmp_path: Path) -> None:
    uv = resolver(tmp_path, "print('no\\n  wheels of x', file=sys.stderr); sys.exit(1)")
    assert windows.available(uv, "3.11", "cuda") == {"fits": False, "why": "no wheels of x"}


def test_every_python_that_the_project_is_for_is_asked_about() -> None:
    setup = ConfigParser()
    setup.read(Path(windows.ROOT, "setup.cfg"), encoding="utf-8")
    assert f">={windows.VERSIONS[0]}" == setup["options"]["python_requires"]
    words = windows.target("3.12")
    assert words[words.index("--python-version") + 1] == "3.12" and "x86_64-pc-windows-msvc" in words


def test_paths_in_the_tree_are_on_drive_z(tmp_path: Path) -> None:
    system = Windows(tmp_path, "cp949")
    assert system.drive(system.tree / "wine" / "노래 🎤" / "a b.wav") == "Z:\\wine\\노래 🎤\\a b.wav"
    assert system.site == tmp_path / "debian" / "wine" / "cp313" / "packages"


def test_samples_of_other_lengths_are_infinitely_apart(tmp_path: Path) -> None:
    import soundfile

    for name, samples in (("a", [0.1, 0.2]), ("b", [0.1, -0.2]), ("c", [0.1])):
        soundfile.write(tmp_path / f"{name}.wav", samples, 8000, subtype="FLOAT")
    largest, rms = windows._distance(tmp_path / "a.wav", tmp_path / "b.wav")
    assert largest == pytest.approx(0.4) and rms == pytest.approx(0.4 / 2**0.5)
    assert windows._distance(tmp_path / "a.wav", tmp_path / "c.wav") == (float("inf"), float("inf"))
