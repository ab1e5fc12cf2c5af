"""Shared fixtures. ``tiny_voice(folder)`` writes a whole voice of a few kilobytes with the contracts' real graphs."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from moksori.runtime import manifest
from moksori.runtime.mel import MelSpec

TinyVoice = Callable[..., Path]

WEBGPU = Path(__file__).resolve().parent.parent / "build" / "webgpu"  # what .ci/webgpu made, if it could
if (WEBGPU / "icd.json").is_file():
    os.environ.setdefault("VK_DRIVER_FILES", str(WEBGPU / "icd.json"))
    os.environ.setdefault("ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER", "1")
    sys.path.append(str(WEBGPU / "site"))

MEL = MelSpec(sample_rate=24_000, hop=240, n_fft=512, win=512, bins=20, fmin=40, fmax=8_000)
UNITS, CHANNELS, SPEAKERS = 8, 12, ("heart", "f001")
BINS = MEL.n_fft // 2 + 1
METADATA = {"content": {}, "pitch": {"kind": "swift", "hop": "256"}, "condition": {}}
METADATA |= {"denoiser": {"prediction": "velocity"}, "vocoder": {"kind": "istft"}}


@pytest.fixture(scope="session")
def tiny_models() -> dict[str, onnx.ModelProto]:
    """Role -> a graph with the contract's names and shapes, and small fixed random weights."""
    return {
        "content": _content(),
        "pitch": _pitch(),
        "condition": _condition(),
        "denoiser": _denoiser(),
        "vocoder": _vocoder(),
    }


@pytest.fixture
def tiny_voice(tiny_models: dict[str, onnx.ModelProto]) -> TinyVoice:
    """``tiny_voice(folder, models={}, **fields)``: a voice in ``folder``, some graphs or manifest fields changed."""

    def write(folder: Path, models: dict[str, onnx.ModelProto] | None = None, **fields: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for role, model in {**tiny_models, **(models or {})}.items():
            (folder / f"{role}.onnx").write_bytes(model.SerializeToString())
        spec = dataclasses.replace(tiny_manifest(), files=manifest.graph_files(folder))
        manifest.write(folder / manifest.FILE, dataclasses.replace(spec, **fields))
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, onnx.ModelProto]) -> Path:
    """A DATA_DIR of two speakers and some 20 s. Tests that change it copy it first."""
    from moksori.train import prepare

    folder = tmp_path_factory.mktemp("자료 🎤")
    onnx.save(_null_content(), folder / "content.onnx")
    onnx.save(tiny_models["pitch"], folder / "pitch.onnx")
    for number, (name, hertz) in enumerate([("ann", 220), ("bob", 110), ("ann", 165)]):
        path = folder / "audio" / name / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, _song(7, hertz, number), MelSpec().sample_rate)
    options = {"content": folder / "content.onnx", "pitch": folder / "pitch.onnx", "min": 1.5, "max": 3, "perturb": 1}
    given = [part for name, value in {**options, "jobs": 1}.items() for part in (f"--{name}", str(value))]
    made = CliRunner().invoke(prepare.main, [str(folder / "audio"), str(folder / "data"), *given])
    assert made.exit_code == 0, made.output
    return folder / "data"


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, onnx.ModelProto]) -> Path:
    """A RUN_DIR of a small denoiser and a small NSF-HiFiGAN, with the tiny voice's geometry. Not to be changed."""
    import torch

    from moksori.train import checkpoint, config, denoiser, vocoder

    folder = tmp_path_factory.mktemp("학습 🎤 run")
    small = {"channels": 32, "hidden": 48, "layers": 2, "kernel": 5}
    nsf = {"mel_bins": MEL.bins, "rates": (8, 5, 3, 2), "kernels": (16, 11, 7, 4), "channels": 16, "resblock": "2",
           "resblock_kernels": (3,), "resblock_dilations": ((1, 3),)}  # fmt: skip
    flow, waves = denoiser.DenoiserConfig(network=small), vocoder.VocoderConfig("nsf_hifigan", network=nsf)
    figures = {"seconds": 60.0, "f0_low": 100.0, "f0_median": 200.0, "f0_high": 400.0, "loudness": -20.0}
    facts = {
        "mel": dataclasses.asdict(MEL), "units": {"dimension": UNITS},
        "pitch": dataclasses.asdict(manifest.PitchSpec("swift", 50.0, 1600.0)),
        "speakers": [{"name": name, **figures} for name in SPEAKERS],
        "statistics": {"mean": [-5.0] * MEL.bins, "deviation": [2.0] * MEL.bins},
    }  # fmt: skip
    torch.manual_seed(0)
    networks = {"denoiser": denoiser.build(flow, MEL.bins, UNITS, len(SPEAKERS)), "vocoder": vocoder.build(waves)}
    for (role, network), chosen in zip(networks.items(), (flow, waves), strict=True):
        (folder / role).mkdir()
        state = checkpoint.State(network, network, {"network": torch.optim.AdamW(network.parameters())}, 1)
        checkpoint.save(folder / role, state)
        config.save(folder / role / "config.yaml", chosen)
        config.save(folder / role / "data.yaml", facts)
    (folder / "graphs").mkdir()
    for role in ("content", "pitch"):
        onnx.save(tiny_models[role], folder / "graphs" / f"{role}.onnx")
    return folder


def tiny_manifest() -> manifest.Manifest:
    return manifest.Manifest(
        format_version=1,
        name="tiny",
        description="A voice for tests",
        mel=MEL,
        units=manifest.UnitSpec(UNITS, 16_000, 320, 0.1),
        pitch=manifest.PitchSpec("swift", 46.875, 2093.75, 0.5),
        speakers=tuple(manifest.Speaker(name, 100, 200, 400, -20, "CC0", "nobody") for name in SPEAKERS),
        denoiser=manifest.DenoiserSpec(
            "convnext", "velocity", "linear", "euler", 4, 0.5, 0, (-5.0,) * MEL.bins, (2.0,) * MEL.bins
        ),
        vocoder=manifest.VocoderSpec("istft", 0, "host"),
        precision={role: "fp32" for role in manifest.ROLES},
        licence="CC0",
        credits=("nobody",),
        quality={"similarity": 0.8},
        files={},
    )


@pytest.fixture
def jumpy_crepe(tmp_path: Path) -> Path:
    """A graph with CREPE's inputs and outputs and a tracker's worst manners: its bins jump about."""
    weights = np.random.default_rng(0).normal(0, 0.15, (1024, 360)).astype(np.float32)
    made = {"frames": ("n", 1024), "salience": ("n", 360)}
    taken, given = (helper.make_tensor_value_info(name, TensorProto.FLOAT, made[name]) for name in made)
    nodes = [
        helper.make_node("MatMul", ["frames", "weights"], ["sum"]),
        helper.make_node("Add", ["sum", "bias"], ["raised"]),
        helper.make_node("Sigmoid", ["raised"], ["salience"]),
    ]
    tensors = [numpy_helper.from_array(np.float32(value), name) for name, value in (("weights", weights), ("bias", -2))]
    graph = helper.make_graph(nodes, "crepe", [taken], [given], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"role": "pitch", "format_version": "1", "kind": "crepe"})
    onnx.save(model, tmp_path / "crepe.onnx")
    return tmp_path / "crepe.onnx"


Named = dict[str, Sequence[int | str]]


def tiny_model(
    role: str, inputs: Named, outputs: Named, nodes: list[onnx.NodeProto], weights: dict[str, object]
) -> onnx.ModelProto:
    """A checked opset 18 model; inputs are float32 but ``mel2ph``; ``weights`` become initializers."""

    def value(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
        kind = TensorProto.INT64 if name == "mel2ph" else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, shape)

    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    taken, made = ([value(*item) for item in side.items()] for side in (inputs, outputs))
    graph = helper.make_graph(nodes, role, taken, made, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"role": role, "format_version": "1", **METADATA[role]})
    onnx.checker.check_model(model, full_check=True)
    return model


def _random(*shape: int) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


def _content() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Unsqueeze", ["audio", "one"], ["wide"]),
        helper.make_node("Conv", ["wide", "kernel"], ["rows"], kernel_shape=[320], strides=[320]),
        helper.make_node("Transpose", ["rows"], ["units"], perm=[0, 2, 1]),
    ]
    weights: dict[str, object] = {"one": np.array([1]), "kernel": _random(UNITS, 1, 320)}
    return tiny_model("content", {"audio": (1, "n")}, {"units": (1, "Tu", UNITS)}, nodes, weights)


def _pitch() -> onnx.ModelProto:
    """220 Hz, sure of it, at any sound whatever."""
    nodes = [
        helper.make_node("Unsqueeze", ["audio", "one"], ["wide"]),
        helper.make_node("MaxPool", ["wide"], ["peaks"], kernel_shape=[256], strides=[256], pads=[128, 128]),
        helper.make_node("Squeeze", ["peaks", "one"], ["rows"]),
        helper.make_node("Mul", ["rows", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "hertz"], ["f0"]),
        helper.make_node("Add", ["nothing", "sure"], ["confidence"]),
    ]
    weights: dict[str, object] = {"one": np.array([1]), "zero": np.float32(0)}
    weights |= {"hertz": np.float32(220), "sure": np.float32(0.9)}
    return tiny_model("pitch", {"audio": (1, "n")}, {"f0": (1, "F"), "confidence": (1, "F")}, nodes, weights)


def _condition() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Squeeze", ["units", "zeroth"], ["rows"]),
        helper.make_node("Squeeze", ["mel2ph", "zeroth"], ["ends"]),
        helper.make_node("Sub", ["ends", "one"], ["index"]),
        helper.make_node("Gather", ["rows", "index"], ["stretched"], axis=0),
        helper.make_node("MatMul", ["stretched", "unit_weight"], ["projected"]),
        helper.make_node("Unsqueeze", ["projected", "zeroth"], ["batch"]),
        helper.make_node("Transpose", ["batch"], ["content"], perm=[0, 2, 1]),
        helper.make_node("Log", ["f0"], ["log_f0"]),
        helper.make_node("Mul", ["log_f0", "voiced"], ["pitch"]),
        helper.make_node("Mul", ["loudness", "per_decibel"], ["level"]),
        helper.make_node("Add", ["pitch", "level"], ["frame"]),
        helper.make_node("Unsqueeze", ["frame", "one"], ["frames"]),
        helper.make_node("MatMul", ["speaker", "speaker_weight"], ["who"]),
        helper.make_node("Unsqueeze", ["who", "two"], ["whose"]),
        helper.make_node("Add", ["content", "frames"], ["sum"]),
        helper.make_node("Add", ["sum", "whose"], ["condition"]),
    ]
    weights: dict[str, object] = {"zeroth": np.array([0]), "one": np.array([1]), "two": np.array([2])}
    weights |= {"per_decibel": np.float32(0.01), "unit_weight": _random(UNITS, CHANNELS)}
    weights |= {"speaker_weight": _random(len(SPEAKERS), CHANNELS)}
    frames = {name: (1, "T") for name in ("mel2ph", "f0", "voiced", "loudness")}
    inputs: Named = {"units": (1, "Tu", UNITS), **frames, "speaker": (1, len(SPEAKERS))}
    return tiny_model("condition", inputs, {"condition": (1, CHANNELS, "T")}, nodes, weights)


def _denoiser() -> onnx.ModelProto:
    """prediction = W·condition - x + t; x_next by the sampler's coefficients."""
    names = ["x", "prediction", "history_1", "history_2", "history_3"]
    nodes = [
        helper.make_node("MatMul", ["weight", "condition"], ["goal"]),
        helper.make_node("Sub", ["goal", "x"], ["away"]),
        helper.make_node("Add", ["away", "t"], ["prediction"]),
        helper.make_node("Split", ["coefficients"], [f"c{at}" for at in range(5)], axis=0, num_outputs=5),
        *(helper.make_node("Mul", [f"c{at}", name], [f"term_{at}"]) for at, name in enumerate(names)),
        helper.make_node("Sum", [f"term_{at}" for at in range(5)], ["x_next"]),
    ]
    mel = (1, MEL.bins, "T")
    inputs: Named = {"x": mel, "t": (1,), "history_1": mel, "history_2": mel, "history_3": mel}
    inputs |= {"coefficients": (5,), "condition": (1, CHANNELS, "T")}
    weights: dict[str, object] = {"weight": _random(MEL.bins, CHANNELS)}
    return tiny_model("denoiser", inputs, {"x_next": mel, "prediction": mel}, nodes, weights)


def _vocoder() -> onnx.ModelProto:
    """Both sources at the mel's mean level; f0 is taken and changes nothing."""
    nodes = [
        helper.make_node("ReduceMean", ["mel", "two"], ["level"], keepdims=1),
        helper.make_node("Unsqueeze", ["f0", "two"], ["hertz"]),
        helper.make_node("Mul", ["hertz", "zero"], ["nothing"]),
        helper.make_node("Add", ["level", "nothing"], ["log_gain"]),
        helper.make_node("Exp", ["log_gain"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "three"], ["gain"]),
        helper.make_node("Add", ["harmonic", "noise"], ["source"]),
        helper.make_node("Mul", ["source", "gain"], ["spectrum"]),
    ]
    spectrum = (1, "T", 2, BINS)
    inputs: Named = {"mel": (1, "T", MEL.bins), "f0": (1, "T"), "harmonic": spectrum, "noise": spectrum}
    weights: dict[str, object] = {"two": np.array([2]), "three": np.array([3]), "zero": np.float32(0)}
    return tiny_model("vocoder", inputs, {"spectrum": spectrum}, nodes, weights)


def _null_content() -> onnx.ModelProto:
    """Units that say nothing: every 320th sample."""
    ends = {"start": 0, "end": 2**60, "axis": 1, "step": 320, "last": 2}
    nodes = [
        helper.make_node("Slice", ["audio", "start", "end", "axis", "step"], ["row"]),
        helper.make_node("Unsqueeze", ["row", "last"], ["units"]),
    ]
    graph = helper.make_graph(
        nodes,
        "content",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, "n"])],
        [helper.make_tensor_value_info("units", TensorProto.FLOAT, [1, "Tu", 1])],
        [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in ends.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _song(seconds: float, hertz: float, seed: int) -> np.ndarray:
    """Harmonics that swell, with a pause now and then, and a little noise."""
    time = np.arange(int(seconds * MelSpec().sample_rate)) / MelSpec().sample_rate
    swell = (0.55 + 0.45 * np.sin(2 * np.pi * 0.6 * time + seed)) * (time % 1.5 < 1.2)
    wave = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 12))
    return 0.2 * swell * wave + 1e-4 * np.random.default_rng(seed).standard_normal(len(time))


@pytest.fixture
def same_threads() -> Iterator[None]:  # svc-train sets how many torch has
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
