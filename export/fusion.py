"""Rewrites of a traced graph into the forms that onnxruntime recognises and runs as one kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from onnx import ModelProto, NodeProto


def gelu(model: ModelProto) -> int:
    """Turn x · (½ · (1 + erf)) into (x · (1 + erf)) · ½, in place; the value of neither product changes by it.

    torch exports the first; onnxruntime's GeluFusion knows the second (Hendrycks & Gimpel 2016, eq. 2).

    Returns:
        How many were found.
    """
    made = {output: node for node in model.graph.node for output in node.output}
    uses = Counter(name for node in model.graph.node for name in node.input)
    found = 0
    for outer in model.graph.node:
        parts = _gelu_parts(outer, made)
        if parts is None or uses[parts[2]] > 1:
            continue
        half, one_plus_erf, inner = parts
        x = outer.input[0]
        made[inner].input[:] = [x, one_plus_erf]
        outer.input[:] = [inner, half]
        found += 1
    return found


def _gelu_parts(outer: NodeProto, made: Mapping[str, NodeProto]) -> tuple[str, str, str] | None:
    """Names of ½, of 1 + erf and of their product, where ``outer`` multiplies x by that product."""
    if outer.op_type != "Mul":
        return None
    inner = made.get(outer.input[1])
    if inner is None or inner.op_type != "Mul":
        return None
    total = made.get(inner.input[1])
    if total is None or total.op_type != "Add":
        return None
    erf = made.get(total.input[0])
    if erf is None or erf.op_type != "Erf":
        return None
    return inner.input[0], total.output[0], inner.output[0]
