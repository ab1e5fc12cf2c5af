"""A denoiser: a few residual convolutions over time, about as little as can learn."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from moksori.models.conditioner import ConditionerConfig, conditioner
from moksori.models.convnext import TimeEmbedding
from moksori.train.denoiser import ARCHITECTURES


@dataclass(frozen=True)
class ResidualConfig:
    mel_bins: int = 100  # this and the next three come from the data, time_scale from the kind of model
    units: int = 128
    speakers: int = 1
    conditioner: ConditionerConfig = field(default_factory=ConditionerConfig)
    time_scale: float = 1000.0
    channels: int = 256
    layers: int = 4
    kernel: int = 5


class ResidualDenoiser(nn.Module):
    """x [B,M,T] at time t [B] under ``condition`` [B,C,T], which ``self.conditioner`` makes, -> [B,M,T]."""

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        self.config, width = config, config.channels
        self.conditioner = conditioner(config.conditioner, config.units, config.speakers, width, width)
        self.time = TimeEmbedding(width, config.time_scale)
        self.mel_in = nn.Conv1d(config.mel_bins, width, 1)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, config.kernel, padding=config.kernel // 2) for _ in range(config.layers)
        )
        self.mel_out = nn.Conv1d(width, config.mel_bins, 1)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        y = self.mel_in(x) + condition + self.time(t).unsqueeze(-1)
        for layer in self.layers:
            y = y + F.silu(layer(y))
        out: Tensor = self.mel_out(y)
        return out


ARCHITECTURES["residual"] = (ResidualConfig, ResidualDenoiser)
