"""Adversary of the vocoder: convolutions over magnitude spectrograms at several resolutions (Jang et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))  # FFT size and hop in samples


class SpectrogramDiscriminator(nn.Module):
    """Audio [B, n] -> for each resolution a list of feature maps whose last one is the score map."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv2d(1, channels, (3, 9), padding=(1, 4)),
                    *(nn.Conv2d(channels, channels, (3, 9), stride=(1, 2), padding=(1, 4)) for _ in range(3)),
                    nn.Conv2d(channels, channels, 3, padding=1),
                    nn.Conv2d(channels, 1, 3, padding=1),
                ]
            )
            for _ in RESOLUTIONS
        )

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        return [self._features(stack, audio, *size) for stack, size in zip(self._stacks(), RESOLUTIONS, strict=True)]

    def _stacks(self) -> Iterator[nn.ModuleList]:
        yield from (stack for stack in self.stacks if isinstance(stack, nn.ModuleList))

    def _features(self, stack: Iterable[nn.Module], audio: Tensor, n_fft: int, hop: int) -> list[Tensor]:
        window = torch.hann_window(n_fft, device=audio.device)
        magnitude = torch.stft(audio, n_fft, hop, window=window, return_complex=True).abs()
        x, features = magnitude.transpose(1, 2).unsqueeze(1), []
        *hidden, last = stack
        for layer in hidden:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        return [*features, last(x)]
