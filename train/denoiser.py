"""How the denoiser learns: the way from noise to the mel of a recording, under its units, pitch and loudness."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from moksori.models.conditioner import CONDITIONERS, PITCHES, ConditionerConfig
from moksori.models.convnext import ConvNeXtConfig, ConvNeXtDenoiser
from moksori.models.wavenet import WaveNetConfig, WaveNetDenoiser
from moksori.runtime import samplers, schedules
from moksori.runtime.errors import OptionError
from moksori.train import config as configs
from moksori.train import dataset
from moksori.train.checkpoint import Ranking
from moksori.train.dataset import MARGIN, Crop, PreparedData, Share
from moksori.train.loop import LoopConfig
from moksori.train.objective import ObjectiveConfig, objective, sample

ARCHITECTURES: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "convnext": (ConvNeXtConfig, ConvNeXtDenoiser),
    "wavenet": (WaveNetConfig, WaveNetDenoiser),
}
CONDITIONS = ("units", "mel2ph", "f0", "voiced", "loudness", "speaker")
PREVIEW = {"velocity": ("euler", 0.5), "epsilon": ("plms", 1.0)}  # sampler and noise scale of validation's samples
PREVIEW_STEPS = 8


@dataclass(frozen=True)
class DenoiserConfig:
    architecture: str = "convnext"
    network: dict[str, Any] = field(default_factory=dict)  # what differs from the architecture's own defaults
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 16
    frames: int = 128
    unit_noise: float = 0.1  # deviation of noise on units in training; less of the source's speaker gets through
    speaker_weights: dict[str, float] = field(default_factory=dict)  # multiplies a speaker's share of the crops
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    shifted: float = 0.0  # share of crops moved in pitch and formants, and told so (train/shift.py)
    dropped: float = 0.0  # share of crops without units and speaker, so that the voice can be guided (--guidance)


class DenoiserTask:
    """The loop's view of the denoiser."""

    adversary: nn.Module | None = None
    ranking: Ranking | None = Ranking("validation/loss")  # where no conversion is judged
    begun = False
    trivial: float | None  # the loss of the best linear guess without conditions, see train/objective.py

    def __init__(self, data: PreparedData, config: DenoiserConfig) -> None:
        data.require_units()
        self.data, self.config = data, config
        self.network = build(config, data.spec.bins, data.unit_dimension, len(data.speakers))
        self.objective = objective(config.objective)
        self.trivial = self.objective.trivial
        self._mean, self._deviation = self.objective.scaling(data.facts["statistics"])

    def batches(self, share: Share, device: torch.device) -> Generator[dict[str, Tensor]]:
        config = self.config
        balance = self.data.balance(config.speaker_weights)
        stream = dataset.batches(
            self.data, self._collate, share, size=config.batch, frames=config.frames, balance=balance,
            shifted=config.shifted,
        )  # fmt: skip
        return dataset.tensors(stream, device)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        units = batch["units"] + self.config.unit_noise * batch["unit_noise"]
        kept = batch["kept"][:, None]
        given = {**batch, "units": units, "mel2ph": batch["mel2ph"] * kept, "speaker": batch["speaker"] * kept}
        told = {"shift": batch["shift"]} if self.config.shifted else {}
        condition = conditioner(self.network)(*(given[name] for name in CONDITIONS), **told)
        return {"loss": self.objective.loss(self.network, batch["mel"], batch["noise"], batch["u"], condition)}

    def adversary_loss(self, batch: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError("the denoiser has no adversary")

    @torch.no_grad()
    def validate(self, network: nn.Module, writer: SummaryWriter, step: int, device: torch.device) -> dict[str, float]:
        """Loss at fixed times and noises, and log-mel distance of samples of a few steps, on held-out slices."""
        network.eval()
        objective = self.objective
        sampler, noise_scale = PREVIEW[objective.prediction]
        plan = samplers.plan(objective.schedule, sampler, PREVIEW_STEPS, objective.depth)
        clear, noisy = schedules.mix(objective.schedule, objective.depth)
        random = torch.Generator().manual_seed(0)
        losses, distances = [], []
        for number, piece in enumerate(self.data.examples):
            crop = self.data.crop(piece, 0, min(piece.frames, 300) // 2 * 2, variant=0)
            batch = {k: torch.from_numpy(v).to(device) for k, v in self._collate([crop], number).items()}
            condition = conditioner(network)(*(batch[name] for name in CONDITIONS))
            noise = torch.randn(batch["mel"].shape, generator=random).to(device)
            for u in (0.1, 0.3, 0.5, 0.7, 0.9):
                share = torch.tensor([u], device=device)
                losses.append(float(objective.loss(network, batch["mel"], noise, share, condition)))
            start = clear * batch["mel"] + noisy * noise_scale * noise
            x = sample(network, objective.prediction, start, condition, plan)
            distance = (x - batch["mel"]).abs() * torch.from_numpy(self._deviation).to(device)[:, None]
            distances.append(float(distance.mean()))
            if number < 3:
                pair = torch.cat([batch["mel"][0], x[0]]).flip(0).clamp(-2, 2).cpu() / 4 + 0.5
                writer.add_image(f"mel/{piece.id}", pair.unsqueeze(0), step)
        return {"validation/loss": float(np.mean(losses)), "validation/mel": float(np.mean(distances))}

    def _collate(self, crops: list[Crop], first_index: int) -> dataset.Batch:
        speakers = np.eye(len(self.data.speakers), dtype=np.float32)
        count = len(crops[0].mel)
        seed = self.config.loop.seed  # what is drawn belongs to the crop, whichever process or batch it falls to
        random = [np.random.default_rng([seed, first_index + k, 1]) for k in range(len(crops))]
        return {
            "u": np.array([one.random() for one in random], np.float32),
            "noise": np.stack([one.standard_normal((self.data.spec.bins, count), np.float32) for one in random]),
            "unit_noise": np.stack([one.standard_normal(crops[0].units.shape, np.float32) for one in random]),
            "kept": np.array([one.random() >= self.config.dropped for one in random], np.int64),
            "shift": np.array([crop.shift for crop in crops], np.float32),
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


def fitted(config: DenoiserConfig, data: PreparedData) -> DenoiserConfig:
    """``config`` with its network written out, in the widths that the data dictates; raises as ``shape`` does."""
    spec = shape(config, data.spec.bins, data.unit_dimension, len(data.speakers))
    return replace(config, network=configs.plain(spec))


def build(config: DenoiserConfig, bins: int, units: int, speakers: int) -> nn.Module:
    """The network a config describes, for data of the given widths."""
    spec = shape(config, bins, units, speakers)
    _, network = ARCHITECTURES[config.architecture]
    return network(spec)


def shape(config: DenoiserConfig, bins: int, units: int, speakers: int) -> Any:
    """The network's config.

    Raises:
        OptionError: an unknown architecture, conditioner or pitch, a key that it does not have, or two that exclude
            each other.
    """
    if config.architecture not in ARCHITECTURES:
        raise OptionError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not '{config.architecture}'")
    kind, _ = ARCHITECTURES[config.architecture]
    scale = objective(config.objective).time_scale
    hears = ConditionerConfig(shifts=config.shifted > 0)
    given = kind(mel_bins=bins, units=units, speakers=speakers, time_scale=scale, conditioner=hears)
    spec = configs.overlay(given, config.network, "network")
    hearing = spec.conditioner
    for name, known, chosen in (("kind", CONDITIONERS, hearing.kind), ("pitch", PITCHES, hearing.pitch)):
        if chosen not in known:
            raise OptionError(f"network: conditioner: {name} must be one of {', '.join(known)}, not '{chosen}'")
    if hearing.kind == "sum" and config.shifted:
        raise OptionError("shifted needs a conditioner that can be told, and the kind sum cannot: leave one out")
    return spec
