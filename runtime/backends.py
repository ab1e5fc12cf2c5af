"""The kinds of device onnxruntime can drive: how each is found, set up and kept from running twice at once."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from moksori.runtime import ort
from moksori.runtime.errors import DeviceError

REGION = 128 << 20  # bytes; two lanes with the longest chunks of a small voice fit into one
SOFTWARE = re.compile("basic render|llvmpipe|lavapipe|swiftshader", re.IGNORECASE)  # says it is a graphics card
CUDA_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@dataclass(frozen=True)
class Device:
    """One place to run graphs. ``driver`` is part of the key under which self-tests are remembered."""

    kind: str
    index: int
    label: str
    driver: str = ""
    software: bool = False  # a graphics card played by the CPU: for tests, never chosen by itself

    def __str__(self) -> str:
        return self.label if self.kind == "cpu" else f"{self.kind}:{self.index} ({self.label})"


@dataclass(frozen=True)
class Backend:
    provider: str
    find: Callable[[], list[Device]]
    configure: Callable[[Any, Device], list[Any]]  # sets session options, returns the providers
    lock: Callable[[], AbstractContextManager[Any]]
    memory: str = "cpu"  # onnxruntime's name for where its tensors live
    systems: tuple[str, ...] = ()  # those that can have it, if not all
    free: Callable[[Device], int | None] = lambda device: None  # bytes of its own memory to be had, where it tells


@lru_cache(maxsize=1)
def cpu() -> Device:
    return Device("cpu", 0, f"CPU ({_cpu_name()})")


def _find_cuda() -> list[Device]:
    """NVIDIA devices in the driver's own order, which is the one of ``device_id``."""
    ort.require("CUDAExecutionProvider", "CUDA", "cuda")
    try:
        driver = ctypes.CDLL(CUDA_DRIVER)
        count, version, text = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
        failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):
        failed = 1
    if failed or not count.value:
        raise DeviceError(
            "no NVIDIA device answers; install its driver (nvidia-smi lists it), or use --device cpu"
        )
    _preload_cuda()
    driver.cuDriverGetVersion(ctypes.byref(version))
    devices = []
    for index in range(count.value):
        driver.cuDeviceGetName(text, len(text), index)
        devices.append(Device("cuda", index, text.value.decode(errors="replace"), f"CUDA {version.value}"))
    return devices


def _free_cuda(device: Device) -> int | None:
    """What the driver says in the context that onnxruntime uses too; None when it does not answer."""
    handle, context, free, total = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    try:
        driver = ctypes.CDLL(CUDA_DRIVER)
        failed = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), device.index)
        if failed or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle):
            return None
        try:
            if driver.cuCtxPushCurrent_v2(context):
                return None
            failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
            driver.cuCtxPopCurrent_v2(ctypes.byref(context))
        finally:
            driver.cuDevicePrimaryCtxRelease_v2(handle)
    except (OSError, AttributeError):
        return None
    return None if failed else free.value


@lru_cache(maxsize=1)
def _preload_cuda() -> None:
    """Load the CUDA libraries that pip installed, before any thread opens a session."""
    with contextlib.redirect_stdout(
        io.StringIO()
    ):  # it prints what it misses; a session's notice says it better
        ort.module().preload_dlls()


def _find_directml() -> list[Device]:
    if sys.platform != "win32":
        raise DeviceError("DirectML exists on Windows only; use --device webgpu, cuda or cpu here")
    ort.require("DmlExecutionProvider", "DirectML", "directml")
    found = [
        Device("directml", int(dict(one.ep_options).get("device_id", 0)), _adapter(one), software=_is_software(one))
        for one in _ep_devices("DmlExecutionProvider")
    ]
    return found or [Device("directml", 0, "default adapter")]


def _find_webgpu() -> list[Device]:
    devices = [
        Device("webgpu", at, _adapter(one), software=_is_software(one))
        for at, one in enumerate(_webgpu_devices())
    ]
    if not devices:
        raise DeviceError(
            "WebGPU finds no graphics card; install its driver (on Linux: Vulkan), or use --device cpu"
        )
    return devices


@lru_cache(maxsize=1)
def _webgpu_devices() -> list[Any]:
    """The plugin's devices; it stays registered, since taking it away with sessions alive crashes."""
    if importlib.util.find_spec("onnxruntime_ep_webgpu") is None:
        raise DeviceError('WebGPU is not installed; run: pip install "moksori[webgpu]"')
    import onnxruntime_ep_webgpu as plugin

    try:
        ort.module().register_execution_provider_library(plugin.get_ep_name(), plugin.get_library_path())
    except Exception as error:
        raise DeviceError(f"WebGPU cannot start ({ort.first_line(error)}); use --device cpu") from error
    return _ep_devices(plugin.get_ep_name())


def _ep_devices(provider: str) -> list[Any]:
    """onnxruntime's devices of one provider: hardware first, and the strongest first where Windows ranks them."""
    onnxruntime = ort.module()
    gpu = onnxruntime.OrtHardwareDeviceType.GPU
    found = [one for one in onnxruntime.get_ep_devices() if one.ep_name == provider]
    rank = "DxgiHighPerformanceIndex"
    return sorted(
        found, key=lambda one: (one.device.type != gpu, int(dict(one.device.metadata).get(rank, 99)))
    )


def _adapter(one: Any) -> str:
    """The name of a device's adapter; Linux tells its maker only."""
    fallback = (
        f"{one.device.vendor} {'graphics' if one.device.type.name == 'GPU' else 'software'} adapter".strip()
    )
    return dict(one.device.metadata).get("Description", fallback)


def _is_software(one: Any) -> bool:
    return one.device.type.name != "GPU" or SOFTWARE.search(_adapter(one)) is not None


def _configure_cpu(options: Any, device: Device) -> list[Any]:
    _shared_arena()
    options.enable_mem_pattern = False  # it keeps a block for every length that ever came
    options.add_session_config_entry("session.use_env_allocators", "1")
    return ["CPUExecutionProvider"]


@lru_cache(maxsize=1)
def _shared_arena() -> None:
    """One memory for all graphs, which run one after another, in few large regions.

    The system gives a region's pages only as they are written. Regions as large as what is asked for fall to pieces
    when lengths differ from run to run: with them a denoiser took 315 MB after 60 lengths, with these 180.
    """
    onnxruntime = ort.module()
    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    growth = onnxruntime.OrtArenaCfg(
        {"arena_extend_strategy": 0, "initial_chunk_size_bytes": REGION, "max_power_of_two_extend_bytes": REGION}
    )
    onnxruntime.create_and_register_allocator(where, growth)


def _configure_cuda(options: Any, device: Device) -> list[Any]:
    settings = {"device_id": device.index, "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
    return [("CUDAExecutionProvider", settings), "CPUExecutionProvider"]


def _configure_directml(options: Any, device: Device) -> list[Any]:
    options.enable_mem_pattern = False
    return [("DmlExecutionProvider", {"device_id": device.index}), "CPUExecutionProvider"]


def _configure_webgpu(options: Any, device: Device) -> list[Any]:
    options.add_provider_for_devices([_webgpu_devices()[device.index]], {})
    return []


@lru_cache(maxsize=1)
def _webgpu_lock() -> AbstractContextManager[Any]:
    return threading.RLock()  # two sessions running at once give wrong numbers, so one lock for the process


def _cpu_name() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    return os.environ.get("PROCESSOR_IDENTIFIER", "") or f"{os.cpu_count()} cores"


_NVIDIA = ("linux", "win32")

BACKENDS: dict[str, Backend] = {  # best first
    "cuda": Backend("CUDAExecutionProvider", _find_cuda, _configure_cuda, nullcontext, "cuda", _NVIDIA, _free_cuda),
    "directml": Backend("DmlExecutionProvider", _find_directml, _configure_directml, threading.Lock, "dml", ("win32",)),
    "webgpu": Backend("WebGpuExecutionProvider", _find_webgpu, _configure_webgpu, _webgpu_lock, "webgpu"),
    "cpu": Backend("CPUExecutionProvider", lambda: [cpu()], _configure_cpu, nullcontext),
}
