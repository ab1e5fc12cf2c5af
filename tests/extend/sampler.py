"""A sampler for flows: the explicit midpoint rule, two evaluations a step, second order (Hairer et al. 1993, II.1)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from moksori.runtime.samplers import SAMPLERS, Step
from moksori.runtime.schedules import Schedule


def midpoint(schedule: Schedule, steps: int, depth: float) -> list[Step]:
    """x½ = x + h/2·v₁, then x ← x + h·v₂, of which x½ - h/2·v₁ is what the graph still knows of x."""
    made = []
    for t, end in pairwise(np.linspace(1 - depth, 1, steps + 1).tolist()):
        h = end - t
        made += [Step(t, (1, h / 2, 0, 0, 0)), Step(t + h / 2, (1, h, -h / 2, 0, 0))]
    return made


SAMPLERS["velocity"]["midpoint"] = midpoint
