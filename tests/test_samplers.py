"""Samplers on a flow whose solution is known: noise N(0, 1) to data N(mu, s²)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from moksori.runtime import samplers
from moksori.runtime.errors import OptionError

MU, DEVIATION, START = -1.5, 0.3, 0.8
ORDERS = {"euler": 1, "heun": 2, "ab2": 2}


def velocity(x: float, t: float) -> float:
    """E[data - noise | x_t = x] of independent Gaussians: the exact rectified flow."""
    variance = (1 - t) ** 2 + t**2 * DEVIATION**2
    return MU + (t * DEVIATION**2 - (1 - t)) / variance * (x - t * MU)


Field = Callable[[float, float], float]


def end(plan: list[samplers.Step], x: float = START, field: Field = velocity, null: Field = velocity) -> float:
    """x(1) by the plan; ``null`` is what null steps predict."""
    past = [0.0, 0.0, 0.0]
    for step in plan:
        prediction = (null if step.null else field)(x, step.t)
        x = float(np.dot(step.coefficients, [x, prediction, *past]))
        past = [prediction, *past[:2]]
    return x


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_convergence(name: str) -> None:
    """The flow carries x to mu + s·x; halving the step divides the error by 2^order."""
    exact = MU + DEVIATION * START
    errors = [abs(end(samplers.plan("linear", name, steps)) - exact) for steps in (80, 160, 320)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders == pytest.approx(ORDERS[name], abs=0.15)
    assert errors[0] < (0.02 if ORDERS[name] == 1 else 1e-3)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_a_constant_velocity_is_followed_exactly(name: str, steps: int) -> None:
    """x keeps its weight of 1, and the weights of the predictions sum to the whole way from t = 0 to 1."""
    plan = samplers.plan("linear", name, steps)
    assert len(plan) == (2 * steps - 1 if name == "heun" else steps)
    assert sum(sum(step.coefficients[1:]) for step in plan) == pytest.approx(1)
    assert {step.coefficients[0] for step in plan} == {1}
    assert plan[0].t == 0
    assert all(0 <= step.t < 1 for step in plan)
    assert plan[0].coefficients[2:] == (0, 0, 0)  # there is no history yet


def test_one_step_is_eulers_for_all() -> None:
    assert {samplers.plan("linear", name, 1)[0] for name in ORDERS} == {samplers.Step(0, (1, 1, 0, 0, 0))}


def test_what_is_tested_is_all_there_is() -> None:
    assert set(samplers.SAMPLERS["velocity"]) == set(ORDERS)


@pytest.mark.parametrize(
    ("name", "numbers", "said"),
    [
        ("eulr", {"steps": 4}, "no sampler 'eulr' for velocity models; there are euler, heun, ab2"),
        ("ddim", {"steps": 4}, "no sampler 'ddim' for velocity models"),
        ("euler", {"steps": 0}, "at least one step, not 0"),
        ("heun", {"steps": -3}, "at least one step, not -3"),
        ("euler", {"steps": 4, "depth": 0}, "a depth of 0 is not above 0"),
        ("euler", {"steps": 4, "depth": 1.5}, "a depth of 1.5 is not above 0 and at most 1"),
        ("euler", {"steps": 4, "depth": float("nan")}, "a depth of nan"),
        ("euler", {"steps": 4, "guidance": 11}, "a guidance of 11 is not 0 to 10"),
        ("euler", {"steps": 4, "guidance": float("nan")}, "a guidance of nan"),
    ],
)
def test_what_cannot_be_planned_is_refused(name: str, numbers: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        samplers.plan("linear", name, **numbers)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("depth", [0.1, 0.6])
def test_a_shallow_start_goes_the_rest_of_the_way(name: str, depth: float) -> None:
    """From x(1 - depth) on the exact flow to its end; the way is shorter, so the error is smaller than that of all."""
    t = 1 - depth
    here = t * MU + np.sqrt((1 - t) ** 2 + (t * DEVIATION) ** 2) * START
    plan = samplers.plan("linear", name, 40, depth)
    assert plan[0].t == pytest.approx(t)
    goal = MU + DEVIATION * START
    assert end(plan, here) == pytest.approx(goal, abs=0.02)
    assert abs(end(plan, here) - goal) < abs(end(samplers.plan("linear", name, 40)) - goal)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("weight", [0.0, 1.7])
def test_guidance_is_a_sampler_on_the_mixed_velocity(name: str, weight: float) -> None:
    """Two evaluations a step through history give what one evaluation of weight·v + (1 - weight)·v₀ would."""

    def nobody(x: float, t: float) -> float:
        return 0.3 - x * t

    def mixed(x: float, t: float) -> float:
        return weight * velocity(x, t) + (1 - weight) * nobody(x, t)

    plan = samplers.plan("linear", name, 6, guidance=weight)
    plain = samplers.plan("linear", name, 6)
    assert len(plan) == 2 * len(plain)
    assert [step.null for step in plan[:4]] == [True, False, True, False]
    assert end(plan, START, velocity, nobody) == pytest.approx(end(plain, START, mixed), abs=1e-12)


def test_guidance_of_one_is_none() -> None:
    assert samplers.plan("linear", "ab2", 5, guidance=1) == samplers.plan("linear", "ab2", 5)
