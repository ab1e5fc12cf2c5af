"""Graphs that compute in 8 bits, made by onnxruntime's quantizers of a graph that was proved in 32.

- Matrix products are dynamic: the range of what comes in is found at every run.
- Convolutions are QDQ with ranges of ``feeds``, which the graph was given while a voice sang prepared data. Grouped
  ones stay as they are: on a depthwise one 8 bits gain no time and cost six times the error of all products together.
- Weights have one scale per output channel and 7 bits. Processors without VNNI add pairs of products in 16 bits, which
  overflow with 8-bit weights: 0.15 dB of error became 1.9 dB.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime import quantization

from moksori.export import operators
from moksori.export.spec import ExportError
from moksori.export.storage import SMALLEST

Feeds = Mapping[str, NDArray[Any]]

PRODUCTS = ("MatMul", "Gemm")


def quantized(model: ModelProto, feeds: Sequence[Feeds], convolutions: bool = True) -> ModelProto:
    """``model`` in 8 bits; its metadata stays. Without ``convolutions`` the products alone, which need no ``feeds``.

    Raises:
        ExportError: nothing in it can be quantized, or the result uses an operator that some device lacks.
    """
    convs = _large(model, ("Conv",)) if convolutions else []
    products = _large(model, PRODUCTS)
    if not convs and not products:
        raise ExportError(f"the {model.graph.name} graph has no large product or convolution to compute in 8 bits")
    if convs and not feeds:
        raise ExportError("int8 is calibrated on prepared data: add --data and the DATA_DIR of svc-prepare")
    made = ModelProto()
    made.CopyFrom(model)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "graph.onnx"
        if convs:
            quantization.quantize_static(
                made, path, _Reader(feeds), quantization.QuantFormat.QDQ, ["Conv"], per_channel=True, reduce_range=True,
                activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
                nodes_to_quantize=convs, calibrate_method=quantization.CalibrationMethod.MinMax,
            )  # fmt: skip
            made = onnx.load(path)
        if products:
            split = [f"{name}_MatMul" for name in products]  # what a Gemm becomes before it is quantized
            quantization.quantize_dynamic(
                made, path, ["MatMul"], per_channel=True, reduce_range=True,
                weight_type=quantization.QuantType.QInt8, nodes_to_quantize=products + split,
            )  # fmt: skip
            made = onnx.load(path)
    _clean(made, model)
    operators.check(made)
    onnx.checker.check_model(made, full_check=True)
    return made


class _Reader(quantization.CalibrationDataReader):
    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self.left = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self.left, None)


def _large(model: ModelProto, kinds: Sequence[str]) -> list[str]:
    """Names of the nodes of these kinds that multiply with a large constant, in one group."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in kinds
        and sizes.get(node.input[1], 0) >= SMALLEST
        and all(one.i == 1 for one in node.attribute if one.name == "group")
    ]


def _clean(made: ModelProto, model: ModelProto) -> None:
    """The maker, the operator sets and the described shapes of before; no metadata of the quantizers."""
    made.producer_name, made.producer_version = model.producer_name, model.producer_version
    del made.opset_import[:], made.metadata_props[:], made.graph.value_info[:]
    made.opset_import.extend(model.opset_import)
    made.metadata_props.extend(model.metadata_props)
    made.graph.name = model.graph.name
    for node in made.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizers' advice, which goes to the root logger, from the terminal."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
