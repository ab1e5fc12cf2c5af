"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from moksori.runtime.errors import OptionError
from moksori.runtime.strict import nearest

T = TypeVar("T")
FLOOR = 0.01  # share of the learning rate that a falling schedule ends at


def optimizer(name: str, network: nn.Module, rate: float, betas: tuple[float, float], decay: float) -> Optimizer:
    """The optimizer called ``name`` over all of a network's parameters; OptionError when there is none such."""
    return known("optimizer", name, OPTIMIZERS)(network.parameters(), rate, betas, decay)


def share(name: str, step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at a step: linear warm-up, times the schedule called ``name``."""
    return min(1.0, (step + 1) / max(1, warmup)) * known("schedule", name, SCHEDULES)(min(1.0, step / steps))


def known(what: str, name: str, table: Mapping[str, T]) -> T:
    """The entry of a table; OptionError names the nearest and lists all."""
    if name not in table:
        raise OptionError(f"there is no {what} '{name}'{nearest(name, table)}; there are {', '.join(table)}")
    return table[name]


def adamw(parameters: Iterable[Tensor], rate: float, betas: tuple[float, float], decay: float) -> Optimizer:
    """Loshchilov & Hutter 2019, in one pass over each tensor: a step of a small network takes a tenth less."""
    return torch.optim.AdamW(parameters, lr=rate, betas=betas, weight_decay=decay, fused=True)


def adam(parameters: Iterable[Tensor], rate: float, betas: tuple[float, float], decay: float) -> Optimizer:
    """Kingma & Ba 2015; the decay is part of the gradient."""
    return torch.optim.Adam(parameters, lr=rate, betas=betas, weight_decay=decay)


def radam(parameters: Iterable[Tensor], rate: float, betas: tuple[float, float], decay: float) -> Optimizer:
    """Liu et al. 2020: Adam that needs no warm-up."""
    return torch.optim.RAdam(parameters, lr=rate, betas=betas, weight_decay=decay, decoupled_weight_decay=True)


def sgd(parameters: Iterable[Tensor], rate: float, betas: tuple[float, float], decay: float) -> Optimizer:
    """Gradient descent with Nesterov's momentum, the first of the betas."""
    return torch.optim.SGD(parameters, lr=rate, momentum=betas[0], weight_decay=decay, nesterov=True)


def cosine(done: float) -> float:
    """Half a cosine from 1 to FLOOR (Loshchilov & Hutter 2017) over the share of the run that is ``done``."""
    return FLOOR + (1 - FLOOR) * (0.5 + 0.5 * math.cos(math.pi * done))


def linear(done: float) -> float:
    return FLOOR + (1 - FLOOR) * (1 - done)


def constant(done: float) -> float:
    return 1.0


OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], float, tuple[float, float], float], Optimizer]] = {
    "adamw": adamw,
    "adam": adam,
    "radam": radam,
    "sgd": sgd,
}
SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": cosine, "linear": linear, "constant": constant}
