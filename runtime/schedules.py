"""How signal and noise mix at each time: the straight line of rectified flow, and the noise schedule of DDPM."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LINEAR = "linear"  # rectified flow (Liu et al. 2022): x = (1 - t)·noise + t·mel, and t is the network's time


@dataclass(frozen=True)
class LinearBeta:
    """β rises linearly from ``first`` to ``last`` over ``timesteps`` noisings (Ho et al. 2020, section 4).

    After τ of them x = α·mel + σ·noise with α² = ᾱ = ∏ (1 - β) and σ² = 1 - ᾱ. At τ = 0 there is no noise. The
    network's time is τ - 1, so that its first is 0.
    """

    kind: str = "linear_beta"
    timesteps: int = 1000
    first: float = 1e-4
    last: float = 0.02

    def log_alpha(self, tau: float) -> float:
        """ln α after ``tau`` noisings, 0…timesteps; linear in between (DPM-Solver, Lu et al. 2022, appendix D.2)."""
        table = _log_alphas(self)
        return float(np.interp(tau, np.arange(len(table)), table))

    def mix(self, tau: float) -> tuple[float, float]:
        """α and σ after ``tau`` noisings."""
        log_alpha = self.log_alpha(tau)
        return float(np.exp(log_alpha)), float(np.sqrt(-np.expm1(2 * log_alpha)))


Schedule = str | LinearBeta  # LINEAR or the schedule of an epsilon model


def prediction(schedule: Schedule) -> str:
    """What models of this schedule predict."""
    return "epsilon" if isinstance(schedule, LinearBeta) else "velocity"


def mix(schedule: Schedule, depth: float) -> tuple[float, float]:
    """Weights of mel and noise in a state that has ``depth`` (0…1) of the way back to noise behind it."""
    return schedule.mix(depth * schedule.timesteps) if isinstance(schedule, LinearBeta) else (1 - depth, depth)


@lru_cache(maxsize=8)
def _log_alphas(schedule: LinearBeta) -> NDArray[np.float64]:
    betas = np.linspace(schedule.first, schedule.last, schedule.timesteps)
    return np.concatenate([[0.0], 0.5 * np.cumsum(np.log1p(-betas))])
