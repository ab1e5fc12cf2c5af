"""Graphs of a voice: none may reach for other files, be damaged, or be other than voice.json and the contracts say."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from moksori.runtime import manifest, onnx_bytes
from moksori.runtime.errors import VoiceError
from moksori.runtime.voice import Voice

TinyVoice = Callable[..., Path]
Models = dict[str, onnx.ModelProto]


def load(path: Path) -> Voice:
    return Voice.load(path, "cpu", threads=1)


@pytest.fixture
def folder(tmp_path: Path, tiny_voice: TinyVoice) -> Path:
    return tiny_voice(tmp_path / "tiny")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / manifest.FILE
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def reseal(folder: Path) -> None:
    """Make the hashes right again, as a forger would."""
    described = {role: dataclasses.asdict(file) for role, file in manifest.graph_files(folder).items()}
    edit(folder, lambda value: value.update(files=described))


def external(model: onnx.ModelProto, location: str) -> onnx.ModelProto:
    outside = copy.deepcopy(model)
    onnx.external_data_helper.convert_model_to_external_data(outside, location=location, size_threshold=0)
    return outside


def test_external_data_is_refused(
    tmp_path: Path, tiny_voice: TinyVoice, tiny_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime itself would read the file from the working folder even for a model given as bytes."""
    folder = tmp_path / "v"
    tiny_voice(folder)
    onnx.save(external(tiny_models["content"], "weights.bin"), folder / "content.onnx")
    assert (folder / "weights.bin").stat().st_size > 0
    reseal(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(VoiceError, match="content graph keeps weights in another file"):
        load(folder)


def _hide(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """``model`` with one external tensor in some corner."""
    model = copy.deepcopy(model)
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    graph = onnx.GraphProto(name="inner", initializer=[tensor])
    sparse = onnx.SparseTensorProto(values=tensor)
    places: dict[str, Callable[[], object]] = {
        "attribute": lambda: model.graph.node[0].attribute.append(
            onnx.helper.make_attribute("value", tensor)
        ),
        "attributes": lambda: model.graph.node[0].attribute.append(
            onnx.helper.make_attribute("value", [tensor])
        ),
        "subgraph": lambda: model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", graph)),
        "subgraphs": lambda: model.graph.node[0].attribute.append(
            onnx.helper.make_attribute("body", [graph])
        ),
        "sparse": lambda: model.graph.sparse_initializer.append(sparse),
        "function": lambda: model.functions.append(
            onnx.FunctionProto(name="f", node=[onnx.helper.make_node("Constant", [], ["y"], value=tensor)])
        ),
        "training": lambda: model.training_info.append(onnx.TrainingInfoProto(algorithm=graph)),
    }
    places[where]()
    return model


@pytest.mark.parametrize(
    "where", ["attribute", "attributes", "subgraph", "subgraphs", "sparse", "function", "training"]
)
def test_external_data_is_found_in_every_corner(tiny_models: Models, where: str) -> None:
    onnx_bytes.check_closed("content", tiny_models["content"].SerializeToString())
    with pytest.raises(VoiceError, match="another file"):
        onnx_bytes.check_closed("content", _hide(tiny_models["content"], where).SerializeToString())


def test_external_data_behind_an_overlong_tag(tiny_models: Models) -> None:
    """Protobuf drops the bits of a tag above 32, so a reader that keeps them would look past the field."""
    tensor = bytes([13 << 3 | 2 | 0x80, 0x80, 0x80, 0x80, 0x10, 0])  # external_data, with bit 32 set
    graph = bytes([5 << 3 | 2, len(tensor)]) + tensor
    with pytest.raises(VoiceError, match="another file"):
        onnx_bytes.check_closed("content", bytes([7 << 3 | 2, len(graph)]) + graph)


def test_looking_into_damaged_models_never_crashes(tiny_models: Models) -> None:
    whole = tiny_models["denoiser"].SerializeToString()
    rng = np.random.default_rng(0)
    for at in rng.choice(len(whole), 500):
        data = bytearray(whole)
        data[at] ^= int(rng.integers(1, 256))
        try:
            onnx_bytes.check_closed("denoiser", bytes(data[: rng.integers(1, len(data) + 1)]))
        except VoiceError as error:
            assert "denoiser graph" in str(error)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "noise", "ort"])
def test_a_damaged_graph_names_itself(folder: Path, damage: str) -> None:
    path = folder / "vocoder.onnx"
    data = path.read_bytes()
    kinds = {"empty": b"\x08\x08", "text": b"this is no graph", "cut": data[: len(data) - 40]}
    kinds |= {"noise": hashlib.sha512(data).digest() * 9, "ort": b"\x18\0\0\0ORTM" + bytes(64)}
    path.write_bytes(kinds[damage])
    reseal(folder)
    with pytest.raises(VoiceError, match="vocoder graph is damaged"):
        load(folder)


def _renamed(model: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    model = copy.deepcopy(model)
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name
    for node in model.graph.node:
        for names in (node.input, node.output):
            renamed = [new if name == old else name for name in names]
            del names[:]
            names.extend(renamed)
    return model


def test_inputs_and_outputs_must_be_the_contracts(
    tmp_path: Path, tiny_voice: TinyVoice, tiny_models: Models
) -> None:
    for role, old in (("content", "audio"), ("vocoder", "spectrum"), ("denoiser", "history_3")):
        folder = tiny_voice(tmp_path / role, {role: _renamed(tiny_models[role], old, "other")})
        with pytest.raises(VoiceError, match=f"the {role} graph of voice 'tiny' has the .*other"):
            load(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("role", "pitch", "says role 'pitch' in its metadata, not 'content'"),
        ("role", None, "says role 'nothing'"),
        ("format_version", "7", "says format_version '7'"),
    ],
)
def test_metadata_must_agree(
    tmp_path: Path, tiny_voice: TinyVoice, tiny_models: Models, key: str, value: str | None, words: str
) -> None:
    model = copy.deepcopy(tiny_models["content"])
    kept = {prop.key: prop.value for prop in model.metadata_props} | {key: value}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {name: text for name, text in kept.items() if text is not None})
    with pytest.raises(VoiceError, match=words):
        load(tiny_voice(tmp_path / "v", {"content": model}))


def test_the_denoiser_predicts_what_the_manifest_says(
    tmp_path: Path, tiny_voice: TinyVoice, tiny_models: Models
) -> None:
    model = copy.deepcopy(tiny_models["denoiser"])
    kept = {prop.key: prop.value for prop in model.metadata_props} | {"prediction": "epsilon"}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, kept)
    with pytest.raises(VoiceError, match=r"denoiser graph .* says prediction 'epsilon'.*not 'velocity'"):
        load(tiny_voice(tmp_path / "v", {"denoiser": model}))


def _bins(spec: dict[str, Any]) -> None:
    spec["mel"]["bins"] = 21
    for key in ("mean", "deviation"):
        spec["denoiser"][key].append(1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda spec: spec["units"].update(dimension=9), "content graph .* has output 'units'.*8.*, not .*9"),
        (
            lambda spec: spec["speakers"].append({**spec["speakers"][0], "name": "third"}),
            "condition.*'speaker'",
        ),
        (_bins, "denoiser graph .*'x' .*20.*21"),
        (lambda spec: spec["mel"].update(n_fft=514, win=514), "vocoder graph .*257.*258"),
        (lambda spec: spec["pitch"].update(kind="crepe"), "pitch graph .* says kind 'swift' in its metadata"),
        (lambda spec: spec["vocoder"].update(kind="nsf_hifigan"), "vocoder graph .* says kind 'istft'"),
    ],
)
def test_graphs_must_fit_the_manifest(
    folder: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    edit(folder, change)
    with pytest.raises(VoiceError, match=words):
        load(folder)


def test_graphs_must_fit_each_other(tmp_path: Path, tiny_voice: TinyVoice, tiny_models: Models) -> None:
    model = copy.deepcopy(tiny_models["denoiser"])
    model.graph.input[-1].type.tensor_type.shape.dim[1].dim_value = 13
    weight = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.pad(weight, ((0, 0), (0, 1))), "weight"))
    with pytest.raises(VoiceError, match="makes 12 channels and the denoiser takes 13"):
        load(tiny_voice(tmp_path / "v", {"denoiser": model}))


def test_a_fixed_length_is_refused(tmp_path: Path, tiny_voice: TinyVoice, tiny_models: Models) -> None:
    model = copy.deepcopy(tiny_models["content"])
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 16_000
    with pytest.raises(VoiceError, match=r"content graph .* has input 'audio' of .*16000"):
        load(tiny_voice(tmp_path / "v", {"content": model}))
