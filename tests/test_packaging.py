"""The wheel: what setup.cfg declares, what the file holds, and whether a stranger can use it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
WHEEL_BYTES = 45_000_000
GRAPHS = ("content", "pitch", "condition", "denoiser", "vocoder")
VOICE_FILES = {"voice.json", "MODEL_CARD.md", *(f"{role}.onnx" for role in GRAPHS)}
NOT_IN_A_RUNTIME = ("torch", "transformers", "librosa", "scipy")
DEMO_RATE = 24_000


def settings() -> ConfigParser:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def declared() -> list[str]:
    return settings()["options"]["packages"].split()


def pip(python: Path | str, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that no build output of the working tree can slip in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in declared():
        folder = package.removeprefix("moksori.")
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    pip(sys.executable, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(out), str(source))
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the wheel with the `cpu` extra in an empty environment; return the folder of its commands."""
    folder = tmp_path_factory.mktemp("a stranger's 환경")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip(programs / "python", "install", "--constraint", str(ROOT / "constraints.txt"), f"{wheel}[cpu]")
    yield programs
    shutil.rmtree(folder)


def outside() -> dict[str, str]:
    """Return the environment without what could lead Python back to this tree."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def test_every_folder_with_an_init_is_declared() -> None:
    """An undeclared package would work here and be missing from the wheel."""
    hidden = ("tests", "build", "out", "work", "runs")
    found = {
        "moksori." + ".".join(path.parent.relative_to(ROOT).parts)
        for path in ROOT.glob("*/**/__init__.py")
        if not path.relative_to(ROOT).parts[0].startswith((".", *hidden))
    }
    assert found == set(declared())


def test_package_dir_maps_each_package_to_the_folder_of_its_name() -> None:
    lines = settings()["options"]["package_dir"].strip().splitlines()
    assert sorted(lines) == sorted(f"{name} = {name.removeprefix('moksori.')}" for name in declared())
    assert not (ROOT / "moksori").exists(), "a moksori/ folder in the root shadows the installed one"


def brought(line: str, seen: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Add to `seen` each (package, extra) that a requirement brings here; "" is a package itself."""
    requirement = Requirement(line)
    for extra in {"", *requirement.extras} - {extra for name, extra in seen if name == requirement.name}:
        seen.add((requirement.name, extra))
        try:
            lines = metadata.requires(requirement.name) or []
        except metadata.PackageNotFoundError:
            continue
        for needed in lines:
            marker = Requirement(needed).marker
            if marker is None or marker.evaluate({"extra": extra}):
                brought(needed, seen)
    return seen


@pytest.mark.parametrize("extra", ["plot", "video", "live", "train", "export", "eval", "docs", "dev"])
def test_only_the_device_extras_bring_onnxruntime(extra: str) -> None:
    """Its variants overwrite one another, so nothing else may choose one; nor bring torchaudio."""
    options = settings()
    texts = [options["options"]["install_requires"], options["options.extras_require"][extra]]
    seen: set[tuple[str, str]] = set()
    for line in "".join(texts).splitlines():
        if line:
            brought(line, seen)
    assert {"numpy", "cffi"} <= {name for name, _ in seen}
    assert [name for name, _ in seen if name.startswith(("onnxruntime", "torchaudio"))] == []


def test_constraints_are_exact_and_name_no_host() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin)] == []
    assert "torch==2.13.0" in pins


def test_wheel_holds_each_module_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    modules = {
        f"moksori/{package.removeprefix('moksori.')}/{path.name}"
        for package in declared()
        for path in (ROOT / package.removeprefix("moksori.")).glob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == modules
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"moksori"}


def test_wheel_carries_the_demo_voice_and_stays_small(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        voice = {Path(name).name for name in archive.namelist() if name.startswith("moksori/voices/demo/")}
    assert voice >= VOICE_FILES
    assert wheel.stat().st_size <= WHEEL_BYTES


def test_installed_runtime_is_light(installed: Path) -> None:
    probe = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    command = [str(installed / "python"), "-c", probe, *NOT_IN_A_RUNTIME]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=outside())
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["svc-prepare", "svc-train", "svc-export"])
def test_a_command_without_its_extra_says_what_to_install(installed: Path, tmp_path: Path, name: str) -> None:
    """Help, or one line that names the pip command; never a traceback."""
    command = [str(installed / name), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=outside())
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "pip install" in done.stderr


def test_installed_command_helps_and_converts(installed: Path, tmp_path: Path) -> None:
    """From the wheel alone, in a folder elsewhere: `--help`, then two seconds of a gliding vowel."""
    command = [str(installed / "svc-run"), "--help"]
    helped = subprocess.run(command, capture_output=True, text=True, env=outside())
    assert helped.returncode == 0, helped.stderr
    assert "--voice" in helped.stdout

    rate = 44_100
    soundfile.write(tmp_path / "목소리 in.wav", vowel(rate, seconds=2.0), rate)
    command = [str(installed / "svc-run"), "목소리 in.wav", "-o", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=outside())
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = (tmp_path / "out").iterdir()
    audio, out_rate = soundfile.read(result)
    assert out_rate == DEMO_RATE
    assert abs(len(audio) / out_rate - 2.0) <= 0.01
    assert np.isfinite(audio).all()
    assert np.sqrt(np.mean(audio**2)) > 1e-3


def vowel(rate: int, seconds: float) -> np.ndarray:
    """Return harmonics of a tone that glides from 180 to 260 Hz under two formants, at peak 0.5."""
    time = np.arange(int(rate * seconds)) / rate
    f0 = 180 + 80 * time / seconds
    phase = 2 * np.pi * np.cumsum(f0) / rate
    audio = np.zeros_like(time)
    for harmonic in range(1, 20):
        frequency = harmonic * f0
        gain = sum(1 / (1 + ((frequency - centre) / 120) ** 2) for centre in (700, 1200)) + 0.01
        audio += gain * np.sin(harmonic * phase)
    return 0.5 * audio / np.abs(audio).max()
