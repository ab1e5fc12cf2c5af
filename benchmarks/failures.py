"""What a voice does worst: of each speaker the clips that lost most words, before and after, as spectrograms."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moksori.benchmarks import inputs, record, study
from moksori.benchmarks.inputs import KINDS
from moksori.benchmarks.quality import CONVERTED
from moksori.runtime import Converter, Options, Voice, mel
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError
from moksori.runtime.files import read_json
from moksori.train.measures import Sound

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SECONDS = 6.0  # of each clip
LINE = 74  # characters of a title

EXAMPLES = """\b
Example, of the clips that benchmarks/results/quality-demo.json was measured on:
  python -m moksori.benchmarks.failures demo --inputs talk --sung songs
"""


@click.command(cls=Command, extra="eval,plot", epilog=EXAMPLES)
@click.argument("voice_name", metavar="VOICE")
@click.option("--inputs", "speech", multiple=True, type=click.Path(path_type=Path), help="Folder or file of speech.")
@click.option("--sung", multiple=True, type=click.Path(path_type=Path), help="Folder or file of singing.")
@click.option("--output", type=click.Path(path_type=Path), default=study.FIGURES / "failures.png", show_default=True)
def main(voice_name: str, speech: tuple[Path, ...], sung: tuple[Path, ...], output: Path) -> None:
    """Draw what VOICE failed at in the record that moksori.benchmarks.quality left."""
    voice = Voice.load(voice_name, "cpu")
    path = record.RESULTS / f"quality-{voice.name}.json"
    if not path.is_file():
        raise OptionError(f"there is no {path}: run moksori.benchmarks.quality first")
    try:
        known = read_json(path)
        rows = worst(known["clips"])
        said = {name: known[name] for name in ("steps", "seed")}
        asked = [Options(speaker=row["speaker"], key=row["key"], **said) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise OptionError(f"{path} is no record of moksori.benchmarks.quality ({error!r}): run it again") from None
    if not rows:
        raise OptionError(f"no words were judged in {path}: run moksori.benchmarks.quality with --recogniser")
    places = {one.name: one.path for one in inputs.found(speech, sung)}
    for row in rows:
        if row["clip"] not in places:
            raise OptionError(f"{path} speaks of {row['clip']}, which is not among --inputs and --sung")
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for row, options in zip(rows, asked, strict=True):
            target = Path(folder, "sung.wav")
            Converter(voice, options).convert(places[row["clip"]], target)
            pairs.append((Sound.read(places[row["clip"]]), Sound.read(target)))
    study.save(draw(rows, pairs, voice), output)
    for row in rows:
        click.echo(f"{row['clip']} as {row['speaker']}: {100 * row['error_rate']:.0f} % of the characters misheard")
    click.echo(f"wrote {output}")


def worst(clips: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The conversion of the highest error rate of each speaker and kind of input, in the record's order."""
    made = [row for row in clips if row["system"] == CONVERTED and row["error_rate"] is not None]
    groups = dict.fromkeys((row["speaker"], kind) for row in made for kind in KINDS)
    found = []
    for speaker, kind in groups:
        same = [row for row in made if row["speaker"] == speaker and row["clip"].startswith(f"{kind}/")]
        found += [max(same, key=lambda row: row["error_rate"])] if same else []
    return found


def draw(rows: Sequence[Mapping[str, Any]], pairs: Sequence[tuple[Sound, Sound]], voice: Voice) -> Figure:
    spec = voice.manifest.mel
    figure, axes = study.sheet(len(rows), 2, (13, 2.6 * len(rows)))
    for both, row, sounds in zip(axes, rows, pairs, strict=True):
        texts = (f"{row['clip']}: {row['source_text']}", f"as {row['speaker']}: {row['text']}")
        for axis, sound, text in zip(both, sounds, texts, strict=True):
            shown = mel.log_mel(sound.at(spec.sample_rate)[: round(SECONDS * spec.sample_rate)], spec)
            image = study.show(axis, shown, spec, textwrap.fill(text, LINE), float(shown.max()))
            axis.title.set_fontsize(8)
    study.seconds_below(axes)
    study.scale(figure, image, axes.flat)
    return figure


if __name__ == "__main__":
    main()
