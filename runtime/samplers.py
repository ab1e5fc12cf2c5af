"""Samplers as data: a plan is a list of steps, each one linear update of x from predictions made so far.

The step graph and any loop around it compute x ← c₀·x + c₁·prediction + c₂·history₁ + c₃·history₂ + c₄·history₃, where
history₁ is the prediction kept before this one. What is predicted is the network's output: v of a flow. Of an epsilon
model it is v₀·x + v₁·ε, so that a step may keep ε or the mel that ε implies, (x - σ·ε)/α. What a sampler is lies in
its times and coefficients alone. docs/samplers.md compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from moksori.runtime.errors import OptionError
from moksori.runtime.schedules import LinearBeta, Schedule, prediction

Coefficients = tuple[float, float, float, float, float]

STRONGEST = 10.0  # guidance
NOISE = (0.0, 1.0)  # a view: the prediction is ε as it is


@dataclass(frozen=True)
class Step:
    """Predict at time ``t``, then update x with ``coefficients`` (c₀ … c₄).

    ``t`` is as the network takes it: 0…1 for a flow, the index of a noising for an epsilon model, which alone has a
    ``view`` (v₀, v₁). ``kept`` predictions become history₁; a ``null`` step predicts without units and speaker.
    """

    t: float
    coefficients: Coefficients
    view: tuple[()] | tuple[float, float] = ()
    kept: bool = True
    null: bool = False


def plan(schedule: Schedule, name: str, steps: int, depth: float = 1.0, guidance: float = 1.0) -> list[Step]:
    """The steps of a sampler; ``len`` of it is the number of network evaluations.

    Args:
        depth: how far back towards noise the start lies, above 0, at most 1; ``steps`` cover what is left.
        guidance: classifier-free guidance weight; 1 is none.
    Raises:
        OptionError: no such sampler for this schedule, or a number out of range.
    """
    kind = prediction(schedule)
    samplers = SAMPLERS[kind]
    if name not in samplers:
        raise OptionError(f"there is no sampler '{name}' for {kind} models; there are {', '.join(samplers)}")
    if steps < 1:
        raise OptionError(f"a sampler takes at least one step, not {steps}")
    if not 0 < depth <= 1:
        raise OptionError(f"a depth of {depth:g} is not above 0 and at most 1, which is all noise")
    made = samplers[name](schedule, steps, depth)
    return made if guidance == 1 else guided(made, guidance, name)


def guided(made: list[Step], weight: float, name: str) -> list[Step]:
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6): weight·conditional + (1 - weight)·null, evaluated apart.

    The null prediction is made first and leaves x as it is; then both of this step and both of the step before lie
    in the history.

    Raises:
        OptionError: the weight is out of range, or the sampler looks further back than one step.
    """
    if not 0 <= weight <= STRONGEST:
        raise OptionError(f"a guidance of {weight:g} is not 0 to {STRONGEST:g}")
    if any(any(step.coefficients[3:]) or not step.kept for step in made):
        raise OptionError(f"{name} needs more history than guidance leaves it; choose a sampler of one or two steps")
    pairs = []
    for step in made:
        c0, c1, c2, _, _ = step.coefficients
        mixed = (c0, c1 * weight, c1 * (1 - weight), c2 * weight, c2 * (1 - weight))
        pairs += [replace(step, coefficients=(1, 0, 0, 0, 0), null=True), replace(step, coefficients=mixed)]
    return pairs


# rectified flow: dx/dt = v from t = 1 - depth to 1


def euler(schedule: Schedule, steps: int, depth: float) -> list[Step]:
    """x ← x + h·v, first order."""
    return [Step(t, (1, h, 0, 0, 0)) for t, h in _flow_times(steps, depth)]


def heun(schedule: Schedule, steps: int, depth: float) -> list[Step]:
    """Explicit trapezoid, two evaluations a step, second order; the last step is Euler's (Karras et al. 2022, alg. 1).

    The corrector starts from x + h·v₁ and adds h/2·(v₂ - v₁).
    """
    times = _flow_times(steps, depth)
    predictor_corrector = (
        pair for t, h in times[:-1] for pair in (Step(t, (1, h, 0, 0, 0)), Step(t + h, (1, h / 2, -h / 2, 0, 0)))
    )
    return [*predictor_corrector, Step(times[-1][0], (1, times[-1][1], 0, 0, 0))]


def ab2(schedule: Schedule, steps: int, depth: float) -> list[Step]:
    """Two-step Adams–Bashforth: x ← x + h·(3v - v₁)/2, second order with one evaluation a step; starts with Euler."""
    first, *rest = _flow_times(steps, depth)
    return [Step(first[0], (1, first[1], 0, 0, 0)), *(Step(t, (1, 1.5 * h, -0.5 * h, 0, 0)) for t, h in rest)]


def _flow_times(steps: int, depth: float) -> list[tuple[float, float]]:
    edges = np.linspace(1 - depth, 1, steps + 1)
    return [(float(t), float(h)) for t, h in zip(edges[:-1], np.diff(edges), strict=True)]


# epsilon models: from τ = depth·timesteps noisings to none

ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def ddim(schedule: LinearBeta, steps: int, depth: float) -> list[Step]:
    """DDIM without new noise (Song et al. 2021, eq. 12 with σ = 0), first order; the last step arrives at the mel."""
    return [_transfer(schedule, tau, to, (1.0,)) for tau, to in pairwise(_quadratic(schedule, steps, depth))]


def plms(schedule: LinearBeta, steps: int, depth: float) -> list[Step]:
    """Pseudo linear multistep (PNDM, Liu et al. 2022, eq. 11 and 12): DDIM on an Adams–Bashforth mean of predictions.

    The first step is DDIM's; the second and third average the two and three predictions there are. Second order.
    """
    pairs = pairwise(_quadratic(schedule, steps, depth))
    return [_transfer(schedule, tau, to, ADAMS_BASHFORTH[min(at, 3)]) for at, (tau, to) in enumerate(pairs)]


def pndm(schedule: LinearBeta, steps: int, depth: float) -> list[Step]:
    """PLMS as diff-svc runs it: even network times s·(steps - 1), …, s, 0, where s = depth·timesteps/steps.

    The first step is a pseudo improved Euler one (S-PNDM in the paper's appendix): its prediction is averaged with that
    made where it leads, which serves for nothing else. The end is at network time 0, where one noising is left.
    """
    if steps < 2:
        raise OptionError("pndm takes at least 2 steps; ddim can do with one")
    interval = depth * schedule.timesteps / steps
    (first, second), *rest = pairwise(interval * at + 1 for at in reversed(range(steps)))
    trial = _transfer(schedule, first, second, (1.0,))
    half = trial.coefficients[1] / 2
    again = Step(second - 1, (1, half, -half, 0, 0), NOISE, kept=False)
    later = (_transfer(schedule, tau, to, ADAMS_BASHFORTH[min(at, 3)]) for at, (tau, to) in enumerate(rest, 1))
    return [trial, again, *later]


def dpm(schedule: LinearBeta, steps: int, depth: float) -> list[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): an exponential integrator on the last two guesses of the mel.

    The first step knows one guess only, and the last has no finite h: both are of first order, the last gives the
    guess itself. Second order.
    """
    return [_exponential(node) for node in _nodes(schedule, steps, depth)]


def unipc(schedule: LinearBeta, steps: int, depth: float) -> list[Step]:
    """UniPC of order 2 with B₂(h) = e^h - 1 (Zhao et al. 2023, algorithms 7 and 8): third order.

    UniP-2 with its ρ = 1/2 is DPM-Solver++(2M). What UniC-2 adds to the state reached is linear in the guesses before
    and at it, which are prediction and history of the next step; so the correction costs no evaluation and is folded
    into that step's coefficients. The last state is not corrected, as in the paper.
    """
    return [_corrected(node) for node in _nodes(schedule, steps, depth)]


def _transfer(schedule: LinearBeta, tau: float, to: float, weights: tuple[float, ...]) -> Step:
    """DDIM from τ to τ' on a weighted sum of predictions: x' = α'/α·x + (σ' - α'·σ/α)·ε; equal to PNDM's eq. 11."""
    (alpha, sigma), (to_alpha, to_sigma) = schedule.mix(tau), schedule.mix(to)
    noise = to_sigma - to_alpha * sigma / alpha
    first, second, third, fourth = (noise * weight for weight in (*weights, 0, 0, 0)[:4])
    return Step(tau - 1, (to_alpha / alpha, first, second, third, fourth), NOISE)


@dataclass(frozen=True)
class _Node:
    """A step of an exponential integrator from α, σ at τ to α', σ'.

    ``h`` is the growth of λ = ln(α/σ) in this step, infinite in the last one; ``before`` has that of the steps before,
    newest first.
    """

    tau: float
    alpha: float
    sigma: float
    to_alpha: float
    to_sigma: float
    h: float
    before: tuple[float, ...]


def _nodes(schedule: LinearBeta, steps: int, depth: float) -> list[_Node]:
    taus = _quadratic(schedule, steps, depth)
    mixes = [schedule.mix(tau) for tau in taus]
    growth = np.append(np.diff([math.log(alpha / sigma) for alpha, sigma in mixes[:-1]]), np.inf).tolist()
    return [
        _Node(tau, *mixes[at], *mixes[at + 1], growth[at], tuple(growth[max(0, at - 2) : at][::-1]))
        for at, tau in enumerate(taus[:-1])
    ]


def _exponential(node: _Node) -> Step:
    """x' = σ'/σ·x + α'·(1 - e^-h)·(m + slope·(m - m₁)), where m is the guess of the mel, (x - σ·ε)/α."""
    gain = -node.to_alpha * math.expm1(-node.h)
    slope = node.h / node.before[0] / 2 if node.before and math.isfinite(node.h) else 0.0
    view = (1 / node.alpha, -node.sigma / node.alpha)
    return Step(node.tau - 1, (node.to_sigma / node.sigma, gain * (1 + slope), -gain * slope, 0, 0), view)


def _corrected(node: _Node) -> Step:
    """The step after adding α·(1 - e^-h)·(ρ₂·(m - m₁) + (ρ₁ - 1/2)·(m₂ - m₁)/r) to x, h and r being the last step's."""
    step = _exponential(node)
    if not node.before:
        return step
    c0, c1, c2, c3, c4 = step.coefficients
    h = node.before[0]
    now, back = 0.5, 0.0  # UniC-1, after the first step
    if len(node.before) > 1:
        r = -node.before[1] / h
        now_and_back = np.linalg.solve(np.array([[1, 1], [1, r]]), np.array(_moments(h)))
        now, back = float(now_and_back[0]), float(now_and_back[1] - 0.5) / r
    gain = -c0 * node.alpha * math.expm1(-h)
    return replace(step, coefficients=(c0, c1 + gain * now, c2 - gain * (now + back), c3 + gain * back, c4))


def _moments(h: float) -> tuple[float, float]:
    """Right-hand side k!·φ_{k+1}(-h)·h^k / B₂ of UniC-2's system for ρ (theorem 3.1), in powers of r instead of r·h."""
    one = math.expm1(-h)
    two = -one / h - 1
    three = -two / h - 0.5
    return two / one, 2 * three / one


def _quadratic(schedule: LinearBeta, steps: int, depth: float) -> list[float]:
    """τ that fall as squares (DDIM, appendix D.2, "quadratic"), from ``depth`` to 0.

    σ/α grows like √τ at first, so these are even there, where even times make one stride of the fine structure.
    None but the last lies below 1, since the network knows no smaller one.
    """
    start = depth * schedule.timesteps
    last = max(start / steps**2, min(1, start))
    return [*(float(root) ** 2 for root in np.linspace(math.sqrt(start), math.sqrt(last), steps)), 0.0]


SAMPLERS: dict[str, dict[str, Callable[[Any, int, float], list[Step]]]] = {
    "velocity": {"euler": euler, "heun": heun, "ab2": ab2},
    "epsilon": {"ddim": ddim, "plms": plms, "pndm": pndm, "dpm++": dpm, "unipc": unipc},
}
