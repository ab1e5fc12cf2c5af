"""From a torch module to an ONNX file that describes itself and was proved equal to the module."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, ValueInfoProto
from torch import nn

from moksori.export import fusion, operators, storage
from moksori.export.proof import Reference, distance, prove, torch_reference
from moksori.export.spec import Axis, Draw, ExportError, GraphSpec, Lengths, Port, factor
from moksori.runtime.files import atomic_path, sha256

__all__ = [
    "Axis",
    "Draw",
    "ExportError",
    "GraphSpec",
    "Lengths",
    "Port",
    "Proof",
    "annotate",
    "metadata",
    "seal",
    "write",
]

FORMAT_VERSION = 1
PRODUCER = "moksori"


@dataclass(frozen=True)
class Proof:
    """What was written and how well it was shown to agree with the network.

    ``errors`` holds, per output, the largest error over the largest value, ``absolute`` the largest of all as it is;
    ``rounding`` the relative L2 distance that the storage precision costs against the unrounded network.
    """

    path: Path
    spec: GraphSpec
    role: str
    kind: str
    precision: str
    errors: Mapping[str, float]
    absolute: float
    rounding: Mapping[str, float]
    lengths: tuple[Lengths, ...]
    at_lengths: tuple[float, ...]  # largest error at each of them
    operators: tuple[str, ...]
    opset: int
    context: str  # how far it looks to either side: frames, units or samples, or "all"; empty where that was not asked
    load_seconds: float
    bytes: int
    sha256: str
    weights_sha256: str

    @property
    def worst(self) -> float:
        return max(self.errors.values())


def write(module: nn.Module, spec: GraphSpec, path: Path, precision: str = "fp32") -> Proof:
    """Export ``module`` as the graph that ``spec`` promises, with weights stored in ``precision``.

    The module is left as it is; a copy is rounded, traced, compared with the graph and forgotten.

    Raises:
        ExportError: the graph breaks a rule (opset, operators, names, shapes) or differs from the rounded
            module by more than 1e-4 of the largest value at lengths the exporter never saw. Nothing is written.
    """
    rounded = copy.deepcopy(module).cpu().float().eval()
    storage.make_plain(rounded)
    exact = torch_reference(copy.deepcopy(rounded))
    storage.round_weights(rounded, precision)
    reference = torch_reference(rounded)
    rounding = {} if precision == "fp32" else distance(reference, exact, spec)
    return seal(_trace(rounded, spec), reference, spec, path, precision, rounding)


def seal(
    model: ModelProto,
    reference: Reference,
    spec: GraphSpec,
    path: Path,
    precision: str = "fp32",
    rounding: Mapping[str, float] | None = None,
) -> Proof:
    """Check, compress, prove against ``reference``, describe and write a graph that exists already."""
    _strip(model, spec)
    fusion.gelu(model)
    storage.compress(model, precision)
    used = operators.check(model)
    _check_storage(model, spec)
    onnx.checker.check_model(model, full_check=True)
    evidence = prove(model.SerializeToString(), reference, spec)
    weights = _weights_sha256(model)
    _make_optional(model, spec)
    onnx.helper.set_model_props(
        model,
        {
            "role": spec.role,
            "kind": spec.kind,
            "format_version": str(FORMAT_VERSION),
            **spec.metadata,
            "opset": str(operators.OPSET),
            "operators": " ".join(used),
            "precision": precision,
            "weights_sha256": weights,
            "proof_max_error": f"{evidence.worst:.2e}",
            "proof_max_absolute_error": f"{evidence.absolute:.2e}",
            "proof_errors": json.dumps([float(f"{error:.1e}") for error in evidence.at_lengths]),
            "proof_lengths": json.dumps([dict(lengths) for lengths in spec.unseen]),
        },
    )
    with atomic_path(path) as part:
        part.write_bytes(model.SerializeToString())
    return Proof(
        path=path,
        spec=spec,
        role=spec.role,
        kind=spec.kind,
        precision=precision,
        errors=evidence.errors,
        absolute=evidence.absolute,
        rounding=rounding or {},
        lengths=spec.unseen,
        at_lengths=evidence.at_lengths,
        operators=used,
        opset=operators.OPSET,
        context=spec.metadata.get("looks") or spec.metadata.get("context", ""),
        load_seconds=evidence.load_seconds,
        bytes=path.stat().st_size,
        sha256=sha256(path),
        weights_sha256=weights,
    )


def annotate(path: Path, model: ModelProto, facts: Mapping[str, str]) -> None:
    """Write ``model``, proved before or made of such a one, with more metadata."""
    said = {entry.key: entry.value for entry in model.metadata_props}
    used = " ".join(sorted({node.op_type for node in model.graph.node}))
    onnx.helper.set_model_props(model, {**said, "operators": used, "weights_sha256": _weights_sha256(model), **facts})
    with atomic_path(path) as part:
        part.write_bytes(model.SerializeToString())


def metadata(path: Path) -> dict[str, str]:
    """What a graph says of itself; ExportError when the file is no graph."""
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        raise ExportError(f"{path} is not an ONNX file, or is cut short") from None
    return {entry.key: entry.value for entry in model.metadata_props}


def _trace(module: nn.Module, spec: GraphSpec) -> ModelProto:
    inputs = spec.draw(spec.traced, torch.Generator().manual_seed(0))
    if len({id(tensor) for tensor in inputs}) != len(inputs):
        raise ExportError(
            f"{spec.role}: two example inputs are the same tensor, which the exporter would tie together"
        )
    dims = {axis.name: torch.export.Dim(axis.name, min=axis.minimum, max=axis.maximum) for axis in spec.axes}
    shapes = tuple(
        {i: dims[name] if multiple == 1 else multiple * dims[name] for i, multiple, name in _dynamic(port)}
        for port in spec.inputs
    )
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                opset_version=operators.OPSET,
                input_names=[port.name for port in spec.inputs],
                output_names=[port.name for port in spec.outputs],
                dynamic_shapes=shapes,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"{spec.role}: torch cannot export the network: {_last_line(error)}") from error
    assert program is not None
    return program.model_proto


def _dynamic(port: Port) -> Iterator[tuple[int, int, str]]:
    """Position, multiple and name of each axis that is not fixed."""
    for i, axis in enumerate(port.axes):
        if isinstance(axis, str):
            yield i, *factor(axis)


def _strip(model: ModelProto, spec: GraphSpec) -> None:
    """Remove traces of the machine that exported (paths, stack traces) and name the axes as the spec does."""
    graph = model.graph
    model.producer_name, model.producer_version, model.domain = PRODUCER, "", ""
    model.doc_string = graph.doc_string = ""
    graph.name = spec.role
    for holder in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    del graph.value_info[:]
    for ports, values in ((spec.inputs, graph.input), (spec.outputs, graph.output)):
        named = {port.name: port for port in ports}
        for value in values:
            _name_axes(value, named.get(value.name), spec)


def _name_axes(value: ValueInfoProto, port: Port | None, spec: GraphSpec) -> None:
    dims = value.type.tensor_type.shape.dim
    if port is None or len(dims) != len(port.axes):
        raise ExportError(
            f"{spec.role}: the graph has {value.name} with {len(dims)} axes, which nobody asked for"
        )
    for dim, axis in zip(dims, port.axes, strict=True):
        if isinstance(axis, str):
            dim.dim_param = axis
        elif dim.dim_value != axis:
            raise ExportError(
                f"{spec.role}: an axis of {value.name} is {dim.dim_value or dim.dim_param}, not {axis}"
            )


def _make_optional(model: ModelProto, spec: GraphSpec) -> None:
    """Give each optional input a default, which in ONNX is an initializer of its name."""
    for value in model.graph.input:
        if value.name in spec.optional:
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(sizes, kind), value.name))


def _check_storage(model: ModelProto, spec: GraphSpec) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ExportError(f"{spec.role}: {tensor.name} lies outside the file")


def _weights_sha256(model: ModelProto) -> str:
    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
        digest.update(tensor.name.encode("utf-8") + tensor.SerializeToString(deterministic=True))
    return digest.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about packages that are not installed from the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _last_line(error: BaseException) -> str:
    """The innermost reason of an exporter error, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
