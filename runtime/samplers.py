"""Samplers as data: a plan is a list of steps, each one linear update of x from predictions made so far.

The step graph and the numpy loop alike compute x ← c₀·x + c₁·prediction + c₂·history₁ + c₃·history₂ + c₄·history₃,
where history₁ is the prediction before this one. What a sampler is lies in its times and coefficients alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moksori.runtime.errors import OptionError

Coefficients = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class Step:
    """Predict at time ``t``, then update x with ``coefficients`` (c₀ … c₄)."""

    t: float
    coefficients: Coefficients


def plan(prediction: str, name: str, steps: int) -> list[Step]:
    """The steps of a sampler; ``len`` of it is the number of network evaluations.

    Raises:
        OptionError: no such sampler for this kind of prediction.
    """
    samplers = SAMPLERS.get(prediction, {})
    if name not in samplers:
        raise OptionError(f"there is no sampler '{name}' for {prediction} models; there are {', '.join(samplers)}")
    if steps < 1:
        raise OptionError(f"a sampler takes at least one step, not {steps}")
    return samplers[name](steps)


def euler(steps: int) -> list[Step]:
    """Rectified flow from t = 0 (noise) to 1: x ← x + h·v, first order."""
    return [Step(t, (1, h, 0, 0, 0)) for t, h in _flow_times(steps)]


def heun(steps: int) -> list[Step]:
    """Explicit trapezoid, two evaluations a step, second order; the last step is Euler's (Karras et al. 2022, alg. 1).

    The corrector starts from x + h·v₁ and adds h/2·(v₂ - v₁).
    """
    times = _flow_times(steps)
    predictor_corrector = (
        pair for t, h in times[:-1] for pair in (Step(t, (1, h, 0, 0, 0)), Step(t + h, (1, h / 2, -h / 2, 0, 0)))
    )
    return [*predictor_corrector, Step(times[-1][0], (1, times[-1][1], 0, 0, 0))]


def ab2(steps: int) -> list[Step]:
    """Two-step Adams–Bashforth: x ← x + h·(3v - v₁)/2, second order with one evaluation a step; starts with Euler."""
    first, *rest = _flow_times(steps)
    return [Step(first[0], (1, first[1], 0, 0, 0)), *(Step(t, (1, 1.5 * h, -0.5 * h, 0, 0)) for t, h in rest)]


def _flow_times(steps: int) -> list[tuple[float, float]]:
    edges = np.linspace(0, 1, steps + 1)
    return [(float(t), float(h)) for t, h in zip(edges[:-1], np.diff(edges), strict=True)]


SAMPLERS: dict[str, dict[str, Callable[[int], list[Step]]]] = {
    "velocity": {"euler": euler, "heun": heun, "ab2": ab2},
}
