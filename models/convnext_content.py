"""The small content network that a voice can ship: ConvNeXt blocks on a log-mel spectrogram.

Every convolution ends at, or a stated few units after, the unit it makes, so that the network can follow a
microphone, and its receptive field is finite, so that audio in pieces gives the same units as the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moksori.models.layers import ConvNeXtBlock
from moksori.models.whisper import MEL_BINS, MEL_HOP, N_FFT, RATE, UNIT_HOP, slaney_filters, spectrum_basis

EDGE = (N_FFT - MEL_HOP) // 2  # samples of a window before and after its hop
FLOOR = 1e-6  # of a mel bin's power, some 20 dB below a quiet room


@dataclass(frozen=True)
class ConvNeXtContentConfig:
    units: int = 128
    channels: int = 320
    hidden: int = 1280
    layers: int = 8
    kernel: int = 11  # units
    ahead: int = 2  # units of 20 ms that are heard after the one that is made; one in each of the first layers

    @property
    def lookahead(self) -> float:
        """Seconds of audio after the end of a unit that it depends on."""
        return (self.ahead * UNIT_HOP + EDGE) / RATE

    @property
    def context(self) -> float:
        """Seconds of audio before the begin of a unit that it depends on."""
        return ((self.layers * (self.kernel - 1) - self.ahead) * UNIT_HOP + EDGE) / RATE


class ConvNeXtContent(nn.Module):
    """Audio [B, n] at 16 kHz, n a multiple of 320 -> units [B, n / 320, D]."""

    def __init__(self, config: ConvNeXtContentConfig) -> None:
        super().__init__()
        self.config = config
        self.log_mel = LogMel()
        self.mel_in = nn.Linear(2 * MEL_BINS, config.channels)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.channels, config.hidden, config.kernel, ahead=int(layer < config.ahead))
            for layer in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.channels)
        self.head = nn.Linear(config.channels, config.units)

    def forward(self, audio: Tensor) -> Tensor:
        x = self.mel_in(self.pairs(self.log_mel(audio)))
        for block in self.blocks:
            x = block(x)
        units: Tensor = self.head(self.norm(x))
        return units

    @staticmethod
    def pairs(mel: Tensor) -> Tensor:
        """Two mel frames a unit: [B, 80, 2·u] -> [B, u, 160]."""
        return mel.transpose(1, 2).unflatten(1, (-1, 2)).flatten(2)


class Remembering(nn.Module):
    """The same network, which goes on where an earlier call left off instead of hearing its past again.

    audio [B, 320·u], ``before`` [B, 120]: the samples before it; ``state`` [B, layers·(kernel - 1), C]: what each block
    heard before it; ``settled`` [1]: after how many of these units the next call begins -> units [B, u, D], the next
    call's ``state``. Zeros for both stand for nothing, as the network itself has it.

    What the last units lack is what comes after them, ``ahead`` units and a part of one: the next call should begin
    before these.
    """

    near: Tensor

    def __init__(self, network: ConvNeXtContent) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("near", torch.arange(network.config.kernel - 1), persistent=False)

    def forward(self, audio: Tensor, before: Tensor, state: Tensor, settled: Tensor) -> tuple[Tensor, Tensor]:
        net, known = self.network, []
        x = net.mel_in(net.pairs(net.log_mel(audio, before)))
        for block, past in zip(net.blocks, state.chunk(net.config.layers, dim=1), strict=True):
            known.append(torch.cat([past, x], dim=1).index_select(1, settled + self.near))
            assert isinstance(block, ConvNeXtBlock)
            x = block(x, before=past[:, block.depthwise.ahead :])
        return net.head(net.norm(x)), torch.cat(known, dim=1)


class LogMel(nn.Module):
    """[B, n] -> [B, 80, n / 160]: Whisper's windows and filters, on a scale that depends on nothing far off.

    Frame i is centred on the hop that begins at sample 160·i.
    """

    basis: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", spectrum_basis(), persistent=False)
        self.register_buffer("filters", slaney_filters(RATE, N_FFT, MEL_BINS), persistent=False)

    def forward(self, audio: Tensor, before: Tensor | None = None) -> Tensor:
        """``before`` [B, 120] are the samples before the first, else there is silence."""
        whole = F.pad(audio, (EDGE, EDGE)) if before is None else F.pad(torch.cat([before, audio], 1), (0, EDGE))
        padded = whole[:, None]
        real, imaginary = F.conv1d(padded, self.basis, stride=MEL_HOP).chunk(2, dim=1)
        mel = self.filters @ (real.square() + imaginary.square())
        return (torch.log10(mel + FLOOR) + 3) / 2
