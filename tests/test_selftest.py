"""Self-tests: a device is used for a graph only when it computes what the CPU computes."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from moksori.runtime import devices, graphs, manifest, selftest, voice
from moksori.runtime.backends import Backend, Device
from moksori.runtime.devices import Session
from moksori.runtime.errors import DeviceError

Models = dict[str, onnx.ModelProto]
Array = np.ndarray[Any, np.dtype[Any]]

AUDIO = np.sin(np.arange(3200, dtype=np.float32))[None]
GPU = Device("cuda", 0, "Imaginary RTX", "CUDA 1")


@dataclasses.dataclass(frozen=True)
class Bent:
    """A device's session: the CPU's outputs through ``bend``."""

    raw: Any
    bend: Callable[[Array], Array]

    def run(self, outputs: None, inputs: dict[str, Array]) -> list[Array]:
        return [self.bend(output) for output in self.raw.run(outputs, inputs)]


def _full(output: Array) -> Array:
    raise RuntimeError("out of memory")


@pytest.fixture
def content(tiny_models: Models) -> bytes:
    return tiny_models["content"].SerializeToString()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "cache"))
    assert selftest.cache_folder() == tmp_path / "cache" / "moksori" / "self-test"
    return selftest.cache_folder()


@pytest.mark.parametrize(
    ("bend", "good", "kept"),
    [
        (lambda output: output * np.float32(1.0005), True, True),
        (lambda output: output * np.float32(1.005), False, True),
        (lambda output: output * np.float32("nan"), False, False),
        (lambda output: output[:, :-1], False, False),
        (_full, False, False),
    ],
)
def test_a_device_is_trusted_when_it_agrees(
    content: bytes, cache: Path, bend: Callable[[Array], Array], good: bool, kept: bool
) -> None:
    on_cpu = devices.open_session(content, devices.cpu(), 1, "the content graph")
    session = Session("the content graph", GPU, Bent(on_cpu.raw, bend))
    opened: list[int] = []

    def reference() -> Session:
        opened.append(1)
        return on_cpu

    for round_ in (1, 2):
        chosen = selftest.trusted(session, reference, lambda: {"audio": AUDIO}, "hash")
        assert (chosen is session) == good
        assert good or (
            chosen.device.kind == "cpu" and "cuda:0 (Imaginary RTX) failed its self-test" in chosen.notice
        )
        assert sum(opened) == (
            1 if good else round_
        )  # the good verdict is remembered, and then no CPU session is made
    assert len(list(cache.glob("*.json"))) == kept


def test_a_verdict_holds_for_one_device_driver_and_graph(content: bytes, cache: Path) -> None:
    on_cpu = devices.open_session(content, devices.cpu(), 1)
    session = Session("g", GPU, on_cpu.raw)
    others = [dataclasses.replace(GPU, driver="CUDA 2"), dataclasses.replace(GPU, label="Imaginary GTX")]
    for one, graph in [(GPU, "a"), (GPU, "b"), *((other, "a") for other in others), (GPU, "a")]:
        selftest.trusted(
            dataclasses.replace(session, device=one), lambda: on_cpu, lambda: {"audio": AUDIO}, graph
        )
    assert len(list(cache.glob("*.json"))) == 4


def test_a_damaged_or_unwritable_cache_only_costs_time(content: bytes, cache: Path) -> None:
    on_cpu = devices.open_session(content, devices.cpu(), 1)
    session = Session("g", GPU, on_cpu.raw)

    def trusted() -> Session:
        return selftest.trusted(session, lambda: on_cpu, lambda: {"audio": AUDIO}, "a")

    assert trusted() is session
    next(cache.glob("*.json")).write_text('{"error": "none"', encoding="utf-8")
    assert trusted() is session
    next(cache.glob("*.json")).unlink()
    cache.rmdir()
    cache.touch()  # a file where the folder should be
    assert trusted() is session


def test_the_cpu_needs_no_self_test(content: bytes, cache: Path) -> None:
    on_cpu = devices.open_session(content, devices.cpu(), 1)
    assert selftest.trusted(on_cpu, lambda: pytest.fail("opened"), lambda: pytest.fail("made"), "a") is on_cpu
    assert not cache.exists()


def test_examples_run_through_every_graph(tmp_path: Path, tiny_voice: Callable[..., Path]) -> None:
    loaded = voice.Voice.load(tiny_voice(tmp_path / "v"), "cpu", threads=1)
    for role, session in loaded.sessions.items():
        outputs = session.run(None, graphs.example(role, loaded.manifest, session))
        assert all(np.isfinite(output).all() and np.ptp(output) > 0 for output in outputs) or role == "pitch"


def test_a_voice_falls_back_graph_by_graph(
    tmp_path: Path, tiny_voice: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend("CPUExecutionProvider", lambda: [GPU], lambda options, device: [], nullcontext)
    monkeypatch.setattr(devices, "BACKENDS", {"cuda": backend, "cpu": devices.BACKENDS["cpu"]})
    original = devices._try_open

    def bent(source: Any, device: Device, threads: int, spin: bool) -> tuple[Any, str]:
        raw, reason = original(source, device, threads, spin)
        if device == GPU and raw.get_modelmeta().custom_metadata_map["role"] == "denoiser":
            run = raw.run
            raw.run = lambda outputs, inputs: [output * 0 for output in run(outputs, inputs)]
        return raw, reason

    monkeypatch.setattr(devices, "_try_open", bent)
    loaded = voice.Voice.load(tiny_voice(tmp_path / "v"), "cuda", threads=1)
    kinds = {role: session.device.kind for role, session in loaded.sessions.items()}
    assert kinds == {role: "cpu" if role == "denoiser" else "cuda" for role in manifest.ROLES}
    assert len(loaded.notices) == 1 and "denoiser graph runs on the CPU" in loaded.notices[0]


# A real device that is not the CPU, where there is one


def _webgpu() -> list[Device]:
    try:
        return devices.BACKENDS["webgpu"].find()
    except DeviceError:
        return []


@pytest.mark.skipif(not _webgpu(), reason="no WebGPU device here")
def test_webgpu_computes_what_the_cpu_computes(
    tmp_path: Path, tiny_voice: Callable[..., Path], cache: Path
) -> None:
    folder = tiny_voice(tmp_path / "v")
    on_cpu, on_gpu = (voice.Voice.load(folder, device, threads=1) for device in ("cpu", "webgpu"))
    assert on_gpu.notices == () and {one.device.kind for one in on_gpu.sessions.values()} == {"webgpu"}
    assert len(list(cache.glob("*.json"))) == 5
    for role, session in on_gpu.sessions.items():
        inputs = graphs.example(role, on_gpu.manifest, session)
        assert selftest.distance(session, on_cpu.sessions[role], inputs) < 1e-5

    inputs = graphs.example("denoiser", on_gpu.manifest, on_gpu.denoiser)
    expected = on_cpu.denoiser.run(None, inputs)[0]
    found: list[Array] = []
    workers = [
        threading.Thread(target=lambda: found.append(on_gpu.denoiser.run(None, inputs)[0])) for _ in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert max(float(np.abs(one - expected).max()) for one in found) < 1e-4 and len(found) == 8
