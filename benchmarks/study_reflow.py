"""What reflow should learn to make: straightenings that differ in who begins, in guidance, or by an adversary."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moksori.benchmarks import study
from moksori.benchmarks.panel import HEAD, Panel, cells, takes_panel
from moksori.models.layers import ConvNeXtBlock
from moksori.runtime.backends import cpu
from moksori.runtime.command import Command
from moksori.runtime.files import read_json, write_json
from moksori.train import config as configs
from moksori.train import dataset, loop
from moksori.train.dataset import Crop, PreparedData
from moksori.train.denoiser import CONDITIONS, conditioner
from moksori.train.objective import sample
from moksori.train.reflow import ReflowConfig, ReflowTask
from moksori.train.singer import Singer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECIPE = study.RECIPE / "reflow.yaml"
NONE, USUAL = "nothing converted", "as the recipe"
STEPS = 2  # with which it is judged
HEARD = 32  # frames by which a critic decides; a crop is a multiple of them
MOVED = 3.0  # semitones, at most, by which f0 is moved so that a critic does not go by pitch
CRITIC_RATE = 1e-3
EDGE = 0.01  # of similarity, beside the bars

EXAMPLES = """\b
Example, two at a time, and the table of all in the end:
  python -m moksori.benchmarks.study_reflow build/demo/data build/demo/run work --only "as the recipe" \\
      --inputs talk --references build/demo/heldout --recogniser build/demo/teacher &
  python -m moksori.benchmarks.study_reflow build/demo/data build/demo/run work \\
      --inputs talk --references build/demo/heldout --recogniser build/demo/teacher
"""


@dataclass(frozen=True)
class Variant:
    """``config`` lies over the recipe's; ``critic`` is the weight of fooling a critic."""

    config: Mapping[str, Any]
    critic: float = 0.0


VARIANTS = {
    USUAL: Variant({}),
    "nobody leads": Variant({"lead": {}}),
    "heart leads a quarter": Variant({"steps": 4}),
    "heart leads half": Variant({"steps": 2}),
    "ast_en leads f001": Variant({"lead": {"f001": "ast_en"}}),
    "ast_en leads both": Variant({"lead": {"f001": "ast_en", "heart": "ast_en"}}),
    "guidance 2": Variant({"guidance": 2.0}),
    "a critic, weight 0.03": Variant({}, 0.03),
}


class SpeakerCritic(nn.Module):
    """Who was recorded, by no more than 0.2 s, too little for words: normalised mel [B, M, T] -> logits [B, T, S]."""

    def __init__(self, bins: int, speakers: int, channels: int = 192) -> None:
        super().__init__()
        self.mel_in = nn.Linear(bins, channels)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(channels, 2 * channels, 7) for _ in range(3)))
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, speakers)

    def forward(self, mel: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.mel_in(mel.transpose(1, 2)))))
        return logits


class Criticised(ReflowTask):
    """Reflow against a critic, which learns to tell who was recorded from recordings and from what is made of them.

    The network learns to be told as the speaker it sings as: the domain classifier of StarGAN-VC (Kameoka et al. 2018,
    arXiv:1806.02169), which here learns from what is made as well. One step is to end at the flow's mel but for what
    fools the critic, and the way is to be straight to where that step ends. f0 is moved at random.
    """

    ranking = None

    def __init__(self, data: PreparedData, config: ReflowConfig, run_dir: Path, weight: float) -> None:
        super().__init__(data, config, run_dir)
        self.weight = weight
        self.critic = self.adversary = SpeakerCritic(data.spec.bins, len(data.speakers))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        start, mel = self._pair(batch)
        condition = conditioner(self.network)(*(batch[name] for name in CONDITIONS))
        made = sample(self.network, self.objective.prediction, start, condition, self.once)
        batch["made"] = made.detach()
        straight = self.objective.loss(self.network, batch["made"], start, batch["u"], condition)
        fool = self._told(made, batch["speaker"])
        return {"loss": F.mse_loss(made, mel) + straight + self.weight * fool, "fool": fool}

    def adversary_loss(self, batch: dict[str, Tensor]) -> Tensor:
        return (self._told(batch["mel"], batch["singer"]) + self._told(batch["made"], batch["singer"])) / 2

    def _told(self, mel: Tensor, speaker: Tensor) -> Tensor:
        """Cross entropy of the critic's answers to mel [B,M,T], one for each HEARD frames, and one-hot ``speaker``."""
        frames: Tensor = self.critic(mel).float()
        told = torch.log_softmax(frames.unflatten(1, (-1, HEARD)).mean(2), -1)
        return -(told * speaker[:, None]).sum(-1).mean()

    def _collate(self, crops: list[Crop], first_index: int) -> dataset.Batch:
        batch = super()._collate(crops, first_index)
        singers = np.eye(len(self.data.speakers), dtype=np.float32)
        batch["singer"] = np.stack([singers[crop.speaker] for crop in crops])
        for at in range(len(crops)):
            random = np.random.default_rng([self.config.loop.seed, first_index + at, 3])
            batch["f0"][at] *= np.float32(2 ** (random.uniform(-MOVED, MOVED) / 12))
        return batch


@click.command(cls=Command, extra="train,eval,plot", epilog=EXAMPLES)
@click.argument("data_dir", metavar="DATA_DIR", type=click.Path(path_type=Path))
@click.argument("run_dir", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.argument("work", metavar="WORK_DIR", type=click.Path(path_type=Path))
@click.option("--only", "names", multiple=True, type=click.Choice(list(VARIANTS)), help="May be given more than once.")
@click.option("--steps", type=click.IntRange(1), default=500, show_default=True, help="Of each training.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Crops in a step.")
@click.option("--config", type=click.Path(path_type=Path), default=RECIPE, help="In place of the recipe's.")
@takes_panel
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie.")
def main(
    data_dir: Path, run_dir: Path, work: Path, names: tuple[str, ...], steps: int, batch: int, config: Path, root: Path,
    **panel: Any,
) -> None:  # fmt: skip
    """Straighten the denoiser of RUN_DIR on DATA_DIR in ways that differ in one thing, and judge what each makes.

    WORK_DIR keeps each one's figures; what is there is not trained again.
    """
    torch.set_num_threads(1)
    usual = configs.load(config, ReflowConfig())
    lasting = replace(
        usual.loop, steps=steps, validate_every=steps, save_every=steps, adversary_rate=CRITIC_RATE
    )
    usual = replace(usual, batch=batch, loop=lasting)
    jury = Panel(PreparedData(data_dir), **panel)
    for name in names or VARIANTS:
        path = work / f"{name}.json"
        if not path.exists():
            click.echo(f"  {name}", err=True)
            made = straightened(VARIANTS[name], usual, data_dir, run_dir, jury)
            write_json(path, {"name": name, "steps": steps, "processor": cpu().label, **made})
    if not (work / f"{NONE}.json").exists():
        write_json(work / f"{NONE}.json", {"name": NONE, "figures": jury.unconverted()})
    rows = [read_json(work / f"{name}.json") for name in (NONE, *VARIANTS) if (work / f"{name}.json").exists()]
    results = {"targets": list(jury.targets), "clips": jury.clips, "rows": rows}
    study.finish("reflow", results, draw(results), table(results), root)


def straightened(
    variant: Variant, usual: ReflowConfig, data_dir: Path, run_dir: Path, panel: Panel
) -> dict[str, Any]:
    """Straighten in one way and measure it."""
    from rich.console import Console

    data, config = PreparedData(data_dir), configs.overlay(usual, dict(variant.config), "variant")
    torch.manual_seed(config.loop.seed)
    if variant.critic:
        task: ReflowTask = Criticised(data, config, run_dir, variant.critic)
    else:
        task = ReflowTask(data, config, run_dir)
    with tempfile.TemporaryDirectory() as folder:
        state = loop.train(task, config.loop, Path(folder, "reflow"), Console(stderr=True))
    singer = Singer(data, task.config, run_dir)
    figures = panel.figures(singer.voice(state.averaged, singer.vocoder()), steps=STEPS)
    return {"apart": state.metrics["validation/mel"], "figures": figures}


def table(results: Mapping[str, Any]) -> str:
    rows = [
        [row["name"], who, *cells(row["figures"][who])] for row in results["rows"] for who in results["targets"]
    ]
    return study.table(["straightened", "sung as", *HEAD], rows)


def draw(results: Mapping[str, Any]) -> Figure:
    """Each way as a bar from its similarity to the source to that to the target, a dot, and its words beside."""
    rows, targets = [row for row in results["rows"][::-1] if row["name"] != NONE], results["targets"]
    figure, axes = study.sheet(len(targets), 2, (12, len(targets) * (0.8 + 0.3 * len(rows))))
    places, colours = range(len(rows)), [study.ORANGE if row["name"] == USUAL else study.BLUE for row in rows]
    for (likeness, words), who in zip(axes, targets, strict=True):
        found = [row["figures"][who] for row in rows]
        near, far = ([one[name] for one in found] for name in ("similarity", "source_similarity"))
        likeness.barh(places, [a - b for a, b in zip(near, far, strict=True)], left=far, color=colours)
        likeness.plot(near, places, "o", color=study.BLACK, markersize=4)  # the end that is the target's
        likeness.set_xlim(min(far + near) - EDGE, max(far + near) + EDGE)
        likeness.set_yticks(places, [row["name"] for row in rows])
        likeness.set_title(f"as {who}: from similarity to source to that to target (•)", loc="left", fontsize=10)
        words.barh(places, [100 * (one["error_rate"] or 0) for one in found], color=colours)
        words.set_yticks(places, [""] * len(rows))
        words.set_title("character errors, %", loc="left", fontsize=10)
    return figure


if __name__ == "__main__":
    main()
