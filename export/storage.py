"""Weights stored in 16 or 8 bits (fp16, w8) and computed in 32. export/quantize.py makes graphs that compute in 8.

``round_weights`` moves a network's weights onto the grid of the stored numbers; ``compress`` then finds the weights
of an exported graph that lie on that grid and stores them small, without any change of value: a Cast, for 8 bits
a Cast and a Mul, gives them back. onnxruntime folds both when it loads the graph; it would not fold DequantizeLinear.

Scales of 8-bit weights have 11 significant bits, so that a scale times an integer up to 127 is exact in float32,
and the scale can be read back from the rounded weights alone, whichever way the exporter has turned them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from torch import Tensor, nn
from torch.nn.utils import parametrize

from moksori.export.spec import ExportError

PRECISIONS = ("fp32", "fp16", "w8")
SMALLEST = 512  # elements; smaller tensors stay in float32, where they cost nothing
LEVELS = 127  # largest magnitude of an 8-bit weight
SCALE_BITS = 11

Array = NDArray[np.float32]


def round_weights(module: nn.Module, precision: str) -> None:
    """Round the weights of ``module`` in place to what ``precision`` can store.

    Only tensors of two or more axes are touched: 16 bits element by element, 8 bits with one scale per output
    channel. Weight norm and other parametrisations are made plain first.

    Raises:
        ExportError: unknown precision, or a weight beyond the range of 16-bit floats.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"precision '{precision}' is not one of {', '.join(PRECISIONS)}")
    make_plain(module)
    with torch.no_grad():
        for name, weight, channel in _weights(module):
            if precision == "fp16":
                if float(weight.abs().max()) > torch.finfo(torch.float16).max:
                    raise ExportError(f"{name} has values that 16 bits cannot hold; store it as fp32")
                weight.copy_(weight.half().float())
            elif precision == "w8":
                weight.copy_(_round_int8(weight, channel))


def make_plain(module: nn.Module) -> None:
    """Replace every parametrised tensor (weight norm) by its value.

    Not by torch's own ``remove_parametrizations``: it alters the class, which a deep copy shares with its original.
    """
    for part in module.modules():
        if parametrize.is_parametrized(part):
            values = {name: getattr(part, name).detach().clone() for name in part.parametrizations}  # type: ignore[union-attr]
            del part.parametrizations
            part.__class__ = type(part).__bases__[0]
            for name, value in values.items():
                part.register_parameter(name, nn.Parameter(value))


def compress(model: ModelProto, precision: str) -> None:
    """Store the weights of ``model`` that lie on the grid of ``precision``, in place; the others stay."""
    decoders: list[NodeProto] = []
    initializers: list[TensorProto] = []
    for tensor in model.graph.initializer:
        kind, parts = _stored(tensor, precision)
        initializers += parts
        decoders += _decoders(tensor.name, kind)
    nodes = [*decoders, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(initializers)
    model.graph.node.extend(nodes)


def expanded(model: ModelProto) -> ModelProto:
    """A copy with the stored weights as float32 again: the graph of the same rounded network at full size."""
    whole = ModelProto()
    whole.CopyFrom(model)
    values = {tensor.name: tensor for tensor in whole.graph.initializer}
    nodes = list(whole.graph.node)
    for node in list(nodes):
        if node.name.endswith((".cast", ".mul")) and all(name in values for name in node.input):
            parts = [numpy_helper.to_array(values.pop(name)).astype(np.float32) for name in node.input]
            value = parts[0] * parts[1] if node.op_type == "Mul" else parts[0]
            values[node.output[0]] = numpy_helper.from_array(value, node.output[0])
            nodes.remove(node)
    del whole.graph.initializer[:], whole.graph.node[:]
    whole.graph.initializer.extend(values.values())
    whole.graph.node.extend(nodes)
    return whole


def _weights(module: nn.Module) -> Iterator[tuple[str, Tensor, int]]:
    """Name, tensor and output channel axis of everything that may be stored small, each tensor once."""
    seen: set[int] = set()
    for prefix, part in module.named_modules():
        for name, weight in part.named_parameters(recurse=False):
            if weight.ndim < 2 or weight.numel() < SMALLEST or id(weight) in seen:
                continue
            seen.add(id(weight))
            transposed = isinstance(part, nn.ConvTranspose1d | nn.ConvTranspose2d) and name == "weight"
            yield f"{prefix}.{name}", weight, int(transposed)


def _round_int8(weight: Tensor, channel: int) -> Tensor:
    others = [axis for axis in range(weight.ndim) if axis != channel]
    peak = weight.abs().amax(dim=others, keepdim=True)
    mantissa, exponent = torch.frexp(peak / LEVELS)
    scale = torch.ldexp(torch.ceil(mantissa * 2**SCALE_BITS), exponent - SCALE_BITS)
    scale = torch.where(peak > 0, scale, 1.0)
    return torch.round(weight / scale).clamp(-LEVELS, LEVELS) * scale


def _stored(tensor: TensorProto, precision: str) -> tuple[str, list[TensorProto]]:
    """The precision a tensor can be stored in without a change of value, and the tensors that hold it."""
    if precision == "fp32" or tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < SMALLEST:
        return "fp32", [tensor]
    values = numpy_helper.to_array(tensor)
    if precision == "fp16":
        small = values.astype(np.float16)
        if np.array_equal(small.astype(np.float32), values):
            return "fp16", [numpy_helper.from_array(small, f"{tensor.name}.fp16")]
        return "fp32", [tensor]
    for axis in range(values.ndim):
        found = _int8(values, axis)
        if found is not None:
            levels, scale = found
            parts = [
                numpy_helper.from_array(levels, f"{tensor.name}.int8"),
                numpy_helper.from_array(scale, f"{tensor.name}.scale"),
            ]
            return "w8", parts
    return "fp32", [tensor]


def _int8(values: Array, axis: int) -> tuple[NDArray[np.int8], Array] | None:
    """Levels and scale along ``axis`` that give exactly ``values``, or None."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    peak = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(peak > 0, peak / np.float32(LEVELS), np.float32(1)).astype(np.float32)
    levels = np.round(values / scale).astype(np.int8)
    return (levels, scale) if np.array_equal(levels.astype(np.float32) * scale, values) else None


def _decoders(name: str, kind: str) -> list[NodeProto]:
    """Nodes that turn the stored tensors back into ``name``."""
    if kind == "fp16":
        return [onnx.helper.make_node("Cast", [f"{name}.fp16"], [name], f"{name}.cast", to=TensorProto.FLOAT)]
    if kind == "w8":
        cast = onnx.helper.make_node(
            "Cast", [f"{name}.int8"], [f"{name}.levels"], f"{name}.cast", to=TensorProto.FLOAT
        )
        return [
            cast,
            onnx.helper.make_node("Mul", [f"{name}.levels", f"{name}.scale"], [name], f"{name}.mul"),
        ]
    return []
