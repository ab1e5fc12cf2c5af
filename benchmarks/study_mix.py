"""A mix of two speakers (svc-run --speaker heart:0.3,f001:0.7): whom it resembles, and what is understood of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moksori.benchmarks import inputs as recordings
from moksori.benchmarks import study
from moksori.benchmarks.inputs import Recording
from moksori.runtime import Converter, Options, Voice
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError
from moksori.train.judge import Judge, Verdict
from moksori.train.measures import Recogniser, Sound

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.85, 0.9, 1.0)  # of the second of the two

EXAMPLES = """\b
Example, with what `make demo-voice` leaves behind:
  python -m moksori.benchmarks.study_mix --inputs talk --references build/demo/heldout --recogniser build/demo/teacher
"""


@click.command(cls=Command, extra="eval,plot", epilog=EXAMPLES)
@click.option("--voice", "voice_name", default="demo", show_default=True)
@click.option("--of", "names", nargs=2, default=("heart", "f001"), show_default=True, help="The two that are mixed.")
@click.option("--share", "shares", multiple=True, type=click.FloatRange(0, 1), default=SHARES, show_default=True,
              help="Of the second.")
@click.option("--inputs", multiple=True, type=click.Path(path_type=Path), help="Folder or file of speech.")
@click.option("--references", type=click.Path(path_type=Path), required=True, help="Folder of speakers.")
@click.option("--recogniser", type=click.Path(path_type=Path), help="Folder of a CTranslate2 Whisper model.")
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie.")
def main(
    voice_name: str, names: tuple[str, str], shares: tuple[float, ...], inputs: tuple[Path, ...], references: Path,
    recogniser: Path | None, root: Path,
) -> None:  # fmt: skip
    """Convert speech as mixes of two speakers, each moved into the mix's range."""
    if names[0] == names[1]:
        raise OptionError(f"--of names {names[0]} twice; name two speakers")
    voice, found = Voice.load(voice_name, "cpu"), recordings.found(inputs, ())
    whisper = Recogniser(recogniser) if recogniser else None
    known = recordings.references(references, names)
    rows = []
    for share in sorted(set(shares)):
        mix = mixed(names, share)
        click.echo(f"  {mix}", err=True)
        rows.append({"share": share, "mix": mix, **measured(voice, mix, found, known, names, whisper)})
    results = {"voice": voice.name, "of": list(names), "clips": [one.name for one in found], "rows": rows}
    study.finish("mix", results, draw(results), table(results), root)


def mixed(names: tuple[str, str], share: float) -> str:
    """What --speaker takes for a ``share`` of the second and the rest of the first."""
    parts = {name: weight for name, weight in zip(names, (1 - share, share), strict=True) if weight}
    return ",".join(f"{name}:{weight:g}" for name, weight in parts.items())


def measured(
    voice: Voice, mix: str, found: Sequence[Recording], known: Mapping[str, Sequence[Sound]], names: Sequence[str],
    whisper: Recogniser | None,
) -> dict[str, Any]:  # fmt: skip
    """Means over the clips: similarity to each of ``names`` and to the source, words, and pitch."""
    converter = Converter(voice, Options(speaker=mix, key="speech"))
    keys, results = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "result.wav")
        for one in found:
            keys[one.name] = converter.convert(one.path, target).key
            results[one.name] = Sound.read(target)

    def verdict(name: str, recogniser: Recogniser | None = None) -> Verdict:
        clips = [recordings.clip(one, name, keys[one.name], known) for one in found]
        return Judge(clips, known, recogniser).verdict(lambda clip: results[clip.name])

    first, second = verdict(names[0], whisper), verdict(names[1])
    return {
        "similarity": [first.similarity, second.similarity], "source_similarity": first.source_similarity,
        "error_rate": first.error_rate if whisper else None, "cents": first.cents, "off_pitch": first.off_pitch,
        "voicing": first.voicing, "keys": keys,
    }  # fmt: skip


def table(results: Mapping[str, Any]) -> str:
    cell = study.figure_of
    head = ["speaker", *(f"similarity to {name}" for name in results["of"])]
    head += ["to source", "character errors, %", "f0 error, cents", "over 50 cents, %", "voicing errors, %"]
    return study.table(head, [
        [row["mix"], *(cell(one, 3) for one in row["similarity"]), cell(row["source_similarity"], 3),
         cell(row["error_rate"], 0, 100), cell(row["cents"], 1), cell(row["off_pitch"], 1, 100),
         cell(row["voicing"], 1, 100)] for row in results["rows"]
    ])  # fmt: skip


def draw(results: Mapping[str, Any]) -> Figure:
    """Similarities and words over the share."""
    figure, axes = study.sheet(1, 2, (10, 3.8))
    likeness, words = axes[0]
    rows, (first, second) = results["rows"], results["of"]
    shares = [row["share"] for row in rows]
    for number, (name, colour) in enumerate(((first, study.BLUE), (second, study.ORANGE))):
        likeness.plot(shares, [row["similarity"][number] for row in rows], "o-", color=colour, label=f"to {name}")
    likeness.plot(shares, [row["source_similarity"] for row in rows], "o-", color=study.BLACK, label="to the source")
    likeness.legend(frameon=False)
    likeness.set_ylabel("similarity")
    words.plot(shares, [100 * (row["error_rate"] or 0) for row in rows], "o-", color=study.GREEN)
    words.set_ylabel("character errors, %")
    words.set_ylim(bottom=0)
    for axis in axes[0]:
        axis.set_xlabel(f"share of {second}, the rest {first}")
        axis.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
