"""How well content networks hear people that they know and people that they do not: what they miss of their teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from moksori.benchmarks import inputs, study
from moksori.runtime import audio, content, devices
from moksori.runtime.backends import cpu
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float32]

SECONDS = 20  # of a piece: short recordings are joined, and a teacher may hear half a minute at most
SHORTEST = 1  # second: of what is left over, less than this varies too little to be missed
COLOURS = (study.BLUE, study.ORANGE, study.GREEN, study.RED)

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.study_hearing build/demo/graphs/teacher.onnx --student before=old.onnx \\
      --student now=voices/demo/content.onnx --set "who were heard=build/demo/heldout/ast_en" \\
      --set "a singer=build/demo/heldout/vocadito"
"""


@click.command(cls=Command, extra="plot", epilog=EXAMPLES)
@click.argument("teacher", metavar="TEACHER", type=click.Path(path_type=Path))
@click.option("--student", "students", multiple=True, required=True, metavar="NAME=GRAPH", help="Who learned from it.")
@click.option("--set", "sets", multiple=True, required=True, metavar="NAME=DIR", help="Recordings; a name may recur.")
@click.option("--clips", type=click.IntRange(1), default=12, show_default=True, help="Of 20 s, from each folder.")
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie.")
def main(teacher: Path, students: tuple[str, ...], sets: tuple[str, ...], clips: int, root: Path) -> None:
    """Compare content graphs of one width by the share of their teacher's units that they miss."""
    if len(students) > len(COLOURS):
        raise OptionError(f"{len(students)} students: no more than {len(COLOURS)} can be told apart in the figure")
    graphs = {name: opened(Path(place)) for name, place in map(parted, students)}
    taught = opened(teacher)
    places: dict[str, list[Path]] = {}
    for name, place in map(parted, sets):
        places.setdefault(name, []).append(Path(place))
    rows = []
    for name, folders in places.items():
        click.echo(f"  {name}", err=True)
        heard = [one for folder in folders for one in sounds(folder, clips)]
        wanted = [content.units(taught, one) for one in heard]
        shares = {
            student: float(np.mean([missed(content.units(graph, one), units)
                                    for one, units in zip(heard, wanted, strict=True)]))
            for student, graph in graphs.items()
        }  # fmt: skip
        rows.append({"name": name, "clips": len(heard), "missed": shares})
    results = {"teacher": teacher.name, "students": list(graphs), "rows": rows}
    study.finish("hearing", results, draw(results), table(results), root)


def parted(text: str) -> tuple[str, str]:
    name, sign, place = text.partition("=")
    if not (name and sign and place):
        raise OptionError(f"'{text}' is no NAME=PLACE")
    return name, place


def opened(graph: Path) -> devices.Session:
    if not graph.is_file():
        raise OptionError(f"{graph} does not exist: name a content graph")
    return devices.open_session(graph, cpu(), name=str(graph))


def sounds(folder: Path, most: int) -> list[Array]:
    """Up to ``most`` pieces of audio at 16 kHz, each of recordings in their order, cut at SECONDS."""
    made: list[Array] = []
    pending = np.zeros(0, np.float32)
    for path in inputs.recordings(folder):
        pending = np.concatenate([pending, audio.read(path, content.RATE)])
        if len(pending) >= SECONDS * content.RATE:
            made.append(pending[: SECONDS * content.RATE])
            pending = pending[:0]
    if len(pending) >= SHORTEST * content.RATE:
        made.append(pending)
    if not made:
        raise OptionError(f"{folder} holds no recordings of {SHORTEST} s together")
    return made[:most]


def missed(units: Array, wanted: Array) -> float:
    """Of the variance of ``wanted`` [Tu, D], the share that ``units`` [Tu, D] do not give; a constant gives none."""
    return float(np.square(units - wanted).mean() / np.square(wanted - wanted.mean(0)).mean())


def table(results: Mapping[str, Any]) -> str:
    return study.table(
        ["of the units of", "pieces", *results["students"]],
        [[row["name"], str(row["clips"]), *(study.figure_of(row["missed"][name], 0, 100) + " %"
                                            for name in results["students"])] for row in results["rows"]],
    )  # fmt: skip


def draw(results: Mapping[str, Any]) -> Figure:
    """A bar for each student in each set; lower is better."""
    figure, axes = study.sheet(1, 1, (9, 0.6 + 0.5 * len(results["rows"])))
    axis = axes[0][0]
    names: Sequence[str] = results["students"]
    high = 0.8 / len(names)
    across = np.arange(len(results["rows"]))
    for at, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        shares = [100 * row["missed"][name] for row in results["rows"]]
        axis.barh(across + (at - (len(names) - 1) / 2) * high, shares, high, color=colour, label=name)
    axis.set_yticks(across, [row["name"] for row in results["rows"]])
    axis.invert_yaxis()
    axis.axvline(100, color=study.BLACK, linewidth=0.8)
    axis.set_xlabel("of the teacher's units missed, %; their mean alone would miss 100")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


if __name__ == "__main__":
    main()
