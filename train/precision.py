"""In which numbers a network computes while it learns: weights are always fp32, activations as the config says."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from moksori.train.optimizers import known

P = ParamSpec("P")
R = TypeVar("R")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(name: str, device: torch.device) -> torch.autocast:
    """The context in which losses are computed; OptionError for an unknown name."""
    dtype = known("precision", name, DTYPES)
    return torch.autocast(device.type, None if dtype is torch.float32 else dtype, enabled=dtype is not torch.float32)


def scaler(name: str, device: torch.device) -> torch.amp.GradScaler:
    """Lifts fp16's small gradients off zero (Micikevicius et al. 2018); does nothing for the others."""
    return torch.amp.GradScaler(device.type, enabled=name == "fp16")


def full(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` outside autocast, its tensors as fp32: transforms, logarithms and phases need the digits."""

    @functools.wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*map(_single, args), **{name: _single(value) for name, value in kwargs.items()})  # type: ignore[arg-type]

    return outside


def _single(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
