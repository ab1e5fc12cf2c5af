"""svc-prepare: folders of audio become slices, their features, and the statistics that training reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from moksori.runtime import crepe, devices, mel, pitch
from moksori.runtime.backends import Device
from moksori.runtime.command import Bytes, Command, Failure
from moksori.runtime.errors import OptionError
from moksori.train import build, extractors, features, pipeline, report, workers
from moksori.train.build import CACHES, Extractors, Outcome
from moksori.train.features import Settings

GEOMETRIES = {24_000: mel.MelSpec(), 44_100: mel.MelSpec(44_100, 512, 2048, 2048, 128, 40.0, 16_000.0)}
LONGEST_SECONDS = 60.0
F0_LOW_HZ, F0_HIGH_HZ = 50.0, 1600.0  # what voices sing, with room
DEVICE_JOBS = 4  # processes that share a graphics card
PARENT_BYTES, WORKER_BYTES = 300e6, 140e6  # without graphs
BYTES_PER_GRAPH_BYTE = 3.0  # a graph that is open, for each byte of its file
SECOND_BYTES = 12e6  # the widest activations for a second of audio

EXAMPLES = """\b
Examples:
  svc-prepare recordings/ data/
  svc-prepare recordings/ data/ --rate 44100 --pitch crepe --cache f0
  svc-prepare recordings/ data/ --content voices/me --jobs 4 --memory 4G
"""


def _defaults(option: str) -> str:
    """The default of each tracker, for --help."""
    known = {name: getattr(one.options, option) for name, one in pitch.TRACKERS.items()}
    shown = {f"{value:g}" if isinstance(value, float) else str(value).lower() for value in known.values()}
    if len(shown) == 1:
        return f"[default: {shown.pop()}]"
    return f"[default: {', '.join(f'{value} for {name}' for name, value in known.items())}]"


@click.command("svc-prepare", cls=Command, extra="train", epilog=EXAMPLES)
@click.argument("audio_dir", type=click.Path(path_type=Path))
@click.argument("data_dir", type=click.Path(path_type=Path))
@click.option(
    "--content",
    metavar="GRAPH|VOICE|DIR|HUB_ID",
    help="What hears the words: a graph, a voice, or a HuBERT, ContentVec or Whisper of transformers.  "
    "[default: the demo voice's]",
)
@click.option(
    "--pitch", "tracker", metavar="NAME|GRAPH", default="swift", show_default=True, help="swift, crepe, crepe-tiny."
)
@click.option("--threshold", type=float, help=f"Confidence from which it is voiced.  {_defaults('threshold')}")
@click.option("--faint", type=float, help=f"Confidence from which f0 is believed at all.  {_defaults('faint')}")
@click.option("--median", type=int, help=f"Frames of the median over f0, odd.  {_defaults('median')}")
@click.option("--mean", type=int, help=f"Frames of the mean over f0, odd.  {_defaults('mean')}")
@click.option("--decoder", type=click.Choice(list(crepe.DECODERS)), help=f"Of a frame's bins.  {_defaults('decoder')}")
@click.option("--periods", type=int, help=f"Of the waveform, to fit f0 to; 0 for none.  {_defaults('periods')}")
@click.option(
    "--octave-guard/--no-octave-guard",
    default=None,
    help=f"Bring back frames an octave astray.  {_defaults('octave_guard')}",
)
@click.option(
    "--rate", type=click.Choice([str(rate) for rate in GEOMETRIES]), default="24000", show_default=True,
    help="Of the voice to be, in Hz.",
)  # fmt: skip
@click.option("--min", "minimum", default=5.0, show_default=True, help="Shortest slice, in seconds.")
@click.option("--max", "maximum", default=15.0, show_default=True, help="Longest slice, in seconds.")
@click.option(
    "--cache", type=click.Choice(list(CACHES)), default="units", show_default=True, help="What is kept beside audio."
)
@click.option(
    "--perturb",
    metavar="K",
    type=click.IntRange(0, 16),
    default=2,
    show_default=True,
    help="Altered copies of each slice, whose units are kept too, so that training forgets who spoke.",
)
@click.option(
    "--jobs", metavar="N", type=click.IntRange(1, 256), help="Processes, a core each.  [default: as many as fit]"
)
@click.option("--memory", metavar="SIZE", type=Bytes(), help="What all processes may take, such as 4G.")
@click.option("--device", default="auto", show_default=True, help="Where graphs run, as for svc-run.")
@click.option("--strict", is_flag=True, help="Exit with 1 when a file cannot be read.")
@click.version_option(package_name="moksori")
def main(
    audio_dir: Path,
    data_dir: Path,
    content: str | None,
    tracker: str,
    threshold: float | None,
    faint: float | None,
    median: int | None,
    mean: int | None,
    decoder: str | None,
    periods: int | None,
    octave_guard: bool | None,
    rate: str,
    minimum: float,
    maximum: float,
    cache: str,
    perturb: int,
    jobs: int | None,
    memory: int | None,
    device: str,
    strict: bool,
) -> None:
    """Make the training data DATA_DIR from the recordings in AUDIO_DIR.

    Each folder in AUDIO_DIR is a speaker; with no folders, all of it is one speaker of that name. A second run makes
    only what is new or changed, and drops what is gone. DATA_DIR/report.html shows what was found.
    """
    if not features.SHORTEST_SECONDS <= minimum <= maximum <= LONGEST_SECONDS:
        raise OptionError(f"--min {minimum:g} --max {maximum:g} is not possible: 0.8 <= min <= max <= 60 seconds")
    place = devices.pick(device)
    graphs = Extractors(extractors.content(content, place), extractors.pitch(tracker, place))
    for graph in (graphs.content, graphs.pitch):
        if graph.notice:
            click.echo(graph.notice, err=True)
    if graphs.content.longest is not None and graphs.content.longest < 1.4 * maximum:
        longest = graphs.content.longest / 1.4  # altered audio is slower by as much
        raise OptionError(f"--max {maximum:g} is too long for {graphs.content.path}: it hears {longest:.0f} s at once")
    given: dict[str, Any] = {
        "threshold": threshold, "faint": faint, "median": median, "mean": mean, "decoder": decoder,
        "periods": periods, "octave_guard": octave_guard,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    tracking = replace(pitch.TRACKERS[graphs.pitch.kind].options, **given)
    if tracking.problem:
        raise OptionError(tracking.problem)
    if decoder and graphs.pitch.kind == "swift":
        raise OptionError("--decoder cannot be chosen here: the graph of --pitch decodes for itself")
    settings = Settings(
        GEOMETRIES[int(rate)], graphs.pitch.kind, F0_LOW_HZ, F0_HIGH_HZ, tracking, minimum, maximum, perturb,
        graphs.content.sha256, graphs.pitch.sha256, CACHES[cache],
    )  # fmt: skip
    count = processes(jobs, memory, place, graphs, settings)
    with workers.pool(count) as pool, _progress() as progress:
        tools = pipeline.Tools(data_dir, settings, place, pool, pipeline.AHEAD * count, progress)
        try:
            outcome = build.bring_up_to_date(audio_dir, graphs, tools, partial(_announce, settings, graphs))
        except BrokenProcessPool as error:
            raise Failure("a process was killed, perhaps for want of memory: run it again with a --memory") from error
    _tell(outcome, data_dir)
    if strict and outcome.unreadable:
        raise click.exceptions.Exit(1)


def processes(jobs: int | None, memory: int | None, device: Device, graphs: Extractors, settings: Settings) -> int:
    """How many processes of one thread each: no more than cores, and than ``memory`` bytes hold.

    Raises:
        OptionError: not even one fits.
    """
    cores = workers.cores()
    count = min(jobs or (cores if device.kind == "cpu" else DEVICE_JOBS), cores)
    if memory is None:
        return count
    opened = graphs.pitch.bytes + (graphs.content.bytes if "units" in settings.products else 0)
    each = WORKER_BYTES + BYTES_PER_GRAPH_BYTE * opened + SECOND_BYTES * settings.maximum
    if memory < PARENT_BYTES + each:
        needed = f"{(PARENT_BYTES + each) / 1e6:.0f}M"
        raise OptionError(f"--memory {memory / 1e6:.0f}M is too little: give {needed} or more, or a smaller --max")
    return max(1, min(count, int((memory - PARENT_BYTES) / each)))


def _announce(settings: Settings, graphs: Extractors, seconds: float) -> None:
    """What each choice of --cache would take on disk, and where graphs run."""
    sizes = build.expected(settings, graphs.content.dimension, seconds)
    choices = [f"{name} {_megabytes(sum(sizes[product] for product in made))}" for name, made in CACHES.items()]
    audio = _megabytes(sizes["audio"])
    beside = ", ".join(choices)
    where = f"pitch on {graphs.pitch.device}"
    if "units" in settings.products:
        where += f", content on {graphs.content.device}"
    click.echo(f"{seconds / 60:.1f} min; on disk about {audio} of audio and, by --cache: {beside}; {where}", err=True)


def _tell(outcome: Outcome, data_dir: Path) -> None:
    for reason in outcome.unreadable:
        click.echo(f"skipped: {reason}", err=True)
    if outcome.unreadable:
        click.echo(f"{len(outcome.unreadable)} of {outcome.sources} files were skipped", err=True)
    if outcome.changed:
        for warning in outcome.warnings:
            click.echo(f"please check: {warning}", err=True)
        click.echo(f"core seconds: {_listed(outcome.spent, lambda spent: f'{spent:.1f}')}", err=True)
    click.echo(f"on disk: {_listed(outcome.sizes, _megabytes)}; see {data_dir / report.FILE}", err=True)
    done = f"made {outcome.made} of {outcome.sources} files" if outcome.changed else "nothing to do, all is up to date"
    click.echo(f"{data_dir}: {done}; {outcome.slices} slices, {outcome.seconds / 60:.1f} min")


def _listed(amounts: Mapping[str, float], shown: object) -> str:
    assert callable(shown)
    return ", ".join(f"{name} {shown(amount)}" for name, amount in amounts.items())


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


@contextmanager
def _progress() -> Iterator[Progress]:
    """Bars on stderr while it is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        yield progress


if __name__ == "__main__":
    main()
