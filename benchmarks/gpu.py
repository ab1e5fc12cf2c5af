"""One call for all that a graphics card can be asked: does each graph compute what the CPU computes, how fast is it,
how fast is a whole conversion, and how fast are the stages. With --device cpu it can be tried anywhere."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from moksori.benchmarks import networks, record, stages
from moksori.benchmarks.speed import CLIP, repeat
from moksori.runtime import Converter, Options, Voice, devices, graphs, selftest, summary
from moksori.runtime.command import Command

STEPS = (1, 4, 16, 64)
LANES = (1, 2)

EXAMPLES = """\b
Examples:
  python -m moksori.benchmarks.gpu
  python -m moksori.benchmarks.gpu --device webgpu --preset demo --preset reference
"""


@click.command(cls=Command, extra="export", epilog=EXAMPLES)
@click.option("--device", "device_name", default="cuda", show_default=True, help="As for svc-run.")
@click.option("--voice", "voice_name", default="demo", show_default=True, help="Name, folder or .zip.")
@click.option("--seconds", type=click.FloatRange(1), default=60, show_default=True, help="Of song.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="The median is told.")
@click.option("--preset", "presets", multiple=True, type=click.Choice(list(networks.PRESETS)),
              help="Also time the stages of these networks, ours and as others run them.")
@click.option("--graphs", "folder", type=click.Path(path_type=Path), default=Path("build", "benchmarks"))
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: in benchmarks/results]")
def main(
    device_name: str, voice_name: str, seconds: float, runs: int, presets: tuple[str, ...], folder: Path,
    path: Path | None,
) -> None:  # fmt: skip
    """Measure a device, and its numbers against the CPU's."""
    device = devices.pick(device_name)
    here, on_cpu = Voice.load(voice_name, device), Voice.load(voice_name, "cpu")
    checked = list(compared(here, on_cpu, runs))
    whole = list(conversions(voice_name, str(device_name), seconds, runs))
    opened = partial(devices.open_session, device=device)
    timed = {
        preset: [asdict(row) for row in stages.measure(networks.made(preset, folder / preset), opened, seconds, runs)]
        for preset in presets
    }
    click.echo(summary.devices_text(summary.devices(voice_name)))
    for one in checked:
        click.echo(
            f"{one.role:<10} off by {one.error:.1e} of full scale  {one.ran_on}  "
            f"{1000 * one.seconds:.2f} ms a second of audio, CPU {1000 * one.cpu_seconds:.2f}"
        )
    for run in whole:
        click.echo(f"{run['steps']:>3} steps, {run['lanes']} lane(s): real-time factor {run['real_time_factor']:.4f}")
    results: dict[str, Any] = {
        "device": str(device), "voice": voice_name, "graphs": [asdict(one) for one in checked], "conversions": whole,
        "stages": timed, "notices": list(here.notices), "seconds": seconds,
    }  # fmt: skip
    head = {"device": str(device), "threads": devices.cores()}
    for preset, rows in timed.items():
        click.echo(stages.table(preset, rows, head))
    path = path or record.RESULTS / f"gpu-{device.kind}.json"
    record.write(path, results)
    click.echo(f"written to {path}")


@dataclass(frozen=True)
class Compared:
    """A graph on the device and on the CPU: largest difference over largest value, seconds for a second of audio."""

    role: str
    ran_on: str
    error: float
    seconds: float
    cpu_seconds: float


def compared(here: Voice, on_cpu: Voice, runs: int) -> Iterator[Compared]:
    for role, session in here.sessions.items():
        inputs = graphs.example(role, here.manifest, session)
        both = [_seconds(one, inputs, runs) / graphs.EXAMPLE_SECONDS for one in (session, on_cpu.sessions[role])]
        error = selftest.distance(session, on_cpu.sessions[role], inputs)
        yield Compared(role, str(session.device), error, *both)


def conversions(voice: str, device: str, seconds: float, runs: int) -> Iterator[dict[str, Any]]:
    """Whole conversions by steps and lanes."""
    with tempfile.TemporaryDirectory() as name:
        song, target = Path(name, "song.wav"), Path(name, "result.wav")
        repeat(CLIP, song, seconds)
        for lanes in LANES:
            loaded = Voice.load(voice, device, lanes=lanes)
            for steps in STEPS:
                converter = Converter(loaded, Options(steps=steps))
                found = [converter.convert(song, target) for _ in range(runs + 1)][1:]
                factor = statistics.median(report.elapsed / report.seconds for report in found)
                yield {"steps": steps, "lanes": lanes, "real_time_factor": factor, "stages": found[-1].stages}


def _seconds(session: devices.Session, inputs: graphs.Feeds, runs: int) -> float:
    session.run(None, inputs)
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        session.run(None, inputs)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
