"""Preconditioned rectified flow, against regression on samples and velocities that are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from moksori.train import objective

TIMES = (0.0, 0.1, 0.37, 0.5, 0.8, 1.0)


def nothing(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    return torch.zeros_like(x)


def pair(seed: int, batch: int = 6, count: int = 40_000) -> tuple[Tensor, Tensor]:
    """Independent mel and noise of unit variance, [B, 1, T] in float64."""
    random = torch.Generator().manual_seed(seed)
    mel, noise = torch.randn(2, batch, 1, count, generator=random, dtype=torch.float64)
    return mel, noise


def test_without_a_network_velocity_is_the_best_linear_guess() -> None:
    """Least squares of mel - noise on x_t, from samples, gives the same slope at every time."""
    mel, noise = pair(0)
    t = torch.tensor(TIMES, dtype=torch.float64)
    x = (1 - t[:, None, None]) * noise + t[:, None, None] * mel
    slope = ((mel - noise) * x).sum((1, 2)) / x.square().sum((1, 2))
    found = objective.velocity(nothing, torch.ones(6, 1, 1, dtype=torch.float64), t, x)[:, 0, 0]
    torch.testing.assert_close(found, slope, atol=0.02, rtol=0)


@pytest.mark.parametrize("t", TIMES)
def test_its_loss_is_one_at_every_time(t: float) -> None:
    mel, noise = pair(1, batch=1, count=200_000)
    loss = objective.flow_loss(nothing, mel, noise, torch.tensor([t], dtype=torch.float64), mel)
    assert float(loss) == pytest.approx(1, abs=0.015)


def test_a_network_that_knows_the_answer_has_no_loss() -> None:
    """F solved for by hand from v = (2t - 1)/d·x + F/√d; the network is handed x/√d, and the condition."""
    mel, noise = pair(2, count=50)
    t = torch.tensor(TIMES, dtype=torch.float64)

    def knowing(scaled: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        time = time[:, None, None]
        d = time**2 + (1 - time) ** 2
        assert torch.allclose(scaled * d.sqrt(), (1 - time) * noise + time * mel)
        return (condition - (2 * time - 1) / d * scaled * d.sqrt()) * d.sqrt()

    assert float(objective.flow_loss(knowing, mel, noise, t, mel - noise)) < 1e-24


def test_the_networks_target_has_unit_variance() -> None:
    """What F must give, √d·(v - best guess), at every time: the reason of the preconditioning."""
    mel, noise = pair(3)
    for t in TIMES:
        d = t**2 + (1 - t) ** 2
        target = d**0.5 * (mel - noise - (2 * t - 1) / d * ((1 - t) * noise + t * mel))
        wrong = objective.flow_loss(lambda x, time, c: c, mel, noise, torch.full((6,), t).double(), target)
        assert float(target.var()) == pytest.approx(1, abs=0.02)
        assert float(wrong) < 1e-15
