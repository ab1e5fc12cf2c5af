"""Conditions of the denoiser: units, pitch, voicing, loudness and speaker as one tensor, computed once per chunk."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moksori.models.layers import ConvNeXtBlock, octave_features

LOUDNESS_MEAN, LOUDNESS_DEVIATION = -30.0, 15.0  # dB of full scale; brings speech and singing near unit deviation


class Conditioner(nn.Module):
    """units [B,Tu,D], mel2ph [B,T], f0 [B,T] Hz, voiced [B,T], loudness [B,T] dB, speaker [B,S] -> [B, outputs, T].

    ``speaker`` holds mixing weights (a row of ones and zeros picks one). mel2ph counts units from 1; 0 is padding.
    """

    PITCH_RATES = 6

    def __init__(self, units: int, speakers: int, channels: int, outputs: int, layers: int = 2) -> None:
        super().__init__()
        self.units_in = nn.Linear(units, channels)
        self.pitch_in = nn.Linear(2 * self.PITCH_RATES + 3, channels)
        self.speaker_in = nn.Linear(speakers, channels, bias=False)
        self.blocks = nn.ModuleList(ConvNeXtBlock(channels, 2 * channels, 5) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        self.out = nn.Linear(channels, outputs)

    def forward(
        self, units: Tensor, mel2ph: Tensor, f0: Tensor, voiced: Tensor, loudness: Tensor, speaker: Tensor
    ) -> Tensor:
        padded = nn.functional.pad(self.units_in(units), (0, 0, 1, 0))
        spoken = torch.gather(padded, 1, mel2ph.unsqueeze(-1).expand(-1, -1, padded.shape[-1]))
        level = (loudness - LOUDNESS_MEAN) / LOUDNESS_DEVIATION
        pitch = torch.cat([octave_features(f0, self.PITCH_RATES), torch.stack([voiced, level], dim=-1)], dim=-1)
        x = spoken + self.pitch_in(pitch) + self.speaker_in(speaker).unsqueeze(1)
        for block in self.blocks:
            x = block(x)
        condition: Tensor = self.out(self.norm(x)).transpose(1, 2)
        return condition
