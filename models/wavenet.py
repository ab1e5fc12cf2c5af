"""Denoiser: the non-causal gated WaveNet of DiffWave (Kong et al. 2021), its conditions hoisted out of the loop.

With channels 384, layers 20, time_scale 1 and the conditioner {kind: sum, channels: 256} it is the network of diff-svc.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moksori.models.conditioner import ConditionerConfig, conditioner
from moksori.models.convnext import Waves


@dataclass(frozen=True)
class WaveNetConfig:
    mel_bins: int = 100
    units: int = 128
    speakers: int = 1
    channels: int = 256
    layers: int = 10
    dilation_cycle: int = 4
    time_scale: float = 1000.0  # of the time embedding: 1000 for times in 0…1, 1 for indices of noisings
    conditioner: ConditionerConfig = field(default_factory=ConditionerConfig)


class WaveNetDenoiser(nn.Module):
    """x [B,M,T] at time t [B] under ``condition`` [B,L·2C,T] -> the network's output F [B,M,T]."""

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        self.conditioner = conditioner(
            config.conditioner, config.units, config.speakers, config.channels, config.layers * 2 * config.channels
        )
        self.input_projection = nn.Conv1d(config.mel_bins, config.channels, 1)
        self.time = nn.Sequential(
            Waves(config.channels, config.time_scale),
            nn.Linear(config.channels, 4 * config.channels),
            Mish(),
            nn.Linear(4 * config.channels, config.channels),
        )
        self.layers = nn.ModuleList(
            ResidualLayer(config.channels, 2 ** (index % config.dilation_cycle)) for index in range(config.layers)
        )
        self.skip_projection = nn.Conv1d(config.channels, config.channels, 1)
        self.output_projection = nn.Conv1d(config.channels, config.mel_bins, 1)
        nn.init.zeros_(self.output_projection.weight)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        time = self.time(t)
        y = F.relu(self.input_projection(x))
        skips = torch.zeros_like(y)
        for layer, given in zip(self.layers, condition.chunk(self.config.layers, dim=1), strict=True):
            y, skip = layer(y, time, given)
            skips = skips + skip
        out: Tensor = self.output_projection(F.relu(self.skip_projection(skips / math.sqrt(self.config.layers))))
        return out


class Mish(nn.Module):
    """x·tanh(ln(1 + e^x)) (Misra 2019), written out because DirectML has no kernel for it in one."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tanh(F.softplus(x))


class ResidualLayer(nn.Module):
    """Dilated convolution, gated by its other half; returns the residual stream and a skip, both [B, C, T]."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.diffusion_projection = nn.Linear(channels, channels)
        self.dilated_conv = nn.Conv1d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.output_projection = nn.Conv1d(channels, 2 * channels, 1)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        y = x + self.diffusion_projection(time).unsqueeze(-1)
        gate, value = (self.dilated_conv(y) + condition).chunk(2, dim=1)
        residual, skip = self.output_projection(torch.sigmoid(gate) * torch.tanh(value)).chunk(2, dim=1)
        return (x + residual) / math.sqrt(2), skip
