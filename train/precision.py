"""In which numbers a network computes while it learns: weights are always fp32, activations as the config says."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from moksori.train.optimizers import known

P = ParamSpec("P")
R = TypeVar("R")

AUTO = "auto"
DTYPES = {AUTO: None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BF16_UNITS = ("amx_bf16", "avx512_bf16")  # of a CPU; without them bf16 is slower than fp32


def chosen(name: str, device: torch.device) -> torch.dtype:
    """The numbers that ``name`` stands for on a device; OptionError for an unknown name."""
    dtype = known("precision", name, DTYPES)
    if dtype is not None:
        return dtype
    return torch.bfloat16 if _is_good_at_bf16(device) else torch.float32


def _is_good_at_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch tells since 2.12
    return device.type == "cpu" and any(able.get(unit, False) for unit in BF16_UNITS)


def autocast(name: str, device: torch.device) -> torch.autocast:
    """The context in which losses are computed."""
    dtype = chosen(name, device)
    return torch.autocast(device.type, None if dtype is torch.float32 else dtype, enabled=dtype is not torch.float32)


def scaler(name: str, device: torch.device) -> torch.amp.GradScaler:
    """Lifts fp16's small gradients off zero (Micikevicius et al. 2018); does nothing for the others."""
    return torch.amp.GradScaler(device.type, enabled=chosen(name, device) is torch.float16)


def full(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` outside autocast, its tensors as fp32: transforms, logarithms and phases need the digits."""

    @functools.wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*map(_single, args), **{name: _single(value) for name, value in kwargs.items()})  # type: ignore[arg-type]

    return outside


def _single(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
