"""svc-prepare: folders of audio become slices, their features, and the statistics that training reads."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import repeat
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

from moksori.runtime import audio, mel, slicer, voice
from moksori.runtime.command import Command, Failure
from moksori.runtime.errors import AudioError, MoksoriError, OptionError
from moksori.runtime.files import atomic_path, read_json, sha256, write_json
from moksori.train import corpus, features, statistics, workers
from moksori.train.corpus import Record, Source
from moksori.train.features import Array, Place, Settings

FORMAT_VERSION = 1
GEOMETRIES = {24_000: mel.MelSpec(), 44_100: mel.MelSpec(44_100, 512, 2048, 2048, 128, 40.0, 16_000.0)}
LONGEST_SECONDS = 60.0
F0_LOW_HZ, F0_HIGH_HZ = 50.0, 1600.0  # what voices sing, with room
VOICED_CONFIDENCE = 0.5
AHEAD = 4  # slices waiting for each process; bounds the memory


@dataclass(frozen=True)
class Outcome:
    """What a run did; ``unreadable`` holds a sentence for each file that gave nothing."""

    made: int
    sources: int
    slices: int
    seconds: float
    unreadable: tuple[str, ...]
    changed: bool


@click.command("svc-prepare", cls=Command, extra="train", epilog="Example: svc-prepare recordings/ data/")
@click.argument("audio_dir", type=click.Path(path_type=Path))
@click.argument("data_dir", type=click.Path(path_type=Path))
@click.option("--content", metavar="GRAPH", type=click.Path(path_type=Path), help="[default: the demo voice's]")
@click.option("--pitch", metavar="GRAPH", type=click.Path(path_type=Path), help="[default: the demo voice's]")
@click.option("--rate", type=click.Choice([str(rate) for rate in GEOMETRIES]), default="24000", show_default=True)
@click.option("--min", "minimum", default=5.0, show_default=True, help="Shortest slice, in seconds.")
@click.option("--max", "maximum", default=15.0, show_default=True, help="Longest slice, in seconds.")
@click.option(
    "--perturb",
    metavar="K",
    type=click.IntRange(0, 16),
    default=2,
    show_default=True,
    help="Altered copies of each slice, whose units are kept too, so that training forgets who spoke.",
)
@click.option("--jobs", metavar="N", type=click.IntRange(1, 256), help="Processes.  [default: one per core]")
@click.option("--strict", is_flag=True, help="Exit with 1 when a file cannot be read.")
def main(
    audio_dir: Path,
    data_dir: Path,
    content: Path | None,
    pitch: Path | None,
    rate: str,
    minimum: float,
    maximum: float,
    perturb: int,
    jobs: int | None,
    strict: bool,
) -> None:
    """Make the training data DATA_DIR from the recordings in AUDIO_DIR.

    Each folder in AUDIO_DIR is a speaker; with no folders, all of it is one speaker of that name. A second run makes
    only what is new or changed, and drops what is gone.
    """
    content, pitch = content or _demo_graph("content"), pitch or _demo_graph("pitch")
    settings = _settings(content, pitch, GEOMETRIES[int(rate)], minimum, maximum, perturb)
    try:
        outcome = prepare(audio_dir, data_dir, content, pitch, settings, jobs or os.cpu_count() or 1)
    except BrokenProcessPool as error:
        raise Failure("a process was killed, perhaps for want of memory: run it again with fewer --jobs") from error
    for reason in outcome.unreadable:
        click.echo(f"skipped: {reason}", err=True)
    if outcome.unreadable:
        click.echo(f"{len(outcome.unreadable)} of {outcome.sources} files were skipped", err=True)
    done = f"made {outcome.made} of {outcome.sources} files" if outcome.changed else "nothing to do, all is up to date"
    click.echo(f"{data_dir}: {done}; {outcome.slices} slices, {outcome.seconds / 60:.1f} min")
    if strict and outcome.unreadable:
        raise click.exceptions.Exit(1)


def prepare(audio_dir: Path, data_dir: Path, content: Path, pitch: Path, settings: Settings, jobs: int) -> Outcome:
    """Bring DATA_DIR up to date with AUDIO_DIR. data.json is there only while all of it is.

    Raises:
        OptionError: no audio, one folder inside the other, a DATA_DIR that holds something else, nothing usable.
        OSError: DATA_DIR cannot be written.
    """
    corpus.check_folders(audio_dir, data_dir)
    sources = corpus.find(audio_dir)
    known = {source.id: corpus.record(source, data_dir, settings) for source in sources}
    pending = [source for source in sources if known[source.id] is None]
    with workers.pool(jobs) as pool, _progress() as progress:
        readable, unreadable = _readable(pending)
        if readable:
            (data_dir / "data.json").unlink(missing_ok=True)
            (data_dir / "sources").mkdir(parents=True, exist_ok=True)
            _copy(content, data_dir / "content.onnx")
            _copy(pitch, data_dir / "pitch.onnx")
        known |= _make(readable, data_dir, settings, pool, AHEAD * jobs, progress)
        kept = [(source, record) for source in sources if (record := known[source.id]) is not None]
        unreadable += [record.error for _, record in kept if record.error]
        lengths = {Place(data_dir, s.speaker, name): seconds for s, r in kept for name, seconds in r.slices}
        if not lengths:
            raise OptionError(f"{audio_dir} holds nothing usable: {(unreadable or ['all is silent or too short'])[0]}")
        data = _description(settings, lengths, data_dir)
        changed = not _is_current(data_dir / "data.json", data)
        if changed:
            (data_dir / "data.json").unlink(missing_ok=True)
            corpus.remove_others(data_dir, list(lengths), [source for source, _ in kept])
            rate = settings.mel.frame_rate
            stride = statistics.stride(round(sum(lengths.values()) * rate))
            tallies = pool.map(statistics.tally, lengths, repeat(settings.mel), repeat(stride), chunksize=8)
            watched = progress.track(tallies, total=len(lengths), description="Measuring")
            write_json(data_dir / "data.json", data | statistics.summary(watched, rate))
    made = [source for source, record in kept if source in readable and not record.error]
    return Outcome(len(made), len(sources), len(lengths), sum(lengths.values()), tuple(unreadable), changed)


def _readable(sources: list[Source]) -> tuple[dict[Source, float], list[str]]:
    """Sources with their seconds by the header, and a sentence for each that cannot even be opened."""
    seconds: dict[Source, float] = {}
    reasons = []
    for source in sources:
        try:
            seconds[source] = audio.info(source.path).seconds
        except AudioError as error:
            reasons.append(str(error))
    return seconds, reasons


def _make(
    sources: dict[Source, float], data_dir: Path, settings: Settings, pool: Executor, ahead: int, progress: Progress
) -> dict[str, Record]:
    """Prepare sources: this process decodes and cuts, the pool makes features, at most ``ahead`` slices behind.

    A source's record is kept once all its slices are made, so that an interrupted run goes on from there.
    """
    bar = progress.add_task("Preparing", total=sum(sources.values()), visible=bool(sources))
    waiting: deque[tuple[Future[None], float]] = deque()
    unsettled: deque[tuple[int, Source, Record]] = deque()  # with the number of slices that must be made before
    records: dict[str, Record] = {}
    submitted = 0

    def settle(limit: int) -> None:
        while len(waiting) > limit:
            future, seconds = waiting.popleft()
            try:
                future.result()
            except AudioError as error:  # of what is written here, not of a source
                raise MoksoriError(str(error)) from error
            progress.advance(bar, seconds)
        while unsettled and unsettled[0][0] <= submitted - len(waiting):
            _, source, record = unsettled.popleft()
            corpus.keep_record(source, data_dir, record)
            records[source.id] = record

    for source in sources:
        status, digest = source.path.stat(), sha256(source.path)
        key, reason = settings.key(digest), ""
        slices: list[tuple[str, float]] = []
        try:
            for index, (samples, seconds) in enumerate(_slices(source.path, settings)):
                place = Place(data_dir, source.speaker, f"{source.id}-{index:04d}")
                if len(samples):
                    slices.append((place.id, round(len(samples) / settings.mel.sample_rate, 6)))
                if len(samples) and not place.holds(key):
                    waiting.append((pool.submit(features.make, place, samples, settings, key), seconds))
                    submitted += 1
                    settle(ahead)
                else:
                    progress.advance(bar, seconds)
        except AudioError as error:
            slices, reason = [], str(error)
        record = Record(key, digest, status.st_size, status.st_mtime_ns, tuple(slices), reason)
        unsettled.append((submitted, source, record))
    settle(0)
    return records


def _slices(path: Path, settings: Settings) -> Iterator[tuple[Array, float]]:
    """Trimmed slices of a file, empty where there is only silence, and their length in seconds before trimming."""
    rate = settings.mel.sample_rate
    for piece in slicer.slices(audio.blocks(path, rate), rate, settings.minimum, settings.maximum):
        yield features.trimmed(piece.audio, rate), len(piece.audio) / rate


def _description(settings: Settings, lengths: dict[Place, float], data_dir: Path) -> dict[str, Any]:
    """data.json without what is measured; the slices in order of speaker and id."""
    places = sorted(lengths, key=lambda place: (place.speaker, place.id))
    return {
        "format_version": FORMAT_VERSION,
        "mel": asdict(settings.mel),
        "units": {"dimension": places[0].dimension()},
        "pitch": {
            "kind": settings.kind,
            "fmin": settings.fmin,
            "fmax": settings.fmax,
            "threshold": settings.threshold,
        },
        "content_sha256": settings.content_sha256,
        "pitch_sha256": settings.pitch_sha256,
        "slices": [{"id": place.id, "speaker": place.speaker, "seconds": lengths[place]} for place in places],
    }


def _is_current(path: Path, data: dict[str, Any]) -> bool:
    """Whether data.json is there and describes the same slices, made the same way."""
    try:
        present = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(present, dict) and {name: present.get(name) for name in data} == data


def _settings(content: Path, pitch: Path, spec: mel.MelSpec, minimum: float, maximum: float, variants: int) -> Settings:
    if not features.SHORTEST_SECONDS <= minimum <= maximum <= LONGEST_SECONDS:
        raise OptionError(f"--min {minimum:g} --max {maximum:g} is not possible: 0.8 <= min <= max <= 60 seconds")
    if features.graph_inputs(content) != ["audio"]:
        raise OptionError(f"{content} is not a content graph: its only input must be audio")
    kind = "crepe" if "frames" in features.graph_inputs(pitch) else "swift"
    hashes = sha256(content), sha256(pitch)
    return Settings(spec, kind, F0_LOW_HZ, F0_HIGH_HZ, VOICED_CONFIDENCE, minimum, maximum, variants, *hashes)


def _demo_graph(role: str) -> Path:
    folder = voice.installed().get(voice.DEFAULT)
    if folder is None:
        raise OptionError(f"no demo voice is installed to take the {role} graph from: add --{role} {role}.onnx")
    return folder / voice.read_manifest().files[role].path


def _copy(source: Path, target: Path) -> None:
    if not target.is_file() or sha256(source) != sha256(target):
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Bars on stderr while it is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        yield progress


if __name__ == "__main__":
    main()
