"""A device must compute what the CPU computes: each graph is tried once on the same input, and the verdict remembered.

Some DirectML and WebGPU drivers return wrong numbers without an error.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from moksori.runtime import files
from moksori.runtime.devices import Session, versions
from moksori.runtime.errors import DeviceError

Array = NDArray[Any]

TOLERANCE = 1e-3  # of the largest value of an output


def trusted(
    session: Session, on_cpu: Callable[[], Session], inputs: Callable[[], Mapping[str, Array]], graph: str
) -> Session:
    """``session`` if its outputs are the CPU's to 1e-3, else the CPU's session with a notice.

    Args:
        on_cpu: opens the same graph on the CPU; not called when the verdict is known and good.
        inputs: makes the inputs to compare on.
        graph: SHA-256 of the graph; with device, driver and onnxruntime version the key of the verdict.
    """
    if session.device.kind == "cpu":
        return session
    key = hashlib.sha256(f"{versions(session.device)}, {graph}".encode()).hexdigest()
    error = _remembered(key)
    reference = None
    if error is None:
        reference = on_cpu()
        error = distance(session, reference, inputs())
        _remember(key, error)
    if error <= TOLERANCE:
        return session
    notice = f"{session.name} runs on the CPU: {session.device} failed its self-test (off by {error:.2g} of full scale)"
    return replace(reference or on_cpu(), notice=notice)


def distance(session: Session, reference: Session, inputs: Mapping[str, Array]) -> float:
    """Largest difference between the outputs of two sessions, relative to the largest value of that output.

    Infinite when the device fails, gives another shape, or gives a number that is not finite.
    """
    expected = reference.run(None, inputs)
    try:
        found = session.run(None, inputs)
    except DeviceError:
        return float("inf")
    return max(_distance(a, b) for a, b in zip(found, expected, strict=True))


def cache_folder() -> Path:
    """Where verdicts are kept, one small file each."""
    return platformdirs.user_cache_path("moksori", appauthor=False, opinion=False) / "self-test"


def _distance(found: Array, expected: Array) -> float:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    scale = float(np.abs(expected).max(initial=0))
    return float(np.abs(found - expected).max(initial=0)) / max(scale, 1e-6)


def _remembered(key: str) -> float | None:
    try:
        return float(files.read_json(cache_folder() / f"{key}.json")["error"])
    except (OSError, ValueError, TypeError, KeyError):
        return None  # absent or damaged: test again


def _remember(key: str, error: float) -> None:
    if np.isfinite(error):  # a device that failed outright, by a full memory perhaps, is asked again
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
            files.write_json(cache_folder() / f"{key}.json", {"error": error})
