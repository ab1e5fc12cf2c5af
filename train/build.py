"""Brings a DATA_DIR up to date with the recordings it is made of: what is new, changed or gone, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

from moksori.runtime import audio, content
from moksori.runtime.errors import AudioError, MoksoriError, OptionError
from moksori.runtime.files import atomic_path, read_json, sha256, write_json
from moksori.train import corpus, lock, pipeline, report, statistics
from moksori.train.corpus import Found, Record, Source
from moksori.train.extractors import Graph
from moksori.train.features import Place, Settings

FORMAT_VERSION = 1
CACHES = {"f0": ("f0",), "units": ("f0", "units"), "all": ("f0", "units", "mel")}
MEASURED = ("bytes", "warnings", "statistics")
F0_BYTES, VOICED_BYTES = 3.7, 0.3  # a frame, as they compress


@dataclass(frozen=True)
class Outcome:
    """What a run did: ``unreadable`` has a sentence for each file that gave nothing, ``spent`` is core seconds."""

    made: int
    sources: int
    slices: int
    seconds: float
    unreadable: tuple[str, ...]
    changed: bool
    sizes: Mapping[str, int]  # bytes on disk, by product
    warnings: tuple[str, ...]
    spent: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Extractors:
    """The graphs that a data set is made with."""

    content: Graph
    pitch: Graph


def bring_up_to_date(
    audio_dir: Path, graphs: Extractors, tools: pipeline.Tools, announce: Any = lambda seconds: None
) -> Outcome:
    """Bring ``tools.data_dir`` up to date with ``audio_dir``. data.json is there only while all of it is.

    Args:
        announce: called with the seconds of audio in the data set, by the headers, when there is something to make.
    Raises:
        OptionError: no audio, one folder inside the other, a DATA_DIR that holds something else, nothing usable.
        MoksoriError: another run is at work in it, or it cannot be written.
    """
    data_dir = tools.data_dir
    corpus.check_folders(audio_dir, data_dir)
    found = corpus.find(audio_dir)
    busy = f"another svc-prepare is at work in {data_dir}: let it end first, or choose another DATA_DIR"
    try:
        with lock.alone(data_dir / "sources" / ".lock", busy):
            return _bring_up_to_date(audio_dir, found, graphs, tools, announce)
    except OSError as error:  # of a source it would have been an AudioError
        reason = error.strerror or error
        raise MoksoriError(f"{data_dir} cannot be written ({reason}): make room, or choose another DATA_DIR") from error


def expected(settings: Settings, dimension: int, seconds: float) -> dict[str, float]:
    """Bytes that each product of so much audio will about take."""
    frames = seconds * settings.mel.frame_rate
    units = seconds * content.RATE / content.UNIT_HOP
    return {
        "audio": seconds * settings.mel.sample_rate * 1.1,  # 16-bit FLAC of singing, trimmed
        "f0": frames * (F0_BYTES + VOICED_BYTES),
        "units": units * dimension * 2 * (1 + settings.variants),
        "mel": frames * settings.mel.bins * 2 * 0.8,
    }


def _bring_up_to_date(
    audio_dir: Path, found: Found, graphs: Extractors, tools: pipeline.Tools, announce: Any
) -> Outcome:
    sources, data_dir, settings = found.sources, tools.data_dir, tools.settings
    records = {source: corpus.record(source, data_dir, settings) for source in sources}
    older = {s: r for s, r in records.items() if r is not None and r.keys != settings.keys(r.sha256)}
    fresh, unreadable = _readable([source for source, record in records.items() if record is None])
    known = {s.id: r for s, r in records.items() if r is not None and s not in older}
    if fresh or older:
        announce(sum(fresh.values()) + sum(s for r in (*known.values(), *older.values()) for _, s in r.slices))
        (data_dir / "data.json").unlink(missing_ok=True)
        _keep(graphs, data_dir)
    made = pipeline.make(fresh, older, tools)
    known |= made.records
    kept = [(source, known[source.id]) for source in sources if source.id in known]
    unreadable += [*found.unreadable, *made.vanished, *(record.error for _, record in kept if record.error)]
    lengths = {Place(data_dir, s.speaker, name): seconds for s, r in kept for name, seconds in r.slices}
    if not lengths:
        raise OptionError(f"{audio_dir} holds nothing usable: {(unreadable or ['all is silent or too short'])[0]}")
    data = _description(settings, graphs.content.dimension, lengths)
    present = _current(data_dir, data)
    changed = present is None
    if present is None:
        (data_dir / "data.json").unlink(missing_ok=True)
        _keep(graphs, data_dir)  # a run with others may have been killed before it made anything
        corpus.remove_others(data_dir, list(lengths), [source for source, _ in kept])
        names = {source.id: corpus.printable(source.path.relative_to(audio_dir).as_posix()) for source, _ in kept}
        present = data | _measure(lengths, data, names, tools, made.spent)
    done = [source for source, record in kept if source.id in made.records and not record.error]
    sizes, warnings = present["bytes"], tuple(present["warnings"])
    seconds = sum(lengths.values())
    skipped = tuple(unreadable)
    return Outcome(len(done), len(sources), len(lengths), seconds, skipped, changed, sizes, warnings, made.spent)


def _measure(
    lengths: dict[Place, float], data: dict[str, Any], names: Mapping[str, str], tools: pipeline.Tools,
    spent: dict[str, float],
) -> dict[str, Any]:  # fmt: skip
    """Measure all slices, write the report and then data.json; what is measured."""
    spec, rate = tools.settings.mel, tools.settings.mel.frame_rate
    stride = statistics.stride(round(sum(lengths.values()) * rate))
    summary = statistics.Summary(spec.bins)
    for one in tools.progress.track(
        _ahead(tools.pool, list(lengths), spec, stride, tools.ahead), total=len(lengths), description="Measuring"
    ):
        summary.add(one)
        spent["measure"] += one.spent
    facts = summary.facts(rate)
    facts["warnings"] = report.warnings(facts, summary, names)
    report.write(tools.data_dir / report.FILE, data | facts, summary, tools.data_dir)
    write_json(tools.data_dir / "data.json", data | facts)
    return facts


def _ahead(pool: Executor, places: list[Place], spec: Any, stride: int, ahead: int) -> Any:
    """Tallies in order, never more than a few of them waiting."""
    for start in range(0, len(places), ahead):
        some = places[start : start + ahead]
        yield from pool.map(statistics.tally, some, repeat(spec), repeat(stride))


def _readable(sources: list[Source]) -> tuple[dict[Source, float], list[str]]:
    """Sources with their seconds by the header, and a sentence for each that cannot even be opened."""
    seconds: dict[Source, float] = {}
    reasons = []
    for source in sources:
        try:
            seconds[source] = audio.info(source.path).seconds
        except AudioError as error:
            reasons.append(corpus.printable(str(error)))
    return seconds, reasons


def _description(settings: Settings, dimension: int, lengths: dict[Place, float]) -> dict[str, Any]:
    """data.json without what is measured; the slices in order of speaker and id."""
    places = sorted(lengths, key=lambda place: (place.speaker, place.id))
    return {
        "format_version": FORMAT_VERSION,
        "mel": asdict(settings.mel),
        "units": {"dimension": dimension},
        "pitch": {"kind": settings.kind, "fmin": settings.fmin, "fmax": settings.fmax, **asdict(settings.tracking)},
        "content_sha256": settings.content_sha256,
        "pitch_sha256": settings.pitch_sha256,
        "cached": list(settings.products),
        "variants": settings.variants,
        "slices": [{"id": place.id, "speaker": place.speaker, "seconds": lengths[place]} for place in places],
    }


def _current(data_dir: Path, data: dict[str, Any]) -> dict[str, Any] | None:
    """data.json if it is there, whole, and describes the same slices, made the same way."""
    try:
        present = read_json(data_dir / "data.json")
    except (OSError, ValueError):
        return None
    if not isinstance(present, dict) or {name: present.get(name) for name in data} != data:
        return None
    whole = all(name in present for name in MEASURED) and (data_dir / report.FILE).is_file()
    return present if whole else None


def _keep(graphs: Extractors, data_dir: Path) -> None:
    """Copy the graphs beside what they make; a run copies them on, and a voice ships them."""
    for name, graph in (("content", graphs.content), ("pitch", graphs.pitch)):
        target = data_dir / f"{name}.onnx"
        if not target.is_file() or sha256(target) != graph.sha256:
            with atomic_path(target) as temporary:
                shutil.copyfile(graph.path, temporary)


__all__ = ["CACHES", "Extractors", "Outcome", "Record", "bring_up_to_date", "expected"]
