"""Denoiser: ConvNeXt blocks over time with adaptive layer norm for the diffusion time. The default architecture."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moksori.models.conditioner import ConditionerConfig, conditioner
from moksori.models.layers import ConvNeXtBlock


@dataclass(frozen=True)
class ConvNeXtConfig:
    mel_bins: int = 100
    units: int = 128
    speakers: int = 1
    channels: int = 256
    hidden: int = 640
    layers: int = 6
    kernel: int = 9
    time_scale: float = 1000.0  # of the time embedding: 1000 for times in 0…1, 1 for indices of noisings
    conditioner: ConditionerConfig = field(default_factory=ConditionerConfig)


class ConvNeXtDenoiser(nn.Module):
    """x [B,M,T] at time t [B] under ``condition`` [B,L·C,T] -> the network's output F [B,M,T].

    ``condition`` is what ``self.conditioner`` gives: the projections of every layer, outside the loop over steps.
    """

    def __init__(self, config: ConvNeXtConfig) -> None:
        super().__init__()
        self.config = config
        self.conditioner = conditioner(
            config.conditioner, config.units, config.speakers, config.channels, config.layers * config.channels
        )
        self.mel_in = nn.Linear(config.mel_bins, config.channels)
        self.time = TimeEmbedding(config.channels, config.time_scale)
        self.modulations = nn.ModuleList(nn.Linear(config.channels, 3 * config.channels) for _ in range(config.layers))
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.channels, config.hidden, config.kernel) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.channels)
        self.mel_out = nn.Linear(config.channels, config.mel_bins)
        for layer in (*self.modulations, self.mel_out):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        time = self.time(t)
        y = self.mel_in(x.transpose(1, 2))
        conditions = condition.transpose(1, 2).chunk(self.config.layers, dim=-1)
        for block, modulation, given in zip(self.blocks, self.modulations, conditions, strict=True):
            scale, shift, gate = modulation(time).unsqueeze(1).chunk(3, dim=-1)
            y = block(y + given, (scale, shift, gate))
        out: Tensor = self.mel_out(self.norm(y)).transpose(1, 2)
        return out


class TimeEmbedding(nn.Module):
    """Time [B] -> [B, C]: sines and cosines, then a perceptron."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.waves = Waves(channels, scale)
        self.expand = nn.Linear(channels, channels)
        self.reduce = nn.Linear(channels, channels)

    def forward(self, t: Tensor) -> Tensor:
        out: Tensor = F.silu(self.reduce(F.silu(self.expand(self.waves(t)))))
        return out


class Waves(nn.Module):
    """Time [B] -> [B, C]: sines and cosines of scale·t at rates from 1 to 1/10000 (Vaswani et al. 2017)."""

    frequencies: Tensor

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        half = channels // 2
        frequencies = torch.exp(-torch.arange(half) * (torch.log(torch.tensor(10_000.0)) / (half - 1)))
        self.register_buffer("frequencies", scale * frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angles = t.unsqueeze(-1) * self.frequencies
        return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)
