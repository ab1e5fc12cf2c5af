"""What a content network gains by hearing a little of what comes next: students that differ in look-ahead alone."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

from moksori.benchmarks import study
from moksori.runtime.command import Command
from moksori.runtime.files import read_json, write_json
from moksori.train import config as configs
from moksori.train import content, loop
from moksori.train.content import ContentConfig, ContentTask
from moksori.train.dataset import PreparedData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECIPE = study.RECIPE / "content.yaml"
AHEAD = (0, 1, 2, 4, 8)  # units of 20 ms; one for each of the first layers, of which there are eight
MEASURED = ("clean_l1", "altered_l1", "altered_cosine")

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.study_lookahead build/demo/taught work
"""


@click.command(cls=Command, extra="train,plot", epilog=EXAMPLES)
@click.argument("data_dir", metavar="DATA_DIR", type=click.Path(path_type=Path))
@click.argument("work", metavar="WORK_DIR", type=click.Path(path_type=Path))
@click.option("--ahead", "asked", multiple=True, type=click.IntRange(0), help="Units.  [default: 0, 1, 2, 4, 8]")
@click.option("--steps", type=click.IntRange(1), default=600, show_default=True, help="Of each training.")
@click.option("--config", type=click.Path(path_type=Path), default=RECIPE, help="In place of the recipe's.")
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie.")
def main(data_dir: Path, work: Path, asked: tuple[int, ...], steps: int, config: Path, root: Path) -> None:
    """Train students of the content graph that DATA_DIR was made with.

    WORK_DIR keeps each one's figures; what is there is not trained again.
    """
    torch.set_num_threads(1)
    usual = configs.load(config, ContentConfig())
    usual = replace(usual, loop=replace(usual.loop, steps=steps, validate_every=steps, save_every=steps))
    chosen = sorted(set(asked or AHEAD))
    for ahead in chosen:
        path = work / f"{ahead}.json"
        if not path.exists():
            click.echo(f"  {ahead} units ahead", err=True)
            write_json(path, trained(data_dir, replace(usual, network={**usual.network, "ahead": ahead})))
    rows = [read_json(work / f"{ahead}.json") for ahead in chosen]
    results = {"steps": steps, "rows": rows}
    study.finish("lookahead", results, draw(results), table(results), root)


def trained(data_dir: Path, config: ContentConfig) -> dict[str, Any]:
    """Train a student and measure how far it is from its teacher on held-out slices."""
    from rich.console import Console

    data = PreparedData(data_dir)
    config = content.fitted(config, data)
    torch.manual_seed(config.loop.seed)
    task = ContentTask(data, config)
    with tempfile.TemporaryDirectory() as folder:
        state = loop.train(task, config.loop, Path(folder, "content"), Console(stderr=True))
    found = {name: state.metrics[f"validation/{name}"] for name in MEASURED}
    return {"ahead": config.network["ahead"], "milliseconds": 1000 * content.shape(config).lookahead, **found}


def table(results: Mapping[str, Any]) -> str:
    cell = study.figure_of
    return study.table(
        ["units ahead", "look-ahead, ms", "L1 to the teacher", "of altered audio", "1 - cosine of altered audio"],
        [[str(row["ahead"]), cell(row["milliseconds"], 0), *(cell(row[name], 3) for name in MEASURED)]
         for row in results["rows"]],
    )  # fmt: skip


def draw(results: Mapping[str, Any]) -> Figure:
    figure, axes = study.sheet(1, 1, (7, 3.4))
    axis, across = axes[0][0], [row["milliseconds"] for row in results["rows"]]
    for name, label, colour in (("clean_l1", "as it is", study.BLUE), ("altered_l1", "altered", study.ORANGE)):
        axis.plot(across, [row[name] for row in results["rows"]], "o-", color=colour, label=f"audio {label}")
    axis.set(xlabel="look-ahead, ms", ylabel="L1 distance to the teacher's units")
    axis.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
