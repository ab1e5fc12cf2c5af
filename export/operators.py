"""Which operators a graph may use, so that every device computes it alike, none of it on the CPU unasked.

DirectML takes a node only when it has a kernel for exactly the version that the graph's opset selects
(onnxruntime, docs/OperatorKernels.md), and it computes in float32, not in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from moksori.export.spec import ExportError

OPSET = 18

DIRECTML = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast
    CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
    DepthToSpace DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike
    Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool GlobalMaxPool Greater
    GreaterOrEqual GridSample HardSigmoid Hardmax Identity InstanceNormalization IsInf IsNaN LRN
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul
    MatMulInteger Max MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg Not OneHot Or PRelu Pad Pow
    QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence Round Selu Shape
    Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub
    Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
    """.split()
)

# What DirectML computes and CUDA does not (the same table of onnxruntime): a run would wait for the CPU there.
# DynamicQuantizeLinear is such a one too, and allowed: int8 is for CPUs.
CUDA_LACKS = frozenset(
    """
    Acos Acosh Asin Asinh Atan Atanh Cosh Hardmax LpNormalization LpPool Mean MeanVarianceNormalization
    Sinh Tan
    """.split()
)

REFUSED = {
    "Bernoulli": "noise is always an input, so that a run can be repeated",
    "Dropout": "it trains; export the network in eval mode",
    "Gelu": "DirectML has no kernel for it; write it with erf",
    "GroupNormalization": "DirectML has no kernel for it; write it with InstanceNormalization",
    "HardSwish": "DirectML has no kernel for it; write it as x * hardsigmoid(x)",
    "If": "control flow stops graph capture and DirectML",
    "Loop": "control flow stops graph capture, and DirectML has no kernel for it",
    "Mish": "DirectML has no kernel for it; write it as x * tanh(softplus(x))",
    "Multinomial": "noise is always an input, so that a run can be repeated",
    "NonZero": "the shape of its result depends on the data",
    "RandomNormal": "noise is always an input, so that a run can be repeated",
    "RandomNormalLike": "noise is always an input, so that a run can be repeated",
    "RandomUniform": "noise is always an input, so that a run can be repeated",
    "RandomUniformLike": "noise is always an input, so that a run can be repeated",
    "Scan": "control flow stops graph capture, and DirectML has no kernel for it",
    "ScatterElements": "DirectML has no kernel for its version 18; write it with a matrix product or Where",
    "ScatterND": "DirectML has no kernel for its version 18; write it with Concat or Where",
}

Types = dict[str, int]  # value name -> TensorProto.DataType


def check(model: ModelProto) -> tuple[str, ...]:
    """Refuse a graph that some device would not run as it is.

    Returns:
        The operators used, sorted.
    Raises:
        ExportError: at the first node that breaks a rule, naming the node and the reason.
    """
    versions = {opset.domain or "ai.onnx": opset.version for opset in model.opset_import}
    if versions.get("ai.onnx") != OPSET:
        raise ExportError(f"the graph has opset {versions.get('ai.onnx')}, not {OPSET}")
    if model.functions:
        raise ExportError(
            f"the graph holds functions ({model.functions[0].name}), which not every device inlines"
        )
    types = _types(model)
    computed = set(_computed(model))
    for i, node in enumerate(model.graph.node):
        reason = _reason(node, types, i in computed)
        if reason:
            raise ExportError(f"node {node.name or node.output[0]} uses {node.op_type}: {reason}")
    return tuple(sorted({node.op_type for node in model.graph.node}))


def _reason(node: NodeProto, types: Types, computed: bool) -> str | None:
    if node.domain not in ("", "ai.onnx"):
        return f"it belongs to {node.domain}, not to the standard operators"
    if node.op_type in ("If", "Loop", "Scan") or node.op_type.startswith("Random"):
        return REFUSED[node.op_type]
    if not computed:
        return None
    if node.op_type not in DIRECTML:
        return REFUSED.get(node.op_type, f"DirectML has no kernel for it at opset {OPSET}")
    if node.op_type in CUDA_LACKS:
        return "CUDA has no kernel for it and sends it to the CPU"
    if any(types.get(name) == TensorProto.DOUBLE for name in node.output):
        return "its result is float64, which DirectML does not compute"
    rule = RULES.get(node.op_type)
    return rule(node, types) if rule else None


def _mod(node: NodeProto, types: Types) -> str | None:
    return "DirectML has no int64 Mod" if types.get(node.input[0]) == TensorProto.INT64 else None


def _conv_transpose(node: NodeProto, types: Types) -> str | None:
    options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    pads = list(options.get("pads", []))
    if any(options.get("output_padding", [])):
        return "output_padding fails on some AMD devices; use symmetric padding and slice"
    if options.get("group", 1) != 1:
        return "groups fail on some AMD devices"
    if pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
        return "CUDA sends unequal pads to the CPU; use symmetric padding and slice"
    return None


RULES: dict[str, Callable[[NodeProto, Types], str | None]] = {"Mod": _mod, "ConvTranspose": _conv_transpose}


def _computed(model: ModelProto) -> Iterator[int]:
    """Indices of the nodes that compute with the inputs' values.

    The rest is folded when the graph is loaded, or is shape arithmetic, which every device leaves to the CPU.
    """
    live = {value.name for value in model.graph.input}
    for i, node in enumerate(model.graph.node):
        if node.op_type not in ("Shape", "Size") and any(name in live for name in node.input):
            live.update(node.output)
            yield i


def _types(model: ModelProto) -> Types:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}
