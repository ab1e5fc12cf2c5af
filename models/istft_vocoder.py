"""Vocoder: a ConvNeXt backbone turns mel and f0 into filters for a harmonic and a noise source (iSTFT synthesis).

In the line of Vocos (Siuzdak 2023), which predicts a spectrum frame by frame instead of upsampling to samples, and of
the source-filter vocoders: the source carries pitch and phase, the network only colours it. The sources' spectra come
from outside (runtime/vocoder.py makes them with phase in float64), so nothing here is random or recurrent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moksori.models.layers import ConvNeXtBlock, octave_features


@dataclass(frozen=True)
class IstftVocoderConfig:
    mel_bins: int = 100
    n_fft: int = 1024
    channels: int = 256
    hidden: int = 640
    layers: int = 6
    kernel: int = 7
    mel_mean: float = -5.0  # brings natural-log mel near zero mean and unit deviation
    mel_deviation: float = 2.5


class IstftVocoder(nn.Module):
    """mel [B,T,M], f0 [B,T] Hz, source spectra harmonic and noise [B,T,2,K] -> spectrum [B,T,2,K], K = n_fft/2 + 1.

    The axis of 2 is real and imaginary part.
    """

    PITCH_RATES = 6

    def __init__(self, config: IstftVocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.mel_in = nn.Linear(config.mel_bins, config.channels)
        self.pitch_in = nn.Linear(2 * self.PITCH_RATES + 1, config.channels)
        self.smooth = nn.Conv1d(config.channels, config.channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.channels, config.hidden, config.kernel) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.channels)
        self.head = nn.Linear(config.channels, 3 * (config.n_fft // 2 + 1))
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, mel: Tensor, f0: Tensor, harmonic: Tensor, noise: Tensor) -> Tensor:
        harmonic_gain, phase, noise_gain = self.filters(mel, f0)
        cosine, sine = torch.cos(phase), torch.sin(phase)
        real, imaginary = harmonic[..., 0, :], harmonic[..., 1, :]
        turned = torch.stack([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-2)
        return harmonic_gain.unsqueeze(-2) * turned + noise_gain.unsqueeze(-2) * noise

    def filters(self, mel: Tensor, f0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gain and phase (radians) of the harmonic filter and gain of the noise filter, each [B, T, K]."""
        x = self.mel_in((mel - self.config.mel_mean) / self.config.mel_deviation)
        x = x + self.pitch_in(octave_features(f0, self.PITCH_RATES))
        x = self.smooth(x.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        harmonic, phase, noise = self.head(self.norm(x)).chunk(3, dim=-1)
        return torch.exp(harmonic.clamp(-12, 6) - 2), phase, torch.exp(noise.clamp(-12, 6) - 3)
