"""How a trained flow is straightened: it learns to go in one step where it got to in many, with guidance built in.

That is reflow (Liu et al. 2022, section 2.2, arXiv:2209.03003) on pairs of noise and mel that the flow itself makes
while it trains. The way between the two of a pair is straight, so the velocity to learn is the same all along it; and
no recording of the mel is needed, so that any recording can be sung by any speaker in training as it will be in use.

A speaker who sang few sounds may be led: somebody else sings the first step, in which it is mostly decided what is
said, and the speaker the rest, in which it is decided who says it (docs/study/reflow.md).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from moksori.runtime import samplers
from moksori.runtime.errors import OptionError
from moksori.train import checkpoint, dataset
from moksori.train import config as configs
from moksori.train.checkpoint import Ranking
from moksori.train.dataset import Crop, PreparedData
from moksori.train.denoiser import CONDITIONS, DenoiserConfig, DenoiserTask, conditioner
from moksori.train.loop import LoopConfig
from moksori.train.objective import sample

SAMPLER = "ab2"  # of the second order, and it can be guided


@dataclass(frozen=True)
class ReflowConfig:
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=3000, learning_rate=3e-4))
    batch: int = 16
    frames: int = 128
    speaker_weights: dict[str, float] = field(default_factory=dict)  # whose recordings are heard
    targets: dict[str, float] = field(default_factory=dict)  # who sings them; by default each its own
    lead: dict[str, str] = field(default_factory=dict)  # speaker -> who sings the first step for it, to keep words
    steps: int = 4  # in which the flow makes a mel
    guidance: float = 1.0  # with which it does; what has learned from it needs none
    noise_scale: float = 0.2  # of the noise that it begins with, then and for good


class ReflowTask(DenoiserTask):
    """The loop's view of reflow.

    Args:
        run_dir: where the denoiser was trained.
    Raises:
        OptionError: there is no denoiser, it is no flow, it cannot be guided, or a target or leader is unknown.
    """

    ranking: Ranking | None = Ranking("validation/mel")
    begun = True

    def __init__(self, data: PreparedData, config: ReflowConfig, run_dir: Path) -> None:
        trained, weights = _denoiser(run_dir)
        if trained.objective.name != "flow":
            raise OptionError(f"{run_dir} holds a {trained.objective.name}, and only a flow can be straightened")
        if config.guidance != 1 and not trained.dropped:
            raise OptionError(
                f"the denoiser of {run_dir} never did without its conditions (dropped in its config), so it cannot be "
                "guided; leave guidance out"
            )
        for what, names in (("targets", config.targets), ("lead", [*config.lead, *config.lead.values()])):
            unknown = sorted({str(name) for name in names} - set(data.speakers))
            if unknown:
                raise OptionError(f"{what} names {', '.join(unknown)}, but the data has {', '.join(data.speakers)}")
        if config.lead and config.steps < 2:
            raise OptionError(f"lead takes the first of the steps, so there must be 2 or more, not {config.steps}")
        asked = np.array([*config.targets.values()], np.float64)
        self.shares = dataset.shares("targets", asked) if config.targets else asked
        kept = {name: getattr(config, name) for name in ("loop", "batch", "frames", "speaker_weights")}
        super().__init__(data, replace(trained, **kept, unit_noise=0.0, dropped=0.0, shifted=0.0))
        self.reflow, self.trivial = config, None
        self.network.load_state_dict(weights)
        self.teacher = copy.deepcopy(self.network).eval().requires_grad_(False)
        schedule, steps = self.objective.schedule, config.steps
        whole = samplers.plan(schedule, SAMPLER, steps, guidance=config.guidance)
        self.leaders = {str(speaker): str(leader) for speaker, leader in config.lead.items()}
        self.parts = [("speaker", whole)]
        if config.lead:
            rest = samplers.plan(schedule, SAMPLER, steps - 1, 1 - 1 / steps, config.guidance)
            self.parts = [("leader", whole[: len(whole) // steps]), ("speaker", rest)]
        self.once = samplers.plan(schedule, "euler", 1)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        start, mel = self._pair(batch)
        condition = conditioner(self.network)(*(batch[name] for name in CONDITIONS))
        # Half of the crops begin where singing does, since that is all that one step ever sees.
        times = (2 * batch["u"] - 1).clamp(min=0)
        return {"loss": self.objective.loss(self.network, mel, start, times, condition)}

    @torch.no_grad()
    def validate(self, network: nn.Module, writer: SummaryWriter, step: int, device: torch.device) -> dict[str, float]:
        """Log-mel distance of one step to where the flow got in its own, on held-out slices with fixed noise."""
        network.eval()
        deviation = torch.from_numpy(self._deviation).to(device)[:, None]
        distances = []
        for number, piece in enumerate(self.data.examples):
            crop = self.data.crop(piece, 0, min(piece.frames, 300) // 2 * 2, variant=0)
            batch = {k: torch.from_numpy(v).to(device) for k, v in self._collate([crop], number).items()}
            start, mel = self._pair(batch)
            condition = conditioner(network)(*(batch[name] for name in CONDITIONS))
            made = sample(network, self.objective.prediction, start, condition, self.once)
            distances.append(float(((made - mel).abs() * deviation).mean()))
        return {"validation/mel": float(np.mean(distances))}

    @torch.no_grad()
    def _pair(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Noise, and the mel that the flow makes of it, both normalised [B,M,T]."""
        self.teacher.to(batch["noise"].device)

        def heard(**changes: Tensor) -> Tensor:
            found: Tensor = conditioner(self.teacher)(*({**batch, **changes}[name] for name in CONDITIONS))
            return found

        nothing = heard(mel2ph=0 * batch["mel2ph"], speaker=0 * batch["speaker"])
        start = mel = self.reflow.noise_scale * batch["noise"]
        for who, plan in self.parts:
            mel = sample(self.teacher, self.objective.prediction, mel, heard(speaker=batch[who]), plan, nothing)
        return start, mel

    def _collate(self, crops: list[Crop], first_index: int) -> dataset.Batch:
        batch = super()._collate(crops, first_index)
        names, known = list(self.reflow.targets), self.data.speakers
        sung = [crop.speaker for crop in crops]
        if names:
            for at, crop in enumerate(crops):
                rng = np.random.default_rng([self.config.loop.seed, first_index + at, 2])
                sung[at] = known.index(str(rng.choice(names, p=self.shares)))
                batch["f0"][at] *= np.float32(2.0 ** self._octaves(crop.speaker, sung[at]))
        led = [known.index(self.leaders.get(known[one], known[one])) for one in sung]
        one_hot = np.eye(len(known), dtype=np.float32)
        return batch | {"speaker": one_hot[sung], "leader": one_hot[led]}

    def _octaves(self, singer: int, target: int) -> int:
        """Octaves that bring a speaker nearest to the middle of another's range."""
        heard, sung = (float(self.data.facts["speakers"][one]["f0_median"]) for one in (singer, target))
        return round(float(np.log2(sung / heard)))


def _denoiser(run_dir: Path) -> tuple[DenoiserConfig, dict[str, Tensor]]:
    """The config of the denoiser of a run, and the averaged weights of its best checkpoint."""
    folder = run_dir / "denoiser"
    file = checkpoint.chosen(folder)
    if file is None:
        raise OptionError(f"{run_dir} holds no trained denoiser; run first: svc-train denoiser DATA_DIR {run_dir}")
    return configs.load(folder / "config.yaml", DenoiserConfig()), checkpoint.weights(file)[0]
