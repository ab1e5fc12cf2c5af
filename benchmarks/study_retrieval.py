"""Units moved toward the target's own nearest ones as a voice sings: what that gives, and what it takes.

The conversion of kNN-VC (Baas et al. 2023, arXiv:2305.18975), which the community's converters mix in as "index".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moksori.benchmarks import study
from moksori.benchmarks.panel import HEAD, Panel, cells, takes_panel
from moksori.benchmarks.study import Inputs
from moksori.runtime import Voice
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError
from moksori.train.dataset import PreparedData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float32]

NEAREST = 4  # as in kNN-VC
LARGEST = 65_536  # units of a bank, 22 minutes
READ = 16  # times as many units are read as are kept, so that these come from many slices
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
PANELS = (("similarity", "similarity", 1.0), ("error_rate", "character errors, %", 100.0), ("score", "score", 1.0))

EXAMPLES = """\b
Example, with what `make demo-voice` leaves behind:
  python -m moksori.benchmarks.study_retrieval build/demo/data --inputs talk --references build/demo/heldout \\
      --recogniser build/demo/teacher
"""


@dataclass(frozen=True)
class Bank:
    """Units [N, D] of one speaker, and half their squared lengths [N]."""

    units: Tensor
    halves: Tensor

    @classmethod
    def of(cls, data: PreparedData, speaker: str, count: int) -> Bank:
        """Up to ``count`` different clean units that a speaker is trained on; OptionError where there are none."""
        random, read = np.random.default_rng(0), 0
        pieces = [piece for piece in data.training if data.speakers[piece.speaker] == speaker]
        found = []
        for at in random.permutation(len(pieces)):
            found.append(np.unique(data.crop(pieces[at], 0, pieces[at].frames, variant=0).units, axis=0))
            read += len(found[-1])
            if read >= READ * count:
                break
        if not found:
            raise OptionError(f"{data.folder} holds no slice of {speaker} to train on")
        known = np.concatenate(found)
        units = torch.from_numpy(known[random.permutation(len(known))[:count]])
        return cls(units, units.square().sum(1) / 2)

    def nearer(self, units: Array, share: float) -> Array:
        """Units [T, D] with a ``share`` of the mean of the NEAREST here, by Euclidean distance."""
        asked = torch.from_numpy(units)
        closeness = torch.addmm(-self.halves, asked, self.units.T)
        near = self.units[closeness.topk(min(NEAREST, len(self.units)), dim=1).indices].mean(1)
        mixed: Array = torch.lerp(asked, near, share).numpy()
        return mixed


@click.command(cls=Command, extra="train,eval,plot", epilog=EXAMPLES)
@click.argument("data_dir", metavar="DATA_DIR", type=click.Path(path_type=Path))
@click.option("--voice", "voice_name", default="demo", show_default=True, help="One whose units the data holds.")
@click.option("--share", "shares", multiple=True, type=click.FloatRange(0, 1), default=SHARES, show_default=True)
@takes_panel
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie.")
def main(data_dir: Path, voice_name: str, shares: tuple[float, ...], root: Path, **panel: Any) -> None:
    """Convert recordings with a share of each unit taken from the nearest in DATA_DIR of who sings."""
    data, voice = PreparedData(data_dir), Voice.load(voice_name, "cpu")
    jury = Panel(data, **panel)
    banks = {name: Bank.of(data, name, LARGEST) for name in jury.targets}
    rows = []
    for share in shares:
        click.echo(f"  {share:g}", err=True)
        figures = jury.figures(retrieving(voice, banks, share), steps=voice.manifest.denoiser.steps)
        rows.append({"share": share, "figures": figures})
    sizes = {name: len(bank.units) for name, bank in banks.items()}
    results = {"voice": voice.name, "units": sizes, "targets": list(jury.targets), "clips": jury.clips, "rows": rows}
    study.finish("retrieval", results, draw(results), table(results), root)


def retrieving(voice: Voice, banks: Mapping[str, Bank], share: float) -> Voice:
    """The voice with a ``share`` of each unit from the bank of the speaker that it sings as."""

    def hears(inputs: Inputs) -> Inputs:
        name = voice.speaker_names[int(inputs["speaker"][0].argmax())]
        return {**inputs, "units": banks[name].nearer(inputs["units"][0], share)[None]}

    return study.altered(voice, "condition", hears)


def table(results: Mapping[str, Any]) -> str:
    rows = [
        [f"{row['share']:g}", who, *cells(row["figures"][who])] for row in results["rows"] for who in results["targets"]
    ]
    return study.table(["share", "sung as", *HEAD], rows)


def draw(results: Mapping[str, Any]) -> Figure:
    """Measures over the share, a line for each target; dashed, the similarity to the source."""
    figure, axes = study.sheet(1, len(PANELS), (12, 3.8))
    shares = [row["share"] for row in results["rows"]]
    for who, colour in zip(results["targets"], cycle((study.BLUE, study.ORANGE, study.GREEN, study.RED)), strict=False):
        found = [row["figures"][who] for row in results["rows"]]
        for axis, (field, label, factor) in zip(axes[0], PANELS, strict=True):
            axis.plot(shares, [factor * (one[field] or 0) for one in found], "o-", color=colour, label=who)
            axis.set_xlabel("share of the target's own units")
            axis.set_ylabel(label)
            axis.grid(alpha=0.3)
        axes[0][0].plot(shares, [one["source_similarity"] for one in found], "o--", color=colour)
    axes[0][0].set_title("to the target; dashed, to the source", loc="left", fontsize=10)
    axes[0][-1].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
