"""Samplers on a flow whose solution is known: noise N(0, 1) to data N(mu, s²)."""

from __future__ import annotations

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


def end(plan: list[samplers.Step]) -> float:
    """x(1) from x(0) = START by the plan."""
    x, past = START, [0.0, 0.0, 0.0]
    for step in plan:
        prediction = velocity(x, step.t)
        x = float(np.dot(step.coefficients, [x, prediction, *past]))
        past = [prediction, *past[:2]]
    return x


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_convergence(name: str) -> None:
    """The flow carries x to mu + s·x; halving the step divides the error by 2^order."""
    exact = MU + DEVIATION * START
    errors = [abs(end(samplers.plan("velocity", name, steps)) - exact) for steps in (80, 160, 320)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders == pytest.approx(ORDERS[name], abs=0.15)
    assert errors[0] < (0.02 if ORDERS[name] == 1 else 1e-3)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_a_constant_velocity_is_followed_exactly(name: str, steps: int) -> None:
    """x keeps its weight of 1, and the weights of the predictions sum to the whole way from t = 0 to 1."""
    plan = samplers.plan("velocity", name, steps)
    assert len(plan) == (2 * steps - 1 if name == "heun" else steps)
    assert sum(sum(step.coefficients[1:]) for step in plan) == pytest.approx(1)
    assert {step.coefficients[0] for step in plan} == {1}
    assert plan[0].t == 0
    assert all(0 <= step.t < 1 for step in plan)
    assert plan[0].coefficients[2:] == (0, 0, 0)  # there is no history yet


def test_one_step_is_eulers_for_all() -> None:
    assert {samplers.plan("velocity", name, 1)[0] for name in ORDERS} == {samplers.Step(0, (1, 1, 0, 0, 0))}


def test_what_is_tested_is_all_there_is() -> None:
    assert set(samplers.SAMPLERS["velocity"]) == set(ORDERS)


@pytest.mark.parametrize(
    ("prediction", "name", "steps", "said"),
    [
        ("velocity", "eulr", 4, "no sampler 'eulr' for velocity models; there are euler, heun, ab2"),
        ("dreams", "euler", 4, "no sampler 'euler' for dreams models"),
        ("velocity", "euler", 0, "at least one step, not 0"),
        ("velocity", "heun", -3, "at least one step, not -3"),
    ],
)
def test_what_cannot_be_planned_is_refused(prediction: str, name: str, steps: int, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        samplers.plan(prediction, name, steps)
