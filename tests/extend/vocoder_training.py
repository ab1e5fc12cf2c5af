"""The network of vocoder.py, and how it sounds while it learns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moksori.runtime.mel import MelSpec
from moksori.train.synthesis import ARCHITECTURES, Architecture


@dataclass(frozen=True)
class HarmonicConfig:
    mel_bins: int = 100
    harmonics: int = 60
    hidden: int = 256


class HarmonicVocoder(nn.Module):
    """Log mel [B,T,M] and f0 [B,T] in Hz -> how loud each multiple of f0 is, [B,T,H]."""

    def __init__(self, config: HarmonicConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Linear(config.mel_bins + 1, config.hidden)
        self.out = nn.Linear(config.hidden, config.harmonics)

    def forward(self, mel: Tensor, f0: Tensor) -> Tensor:
        octaves = torch.log2(f0.clamp(min=1)).unsqueeze(-1) - 8
        out: Tensor = torch.exp(self.out(F.silu(self.hidden(torch.cat([mel / 5 + 1, octaves], -1)))) - 5)
        return out


def synthesise(network: nn.Module, batch: dict[str, Tensor], spec: MelSpec) -> Tensor:
    """HarmonicSynthesizer's sines in torch: audio [B, T·hop]."""
    f0, levels = batch["f0"], network(batch["mel"], batch["f0"])
    numbers = torch.arange(1, levels.shape[-1] + 1, device=f0.device)
    levels = levels * (f0.unsqueeze(-1) * numbers < spec.sample_rate / 2)
    before = F.pad(levels, (0, 0, 1, 0))[:, :-1]
    fade = torch.arange(1, spec.hop + 1, device=f0.device).view(-1, 1) / spec.hop
    level = before.unsqueeze(2) * (1 - fade) + levels.unsqueeze(2) * fade  # [B, T, hop, H]
    phase = (f0.double().repeat_interleave(spec.hop, 1) / spec.sample_rate).cumsum(1) % 1
    sines = torch.sin(2 * math.pi * phase.float().unsqueeze(-1) * numbers)
    return (level.flatten(1, 2) * sines).sum(-1)


ARCHITECTURES["harmonic"] = Architecture(
    HarmonicConfig(),
    HarmonicVocoder,
    widths=lambda spec: {"mel_bins": spec.bins},
    excitation=lambda crop, spec, seed, config: {},  # nothing beside mel and f0
    synthesise=synthesise,
)
