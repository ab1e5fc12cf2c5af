"""Graphs in 8 bits: against the arithmetic of ONNX's own definitions, written out in numpy."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from moksori.export import operators
from moksori.export.quantize import quantized
from moksori.export.spec import ExportError

Array = NDArray[np.float32]
RNG = np.random.default_rng(0)


def model(nodes: list[onnx.NodeProto], weights: dict[str, Array], shape: tuple[int | str, ...]) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape if name == "x" else None) for name in "xy"]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "denoiser", ports[:1], ports[1:], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, producer_name="moksori")
    helper.set_model_props(made, {"role": "denoiser"})
    return made


def run(made: onnx.ModelProto, x: Array) -> Array:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {"x": x})[0]
    return found


def drawn(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def product() -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    return model([node], {"w": drawn(32, 48)}, (1, "n", 32))


def rounded(x: Array) -> Array:
    """DynamicQuantizeLinear and back: 256 even steps that hold zero, from the least to the greatest value."""
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return ((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale).astype(np.float32)


def seven_bits(weight: Array, axis: int) -> Array:
    """One scale for each channel, levels within ±64, whichever of the usual two scales the quantizer takes."""
    others = tuple(at for at in range(weight.ndim) if at != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / 64
    return np.rint(weight / scale) * scale


def test_products_are_rounded_as_the_standard_says() -> None:
    whole, x = product(), drawn(1, 20, 32)
    small = quantized(whole, ())
    weight = numpy_helper.to_array(whole.graph.initializer[0])
    wanted = rounded(x) @ seven_bits(weight, 1)
    exact = x @ weight
    off = np.abs(run(small, x) - wanted).max()
    assert off < 0.25 * np.abs(wanted - exact).max() and off < 0.01 * np.abs(exact).max()
    assert set(operators.check(small)) == {"Cast", "DynamicQuantizeLinear", "MatMulInteger", "Mul"}


def test_weights_have_seven_bits_so_that_no_processor_overflows() -> None:
    for made in (quantized(product(), ()), quantized(convolution(), feeds())):
        stored = [numpy_helper.to_array(one) for one in made.graph.initializer if one.data_type == TensorProto.INT8]
        assert max(np.abs(one.astype(int)).max() for one in stored) <= 64


def convolution(group: int = 1) -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], "convolution", kernel_shape=[3], pads=[1, 1], group=group)
    return model([node], {"w": drawn(24, 24 // group, 3 * group)[..., :3], "b": drawn(24)}, (1, 24, "n"))


def feeds() -> list[dict[str, Array]]:
    return [{"x": drawn(1, 24, 30)} for _ in range(4)]


def test_convolutions_are_calibrated() -> None:
    """Close to fp32 within the range that was seen, and clipped beyond it."""
    whole, given = convolution(), feeds()
    small = quantized(whole, given)
    kinds = [node.op_type for node in small.graph.node]
    assert kinds.count("QuantizeLinear") == 2 and set(kinds) == {"QuantizeLinear", "DequantizeLinear", "Conv"}
    x = given[0]["x"]
    wanted = run(whole, x)
    assert np.linalg.norm(run(small, x) - wanted) < 0.03 * np.linalg.norm(wanted)
    most = max(float(np.abs(run(whole, one["x"])).max()) for one in given)
    assert np.abs(run(small, 100 * x)).max() < 1.1 * most


def test_grouped_and_small_ones_stay() -> None:
    for whole in (convolution(group=24), model([helper.make_node("Relu", ["x"], ["y"])], {}, (1, "n"))):
        with pytest.raises(ExportError, match="no large product or convolution"):
            quantized(whole, feeds())


def test_a_convolution_needs_something_to_be_calibrated_on() -> None:
    with pytest.raises(ExportError, match="add --data and the DATA_DIR"):
        quantized(convolution(), ())


def test_nothing_but_the_arithmetic_changes() -> None:
    whole = product()
    small = quantized(whole, ())
    assert [(one.domain, one.version) for one in small.opset_import] == [("", 18)]
    assert (small.producer_name, small.graph.name) == ("moksori", "denoiser")
    assert [(one.key, one.value) for one in small.metadata_props] == [("role", "denoiser")]
    assert [one.name for one in small.graph.input] == ["x"] and not small.graph.value_info
