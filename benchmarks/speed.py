"""How fast a voice converts here: seconds per stage and the real-time factor, as a table and as JSON."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from moksori.benchmarks import record
from moksori.runtime import Converter, Options, Voice, audio
from moksori.runtime.command import Command
from moksori.runtime.converter import Report

CLIP = Path(__file__).resolve().parent.parent / "tests" / "data" / "vocadito_10.flac"

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.speed --seconds 60 --steps 8
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("clip", type=click.Path(path_type=Path), default=CLIP)
@click.option("--voice", "voice_name", default="demo", show_default=True, help="Name, folder or .zip.")
@click.option(
    "--seconds", type=click.FloatRange(1), default=30, show_default=True, help="The clip is repeated to it."
)
@click.option("--steps", type=click.IntRange(1), help="Of the denoiser.  [default: the voice's]")
@click.option("--device", default="auto", show_default=True, help="As for svc-run.")
@click.option(
    "--runs", type=click.IntRange(1), default=3, show_default=True, help="The median of them is told."
)
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: in benchmarks/results]")
def main(
    clip: Path, voice_name: str, seconds: float, steps: int | None, device: str, runs: int, path: Path | None
) -> None:
    """Measure the speed of svc-run's engine on CLIP."""
    began = time.perf_counter()
    voice = Voice.load(voice_name, device)
    loading = time.perf_counter() - began
    converter = Converter(voice, Options(steps=steps))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.wav"), Path(folder, "result.wav")
        repeat(clip, source, seconds)
        converter.convert(source, target)  # warms up
        began = time.process_time()
        reports = [converter.convert(source, target) for _ in range(runs)]
        cores = (time.process_time() - began) / runs
        cold = from_nothing({"voice": voice_name, "device": device, "steps": steps, "source": str(source)}, runs)
    results = median(reports) | cold | {
        "core_seconds": cores,
        "voice": voice.name,
        "steps": steps or voice.manifest.denoiser.steps,
        "evaluations": len(converter.plan),
        "clip": clip.name,
        "loading_seconds": loading,
        "peak_memory_mb": peak_memory(),
        "runs": runs,
    }
    click.echo(table(results))
    path = path or record.RESULTS / f"speed-{voice.name}.json"
    record.write(path, results)
    click.echo(f"written to {path}")


def from_nothing(job: dict[str, Any], runs: int) -> dict[str, float]:
    """Seconds that a new process takes: to import the runtime, to its first sound, and to its end with the song.

    The import is what it takes beyond Python itself; the others are all that passes.
    """
    plain, importing = (
        statistics.median(_lasted([sys.executable, "-c", code])[0] for _ in range(runs + 2))
        for code in ("pass", "from moksori.runtime import Converter, Options, Voice")  # its parts load when named
    )
    command = [sys.executable, "-m", "moksori.benchmarks.speed", "--child", json.dumps(job)]
    whole = [_lasted(command) for _ in range(runs)]
    return {
        "import_seconds": importing - plain,
        "first_sound_seconds": statistics.median(sounded for _, sounded in whole),
        "process_seconds": statistics.median(lasted for lasted, _ in whole),
    }


def _lasted(command: list[str]) -> tuple[float, float]:
    """Seconds that a command took, and after how many of them it printed the time, if it did."""
    began = time.time()
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.split()
    return time.time() - began, float(printed[0]) - began if printed else 0.0


def child(text: str) -> None:
    """Convert a song as svc-run does, and print the time at which its first sound was there."""
    job, heard = json.loads(text), []
    converter = Converter(Voice.load(job["voice"], job["device"]), Options(steps=job["steps"]))
    source = Path(job["source"])
    converter.convert(source, source.with_name("cold.wav"), lambda _: heard.append(time.time()))
    click.echo(heard[0])


def median(reports: list[Report]) -> dict[str, Any]:
    """Stages, and the run, at the median of several reports of the same conversion."""
    elapsed = statistics.median(report.elapsed for report in reports)
    return {
        "seconds": reports[0].seconds,
        "elapsed_seconds": elapsed,
        "real_time_factor": elapsed / reports[0].seconds,
        "stages": {
            stage: statistics.median(report.stages[stage] for report in reports)
            for stage in reports[0].stages
        },
        "devices": dict(reports[0].devices),
    }


def table(results: dict[str, Any]) -> str:
    """The stages, their seconds, what one second of audio costs, and their share."""
    lines = [f"{'stage':<12}{'seconds':>9}{'ms per s':>10}{'share':>8}  device"]
    for stage, seconds in results["stages"].items():
        cost, share = 1000 * seconds / results["seconds"], seconds / results["elapsed_seconds"]
        lines.append(
            f"{stage:<12}{seconds:>9.3f}{cost:>10.1f}{share:>8.0%}  {results['devices'].get(stage, '')}"
        )
    lines.append(
        f"{'all':<12}{results['elapsed_seconds']:>9.3f}{1000 * results['real_time_factor']:>10.1f}{1:>8.0%}"
    )
    lines.append(
        f"real-time factor {results['real_time_factor']:.3f} ({results['seconds']:.1f} s of audio, "
        f"{results['steps']} steps; {results['core_seconds']:.2f} s of a core; "
        f"voice {results['voice']} loaded in {results['loading_seconds']:.2f} s)"
    )
    lines.append(
        f"a new process: import {results['import_seconds']:.2f} s, first sound after "
        f"{results['first_sound_seconds']:.2f} s, all after {results['process_seconds']:.2f} s "
        f"(real-time factor {results['process_seconds'] / results['seconds']:.3f})"
    )
    return "\n".join(lines)


def repeat(clip: Path, target: Path, seconds: float) -> None:
    """Write a clip over and over until it lasts ``seconds``."""
    rate = audio.info(clip).rate
    once = audio.read(clip, rate)
    with audio.Writer(target, rate) as file:
        file.write(np.resize(once, round(seconds * rate)))


def peak_memory() -> float | None:
    """Largest resident size of this process so far in MB, where the system tells it."""
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":  # whose getrusage begins at the size of the process that started this one
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
    else:
        main()
