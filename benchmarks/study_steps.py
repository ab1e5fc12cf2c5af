"""From a thousand steps to four: the error of each sampler where the truth is known, and what steps do to a voice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moksori.benchmarks import samplers as closed_form
from moksori.benchmarks import study
from moksori.benchmarks.study import Bench
from moksori.runtime import Converter, Options, Voice, samplers, schedules
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError
from moksori.runtime.schedules import LinearBeta, Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS = (1, 2, 4, 8, 16, 64)
SAMPLERS = ("euler", "ab2")
REFERENCE = ("ab2", 64)  # what all others are compared with
PLANS = (2, 4, 8, 16, 32, 64, 128, 256)  # steps, of the closed form
SCHEDULES: dict[str, Schedule] = {"epsilon": LinearBeta(), "velocity": schedules.LINEAR}
TITLES = {"epsilon": "models that predict noise", "velocity": "flows, such as the demo voice"}
COLOURS = (study.BLUE, study.ORANGE, study.GREEN, study.RED, study.PURPLE)

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.study_steps --inputs build/demo/heldout/ast_en \\
      --sung tests/data/vocadito_10.flac --references build/demo/heldout
"""


@click.command(cls=Command, extra="eval,plot", epilog=EXAMPLES)
@click.option("--voice", "voice_name", default="demo", show_default=True, help="A flow.")
@study.takes_clips
def main(
    voice_name: str, inputs: tuple[Path, ...], sung: tuple[Path, ...], references: Path, recogniser: Path | None,
    speaker: str, root: Path,
) -> None:  # fmt: skip
    """Convert recordings in 1 to 64 steps, and draw the orders of all samplers beside them."""
    voice = Voice.load(voice_name, "cpu")
    if voice.manifest.denoiser.prediction != "velocity":
        raise OptionError(f"voice '{voice.name}' predicts noise, and this study is of flows: give another --voice")
    bench = Bench(voice, speaker, inputs, sung, references, recogniser)
    ways = {
        _named(sampler, steps): Converter(voice, Options(speaker=speaker, sampler=sampler, steps=steps))
        for sampler in SAMPLERS
        for steps in STEPS
        if (sampler, steps) != ("ab2", 1)  # which is Euler's
    }
    rows = [asdict(row) for row in bench.rows(ways, _named(*REFERENCE))]
    results = {
        "voice": voice.name, "speaker": speaker, "clips": list(bench.sources), "rows": rows, "errors": errors(),
        "noise_scale": voice.manifest.denoiser.noise_scale,
    }  # fmt: skip
    study.finish("steps", results, draw(results), table(results), root)


def errors() -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Kind of model -> sampler -> evaluations and error, on benchmarks.samplers' mixture of Gaussians."""
    return {
        kind: {
            name: [
                (len(plan), closed_form.error(schedule, plan))
                for plan in (samplers.plan(schedule, name, steps) for steps in PLANS)
            ]
            for name in samplers.SAMPLERS[kind]
        }
        for kind, schedule in SCHEDULES.items()
    }


def table(results: Mapping[str, Any]) -> str:
    cell = study.figure_of
    return study.table(
        ["sampler, steps", "mel distance", "similarity to target", "f0 error, cents", "character errors, %"],
        [[row["name"], cell(row["mel"], 3), cell(row["similarity"], 3), cell(row["cents"], 1),
          cell(row["error_rate"], 0, 100)] for row in results["rows"]],
    )  # fmt: skip


def draw(results: Mapping[str, Any]) -> Figure:
    """Error over evaluations: two closed forms, and the voice's mel."""
    figure, axes = study.sheet(1, 3, (13, 4.4))
    for axis, (kind, by) in zip(axes[0], results["errors"].items(), strict=False):
        for colour, (name, points) in zip(COLOURS, by.items(), strict=False):
            axis.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4, label=name)
        axis.set_title(TITLES[kind], loc="left")
        axis.set_ylabel("error, share of the data's deviation")
    voice = axes[0][2]
    for colour, sampler in zip(COLOURS, SAMPLERS, strict=False):
        points = [
            (int(row["name"].split(", ")[1]), row["mel"])
            for row in results["rows"]
            if row["name"].startswith(sampler) and row["mel"] > 0
        ]
        voice.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4, label=sampler)
    voice.set_title(f"the voice {results['voice']}", loc="left")
    voice.set_ylabel(f"mel distance to {_named(*REFERENCE)} steps")
    for axis in axes[0]:
        _logarithmic(axis)
    return figure


def _logarithmic(axis: Axes) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    ticks = [1, 4, 16, 64, 256]
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xlabel("evaluations of the network")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)


def _named(sampler: str, steps: int) -> str:
    return f"{sampler}, {steps}"


if __name__ == "__main__":
    main()
