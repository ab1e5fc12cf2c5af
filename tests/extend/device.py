"""A device: the CPU without onnxruntime's optimiser, to find out whether a wrong result is the optimiser's."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from moksori.runtime import ort
from moksori.runtime.backends import BACKENDS, Backend, Device


def find() -> list[Device]:
    """What there is of this kind; DeviceError, in one sentence, where there is none."""
    return [Device("plain", 0, "CPU, not optimised", software=True)]  # software: --device auto leaves it alone


def configure(options: Any, device: Device) -> list[Any]:
    options.graph_optimization_level = ort.module().GraphOptimizationLevel.ORT_DISABLE_ALL
    return ["CPUExecutionProvider"]


BACKENDS["plain"] = Backend("CPUExecutionProvider", find, configure, nullcontext)
