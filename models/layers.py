"""Pieces shared by the ConvNeXt networks. Tensors are [B, T, C]: time in the middle, channels last."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer perceptron over channels (Liu et al. 2022, in one dimension).

    ``scale``, ``shift`` and ``gate`` [B, 1, C] modulate it from outside (adaptive layer norm, Peebles & Xie 2023).
    """

    def __init__(self, channels: int, hidden: int, kernel: int, ahead: int | None = None) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv(channels, kernel, ahead)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.reduce = nn.Linear(hidden, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 0.1))

    def forward(
        self, x: Tensor, modulation: tuple[Tensor, Tensor, Tensor] | None = None, before: Tensor | None = None
    ) -> Tensor:
        y = self.norm(self.depthwise(x, before))
        if modulation is not None:
            scale, shift, gate = modulation
            y = y * (1 + scale) + shift
            return x + (1 + gate) * self.gamma * self.reduce(F.gelu(self.expand(y)))
        return x + self.gamma * self.reduce(F.gelu(self.expand(y)))


class DepthwiseConv(nn.Module):
    """One filter of odd length per channel over time, zeros beyond the ends: [B, T, C] -> [B, T, C].

    Of its taps ``ahead`` lie after the frame that is made, half of them if nothing is said. The frames ``before``,
    [B, length - 1 - ahead, C], take the place of the zeros before the first.
    """

    def __init__(self, channels: int, kernel: int, ahead: int | None = None) -> None:
        super().__init__()
        self.channels, self.kernel = channels, kernel
        self.ahead = kernel // 2 if ahead is None else ahead
        self.weight = nn.Parameter(torch.randn(channels, 1, kernel) / kernel**0.5)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # there its gradient takes twice as long in bf16
            with torch.autocast("cpu", enabled=False):
                return self._convolved(x.float(), None if before is None else before.float())
        return self._convolved(x, before)

    def _convolved(self, x: Tensor, before: Tensor | None) -> Tensor:
        # as a 2-D convolution over a channels-last view it trains almost three times faster on a CPU than conv1d
        image = (x if before is None else torch.cat([before, x], dim=1)).transpose(1, 2).unsqueeze(2)
        even = before is None and 2 * self.ahead + 1 == self.kernel
        if not even:
            image = F.pad(image, (self.kernel - 1 - self.ahead if before is None else 0, self.ahead))
        padding = (0, self.ahead if even else 0)
        y = F.conv2d(image, self.weight.unsqueeze(2), self.bias, padding=padding, groups=self.channels)
        return y.squeeze(2).transpose(1, 2)


def log_f0(f0: Tensor) -> Tensor:
    """f0 in Hz -> octaves from 220 Hz, clamped to 20…2560 Hz; keeps the shape."""
    return torch.log2(f0.clamp(20, 2560) / 220)


def octave_features(f0: Tensor, count: int) -> Tensor:
    """Smooth embedding of f0 [...] in Hz: sines and cosines of the octave at ``count`` rates, [..., 2·count + 1]."""
    octave = log_f0(f0).unsqueeze(-1)
    angles = octave * torch.pi * 2.0 ** torch.arange(-2, count - 2, device=f0.device)
    return torch.cat([octave, torch.sin(angles), torch.cos(angles)], dim=-1)
