"""Sessions: opened where asked or on the CPU with the reason, one run at a time where a device needs it."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from moksori.runtime import devices
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


def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a CUDA of our own in the table that onnxruntime cannot start."""
    cpu_alone = ["CPUExecutionProvider"]
    backend = Backend("CUDAExecutionProvider", lambda: [GPU], lambda options, device: cpu_alone, nullcontext)
    monkeypatch.setattr(devices, "BACKENDS", {"cuda": backend, "cpu": devices.BACKENDS["cpu"]})


class Full:
    def run(self, outputs: None, inputs: dict[str, Array]) -> list[Array]:
        raise RuntimeError("out of memory")


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
    without_cuda(monkeypatch)
    session = devices.open_session(content, GPU, 1, "the content graph")
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
    without_cuda(monkeypatch)
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
