"""How far a network looks to each side, found by following gradients instead of adding up kernels by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from moksori.export.spec import ExportError


class LooksFurther(ExportError):
    """A network's reach is longer than the example that it was looked for in."""


def reach(function: Callable[[Tensor], Tensor], example: Tensor, axis_in: int, axis_out: int) -> int:
    """Frames of input, to either side of an output frame, that can change it.

    The gradient of one output frame in the middle is followed back to the input; frames where it is exactly
    zero cannot matter. Pass functions of float64 tensors, in which small weights do not vanish.

    Args:
        function: from a tensor with time on ``axis_in`` to one of as many frames on ``axis_out``.
    Raises:
        LooksFurther: the reach is at least half of the example, so that it was not seen whole.
        ExportError: there are not as many frames out as in.
    """
    x = example.detach().clone().requires_grad_()
    output = function(x)
    frames, middle = x.shape[axis_in], x.shape[axis_in] // 2
    if output.shape[axis_out] != frames:
        raise ExportError(f"reach needs as many frames out ({output.shape[axis_out]}) as in ({frames})")
    centre = output.select(axis_out, middle)
    weights = torch.randn(centre.shape, generator=torch.Generator().manual_seed(0), dtype=centre.dtype)
    (gradient,) = torch.autograd.grad((centre * weights).sum(), x)
    touched = gradient.abs().movedim(axis_in, 0).flatten(1).sum(1).nonzero().flatten()
    if not len(touched):
        return 0
    left, right = middle - int(touched[0]), int(touched[-1]) - middle
    if left >= middle or right >= frames - 1 - middle:
        raise LooksFurther(f"a network looks further than the {middle} frames that were tried")
    return max(left, right)
