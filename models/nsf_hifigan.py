"""NSF-HiFiGAN: a sum of sines at f0 is upsampled along with the mel and shaped into a waveform.

HiFi-GAN's generator (Kong et al. 2020, fig. 1) with the source of neural source-filter models (Wang et al. 2019, eq. 2)
added after each upsampling. The parameters are named as in the checkpoints that openvpi publishes, so that those load
by name. Phase and noise come from outside (runtime/nsf_vocoder.py), so nothing here is random or recurrent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

HARMONICS = 9  # the fundamental and eight overtones
AMPLITUDE = 0.1  # of each sine
VOICED_NOISE, UNVOICED_NOISE = 0.003, AMPLITUDE / 3  # deviations
SLOPE = 0.1  # of the leaky rectifiers, all but the last
MINI_STAGE = 1  # the stage after which the mini kind adds its source
GOLDEN = 0.6180339887498949  # its multiples spread the overtones' start phases evenly


@dataclass(frozen=True)
class NsfHifiGanConfig:
    """The defaults are the published network for 44.1 kHz. ``mini``: one sine, added once, at an inner rate."""

    mel_bins: int = 128
    sample_rate: int = 44_100
    rates: tuple[int, ...] = (8, 8, 2, 2, 2)  # of upsampling; their product is the hop
    kernels: tuple[int, ...] = (16, 16, 4, 4, 4)
    channels: int = 512
    resblock: str = "1"
    resblock_kernels: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    mini: bool = False

    @property
    def hop(self) -> int:
        return math.prod(self.rates)

    @property
    def source_hop(self) -> int:
        """Samples of the source in a mel frame."""
        return math.prod(self.rates[: MINI_STAGE + 1]) if self.mini else self.hop


class NsfHifiGan(nn.Module):
    """mel [B, T, M], f0 [B, T] Hz, phase [B, T] cycles, noise [B, T, hop] -> waveform [B, T·hop].

    f0 is 0 where nothing is sung; ``phase`` is the sine's at the begin of each frame; the mini kind takes no noise.
    """

    def __init__(self, config: NsfHifiGanConfig) -> None:
        super().__init__()
        problem = next(problems(config), None)
        if problem:
            raise ValueError(problem)
        self.config = config
        self.conv_pre = weight_norm(nn.Conv1d(config.mel_bins, config.channels, 7, padding=3))
        self.ups, self.resblocks, self.noise_convs = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        kind = RESBLOCKS[config.resblock]
        for stage, (rate, kernel) in enumerate(zip(config.rates, config.kernels, strict=True)):
            wide, narrow = config.channels >> stage, config.channels >> (stage + 1)
            up = nn.ConvTranspose1d(wide, narrow, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(up))
            if not config.mini:
                self.noise_convs.append(_source_conv(narrow, math.prod(config.rates[stage + 1 :])))
            for size, dilations in zip(config.resblock_kernels, config.resblock_dilations, strict=True):
                self.resblocks.append(kind(narrow, size, dilations))
        if config.mini:
            self.source_conv = nn.Conv1d(1, config.channels >> (MINI_STAGE + 1), 1)
        self.conv_post = weight_norm(nn.Conv1d(config.channels >> len(config.rates), 1, 7, padding=3))
        self.m_source = SineSource(config) if config.mini else HarmonicSource(config)
        self.register_load_state_dict_pre_hook(_accept_published_names)

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("mel", "f0", "phase") if self.config.mini else ("mel", "f0", "phase", "noise")

    def forward(self, mel: Tensor, f0: Tensor, phase: Tensor, noise: Tensor | None = None) -> Tensor:
        source = self.m_source(f0, phase, noise).unsqueeze(1)
        x = self.conv_pre(mel.transpose(1, 2))
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            if not self.config.mini:
                x = x + self.noise_convs[stage](source)
            elif stage == MINI_STAGE:
                x = x + self.source_conv(source)
            x = self._blend(x, stage)
        return torch.tanh(self.conv_post(F.leaky_relu(x))).squeeze(1)

    def _blend(self, x: Tensor, stage: int) -> Tensor:
        """Mean of the stage's residual blocks, which see differently far."""
        count = len(self.config.resblock_kernels)
        total = self.resblocks[stage * count](x)
        for block in list(self.resblocks)[stage * count + 1 : (stage + 1) * count]:
            total = total + block(x)
        return total / count


class HarmonicSource(nn.Module):
    """Nine sines and noise, merged into one signal: tanh(Σ wₖ sinₖ + b + noise), [B, T·hop].

    Gaussian noise of deviation σ on each sine, merged with weights w, is Gaussian of deviation σ·|w|: one channel does.
    f0 is held through a frame. The overtones' start phases are fixed, since one set is as good as another.
    """

    harmonics: Tensor
    offsets: Tensor
    steps: Tensor

    def __init__(self, config: NsfHifiGanConfig) -> None:
        super().__init__()
        self.rate = config.sample_rate
        self.l_linear = nn.Linear(HARMONICS, 1)
        constants = {
            "harmonics": torch.arange(1.0, HARMONICS + 1),
            "offsets": torch.arange(HARMONICS) * GOLDEN % 1,
            "steps": torch.arange(1.0, config.hop + 1),
        }
        for name, values in constants.items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, f0: Tensor, phase: Tensor, noise: Tensor) -> Tensor:
        cycles = phase.unsqueeze(-1) + (f0 / self.rate).unsqueeze(-1) * self.steps
        angles = (cycles - torch.floor(cycles)).unsqueeze(-1) * self.harmonics + self.offsets
        voiced = (f0 > 0).to(f0.dtype).unsqueeze(-1)
        sines = AMPLITUDE * torch.sin(2 * math.pi * angles) * voiced.unsqueeze(-1)
        deviation = VOICED_NOISE * voiced + UNVOICED_NOISE * (1 - voiced)
        loudness = torch.sqrt((self.l_linear.weight**2).sum())
        return torch.tanh(self.l_linear(sines).squeeze(-1) + deviation * loudness * noise).flatten(1)

    def advance(self, f0: Tensor) -> Tensor:
        """Cycles that each frame adds to the phase, [B, T]."""
        return f0 * (len(self.steps) / self.rate)


class SineSource(nn.Module):
    """One sine at an inner rate, f0 going linearly from frame to frame (the last holds), [B, T·source_hop]."""

    steps: Tensor

    def __init__(self, config: NsfHifiGanConfig) -> None:
        super().__init__()
        self.rate = config.sample_rate * config.source_hop / config.hop
        self.register_buffer("steps", torch.arange(1.0, config.source_hop + 1), persistent=False)

    def forward(self, f0: Tensor, phase: Tensor, noise: None = None) -> Tensor:
        begin, slope = self._line(f0)
        count = len(self.steps)
        bent = self.steps * (self.steps - 1) / (2 * count)
        cycles = phase.unsqueeze(-1) + begin.unsqueeze(-1) * self.steps + slope.unsqueeze(-1) * bent
        return torch.sin(2 * math.pi * (cycles - torch.floor(cycles))).flatten(1)

    def advance(self, f0: Tensor) -> Tensor:
        """As in ``HarmonicSource``."""
        begin, slope = self._line(f0)
        return begin * len(self.steps) + slope * ((len(self.steps) - 1) / 2)

    def _line(self, f0: Tensor) -> tuple[Tensor, Tensor]:
        """Cycles per sample at each frame's begin, and how much more at the next one's."""
        begin = f0 / self.rate
        return begin, torch.cat([begin[:, 1:], begin[:, -1:]], dim=1) - begin


class ResBlock1(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair added to its input (Kong et al. 2020, appendix A.1)."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_conv(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_conv(channels, kernel, 1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(F.leaky_relu(first(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class ResBlock2(nn.Module):
    """Dilated convolutions, each added to its input: the small kind of the same paper."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv(channels, kernel, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = x + conv(F.leaky_relu(x, SLOPE))
        return x


RESBLOCKS: Mapping[str, type[ResBlock1] | type[ResBlock2]] = {"1": ResBlock1, "2": ResBlock2}


def upsampling(hop: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Rates and kernels whose product is ``hop``: 512 gives the published 8, 8, 2, 2, 2.

    Raises:
        ValueError: the hop is odd or has a prime factor above 7.
    """
    rest, rates = hop // 2, []
    for rate in (8, 7, 5, 3, 2):
        while rest and rest % rate == 0:
            rates.append(rate)
            rest //= rate
    if hop % 2 or rest != 1:
        raise ValueError(f"a hop of {hop} samples does not divide into upsampling steps of 2, 3, 5, 7 and 8")
    rates.append(2)  # the last is even, so that every stage lies on whole samples of the source
    return tuple(rates), tuple(2 * rate + rate % 2 for rate in rates)


def problems(config: NsfHifiGanConfig) -> Iterator[str]:
    """Sentences about a config that is no network."""
    if config.resblock not in RESBLOCKS:
        yield f"resblock must be one of {', '.join(RESBLOCKS)}, not '{config.resblock}'"
    if len(config.rates) != len(config.kernels) or len(config.rates) <= MINI_STAGE:
        yield f"{len(config.rates)} upsampling rates do not go with {len(config.kernels)} kernels"
    if len(config.resblock_kernels) != len(config.resblock_dilations) or not config.resblock_kernels:
        yield f"{len(config.resblock_kernels)} residual kernels need as many lists of dilations"
    if any(kernel < rate or (kernel - rate) % 2 for rate, kernel in zip(config.rates, config.kernels, strict=False)):
        yield f"upsampling kernels {config.kernels} must exceed the rates {config.rates} by even numbers"
    if any(size % 2 == 0 for size in config.resblock_kernels):
        yield f"residual kernels {config.resblock_kernels} must be odd"
    if config.channels % (1 << len(config.rates)):
        yield f"{config.channels} channels cannot be halved {len(config.rates)} times"
    strides = [math.prod(config.rates[stage + 1 :]) for stage in range(len(config.rates))]
    if not config.mini and any(stride % 2 for stride in strides[:-1]):
        yield f"upsampling rates {config.rates} must end with an even one"


def _conv(channels: int, kernel: int, dilation: int) -> nn.Module:
    padding = dilation * (kernel - 1) // 2
    return weight_norm(nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=padding))


def _source_conv(channels: int, stride: int) -> nn.Module:
    """Brings the source to a stage's rate."""
    if stride == 1:
        return nn.Conv1d(1, channels, 1)
    return nn.Conv1d(1, channels, 2 * stride, stride, padding=stride // 2)


def _accept_published_names(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Turn weight norm's older names (weight_g, weight_v) and plain weights into the names used here, in place."""
    for name, part in module.named_modules():
        if not hasattr(part, "parametrizations"):
            continue
        start = f"{prefix}{name}."
        magnitude, direction = (f"{start}parametrizations.weight.original{which}" for which in (0, 1))
        if f"{start}weight_g" in state and f"{start}weight_v" in state:
            state[magnitude], state[direction] = state.pop(f"{start}weight_g"), state.pop(f"{start}weight_v")
        elif f"{start}weight" in state:
            weight = state.pop(f"{start}weight")
            others = tuple(range(1, weight.ndim))
            state[magnitude], state[direction] = weight.norm(dim=others, keepdim=True), weight
