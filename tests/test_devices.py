"""Devices: what there is, choosing one, and the line that installs what is missing."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from moksori.runtime import backends, devices, ort
from moksori.runtime.backends import Backend, Device
from moksori.runtime.errors import DeviceError

Models = dict[str, onnx.ModelProto]
Array = np.ndarray[Any, np.dtype[Any]]

AUDIO = np.sin(np.arange(3200, dtype=np.float32))[None]
GPU = Device("cuda", 0, "Imaginary RTX", "CUDA 1")


@pytest.fixture
def content(tiny_models: Models) -> bytes:
    return tiny_models["content"].SerializeToString()


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What pip says is installed; the test fills it."""
    found: dict[str, str] = {}
    monkeypatch.setattr(ort, "installed", lambda name: found.get(name, ""))
    ort.module.cache_clear()
    yield found
    ort.module.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, found: list[Device]) -> None:
    """Put a CUDA of our own in the table, with these adapters."""
    backend = Backend("CUDAExecutionProvider", lambda: found, lambda options, device: [], nullcontext)
    monkeypatch.setattr(devices, "BACKENDS", {"cuda": backend, "cpu": devices.BACKENDS["cpu"]})


def test_the_cpu_is_always_there_and_has_a_name() -> None:
    assert devices.available()[-1] == devices.pick("cpu") == devices.pick(" CPU:0 ")
    assert str(devices.pick("cpu")).startswith("CPU (") and len(str(devices.pick("cpu"))) > len("CPU ()")


def test_auto_leaves_software_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    software = dataclasses.replace(GPU, software=True)
    pretend(monkeypatch, [software])
    assert devices.pick("auto") == devices.cpu() and devices.pick("cuda") == software


def test_auto_takes_the_first_and_an_index_or_a_name_takes_that(monkeypatch: pytest.MonkeyPatch) -> None:
    second = dataclasses.replace(GPU, index=3, label="Imaginary Arc 770")
    pretend(monkeypatch, [GPU, second])
    assert devices.pick() == devices.pick("cuda") == devices.pick("cuda:0") == devices.pick("cuda:rtx") == GPU
    assert devices.pick("cuda:3") == devices.pick("CUDA:arc") == second
    assert str(second) == "cuda:3 (Imaginary Arc 770)"
    with pytest.raises(
        DeviceError, match=r"no device 'cuda:1'; here: cuda:0 \(Imaginary RTX\), cuda:3 \(Imaginary Arc"
    ):
        devices.pick("cuda:1")


@pytest.mark.parametrize("text", ["", "gpu", "auto:1", "cpu:1", "cudaa", "cuda:-1"])
def test_unknown_devices_list_the_known(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, [GPU])
    with pytest.raises(DeviceError, match=r"there is no device '.*here: .*\(") as caught:
        devices.pick(text)
    assert "\n" not in str(caught.value)


def test_a_typing_error_is_guessed() -> None:
    with pytest.raises(DeviceError, match=r"\(did you mean 'directml'\?\)"):
        devices.pick("directlm")


def test_missing_backends_give_the_pip_line(
    packages: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    packages["onnxruntime"] = "1.31.1"
    lines = {"cuda": r'pip uninstall -y onnxruntime   and then: pip install "moksori\[cuda\]"'}
    if importlib.util.find_spec("onnxruntime_ep_webgpu") is None:
        lines["webgpu"] = r'pip install "moksori\[webgpu\]"'
    for kind, line in lines.items():
        with pytest.raises(DeviceError, match=line):
            devices.pick(kind)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(DeviceError, match="DirectML exists on Windows only"):
        devices.pick("directml")
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(
        DeviceError, match=r'pip uninstall -y onnxruntime   and then: pip install "moksori\[directml\]"'
    ):
        devices.pick("directml")


def test_cuda_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "require", lambda *_: None)

    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(backends.ctypes, "CDLL", missing)
    with pytest.raises(DeviceError, match="no NVIDIA device answers"):
        devices.pick("cuda")


def test_directml_adapters_keep_their_index_and_come_strongest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata are those of onnxruntime 1.24 on Windows: DXGI's 0 is the integrated adapter."""

    def adapter(name: str, index: str, rank: str) -> SimpleNamespace:
        metadata = {"Description": name, "DxgiAdapterNumber": index, "DxgiHighPerformanceIndex": rank}
        hardware = SimpleNamespace(type=gpu, vendor="AMD", metadata=metadata)
        return SimpleNamespace(
            ep_name="DmlExecutionProvider", ep_options={"device_id": index}, device=hardware
        )

    gpu = SimpleNamespace(name="GPU")
    listed = [adapter("Radeon 780M", "0", "1"), adapter("Radeon RX 7800", "1", "0")]
    fake = SimpleNamespace(OrtHardwareDeviceType=SimpleNamespace(GPU=gpu), get_ep_devices=lambda: listed)
    fake.get_available_providers = lambda: ["DmlExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "module", lambda: fake)
    monkeypatch.setattr(sys, "platform", "win32")
    assert devices.pick("directml") == devices.pick("directml:rx") == Device("directml", 1, "Radeon RX 7800")
    assert devices.pick("directml:0") == Device("directml", 0, "Radeon 780M")
    listed.append(adapter("Microsoft Basic Render Driver", "2", "2"))
    assert [one.software for one in devices.BACKENDS["directml"].find()] == [False, False, True]
    listed.clear()
    assert devices.pick("directml") == Device("directml", 0, "default adapter")


def test_two_variants_are_refused(packages: dict[str, str], content: bytes) -> None:
    packages |= {"onnxruntime": "1.31.1", "onnxruntime-directml": "1.24.4"}
    line = (
        "onnxruntime-directml and onnxruntime are both installed .*run: pip uninstall -y onnxruntime-directml "
        r'onnxruntime   and then: pip install "moksori\[directml\]"'
    )
    with pytest.raises(DeviceError, match=line):
        devices.open_session(content, Device("cpu", 0, "CPU"))
    packages["onnxruntime-gpu"] = "1.31.1"
    with pytest.raises(DeviceError, match=r"moksori\[cuda\]"):
        devices.available()


def test_no_onnxruntime(packages: dict[str, str], content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        DeviceError, match=r'no onnxruntime is installed; run one of: pip install "moksori\[cpu\]"'
    ):
        devices.open_session(content, devices.cpu())
    packages["onnxruntime"] = "1.31.1"
    with pytest.raises(
        DeviceError, match=r"onnxruntime cannot be loaded .*pip install --force-reinstall onnxruntime"
    ):
        devices.open_session(content, devices.cpu())


def test_onnxruntime_is_imported_late() -> None:
    code = (
        "import sys, moksori.runtime.devices, moksori.runtime.voice, moksori.runtime.selftest as s;"
        "print([name for name in ('onnxruntime', 'soundfile', 'rich') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
