"""How fast and how true pitch trackers are: on singing of known f0, and beside torchcrepe as peers run it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from moksori.benchmarks import pitch_table, record, singing
from moksori.benchmarks.harmonics import Clip
from moksori.benchmarks.published import BATCH, FMAX, FMIN, HOP, Kept, Published, Recorded
from moksori.benchmarks.singing import CONDITIONS
from moksori.benchmarks.speed import CLIP
from moksori.export import pitch as export
from moksori.runtime import audio, crepe, devices, files, pitch, selftest
from moksori.runtime.command import Command
from moksori.runtime.pitch import Options, Track, Tracker
from moksori.train.measures import OCTAVE_ERROR, OFF_PITCH, PitchErrors

Array = NDArray[np.float32]
Said = Callable[[str], None]

SYNTHETIC = CLIP.with_name("sinsy_f001.flac")
PEER = "torchcrepe full, 5 ms"
DEFAULT = "SwiftF0, Viterbi, fitted"  # what svc-prepare takes when nothing is said
KINDS = {"swift": "swift_scores", "crepe-tiny": "crepe", "crepe": "crepe"}
GRAPHS = {"swift": "pitch-swift.onnx", "crepe-tiny": "pitch-crepe-tiny.onnx", "crepe": "pitch-crepe.onnx"}
TELL_EVERY = 4  # batches of torchcrepe


@dataclass(frozen=True)
class Variant:
    """A graph of GRAPHS with the options that it is run with."""

    graph: str
    options: Options


NAMES = {"SwiftF0": "swift", "CREPE tiny": "crepe-tiny", "CREPE full": "crepe"}
TIMED = {name: Variant(graph, pitch.TRACKERS[KINDS[graph]].options) for name, graph in NAMES.items()} | {
    "CREPE tiny, 5 ms": Variant("crepe-tiny", Options(hop=0.005, decoder="viterbi")),
    "CREPE full, 5 ms": Variant("crepe", Options(hop=0.005, decoder="viterbi")),
}
CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "octave guard": {"octave_guard": True},
    "median 3": {"median": 3},
    "mean 3": {"mean": 3},
    "guard, median 3, mean 3": {"octave_guard": True, "median": 3, "mean": 3},
    "Viterbi": {"decoder": "viterbi"},
    "Viterbi, guard": {"decoder": "viterbi", "octave_guard": True},
    "Viterbi, 5 ms": {"decoder": "viterbi", "hop": 0.005},
    "Viterbi, fitted": {"decoder": "viterbi", "periods": 6},
}
CREPE_ONLY = {"hop"}

EXAMPLES = """\b
Examples:
  python -m moksori.benchmarks.pitch --fast
  python -m moksori.benchmarks.pitch --seconds 102 --threads 2
"""


@click.command(cls=Command, extra="export,eval", epilog=EXAMPLES)
@click.option("--seconds", type=click.FloatRange(1), default=10, show_default=True, help="Timed; a song, repeated.")
@click.option("--clip", "clip_seconds", type=click.FloatRange(2), default=3, show_default=True, help="Of known f0.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="For every tracker.")
@click.option("--device", default="cpu", show_default=True, help="Of our graphs; torchcrepe is on the CPU.")
@click.option("--graphs", type=click.Path(path_type=Path), help="Where the graphs are or will be.  [default: a cache]")
@click.option("--fast", is_flag=True, help="Without CREPE full and torchcrepe.")
@click.option("--note", default="", help="Kept with the figures, such as what else the machine was doing.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: in benchmarks/results]")
def main(
    seconds: float,
    clip_seconds: float,
    threads: int,
    device: str,
    graphs: Path | None,
    fast: bool,
    note: str,
    path: Path | None,
) -> None:
    """Compare SwiftF0, CREPE tiny and CREPE full, and torchcrepe as it is published.

    First the singing of known f0, then the speed. torchcrepe takes about 18 s of a core for each of --seconds.
    """
    folder, said = graphs or selftest.cache_folder().parent / "graphs", _clocked_lines()
    place = devices.pick(device)
    sessions = {}
    for name, file in GRAPHS.items():
        if not (fast and name == "crepe"):
            said(f"opening {folder / file}")
            sessions[name] = devices.open_session(made(name, folder / file), place, threads, name)
    song, synthetic = (audio.read(file, pitch.RATE) for file in (CLIP, SYNTHETIC))
    said("making the singing of known f0")
    clips = list(singing.clips(song, synthetic, clip_seconds))
    rows = accuracy(clips, sessions, not fast, said)
    speeds = timed(np.resize(song, round(seconds * pitch.RATE)), sessions, threads, said)
    results = {
        "seconds": seconds, "threads": threads, "device": str(place), "clip_seconds": clip_seconds,
        "clips": [clip.name for clip in clips], "range_hz": (FMIN, FMAX), "default": DEFAULT, "peer": PEER,
        "off_pitch_cents": OFF_PITCH, "octave_error_cents": OCTAVE_ERROR, "note": note,
        "speed": speeds, "accuracy": rows,
    }  # fmt: skip
    path = path or record.RESULTS / "pitch.json"
    record.write(path, results)
    text = pitch_table.table(results)
    with files.atomic_path(path.with_suffix(".md")) as part:
        part.write_text(text, encoding="utf-8")
    click.echo(text)
    click.echo(f"written to {path}")


def made(name: str, path: Path) -> Path:
    """The graph of a tracker, made when it is not there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        capacity = {"crepe": "full", "crepe-tiny": "tiny"}.get(name)
        export.export_crepe(capacity, path) if capacity else export.export_swift(path)
    return path


def timed(
    song: Array, sessions: Mapping[str, crepe.Session], threads: int, said: Said
) -> list[dict[str, Any]]:
    """Seconds of wall clock and of CPU time that each tracker takes for ``song`` [n] at 16 kHz, and torchcrepe too."""
    rows: list[dict[str, Any]] = []
    answers: list[Array] = []
    for name, variant in TIMED.items():
        if variant.graph in sessions:
            said(f"timing {name}")
            session = Recorded(sessions[variant.graph])
            tracker = _tracker(session, variant)
            tracker.track(song[: pitch.RATE])  # the first run is slower
            session.answers.clear()
            rows.append({"tracker": name, **_clock(tracker, song)})
            answers = session.answers
    if "crepe" in sessions:
        total = -(-(len(song) // HOP + 1) // BATCH)
        said(f"timing {PEER}: {total} batches")

        def tell(batches: int) -> None:
            if batches % TELL_EVERY == 0:
                said(f"{PEER}: {batches} of {total} batches")

        published = Published(threads, progress=tell)
        published.track(song[: pitch.RATE // 2])
        row: dict[str, Any] = {"tracker": PEER, **_clock(published, song)}
        ours = crepe.within(np.concatenate(answers), FMIN, FMAX)  # of CREPE full at 5 ms, the last of TIMED
        runs = [crepe.viterbi(ours[i : i + BATCH]) for i in range(0, len(ours), BATCH)]
        row["same_bins_as_crepe_full"] = float(np.mean(np.concatenate(runs) == np.concatenate(published.bins)))
        rows.append(row)
        for other in rows:
            other["times_faster"] = row["cpu_seconds"] / other["cpu_seconds"]
            other["times_faster_by_the_wall"] = row["seconds"] / other["seconds"]
    return rows


def accuracy(
    clips: list[Clip], sessions: Mapping[str, crepe.Session], peers: bool, said: Said
) -> list[dict[str, Any]]:
    """PitchErrors of each tracker and refinement in each condition and in all of them, with octave errors by clip."""
    kept = {name: Kept(session) for name, session in sessions.items()}
    trackers: dict[str, tuple[Callable[[Array], Track], Options]] = {}
    for name, graph in NAMES.items():
        for label, changes in CHANGES.items():
            if graph in kept and not (graph == "swift" and CREPE_ONLY & set(changes)):
                usual = pitch.TRACKERS[KINDS[graph]].options
                options = replace(usual, **{"decoder": Options.decoder, "periods": 0, **changes})
                tracker = _tracker(kept[graph], Variant(graph, options))
                trackers[f"{name}, {label}"] = tracker.track, options
    if peers:
        trackers[PEER] = Published(1, kept["crepe"]).track, Options()
    found: dict[str, dict[str, list[Differences]]] = {name: {} for name in trackers}
    for condition, alter in CONDITIONS.items():
        for number, clip in enumerate(clips):
            said(f"{condition}: {clip.name} ({number + 1} of {len(clips)})")
            altered = alter(clip)
            for name, (track, options) in trackers.items():
                found[name].setdefault(condition, []).append(differences(altered, track(altered.audio), options))
            for session in kept.values():
                session.rows.clear()
    rows = []
    for condition in (*CONDITIONS, "all"):
        for name, by in found.items():
            some = by.get(condition) or [one for part in by.values() for one in part]
            row: dict[str, Any] = {"tracker": name, "condition": condition} | asdict(errors(some))
            row["missed"] = float(np.mean(np.concatenate([one.missed for one in some])))
            if condition in by:
                row["octave_by_clip"] = {clip.name: errors([one]).octave for clip, one in zip(clips, some, strict=True)}
            rows.append(row)
    return rows


@dataclass(frozen=True, eq=False)
class Differences:
    """Of a track and the truth: cents [v] where both are voiced, wrong voicing [T], and, of the frames that are sung,
    which were called unvoiced or are off by more than OFF_PITCH: who says little errs little.
    """

    cents: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    missed: NDArray[np.bool_]


def differences(clip: Clip, track: Track, options: pitch.Options) -> Differences:
    f0, voiced = pitch.at_times(track, clip.times, options)
    cents = np.abs(1200 * np.log2(f0 / clip.f0))
    missed = ~voiced | (cents > OFF_PITCH)
    return Differences(cents[voiced & clip.voiced], voiced != clip.voiced, missed[clip.voiced])


def errors(of: Iterable[Differences]) -> PitchErrors:
    """Errors over the frames of all of them."""
    parts = list(of)
    off, wrong = (np.concatenate([getattr(part, name) for part in parts]) for name in ("cents", "wrong"))
    if not len(off):
        return PitchErrors(np.nan, np.nan, np.nan, float(np.mean(wrong)))
    shares = (float(np.mean(limit)) for limit in (off > OFF_PITCH, off > OCTAVE_ERROR, wrong))
    return PitchErrors(float(np.median(off)), *shares)


def _clocked_lines() -> Said:
    """Lines on stderr with the seconds since now, so that a log tells how far it is."""
    began = time.perf_counter()
    return lambda line: click.echo(f"{time.perf_counter() - began:6.0f} s  {line}", err=True)


def _tracker(session: crepe.Session, variant: Variant) -> Tracker:
    return Tracker(session, KINDS[variant.graph], FMIN, FMAX, variant.options)


def _clock(tracker: Tracker | Published, song: Array) -> dict[str, float]:
    """CPU time too: other programs on the machine stretch the wall clock."""
    wall, cpu = time.perf_counter(), time.process_time()
    tracker.track(song)
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


if __name__ == "__main__":
    main()
