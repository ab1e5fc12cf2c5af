"""What the denoiser learns: the velocity of a rectified flow, or the noise in a DDPM.

An objective is a frozen value: its schedule, how a batch is noised and what the network's output is held against.
``u`` [B] in 0…1 picks the times evenly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moksori.runtime.errors import OptionError
from moksori.runtime.samplers import Step
from moksori.runtime.schedules import LINEAR, LinearBeta, Schedule
from moksori.runtime.strict import nearest

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class ObjectiveConfig:
    """``depth`` below 1 trains only the last part of the way to the mel, for voices that begin there (--depth)."""

    name: str = "flow"  # or "ddpm"
    loss: str = "l2"  # or "l1", or "huber": l2 within one deviation, l1 beyond
    depth: float = 1.0
    timesteps: int = 1000  # of ddpm
    last_beta: float = 0.02  # of ddpm; β begins at 1e-4

    def __post_init__(self) -> None:
        for kind, known, name in (("objective", OBJECTIVES, self.name), ("loss", LOSSES, self.loss)):
            if name not in known:
                raise OptionError(f"there is no {kind} '{name}'{nearest(name, known)}; use {' or '.join(known)}")
        if not 0 < self.depth <= 1:
            raise OptionError(f"depth must be above 0 and at most 1, not {self.depth:g}")
        if self.timesteps < 1 or not 1e-4 <= self.last_beta < 1:
            raise OptionError("timesteps must be 1 or more, and last_beta from 0.0001 to below 1")


class Objective(Protocol):
    """``trivial`` is the loss without knowing anything; ``time_scale`` makes the network's times 0…1000."""

    prediction: str
    schedule: Schedule
    depth: float
    time_scale: float
    trivial: float

    def loss(self, network: Network, mel: Tensor, noise: Tensor, u: Tensor, condition: Tensor) -> Tensor:
        """Mean loss of a batch: mel and noise [B,M,T], u [B]."""

    def scaling(self, statistics: Mapping[str, Sequence[float]]) -> tuple[Array, Array]:
        """What is subtracted from a log mel and what it is then divided by, each [M], from data.json's statistics."""


def objective(config: ObjectiveConfig) -> Objective:
    """The objective a config describes."""
    return OBJECTIVES[config.name](config)


class Flow:
    """Rectified flow (Liu et al. 2022): x_t = (1 - t)·noise + t·mel, velocity v = mel - noise.

    It is preconditioned so that the network sees and gives unit variance at every t. With mel and noise of unit
    variance, Var x_t = d = t² + (1 - t)². The best linear guess of v from x_t alone is (2t - 1)/d · x_t, and its error
    has variance 1/d; as in Karras et al. 2022 (eq. 7) the network F models only that error:

        v(x_t, t) = (2t - 1)/d · x_t + F(x_t/√d, t)/√d          loss of √d·(v - (mel - noise))
    """

    prediction, time_scale = "velocity", 1000.0
    schedule: Schedule = LINEAR

    def __init__(self, config: ObjectiveConfig) -> None:
        self.depth = config.depth
        self._measure, self.trivial = LOSSES[config.loss]

    def loss(self, network: Network, mel: Tensor, noise: Tensor, u: Tensor, condition: Tensor) -> Tensor:
        t = 1 - self.depth * (1 - u)
        time = t[:, None, None]
        x = (1 - time) * noise + time * mel
        error = velocity(network, x, t, condition) - (mel - noise)
        return self._measure(torch.sqrt(time**2 + (1 - time) ** 2) * error).mean()

    def scaling(self, statistics: Mapping[str, Sequence[float]]) -> tuple[Array, Array]:
        """To mean 0 and deviation 1."""
        return np.array(statistics["mean"], np.float32), np.array(statistics["deviation"], np.float32)


class Ddpm:
    """Denoising diffusion (Ho et al. 2020): x_τ = √ᾱ·mel + √(1 - ᾱ)·ε (eq. 4), the network gives ε (eq. 14).

    Times are whole indices of noisings, as those of most models that people have. With ``depth`` below 1 they are the
    first ones only, as in DiffSinger's shallow diffusion (Liu et al. 2022).
    """

    prediction, time_scale = "epsilon", 1.0

    def __init__(self, config: ObjectiveConfig) -> None:
        self.depth = config.depth
        self._beta = LinearBeta(timesteps=config.timesteps, last=config.last_beta)
        self.schedule: Schedule = self._beta
        self._measure, self.trivial = LOSSES[config.loss]
        known = [self._beta.mix(index + 1) for index in range(max(1, round(config.depth * config.timesteps)))]
        self._mixes = torch.tensor(known, dtype=torch.float32)  # [times, α and σ]

    def loss(self, network: Network, mel: Tensor, noise: Tensor, u: Tensor, condition: Tensor) -> Tensor:
        index = (u * len(self._mixes)).long().clamp(max=len(self._mixes) - 1)
        alpha, sigma = self._mixes.to(mel)[index].T[..., None, None]
        error = epsilon(network, alpha * mel + sigma * noise, index.to(mel), condition) - noise
        return self._measure(error).mean()

    def scaling(self, statistics: Mapping[str, Sequence[float]]) -> tuple[Array, Array]:
        """``spec_min``…``spec_max`` to -1…1."""
        low, high = (np.array(statistics[name], np.float32) for name in ("spec_min", "spec_max"))
        return ((low + high) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)


def velocity(network: Network, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    """Velocity [B,M,T] of the flow at x [B,M,T] and time t [B]."""
    time = t[:, None, None]
    variance = time**2 + (1 - time) ** 2
    deviation = torch.sqrt(variance)
    return (2 * time - 1) / variance * x + network(x / deviation, t, condition) / deviation


def epsilon(network: Network, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    """Noise [B,M,T] in x [B,M,T] after noising number t [B], from 0: the network's output as it is."""
    return network(x, t, condition)


PREDICTIONS = {"velocity": velocity, "epsilon": epsilon}


def sample(
    network: Network, prediction: str, start: Tensor, condition: Tensor, plan: Sequence[Step],
    unguided: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Carry out a plan in torch: normalised mel [B,M,T] from ``start``; for a look at a network that is training.

    ``unguided`` is the condition of null steps.
    """
    x, past = start, [torch.zeros_like(start)] * 3
    for step in plan:
        t = torch.full((len(start),), step.t, device=start.device)
        heard = unguided if step.null and unguided is not None else condition
        found = PREDICTIONS[prediction](network, x, t, heard)
        looked, output = step.view or (0.0, 1.0)
        found = looked * x + output * found
        c0, c1, c2, c3, c4 = step.coefficients
        x = c0 * x + c1 * found + c2 * past[0] + c3 * past[1] + c4 * past[2]
        past = [found, *past[:2]] if step.kept else past
    return x


def _huber(error: Tensor) -> Tensor:
    return torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none")


# Each with its mean over N(0, 1), which is what it gives where nothing is known.
LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "l2": (torch.square, 1.0),
    "l1": (torch.abs, 0.7979),
    "huber": (_huber, 0.4246),
}
OBJECTIVES: dict[str, Callable[[ObjectiveConfig], Objective]] = {"flow": Flow, "ddpm": Ddpm}
