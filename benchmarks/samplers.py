"""How near to the end of its way each sampler comes in so many steps, on data whose exact predictions are known.

The data are one number: a mixture of three Gaussians, as unlike noise as a mel bin of speech, in the scale of each kind
of model. A network would add its own error; this is the sampler's alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import click
import numpy as np
from numpy.typing import NDArray

from moksori.runtime import samplers, schedules
from moksori.runtime.command import Command
from moksori.runtime.samplers import Step
from moksori.runtime.schedules import LinearBeta, Schedule

Array = NDArray[np.float64]

CENTRES, WEIGHTS, WIDTH = np.array([-0.6, 0.1, 0.5]), np.array([0.3, 0.3, 0.4]), 0.15
EVALUATIONS = (1, 2, 4, 6, 8, 10, 20, 50, 100)
REFERENCE = {"velocity": "ab2", "epsilon": "unipc"}
REFERENCE_STEPS = 1000
STARTS = 400

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.samplers --last-beta 0.06
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.option("--last-beta", default=0.02, show_default=True, help="Of the epsilon model's schedule.")
def main(last_beta: float) -> None:
    """Print the error of each sampler over steps, as a share of the data's deviation."""
    for schedule in (schedules.LINEAR, LinearBeta(last=last_beta)):
        click.echo(table(schedule))


def table(schedule: Schedule) -> str:
    """Markdown: samplers down, network evaluations across."""
    kind = schedules.prediction(schedule)
    lines = [f"| {kind} | {' | '.join(map(str, EVALUATIONS))} |", "|---" * (len(EVALUATIONS) + 1) + "|"]
    for name in samplers.SAMPLERS[kind]:
        errors = [_cell(schedule, name, evaluations) for evaluations in EVALUATIONS]
        lines.append(f"| {name} | {' | '.join(errors)} |")
    return "\n".join(lines) + "\n"


def error(schedule: Schedule, plan: list[Step]) -> float:
    """RMS distance of the plan's ends from those of very many steps, over the data's deviation."""
    apart = carried_out(schedule, plan, _starts()) - _ends(schedule)
    return float(np.sqrt(np.mean(apart**2)) / np.std(_ends(schedule)))


def carried_out(schedule: Schedule, plan: list[Step], x: Array) -> Array:
    predict = _velocity(schedule) if schedule == schedules.LINEAR else _epsilon(schedule)
    past = [np.zeros_like(x)] * 3
    for step in plan:
        seen, output = step.view or (0.0, 1.0)
        prediction = seen * x + output * predict(x, step.t)
        x = np.tensordot(step.coefficients, [x, prediction, *past], 1)
        past = [prediction, *past[:2]] if step.kept else past
    return x


def _cell(schedule: Schedule, name: str, evaluations: int) -> str:
    """The error of the most steps that need no more evaluations."""
    for steps in range(evaluations, 1 if name == "pndm" else 0, -1):
        plan = samplers.plan(schedule, name, steps)
        if len(plan) <= evaluations:
            return f"{error(schedule, plan):.3f}"
    return ""


def _starts() -> Array:
    return np.random.default_rng(0).standard_normal(STARTS)


@lru_cache
def _ends(schedule: Schedule) -> Array:
    fine = samplers.plan(schedule, REFERENCE[schedules.prediction(schedule)], REFERENCE_STEPS)
    return carried_out(schedule, fine, _starts())


def _velocity(schedule: Schedule) -> Callable[[Array, float], Array]:
    """E[data - noise | x] of x = (1 - t)·noise + t·data, data of mean 0 and deviation 1."""
    centres, width = (CENTRES - WEIGHTS @ CENTRES) / _spread(), WIDTH / _spread()

    def predict(x: Array, t: float) -> Array:
        data = _guess(x, t, 1 - t, centres, width)
        return (data - x) / (1 - t)

    return predict


def _epsilon(schedule: Schedule) -> Callable[[Array, float], Array]:
    """E[noise | x] of x = α·data + σ·noise."""
    assert isinstance(schedule, LinearBeta)

    def predict(x: Array, t: float) -> Array:
        alpha, sigma = schedule.mix(t + 1)
        return (x - alpha * _guess(x, alpha, sigma, CENTRES, WIDTH)) / sigma

    return predict


def _guess(x: Array, alpha: float, sigma: float, centres: Array, width: float) -> Array:
    """E[data | alpha·data + sigma·noise = x]."""
    variance = (alpha * width) ** 2 + sigma**2
    off = x - alpha * centres[:, None]
    log = np.log(WEIGHTS)[:, None] - off**2 / (2 * variance)
    shares = np.exp(log - log.max(0))
    each = centres[:, None] + alpha * width**2 / variance * off
    return np.asarray((shares / shares.sum(0) * each).sum(0))


def _spread() -> float:
    mean = WEIGHTS @ CENTRES
    return float(np.sqrt(WEIGHTS @ (CENTRES - mean) ** 2 + WIDTH**2))


if __name__ == "__main__":
    main()
