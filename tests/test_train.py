"""Training end to end on a tiny data set: svc-prepare makes it, svc-train learns from it, stops and goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from moksori.runtime.errors import MoksoriError
from moksori.runtime.files import read_json
from moksori.train import checkpoint, prepare
from moksori.train import config as configs
from moksori.train.cli import main
from moksori.train.dataset import PreparedData, Share
from moksori.train.denoiser import DenoiserConfig, DenoiserTask
from moksori.train.loop import LoopConfig, train

QUIET = Console(quiet=True)
SONG = Path(__file__).parent / "data" / "vocadito_10.flac"
NETWORK = {"channels": 32, "hidden": 48, "layers": 2, "kernel": 5}
TINY = {
    "denoiser": f"batch: 4\nframes: 32\nnetwork: {json.dumps(NETWORK)}\n",
    "vocoder": "batch: 2\nframes: 24\nnetwork: {channels: 16, hidden: 24, layers: 1, kernel: 3}\n",
    "content": "batch: 2\nseconds: 0.8\nnetwork: {channels: 32, hidden: 48, layers: 2, kernel: 5}\n",
}
"""Small networks for the YAML of each role; what the data dictates need not be said."""


@pytest.fixture(scope="module")
def data(tiny_data: Path) -> Path:
    return tiny_data


def task(data: Path, loop: LoopConfig, batch: int = 4) -> DenoiserTask:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return DenoiserTask(PreparedData(data), DenoiserConfig(network=NETWORK, loop=loop, batch=batch, frames=32))


def svc_train(*given: str | Path | int) -> Result:
    return CliRunner().invoke(main, [str(one) for one in (*given, "--threads", 1, "--by-loss")])


class Interrupted(DenoiserTask):
    """Ctrl-C while batch number ``at`` is awaited."""

    at = 0

    def batches(self, share: Share, device: torch.device) -> Generator[dict[str, Tensor]]:
        stream = super().batches(share, device)
        try:
            for number, batch in enumerate(stream, share.start):
                if number == self.at:
                    raise KeyboardInterrupt
                yield batch
        finally:
            stream.close()


@pytest.mark.parametrize("at", [0, 5])
def test_a_stopped_run_goes_on_bit_for_bit(at: int, data: Path, tmp_path: Path) -> None:
    loop = LoopConfig(steps=7, learning_rate=3e-3, warmup=2, validate_every=5, save_every=100)
    train(task(data, loop), loop, tmp_path / "straight", QUIET)
    broken = task(data, loop)
    broken.__class__ = Interrupted
    setattr(broken, "at", at)  # noqa: B010 (mypy does not follow the change of class)
    with pytest.raises(KeyboardInterrupt):
        train(broken, loop, tmp_path / "halves", QUIET)
    assert checkpoint.steps(tmp_path / "halves") == [at]
    torch.rand(3)  # another process would have another random state
    train(task(data, loop), loop, tmp_path / "halves", QUIET)
    one, other = (load_file(tmp_path / name / "checkpoint-00000007.safetensors") for name in ("straight", "halves"))
    assert one.keys() == other.keys()
    assert {name.split(".")[0] for name in one} == {"network", "averaged", "optimizer"}
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []


def test_the_denoiser_learns(data: Path, tmp_path: Path) -> None:
    """It begins at the best linear guess, a loss of 1, and soon knows what loudness says of a mel."""
    loop = LoopConfig(steps=90, learning_rate=1e-2, warmup=5, average=0.9, validate_every=1_000)
    learner = task(data, loop, batch=8)
    state = train(learner, loop, tmp_path, QUIET)
    assert state.metrics["validation/loss"] < 0.75
    assert read_best(tmp_path) == state.metrics


def read_best(folder: Path) -> dict[str, float]:
    path = checkpoint.newest(folder)
    assert path is not None
    return dict(checkpoint.weights(path)[1]["metrics"])


def test_a_new_network_is_near_the_best_linear_guess(data: Path) -> None:
    torch.manual_seed(0)
    learner = task(data, LoopConfig(), batch=16)
    stream = learner.batches(Share(), torch.device("cpu"))
    with torch.no_grad():
        losses = [float(learner.losses(next(stream))["loss"]) for _ in range(4)]
    stream.close()
    assert np.mean(losses) == pytest.approx(1, abs=0.2)


def test_a_loss_that_is_not_finite_ends_the_run(data: Path, tmp_path: Path) -> None:
    loop = LoopConfig(steps=50, learning_rate=1e30, warmup=1)
    with pytest.raises(MoksoriError, match=r"the loss is .* at step .*; lower learning_rate"):
        train(task(data, loop), loop, tmp_path, QUIET)


@pytest.mark.parametrize("role", TINY)
def test_every_role_trains_and_goes_on(role: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY[role], encoding="utf-8")
    run = tmp_path / "run"
    first = svc_train(role, data, run, "--config", tmp_path / "tiny.yaml", "--steps", 2)
    assert first.exit_code == 0, first.output
    again = svc_train(role, data, run, "--steps", 4)
    assert again.exit_code == 0, again.output
    assert "going on from step 2" in again.output
    assert checkpoint.steps(run / role) == [2, 4]
    metrics = read_best(run / role)
    assert metrics and all(np.isfinite(value) for value in metrics.values())
    assert configs.read(run / role / "data.yaml")["mel"] == read_json(data / "data.json")["mel"]
    assert list((run / role).glob("events.*"))
    if role == "denoiser":
        for name in ("content.onnx", "pitch.onnx"):
            assert (run / "graphs" / name).read_bytes() == (data / name).read_bytes()


def test_the_vocoders_adversary_trains_too(data: Path, tmp_path: Path) -> None:
    given = TINY["vocoder"] + "adversarial: true\nadversary_channels: 4\n"
    (tmp_path / "tiny.yaml").write_text(given, encoding="utf-8")
    for steps in (1, 2):
        result = svc_train("vocoder", data, tmp_path / "run", "--config", tmp_path / "tiny.yaml", "--steps", steps)
        assert result.exit_code == 0, result.output
    one, two = (load_file(checkpoint.at(tmp_path / "run" / "vocoder", step)) for step in (1, 2))
    name = next(name for name in one if name.startswith("adversary.") and name.endswith("weight"))
    assert not torch.equal(one[name], two[name])


def test_a_persons_song_is_learnt_through_the_commands(tmp_path: Path) -> None:
    """Seven seconds of singing to learn from, two held out: from the best linear guess, 1, below 0.8."""
    (tmp_path / "songs").mkdir()
    shutil.copy(SONG, tmp_path / "songs")
    cut = "--min", 1.5, "--max", 3, "--perturb", 0, "--jobs", 1
    prepared = CliRunner().invoke(prepare.main, [str(one) for one in (tmp_path / "songs", tmp_path / "data", *cut)])
    assert prepared.exit_code == 0, prepared.output
    loop = "loop: {learning_rate: 0.01, warmup: 5, average: 0.95, validate_every: 80}\n"
    (tmp_path / "small.yaml").write_text(TINY["denoiser"].replace("batch: 4", "batch: 8") + loop, encoding="utf-8")
    given = "denoiser", tmp_path / "data", tmp_path / "run", "--config", tmp_path / "small.yaml", "--steps", 80
    assert svc_train(*given).exit_code == 0
    assert read_best(tmp_path / "run" / "denoiser")["validation/loss"] < 0.8
