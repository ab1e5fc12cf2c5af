"""How CREPE hears pitch: the salience of each frame of a song, and what those frames cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from moksori.benchmarks import pitch as timing
from moksori.benchmarks import record, study
from moksori.benchmarks.published import FMAX, FMIN
from moksori.benchmarks.speed import CLIP
from moksori.benchmarks.study import Array
from moksori.models.crepe import CAPACITIES, Capacity
from moksori.runtime import Voice, audio, crepe, devices, pitch, selftest
from moksori.runtime.command import Command
from moksori.runtime.files import read_json
from moksori.runtime.pitch import Track

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HOP = 0.010  # seconds
TAPS, STRIDE, FIRST_TAPS = 64, 4, 512  # of the convolutions; the first has its own
SHOWN_HZ = (100.0, 800.0)
NAMES = {"crepe": "CREPE full", "crepe-tiny": "CREPE tiny"}
# A GPU, 102 s of 44.1 kHz: measured by a user of diff-svc, not by us.
USER = {"decoding, mel": 0.17, "CREPE full, every 5 ms": 25.4, "HuBERT": 0.59}

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.study_crepe --tracker crepe-tiny
"""


@click.command(cls=Command, extra="export,eval,plot", epilog=EXAMPLES)
@click.argument("clip", type=click.Path(path_type=Path), default=CLIP)
@click.option("--tracker", type=click.Choice(list(NAMES)), default="crepe", show_default=True)
@click.option("--graphs", type=click.Path(path_type=Path), help="Where its graph is or will be.  [default: a cache]")
@click.option("--voice", "voice_name", default="demo", show_default=True, help="Whose tracker is laid over it.")
@click.option("--start", type=click.FloatRange(0), default=0.6, show_default=True, help="Seconds into the clip.")
@click.option("--seconds", type=click.FloatRange(0.2), default=2.5, show_default=True)
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie.")
def main(
    clip: Path, tracker: str, graphs: Path | None, voice_name: str, start: float, seconds: float, root: Path
) -> None:
    """Draw CREPE's salience over a sung clip; take times from the records of benchmarks.pitch and benchmarks.speed."""
    folder = graphs or selftest.cache_folder().parent / "graphs"
    path = timing.made(tracker, folder / timing.GRAPHS[tracker])
    session = devices.open_session(path, devices.cpu(), 1, NAMES[tracker])
    voice = Voice.load(voice_name, "cpu")
    facts = voice.manifest.pitch
    song = audio.read(clip, pitch.RATE)[round(start * pitch.RATE) :][: round(seconds * pitch.RATE)]
    salience, _ = crepe.salience(session, song, round(HOP * pitch.RATE))
    threshold = pitch.Tracker(session, "crepe", FMIN, FMAX).options.threshold
    other = pitch.Tracker(voice.pitch, facts.kind, facts.fmin, facts.fmax, facts.options).track(song)
    results = {
        "clip": clip.name, "start": start, "seconds": seconds, "tracker": NAMES[tracker],
        "apart_cents": apart(salience, threshold, other, facts.options),
        "products": {name: products(capacity) for name, capacity in CAPACITIES.items()},
        "speed": {row["tracker"]: row for row in read_json(root / record.RESULTS / "pitch.json")["speed"]},
        "speed_seconds": read_json(root / record.RESULTS / "pitch.json")["seconds"],
        "stages": read_json(root / record.RESULTS / "speed-demo.json")["stages"],
        "user_seconds": USER,
    }  # fmt: skip
    study.finish("crepe", results, draw(results, salience, other, facts.threshold), table(results), root)


def products(capacity: Capacity) -> list[int]:
    """Multiplications in a frame, of the six convolutions and the last layer, as the network is published."""
    found, positions, inputs = [], crepe.WINDOW // STRIDE, 1
    for at, outputs in enumerate(capacity.channels):
        found.append(positions * outputs * inputs * (TAPS if at else FIRST_TAPS))
        positions, inputs = positions // 2, outputs
    return [*found, positions * inputs * crepe.BINS]


def apart(salience: Array, from_there: float, other: Track, heard: pitch.Options) -> float:
    """Median distance in cents of the two trackers, where both are as sure as their thresholds ask."""
    bins = crepe.viterbi(crepe.within(salience, FMIN, FMAX))
    sure = np.take_along_axis(salience, bins[:, None], 1)[:, 0] >= from_there
    f0, voiced = pitch.at_times(other, np.arange(len(salience)) * HOP, heard)
    both = sure & voiced
    cents = np.abs(1200 * np.log2(f0 / crepe.frequencies(salience, bins)))[both]
    return float(np.median(cents)) if len(cents) else np.nan


def table(results: Mapping[str, Any]) -> str:
    cell, seconds = study.figure_of, results["speed_seconds"]
    full, tiny = (results["products"][name] for name in ("full", "tiny"))
    names = [f"convolution {at}" for at in range(1, 7)] + ["last layer"]
    by_layer = study.table(
        ["in one frame, million multiplications", "full", "tiny"],
        [[name, cell(of_full, 1, 1e-6), cell(of_tiny, 2, 1e-6)]
         for name, of_full, of_tiny in zip(names, full, tiny, strict=True)]
        + [["all", cell(sum(full), 1, 1e-6), cell(sum(tiny), 2, 1e-6)]],
    )  # fmt: skip
    by_tracker = study.table(
        ["tracker", "CPU seconds for a second of audio"],
        [[name, f"{row['cpu_seconds'] / seconds:.3g}"] for name, row in results["speed"].items()],
    )
    return f"{by_layer}\n{by_tracker}"


def draw(results: Mapping[str, Any], salience: Array, other: Track, threshold: float) -> Figure:
    """Salience with both trackers' curves, one frame of it, and where the time went."""
    figure, axes = study.sheet(2, 2, (12, 8))
    _salience(axes[0][0], results, salience, other, threshold)
    _frame(axes[0][1], salience)
    _shares(axes[1][0], USER, "diff-svc on a GPU, as a user measured it: 102 s of song")
    _shares(axes[1][1], results["stages"], "svc-run on two cores: 60 s of song")
    return figure


def _salience(axis: Axes, results: Mapping[str, Any], salience: Array, other: Track, threshold: float) -> None:
    bins = crepe.viterbi(crepe.within(salience, FMIN, FMAX))
    times = np.arange(len(salience)) * HOP
    axis.pcolormesh(times, _hertz(), salience.T, cmap="Greys", vmin=0, vmax=1, shading="nearest", rasterized=True)
    path = crepe.frequencies(salience, bins)
    axis.plot(times, path, color=study.ORANGE, linewidth=4, alpha=0.5, label="CREPE's likeliest path")
    heard = np.where(other.confidence >= threshold, other.f0, np.nan)
    axis.plot(other.times, heard, color=study.BLUE, linewidth=1.5, label="SwiftF0")
    axis.set_yscale("log")
    axis.set_ylim(*SHOWN_HZ)
    axis.set_yticks((100, 200, 300, 400, 600, 800), ("100", "200", "300", "400", "600", "800"))
    axis.minorticks_off()
    axis.set_xlim(0, times[-1])
    axis.set_xlabel("seconds")
    axis.set_ylabel("Hz")
    axis.set_title(f"salience of {results['tracker']}, dark is sure", loc="left")
    axis.legend(frameon=False, loc="upper right")


def _frame(axis: Axes, salience: Array) -> None:
    at = int(salience.max(1).argmax())
    peak = int(salience[at].argmax())
    around = slice(max(0, peak - 12), peak + 13)
    cents = (np.arange(crepe.BINS)[around] - peak) * crepe.CENTS_PER_BIN
    axis.bar(cents, salience[at, around], width=16, color="0.75")
    near = np.abs(cents) <= crepe.REACH * crepe.CENTS_PER_BIN
    axis.bar(cents[near], salience[at, around][near], width=16, color=study.ORANGE, label="the nine that are averaged")
    axis.set_xlabel(f"cents from the loudest bin, {_hertz()[peak]:.1f} Hz")
    axis.set_ylabel("salience")
    axis.set_ylim(0, 1.25)
    axis.set_title(f"one frame, at {at * HOP:.2f} s: a bump, 20 cents a bin", loc="left")
    axis.legend(frameon=False)


def _shares(axis: Axes, seconds: Mapping[str, float], title: str) -> None:
    total = sum(seconds.values())
    axis.barh(list(seconds), [100 * one / total for one in seconds.values()], color=study.BLUE)
    for at, one in enumerate(seconds.values()):
        axis.annotate(f"{one:.2f} s", (100 * one / total, at), (4, 0), textcoords="offset points", va="center")
    axis.set_xlim(0, 115)
    axis.set_xticks((0, 25, 50, 75, 100))
    axis.invert_yaxis()
    axis.set_xlabel("% of the time")
    axis.set_title(title, loc="left")


def _hertz() -> NDArray[np.float64]:
    """The centre of each bin."""
    return np.asarray(10 * 2 ** ((crepe.FIRST_BIN_CENTS + crepe.CENTS_PER_BIN * np.arange(crepe.BINS)) / 1200))


if __name__ == "__main__":
    main()
