"""Classifier-free guidance on a voice that learned to do without its conditions: what the weight gives and takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moksori.benchmarks import study
from moksori.benchmarks.study import Bench
from moksori.runtime import Converter, Options, Voice
from moksori.runtime.command import Command

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAIN = 1.0  # the weight of no guidance, and half the work
PANELS = (
    ("similarity", "similarity", 1.0), ("error_rate", "character errors, %", 100.0),
    ("mel", "mel distance to weight 1", 1.0),
)  # fmt: skip

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.study_guidance voices/guided --inputs build/demo/heldout/ast_en \\
      --sung tests/data/vocadito_10.flac --references build/demo/heldout
The voice has to come from svc-train denoiser with "dropped: 0.1" or more in its config.
"""


@click.command(cls=Command, extra="eval,plot", epilog=EXAMPLES)
@click.argument("voice_name", metavar="VOICE")
@click.option("--weight", "weights", multiple=True, type=click.FloatRange(0, 10),
              help="May be given more than once.  [default: 0, 0.5, 1, 1.5, 2, 3]")
@study.takes_clips
def main(
    voice_name: str, weights: tuple[float, ...], inputs: tuple[Path, ...], sung: tuple[Path, ...], references: Path,
    recogniser: Path | None, speaker: str, root: Path,
) -> None:  # fmt: skip
    """Convert recordings with several weights of guidance."""
    voice = Voice.load(voice_name, "cpu")
    asked = sorted({*(weights or (0.0, 0.5, 1.5, 2.0, 3.0)), PLAIN})
    ways = {f"{weight:g}": Converter(voice, Options(speaker=speaker, guidance=weight)) for weight in asked}
    bench = Bench(voice, speaker, inputs, sung, references, recogniser)
    rows = [asdict(row) for row in bench.rows(ways, f"{PLAIN:g}")]
    for row, way in zip(rows, ways.values(), strict=True):
        row["evaluations"] = len(way.plan)
    results = {
        "voice": voice.name, "speaker": speaker, "clips": list(bench.sources), "rows": rows,
        "dropped": float(voice.condition.metadata["dropped"]),
    }  # fmt: skip
    study.finish("guidance", results, draw(results), table(results), root)


def table(results: Mapping[str, Any]) -> str:
    cell = study.figure_of
    return study.table(
        ["weight", "evaluations", "similarity to target", "to source", "f0 error, cents", "character errors, %",
         "mel distance to weight 1"],
        [[row["name"], str(row["evaluations"]), cell(row["similarity"], 3), cell(row["source_similarity"], 3),
          cell(row["cents"], 1), cell(row["error_rate"], 0, 100), cell(row["mel"], 2)] for row in results["rows"]],
    )  # fmt: skip


def draw(results: Mapping[str, Any]) -> Figure:
    """Measures over the weight."""
    figure, axes = study.sheet(1, len(PANELS), (12, 3.8))
    rows = results["rows"]
    weights = [float(row["name"]) for row in rows]
    for axis, (field, label, factor) in zip(axes[0], PANELS, strict=True):
        axis.plot(weights, [factor * row[field] for row in rows], "o-", color=study.BLUE, label="to the target")
        if field == "similarity":
            to_source = [row["source_similarity"] for row in rows]
            axis.plot(weights, to_source, "o-", color=study.ORANGE, label="to the source")
            axis.legend(frameon=False)
        axis.axvline(PLAIN, color="0.6", linestyle=":")
        axis.set_xlabel("weight of guidance (1: none)")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
