"""What the denoiser learns, against regression on samples and targets that are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from moksori.runtime import samplers
from moksori.runtime.errors import OptionError
from moksori.runtime.schedules import LinearBeta
from moksori.train import objective
from moksori.train.objective import ObjectiveConfig

TIMES = (0.0, 0.1, 0.37, 0.5, 0.8, 1.0)


def nothing(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    return torch.zeros_like(x)


def pair(seed: int, batch: int = 6, count: int = 40_000) -> tuple[Tensor, Tensor]:
    """Independent mel and noise of unit variance, [B, 1, T] in float64."""
    random = torch.Generator().manual_seed(seed)
    mel, noise = torch.randn(2, batch, 1, count, generator=random, dtype=torch.float64)
    return mel, noise


def made(name: str = "flow", **fields: Any) -> objective.Objective:
    return objective.objective(ObjectiveConfig(name, **fields))


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# flow


def test_without_a_network_velocity_is_the_best_linear_guess() -> None:
    """Least squares of mel - noise on x_t, from samples, gives the same slope at every time."""
    mel, noise = pair(0)
    t = double(*TIMES)
    x = (1 - t[:, None, None]) * noise + t[:, None, None] * mel
    slope = ((mel - noise) * x).sum((1, 2)) / x.square().sum((1, 2))
    found = objective.velocity(nothing, torch.ones(6, 1, 1, dtype=torch.float64), t, x)[:, 0, 0]
    torch.testing.assert_close(found, slope, atol=0.02, rtol=0)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("loss", objective.LOSSES)
def test_what_knows_nothing_has_the_trivial_loss_at_every_time(t: float, loss: str) -> None:
    """By numbers for l2, and for the others by the mean of their formula over N(0, 1)."""
    mel, noise = pair(1, batch=1, count=200_000)
    error = np.random.default_rng(0).standard_normal(2_000_000)
    formula = {
        "l2": error**2,
        "l1": np.abs(error),
        "huber": np.where(np.abs(error) < 1, error**2 / 2, np.abs(error) - 0.5),
    }
    found = made(loss=loss)
    assert found.trivial == pytest.approx(formula[loss].mean(), rel=2e-3)
    assert float(found.loss(nothing, mel, noise, double(t), mel)) == pytest.approx(found.trivial, rel=0.015)


def test_a_network_that_knows_the_answer_has_no_loss() -> None:
    """F solved for by hand from v = (2t - 1)/d·x + F/√d; the network is handed x/√d, and the condition."""
    mel, noise = pair(2, count=50)

    def knowing(scaled: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        time = time[:, None, None]
        d = time**2 + (1 - time) ** 2
        assert torch.allclose(scaled * d.sqrt(), (1 - time) * noise + time * mel)
        return (condition - (2 * time - 1) / d * scaled * d.sqrt()) * d.sqrt()

    assert float(made().loss(knowing, mel, noise, double(*TIMES), mel - noise)) < 1e-24


def test_the_networks_target_has_unit_variance() -> None:
    """What F must give, √d·(v - best guess), at every time: the reason of the preconditioning."""
    mel, noise = pair(3)
    for t in TIMES:
        d = t**2 + (1 - t) ** 2
        target = d**0.5 * (mel - noise - (2 * t - 1) / d * ((1 - t) * noise + t * mel))
        wrong = made().loss(lambda x, time, c: c, mel, noise, torch.full((6,), t).double(), target)
        assert float(target.var()) == pytest.approx(1, abs=0.02)
        assert float(wrong) < 1e-15


# ddpm


def test_ddpm_noises_as_its_paper_does() -> None:
    """x = √ᾱ·mel + √(1 - ᾱ)·ε with ᾱ the running product of 1 - β, at whole times, and ε is the answer."""
    betas = np.linspace(1e-4, 0.03, 50)
    bars = np.cumprod(1 - betas)
    mel, noise = pair(4, count=50)
    u = double(0, 0.0199, 0.02, 0.51, 0.98, 1)
    seen: list[Tensor] = []

    def knowing(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        seen.append(t)
        bar = torch.from_numpy(bars)[t.long()][:, None, None]
        torch.testing.assert_close(x, bar.sqrt() * mel + (1 - bar).sqrt() * noise, atol=1e-6, rtol=1e-6)
        return condition

    ddpm = made("ddpm", timesteps=50, last_beta=0.03)
    assert float(ddpm.loss(knowing, mel, noise, u, noise)) == 0
    assert seen[0].tolist() == [0, 0, 1, 25, 49, 49]
    assert float(ddpm.loss(nothing, *pair(5), u, noise)) == pytest.approx(ddpm.trivial, rel=0.02)


@pytest.mark.parametrize(("name", "earliest", "latest"), [("flow", 0.7, 1.0), ("ddpm", 0, 299)])
def test_a_shallow_objective_sees_the_last_part_alone(name: str, earliest: float, latest: float) -> None:
    times: list[Tensor] = []

    def watching(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        times.append(t)
        return x

    mel = torch.zeros(500, 1, 1)
    made(name, depth=0.3).loss(watching, mel, mel, torch.linspace(0, 0.9999, 500), mel)
    assert float(times[0].min()) == pytest.approx(earliest, abs=1e-6)
    assert float(times[0].max()) == pytest.approx(latest, abs=1e-3)


def test_the_scale_of_each() -> None:
    statistics = {"mean": [1.0, 2.0], "deviation": [3.0, 4.0], "spec_min": [-9.0, -5.0], "spec_max": [1.0, 2.0]}
    np.testing.assert_array_equal(made().scaling(statistics), [[1, 2], [3, 4]])
    centre, half = made("ddpm").scaling(statistics)
    np.testing.assert_allclose((np.array([[-9, -5], [1, 2]]) - centre) / half, [[-1, -1], [1, 1]])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "ddmp"}, r"no objective 'ddmp' \(did you mean 'ddpm'\?\); use flow or ddpm"),
        ({"loss": "l3"}, "no loss 'l3'.*use l2 or l1 or huber"),
        ({"depth": 0.0}, "depth must be above 0 and at most 1, not 0"),
        ({"depth": 1.1}, "depth must be above 0"),
        ({"timesteps": 0}, "timesteps must be 1 or more"),
        ({"last_beta": 1.0}, "last_beta from 0.0001 to below 1"),
    ],
)
def test_an_objective_that_is_none_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        ObjectiveConfig(**fields)


# the loop in torch


Fields = dict[str, tuple[str | LinearBeta, Callable[[Tensor, Tensor, Tensor], Tensor]]]
FIELDS: Fields = {
    "velocity": ("linear", lambda x, t, c: torch.tanh(x + t[:, None, None])),
    "epsilon": (LinearBeta(), lambda x, t, c: torch.tanh(x + t[:, None, None] / 700)),
}


@pytest.mark.parametrize("prediction", FIELDS)
@pytest.mark.parametrize("steps", [3, 6])
def test_a_plan_is_carried_out_in_torch_as_in_numpy(prediction: str, steps: int) -> None:
    schedule, network = FIELDS[prediction]
    start = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name in samplers.SAMPLERS[prediction]:
        plan = samplers.plan(schedule, name, steps)
        x, past = start.numpy(), [np.zeros(start.shape)] * 3
        for step in plan:
            answer = objective.PREDICTIONS[prediction](
                network, torch.from_numpy(x), torch.full((2,), step.t).double(), start
            ).numpy()
            answer = answer if not step.view else step.view[0] * x + step.view[1] * answer
            x = np.tensordot(step.coefficients, [x, answer, *past], 1)
            past = [answer, *past[:2]] if step.kept else past
        found = objective.sample(network, prediction, start, start, plan)
        np.testing.assert_allclose(found.numpy(), x, atol=1e-4)
