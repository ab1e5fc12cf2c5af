"""How fast and how true pitch trackers are: on singing of known f0, and beside torchcrepe as peers run it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from moksori.benchmarks import record, singing
from moksori.benchmarks.singing import CONDITIONS, Clip
from moksori.benchmarks.speed import CLIP
from moksori.export import pitch as export
from moksori.runtime import audio, crepe, devices, files, pitch, selftest
from moksori.runtime.command import Command
from moksori.runtime.pitch import Options, Track, Tracker
from moksori.train.measures import OCTAVE_ERROR, OFF_PITCH, PitchErrors

Array = NDArray[np.float32]

FMIN, FMAX = 50.0, 1100.0  # Hz
PEER_HOP = 80  # samples, 5 ms
PEER_BATCH = 512  # frames
PEER_THRESHOLD = 0.05
PEER = "torchcrepe full, 5 ms"
KINDS = {"swift": "swift", "crepe-tiny": "crepe", "crepe": "crepe"}
GRAPHS = {"swift": "pitch-swift.onnx", "crepe-tiny": "pitch-crepe-tiny.onnx", "crepe": "pitch-crepe.onnx"}


@dataclass(frozen=True)
class Variant:
    """A graph of GRAPHS with the options that it is run with."""

    graph: str
    options: Options


NAMES = {"SwiftF0": "swift", "CREPE tiny": "crepe-tiny", "CREPE full": "crepe"}
TIMED = {name: Variant(graph, pitch.DEFAULTS[KINDS[graph]]) for name, graph in NAMES.items()} | {
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
}
CREPE_ONLY = {"decoder", "hop"}

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.pitch --seconds 102 --threads 2
"""


@click.command(cls=Command, extra="export,eval", epilog=EXAMPLES)
@click.option("--seconds", type=click.FloatRange(1), default=10, show_default=True, help="Timed; a song, repeated.")
@click.option("--clip", "clip_seconds", type=click.FloatRange(2), default=5, show_default=True, help="Of known f0.")
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
    """Compare SwiftF0, CREPE tiny and CREPE full, and torchcrepe as it is published."""
    folder = graphs or selftest.cache_folder().parent / "graphs"
    sessions = {
        name: devices.open_session(made(name, folder / file), devices.pick(device), threads, name)
        for name, file in GRAPHS.items()
        if not (fast and name == "crepe")
    }
    song = audio.read(CLIP, pitch.RATE)
    speeds = timed(np.resize(song, round(seconds * pitch.RATE)), sessions, threads)
    rows = accuracy(list(singing.clips(song, clip_seconds)), sessions, peers=not fast)
    results = {
        "seconds": seconds, "threads": threads, "device": str(devices.pick(device)), "clip_seconds": clip_seconds,
        "off_pitch_cents": OFF_PITCH, "octave_error_cents": OCTAVE_ERROR, "note": note,
        "speed": speeds, "accuracy": rows,
    }  # fmt: skip
    path = path or record.RESULTS / "pitch.json"
    record.write(path, results)
    text = table(results)
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


def timed(song: Array, sessions: Mapping[str, crepe.Session], threads: int) -> list[dict[str, Any]]:
    """Seconds of wall clock and of CPU time that each tracker takes for ``song`` [n] at 16 kHz, and torchcrepe too."""
    rows: list[dict[str, Any]] = []
    for name, variant in TIMED.items():
        if variant.graph in sessions:
            tracker = _tracker(sessions[variant.graph], variant)
            tracker.track(song[: pitch.RATE])  # the first run is slower
            rows.append({"tracker": name, **_clock(tracker, song)})
    if "crepe" in sessions:
        published = Published(threads)
        published.track(song[: pitch.RATE // 2])
        row: dict[str, Any] = {"tracker": PEER, **_clock(published, song)}
        ours = crepe.within(crepe.salience(sessions["crepe"], song, PEER_HOP)[0], FMIN, FMAX)
        runs = [crepe.viterbi(ours[i : i + PEER_BATCH]) for i in range(0, len(ours), PEER_BATCH)]
        row["same_bins_as_crepe_full"] = float(np.mean(np.concatenate(runs) == np.concatenate(published.bins)))
        rows.append(row)
        for other in rows:
            other["times_faster"] = row["cpu_seconds"] / other["cpu_seconds"]
    return rows


def accuracy(clips: list[Clip], sessions: Mapping[str, crepe.Session], peers: bool) -> list[dict[str, Any]]:
    """PitchErrors of each tracker and refinement in each condition, all clips together."""
    kept = {name: Kept(session) for name, session in sessions.items()}
    trackers: dict[str, tuple[Callable[[Array], Track], float]] = {}
    for name, graph in NAMES.items():
        for label, changes in CHANGES.items():
            if graph in kept and not (graph == "swift" and CREPE_ONLY & set(changes)):
                threshold = pitch.DEFAULTS[KINDS[graph]].threshold
                tracker = _tracker(kept[graph], Variant(graph, Options(threshold=threshold, **changes)))
                trackers[f"{name}, {label}"] = tracker.track, threshold
    if peers:
        trackers[PEER] = Published(1, kept["crepe"]).track, 0.5
    rows = []
    for condition, alter in CONDITIONS.items():
        altered = [alter(clip) for clip in clips]
        for name, (track, threshold) in trackers.items():
            errors = compared(altered, [track(clip.audio) for clip in altered], threshold)
            rows.append({"tracker": name, "condition": condition} | asdict(errors))
        for session in kept.values():
            session.rows.clear()
    return rows


def compared(clips: list[Clip], tracks: list[Track], threshold: float) -> PitchErrors:
    """Errors of tracks against the known f0 of their clips, over the frames of all of them."""
    cents, wrong = [], []
    for clip, track in zip(clips, tracks, strict=True):
        f0, voiced = pitch.at_times(track, clip.times, threshold)
        both = voiced & clip.voiced
        cents.append(np.abs(1200 * np.log2(f0[both] / clip.f0[both])))
        wrong.append(voiced != clip.voiced)
    off = np.concatenate(cents)
    if not len(off):
        return PitchErrors(np.nan, np.nan, np.nan, float(np.mean(np.concatenate(wrong))))
    shares = (float(np.mean(limit)) for limit in (off > OFF_PITCH, off > OCTAVE_ERROR, np.concatenate(wrong)))
    return PitchErrors(float(np.median(off)), *shares)


class Kept:
    """A session that computes a CREPE frame once, however many trackers ask for it."""

    def __init__(self, session: crepe.Session) -> None:
        self.session = session
        self.rows: dict[bytes, Array] = {}

    def run(self, outputs: None, inputs: Mapping[str, NDArray[Any]], /) -> list[Array]:
        if "frames" not in inputs:
            return self.session.run(outputs, inputs)
        keys = [frame.tobytes() for frame in inputs["frames"]]
        new = [i for i, key in enumerate(keys) if key not in self.rows]
        if new:
            found = self.session.run(None, {"frames": inputs["frames"][new]})[0]
            self.rows |= {keys[i]: row for i, row in zip(new, found, strict=True)}
        return [np.stack([self.rows[key] for key in keys])]


class Published:
    """torchcrepe's own code as diff-svc calls it: "full", 5 ms, Viterbi, then its filters and its threshold.

    With ``session`` the network alone is ours (its bins are the same), which saves minutes where only accuracy counts.
    """

    def __init__(self, threads: int, session: crepe.Session | None = None) -> None:
        self._torch, self._crepe = importlib.import_module("torch"), _torchcrepe()
        self._torch.set_num_threads(threads)
        self._session = session
        self.bins: list[NDArray[np.int64]] = []

    def track(self, samples: Array) -> Track:
        theirs, self.bins = self._crepe, []
        sound = self._torch.from_numpy(samples)[None]
        with self._torch.inference_mode():
            if self._session is None:
                f0, periodicity = theirs.predict(
                    sound, crepe.RATE, PEER_HOP, FMIN, FMAX, "full", self._decode, return_periodicity=True,
                    batch_size=PEER_BATCH,
                )  # fmt: skip
            else:
                salience = crepe.salience(self._session, samples, PEER_HOP)[0]
                probabilities = self._torch.from_numpy(np.ascontiguousarray(salience.T))[None]
                f0, periodicity = theirs.core.postprocess(
                    probabilities, FMIN, FMAX, self._decode, return_periodicity=True
                )
            periodicity = theirs.filter.median(periodicity, 3)
            periodicity = theirs.threshold.Silence(-60.0)(periodicity, sound, crepe.RATE, PEER_HOP)
            f0 = theirs.filter.mean(theirs.threshold.At(PEER_THRESHOLD)(f0, periodicity), 3)[0].numpy()
        voiced = np.isfinite(f0)
        return Track(np.arange(len(f0)) * (PEER_HOP / crepe.RATE), np.where(voiced, f0, 1), voiced.astype(np.float32))

    def _decode(self, probabilities: Any) -> Any:
        decoded = self._crepe.decode.viterbi(probabilities)
        self.bins.append(decoded[0][0].numpy())
        return decoded


def table(results: dict[str, Any]) -> str:
    """Markdown: speed, then the errors of each tracker in each condition."""
    made_on = f"{results['threads']} thread(s), {results['device']}. {results['note']}".strip()
    lines = [
        f"{results['seconds']:g} s of 16 kHz audio, {made_on}", "",
        "| tracker | wall s | CPU s | CPU s per s | times faster than torchcrepe |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in results["speed"]:
        wall, cpu = row["seconds"], row["cpu_seconds"]
        faster = f"{row['times_faster']:.1f}" if "times_faster" in row else ""
        lines.append(f"| {row['tracker']} | {wall:.3f} | {cpu:.3f} | {cpu / results['seconds']:.4f} | {faster} |")
    lines += ["", "| tracker | condition | median cents | off by > 50 cents | octave errors | wrong voicing |"]
    lines.append("|---|---|---|---|---|---|")
    for row in results["accuracy"]:
        shares = " | ".join(f"{row[name]:.2%}" for name in ("off_pitch", "octave", "voicing"))
        lines.append(f"| {row['tracker']} | {row['condition']} | {row['cents']:.1f} | {shares} |")
    return "\n".join(lines) + "\n"


def _torchcrepe() -> Any:
    """The package, also where the packages are missing with which it would read and resample files."""
    unneeded = ("torchaudio", "resampy")
    missing = [name for name in unneeded if name not in sys.modules and importlib.util.find_spec(name) is None]
    sys.modules.update({name: types.ModuleType(name) for name in missing})
    try:
        return importlib.import_module("torchcrepe")
    finally:
        for name in missing:
            del sys.modules[name]


def _tracker(session: crepe.Session, variant: Variant) -> Tracker:
    return Tracker(session, KINDS[variant.graph], FMIN, FMAX, variant.options)


def _clock(tracker: Tracker | Published, song: Array) -> dict[str, float]:
    """CPU time too: other programs on the machine stretch the wall clock."""
    wall, cpu = time.perf_counter(), time.process_time()
    tracker.track(song)
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


if __name__ == "__main__":
    main()
