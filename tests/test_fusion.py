"""Graphs are written in the forms that onnxruntime runs as one kernel, without a change of value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import erf

from moksori.export import fusion

SHAPE = [1, "n", 8]


def graph(order: str) -> onnx.ModelProto:
    """Gelu of ``x`` in torch's order, or in one that onnxruntime knows already, or with its product used twice."""
    constants = {"root": 2**0.5, "one": 1.0, "half": 0.5}
    nodes = [
        helper.make_node("Div", ["x", "root"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["erf"]),
        helper.make_node("Add", ["erf", "one"], ["plus"]),
    ]
    nodes += {
        "known": [
            helper.make_node("Mul", ["x", "plus"], ["inner"]),
            helper.make_node("Mul", ["inner", "half"], ["y"]),
        ],
    }.get(
        order,
        [
            helper.make_node("Mul", ["half", "plus"], ["inner"]),
            helper.make_node("Mul", ["x", "inner"], ["y"]),
        ],
    )
    outputs = ["y"]
    if order == "twice":
        nodes.append(helper.make_node("Neg", ["inner"], ["z"]))
        outputs = ["y", "z"]
    made = helper.make_graph(
        nodes,
        "gelu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in outputs],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(("order", "found"), [("torch", 1), ("known", 0), ("twice", 0)])
def test_gelu_becomes_one_kernel(order: str, found: int, tmp_path: Path) -> None:
    model = graph(order)
    assert fusion.gelu(model) == found
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kernels = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert ("Gelu" in kernels) == (order != "twice")
    x = np.random.default_rng(0).standard_normal((1, 50, 8)).astype(np.float32) * 3
    np.testing.assert_allclose(
        session.run(["y"], {"x": x})[0], x * (1 + erf(x / 2**0.5)) / 2, rtol=1e-5, atol=1e-6
    )
