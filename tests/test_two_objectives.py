"""A flow and a DDPM from the same recordings: trained, exported, and each run by every sampler that is made for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
import soundfile
import torch
from click.testing import CliRunner
from torch.nn import Module

from moksori.export import cli as exporting
from moksori.export import run as runs
from moksori.export.vocoder import VocoderProof, export_vocoder
from moksori.runtime import Converter, Options, Voice, denoiser, samplers
from moksori.runtime.mel import MelSpec
from moksori.runtime.schedules import LinearBeta
from moksori.train import cli as training
from moksori.train import objective, prepare

RATE, STEPS = 24_000, 30
OBJECTIVES = {
    "flow": "{name: flow, loss: huber}",
    "ddpm": "{name: ddpm, loss: l1, timesteps: 100, last_beta: 0.08}",
}
NETWORK = "network: {channels: 16, hidden: 24, layers: 1, kernel: 3}\n"


def command(main: click.Command, *arguments: str | Path | int) -> None:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, onnx.ModelProto]) -> Path:
    """A song, its prepared data, and a run and a voice of each objective; both with the same vocoder."""
    root = tmp_path_factory.mktemp("둘 다")
    time = np.arange(4 * RATE) / RATE
    wave = sum(np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 9)) * (1.1 + np.sin(3 * time))
    (root / "audio" / "ann").mkdir(parents=True)
    soundfile.write(root / "audio" / "ann" / "song.wav", 0.1 * wave, RATE)
    graphs = []
    for role in ("content", "pitch"):
        onnx.save(tiny_models[role], root / f"{role}.onnx")
        graphs += [f"--{role}", root / f"{role}.onnx"]
    command(prepare.main, root / "audio", root / "data", *graphs, "--min", 1, "--max", 2, "--perturb", 0, "--jobs", 1)
    (root / "vocoder.yaml").write_text(f"batch: 1\nframes: 24\n{NETWORK}", encoding="utf-8")
    train(root, "flow", "vocoder", 1)
    shutil.copytree(root / "flow" / "vocoder", root / "ddpm" / "vocoder")
    for name, yaml in OBJECTIVES.items():
        text = f"batch: 4\nframes: 32\n{NETWORK}objective: {yaml}\ndropped: 0.3\n"
        loop = "loop: {learning_rate: 0.02, warmup: 2, average: 0.7}\n"
        (root / "denoiser.yaml").write_text(text + loop, encoding="utf-8")
        train(root, name, "denoiser", STEPS)
    with pytest.MonkeyPatch.context() as patch:
        export_each_vocoder_once(patch)
        for name in OBJECTIVES:
            command(exporting.main, root / name, root / f"{name} voice", "--precision", "fp32")
    return root


def export_each_vocoder_once(patch: pytest.MonkeyPatch) -> None:
    """Both voices have the same vocoder: its graph is made and proved for the first, and copied for the second."""
    known: dict[bytes, tuple[VocoderProof, bytes]] = {}

    def once(network: Module, mel: MelSpec, path: Path, stored: str) -> VocoderProof:
        weights = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
        if weights not in known:
            known[weights] = export_vocoder(network, mel, path, stored), path.read_bytes()
        path.write_bytes(known[weights][1])
        return known[weights][0]

    patch.setattr("moksori.export.voice.export_vocoder", once)


def train(root: Path, run: str, role: str, steps: int) -> None:
    data = root / "data"
    given = "--config", root / f"{role}.yaml", "--steps", steps, "--threads", 1, "--by-loss"
    command(training.main, role, data, root / run, *given)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_both_learn(name: str, folder: Path) -> None:
    config = objective.objective(runs.denoiser(folder / name).config.objective)
    info = runs.checkpoint.weights(runs.denoiser(folder / name).checkpoint)[1]
    assert info["metrics"]["validation/loss"] < 0.97 * config.trivial


def test_a_voice_says_what_it_learned(folder: Path) -> None:
    facts = json.loads((folder / "data" / "data.json").read_text(encoding="utf-8"))["statistics"]
    flow, ddpm = (
        json.loads((folder / f"{name} voice" / "voice.json").read_text(encoding="utf-8"))["denoiser"]
        for name in ("flow", "ddpm")
    )
    assert (flow["prediction"], flow["schedule"], flow["sampler"]) == ("velocity", "linear", "euler")
    assert (ddpm["prediction"], ddpm["sampler"]) == ("epsilon", "plms")
    assert ddpm["schedule"] == {"kind": "linear_beta", "timesteps": 100, "first": 1e-4, "last": 0.08}
    np.testing.assert_allclose(flow["mean"], facts["mean"], atol=2e-6)
    centre, half = np.array(ddpm["mean"]), np.array(ddpm["deviation"])
    np.testing.assert_allclose([centre - half, centre + half], [facts["spec_min"], facts["spec_max"]], atol=2e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_sampler_gives_in_the_graph_what_it_gives_in_torch(name: str, folder: Path) -> None:
    voice = Voice.load(folder / f"{name} voice", "cpu", threads=1)
    spec, network = voice.manifest.denoiser, runs.denoiser(folder / name).network
    random = torch.Generator().manual_seed(0)
    start = torch.randn(1, voice.manifest.mel.bins, 9, generator=random)
    given = torch.randn(1, voice.denoiser.raw.get_inputs()[-1].shape[1], 9, generator=random)
    for sampler in samplers.SAMPLERS[spec.prediction]:
        plan = samplers.plan(spec.schedule, sampler, 5)
        found = denoiser.sample(voice.denoiser, given.numpy(), start[0].numpy(), plan)
        with torch.inference_mode():
            wanted = objective.sample(network, spec.prediction, start, given, plan)[0].numpy()
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_both_sing(name: str, folder: Path) -> None:
    voice = Voice.load(folder / f"{name} voice", "cpu", threads=1)
    source, sung = folder / "audio" / "ann" / "song.wav", []
    best = {"flow": "ab2", "ddpm": "dpm++"}[name]
    for options in (Options(), Options(depth=0.3, sampler=best, guidance=1.5)):
        Converter(voice, options).convert(source, folder / "out.wav")
        found, _ = soundfile.read(folder / "out.wav")
        assert len(found) == 4 * RATE and np.isfinite(found).all() and np.abs(found).max() > 0.01
        sung.append(found)
    assert np.abs(sung[1] - sung[0]).max() > 1e-3


def test_the_schedule_is_the_one_it_was_trained_with(folder: Path) -> None:
    learned = objective.objective(runs.denoiser(folder / "ddpm").config.objective)
    assert learned.schedule == LinearBeta(timesteps=100, last=0.08)
