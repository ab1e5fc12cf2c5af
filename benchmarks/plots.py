"""The figures of docs/results.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moksori.benchmarks.readme import beside
from moksori.benchmarks.study import BLUE, FIGURES, ORANGE, save, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FIGURES", "DRAWN", "Plot", "draw", "possible"]

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Plot:
    source: str  # in benchmarks/results
    file: str  # in docs/figures
    draw: Callable[[Axes, Results], None]
    size: tuple[float, float] = (8.0, 3.0)  # inches


def draw(results: Path, folder: Path) -> None:
    """Every figure whose results are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in DRAWN.values():
        if possible(plot, results):
            figure, axes = sheet(1, 1, plot.size)
            plot.draw(axes[0, 0], json.loads((results / plot.source).read_text(encoding="utf-8")))
            save(figure, folder / plot.file)


def possible(plot: Plot, results: Path) -> bool:
    return (results / plot.source).is_file()


def _speed(axis: Axes, results: Results) -> None:
    costs = {stage: 1000 * spent / results["seconds"] for stage, spent in results["stages"].items()}
    axis.barh(list(costs)[::-1], list(costs.values())[::-1], color=BLUE)
    axis.set_xlabel("milliseconds of a core for a second of audio")


def _memory(axis: Axes, results: Results) -> None:
    for song in results["songs"]:
        along = [(done * song["minutes"], megabytes) for done, megabytes in song["along"]]
        axis.plot(*zip(*along, strict=True), label=f"{song['minutes']:g} min")
    axis.set(xscale="log", ylim=(0, None), xlabel="minutes of the song, converted", ylabel="MB")
    axis.legend(title="length of the song")


def _stages(axis: Axes, results: Results) -> None:
    ours, theirs = beside(results)
    places = range(len(theirs))
    stages = list(theirs)[::-1]
    axis.barh([at + 0.2 for at in places], [1000 * ours[stage] for stage in stages], 0.4, color=BLUE, label="Moksori")
    others = [1000 * theirs[stage] for stage in stages]
    axis.barh([at - 0.2 for at in places], others, 0.4, color=ORANGE, label="the others' way")
    axis.set_yticks(list(places), stages)
    axis.set(xscale="log", xlabel="milliseconds for a second of audio")
    axis.legend()


def _pitch(axis: Axes, results: Results) -> None:
    costs = {row["tracker"]: 1000 * row["cpu_seconds"] / results["seconds"] for row in results["speed"]}
    axis.barh(list(costs)[::-1], list(costs.values())[::-1], color=BLUE)
    axis.set(xscale="log", xlabel="milliseconds of a core for a second of audio")


DRAWN = {
    "Speed": Plot("speed-demo.json", "results-speed.png", _speed),
    "Memory": Plot("memory-demo.json", "results-memory.png", _memory),
    "Stages, beside the others' way": Plot("stages-cpu.json", "results-stages.png", _stages),
    "Pitch": Plot("pitch.json", "results-pitch.png", _pitch),
}  # by the title of a section
