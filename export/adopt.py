"""Vocoders that others trained, as the vocoder of a voice: openvpi's checkpoints, and OpenUtau's graphs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from google.protobuf.message import DecodeError
from onnx import ModelProto, ValueInfoProto, helper, numpy_helper
from torch import nn

from moksori.export.graph import FORMAT_VERSION, ExportError, Proof
from moksori.export.openutau import CONFIG
from moksori.export.vocoder import export_vocoder, facts
from moksori.models.nsf_hifigan import NsfHifiGan
from moksori.runtime import archive, devices, manifest, onnx_bytes
from moksori.runtime.errors import VoiceError
from moksori.runtime.files import atomic_path
from moksori.runtime.manifest import VocoderSpec
from moksori.runtime.mel import MelSpec
from moksori.train import published
from moksori.train.start import differences

CONTEXT = 32  # frames to either side; NSF-HiFiGAN looks 13 far, and a graph does not say
LARGEST_CONFIG = 2**16  # bytes
TRIED = 9  # frames on which a graph must give sound before it is taken
GEOMETRY = {
    "sample_rate": "sample_rate",
    "hop_size": "hop",
    "fft_size": "n_fft",
    "win_size": "win",
    "num_mel_bins": "bins",
    "mel_fmin": "fmin",
    "mel_fmax": "fmax",
}
BASES = {"e": None, "10": 1 / math.log(10)}  # mel_base -> what a natural logarithm is multiplied with


@dataclass(frozen=True)
class Adopted:
    """What voice.json says of it, the proof where there is a network to compare with, and whose it is."""

    spec: VocoderSpec
    proofs: tuple[Proof, ...]
    credit: str
    network: nn.Module | None = None

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The same, by role."""
        return {} if self.network is None else {"vocoder": self.network}


def adopt(source: Path, mel: MelSpec, path: Path, precision: str = "fp32") -> Adopted:
    """Write the vocoder at ``source`` as the graph ``path`` for a voice of ``mel``.

    Args:
        source: a generator's folder or file (train/published.py), an .oudep, an .onnx beside its vocoder.yaml, or a
            folder of these two.
    Raises:
        MoksoriError: there is none, it hears another mel, or it is damaged or unsafe.
    """
    if published.is_published(source):
        found = published.read(source)
        _check_mel(source, found.mel, mel)
        network = NsfHifiGan(found.config)
        network.load_state_dict(found.state)
        proved = export_vocoder(network.eval(), mel, path, precision)
        return Adopted(proved.spec, (proved.vocoder,), _credit(source.resolve().name), network)
    said, model = _package(source)
    _check_mel(source, _mel(said, source), mel)
    graph = _ours(model, said, mel, source)
    _try(graph, mel, source)
    with atomic_path(path) as part:
        part.write_bytes(graph.SerializeToString())
    return Adopted(VocoderSpec("openutau", CONTEXT, "graph"), (), _credit(str(said["name"])))


def _credit(name: str) -> str:
    return f"The vocoder {name}, trained elsewhere; its own licence and credits apply to what it makes"


def _check_mel(source: Path, theirs: MelSpec, ours: MelSpec) -> None:
    differing = differences(theirs, ours, "the voice")
    if differing:
        raise ExportError(f"{source} hears mel with {differing}; choose a vocoder made for the voice's mel")


def _package(source: Path) -> tuple[dict[str, Any], bytes]:
    """vocoder.yaml and the model it names, from a folder, from beside an .onnx, or straight out of an .oudep."""
    place = source.parent if source.suffix == ".onnx" else source
    if not source.exists() or (place.is_dir() and not (place / CONFIG).exists()):
        raise ExportError(
            f"{source} is no vocoder: give an openvpi model beside config.json, an .onnx beside {CONFIG}, or an .oudep"
        )
    with archive.opened(place, CONFIG) as files:
        said = _config(files.read(CONFIG, LARGEST_CONFIG), source)
        model = source.name if source.suffix == ".onnx" else said["model"]
        if not isinstance(model, str) or {"/", "\\", ":"} & set(model) or model in ("", ".", ".."):
            raise ExportError(f"{source}: model in {CONFIG} must be the plain name of a file beside it")
        data = files.read(model, manifest.LARGEST_FILE)
    onnx_bytes.check_closed("vocoder", data)
    return said, data


def _config(text: bytes, source: Path) -> dict[str, Any]:
    try:
        said = yaml.safe_load(text.decode("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ExportError(f"{source}: {CONFIG} cannot be read as YAML: {error}") from None
    needed = {"name", "model", *GEOMETRY}
    if not isinstance(said, dict) or needed - said.keys():
        lacking = sorted(needed - said.keys()) if isinstance(said, dict) else ["everything"]
        raise ExportError(f"{source}: {CONFIG} lacks {', '.join(lacking)}")
    return said


def _mel(said: dict[str, Any], source: Path) -> MelSpec:
    numbers = {ours: said[theirs] for theirs, ours in GEOMETRY.items()}
    if not all(type(value) in (int, float) and 0 <= value < 1e6 for value in numbers.values()):
        raise ExportError(f"{source}: the rates and sizes in {CONFIG} must be numbers")
    if said.get("mel_scale", "slaney") != "slaney":
        raise ExportError(f"{source} hears mel of the scale '{said['mel_scale']}', and voices have slaney's")
    if str(said.get("mel_base", "10")) not in BASES:
        raise ExportError(f"{source}: mel_base in {CONFIG} must be e or 10, not {said['mel_base']}")
    try:
        return MelSpec(**numbers)
    except ValueError as error:
        raise ExportError(f"{source}: {error}") from None


def _ours(data: bytes, said: dict[str, Any], mel: MelSpec, source: Path) -> ModelProto:
    """The graph with a voice's metadata, that takes mel of natural logarithm and repeats its noise."""
    try:
        model = onnx.load_from_string(data)
    except DecodeError:
        raise ExportError(f"{source} holds a model that is damaged; get it again") from None
    ports = [(one.name, one) for one in (*model.graph.input, *model.graph.output)]
    if [name for name, _ in ports] not in (["mel", "f0", "waveform"], ["f0", "mel", "waveform"]):
        raise ExportError(f"{source} takes and gives {', '.join(name for name, _ in ports)}, not mel, f0 and waveform")
    for name, size in (("mel", mel.bins), ("f0", None)):
        _fix(dict(ports)[name], size, source)
    factor = BASES[str(said.get("mel_base", "10"))]
    if factor is not None:
        _scale(model, factor)
    for number, node in enumerate(model.graph.node):
        if node.op_type.startswith("Random") and not any(one.name == "seed" for one in node.attribute):
            node.attribute.append(helper.make_attribute("seed", float(number)))
    del model.metadata_props[:]
    described = {"role": "vocoder", "kind": "openutau", "format_version": str(FORMAT_VERSION)}
    helper.set_model_props(model, {**described, **facts(mel), "context": str(CONTEXT)})
    return model


def _fix(value: ValueInfoProto, last: int | None, source: Path) -> None:
    """Write down the sizes that a graph leaves open and the form fixes: one song, so many bins."""
    dims = value.type.tensor_type.shape.dim
    if len(dims) != (2 if last is None else 3) or (last and dims[-1].dim_value not in (0, last)):
        raise ExportError(f"{source}: {value.name} of its model has another shape than {CONFIG} says")
    dims[0].dim_value = 1
    if last is not None:
        dims[-1].dim_value = last


def _scale(model: ModelProto, factor: float) -> None:
    name = "mel_of_another_base"
    for node in model.graph.node:
        for at, taken in enumerate(node.input):
            if taken == "mel":
                node.input[at] = name
    constant = numpy_helper.from_array(np.array(factor, np.float32), f"{name}_factor")
    model.graph.initializer.append(constant)
    model.graph.node.insert(0, helper.make_node("Mul", ["mel", constant.name], [name], name))


def _try(model: ModelProto, mel: MelSpec, source: Path) -> None:
    """Refuse a graph that does not give a waveform of the right length."""
    try:
        session = devices.open_session(model.SerializeToString(), devices.cpu(), 1, "the vocoder graph")
    except VoiceError as error:
        raise ExportError(f"{source}: {error}") from None
    feed = {
        "mel": np.full((1, TRIED, mel.bins), -5, np.float32),
        "f0": np.full((1, TRIED), 220, np.float32),
    }
    waveform = session.run(None, feed)[0]
    if waveform.shape != (1, TRIED * mel.hop) or not np.isfinite(waveform).all():
        wanted = [1, TRIED * mel.hop]
        raise ExportError(f"{source} makes {list(waveform.shape)} of {TRIED} frames, not {wanted} samples")
