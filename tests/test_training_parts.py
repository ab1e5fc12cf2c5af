"""Pieces of training that need no data: schedules, checkpoints' lives, configs, and the distillation's arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from moksori.runtime.errors import OptionError
from moksori.train import checkpoint, optimizers, precision
from moksori.train import config as configs
from moksori.train import content as content_training
from moksori.train.denoiser import DenoiserConfig, build
from moksori.train.loop import LoopConfig


@pytest.mark.parametrize(("name", "half", "end"), [
    ("cosine", 0.505, 0.01), ("linear", 0.505, 0.01), ("constant", 1, 1),
])
def test_the_rate_warms_up_and_falls_as_its_schedule_says(name: str, half: float, end: float) -> None:
    shares = [optimizers.share(name, step, 1_000, 10) for step in (0, 4, 500, 1_000)]
    assert shares == pytest.approx([0.1, 0.5, half, end], abs=5e-3)
    assert optimizers.share("cosine", 250, 1_000, 1) == pytest.approx(0.01 + 0.99 * (0.5 + 0.5 * 0.5**0.5))
    assert optimizers.share("linear", 250, 1_000, 1) == pytest.approx(0.01 + 0.99 * 0.75)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_finds_the_bottom_of_a_bowl(name: str) -> None:
    point = nn.Linear(1, 1, bias=False)
    descent = optimizers.optimizer(name, point, 0.02, (0.9, 0.98), 0.0)
    for _ in range(400):
        descent.zero_grad()
        (point.weight - 3).square().sum().backward()
        descent.step()
    assert float(point.weight.detach()) == pytest.approx(3, abs=0.05)


def test_an_unknown_optimizer_or_schedule_is_refused() -> None:
    with pytest.raises(OptionError, match=r"no optimizer 'adamv' \(did you mean 'adam'\?\); there are adamw, adam"):
        optimizers.optimizer("adamv", nn.Linear(1, 1), 0.1, (0.9, 0.9), 0)
    with pytest.raises(OptionError, match="no schedule 'exp'"):
        optimizers.share("exp", 0, 1, 1)


def test_transforms_are_kept_out_of_half_precision() -> None:
    one = torch.full((2, 2), 1 / 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.matmul(one, one).dtype == torch.bfloat16
        product = precision.full(torch.matmul)(one, one)
    assert product.dtype == torch.float32
    torch.testing.assert_close(product, torch.full((2, 2), 2 / 9))


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


@pytest.mark.parametrize(
    ("able", "wanted"),
    [({"amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_auto_is_half_precision_where_the_processor_has_units_for_it(
    able: dict[str, bool], wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    cpu = torch.device("cpu")
    assert precision.chosen("auto", cpu) is wanted
    assert precision.chosen("fp32", cpu) is torch.float32 and precision.chosen("fp16", cpu) is torch.float16
    assert not precision.scaler("auto", cpu).is_enabled()
    with precision.autocast("auto", cpu):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is wanted


def test_auto_is_single_precision_where_torch_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision.chosen("auto", torch.device("cpu")) is torch.float32
