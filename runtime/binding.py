"""Runs whose tensors stay on the device, for a loop whose outputs are its next inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import ort
from moksori.runtime.backends import BACKENDS
from moksori.runtime.devices import Session
from moksori.runtime.pitch import Session as Runs


class Place(Protocol):
    """Where tensors live between runs; what ``put`` and ``run`` give goes into other runs as it is."""

    def put(self, array: NDArray[Any]) -> Any: ...

    def run(self, inputs: Mapping[str, Any]) -> list[Any]:
        """All outputs in order. DeviceError when the run fails."""

    def get(self, tensor: Any) -> NDArray[Any]: ...


def place(session: Runs) -> Place:
    """The memory of the session's device; on the CPU plain arrays do."""
    if isinstance(session, Session) and session.device.kind != "cpu":
        return Resident(session)
    return Host(session)


class Host:
    def __init__(self, session: Runs) -> None:
        self.session = session

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(array)

    def run(self, inputs: Mapping[str, Any]) -> list[Any]:
        return list(self.session.run(None, dict(inputs)))

    def get(self, tensor: NDArray[Any]) -> NDArray[Any]:
        return tensor


class Resident:
    """Tensors as OrtValues in the device's memory; each run takes fresh memory from onnxruntime's arena for outputs."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.where = (BACKENDS[session.device.kind].memory, session.device.index)
        self.outputs = [output.name for output in session.raw.get_outputs()]

    def put(self, array: NDArray[Any]) -> Any:
        with self.session.guard():
            return ort.module().OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), *self.where)

    def run(self, inputs: Mapping[str, Any]) -> list[Any]:
        with self.session.guard():
            binding = self.session.raw.io_binding()
            for name, value in inputs.items():
                binding.bind_ortvalue_input(name, value)
            for name in self.outputs:
                binding.bind_output(name, *self.where)
            self.session.raw.run_with_iobinding(binding)
            return list(binding.get_outputs())

    def get(self, tensor: Any) -> NDArray[Any]:
        with self.session.guard():
            return np.asarray(tensor.numpy())
