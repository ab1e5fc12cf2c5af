"""How well a voice converts: whose voice, which pitch and which words the results have, with 95 % intervals."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
from scipy import stats

from moksori.benchmarks import record
from moksori.runtime import Converter, Options, Voice
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError
from moksori.runtime.files import atomic_path
from moksori.train.judge import Clip, Judge, Row, score
from moksori.train.measures import Recogniser, Similarity, Sound

KINDS = ("speech", "singing")
SUNG = "_sung"  # a speaker's sung references lie in a folder that ends so

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.quality demo --inputs talk --sung songs \\
      --references voices --recogniser whisper-base
The folder of references holds one with recordings of each speaker, such as
voices/heart, and may hold voices/heart_sung, which sung inputs are held to.
"""


@dataclass(frozen=True)
class Recording:
    """An input. `kind` is one of KINDS."""

    kind: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.path.resolve().parent.name}/{self.path.stem}"


@dataclass(frozen=True)
class Measure:
    """A column: its heading, the field of a row it shows, the factor to its unit, and its digits."""

    heading: str
    field: str
    factor: float
    digits: int

    def of(self, row: Row) -> float:
        value = {**asdict(row), **asdict(row.pitch)}[self.field]
        return math.nan if value is None else self.factor * float(value)


MEASURES = (
    Measure("similarity to target", "similarity", 1, 3),
    Measure("to source", "source_similarity", 1, 3),
    Measure("f0 error, cents", "cents", 1, 1),
    Measure("over 50 cents, %", "off_pitch", 100, 1),
    Measure("octave errors, %", "octave", 100, 2),
    Measure("voicing errors, %", "voicing", 100, 1),
    Measure("character errors, %", "error_rate", 100, 1),
)


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("voice_name", metavar="VOICE")
@click.option("--inputs", multiple=True, type=click.Path(path_type=Path), help="Folder or file of speech.")
@click.option("--sung", multiple=True, type=click.Path(path_type=Path), help="Folder or file of singing.")
@click.option("--references", type=click.Path(path_type=Path), required=True, help="Folder of speakers.")
@click.option("--recogniser", type=click.Path(path_type=Path), help="Folder of a CTranslate2 Whisper model.")
@click.option("--speaker", "speakers", multiple=True, help="[default: each of the voice]")
@click.option("--key", type=float, default=0.0, show_default=True, help="Semitones.")
@click.option("--steps", type=click.IntRange(1), help="[default: the voice's]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="As for svc-run.")
@click.option("--device", default="auto", show_default=True, help="As for svc-run.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to leave the results in.")
@click.option("--output", type=click.Path(path_type=Path), help="[default: benchmarks/results/quality-VOICE]")
def main(
    voice_name: str,
    inputs: tuple[Path, ...],
    sung: tuple[Path, ...],
    references: Path,
    recogniser: Path | None,
    speakers: tuple[str, ...],
    key: float,
    steps: int | None,
    seed: int,
    device: str,
    keep: Path | None,
    output: Path | None,
) -> None:
    """Convert recordings with VOICE and measure the results; none of them should be of its training data."""
    found = [
        Recording(kind, path)
        for kind, places in zip(KINDS, (inputs, sung), strict=True)
        for place in places
        for path in recordings(place)
    ]
    if not found:
        raise OptionError("there is nothing to convert: give recordings by --inputs or --sung")
    voice = Voice.load(voice_name, device)
    names = speakers or voice.speaker_names
    known = reference_sounds(references, names)
    judge = Judge(clips(found, names, key, known), known, Recogniser(recogniser) if recogniser else None)
    engines = {
        name: Converter(voice, Options(speaker=name, key=key, steps=steps, seed=seed)) for name in names
    }
    sources = {one.name: one.path for one in found}

    with tempfile.TemporaryDirectory() as temporary:

        def convert(clip: Clip) -> Sound:
            target = (keep or Path(temporary)) / f"{clip.speaker}-{clip.name.replace('/', '-')}.wav"
            engines[clip.speaker].convert(sources[clip.name], target)
            click.echo(f"  {clip.name} as {clip.speaker}", err=True)
            return Sound.read(target)

        verdict = judge.verdict(convert)

    results = {
        "voice": voice.name,
        "key": key,
        "steps": steps or voice.manifest.denoiser.steps,
        "seed": seed,
        "score": score(verdict),
        "summary": summary(verdict.rows),
        "ceilings": ceilings(known),
        "clips": [asdict(row) for row in verdict.rows],
    }
    output = output or record.RESULTS / f"quality-{voice.name}"
    record.write(output.with_name(f"{output.name}.json"), results)
    with atomic_path(output.with_name(f"{output.name}.md")) as path:
        path.write_text(markdown(results), encoding="utf-8")
    click.echo(markdown(results))
    click.echo(f"written to {output}.json and .md")


def recordings(place: Path) -> list[Path]:
    """Audio files in a folder and the folders in it, or the one file named."""
    if not place.exists():
        raise OptionError(f"{place} does not exist: check the name")
    if place.is_file():
        return [place]
    suffixes = {f".{name.lower()}" for name in soundfile.available_formats()}
    return sorted(path for path in place.rglob("*") if path.suffix.lower() in suffixes)


def reference_sounds(folder: Path, speakers: Sequence[str]) -> dict[str, list[Sound]]:
    """Recordings by speaker, and by speaker + SUNG where there are such."""
    known = {}
    for name in (*speakers, *(f"{speaker}{SUNG}" for speaker in speakers)):
        if name in speakers or (folder / name).is_dir():
            known[name] = [Sound.read(path) for path in recordings(folder / name)]
    return known


def clips(
    found: Sequence[Recording], speakers: Sequence[str], key: float, known: Mapping[str, Sequence[Sound]]
) -> list[Clip]:
    """Every recording for every speaker; singing is held to the speaker's singing where there is some."""
    made = []
    for one in found:
        sound = Sound.read(one.path)
        for speaker in speakers:
            sung = f"{speaker}{SUNG}"
            reference = sung if one.kind == "singing" and sung in known else speaker
            made.append(Clip(one.name, sound, speaker, key, reference=reference))
    return made


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Mean and half of the 95 % interval of each measure, for each speaker and kind that has clips."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.speaker, row.clip.split("/")[0]), []).append(row)
    return [
        {"speaker": speaker, "kind": kind, "clips": len(members)}
        | {measure.field: interval(map(measure.of, members)) for measure in MEASURES}
        for (speaker, kind), members in groups.items()
    ]


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; NaN where there are too few values."""
    known = [value for value in values if not math.isnan(value)]
    mean = float(np.mean(known)) if known else math.nan
    if len(known) < 2:
        return mean, math.nan
    return mean, float(stats.t.ppf(0.975, len(known) - 1) * stats.sem(known))


def ceilings(known: Mapping[str, Sequence[Sound]]) -> dict[str, float]:
    """Similarity that the references reach themselves: every second one to the centre of the others."""
    reached = {}
    for name, sounds in known.items():
        if len(sounds) > 1:
            similarity = Similarity({name: sounds[::2]})
            reached[name] = float(
                np.mean([similarity.to(name, similarity.embed(one)) for one in sounds[1::2]])
            )
    return reached


def markdown(results: Mapping[str, Any]) -> str:
    """The summary as a table, and what the numbers were made with."""
    headings = ["speaker", "input", "clips", *(measure.heading for measure in MEASURES)]
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    for group in results["summary"]:
        cells = [_written(group[measure.field], measure.digits) for measure in MEASURES]
        lines.append(f"| {group['speaker']} | {group['kind']} | {group['clips']} | {' | '.join(cells)} |")
    reached = ", ".join(f"{name} {value:.3f}" for name, value in results["ceilings"].items())
    return (
        f"Voice {results['voice']}, {results['steps']} steps, key {results['key']:+g}, seed {results['seed']}; "
        f"mean ± 95 % interval over clips; score {results['score']:.3f}.\n\n"
        + "\n".join(lines)
        + f"\n\nSimilarity of the references among themselves: {reached or 'not known'}.\n"
    )


def _written(value: tuple[float, float], digits: int) -> str:
    mean, half = value
    if math.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")


if __name__ == "__main__":
    main()
