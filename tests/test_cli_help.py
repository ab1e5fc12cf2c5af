"""What svc-run says of itself and of this machine: help, version, devices."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from moksori.runtime import backends, cli, devices, selftest


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def test_help_has_examples_and_every_option() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for text in ("svc-run song.wav\n", "{stem}_{voice}_{key:+d}", "directml", "INPUT..."):
        assert text in result.stdout
    names = {name for one in cli.main.params if isinstance(one, click.Option) for name in one.opts}
    assert [name for name in sorted(names) if name not in result.stdout] == []


def test_every_option_is_in_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    long = [one.opts[-1] for one in cli.main.params if isinstance(one, click.Option)]
    assert len(long) > 20
    assert [name for name in long if f'"{name}"' not in tests] == []


def test_version_and_devices() -> None:
    assert run("--version").stdout == f"svc-run {importlib.metadata.version('moksori')}\n"
    listed = run("--devices")
    assert listed.exit_code == 0 and listed.stdout.splitlines()[-1].startswith("cpu:0  CPU (")
    assert ("directml" in listed.stdout) == (sys.platform == "win32")
    assert re.search(r"^cuda  not here: .*pip install \"moksori\[cuda\]\"$", listed.stdout, re.MULTILINE)


def test_devices_tell_what_passed_its_self_test(
    tmp_path: Path, tiny_voice: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that onnxruntime cannot start; one that is the CPU under another name, and so computes the same."""
    folder = tiny_voice(tmp_path / "voice")
    ill, well = backends.Device("cuda", 0, "Imaginary RTX"), backends.Device("webgpu", 1, "Imaginary Arc")
    cpu = backends.BACKENDS["cpu"]
    table = {
        "cuda": backends.Backend("CUDAExecutionProvider", lambda: [ill], cpu.configure, nullcontext),
        "webgpu": backends.Backend(cpu.provider, lambda: [well], cpu.configure, nullcontext),
        "cpu": cpu,
    }
    monkeypatch.setattr(devices, "BACKENDS", table)
    monkeypatch.setattr(selftest, "cache_folder", lambda: tmp_path / "cache")
    listed = run("--devices", "--voice", str(folder))
    first, notice, second, last = listed.stdout.splitlines()
    assert first == "cuda:0  Imaginary RTX  failed its self-test"
    assert "the content, pitch, condition, denoiser, vocoder graphs run on the CPU, not on cuda:0" in notice
    assert second == "webgpu:1  Imaginary Arc  passed its self-test" and last.startswith("cpu:0  CPU (")
    told = json.loads(run("--devices", "--json", "--voice", str(folder)).stdout)
    assert [one.get("self_test") for one in told] == [[notice.strip()], [], None]


def test_output_that_the_console_cannot_show_is_no_error(tmp_path: Path) -> None:
    """A Windows code page lacks most letters."""
    done = subprocess.run(
        [sys.executable, "-m", "moksori.runtime.cli", str(tmp_path / "목소리.wav"), "--voice", "nobody 🎤"],
        capture_output=True, encoding="cp1252", env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("Error: there is no voice 'nobody ?'")
