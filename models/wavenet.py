"""Denoiser: the non-causal gated WaveNet of DiffWave (Kong et al. 2021), its conditions hoisted out of the loop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moksori.models.conditioner import Conditioner
from moksori.models.convnext import TimeEmbedding


@dataclass(frozen=True)
class WaveNetConfig:
    mel_bins: int = 100
    units: int = 128
    speakers: int = 1
    channels: int = 256
    layers: int = 10
    dilation_cycle: int = 4


class WaveNetDenoiser(nn.Module):
    """x [B,M,T] at time t [B] under ``condition`` [B,L·2C,T] -> the network's output F [B,M,T]."""

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        self.conditioner = Conditioner(
            config.units, config.speakers, config.channels, config.layers * 2 * config.channels
        )
        self.input_projection = nn.Conv1d(config.mel_bins, config.channels, 1)
        self.time = TimeEmbedding(config.channels)
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
