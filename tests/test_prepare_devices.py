"""svc-prepare on other devices than the CPU: one that is right, one that is wrong, a real one where there is any."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from moksori.runtime import devices
from moksori.runtime.backends import Device
from moksori.runtime.devices import Session
from moksori.train import features, prepare

RATE = 24_000
GPU = Device("cuda", 0, "Imaginary RTX", "CUDA 1")
Run = Callable[[str], Result]


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A device's onnxruntime session: the CPU's answers, some way off."""

    raw: Any
    factor: float

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [output * np.float32(self.factor) for output in self.raw.run(outputs, inputs)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "cache"))
    features._session.cache_clear()


@pytest.fixture
def run(tmp_path: Path, tiny_voice: Callable[[Path], Path]) -> Run:
    graphs = tiny_voice(tmp_path / "graphs")
    time = np.arange(3 * RATE) / RATE
    soundfile.write(tmp_path / "a.wav", 0.3 * np.sin(2 * np.pi * 220 * time), RATE)
    source = tmp_path / "in"
    source.mkdir()
    (tmp_path / "a.wav").rename(source / "a.wav")

    def call(device: str) -> Result:
        features._session.cache_clear()
        given = ["--content", str(graphs / "content.onnx"), "--pitch", str(graphs / "pitch.onnx"), "--jobs", "1"]
        target = tmp_path / f"data-{device.partition(':')[0]}"
        return CliRunner().invoke(prepare.main, [str(source), str(target), *given, "--min", "1", "--device", device])

    return call


def arrays(folder: Path) -> dict[str, np.ndarray]:
    (path,) = folder.rglob("*.npz")
    with np.load(path) as held:
        return dict(held)


def imagine(monkeypatch: pytest.MonkeyPatch, factor: float) -> list[str]:
    """A graphics card that is ``factor`` off; the names of graphs that it ran."""
    opened: list[str] = []
    open_session = devices.open_session

    def opening(model: Path, device: Device, **rest: Any) -> Session:
        session = open_session(model, devices.cpu(), **rest)
        if device.kind == "cpu":
            return session
        opened.append(model.stem)
        return dataclasses.replace(session, device=device, raw=Scaled(session.raw, factor))

    monkeypatch.setattr(devices, "pick", lambda text: GPU if text == "cuda" else devices.cpu())
    monkeypatch.setattr(devices, "open_session", opening)
    return opened


def test_the_device_that_runs_is_said_and_gives_the_same(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("cpu")
    assert (result.exit_code, f"pitch on {devices.cpu()}, content on {devices.cpu()}" in result.output) == (0, True)
    opened = imagine(monkeypatch, 1.0)
    result = run("cuda")
    assert result.exit_code == 0, result.output
    assert "pitch on cuda:0 (Imaginary RTX), content on cuda:0 (Imaginary RTX)" in result.output
    assert set(opened) == {"content", "pitch"}
    one, other = (arrays(tmp_path / f"data-{device.partition(':')[0]}") for device in ("cpu", "cuda"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_device_that_computes_something_else_is_left(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("cpu")
    imagine(monkeypatch, 1.01)
    result = run("cuda")
    assert result.exit_code == 0, result.output
    assert f"pitch on {devices.cpu()}, content on {devices.cpu()}" in result.output
    assert result.output.count("failed its self-test (off by 0.01 of full scale)") == 2
    one, other = (arrays(tmp_path / f"data-{device.partition(':')[0]}") for device in ("cpu", "cuda"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_real_device_gives_what_the_cpu_gives(tmp_path: Path, run: Run) -> None:
    others = [device for device in devices.available() if device.kind != "cpu"]
    if not others:
        pytest.skip("this machine has no other device")
    name = f"{others[0].kind}:{others[0].index}"
    for device in ("cpu", name):
        assert run(device).exit_code == 0
    one, other = (arrays(tmp_path / f"data-{device.partition(':')[0]}") for device in ("cpu", name))
    np.testing.assert_allclose(other["f0"], one["f0"], rtol=1e-3)
    np.testing.assert_allclose(other["units"].astype(float), one["units"].astype(float), atol=5e-3)
