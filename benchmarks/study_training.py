"""What in training makes a voice convert well: denoisers that differ in one thing, trained alike, then judged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
from torch import Tensor, nn

from moksori.benchmarks import study
from moksori.benchmarks.panel import HEAD, Panel, cells, takes_panel
from moksori.benchmarks.study_retrieval import Bank
from moksori.runtime.backends import cpu
from moksori.runtime.command import Command
from moksori.runtime.files import read_json, write_json
from moksori.train import config as configs
from moksori.train import denoiser, loop
from moksori.train.dataset import Crop, PreparedData, Weights
from moksori.train.denoiser import DenoiserConfig, DenoiserTask
from moksori.train.singer import Singer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECIPE = study.RECIPE / "denoiser.yaml"
USUAL = "as the recipe"
CLUSTERS, LOOKED_AT = 200, 60  # of units, found in this many recordings
FARTHEST = 2.0  # medians; what is drawn ends there
SHARP = 8.0  # of the soft choice among clusters, in units of their mean spread

EXAMPLES = """\b
Example, two at a time, and the table of all in the end:
  python -m moksori.benchmarks.study_training build/demo/data work --only "as the recipe" \\
      --inputs talk --references build/demo/heldout --recogniser build/demo/teacher &
  python -m moksori.benchmarks.study_training build/demo/data work \\
      --inputs talk --references build/demo/heldout --recogniser build/demo/teacher
"""


@dataclass(frozen=True)
class Variant:
    """``config`` lies over the recipe's. ``deafened`` changes what a part of the network hears. ``others`` is how many
    of the speakers that are no targets are trained on. ``clean`` trains without the units of altered audio,
    ``lent`` with some of them as another speaker would have said them."""

    config: Mapping[str, Any]
    deafened: Callable[[nn.Module, PreparedData], None] | None = None
    others: int | None = None
    clean: bool = False
    lent: bool = False


def without_loudness(network: nn.Module, data: PreparedData) -> None:
    """The conditioner's last feature beside pitch is loudness: it hears its mean."""

    def quiet(part: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.cat([given[0][..., :-1], torch.zeros_like(given[0][..., -1:])], -1),)

    denoiser.conditioner(network).get_submodule("pitch_in").register_forward_pre_hook(quiet)


def first_units(count: int) -> Callable[[nn.Module, PreparedData], None]:
    """Units come in the order of what they say against what an alteration moves (train/unit_map.py)."""

    def narrow(network: nn.Module, data: PreparedData) -> None:
        hear_units(network, lambda units: units * (torch.arange(units.shape[-1]) < count))

    return narrow


def clusters(soft: bool) -> Callable[[nn.Module, PreparedData], None]:
    """Units become the centre of the nearest of k-means' clusters, or the mean of centres by how near they are."""

    def choose(network: nn.Module, data: PreparedData) -> None:
        from scipy.cluster import vq

        pieces = data.training[:: max(1, len(data.training) // LOOKED_AT)]
        frames = np.concatenate([data.crop(one, 0, one.frames, 0).units for one in pieces])
        found, nearest = vq.kmeans2(frames, CLUSTERS, minit="++", seed=0, missing="warn")
        spread = float(np.mean(np.sum((frames - found[nearest]) ** 2, 1)))
        centres = torch.from_numpy(found.astype(np.float32))

        def chosen(units: Tensor) -> Tensor:
            away = torch.cdist(units.float(), centres.to(units.device)) ** 2
            if soft:
                weights = torch.softmax(-SHARP * away / spread, -1)
            else:
                weights = nn.functional.one_hot(away.argmin(-1), CLUSTERS).float()
            return weights @ centres.to(units.device)

        hear_units(network, chosen)

    return choose


def hear_units(network: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """The conditioner hears ``change`` of its units [B,Tu,D]."""
    part = denoiser.conditioner(network).get_submodule("units_in")
    part.register_forward_pre_hook(lambda part, given: (change(given[0]),))


VARIANTS = {
    USUAL: Variant({}),
    "units of clean audio only": Variant({}, clean=True),
    "clean, lent by others": Variant({}, clean=True, lent=True),
    "no noise on units": Variant({"unit_noise": 0.0}),
    "noise of 0.5 on units": Variant({"unit_noise": 0.5}),
    "first 32 of 128 units": Variant({}, first_units(32)),
    "first 64 of 128 units": Variant({}, first_units(64)),
    "nearest of 200 clusters": Variant({}, clusters(soft=False)),
    "200 clusters, soft": Variant({}, clusters(soft=True)),
    "loudness not heard": Variant({}, without_loudness),
    "nothing dropped": Variant({"dropped": 0.0}),
    "half moved in pitch": Variant({"shifted": 0.5}),
    "no other speakers": Variant({}, others=0),
    "two other speakers": Variant({}, others=2),
    "targets no oftener": Variant({"speaker_weights": {}}),
    "WaveNet, 10 × 256": Variant({"architecture": "wavenet"}),
    "DDPM": Variant({"objective": {"name": "ddpm"}}),
}


class Clean(PreparedData):
    """Data whose altered units are never drawn."""

    def random_crop(
        self, seed: int, index: int, frames: int, balance: Weights, variants: bool, shifted: float = 0.0
    ) -> Crop:
        return super().random_crop(seed, index, frames, balance, False, shifted)


class Lent(DenoiserTask):
    """Two thirds of the crops hear units moved to the nearest of another speaker's, some farther and some less.

    So the denoiser learns to sound alike whoever the units come from. SelfVC (Neekhara et al. 2023, arXiv:2310.09653)
    has the network itself make such units. f001 has too few sounds to lend.
    """

    SHARE = 2 / 3
    UNITS = 4096  # of each who lends, more than a minute
    POOR = ("f001",)

    def __init__(self, data: PreparedData, config: DenoiserConfig) -> None:
        super().__init__(data, config)
        self.banks = {name: Bank.of(data, name, self.UNITS) for name in data.speakers if name not in self.POOR}
        self._random = np.random.default_rng(config.loop.seed)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        units = batch["units"].clone()
        for at, speaker in enumerate(batch["speaker"].argmax(1).tolist()):
            lenders = [name for name in self.banks if name != self.data.speakers[speaker]]
            if lenders and self._random.random() < self.SHARE:
                bank, share = self.banks[str(self._random.choice(lenders))], self._random.random()
                units[at] = torch.from_numpy(bank.nearer(units[at].numpy(), share))
        return super().losses({**batch, "units": units})


@click.command(cls=Command, extra="train,eval,plot", epilog=EXAMPLES)
@click.argument("data_dir", metavar="DATA_DIR", type=click.Path(path_type=Path))
@click.argument("work", metavar="WORK_DIR", type=click.Path(path_type=Path))
@click.option("--only", "names", multiple=True, type=click.Choice(list(VARIANTS)), help="May be given more than once.")
@click.option("--steps", type=click.IntRange(1), default=1200, show_default=True, help="Of each training.")
@click.option("--config", type=click.Path(path_type=Path), default=RECIPE, help="In place of the recipe's.")
@takes_panel
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie.")
def main(
    data_dir: Path, work: Path, names: tuple[str, ...], steps: int, config: Path, root: Path, **panel: Any
) -> None:
    """Train denoisers on DATA_DIR that differ in one thing, and judge what each makes of the recordings.

    WORK_DIR keeps each one's figures; what is there is not trained again.
    """
    torch.set_num_threads(1)
    usual = configs.load(config, DenoiserConfig())
    usual = replace(usual, loop=replace(usual.loop, steps=steps, validate_every=steps, save_every=steps))
    jury = Panel(PreparedData(data_dir), **panel)
    for name in names or VARIANTS:
        path = work / f"{name}.json"
        if not path.exists():
            click.echo(f"  {name}", err=True)
            made = trained(VARIANTS[name], usual, data_dir, jury)
            write_json(path, {"name": name, "steps": steps, "processor": cpu().label, **made})
    rows = [read_json(work / f"{name}.json") for name in VARIANTS if (work / f"{name}.json").exists()]
    results = {"targets": list(jury.targets), "clips": jury.clips, "rows": rows}
    study.finish("training", results, draw(results), table(results), root)


def trained(variant: Variant, usual: DenoiserConfig, data_dir: Path, panel: Panel) -> dict[str, Any]:
    """Train one variant of the ``usual`` and measure it."""
    from rich.console import Console

    data = (Clean if variant.clean else PreparedData)(data_dir)
    config = denoiser.fitted(_config(variant, usual, data, panel.targets), data)
    torch.manual_seed(config.loop.seed)
    task = (Lent if variant.lent else DenoiserTask)(data, config)
    if variant.deafened is not None:
        variant.deafened(task.network, data)
    with tempfile.TemporaryDirectory() as folder:
        state = loop.train(task, config.loop, Path(folder, "denoiser"), Console(stderr=True))
        singer = Singer(data, config, Path(folder))
        figures = panel.figures(singer.voice(state.averaged, singer.vocoder()))
    return {"fit": state.metrics["validation/mel"], "figures": figures}


def _config(
    variant: Variant, usual: DenoiserConfig, data: PreparedData, targets: Sequence[str]
) -> DenoiserConfig:
    config = configs.overlay(usual, dict(variant.config), "variant")
    if variant.others is None:
        return config
    left = [name for name in data.speakers if name not in targets][variant.others :]
    return replace(config, speaker_weights={**config.speaker_weights, **dict.fromkeys(left, 0.0)})


def table(results: Mapping[str, Any]) -> str:
    rows = [
        [row["name"], study.figure_of(row["fit"], 2), *cells(row["figures"]["all"])] for row in results["rows"]
    ]
    return study.table(["training", "fit, mel distance", *HEAD], rows)


def draw(results: Mapping[str, Any]) -> Figure:
    """A row for each training; how it fits, beside how it converts."""
    panels = (
        ("fit: mel distance of what was held out", lambda row: row["fit"]),
        ("similarity to target", lambda row: row["figures"]["all"]["similarity"]),
        ("character errors, %", lambda row: 100 * (row["figures"]["all"]["error_rate"] or 0)),
    )
    rows = results["rows"][::-1]
    figure, axes = study.sheet(1, len(panels), (12, 1 + 0.32 * len(rows)))
    places = range(len(rows))
    for axis, (title, value) in zip(axes[0], panels, strict=True):
        values = [value(row) for row in rows]
        axis.barh(places, values, color=[study.ORANGE if row["name"] == USUAL else study.BLUE for row in rows])
        high = min(max(values), FARTHEST * float(np.median(values)))  # what failed leaves the picture
        span = high - min(values) or 1.0
        axis.set_xlim(max(0.0, min(values) - 0.4 * span), high + 0.1 * span)
        axis.set_yticks(places, [row["name"] for row in rows] if axis is axes[0][0] else [""] * len(rows))
        axis.set_title(title, loc="left", fontsize=10)
    return figure


if __name__ == "__main__":
    main()
