"""Reflow: a trained flow learns to go in one step where it went in many, and what it was can be exported as before."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from training import LOOP, refused, svc_train, written

from moksori.export import run as runs
from moksori.export.spec import ExportError
from moksori.export.voice import About, Choices, export_voice
from moksori.runtime import Converter, Options, Voice, samplers
from moksori.runtime.errors import OptionError
from moksori.runtime.files import read_json, sha256_of
from moksori.runtime.schedules import LINEAR
from moksori.train import checkpoint, dataset
from moksori.train import config as configs
from moksori.train.dataset import PreparedData
from moksori.train.denoiser import DenoiserConfig
from moksori.train.objective import sample
from moksori.train.reflow import ReflowConfig, ReflowTask

FLOW = {"dropped": 0.3, "loop": {"learning_rate": 0.01, "average": 0.8, "validate_every": 60}}
STRAIGHT = {
    "batch": 4, "frames": 32, "guidance": 1.5, "targets": {"bob": 1.0},
    "loop": {**LOOP, "learning_rate": 0.003, "schedule": "cosine", "average": 0.8, "validate_every": 30},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN_DIR with a small denoiser that can be guided."""
    folder = tmp_path_factory.mktemp("곧게 🎤")
    config = written(folder / "flow.yaml", **FLOW)
    done = svc_train("denoiser", tiny_data, folder / "run", "--config", config, "--steps", 60)
    assert done.exit_code == 0, done.output
    return folder / "run"


def straightened(data: Path, run: Path, steps: int, **changes: object) -> Path:
    path = run.parent / "straight.yaml"
    path.write_text(yaml.safe_dump({**STRAIGHT, **changes}), encoding="utf-8")
    done = svc_train("reflow", data, run, "--config", path, "--steps", steps)
    assert done.exit_code == 0, done.output
    return run


def test_one_step_comes_nearer_to_many(tiny_data: Path, trained: Path, tmp_path: Path, same_threads: None) -> None:
    run = straightened(tiny_data, shutil.copytree(trained, tmp_path / "run"), 60)
    folder = run / "reflow"
    found = [checkpoint.weights(checkpoint.at(folder, step))[1]["metrics"] for step in (0, 60)]
    assert found[1]["validation/mel"] < 0.8 * found[0]["validation/mel"]
    assert read_json(folder / checkpoint.BEST)["step"] in (30, 60)


def test_pairs_are_the_flows_own_ways(tiny_data: Path, trained: Path) -> None:
    """With guidance 1 the mel of a pair is what the sampler makes of the same noise, step by step."""
    data = PreparedData(tiny_data)
    task = ReflowTask(data, ReflowConfig(batch=2, frames=32, guidance=1.0, steps=3, noise_scale=0.4), trained)
    batch = next(task.batches(dataset.Share(), torch.device("cpu")))
    start, mel = task._pair(batch)
    assert torch.equal(start, 0.4 * batch["noise"])
    condition = task.network.get_submodule("conditioner")(
        *(batch[name] for name in ("units", "mel2ph", "f0", "voiced", "loudness", "speaker"))
    )
    with torch.no_grad():
        wanted = sample(task.network.eval(), "velocity", start, condition, samplers.plan(LINEAR, "ab2", 3))
    torch.testing.assert_close(mel, wanted)
    guided = ReflowTask(data, ReflowConfig(batch=2, frames=32, guidance=2.0, steps=3, noise_scale=0.4), trained)
    assert not torch.allclose(guided._pair(batch)[1], mel)


def test_targets_sing_what_others_sang(tiny_data: Path, trained: Path) -> None:
    """ann sings around 200 Hz and bob at 110: what bob takes over from ann goes an octave down."""
    data = PreparedData(tiny_data)
    for speaker, median in zip(data.facts["speakers"], (200.0, 110.0), strict=True):
        speaker["f0_median"] = median
    plain = ReflowTask(data, ReflowConfig(batch=8, frames=32), trained)
    moved = ReflowTask(data, ReflowConfig(batch=8, frames=32, targets={"bob": 1.0}), trained)
    one, other = (next(task.batches(dataset.Share(), torch.device("cpu"))) for task in (plain, moved))
    ann, bob = data.speakers.index("ann"), data.speakers.index("bob")
    assert (other["speaker"].argmax(1) == bob).all() and set(one["speaker"].argmax(1).tolist()) == {ann, bob}
    octaves = torch.log2(other["f0"] / one["f0"]).mean(1)
    torch.testing.assert_close(octaves, torch.where(one["speaker"].argmax(1) == ann, -1.0, 0.0))
    torch.testing.assert_close(other["units"], one["units"])


def test_another_sings_the_first_step(tiny_data: Path, trained: Path) -> None:
    """Of three steps; the rest is sung as the target, as if the way began there."""
    data = PreparedData(tiny_data)
    config = ReflowConfig(batch=8, frames=32, steps=3, lead={"bob": "ann"})
    task = ReflowTask(data, config, trained)
    batch = next(task.batches(dataset.Share(), torch.device("cpu")))
    assert set(batch["speaker"].argmax(1).tolist()) == {0, 1}
    assert (batch["leader"].argmax(1) == data.speakers.index("ann")).all()
    start, mel = task._pair(batch)
    hear = task.network.eval().get_submodule("conditioner")
    conditions = ("units", "mel2ph", "f0", "voiced", "loudness")
    leader, target = (hear(*(batch[name] for name in (*conditions, who))) for who in ("leader", "speaker"))
    first, rest = samplers.plan(LINEAR, "euler", 3)[:1], samplers.plan(LINEAR, "ab2", 2, depth=2 / 3)
    with torch.no_grad():
        begun = sample(task.network, "velocity", start, leader, first)
        wanted = sample(task.network, "velocity", begun, target, rest)
    torch.testing.assert_close(mel, wanted)


def test_what_cannot_be_straightened_is_refused(tiny_data: Path, trained: Path, tmp_path: Path) -> None:
    refused(svc_train("reflow", tiny_data, tmp_path / "none", "--steps", 1), "holds no trained denoiser")
    (tmp_path / "r.yaml").write_text("targets: {zoe: 1.0}\n", encoding="utf-8")
    refused(svc_train("reflow", tiny_data, trained, "--config", tmp_path / "r.yaml"), "targets names zoe")
    (tmp_path / "r.yaml").write_text("lead: {bob: zoe}\n", encoding="utf-8")
    refused(svc_train("reflow", tiny_data, trained, "--config", tmp_path / "r.yaml"), "lead names zoe")
    (tmp_path / "r.yaml").write_text("lead: {bob: ann}\nsteps: 1\n", encoding="utf-8")
    refused(svc_train("reflow", tiny_data, trained, "--config", tmp_path / "r.yaml"), "must be 2 or more, not 1")
    (tmp_path / "r.yaml").write_text("targets: {bob: 0}\n", encoding="utf-8")
    refused(svc_train("reflow", tiny_data, trained, "--config", tmp_path / "r.yaml"), "targets must be numbers")
    plain = shutil.copytree(trained, tmp_path / "plain")
    config = yaml.safe_load((plain / "denoiser" / "config.yaml").read_text(encoding="utf-8"))
    for changes, said in (({"dropped": 0.0}, "cannot be guided"), ({"objective": {"name": "ddpm"}}, "only a flow")):
        (plain / "denoiser" / "config.yaml").write_text(yaml.safe_dump(config | changes), encoding="utf-8")
        with pytest.raises(OptionError, match=said):
            ReflowTask(PreparedData(tiny_data), ReflowConfig(guidance=1.5), plain)


def test_a_straightened_voice_needs_no_guidance_and_few_steps(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    flow = run / "denoiser"
    content = sha256_of((run / "graphs" / "content.onnx").read_bytes())
    configs.save(flow / "data.yaml", configs.read(flow / "data.yaml") | {"content_sha256": content})
    configs.save(flow / "config.yaml", replace(configs.load(flow / "config.yaml", DenoiserConfig()), dropped=0.3))
    shutil.copytree(flow, run / "reflow")
    configs.save(run / "reflow" / "config.yaml", ReflowConfig(noise_scale=0.3))
    with pytest.raises(ExportError, match="straightened since"):
        export_voice(run, tmp_path / "voice", Choices("v"), About(guidance=1.5))
    export_voice(run, tmp_path / "voice", Choices("v"), About())
    voice = Voice.load(tmp_path / "voice", "cpu")
    spec = voice.manifest.denoiser
    assert (spec.sampler, spec.steps, spec.noise_scale, spec.guidance) == ("euler", 2, 0.3, 1.0)
    with pytest.raises(OptionError, match="cannot be guided"):
        Converter(voice, Options(guidance=2.0))
    assert runs.denoiser(run).checkpoint.parent.name == "reflow"
    newest = checkpoint.chosen(flow)
    assert newest is not None
    os.utime(newest)
    with pytest.raises(ExportError, match="has learned more since"):
        runs.denoiser(run)
    configs.save(run / "reflow" / "data.yaml", configs.read(run / "reflow" / "data.yaml") | {"content_sha256": "b"})
    with pytest.raises(ExportError, match="other data"):
        runs.denoiser(run)
