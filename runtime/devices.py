"""Where graphs run: picks a device of this machine, opens sessions on it, and says so when one ran elsewhere."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from moksori.runtime import ort
from moksori.runtime.backends import BACKENDS, Device, cpu
from moksori.runtime.errors import DeviceError, MemoryFull, OptionError, VoiceError
from moksori.runtime.strict import nearest

Array = NDArray[Any]

THREADS = "MOKSORI_THREADS"  # environment variable
# How onnxruntime's arena, the C++ library, CUDA, cuDNN, cuBLAS, Direct3D and Dawn say that memory is full.
FULL = re.compile(
    r"out of memory|fail\w* to allocate|bad.?alloc|not enough memory|OutOfMemory|E_OUTOFMEMORY|8007000E|ALLOC_FAILED",
    re.IGNORECASE,
)
# What DirectML's errors hold when no graphics card here will do: DXGI_ERROR_NOT_FOUND and _UNSUPPORTED, E_NOTIMPL.
UNSUPPORTED = re.compile(r"887A0002|887A0004|80004001", re.IGNORECASE)
NO_ADAPTER = "DirectML finds no graphics card that it can use (is its driver installed?)"


@dataclass(frozen=True)
class Session:
    """A loaded graph. ``device`` is where it really runs; ``notice`` says why when that is not where it was asked to.

    ``run`` may be called from several threads; it waits where the device allows one run at a time.
    """

    name: str
    device: Device
    raw: Any  # onnxruntime.InferenceSession
    notice: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    lock: AbstractContextManager[Any] = field(default_factory=nullcontext, repr=False, compare=False)

    def run(self, outputs: list[str] | None, inputs: Mapping[str, Array], /) -> list[Array]:
        """Outputs by name, or all in order. DeviceError when the run fails, which mostly means a full memory."""
        with self.guard():
            return self.raw.run(outputs, dict(inputs))

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """For whatever is done with ``raw``: one at a time where the device needs that, failures as DeviceError."""
        try:
            with self.lock:
                yield
        except Exception as error:  # onnxruntime's errors have no common base
            mend = (
                "free some memory"
                if self.device.kind == "cpu"
                else "free some of its memory or use --device cpu"
            )
            kind = MemoryFull if isinstance(error, MemoryError) or FULL.search(str(error)) else DeviceError
            raise kind(f"{self.name} failed on {self.device} ({ort.first_line(error)}); {mend}") from error


def available() -> list[Device]:
    """The devices that can be used here, best first; the CPU is always the last."""
    ort.module()  # without onnxruntime, or with two of it, there is nothing to list
    devices: list[Device] = []
    for _, backend in sorted(BACKENDS.items(), key=lambda one: one[0] == "cpu"):  # others may have been added
        with contextlib.suppress(DeviceError):
            devices += backend.find()
    return devices


def pick(text: str = "auto") -> Device:
    """The device called ``text``: auto, or cpu, cuda, directml, webgpu with an optional :index or :part of the name.

    Raises:
        DeviceError: no such device here; lists those that are, or gives the pip line for what is missing.
    """
    kind, _, which = text.strip().casefold().partition(":")
    if kind == "auto" and not which:
        return next(device for device in available() if not device.software)
    if kind not in BACKENDS:
        hint = nearest(kind, BACKENDS)
        raise DeviceError(
            f"there is no device '{text}'{hint}; here: auto, {', '.join(map(str, available()))}"
        )
    found = BACKENDS[kind].find()
    fitting = [
        one
        for one in found
        if which in ("", str(one.index)) or (not which.isdecimal() and _named(one, which))
    ]
    if not fitting:
        raise DeviceError(f"there is no device '{text}'; here: {', '.join(map(str, found))}")
    return fitting[0]


def open_session(
    model: bytes | Path,
    device: Device,
    threads: int | None = None,
    name: str = "the graph",
    spin: bool = True,
) -> Session:
    """Load a graph on ``device``, or, when that cannot run it, on the CPU with a ``notice``.

    Args:
        model: the ONNX file or its bytes.
        threads: CPU threads in one operator; else MOKSORI_THREADS, else the cores this process may use.
        spin: let idle threads wait busily; off, a stream with pauses uses a quarter of the CPU.
    Raises:
        VoiceError: not even the CPU can open it, so the file is damaged or too new.
        DeviceError, OptionError: no usable onnxruntime; MOKSORI_THREADS is no number.
    """
    source = model if isinstance(model, bytes) else str(model)
    count = threads or cores()
    notice = ""
    if device.kind != "cpu":
        raw, reason = _try_open(source, device, count, spin)
        if raw is not None:
            return _session(name, device, raw, "")
        notice = f"{name} runs on the CPU, not on {device}: {reason}"
    raw, reason = _try_open(source, cpu(), count, spin)
    if raw is None:
        raise VoiceError(
            f"{name} is damaged or made for a newer onnxruntime ({reason}); copy or export the voice again"
        )
    return _session(name, cpu(), raw, notice)


def versions(device: Device) -> str:
    """What a device's arithmetic depends on: device, driver and onnxruntime packages, in one line."""
    packages = (*ort.VARIANTS, "onnxruntime-ep-webgpu")
    found = [f"{name} {version}" for name in packages if (version := ort.installed(name))]
    return ", ".join([str(device), device.driver, *found])


def _session(name: str, device: Device, raw: Any, notice: str) -> Session:
    metadata = MappingProxyType(dict(raw.get_modelmeta().custom_metadata_map))
    return Session(name, device, raw, notice, metadata, BACKENDS[device.kind].lock())


def _try_open(source: str | bytes, device: Device, threads: int, spin: bool) -> tuple[Any, str]:
    """The InferenceSession, or None and why there is none on this device."""
    onnxruntime = ort.module()
    backend = BACKENDS[device.kind]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # reasons reach people through notices and errors
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        with backend.lock():
            providers = backend.configure(options, device)
            raw = onnxruntime.InferenceSession(source, options, providers=providers, enable_fallback=0)
    except Exception as error:
        reason = ort.first_line(error)
        return None, NO_ADAPTER if device.kind == "directml" and UNSUPPORTED.search(reason) else reason
    if raw.get_providers()[0] != backend.provider:  # one that failed to load is left out without an error
        return None, f"onnxruntime could not start {backend.provider} (is its driver installed?)"
    return raw, ""


def cores() -> int:
    """CPU threads to use: MOKSORI_THREADS, else the cores this process may run on. OptionError: it is no number."""
    text = os.environ.get(THREADS, "")
    if text and not (text.isdecimal() and 0 < int(text) <= 1024):
        raise OptionError(f"{THREADS} must be a number of threads, not '{text}'")
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(text) if text else found or 1


def _named(device: Device, part: str) -> bool:
    return part in device.label.casefold()
