"""What the denoiser learned of each of its conditions: take one away, leave the others, and measure what changes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from moksori.benchmarks import study
from moksori.benchmarks.study import Bench, Inputs
from moksori.runtime import Converter, Options, Voice, audio, mel
from moksori.runtime.command import Command
from moksori.runtime.mel import MelSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FULL, MONOTONE = "all as heard", "f0 flat, vocoder too"
SHOWN_SECONDS = 4.0
ACTIVE_DB = 30.0  # below the loudest frame; quieter ones do not count as sung

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.study_conditions --inputs build/demo/heldout/ast_en \\
      --sung tests/data/vocadito_10.flac --references build/demo/heldout
"""


def no_units(given: Inputs) -> Inputs:
    """Every frame gets the mean of the chunk's units: that somebody speaks, not what."""
    units = given["units"]
    return {**given, "units": np.broadcast_to(units.mean(1, keepdims=True), units.shape).copy()}


def flat_f0(given: Inputs) -> Inputs:
    """f0 rests at its median. The vocoder goes on hearing the melody."""
    f0, voiced = given["f0"], given["voiced"] > 0
    return {**given, "f0": np.full_like(f0, np.median(f0[voiced] if voiced.any() else f0))}


def all_voiced(given: Inputs) -> Inputs:
    return {**given, "voiced": np.ones_like(given["voiced"])}


def even_loudness(given: Inputs) -> Inputs:
    """Every frame as loud as the median of those that are not silent."""
    loudness = given["loudness"]
    active = loudness > loudness.max() - ACTIVE_DB
    return {**given, "loudness": np.full_like(loudness, np.median(loudness[active]))}


def nobody(given: Inputs) -> Inputs:
    """All speakers in equal parts."""
    speaker = given["speaker"]
    return {**given, "speaker": np.full_like(speaker, 1 / speaker.shape[1])}


CHANGES = {
    "units at their mean": no_units,
    "f0 flat": flat_f0,
    "all voiced": all_voiced,
    "loudness flat": even_loudness,
    "speakers mixed": nobody,
}


@click.command(cls=Command, extra="eval,plot", epilog=EXAMPLES)
@click.option("--voice", "voice_name", default="demo", show_default=True)
@study.takes_clips
def main(
    voice_name: str, inputs: tuple[Path, ...], sung: tuple[Path, ...], references: Path, recogniser: Path | None,
    speaker: str, root: Path,
) -> None:  # fmt: skip
    """Convert recordings with each condition of the denoiser frozen in turn; the seed stays the same."""
    voice = Voice.load(voice_name, "cpu")
    bench = Bench(voice, speaker, inputs, sung, references, recogniser)
    with tempfile.TemporaryDirectory() as folder:
        curve = Path(folder) / "flat.f0.csv"
        curve.write_text(f"time,f0\n0,{_median(voice, speaker):.2f}\n", encoding="utf-8")
        options = Options(speaker=speaker)
        ways = {FULL: Converter(voice, options)}
        ways |= {
            name: Converter(study.altered(voice, "condition", change), options) for name, change in CHANGES.items()
        }
        ways[MONOTONE] = Converter(voice, Options(speaker=speaker, f0=curve))
        rows = [asdict(row) for row in bench.rows(ways, FULL)]
    results = {"voice": voice.name, "speaker": speaker, "clips": list(bench.sources), "rows": rows}
    study.finish("conditions", results, draw(bench, voice.manifest.mel), table(results), root)


def table(results: Mapping[str, Any]) -> str:
    cell = study.figure_of
    return study.table(
        ["condition of the denoiser", "similarity to target", "f0 error, cents", "voicing errors, %",
         "character errors, %", "mel distance"],
        [[row["name"], cell(row["similarity"], 2), cell(row["cents"], 0), cell(row["voicing"], 1, 100),
          cell(row["error_rate"], 0, 100), cell(row["mel"], 2)] for row in results["rows"]],
    )  # fmt: skip


def draw(bench: Bench, spec: MelSpec) -> Figure:
    """Source and results of the last clip, one above the other in two columns."""
    clip = list(bench.sources)[-1]
    sounds = {"source": audio.read(bench.sources[clip], spec.sample_rate)}
    sounds |= {name: results[clip].at(spec.sample_rate) for name, results in bench.results.items()}
    mels = {
        name: mel.log_mel(samples[: round(SHOWN_SECONDS * spec.sample_rate)], spec) for name, samples in sounds.items()
    }
    figure, axes = study.sheet(-(-len(mels) // 2), 2, (11, 10))
    top = float(np.quantile(mels[FULL], 0.999))
    for axis, (name, one) in zip(axes.T.flat, mels.items(), strict=False):
        image = study.show(axis, one, spec, name, top)
    study.seconds_below(axes)
    study.scale(figure, image, axes.flat)
    return figure


def _median(voice: Voice, speaker: str) -> float:
    return voice.manifest.speakers[voice.speaker_index(speaker)].f0_median


if __name__ == "__main__":
    main()
