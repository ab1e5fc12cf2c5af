"""Samplers of epsilon models: against each method written out as its paper has it, and against a closed form.

The closed form: data N(mu, s²) under the noise schedule. A state of quantile z is α·mu + √(α²s² + σ²)·z at every time,
and the exact ε at x is σ·(x - α·mu) / (α²s² + σ²).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from moksori.benchmarks import samplers as benchmark
from moksori.runtime import samplers, schedules
from moksori.runtime.errors import OptionError
from moksori.runtime.samplers import Step
from moksori.runtime.schedules import LinearBeta

SCHEDULE = LinearBeta(timesteps=1000, first=1e-4, last=0.02)
MU, DEVIATION, START = 0.3, 0.4, 0.8
ORDERS = {"ddim": 1, "plms": 2, "pndm": 2, "dpm++": 2, "unipc": 3}
BETAS = np.array([1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)])
NOISINGS, LOG_BARS = np.arange(1001), np.log(np.concatenate([[1.0], np.cumprod(1 - BETAS)]))
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)
Array = np.ndarray
Epsilon = Callable[[Array, float], Array]


def mix(t: float) -> tuple[float, float]:
    """α and σ at network time t, from the running product of DDPM; between the integers ln α is linear."""
    bar = np.exp(np.interp(t + 1, NOISINGS, LOG_BARS))
    return float(np.sqrt(bar)), float(np.sqrt(1 - bar))


def epsilon(x: Array, t: float) -> Array:
    alpha, sigma = mix(t)
    return sigma * (x - alpha * MU) / ((alpha * DEVIATION) ** 2 + sigma**2)


def exact(x: float, t: float, to: float) -> float:
    (alpha, sigma), (to_alpha, to_sigma) = mix(t), mix(to)
    z = (x - alpha * MU) / np.hypot(alpha * DEVIATION, sigma)
    return float(to_alpha * MU + np.hypot(to_alpha * DEVIATION, to_sigma) * z)


def wild(x: Array, t: float) -> Array:
    """No Gaussian's ε and not linear, so that nothing cancels."""
    return np.tanh(1.3 * x + t / 700) + 0.2 * np.cos(5 * x)


def carried_out(plan: list[Step], x: Array, field: Epsilon = epsilon, null: Epsilon = epsilon) -> Array:
    past = [np.zeros_like(x)] * 3
    for step in plan:
        looked, output = step.view or (0.0, 1.0)
        prediction = looked * x + output * (null if step.null else field)(x, step.t)
        x = np.tensordot(step.coefficients, [x, prediction, *past], 1)
        past = [prediction, *past[:2]] if step.kept else past
    return x


# the methods, as their papers have them


def quadratic(steps: int, depth: float) -> list[float]:
    """Network times: √(t + 1) is even; but the last, -1, none is below 0."""
    start = 1000 * depth
    last = max(1, start / steps**2)
    return [float(u**2 - 1) for u in np.linspace(start**0.5, last**0.5, steps)] + [-1.0]


def moved(x: Array, noise: Array, t: float, to: float) -> Array:
    """DDIM eq. 12 with σ = 0: predicted x₀, and noise pointing to x_t."""
    (alpha, sigma), (to_alpha, to_sigma) = mix(t), mix(to)
    return to_alpha * (x - sigma * noise) / alpha + to_sigma * noise


def text_ddim(x: Array, steps: int, depth: float) -> Array:
    times = quadratic(steps, depth)
    for t, to in pairwise(times):
        x = moved(x, wild(x, t), t, to)
    return x


def text_plms(x: Array, steps: int, depth: float) -> Array:
    times, e = quadratic(steps, depth), []
    for t, to in pairwise(times):
        e.append(wild(x, t))
        x = moved(x, multistep(e), t, to)
    return x


def multistep(e: list[Array]) -> Array:
    if len(e) == 1:
        return e[-1]
    if len(e) == 2:
        return (3 * e[-1] - e[-2]) / 2
    if len(e) == 3:
        return (23 * e[-1] - 16 * e[-2] + 5 * e[-3]) / 12
    return (55 * e[-1] - 59 * e[-2] + 37 * e[-3] - 9 * e[-4]) / 24


def text_pndm(x: Array, steps: int, depth: float) -> Array:
    """With the transfer in terms of ᾱ as PNDM's eq. 11 and diff-svc have it; step s of ``steps`` even ones."""

    def transfer(x: Array, noise: Array, t: float, to: float) -> Array:
        a, b = mix(t)[0] ** 2, mix(to)[0] ** 2
        root, goal = np.sqrt(a), np.sqrt(b)
        by_x = 1 / (root * (root + goal))
        by_noise = 1 / (root * (np.sqrt((1 - b) * a) + np.sqrt((1 - a) * b)))
        return x + (b - a) * (by_x * x - by_noise * noise)

    s = 1000 * depth / steps
    e: list[Array] = []
    for k in range(steps - 1, 0, -1):
        t, to = k * s, (k - 1) * s
        e.append(wild(x, t))
        mean = multistep(e)
        if len(e) == 1:
            mean = (e[0] + wild(transfer(x, e[0], t, to), to)) / 2
        x = transfer(x, mean, t, to)
    return x


def log_snr(t: float) -> float:
    alpha, sigma = mix(t)
    return float(np.log(alpha / sigma))


def guess(x: Array, t: float) -> Array:
    alpha, sigma = mix(t)
    return (x - sigma * wild(x, t)) / alpha


def text_dpm(x: Array, steps: int, depth: float) -> Array:
    """Algorithm 2 of DPM-Solver++, then x₀ as guessed at the last time."""
    times = quadratic(steps, depth)[:-1]
    lam = [log_snr(t) for t in times]
    m = [guess(x, times[0])]
    for i in range(1, len(times)):
        h = lam[i] - lam[i - 1]
        d = m[-1]
        if i > 1:
            r = (lam[i - 1] - lam[i - 2]) / h
            d = (1 + 1 / (2 * r)) * m[-1] - 1 / (2 * r) * m[-2]
        (_, before), (alpha, sigma) = mix(times[i - 1]), mix(times[i])
        x = sigma / before * x - alpha * (np.exp(-h) - 1) * d
        m.append(guess(x, times[i]))
    return m[-1]


def text_unipc(x: Array, steps: int, depth: float) -> Array:
    """Predict, evaluate, correct: both states kept, ρ by a linear solver, φ by their sums (UniPC, eq. 3 to 9, B₂)."""
    times = quadratic(steps, depth)[:-1]
    lam = [log_snr(t) for t in times]
    m = [guess(x, times[0])]
    for i in range(1, len(times)):
        h = lam[i] - lam[i - 1]
        (_, before), (alpha, sigma) = mix(times[i - 1]), mix(times[i])
        b = np.expm1(-h)
        start = sigma / before * x - alpha * b * m[-1]
        ratios = [(lam[i - 2] - lam[i - 1]) / h] if i > 1 else []
        differences = [(m[-2] - m[-1]) / ratios[0]] if i > 1 else []
        predicted = start - alpha * b * sum(0.5 * d for d in differences)
        m.append(guess(predicted, times[i]))
        ratios, differences = [*ratios, 1.0], [*differences, m[-1] - m[-2]]
        if i == 1:
            rho = np.array([0.5])
        else:
            matrix = np.array([[r**k for r in ratios] for k in range(2)])
            rho = np.linalg.solve(matrix, [moment(k, -h) / b for k in (1, 2)])
        x = start - alpha * b * sum(p * d for p, d in zip(rho, differences, strict=True))
    return m[-1]


def moment(k: int, z: float) -> float:
    """z·∫₀¹ e^{(1-r)z} r^k dr by quadrature: what a polynomial r^k of the guess adds to a step."""
    r = (NODES + 1) / 2
    return float(z * np.sum(WEIGHTS / 2 * np.exp((1 - r) * z) * r**k))


TEXTBOOK = {"ddim": text_ddim, "plms": text_plms, "pndm": text_pndm, "dpm++": text_dpm, "unipc": text_unipc}


@pytest.mark.parametrize("depth", [1.0, 0.3])
@pytest.mark.parametrize("steps", [2, 3, 4, 7, 20, 50])
@pytest.mark.parametrize("name", TEXTBOOK)
def test_a_plan_is_its_papers_method(name: str, steps: int, depth: float) -> None:
    x = np.random.default_rng(0).standard_normal(20)
    wanted = TEXTBOOK[name](x, steps, depth)
    found = carried_out(samplers.plan(SCHEDULE, name, steps, depth), x, wild)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_what_is_tested_is_all_there_is() -> None:
    assert set(samplers.SAMPLERS["epsilon"]) == set(ORDERS) == set(TEXTBOOK)


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_convergence(name: str) -> None:
    """Of all steps but the last: its error from within one noising of the end does not fall with their number."""
    errors = []
    for steps in (80, 160, 320):
        plan = samplers.plan(SCHEDULE, name, steps)
        found = carried_out(plan[:-1], np.array([START]))[0]
        errors.append(abs(found - exact(START, plan[0].t, plan[-1].t)))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    if name == "pndm":  # even times, and an end that moves with them: between 2 and 3 here
        assert 1.7 < np.log2(errors[0] / errors[2]) / 2 < 3.2
    else:
        assert orders == pytest.approx(ORDERS[name], abs=0.15)
    assert errors[0] < (0.03 if ORDERS[name] == 1 else 1e-3)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("depth", [0.1, 0.6, 1.0])
def test_it_arrives_at_the_data(name: str, depth: float) -> None:
    """From a state at ``depth`` to the mel of its quantile; pndm stops one noising short of it."""
    plan = samplers.plan(SCHEDULE, name, 60, depth)
    x = exact(START, 999, plan[0].t)
    wanted = exact(x, plan[0].t, 0 if name == "pndm" else -1)
    assert carried_out(plan, np.array([x]))[0] == pytest.approx(wanted, abs=0.01 if name == "ddim" else 1e-3)


@pytest.mark.parametrize("name", ORDERS)
def test_times_are_those_the_network_knows(name: str) -> None:
    for steps in (2, 5, 31, 32, 200, 1000):
        times = [step.t for step in samplers.plan(SCHEDULE, name, steps)]
        assert len(times) == steps
        assert all(0 <= t <= 999 for t in times)
        assert times == sorted(times, reverse=True)
    assert all(step.t == int(step.t) for step in samplers.plan(SCHEDULE, "pndm", 100))


def test_pndm_runs_at_diff_svcs_times() -> None:
    """Interval 10: 990 and then, for the first step, 980; 980, 970, … 10. The step at 0 would change nothing."""
    assert [step.t for step in samplers.plan(SCHEDULE, "pndm", 100)] == [990, 980, *range(980, 0, -10)]


@pytest.mark.parametrize("name", ["ddim", "dpm++"])
def test_guidance_is_a_sampler_on_the_mixed_epsilon(name: str) -> None:
    x = np.random.default_rng(1).standard_normal(9)
    guided = samplers.plan(SCHEDULE, name, 8, guidance=2.5)
    found = carried_out(guided, x, wild, epsilon)
    wanted = carried_out(samplers.plan(SCHEDULE, name, 8), x, lambda x, t: 2.5 * wild(x, t) - 1.5 * epsilon(x, t))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.parametrize("name", ["plms", "pndm", "unipc"])
def test_guidance_needs_its_place_in_the_history(name: str) -> None:
    with pytest.raises(OptionError, match=rf"{name.replace('+', '.')} needs more history than guidance leaves it"):
        samplers.plan(SCHEDULE, name, 8, guidance=2.0)


def test_one_step_is_the_networks_guess_of_the_mel() -> None:
    x = np.linspace(-2, 2, 5)
    for name in ("ddim", "plms", "dpm++", "unipc"):
        np.testing.assert_allclose(carried_out(samplers.plan(SCHEDULE, name, 1), x, wild), guess(x, 999), rtol=1e-9)
    with pytest.raises(OptionError, match="pndm takes at least 2 steps"):
        samplers.plan(SCHEDULE, "pndm", 1)


# the schedule


def test_the_schedule_is_ddpms() -> None:
    for tau in (0, 1, 2, 500, 999, 1000, 0.5, 333.3):
        np.testing.assert_allclose(SCHEDULE.mix(tau), mix(tau - 1), rtol=1e-9, atol=1e-12)
    assert SCHEDULE.mix(0) == (1, 0)
    assert SCHEDULE.mix(1) == pytest.approx((np.sqrt(1 - 1e-4), 1e-2))


def test_a_start_is_mixed_as_the_schedule_has_it() -> None:
    assert schedules.mix("linear", 0.25) == (0.75, 0.25)
    assert schedules.mix(SCHEDULE, 0.25) == SCHEDULE.mix(250)


def test_the_tables_in_the_docs_are_the_benchmarks() -> None:
    text = (Path(__file__).parent.parent / "docs" / "samplers.md").read_text(encoding="utf-8")
    for schedule in (schedules.LINEAR, LinearBeta(last=0.02)):
        assert benchmark.table(schedule) in text
