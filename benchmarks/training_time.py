"""How long a denoiser has to learn: conversions judged as the minutes of its training go by."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from moksori.benchmarks import study
from moksori.benchmarks.panel import HEAD, Panel, cells
from moksori.runtime.files import read_json, write_json
from moksori.train import config as configs
from moksori.train import denoiser, loop, run
from moksori.train.dataset import PreparedData
from moksori.train.denoiser import DenoiserConfig, DenoiserTask
from moksori.train.singer import Singer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECIPE = study.RECIPE / "denoiser.yaml"
TRIED = 100  # steps by which the speed is known
ROWS = "judged.json"  # in RUN_DIR


class Watched(DenoiserTask):
    """Judges at every validation, and counts the minutes that are spent on anything else.

    On a CPU a minute is one of one core's, whatever else the machine does meanwhile; on a GPU it is the clock's.
    ``rows`` is what was measured, before the run was interrupted too. Without a panel only time is taken.
    """

    def __init__(self, data: PreparedData, config: DenoiserConfig, folder: Path, panel: Panel | None) -> None:
        super().__init__(data, config)
        self.panel, self.folder = panel, folder
        self.rows: list[dict[str, Any]] = read_json(folder / ROWS) if (folder / ROWS).exists() else []
        self._now = time.perf_counter if torch.cuda.is_available() else time.process_time
        self._before, self._since = 60 * self.rows[-1]["minutes"] if self.rows else 0.0, self._now()

    @property
    def seconds(self) -> float:
        return self._before + self._now() - self._since

    def validate(self, network: nn.Module, writer: SummaryWriter, step: int, device: torch.device) -> dict[str, float]:
        if self.panel is None:
            return {}
        self._before = self.seconds
        metrics = super().validate(network, writer, step, device)
        singer = Singer(self.data, self.config, self.folder)
        figures = self.panel.figures(singer.voice(network, singer.vocoder()))
        row = {"step": step, "minutes": self._before / 60, "fit": metrics["validation/mel"], "figures": figures}
        self.rows.append(row)
        write_json(self.folder / ROWS, self.rows)
        click.echo(line(row))
        self._since = self._now()
        return metrics


def measured(
    data_dir: Path, config_file: Path, folder: Path, minutes: float, judged: int, panel: Panel
) -> dict[str, Any]:
    """Train a denoiser for about ``minutes`` in ``folder`` (a RUN_DIR), judging it ``judged`` times.

    The learning rate falls over the whole time, so a training planned to be shorter does a little better by its end.
    """
    from rich.console import Console

    data, quiet = PreparedData(data_dir), Console(quiet=True)
    asked = denoiser.fitted(configs.load(config_file, DenoiserConfig()), data)
    planned = folder / "denoiser" / "config.yaml"
    if not planned.exists():
        trial = _lasting(asked, TRIED, 1)
        task = Watched(data, trial, folder, None)
        loop.train(task, trial.loop, folder / "trial", quiet)
        steps = round(TRIED * 60 * minutes / task.seconds)
        run.write_down("denoiser", data, folder, _lasting(asked, steps, judged))
    config = configs.load(planned, asked)
    torch.manual_seed(config.loop.seed)
    task = Watched(data, config, folder, panel)
    loop.train(task, config.loop, folder / "denoiser", Console(stderr=True))
    return {"targets": list(panel.targets), "clips": panel.clips, "rows": task.rows}


def _lasting(config: DenoiserConfig, steps: int, judged: int) -> DenoiserConfig:
    every = -(-steps // judged)
    once = replace(config.loop, steps=every * judged, validate_every=every, save_every=every, keep=judged)
    return replace(config, loop=once)


def line(row: Mapping[str, Any]) -> str:
    found = "  ".join(f"{name} {study.figure_of(value, 3)}" for name, value in row["figures"]["all"].items())
    return f"{row['minutes']:.1f} min, step {row['step']}: fit {row['fit']:.3f}  {found}"


def table(results: Mapping[str, Any]) -> str:
    rows = [
        [f"{row['minutes']:.0f}", target, study.figure_of(row["fit"], 2), *cells(row["figures"][target])]
        for row in results["rows"]
        for target in results["targets"]
    ]
    return study.table(["minutes", "sung as", "fit, mel distance", *HEAD], rows)


def draw(results: Mapping[str, Any]) -> Figure:
    panels = (("similarity to target", "similarity", 1.0), ("character errors, %", "error_rate", 100.0))
    figure, axes = study.sheet(1, 1 + len(panels), (12, 3.4))
    minutes = [row["minutes"] for row in results["rows"]]
    axes[0][0].plot(minutes, [row["fit"] for row in results["rows"]], "o-", color=study.BLACK)
    axes[0][0].set_title("fit: mel distance of what was held out", loc="left", fontsize=10)
    for axis, (title, name, factor) in zip(axes[0][1:], panels, strict=True):
        for target, colour in zip(results["targets"], (study.BLUE, study.ORANGE, study.GREEN), strict=False):
            values = [factor * (row["figures"][target][name] or 0.0) for row in results["rows"]]
            axis.plot(minutes, values, "o-", color=colour, label=target)
        axis.set_title(title, loc="left", fontsize=10)
        axis.legend()
    for axis in axes[0]:
        axis.set(xlabel="minutes of training, one core", ylim=(0, 1.05 * axis.get_ylim()[1]))
    return figure
