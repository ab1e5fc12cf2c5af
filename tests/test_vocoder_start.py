"""Training a vocoder from another's weights, and NSF-HiFiGAN's way through the whole trainer."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper
from safetensors.torch import load_file
from training import data_of, tones

from moksori.models.nsf_hifigan import NsfHifiGan
from moksori.runtime import devices, mel, voice
from moksori.runtime.errors import MoksoriError
from moksori.runtime.mel import MelSpec
from moksori.train import checkpoint, prepare, shipped, start, synthesis
from moksori.train.cli import main
from moksori.train.dataset import MARGIN, Crop
from moksori.train.vocoder import VocoderTask

SONG = Path(__file__).parent / "data" / "vocadito_10.flac"
DEMO = MelSpec()
TINY = MelSpec(8_000, 64, 256, 256, 6, 40, 4_000)
PUBLISHED = {
    "sampling_rate": 8_000, "num_mels": 6, "hop_size": 64, "n_fft": 256, "win_size": 256, "fmin": 40, "fmax": 4_000,
    "upsample_rates": [4, 4, 2, 2], "upsample_kernel_sizes": [8, 8, 4, 4], "upsample_initial_channel": 16,
    "resblock": "2", "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]],
}  # fmt: skip
NETWORK = {"channels": 16, "resblock_kernels": [3], "resblock_dilations": [[1, 3]]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_of(tmp_path_factory.mktemp("자료"), TINY, tones(TINY))


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openvpi")
    config = synthesis.shape("nsf_hifigan", {**NETWORK, "mel_bins": 6, "sample_rate": 8_000, "resblock": "2",
                                             "rates": [4, 4, 2, 2], "kernels": [8, 8, 4, 4]})  # fmt: skip
    torch.manual_seed(5)
    torch.save({"generator": NsfHifiGan(config).state_dict()}, folder / "model")
    (folder / "config.json").write_text(json.dumps(PUBLISHED), encoding="utf-8")
    return folder


def svc_train(data: Path, run: Path, *arguments: str | Path) -> Result:
    given = ["vocoder", data, run, "--threads", 1, *arguments]
    return CliRunner().invoke(main, [str(one) for one in given])


def config(path: Path, **values: object) -> Path:
    loop = {"validate_every": 10, "save_every": 1}
    path.write_text(yaml.safe_dump({"batch": 1, "frames": 24, "loop": loop, **values}), encoding="utf-8")
    return path


def test_nsf_hifigan_learns_and_goes_on(data: Path, tmp_path: Path) -> None:
    """Its rates follow the data's hop; an adversary trains beside it; the resolved config is kept."""
    tiny = config(tmp_path / "c.yaml", architecture="nsf_hifigan", network=NETWORK)
    for steps in (1, 2):
        result = svc_train(data, tmp_path / "run", "--config", tiny, "--steps", steps)
        assert result.exit_code == 0, result.output
    one, two = (load_file(checkpoint.at(tmp_path / "run" / "vocoder", step)) for step in (1, 2))
    name = "network.resblocks.0.convs1.0.parametrizations.weight.original1"
    assert not torch.equal(one[name], two[name])
    said = yaml.safe_load((tmp_path / "run" / "vocoder" / "config.yaml").read_text(encoding="utf-8"))
    assert (said["architecture"], said["network"]["rates"]) == ("nsf_hifigan", [8, 2, 2, 2])


def test_starting_from_published_weights(data: Path, generator: Path, tmp_path: Path) -> None:
    """The first step leaves the loaded weights nearly as they were, and the run goes on without the file."""
    run = tmp_path / "run"
    tiny = config(tmp_path / "c.yaml", loop={"learning_rate": 1e-6, "average": 0.0, "save_every": 1})
    result = svc_train(data, run, "--config", tiny, "--from", generator, "--steps", 1)
    assert result.exit_code == 0, result.output
    found = load_file(checkpoint.at(run / "vocoder", 1))
    wanted = torch.load(generator / "model", weights_only=True)["generator"]
    for name, value in wanted.items():
        torch.testing.assert_close(found[f"network.{name}"], value, rtol=0, atol=1e-4)
    kept = generator.rename(generator.with_name("gone"))
    try:
        result = svc_train(data, run, "--steps", 2)
        assert result.exit_code == 0, result.output
    finally:
        kept.rename(generator)
    again = start.read(str(run))
    assert (again.architecture, again.mel) == ("nsf_hifigan", TINY)
    assert start.read(str(checkpoint.at(run / "vocoder", 2))).state.keys() == again.state.keys()


def test_what_cannot_be_started_from(data: Path, generator: Path, tmp_path: Path) -> None:
    other = data_of(tmp_path / "other", replace(TINY, hop=128), tones(TINY))
    cases = [
        ((other, tmp_path / "a", "--from", generator), ("hop 64 (the data: 128)", "prepare the data")),
        ((data, tmp_path / "b", "--from", tmp_path / "nowhere"), ("nowhere",)),
        ((data, tmp_path / "c", "--from", "demo"), ("sample_rate 24000 (the data: 8000)",)),
    ]
    wide = config(tmp_path / "w.yaml", architecture="nsf_hifigan", network={"channels": 32})
    cases.append(((data, tmp_path / "d", "--from", generator, "--config", wide), ("channels is 32", "has 16")))
    odd = config(tmp_path / "o.yaml", architecture="nsf_hifigan", network={"rates": [4, 4], "kernels": [8, 8]})
    cases.append(((data, tmp_path / "e", "--config", odd), ("upsample by 16", "hop of 64")))
    few = config(tmp_path / "s.yaml", frames=20)
    cases.append(((data, tmp_path / "h", "--config", few), ("frames is 20", "need 21 at least")))
    name = config(tmp_path / "n.yaml", architecture="wavernn")
    cases.append(((data, tmp_path / "f", "--config", name), ("istft, nsf_hifigan", "wavernn")))
    for arguments, words in cases:
        result = svc_train(*arguments)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
        assert all(word in result.stderr for word in words), result.stderr
    denoiser = CliRunner().invoke(main, ["denoiser", str(data), str(tmp_path / "g"), "--from", "demo"])
    assert denoiser.exit_code == 2 and "--from is for svc-train vocoder, not for denoiser" in denoiser.stderr


# the shipped voice


def test_the_shipped_vocoder_is_a_network_again() -> None:
    """Weights taken from the voice's graph give the graph's output, at a length and on values of their own."""
    found = start.read("demo")
    assert (found.architecture, found.mel) == ("istft", DEMO)
    network = synthesis.architecture("istft").network(found.network).eval()
    network.load_state_dict(found.state)
    _, graphs = voice.read_graphs("demo", ["vocoder"])
    session = devices.open_session(graphs["vocoder"], devices.cpu(), 1)
    random, bins = np.random.default_rng(3), DEMO.n_fft // 2 + 1
    tone = np.sin(2 * np.pi * 200 * np.arange(13 * DEMO.hop) / DEMO.sample_rate).astype(np.float32)
    feed = {"mel": mel.log_mel(tone, DEMO)[None], "f0": np.full((1, 13), 200, np.float32)}
    feed |= {name: random.standard_normal((1, 13, 2, bins)).astype(np.float32) for name in ("harmonic", "noise")}
    expected = session.run(None, feed)[0]
    with torch.no_grad():
        given = network(*(torch.from_numpy(value) for value in feed.values())).numpy()
    np.testing.assert_allclose(given, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("form", ["fp32", "fp16", "int8"])
def test_stored_weights_come_back(form: str) -> None:
    """A linear layer and a convolution as the exporter writes them, in each of the storage precisions."""
    random = np.random.default_rng(0)
    matrix, kernel = random.integers(-127, 127, (4, 3)).astype(np.float32), random.normal(size=(3, 4, 5))
    stored = {"fp32": ("", np.float32), "fp16": (".fp16", np.float16), "int8": (".int8", np.int8)}[form]
    weights = [numpy_helper.from_array(matrix.astype(stored[1]), f"val_1{stored[0]}")]
    nodes = []
    if form == "fp16":
        nodes.append(helper.make_node("Cast", ["val_1.fp16"], ["val_1"], to=1))
    if form == "int8":
        weights.append(numpy_helper.from_array(np.float32(0.5), "val_1.scale"))
        nodes += [helper.make_node("Cast", ["val_1.int8"], ["l"], to=1)]
        nodes += [helper.make_node("Mul", ["l", "val_1.scale"], ["val_1"])]
    weights += [numpy_helper.from_array(np.zeros(3, np.float32), name) for name in ("mel_in.bias", "conv.bias")]
    weights += [numpy_helper.from_array(kernel.astype(np.float32), "unsqueeze_1")]
    nodes += [
        helper.make_node("MatMul", ["x", "val_1"], ["y"]),
        helper.make_node("Add", ["y", "mel_in.bias"], ["z"]),
        helper.make_node("Conv", ["z", "unsqueeze_1", "conv.bias"], ["out"]),
    ]
    graph = onnx.GraphProto(node=nodes, initializer=weights)
    found = shipped.parameters(onnx.ModelProto(graph=graph))
    np.testing.assert_array_equal(found["mel_in.weight"], matrix.T * (0.5 if form == "int8" else 1))
    np.testing.assert_allclose(found["conv.weight"], kernel, rtol=1e-6)


def test_the_shipped_vocoder_is_fine_tuned(tmp_path: Path) -> None:
    """On seconds of a person's singing: what is held out is given back better than by the voice as it ships."""
    (tmp_path / "songs").mkdir()
    shutil.copy(SONG, tmp_path / "songs")
    cut = "--min", 1.5, "--max", 3, "--perturb", 0, "--cache", "f0", "--jobs", 1
    prepared = CliRunner().invoke(prepare.main, [str(one) for one in (tmp_path / "songs", tmp_path / "data", *cut)])
    assert prepared.exit_code == 0, prepared.output
    loop = {"learning_rate": 4e-4, "warmup": 5, "schedule": "constant", "average": 0.9, "validate_every": 12}
    tuned = config(tmp_path / "c.yaml", batch=2, frames=40, loop=loop)
    result = svc_train(tmp_path / "data", tmp_path / "run", "--from", "demo", "--config", tuned, "--steps", 24)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "run" / "vocoder"
    metrics = [checkpoint.weights(checkpoint.at(folder, step))[1]["metrics"] for step in (0, 12, 24)]
    course = [one["validation/mel"] for one in metrics]
    assert course[2] < course[1] < course[0] and course[2] < 0.97 * course[0], course
    shipped_state = start.read("demo").state
    begun = checkpoint.weights(checkpoint.at(folder, 0))[0]
    assert all(torch.equal(begun[name], value) for name, value in shipped_state.items())
    assert checkpoint.chosen(folder) == checkpoint.at(folder, 24)


def test_a_tuning_that_spoils_leaves_what_it_began_with(
    data: Path, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = lambda task, network, writer, step, device: {"validation/mel": step}  # noqa: E731
    monkeypatch.setattr(VocoderTask, "validate", worse)
    tiny = config(tmp_path / "c.yaml")
    result = svc_train(data, tmp_path / "run", "--from", generator, "--config", tiny, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert checkpoint.steps(tmp_path / "run" / "vocoder") == [0, 1]
    assert checkpoint.chosen(tmp_path / "run" / "vocoder") == checkpoint.at(tmp_path / "run" / "vocoder", 0)
    assert "svc-export takes checkpoint-00000000" in " ".join(result.output.split())


def test_a_graph_whose_weights_do_not_give_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    true = shipped.parameters

    def altered(model: onnx.ModelProto) -> dict[str, np.ndarray]:
        return {name: value * (1.5 if name == "head.weight" else 1) for name, value in true(model).items()}

    monkeypatch.setattr(shipped, "parameters", altered)
    with pytest.raises(MoksoriError, match="do not give its output"):
        shipped.read("demo")


# what excites a network in training


@pytest.mark.parametrize("mini", [False, True])
def test_training_hears_the_same_phase(mini: bool) -> None:
    """The phase of a crop goes on from frame to frame as the source itself does within a frame."""
    spec, config = MelSpec(8_000, 64, 256, 256, 6, 40, 4_000), synthesis.shape("nsf_hifigan", {"mini": mini})
    shape = replace(config, rates=(4, 4, 2, 2), kernels=(8, 8, 4, 4), sample_rate=8_000, mel_bins=6)
    f0 = (200 * 2 ** np.linspace(0, 1, 20 + 2 * MARGIN)).astype(np.float32)
    blank = np.zeros(20, np.float32)
    crop = Crop(blank, np.zeros((20, 256), np.float32), None, f0, blank, blank[:, None], 0, spec)
    inputs = synthesis.sine_phase(crop, spec, 7, shape)
    assert inputs.keys() == ({"phase"} if mini else {"phase", "noise"})
    source: Any = NsfHifiGan(shape).m_source
    given = [torch.from_numpy(one)[None] for one in (f0[MARGIN:-MARGIN], inputs["phase"])]
    with torch.no_grad():
        if mini:
            sound = source(*given)[0].numpy()
        else:
            source.l_linear.weight.data = torch.eye(9)[:1]
            source.l_linear.bias.data.zero_()
            sound = np.arctanh(source(*given, torch.zeros(1, 20, 64))[0].numpy()) / 0.1
    steps = np.abs(np.diff(sound))
    rate = 8_000 / 4 if mini else 8_000
    assert steps.max() < 2 * np.pi * f0.max() / rate * 1.05  # no jump at a frame's begin
