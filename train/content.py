"""How the small content network learns: to hear in altered audio the units that its teacher heard in the original."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from moksori.models.convnext_content import ConvNeXtContent, ConvNeXtContentConfig
from moksori.models.hubert import HubertContent, HubertContentConfig
from moksori.runtime import content
from moksori.runtime.errors import OptionError
from moksori.train import config as configs
from moksori.train import dataset, perturb
from moksori.train.checkpoint import Ranking
from moksori.train.dataset import Crop, PreparedData, Share
from moksori.train.loop import LoopConfig

ARCHITECTURES: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "convnext": (ConvNeXtContentConfig, ConvNeXtContent),
    "hubert": (HubertContentConfig, HubertContent),
}
GAIN_DB = (-18.0, 6.0)  # of altered audio: people record at any level


@dataclass(frozen=True)
class ContentConfig:
    architecture: str = "convnext"
    network: dict[str, Any] = field(default_factory=dict)  # what differs from the architecture's own defaults
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(learning_rate=5e-4, warmup=500))
    batch: int = 8
    seconds: float = 4.0
    altered: float = 0.75  # share of crops heard altered
    speaker_weights: dict[str, float] = field(default_factory=dict)  # multiplies a speaker's share of the crops


class ContentTask:
    """The loop's view of the distillation; the targets are the clean units that svc-prepare cached."""

    adversary: nn.Module | None = None
    trivial: float | None = None
    ranking: Ranking | None = Ranking("validation/altered_loss")
    begun = False

    def __init__(self, data: PreparedData, config: ContentConfig) -> None:
        data.require_units()
        self.data, self.config = data, config
        self.network = build(config)
        self.count = int(config.seconds * content.RATE) // content.UNIT_HOP

    def batches(self, share: Share, device: torch.device) -> Generator[dict[str, Tensor]]:
        frames = round(self.config.seconds * self.data.spec.frame_rate)
        balance = self.data.balance(self.config.speaker_weights)
        stream = dataset.batches(
            self.data, self._collate, share, size=self.config.batch, frames=frames, balance=balance, variants=False
        )
        return dataset.tensors(stream, device)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        units = resample_units(self.network(batch["audio"]), batch["position"])
        return distances(units, batch["units"])

    def adversary_loss(self, batch: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError("the content network has no adversary")

    @torch.no_grad()
    def validate(self, network: nn.Module, writer: SummaryWriter, step: int, device: torch.device) -> dict[str, float]:
        """Distance and cosine to the teacher on held-out slices, heard clean and heard altered."""
        network.eval()
        found: dict[str, list[float]] = {}
        frames = round(self.config.seconds * self.data.spec.frame_rate)
        for number, piece in enumerate(self.data.examples):
            crop = self.data.crop(piece, 0, frames, variant=0)
            for name, heard in (("clean", False), ("altered", True)):
                examples = self._examples([crop], [number], [heard])
                batch = {name: torch.from_numpy(value).to(device) for name, value in examples.items()}
                units = resample_units(network(batch["audio"]), batch["position"])
                for measure, value in distances(units, batch["units"]).items():
                    found.setdefault(f"validation/{name}_{measure}", []).append(float(value))
        return {name: float(np.mean(values)) for name, values in found.items()}

    def _collate(self, crops: list[Crop], first_index: int) -> dataset.Batch:
        seeds = range(first_index, first_index + len(crops))
        heard = [bool(np.random.default_rng(seed).random() < self.config.altered) for seed in seeds]
        return self._examples(crops, list(seeds), heard)

    def _examples(self, crops: list[Crop], seeds: list[int], altered: list[bool]) -> dataset.Batch:
        """Audio [B, n] as long as the original, and for each original unit its position [B, Tu] in what is heard."""
        samples = self.count * content.UNIT_HOP
        frames = np.round((np.arange(self.count) + 0.5) * (content.UNIT_HOP / content.RATE) * self.data.spec.frame_rate)
        audio, position = [], []
        for crop, seed, change in zip(crops, seeds, altered, strict=True):
            heard, ratio = soxr.resample(crop.audio, self.data.spec.sample_rate, content.RATE), 1.0
            if change:
                rng = np.random.default_rng(seed)
                heard, ratio = perturb.altered(heard, rng)
                heard = heard * np.float32(10 ** (rng.uniform(*GAIN_DB) / 20))
            audio.append(np.pad(heard, (0, max(0, samples - len(heard))))[:samples])
            position.append((np.arange(self.count) + 0.5) / ratio - 0.5)
        return {
            "audio": np.stack(audio).astype(np.float32),
            "position": np.stack(position).astype(np.float32),
            "units": np.stack([crop.units[np.minimum(frames.astype(int), len(crop.units) - 1)] for crop in crops]),
        }


def fitted(config: ContentConfig, data: PreparedData) -> ContentConfig:
    """``config`` with its network written out, as wide as the units that the data holds; raises as ``shape`` does."""
    return replace(config, network=configs.plain(replace(shape(config), units=data.unit_dimension)))


def shape(config: ContentConfig) -> Any:
    """The network's config.

    Raises:
        OptionError: an unknown architecture, or a key that it does not have.
    """
    if config.architecture not in ARCHITECTURES:
        raise OptionError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not '{config.architecture}'")
    kind, _ = ARCHITECTURES[config.architecture]
    return configs.overlay(kind(), config.network, "network")


def build(config: ContentConfig) -> nn.Module:
    """The network of a config that ``fitted`` has written out."""
    spec = shape(config)
    _, network = ARCHITECTURES[config.architecture]
    return network(spec)


def resample_units(units: Tensor, position: Tensor) -> Tensor:
    """Units [B, Tu, D] read at fractional positions [B, Tu], linearly; constant beyond the ends."""
    position = position.clamp(0, units.shape[1] - 1)
    left = position.floor().long().clamp(max=units.shape[1] - 2)
    weight = (position - left).unsqueeze(-1)

    def take(index: Tensor) -> Tensor:
        return torch.gather(units, 1, index.unsqueeze(-1).expand(-1, -1, units.shape[-1]))

    return take(left) * (1 - weight) + take(left + 1) * weight


def distances(units: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """L1 distance and 1 - cosine similarity per unit; "loss" is their sum (as DistilHuBERT, Chang et al. 2022)."""
    l1 = (units - wanted).abs().mean()
    cosine = 1 - F.cosine_similarity(units, wanted, dim=-1).mean()
    return {"l1": l1, "cosine": cosine, "loss": l1 + cosine}
