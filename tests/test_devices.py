"""Devices: choosing one, opening sessions where asked or saying why not, and self-tests against the CPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from moksori.runtime import backends, devices, ort
from moksori.runtime.backends import Backend, Device
from moksori.runtime.devices import Session
from moksori.runtime.errors import DeviceError, OptionError, VoiceError

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


def pretend(
    monkeypatch: pytest.MonkeyPatch, provider: str, found: list[Device], providers: list[str]
) -> None:
    """Put a CUDA of our own in the table; sessions on it ask onnxruntime for ``providers``."""
    backend = Backend(provider, lambda: found, lambda options, device: providers, nullcontext)
    monkeypatch.setattr(devices, "BACKENDS", {"cuda": backend, "cpu": devices.BACKENDS["cpu"]})


class Full:
    def run(self, outputs: None, inputs: dict[str, Array]) -> list[Array]:
        raise RuntimeError("out of memory")


# Choosing


def test_the_cpu_is_always_there_and_has_a_name() -> None:
    assert devices.available()[-1] == devices.pick("cpu") == devices.pick(" CPU:0 ")
    assert str(devices.pick("cpu")).startswith("CPU (") and len(str(devices.pick("cpu"))) > len("CPU ()")


def test_auto_leaves_software_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    software = dataclasses.replace(GPU, software=True)
    pretend(monkeypatch, "CUDAExecutionProvider", [software], [])
    assert devices.pick("auto") == devices.cpu() and devices.pick("cuda") == software


def test_auto_takes_the_first_and_an_index_or_a_name_takes_that(monkeypatch: pytest.MonkeyPatch) -> None:
    second = dataclasses.replace(GPU, index=3, label="Imaginary Arc 770")
    pretend(monkeypatch, "CUDAExecutionProvider", [GPU, second], [])
    assert devices.pick() == devices.pick("cuda") == devices.pick("cuda:0") == devices.pick("cuda:rtx") == GPU
    assert devices.pick("cuda:3") == devices.pick("CUDA:arc") == second
    assert str(second) == "cuda:3 (Imaginary Arc 770)"
    with pytest.raises(
        DeviceError, match=r"no device 'cuda:1'; here: cuda:0 \(Imaginary RTX\), cuda:3 \(Imaginary Arc"
    ):
        devices.pick("cuda:1")


@pytest.mark.parametrize("text", ["", "gpu", "auto:1", "cpu:1", "cudaa", "cuda:-1"])
def test_unknown_devices_list_the_known(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "CUDAExecutionProvider", [GPU], [])
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


# Opening


@pytest.mark.parametrize("kind", ["bytes", "path"])
def test_a_session_runs_on_the_cpu(content: bytes, tmp_path: Path, kind: str, tiny_models: Models) -> None:
    path = tmp_path / "그래프 one.onnx"
    path.write_bytes(content)
    session = devices.open_session(
        content if kind == "bytes" else path, devices.cpu(), 1, "the content graph"
    )
    assert (session.device.kind, session.notice, session.metadata["role"]) == ("cpu", "", "content")
    kernel = onnx.numpy_helper.to_array(tiny_models["content"].graph.initializer[1])[:, 0]
    expected = AUDIO.reshape(-1, 320) @ kernel.T
    np.testing.assert_allclose(session.run(None, {"audio": AUDIO})[0][0], expected, atol=1e-5)
    np.testing.assert_array_equal(
        session.run(["units"], {"audio": AUDIO}), session.run(None, {"audio": AUDIO})
    )


@pytest.mark.parametrize(("setting", "argument", "threads"), [("3", None, 3), ("3", 2, 2), ("", 1, 1)])
def test_threads(
    content: bytes, monkeypatch: pytest.MonkeyPatch, setting: str, argument: int | None, threads: int
) -> None:
    monkeypatch.setenv(devices.THREADS, setting)
    options = devices.open_session(content, devices.cpu(), argument, spin=False).raw.get_session_options()
    assert options.intra_op_num_threads == threads
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("setting", ["two", "0", "-1", "1.5"])
def test_wrong_threads(content: bytes, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(devices.THREADS, setting)
    with pytest.raises(OptionError, match=f"MOKSORI_THREADS must be a number of threads, not '{setting}'"):
        devices.open_session(content, devices.cpu())


def test_a_device_that_does_not_start_falls_back_and_says_so(
    content: bytes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """onnxruntime leaves out a provider it lacks and goes on with the CPU without an error."""
    pretend(monkeypatch, "CUDAExecutionProvider", [GPU], ["CPUExecutionProvider"])
    session = devices.open_session(content, devices.pick("cuda"), 1, "the content graph")
    assert session.device.kind == "cpu"
    assert session.notice.startswith(
        "the content graph runs on the CPU, not on cuda:0 (Imaginary RTX): onnxruntime could"
    )
    np.testing.assert_allclose(
        session.run(None, {"audio": AUDIO})[0],
        devices.open_session(content, devices.cpu(), 1).run(None, {"audio": AUDIO})[0],
    )
    assert capfd.readouterr() == ("", "")


def test_a_device_that_fails_to_open_falls_back_with_its_reason(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(options: Any, device: Device) -> list[str]:
        raise RuntimeError("0x80004001 Not implemented\nat line 7")

    backend = Backend("DmlExecutionProvider", lambda: [GPU], fail, threading.Lock)
    monkeypatch.setattr(devices, "BACKENDS", {"cuda": backend, "cpu": devices.BACKENDS["cpu"]})
    session = devices.open_session(content, GPU, 1, "the pitch graph")
    assert (
        session.notice
        == "the pitch graph runs on the CPU, not on cuda:0 (Imaginary RTX): 0x80004001 Not implemented"
    )


@pytest.mark.parametrize("code", ["887A0002", "887A0004", "80004001"])
def test_directml_without_a_usable_adapter_says_so_in_plain_words(
    content: bytes, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Its own words hold source lines and thread numbers, which differ from graph to graph."""

    def fail(options: Any, device: Device) -> list[str]:
        raise RuntimeError(f"dml_provider_factory.cc(510)!00006FFF: (caller: 00006FFF) Exception(2) tid(128) {code}")

    backend = Backend("DmlExecutionProvider", lambda: [], fail, threading.Lock)
    monkeypatch.setattr(devices, "BACKENDS", {"directml": backend, "cpu": devices.BACKENDS["cpu"]})
    adapter = Device("directml", 0, "default adapter")
    assert devices.open_session(content, adapter, 1, "the pitch graph").notice == (
        "the pitch graph runs on the CPU, not on directml:0 (default adapter): "
        "DirectML finds no graphics card that it can use (is its driver installed?)"
    )


def test_a_damaged_graph_is_not_the_devices_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "CUDAExecutionProvider", [GPU], ["CPUExecutionProvider"])
    for device in (GPU, devices.cpu()):
        with pytest.raises(VoiceError, match="the pitch graph is damaged or made for a newer onnxruntime"):
            devices.open_session(b"\x08\x08junk", device, 1, "the pitch graph")


def test_failing_runs_are_device_errors(content: bytes) -> None:
    session = devices.open_session(content, devices.cpu(), 1, "the content graph")
    with pytest.raises(DeviceError, match=r"the content graph failed on CPU .*free some memory") as caught:
        session.run(None, {"audio": np.zeros((1, 10), np.float32)})  # shorter than the kernel
    assert "\n" not in str(caught.value)
    bent = Session("the content graph", GPU, Full())
    with pytest.raises(
        DeviceError, match=r"failed on cuda:0 \(Imaginary RTX\) \(out of memory\); .* --device cpu"
    ):
        bent.run(None, {"audio": AUDIO})


def test_the_lock_lets_one_run_at_a_time(content: bytes) -> None:
    inside, most = [0], [0]

    class Raw:
        def run(self, outputs: None, inputs: dict[str, Array]) -> list[Array]:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            threading.Event().wait(0.01)
            inside[0] -= 1
            return []

    session = Session("g", GPU, Raw(), lock=threading.Lock())
    workers = [threading.Thread(target=session.run, args=(None, {})) for _ in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == [1]
