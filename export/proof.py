"""Evidence that a graph computes what the network computes, gathered before the graph is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from moksori.export.spec import ExportError, GraphSpec, Lengths, shape

LIMIT = 1e-4  # largest error of an output, relative to the largest value it should have
INFLUENCE = (
    1e-6  # an input counts as used when a redraw moves some output by more than this, likewise relative
)

Array = NDArray[Any]
Reference = Callable[[Sequence[Tensor]], Sequence[Array]]


@dataclass(frozen=True)
class Evidence:
    """What ``prove`` measured: the worst relative error of each output and at each length, and seconds to load."""

    errors: dict[str, float]
    absolute: float  # the largest error of any output, in its own unit
    at_lengths: tuple[float, ...]  # relative, one for each of the spec's unseen lengths
    load_seconds: float

    @property
    def worst(self) -> float:
        return max(self.errors.values())


def prove(graph: bytes, reference: Reference, spec: GraphSpec) -> Evidence:
    """Compare ``graph``, run by onnxruntime on the CPU, with ``reference`` at every unseen length.

    At each length all inputs are drawn, and then each input is drawn anew while the others stay.

    Raises:
        ExportError: another name, type or shape than the spec's; an error above 1e-4 of the largest reference
            value; or an input that changes no output although the spec does not call it silent.
    """
    started = time.perf_counter()
    session = open_session(graph)
    load_seconds = time.perf_counter() - started
    _check_names(session, spec)
    rounds: list[_Round] = []
    used = set(spec.silent)
    for number, lengths in enumerate(spec.unseen):
        inputs, others = (_draw(spec, lengths, seed) for seed in (2 * number + 1, 2 * number + 2))
        errors = _Round({port.name: 0.0 for port in spec.outputs})
        rounds.append(errors)
        base = _compare(session, reference, spec, inputs, lengths, errors)
        for i, port in enumerate(spec.inputs):
            varied = [*inputs[:i], others[i], *inputs[i + 1 :]]
            outputs = _compare(session, reference, spec, varied, lengths, errors)
            if any(_relative(a, b) > INFLUENCE for a, b in zip(outputs, base, strict=True)):
                used.add(port.name)
    unused = [port.name for port in spec.inputs if port.name not in used]
    if unused:
        raise ExportError(f"{spec.role}: input {', '.join(unused)} changes no output")
    worst = {port.name: max(errors.relative[port.name] for errors in rounds) for port in spec.outputs}
    at_lengths = tuple(max(errors.relative.values()) for errors in rounds)
    return Evidence(worst, max(errors.absolute for errors in rounds), at_lengths, load_seconds)


@dataclass
class _Round:
    """The largest errors seen so far at one set of lengths."""

    relative: dict[str, float]  # by output
    absolute: float = 0.0


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def torch_reference(module: torch.nn.Module) -> Reference:
    """The network itself, as ``prove`` wants it."""

    def run(inputs: Sequence[Tensor]) -> Sequence[Array]:
        with torch.inference_mode():
            outputs = module(*inputs)
        return [output.numpy() for output in ((outputs,) if isinstance(outputs, Tensor) else outputs)]

    return run


def distance(first: Reference, second: Reference, spec: GraphSpec) -> dict[str, float]:
    """Relative L2 distance of each output between two references, at the last of the unseen lengths."""
    inputs = _draw(spec, spec.unseen[-1], seed=1)
    pairs = zip(spec.outputs, first(inputs), second(inputs), strict=True)
    return {port.name: _l2(a - b) / max(_l2(b), 1e-12) for port, a, b in pairs}


def _draw(spec: GraphSpec, lengths: Lengths, seed: int) -> list[Tensor]:
    tensors = spec.draw(lengths, torch.Generator().manual_seed(seed))
    for port, tensor in zip(spec.inputs, tensors, strict=True):
        if tuple(tensor.shape) != shape(port, lengths):
            raise ExportError(
                f"{spec.role}: {port.name} was drawn as {tuple(tensor.shape)}, not {shape(port, lengths)}"
            )
    return list(tensors)


def _compare(
    session: onnxruntime.InferenceSession,
    reference: Reference,
    spec: GraphSpec,
    inputs: Sequence[Tensor],
    lengths: Lengths,
    errors: _Round,
) -> list[Array]:
    """Run both, note the errors of each output in ``errors``, and return the graph's outputs."""
    feed = {port.name: tensor.numpy() for port, tensor in zip(spec.inputs, inputs, strict=True)}
    outputs: list[Array] = session.run(None, feed)
    where = ", ".join(f"{name}={length}" for name, length in lengths.items())
    for port, output, expected in zip(spec.outputs, outputs, reference(inputs), strict=True):
        if output.shape != shape(port, lengths) or expected.shape != output.shape:
            raise ExportError(
                f"{spec.role}: {port.name} has shape {output.shape} at {where}, not {shape(port, lengths)}"
            )
        error = _relative(output, expected)
        errors.relative[port.name] = max(errors.relative[port.name], error)
        errors.absolute = max(errors.absolute, float(np.abs(output - expected).max()))
        if not error <= LIMIT:
            raise ExportError(
                f"{spec.role}: {port.name} differs from the network by {error:.1e} of its largest value"
                f" at {where} (limit {LIMIT:.0e})"
            )
    return outputs


def _relative(values: Array, reference: Array) -> float:
    """Largest difference over the largest reference value; infinite when either is not finite."""
    a, b = values.astype(np.float64), reference.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12))


def _l2(values: Array) -> float:
    return float(np.sqrt(np.square(values.astype(np.float64)).sum()))


def _check_names(session: onnxruntime.InferenceSession, spec: GraphSpec) -> None:
    for kind, ports, values in (
        ("inputs", spec.inputs, session.get_inputs()),
        ("outputs", spec.outputs, session.get_outputs()),
    ):
        promised = [(port.name, list(port.axes)) for port in ports]
        found = [(value.name, list(value.shape)) for value in values]
        if promised != found:
            raise ExportError(f"{spec.role}: the {kind} are {found}, not {promised}")
        for value in values:
            if value.type not in ("tensor(float)", "tensor(int64)"):
                raise ExportError(f"{spec.role}: {value.name} is {value.type}, not float32 or int64")
