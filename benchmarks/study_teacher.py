"""Which of a teacher's vectors to learn from: how well phones, and how well speakers, are told by one frame of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moksori.benchmarks import inputs, study, study_units
from moksori.runtime import audio, content
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError
from moksori.train import perturb, teacher, unit_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float32]

DIMENSIONS = (16, 32, 64, 128, 256)
SHIPPED = 128
ALTERED = 2  # times each clip that the map is fitted on
PARTS = 8  # of the labelled speech; a linear map learns phones from every second one
FEWEST = 40  # frames of a phone in half of the parts, else it is left out

EXAMPLES = """\b
Examples:
  pip install --no-deps hibari-tts==0.2.1
  python -m moksori.benchmarks.study_teacher build/demo/whisper --speakers build/demo/heldout \\
      --speakers build/demo/audio --among ast_en,ast_ru,f001,heart --strangers ast_fr,ast_it
"""


@click.command(cls=Command, extra="eval,plot,train,export", epilog=EXAMPLES)
@click.argument("source", metavar="WHISPER")
@click.option("--speakers", "places", multiple=True, type=click.Path(path_type=Path), required=True,
              help="Folder with a folder of each; the first that has it is taken.")
@click.option("--among", required=True, metavar="A,B,…", help="Whom to tell apart; half of their clips fit the maps.")
@click.option("--strangers", required=True, metavar="A,B,…", help="Whom to tell apart too, but to fit nothing on.")
@click.option("--clips", "most", type=click.IntRange(2), default=8, show_default=True, help="Of each speaker.")
@click.option("--minutes", type=click.FloatRange(0.05), default=4, show_default=True, help="To be read aloud.")
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie.")
def main(
    source: str, places: tuple[Path, ...], among: str, strangers: str, most: int, minutes: float, root: Path
) -> None:
    """Compare the layers of a Whisper encoder, and maps from its last one to units of several widths."""
    taught = teacher.load(source)
    if taught.kind != "whisper":
        raise OptionError(f"{source} is a {taught.kind}, and this study is of a Whisper encoder")
    phones, spoken = _labelled(taught.network, 60 * minutes)
    groups = {"speakers": among.split(","), "strangers": strangers.split(",")}
    heard = {
        name: [audio.read(path, perturb.RATE) for path in _clips(places, name, most)]
        for names in groups.values()
        for name in names
    }
    frames = {name: [_layers(taught.network, one) for one in clips] for name, clips in heard.items()}
    known = {name: heard[name] for name in groups["speakers"]}

    def row(name: str, change: Callable[[list[Array]], Array]) -> dict[str, Any]:
        click.echo(f"  {name}", err=True)
        told = {
            group: study_units.told({one: [change(layers) for layers in frames[one]] for one in names})
            for group, names in groups.items()
        }
        return {"name": name, "phones": study_units.told(_parts(change(spoken), phones)), **told}

    rows = [
        row(f"layer {at}" if at else "before layer 1", operator.itemgetter(at)) for at in range(len(spoken))
    ]
    for name, width, altered in _maps():
        rows.append(row(name, partial(_mapped, _fitted(taught.network, known, frames, width, altered))))
    results = {"teacher": Path(source).name, **groups, "phones": len(set(phones)), "rows": rows}
    study.finish("teacher", results, draw(results), table(results), root)


def _maps() -> Iterator[tuple[str, int, bool]]:
    for width in DIMENSIONS:
        yield f"{width} units", width, True
    yield f"{SHIPPED} units, nothing altered", SHIPPED, False


def _clips(places: Sequence[Path], name: str, most: int) -> list[Path]:
    folder = next((place / name for place in places if (place / name).is_dir()), places[0] / name)
    found = inputs.recordings(folder)[:most]
    if len(found) < 2:
        raise OptionError(f"{folder} holds {len(found)} recordings: two or more are needed")
    return found


@contextmanager
def _kept(network: nn.Module) -> Iterator[list[Array]]:
    """What goes into the first layer and comes out of each, and of the last's norm, while the network hears."""
    layers: list[Array] = []
    parts = [*network.get_submodule("layers").children()]

    def keep(part: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        if part is parts[0]:
            layers.append(given[0][0].numpy())
        layers.append(made[0].numpy())

    hooks = [part.register_forward_hook(keep) for part in parts]
    try:
        yield layers
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _layers(network: nn.Module, samples: Array) -> list[Array]:
    """Vectors [Tu, W] of every layer for audio at 16 kHz; the last is what the network gives, after its norm."""
    whole = np.pad(samples, (0, -len(samples) % content.UNIT_HOP))
    with _kept(network) as layers:
        given = network(torch.from_numpy(np.ascontiguousarray(whole))[None])[0].numpy()
    return [*layers[:-1], given]


def _labelled(network: nn.Module, seconds: float) -> tuple[list[str], list[Array]]:
    """Phones [n] and the vectors of each layer [n, W], of the licence read aloud."""
    text, width = study_units.TEXT.read_text(encoding="utf-8"), 0

    def hear(samples: Array) -> Array:
        nonlocal width
        layers = _layers(network, samples)
        width = layers[0].shape[1]
        return np.concatenate(layers, 1)

    phones, side_by_side, mels = study_units.labelled(hear, text, seconds)
    kept, names = study_units.spoken(phones, study_units.lag(phones, mels))
    return names, [side_by_side[kept, at : at + width] for at in range(0, side_by_side.shape[1], width)]


def _parts(frames: Array, phones: Sequence[str]) -> dict[str, list[Array]]:
    """Frames of each phone that is common enough, part by part of the speech."""
    part = np.arange(len(frames)) * PARTS // len(frames)
    labels = np.array(phones)
    by = {phone: [frames[(labels == phone) & (part == at)] for at in range(PARTS)] for phone in sorted(set(phones))}
    return {
        phone: some for phone, some in by.items() if min(sum(map(len, some[at::2])) for at in (0, 1)) >= FEWEST
    }


def _fitted(
    network: nn.Module, heard: Mapping[str, list[Array]], frames: Mapping[str, list[list[Array]]], width: int,
    altered: bool,
) -> unit_map.UnitMap:  # fmt: skip
    """The map to units, from every second clip of each speaker: those that speakers are learned from too."""
    rng = np.random.default_rng(0)
    clean, other, who = [], [], []
    for number, (name, clips) in enumerate(heard.items()):
        for samples, layers in zip(clips[::2], frames[name][::2], strict=True):
            for _ in range(ALTERED):
                noisy, ratio = perturb.altered(samples, rng)
                made = perturb.realign(_layers(network, noisy)[-1], ratio, len(layers[-1])) if altered else layers[-1]
                clean.append(layers[-1])
                other.append(made)
                who.append(np.full(len(layers[-1]), number))
    same, changed = (np.concatenate(some).astype(np.float64) for some in (clean, other))
    return unit_map.fit(same, changed, np.concatenate(who), width)


def _mapped(found: unit_map.UnitMap, layers: Sequence[Array]) -> Array:
    return (layers[-1] @ found.weight.T + found.bias).astype(np.float32)


def table(results: Mapping[str, Any]) -> str:
    cell = study.figure_of
    chances = {group: f"(chance {100 / len(results[group]):.0f})" for group in ("speakers", "strangers")}
    return study.table(
        ["one frame of", "tells the phone, %", f"a known speaker, % {chances['speakers']}",
         f"a stranger, % {chances['strangers']}"],
        [[row["name"], *(cell(row[name], 0, 100) for name in ("phones", "speakers", "strangers"))]
         for row in results["rows"]],
    )  # fmt: skip


def draw(results: Mapping[str, Any]) -> Figure:
    """Phones up, speakers across; the best is on the upper left."""
    figure, axes = study.sheet(1, 1, (9, 5))
    axis = axes[0][0]
    for kind, colour in (("layer", study.BLUE), ("units", study.ORANGE)):
        rows = [row for row in results["rows"] if kind in row["name"].split(",")[0]]
        axis.plot([100 * row["strangers"] for row in rows], [100 * row["phones"] for row in rows], "o", color=colour)
        for at, row in enumerate(rows):
            axis.annotate(
                row["name"], (100 * row["strangers"], 100 * row["phones"]), xytext=(6, -11 if at % 2 else 4),
                textcoords="offset points", fontsize=8,
            )  # fmt: skip
    axis.set(xlabel="frames told between two strangers, %", ylabel="frames whose phone is told, %")
    axis.margins(0.15)
    return figure


if __name__ == "__main__":
    main()
