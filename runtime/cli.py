"""svc-run: convert recordings into another voice."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from moksori.runtime import naming
from moksori.runtime.audio import FORMATS
from moksori.runtime.command import Command, Failure, sentence
from moksori.runtime.errors import MoksoriError, OptionError
from moksori.runtime.naming import Style

if TYPE_CHECKING:
    from moksori.runtime.converter import Converter, Report
    from moksori.runtime.voice import Voice

EXAMPLES = """\b
Examples:
  svc-run song.wav
  svc-run song.wav -o converted.flac --speaker f001 --key +12
  svc-run *.mp3 -o converted --format mp3 --name "{stem} ({speaker})"
  svc-run song.wav --voice my_voice.zip --device cuda --steps 8
"""


@click.command("svc-run", cls=Command, epilog=EXAMPLES)
@click.argument("inputs", metavar="INPUT...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="A folder, or a file for one input.  [default: beside the input]",
)
@click.option(
    "--voice",
    "voice_name",
    default="demo",
    show_default=True,
    metavar="V",
    help="A voice's name, folder or .zip.",
)
@click.option(
    "--speaker", metavar="S", help="Whose voice, or a mix such as heart:0.7,f001:0.3.  [default: its first]"
)
@click.option("--key", type=float, default=0.0, metavar="N", help="Semitones up (12) or down (-12).")
@click.option(
    "--steps",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Steps of the denoiser: more is finer and slower.  [default: the voice's]",
)
@click.option(
    "--device",
    "device_name",
    default="auto",
    show_default=True,
    metavar="D",
    help="auto, cuda, directml, webgpu or cpu, with :index for one of several.",
)
@click.option(
    "--format",
    "format",
    type=click.Choice(list(FORMATS), case_sensitive=False),
    help="Of the results.  [default: wav]",
)
@click.option(
    "--name",
    "template",
    metavar="TEMPLATE",
    help="Of the results, from {stem}, {voice}, {speaker}, {key} and {steps}."
    f"  [default: {naming.TEMPLATE}]",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Another one gives a slightly different take.",
)
@click.option(
    "--plot", is_flag=True, help="Also draw both spectrograms and pitch curves as a PNG beside the result."
)
@click.option("--force", is_flag=True, help="Overwrite results that exist.")
@click.option("--devices", is_flag=True, help="List the devices of this machine and exit.")
@click.version_option(
    importlib.metadata.version("moksori"), prog_name="svc-run", message="%(prog)s %(version)s"
)
def main(
    inputs: tuple[Path, ...],
    out: Path | None,
    voice_name: str,
    speaker: str | None,
    key: float,
    steps: int | None,
    device_name: str,
    format: str | None,
    template: str | None,
    seed: int,
    plot: bool,
    force: bool,
    devices: bool,
) -> None:
    """Convert recordings of singing or speech into another voice.

    An existing file is never overwritten without --force. A file that cannot be converted does not stop the
    others.
    """
    if devices:
        _list_devices()
        return
    if not inputs:
        raise Failure("name an audio file to convert, as in: svc-run song.wav (svc-run --help)")
    if not math.isfinite(key):
        raise OptionError(f"--key {key} is no number of semitones: give one such as 12, -5 or 0.5")
    place = naming.naming(out, template, format, len(inputs))
    plot = plot and _can_plot()

    from moksori.runtime import Converter, Options, Voice

    voice = Voice.load(voice_name, device_name)
    converter = Converter(voice, Options(speaker=speaker, key=key, steps=steps, seed=seed))
    style = Style(voice.name, speaker or voice.speaker_names[0], key, steps or voice.manifest.denoiser.steps)
    jobs = [Job(path, place.target(path, style), plot) for path in inputs]
    failed = [job for job in jobs if not _done(job, jobs, converter, style, force)]
    if failed:
        if len(jobs) > 1:
            click.echo(f"{len(failed)} of {len(jobs)} files were not converted", err=True)
        raise click.exceptions.Exit(Failure.exit_code)


@dataclass(frozen=True)
class Job:
    """One file to convert."""

    source: Path
    target: Path
    plot: bool

    @property
    def picture(self) -> Path:
        return self.target.with_suffix(".png")

    def check(self, jobs: Sequence[Job], force: bool) -> None:
        """Raise OptionError where writing would destroy something."""
        if any(_same(self.target, job.source) for job in jobs):
            raise OptionError(f"{self.target} is an input, which is never overwritten: name another by -o")
        rivals = [job for job in jobs if _key(job.target) == _key(self.target)]
        if len(rivals) > 1:
            names = ", ".join(str(job.source) for job in rivals)
            raise OptionError(f"{names} would all become {self.target}: convert them into different folders")
        for path in [self.target, *([self.picture] if self.plot else [])]:
            if path.exists() and not force:
                raise OptionError(f"{path} exists: overwrite it by --force, or name another by -o or --name")


def summary(report: Report) -> str:
    """What a person wants to know after a conversion."""
    stages = "  ".join(f"{stage} {seconds:.2f}" for stage, seconds in report.stages.items())
    roles = defaultdict(list)
    for role, label in report.devices.items():
        roles[label].append(role)
    factor = report.elapsed / report.seconds
    return "\n".join(
        [
            f"{click.format_filename(report.target)}",
            f"  {report.seconds:.2f} s of audio in {report.elapsed:.2f} s: real-time factor {factor:.3f}",
            f"  seconds  {stages}",
            *(f"  {label} ran {', '.join(names)}" for label, names in roles.items()),
            *(f"  note: {notice}" for notice in report.notices),
        ]
    )


def _done(job: Job, jobs: Sequence[Job], converter: Converter, style: Style, force: bool) -> bool:
    """Convert one file and say what came of it; False if it failed, which must not stop the others."""
    try:
        job.check(jobs, force)
        with _progress(f"{jobs.index(job) + 1}/{len(jobs)} {job.source.name}") as progress:
            report = converter.convert(job.source, job.target, progress)
        click.echo(summary(report))
        if job.plot:
            _draw(job, converter.voice, style)
    except (MoksoriError, OSError) as error:
        click.echo(f"Error: {sentence(error)}", err=True)
        return False
    return True


@contextmanager
def _progress(name: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr while it is a terminal; it is gone at the end."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(name), total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)


def _draw(job: Job, voice: Voice, style: Style) -> None:
    from moksori.runtime import plot

    title = f"{job.source.name}  →  {style.voice} ({style.speaker}), key {style.key:+g}"
    sides = [plot.heard(name, path, voice) for name, path in (("source", job.source), ("result", job.target))]
    plot.draw(job.picture, click.format_filename(title), *sides)
    click.echo(f"  picture  {click.format_filename(job.picture)}")


def _can_plot() -> bool:
    if importlib.util.find_spec("matplotlib"):
        return True
    click.echo('Warning: --plot needs matplotlib, so no PNG is drawn: pip install "moksori[plot]"', err=True)
    return False


def _list_devices() -> None:
    from moksori.runtime import devices

    for device in devices.available():
        click.echo(f"{device.kind}:{device.index}  {device.label}")


def _same(one: Path, other: Path) -> bool:
    return _key(one) == _key(other) or (one.exists() and other.exists() and one.samefile(other))


def _key(path: Path) -> str:
    """Equal for paths that a file system may take for one file; some do not tell a from A."""
    return unicodedata.normalize("NFC", str(path.resolve())).casefold()


if __name__ == "__main__":
    main()
