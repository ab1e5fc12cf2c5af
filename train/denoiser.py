"""How the denoiser learns: the flow from noise to the mel of a recording, under its units, pitch and loudness."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from moksori.models.convnext import ConvNeXtConfig, ConvNeXtDenoiser
from moksori.models.wavenet import WaveNetConfig, WaveNetDenoiser
from moksori.runtime.errors import OptionError
from moksori.train import dataset, objective
from moksori.train.dataset import MARGIN, Crop, PreparedData
from moksori.train.loop import LoopConfig

ARCHITECTURES: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "convnext": (ConvNeXtConfig, ConvNeXtDenoiser),
    "wavenet": (WaveNetConfig, WaveNetDenoiser),
}
CONDITIONS = ("units", "mel2ph", "f0", "voiced", "loudness", "speaker")


@dataclass(frozen=True)
class DenoiserConfig:
    architecture: str = "convnext"
    network: dict[str, int] = field(default_factory=dict)  # what differs from the architecture's own defaults
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 16
    frames: int = 128
    unit_noise: float = 0.1  # deviation of noise on units in training; less of the source's speaker gets through
    speaker_weights: dict[str, float] = field(default_factory=dict)  # multiplies a speaker's share of the crops


class DenoiserTask:
    """The loop's view of the denoiser."""

    adversary: nn.Module | None = None

    def __init__(self, data: PreparedData, config: DenoiserConfig) -> None:
        data.require_units()
        self.data, self.config = data, config
        self.network = build(config, data.spec.bins, data.unit_dimension, len(data.speakers))
        statistics = data.facts["statistics"]
        self._mean = np.array(statistics["mean"], np.float32)
        self._deviation = np.array(statistics["deviation"], np.float32)

    def batches(self, step: int, device: torch.device) -> Generator[dict[str, Tensor]]:
        config = self.config
        stream = dataset.batches(
            self.data, self._collate, seed=config.loop.seed, start=step, size=config.batch, frames=config.frames,
            balance=self.data.balance(config.speaker_weights),
        )  # fmt: skip
        return dataset.tensors(stream, device)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        units = batch["units"] + self.config.unit_noise * torch.randn_like(batch["units"])
        condition = conditioner(self.network)(units, *(batch[name] for name in CONDITIONS[1:]))
        t = torch.rand(len(units), device=units.device)
        noise = torch.randn_like(batch["mel"])
        return {"loss": objective.flow_loss(self.network, batch["mel"], noise, t, condition)}

    def adversary_loss(self, batch: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError("the denoiser has no adversary")

    @torch.no_grad()
    def validate(self, network: nn.Module, writer: SummaryWriter, step: int, device: torch.device) -> dict[str, float]:
        """Flow loss at fixed times and noises, and log-mel distance of eight-step samples, on held-out slices."""
        network.eval()
        random = torch.Generator().manual_seed(0)
        losses, distances = [], []
        for number, piece in enumerate(self.data.validation[:24]):
            crop = self.data.crop(piece, 0, min(piece.frames, 300) // 2 * 2, variant=0)
            batch = {k: torch.from_numpy(v).to(device) for k, v in self._collate([crop], number).items()}
            condition = conditioner(network)(*(batch[name] for name in CONDITIONS))
            noise = torch.randn(batch["mel"].shape, generator=random).to(device)
            for t in (0.1, 0.3, 0.5, 0.7, 0.9):
                time = torch.tensor([t], device=device)
                losses.append(float(objective.flow_loss(network, batch["mel"], noise, time, condition)))
            x = 0.5 * noise
            for k in range(8):
                x = x + objective.velocity(network, x, torch.tensor([k / 8], device=device), condition) / 8
            distance = (x - batch["mel"]).abs() * torch.from_numpy(self._deviation).to(device)[:, None]
            distances.append(float(distance.mean()))
            if number < 3:
                pair = torch.cat([batch["mel"][0], x[0]]).flip(0).clamp(-2, 2).cpu() / 4 + 0.5
                writer.add_image(f"mel/{piece.id}", pair.unsqueeze(0), step)
        return {"validation/loss": float(np.mean(losses)), "validation/mel": float(np.mean(distances))}

    def _collate(self, crops: list[Crop], first_index: int) -> dataset.Batch:
        speakers = np.eye(len(self.data.speakers), dtype=np.float32)
        count = len(crops[0].mel)
        return {
            "mel": np.stack([((crop.mel - self._mean) / self._deviation).T for crop in crops]),
            "units": np.stack([crop.units for crop in crops]),
            "mel2ph": np.tile(np.arange(1, count + 1), (len(crops), 1)),  # the crop's units are at mel frames already
            "f0": np.stack([crop.f0[MARGIN:-MARGIN] for crop in crops]),
            "voiced": np.stack([crop.voiced for crop in crops]),
            "loudness": np.stack([crop.loudness for crop in crops]),
            "speaker": np.stack([speakers[crop.speaker] for crop in crops]),
        }


def conditioner(network: nn.Module) -> nn.Module:
    """The part of a denoiser that runs once for all steps."""
    return network.get_submodule("conditioner")


def build(config: DenoiserConfig, bins: int, units: int, speakers: int) -> nn.Module:
    """The network a config describes, for data of the given widths."""
    if config.architecture not in ARCHITECTURES:
        raise OptionError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not '{config.architecture}'")
    kind, network = ARCHITECTURES[config.architecture]
    unknown = set(config.network) - {f.name for f in fields(kind)}
    if unknown:
        known = ", ".join(f.name for f in fields(kind))
        raise OptionError(f"network has unknown keys {sorted(unknown)}; {config.architecture} knows {known}")
    return network(replace(kind(mel_bins=bins, units=units, speakers=speakers), **config.network))
