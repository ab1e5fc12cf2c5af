"""Conditions of the denoiser: units, pitch, voicing, loudness and speaker as one tensor, computed once per chunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moksori.models.layers import ConvNeXtBlock, octave_features

LOUDNESS_MEAN, LOUDNESS_DEVIATION = -30.0, 15.0  # dB of full scale; brings speech and singing near unit deviation
PITCH_RATES = 6
PITCHES = ("continuous", "coarse")


@dataclass(frozen=True)
class ConditionerConfig:
    """Which conditioner, and how it hears pitch. ``channels`` 0 stands for as many as the denoiser has."""

    kind: str = "convnext"  # or "sum", diff-svc's
    channels: int = 0
    pitch: str = "continuous"  # or "coarse": a table of bins, which "sum" always has
    f0_bins: int = 256
    f0_min: float = 40.0  # Hz
    f0_max: float = 1100.0  # Hz
    shifts: bool = False  # is told by how many semitones a training target was moved (train/shift.py)


class Conditioner(nn.Module):
    """units [B,Tu,D], mel2ph [B,T], f0 [B,T] Hz, voiced [B,T], loudness [B,T] dB, speaker [B,S] -> [B, outputs, T].

    ``speaker`` holds mixing weights (a row of ones and zeros picks one). mel2ph counts units from 1; 0 is padding.
    ``shift`` [B] in semitones is for training alone; a voice sings at 0, which adds nothing.
    """

    silent: frozenset[str] = frozenset()  # inputs that change nothing

    def __init__(self, units: int, speakers: int, channels: int, outputs: int, config: ConditionerConfig) -> None:
        super().__init__()
        coarse = config.pitch == "coarse"
        self.units_in = nn.Linear(units, channels)
        self.pitch_in = nn.Linear(2 if coarse else 2 * PITCH_RATES + 3, channels)
        self.pitch_table = CoarsePitch(config, channels) if coarse else None
        self.speaker_in = nn.Linear(speakers, channels, bias=False)
        self.shift_in = nn.Linear(1, channels, bias=False) if config.shifts else None
        self.blocks = nn.ModuleList(ConvNeXtBlock(channels, 2 * channels, 5) for _ in range(2))
        self.norm = nn.LayerNorm(channels)
        self.out = nn.Linear(channels, outputs)

    def forward(
        self,
        units: Tensor,
        mel2ph: Tensor,
        f0: Tensor,
        voiced: Tensor,
        loudness: Tensor,
        speaker: Tensor,
        shift: Tensor | None = None,
    ) -> Tensor:
        spoken = stretched(self.units_in(units), mel2ph)
        features = torch.stack([voiced, (loudness - LOUDNESS_MEAN) / LOUDNESS_DEVIATION], dim=-1)
        if self.pitch_table is None:
            pitch = self.pitch_in(torch.cat([octave_features(f0, PITCH_RATES), features], dim=-1))
        else:
            pitch = self.pitch_in(features) + self.pitch_table(f0)
        x = spoken + pitch + self.speaker_in(speaker).unsqueeze(1)
        if self.shift_in is not None and shift is not None:
            x = x + self.shift_in(shift[:, None, None] / 12)
        for block in self.blocks:
            x = block(x)
        condition: Tensor = self.out(self.norm(x)).transpose(1, 2)
        return condition


class SumConditioner(nn.Module):
    """diff-svc's: units and a pitch embedding are added and each layer takes its linear map. Arguments as above.

    Frames of padding are zero before the maps. ``out`` stacks the layers' conditioner projections.
    """

    def __init__(self, units: int, speakers: int, channels: int, outputs: int, config: ConditionerConfig) -> None:
        super().__init__()
        self.units_in = nn.Linear(units, channels)
        self.pitch_table = CoarsePitch(config, channels)
        self.speaker_in = nn.Linear(speakers, channels, bias=False)
        self.out = nn.Linear(channels, outputs)

    @property
    def silent(self) -> frozenset[str]:
        nobody = not bool(self.speaker_in.weight.any())
        return frozenset({"voiced", "loudness"} | ({"speaker"} if nobody else set()))

    def forward(
        self, units: Tensor, mel2ph: Tensor, f0: Tensor, voiced: Tensor, loudness: Tensor, speaker: Tensor
    ) -> Tensor:
        x = stretched(self.units_in(units), mel2ph) + self.pitch_table(f0) + self.speaker_in(speaker).unsqueeze(1)
        condition: Tensor = self.out(x * (mel2ph > 0).unsqueeze(-1)).transpose(1, 2)
        return condition


class CoarsePitch(nn.Module):
    """f0 [B,T] in Hz -> [B,T,C], one learned row for each of ``f0_bins`` steps that are even in mel.

    m(f) = 1127·ln(1 + f/700); bin (m - m(f0_min))·(bins - 2)/(m(f0_max) - m(f0_min)) + 1, kept in 1…bins - 1, rounded.
    """

    def __init__(self, config: ConditionerConfig, channels: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(config.f0_bins, channels)
        self.bins = config.f0_bins
        self.low, high = (float(_mel(torch.tensor(hertz))) for hertz in (config.f0_min, config.f0_max))
        self.scale = (config.f0_bins - 2) / (high - self.low)

    def forward(self, f0: Tensor) -> Tensor:
        place = (_mel(f0) - self.low) * self.scale + 1
        rows: Tensor = self.rows(torch.floor(place.clamp(1, self.bins - 1) + 0.5).long())
        return rows


CONDITIONERS: dict[str, type[Conditioner] | type[SumConditioner]] = {"convnext": Conditioner, "sum": SumConditioner}


def conditioner(config: ConditionerConfig, units: int, speakers: int, channels: int, outputs: int) -> nn.Module:
    """The conditioner a config describes, for a denoiser of ``channels`` that takes ``outputs`` in all its layers."""
    made = CONDITIONERS[config.kind](units, speakers, config.channels or channels, outputs, config)
    return made


def stretched(units: Tensor, mel2ph: Tensor) -> Tensor:
    """units [B,Tu,C] at frames [B,T]; zero where mel2ph is 0."""
    padded = nn.functional.pad(units, (0, 0, 1, 0))
    return torch.gather(padded, 1, mel2ph.unsqueeze(-1).expand(-1, -1, padded.shape[-1]))


def _mel(hertz: Tensor) -> Tensor:
    return 1127 * torch.log(1 + hertz / 700)
