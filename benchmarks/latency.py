"""What a live stream costs: its latency, the time of a block, its distance to a file's result, and an hour of it."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from moksori.benchmarks import record
from moksori.runtime import Converter, Options, Voice, audio, loudness, mel
from moksori.runtime.command import Command
from moksori.runtime.errors import MoksoriError
from moksori.runtime.files import atomic_path
from moksori.runtime.stream import Live, Stream

Array = NDArray[np.float32]

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
CLIP, TARGET = DATA / "vocadito_10.flac", DATA / "sinsy_f001.flac"
CARD_RATE = 48_000  # Hz, at which the cost is measured, resampling included
BLOCKS, STEPS = (10.0, 20.0, 40.0, 80.0, 200.0), (1, 2, 4)
LOOKAHEADS = (20.0, 30.0, 40.0, 50.0, 80.0, 160.0)
BARS = {"algorithmic_ms": 80.0, "share": 0.5, "end_to_end_ms": 120.0}
HOUR = 3600.0
WINDOW = 60.0  # seconds of sound at the begin and the end of the hour that are compared

EXAMPLES = """\b
Examples:
  python -m moksori.benchmarks.latency
  python -m moksori.benchmarks.latency --only cost --block 40 --steps 2
  python -m moksori.benchmarks.latency --hour --block 200 --steps 1
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("clip", type=click.Path(path_type=Path), default=CLIP)
@click.option("--voice", "voice_name", default="demo", show_default=True, help="Name, folder or .zip.")
@click.option("--speaker", help="As for svc-run.")
@click.option("--device", default="cpu", show_default=True, help="As for svc-run.")
@click.option("--only", type=click.Choice(["cost", "distance"]), help="[default: both]")
@click.option("--block", "blocks", type=float, multiple=True, help=f"ms.  [default: {BLOCKS}]")
@click.option("--steps", type=click.IntRange(1), multiple=True, help=f"Of the denoiser.  [default: {STEPS}]")
@click.option("--lookahead", "lookaheads", type=float, multiple=True, help=f"ms.  [default: {LOOKAHEADS}]")
@click.option("--past", type=float, help="Seconds that content hears of the past.  [default: its own, at most 0.7]")
@click.option("--seconds", type=click.FloatRange(1), default=8.0, show_default=True, help="Of the clip.")
@click.option("--hour", is_flag=True, help="Instead, sing for an hour as fast as it goes, and compare begin and end.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: in benchmarks/results]")
def main(
    clip: Path,
    voice_name: str,
    speaker: str | None,
    device: str,
    only: str | None,
    blocks: tuple[float, ...],
    steps: tuple[int, ...],
    lookaheads: tuple[float, ...],
    past: float | None,
    seconds: float,
    hour: bool,
    path: Path | None,
) -> None:
    """Measure live conversion of CLIP. The distance needs what svc-train's judge needs."""
    voice = Voice.load(voice_name, device, lanes=1)
    results: dict[str, Any] = {"voice": voice.name, "clip": clip.name, "bars": BARS}
    if hour:
        live = Live(block=(blocks or (40.0,))[0], past=past)
        results["hour"] = long_run(voice, Options(speaker=speaker, steps=(steps or (1,))[0]), live, clip, HOUR)
        text = hour_table(results["hour"])
    else:
        if only != "distance":
            pairs = product(blocks or BLOCKS, steps or STEPS)
            results["cost"] = [cost(voice, speaker, clip, block, count, past, seconds) for block, count in pairs]
        if only != "cost":
            block = (blocks or (40.0,))[0]
            results["distance"] = distances(voice, speaker, clip, lookaheads or LOOKAHEADS, block, past, seconds)
        text = markdown(results)
    click.echo(text)
    path = path or record.RESULTS / f"latency-{voice.name}{'-hour' if hour else ''}.json"
    record.write(path, results)
    with atomic_path(path.with_suffix(".md")) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    click.echo(f"written to {path}")


def cost(
    voice: Voice, speaker: str | None, clip: Path, block: float, steps: int, past: float | None, seconds: float
) -> dict[str, Any]:
    """Latency and time of a block, at a sound card's rate, of singing without pauses."""
    part = round(block * CARD_RATE / 1000)
    stream = Stream(voice, Options(speaker=speaker, steps=steps), Live(CARD_RATE, block, past=past, step=part))
    song = without_pauses(audio.read(clip, CARD_RATE), CARD_RATE, seconds)
    spent, worked = [], []
    for at in range(0, len(song) - part + 1, part):
        began, used = time.perf_counter(), time.process_time()
        stream.push(song[at : at + part])
        spent.append(1000 * (time.perf_counter() - began))
        worked.append(1000 * (time.process_time() - used))
    spent, worked = (one[min(10, len(one) // 4) :] for one in (spent, worked))  # the first runs of a graph are slow
    lasting, late = 1000 * part / CARD_RATE, 1000 * (stream.latency + part) / CARD_RATE
    p99 = float(np.percentile(spent, 99))
    return {
        "block_ms": lasting, "steps": steps, "lookahead_ms": stream.live.lookahead,
        "algorithmic_ms": late, "median_ms": float(np.median(spent)), "p99_ms": p99,
        "share": p99 / lasting, "end_to_end_ms": late + p99, "cpu_ms": float(np.median(worked)),
    }  # fmt: skip


def distances(
    voice: Voice,
    speaker: str | None,
    clip: Path,
    lookaheads: Sequence[float],
    block: float,
    past: float | None,
    seconds: float,
) -> list[dict[str, Any]]:
    """Of streamed results to that of the whole file, and what each has of the source's pitch and the target's voice."""
    from moksori.train import measures
    from moksori.train.measures import Sound

    spec = voice.manifest.mel
    song = audio.read(clip, spec.sample_rate)[: round(seconds * spec.sample_rate)]
    whole = whole_file(voice, Options(speaker=speaker, bits="float"), song)
    level = loudness.active_level([song], spec)
    if level is None:
        raise MoksoriError(f"{clip} is silent: name one with singing")
    own = Converter(voice, Options(speaker=speaker)).level
    similarity = measures.Similarity({"target": [Sound.read(TARGET)], "whole": [Sound(whole, spec.sample_rate)]})

    def row(name: float | None, made: Array) -> dict[str, Any]:
        sound = Sound(made, spec.sample_rate)
        errors, print_of = measures.pitch_errors(Sound(song, spec.sample_rate), sound), similarity.embed(sound)
        return {
            "lookahead_ms": name, "mel": mel_distance(made, whole, spec),
            "cents": errors.cents, "off_pitch": errors.off_pitch, "voicing": errors.voicing,
            "to_whole": similarity.to("whole", print_of), "to_target": similarity.to("target", print_of),
        }  # fmt: skip

    again = whole_file(voice, Options(speaker=speaker, bits="float", seed=1), song)
    rows = [row(None, whole), row(0.0, again)]  # no look-ahead: the same with another seed
    for lookahead in lookaheads:
        stream = Stream(voice, Options(speaker=speaker), Live(None, block, lookahead, past, own - level))
        rows.append(row(lookahead, np.concatenate([stream.push(song), stream.flush()])[stream.latency :]))
    return rows


def long_run(voice: Voice, options: Options, live: Live, clip: Path, seconds: float) -> dict[str, Any]:
    """A stream that sings without end: time of a block, memory and latency, in its first minute and in its last."""
    stream = Stream(voice, options, live)
    size = stream.block * stream.spec.hop
    song = without_pauses(audio.read(clip, stream.rate), stream.rate, 30.0)
    song = song[: len(song) // size * size]
    count, edge = round(seconds * stream.rate) // size, round(min(WINDOW, seconds / 4) * stream.rate) // size
    spent, memory, began = np.zeros(count), [], time.perf_counter()
    for block in range(count):
        at = block * size % len(song)
        used = time.process_time()
        heard = stream.push(song[at : at + size])
        spent[block] = 1000 * (time.process_time() - used)
        if len(heard) != size or len(stream.ready) + len(stream.waiting) > 2 * (stream.latency + size):
            raise MoksoriError(f"after {block} blocks the stream holds more than its latency")
        if block in (edge, count - 1):
            memory.append(resident_mb())
    lasted = count * size / stream.rate
    last = np.concatenate([stream.push(song[:size]) for _ in range(2 + stream.latency // size)])
    return {
        "seconds": lasted, "times_real_time": lasted / (time.perf_counter() - began),
        "block_ms": 1000 * size / stream.rate, "latency_samples": stream.latency,
        "first_cpu_ms": float(np.median(spent[edge // 4 : edge])),
        "last_cpu_ms": float(np.median(spent[-edge:])),
        "first_mb": memory[0], "last_mb": memory[-1], "still_sings": bool(np.abs(last).max() > 1e-3),
    }  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    bars = results["bars"]
    lines = [
        f"Voice {results['voice']}, clip {results['clip']}. Bars: algorithmic latency {bars['algorithmic_ms']:.0f} ms, "
        f"p99 {bars['share']:.0%} of the block, end to end {bars['end_to_end_ms']:.0f} ms.",
        "",
    ]
    if "cost" in results:
        lines += ["| block ms | steps | latency ms | median ms | p99 ms | p99 of block | end to end ms "
                  "| CPU ms | bars |", "|---:" * 8 + "|---|"]  # fmt: skip
        for row in results["cost"]:
            missed = [name.split("_ms")[0].replace("_", " ") for name, bar in bars.items() if row[name] > bar]
            lines.append(
                f"| {row['block_ms']:.0f} | {row['steps']} | {row['algorithmic_ms']:.1f} | {row['median_ms']:.1f} "
                f"| {row['p99_ms']:.1f} | {row['share']:.0%} | {row['end_to_end_ms']:.0f} | {row['cpu_ms']:.1f} "
                f"| {'not: ' + ', '.join(missed) if missed else 'all met'} |"
            )
        lines.append("")
    if "distance" in results:
        lines += ["| look-ahead ms | log-mel from the file's | f0 error, cents | off by 50 cents | voicing "
                  "| similarity to the file's | to the target |", "|---:" * 7 + "|"]  # fmt: skip
        names: dict[float | None, str] = {None: "whole file", 0.0: "whole file, other seed"}
        for row in results["distance"]:
            name = names.get(row["lookahead_ms"], f"{row['lookahead_ms']:.0f}" if row["lookahead_ms"] else "")
            lines.append(
                f"| {name} | {row['mel']:.3f} | {row['cents']:.1f} | {row['off_pitch']:.1%} | {row['voicing']:.1%} "
                f"| {row['to_whole']:.3f} | {row['to_target']:.3f} |"
            )
    return "\n".join(lines).rstrip()


def hour_table(found: dict[str, Any]) -> str:
    return (
        f"{found['seconds']:.0f} s in blocks of {found['block_ms']:.0f} ms, at "
        f"{found['times_real_time']:.1f} × real time\n\n"
        "| | first minute | last minute |\n|---|---:|---:|\n"
        f"| CPU ms a block | {found['first_cpu_ms']:.2f} | {found['last_cpu_ms']:.2f} |\n"
        f"| resident MB | {found['first_mb']:.1f} | {found['last_mb']:.1f} |\n"
        f"| latency, samples | {found['latency_samples']} | {found['latency_samples']} |"
    )


def without_pauses(song: Array, rate: int, seconds: float) -> Array:
    """The loud parts of a song over and over, so that no block is spared its work."""
    size = rate // 10
    pieces = song[: len(song) // size * size].reshape(-1, size)
    level = np.sqrt((pieces**2).mean(1))
    return np.resize(pieces[level > 0.2 * np.quantile(level, 0.95)], round(seconds * rate)).astype(np.float32)


def whole_file(voice: Voice, options: Options, song: Array) -> Array:
    rate = voice.manifest.mel.sample_rate
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "song.wav"), Path(folder, "result.wav")
        with audio.Writer(source, rate, subtype="FLOAT") as file:
            file.write(song)
        Converter(voice, options).convert(source, target)
        return audio.read(target, rate)


def mel_distance(one: Array, other: Array, spec: mel.MelSpec) -> float:
    """Mean distance of natural-log mel in what is loud in the other, whatever the gain between the two."""
    count = min(len(one), len(other))
    first, second = (mel.log_mel(sound[:count], spec) for sound in (one, other))
    level = mel.loudness(other[:count], spec)
    apart = (first - second)[level > np.quantile(level, 0.95) - loudness.ACTIVE_RANGE_DB]
    return float(np.abs(apart - np.median(apart)).mean())


def resident_mb() -> float:
    """What this process holds of memory now, where the system tells it; else the most so far."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
