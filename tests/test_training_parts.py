"""Pieces of training that need no data: schedules, checkpoints' lives, configs, and the distillation's arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from moksori.runtime.errors import OptionError
from moksori.train import checkpoint
from moksori.train import config as configs
from moksori.train import content as content_training
from moksori.train.denoiser import DenoiserConfig, build
from moksori.train.loop import LoopConfig, schedule


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    loop = LoopConfig(steps=1_000, warmup=100)
    assert [schedule(step, loop) for step in (0, 49)] == pytest.approx([0.01, 0.5], abs=5e-3)
    assert schedule(500, loop) == pytest.approx(0.505)
    assert schedule(1_000, loop) == pytest.approx(0.01)


def test_checkpoints_are_pruned_but_not_the_best(tmp_path: Path) -> None:
    for step in range(10, 210, 10):
        checkpoint.at(tmp_path, step).write_bytes(b"")
    (tmp_path / checkpoint.BEST).write_text('{"step": 70}', encoding="utf-8")
    checkpoint.prune(tmp_path, keep=3, every=100)
    assert checkpoint.steps(tmp_path) == [70, 100, 180, 190, 200]
    assert checkpoint.chosen(tmp_path) == checkpoint.at(tmp_path, 70)


def test_a_config_survives_being_saved(tmp_path: Path) -> None:
    config = DenoiserConfig(network={"channels": 32}, loop=LoopConfig(betas=(0.5, 0.9)), speaker_weights={"민지": 2.0})
    configs.save(tmp_path / "config.yaml", config)
    assert configs.load(tmp_path / "config.yaml", DenoiserConfig()) == config


def test_units_are_read_between_two() -> None:
    units = torch.tensor([[[0.0, 10], [1, 20], [4, 40]]])
    found = content_training.resample_units(units, torch.tensor([[-3, 0, 0.5, 1.25, 2, 9]]))
    assert found[0].tolist() == [[0, 10], [0, 10], [0.5, 15], [1.75, 25], [4, 40], [4, 40]]


def test_distances() -> None:
    ours, theirs = torch.tensor([[[3.0, 4]]]), torch.tensor([[[3.0, 0]]])
    found = {name: float(value) for name, value in content_training.distances(ours, theirs).items()}
    assert found == pytest.approx({"l1": 2, "cosine": 0.4, "loss": 2.4})


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(OptionError, match="one of convnext, wavenet"):
        build(DenoiserConfig(architecture="unet"), 20, 1, 1)
