"""The encoder of Whisper (Radford et al. 2022) as a content network: 16 kHz audio in, one unit per 20 ms out.

Parameter names are those of the ``transformers`` WhisperEncoder, so published folders load by name. Unlike the
original it accepts any length up to 30 s and computes the log-mel spectrogram inside the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATE = 16_000  # Hz
N_FFT = 400  # samples, 25 ms
MEL_HOP = 160  # samples, 10 ms
UNIT_HOP = 320  # samples, 20 ms: the second convolution halves the mel frames
MEL_BINS = 80
MAX_UNITS = 1500  # 30 s of position encodings


@dataclass(frozen=True)
class WhisperConfig:
    width: int = 512
    layers: int = 6
    heads: int = 8


class WhisperContent(nn.Module):
    """Audio [B, n] at 16 kHz, n a multiple of 320 and at most 30 s -> units [B, n / 320, width]."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.log_mel = WhisperLogMel()
        self.conv1 = nn.Conv1d(MEL_BINS, config.width, 3, padding=1)
        self.conv2 = nn.Conv1d(config.width, config.width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(MAX_UNITS, config.width)
        self.layers = nn.ModuleList(EncoderLayer(config.width, config.heads) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(config.width)

    def forward(self, audio: Tensor) -> Tensor:
        mel = self.log_mel(audio)
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]]
        for layer in self.layers:
            x = layer(x)
        units: Tensor = self.layer_norm(x)
        return units


class WhisperLogMel(nn.Module):
    """Whisper's own features: [B, n] -> [B, 80, n // 160], log10 power clamped to 80 dB below the loudest bin."""

    basis: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", spectrum_basis(), persistent=False)
        self.register_buffer("filters", slaney_filters(RATE, N_FFT, MEL_BINS), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        padded = F.pad(audio[:, None], (N_FFT // 2, N_FFT // 2), mode="reflect")
        real, imaginary = F.conv1d(padded, self.basis, stride=MEL_HOP)[..., :-1].chunk(2, dim=1)
        mel = self.filters @ (real.square() + imaginary.square())
        log = torch.log10(mel.clamp(min=1e-10))
        return (torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer; attention is written out so that it exports to plain operators."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
        mixed: Tensor = self.out_proj((weights @ v).transpose(1, 2).flatten(2))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def spectrum_basis() -> Tensor:
    """Filters [2·201, 1, 400] of a convolution that gives the real, then the imaginary parts under Hann's window."""
    time = torch.arange(N_FFT, dtype=torch.float64)
    angle = 2 * math.pi * torch.outer(torch.arange(N_FFT // 2 + 1, dtype=torch.float64), time) / N_FFT
    window = torch.hann_window(N_FFT, periodic=True, dtype=torch.float64)
    basis = torch.cat([torch.cos(angle), -torch.sin(angle)]) * window
    return basis[:, None].float()


def slaney_filters(rate: int, n_fft: int, bins: int) -> Tensor:
    """Slaney mel filters from 0 Hz to half the rate, [bins, n_fft/2 + 1]."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(n_fft // 2 + 1, bins, 0.0, rate / 2, rate, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(filters.T).float().contiguous()
