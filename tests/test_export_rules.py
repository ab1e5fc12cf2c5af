"""Rules that the exporter holds graphs to, and how far networks look."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import Tensor, nn

from moksori.export import operators
from moksori.export.context import reach
from moksori.export.spec import ExportError


def single(
    op: str, inputs: dict[str, int], output: int, opset: int = 18, **attributes: object
) -> onnx.ModelProto:
    """A graph of one node."""
    values = [
        onnx.helper.make_tensor_value_info(name, kind, ["n", "c", "t"]) for name, kind in inputs.items()
    ]
    node = onnx.helper.make_node(op, list(inputs), ["y"], **attributes)
    result = onnx.helper.make_tensor_value_info("y", output, None)
    graph = onnx.helper.make_graph([node], "g", values, [result])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])


FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (single("Gelu", {"x": FLOAT}, FLOAT), "erf"),
        (single("Mish", {"x": FLOAT}, FLOAT), "softplus"),
        (
            single("GroupNormalization", {"x": FLOAT, "s": FLOAT, "b": FLOAT}, FLOAT, num_groups=1),
            "InstanceNorm",
        ),
        (single("Mod", {"a": INT64, "b": INT64}, INT64), "int64"),
        (single("NonZero", {"x": FLOAT}, INT64), "shape"),
        (single("RandomNormalLike", {"x": FLOAT}, FLOAT), "noise"),
        (single("Det", {"x": FLOAT}, FLOAT), "no kernel"),
        (single("ConvTranspose", {"x": FLOAT, "w": FLOAT}, FLOAT, output_padding=[1]), "output_padding"),
        (single("ConvTranspose", {"x": FLOAT, "w": FLOAT}, FLOAT, group=2), "groups"),
        (single("ConvTranspose", {"x": FLOAT, "w": FLOAT}, FLOAT, pads=[0, 1]), "unequal pads"),
        (single("Tan", {"x": FLOAT}, FLOAT), "CUDA has no kernel"),
        (single("Hardmax", {"x": FLOAT}, FLOAT), "CUDA has no kernel"),
        (single("ScatterND", {"x": FLOAT, "i": INT64, "u": FLOAT}, FLOAT), "version 18"),
        (single("HardSwish", {"x": FLOAT}, FLOAT), "hardsigmoid"),
        (single("Relu", {"x": FLOAT}, FLOAT, opset=22), "opset 22, not 18"),
    ],
)
def test_each_rule_gives_its_reason(model: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        operators.check(model)


def test_float_mod_and_symmetric_transposed_convolutions_are_allowed() -> None:
    assert operators.check(single("Mod", {"a": FLOAT, "b": FLOAT}, FLOAT, fmod=1)) == ("Mod",)
    assert operators.check(single("ConvTranspose", {"x": FLOAT, "w": FLOAT}, FLOAT, pads=[2, 2])) == (
        "ConvTranspose",
    )


def test_every_allowed_operator_exists_at_our_opset() -> None:
    assert operators.CUDA_LACKS < operators.DIRECTML and not operators.DIRECTML & operators.REFUSED.keys()
    for name in operators.DIRECTML:
        assert onnx.defs.get_schema(name, operators.OPSET).since_version <= operators.OPSET


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4), (3, 9)])
def test_reach_of_stacked_convolutions_is_the_sum_of_their_arms(dilations: tuple[int, ...]) -> None:
    layers = [nn.Conv1d(3, 3, 5, padding=2 * d, dilation=d) for d in dilations]
    network = nn.Sequential(*layers).double()
    example = torch.randn(1, 3, 200, dtype=torch.float64)
    assert reach(network, example, 2, 2) == 2 * sum(dilations)


def test_reach_takes_the_longer_side_and_notices_a_short_example() -> None:
    def from_the_past(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (7, 0))[..., : x.shape[-1]] + x

    assert reach(from_the_past, torch.randn(1, 2, 64, dtype=torch.float64), 2, 2) == 7
    with pytest.raises(ExportError, match="further"):
        reach(from_the_past, torch.randn(1, 2, 14, dtype=torch.float64), 2, 2)
    with pytest.raises(ExportError, match="further"):
        reach(lambda x: x.cumsum(-1), torch.randn(1, 2, 64, dtype=torch.float64), 2, 2)
