"""The vocoder of a voice as a network again: the weights are taken back out of its ONNX graph.

A graph keeps the names of most parameters. A matrix that a linear layer multiplies with is renamed and turned by the
exporter, so it is known by the bias that is added next. The network is then compared with the graph.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from moksori.models.istft_vocoder import IstftVocoderConfig
from moksori.runtime import devices, voice
from moksori.runtime.errors import MoksoriError, OptionError
from moksori.runtime.mel import MelSpec
from moksori.train import synthesis
from moksori.train.synthesis import Start

Array = NDArray[Any]

KINDS = {"istft": "istft", "nsf_hifigan": "nsf_hifigan", "mini_nsf": "nsf_hifigan"}  # graph -> architecture
TRIED = 7  # frames on which network and graph are compared
TOLERANCE = 1e-3  # of the largest value


def read(name: str) -> Start:
    """The vocoder of the voice ``name``: an installed one, a folder or a zip.

    Raises:
        VoiceError: no such voice, or a damaged one.
        OptionError: its vocoder is of a kind that cannot be trained.
        MoksoriError: the weights do not give the graph's output.
    """
    spec, files = voice.read_graphs(name, ["vocoder"])
    if spec.vocoder.kind not in KINDS:
        raise OptionError(f"the vocoder of voice '{spec.name}' is of kind {spec.vocoder.kind}, which cannot be trained")
    try:
        model = onnx.load_from_string(files["vocoder"])
    except DecodeError:
        raise MoksoriError(f"the vocoder graph of voice '{spec.name}' is damaged; copy the voice again") from None
    values = parameters(model)
    architecture = KINDS[spec.vocoder.kind]
    shape = _shape(architecture, model, values, spec.mel)
    try:
        network = synthesis.architecture(architecture).network(shape).eval()
        state = {key: _fitting(values[key], wanted) for key, wanted in network.state_dict().items() if key in values}
        network.load_state_dict(state | _normed(network, values))
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise MoksoriError(f"the vocoder graph of voice '{spec.name}' gives no weights ({reason})") from None
    distance = _distance(network, files["vocoder"])
    if not distance <= TOLERANCE:
        raise MoksoriError(
            f"the weights in the vocoder graph of voice '{spec.name}' do not give its output (off by {distance:.1e})"
        )
    return Start(architecture, shape, spec.mel, network.state_dict())


def parameters(model: ModelProto) -> dict[str, Array]:
    """The parameters of a network by their names, from its graph."""
    values = _decoded(model)
    found = {name: value for name, value in values.items() if "." in name}
    added = {node.input[0]: node.input[1] for node in model.graph.node if node.op_type == "Add"}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and len(node.input) == 3 and node.input[1] in values:
            found[_weight_of(node.input[2])] = values[node.input[1]]
        if node.op_type == "MatMul" and node.input[1] in values and added.get(node.output[0], "").endswith(".bias"):
            found[_weight_of(added[node.output[0]])] = values[node.input[1]].T
        if node.op_type == "Gemm" and len(node.input) == 3 and node.input[1] in values:
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            found[_weight_of(node.input[2])] = values[node.input[1]] if turned else values[node.input[1]].T
    return found


def _decoded(model: ModelProto) -> dict[str, Array]:
    """All constants, those stored in 16 or 8 bits as float32 again (export/storage.py)."""
    values = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].astype(np.float32)
        if node.op_type == "Mul" and all(name in values for name in node.input):
            values[node.output[0]] = values[node.input[0]] * values[node.input[1]]
    return values


def _weight_of(bias: str) -> str:
    return f"{bias.removesuffix('.bias')}.weight"


def _shape(architecture: str, model: ModelProto, values: Mapping[str, Array], mel: MelSpec) -> Any:
    """The network's config: as the graph says, or for graphs of before it did, as its weights show."""
    said = {entry.key: entry.value for entry in model.metadata_props}.get("network")
    try:
        if said is not None:
            return synthesis.shape(architecture, json.loads(said))
        channels, hidden = len(values["mel_in.bias"]), len(values["blocks.0.expand.bias"])
        layers = sum(name.startswith("blocks.") and name.endswith(".gamma") for name in values)
        kernel = values["blocks.0.depthwise.weight"].shape[-1]
    except (ValueError, KeyError, OptionError) as error:
        raise MoksoriError(f"a vocoder graph does not say what network it is ({error}); export it again") from None
    return IstftVocoderConfig(mel.bins, mel.n_fft, channels, hidden, layers, kernel)


def _fitting(value: Array, wanted: Tensor) -> Tensor:
    return torch.from_numpy(np.array(value, np.float32)).reshape(wanted.shape)


def _normed(network: nn.Module, values: Mapping[str, Array]) -> dict[str, Tensor]:
    """Plain weights of the parts that the network keeps as magnitude and direction; it takes them as well."""
    parts = (name for name, part in network.named_modules() if hasattr(part, "parametrizations"))
    return {f"{name}.weight": torch.from_numpy(np.array(values[f"{name}.weight"], np.float32)) for name in parts}


def _distance(network: nn.Module, graph: bytes) -> float:
    """Largest difference between network and graph on some input, over the largest value."""
    session = devices.open_session(graph, devices.cpu(), 1, "the vocoder graph")
    random = np.random.default_rng(0)
    feed = {}
    for one in session.raw.get_inputs():
        shape = [size if isinstance(size, int) else TRIED for size in one.shape]
        feed[one.name] = random.standard_normal(shape).astype(np.float32)
    feed["mel"], feed["f0"] = feed["mel"] - 5, 220 * np.exp2(feed["f0"])
    with torch.inference_mode():
        given = network(**{name: torch.from_numpy(value) for name, value in feed.items()}).numpy()
    expected = session.run(None, feed)[0]
    return float(np.abs(given - expected).max() / max(float(np.abs(expected).max()), 1e-9))
