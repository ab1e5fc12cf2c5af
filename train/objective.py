"""What the denoiser learns: rectified flow, preconditioned so that the network sees and gives unit variance at every t.

Rectified flow (Liu et al. 2022): x_t = (1 - t)·noise + t·mel, velocity v = mel - noise. With mel and noise of unit
variance, Var x_t = d = t² + (1 - t)². The best linear guess of v from x_t alone is (2t - 1)/d · x_t, and its error has
variance 1/d; as in Karras et al. 2022 (eq. 7) the network F models only that error:

    v(x_t, t) = (2t - 1)/d · x_t + F(x_t/√d, t)/√d          loss = d·|v - (mel - noise)|²
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor, Tensor], Tensor]


def velocity(network: Network, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    """Velocity [B,M,T] of the flow at x [B,M,T] and time t [B]."""
    time = t[:, None, None]
    variance = time**2 + (1 - time) ** 2
    deviation = torch.sqrt(variance)
    return (2 * time - 1) / variance * x + network(x / deviation, t, condition) / deviation


def flow_loss(network: Network, mel: Tensor, noise: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    """Mean weighted squared error over a batch; 1 is what the best linear guess reaches without conditions."""
    time = t[:, None, None]
    x = (1 - time) * noise + time * mel
    variance = time**2 + (1 - time) ** 2
    error = velocity(network, x, t, condition) - (mel - noise)
    return (variance * error.square()).mean()
