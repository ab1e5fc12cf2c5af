"""What each stage of a conversion costs, and what the same networks cost when they are run the way others run them:
in eager torch, with CREPE full every 5 ms and 100 evaluations of the denoiser. One run, so that the ratios hold.

On a CPU the cost is core seconds, which hardly depend on what else a machine does; on a device it is seconds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from moksori.benchmarks import networks, record
from moksori.benchmarks.networks import Networks
from moksori.benchmarks.speed import CLIP
from moksori.runtime import audio, content, crepe, denoiser, devices, mel, pitch, samplers, vocoder
from moksori.runtime.command import Command
from moksori.runtime.devices import Session
from moksori.runtime.schedules import LINEAR

STEPS = (1, 2, 4, 8, 16, 32, 64)
PEER_STEPS = 100  # PNDM with a speed-up of 10: diff-svc's default
TIMED_STEPS = 4  # of those, since each costs the same
PEER_HOP = 80  # samples of 16 kHz, 5 ms
SHORT_SECONDS = 2.0  # of audio for CREPE full; each cost is told per second
ROW_SECONDS = 5.0  # a row that took as long is not run again

EXAMPLES = """\b
Examples:
  python -m moksori.benchmarks.stages
  python -m moksori.benchmarks.stages --preset demo --preset reference --seconds 10 --runs 3
"""


@click.command(cls=Command, extra="export", epilog=EXAMPLES)
@click.option("--preset", "presets", multiple=True, type=click.Choice(list(networks.PRESETS)), default=["demo"])
@click.option("--seconds", type=click.FloatRange(2), default=4, show_default=True, help="Of song.")
@click.option("--device", "device_name", default="cpu", show_default=True, help="Of our side, as for svc-run.")
@click.option("--threads", type=click.IntRange(1), help="Of both sides.  [default: one on a CPU, else all cores]")
@click.option("--runs", type=click.IntRange(1), default=1, show_default=True, help="At most; the median is told.")
@click.option("--graphs", type=click.Path(path_type=Path), default=Path("build", "benchmarks"), show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: in benchmarks/results]")
def main(
    presets: tuple[str, ...], seconds: float, device_name: str, threads: int | None, runs: int, graphs: Path,
    path: Path | None,
) -> None:  # fmt: skip
    """Time every stage, ours and others', on a sung clip."""
    device = devices.pick(device_name)
    count = threads or (1 if device.kind == "cpu" else devices.cores())
    torch.set_num_threads(count)
    path = path or record.RESULTS / f"stages-{device.kind}.json"
    results: dict[str, Any] = {"seconds": seconds, "device": str(device), "threads": count, "presets": {}}
    for preset in presets:
        made = networks.made(preset, graphs / preset)
        rows = results["presets"][preset] = []
        for row in measure(made, partial(devices.open_session, device=device, threads=count), seconds, runs):
            click.echo(f"{preset}  {row.stage:<8}{row.how:<28}{1000 * row.cost:10.2f} ms", err=True)
            rows.append(vars(row))
        record.write(path, results)  # what is done is kept when a later preset is interrupted
        text = "\n\n".join(table(preset, rows, results) for preset, rows in results["presets"].items())
        path.with_suffix(".md").write_text(text + "\n", encoding="utf-8", newline="\n")
    click.echo(text)
    click.echo(f"\nwritten to {path} and {path.with_suffix('.md')}")


@dataclass(frozen=True)
class Row:
    """One way through one stage; ``cost`` in (core) seconds for each second of audio. ``ours`` or the peers'."""

    stage: str
    how: str
    ours: bool
    cost: float


def measure(made: Networks, opened: Callable[..., Session], seconds: float, runs: int) -> Iterator[Row]:
    """Every row of the table."""
    spec, generator = made.mel, torch.Generator().manual_seed(0)
    song = np.resize(audio.read(CLIP, spec.sample_rate), round(seconds * spec.sample_rate))
    heard = np.resize(audio.read(CLIP, pitch.RATE), round(seconds * pitch.RATE))
    short = heard[: round(SHORT_SECONDS * pitch.RATE)]
    frames = spec.frames(len(song))
    pitch_session = opened(made.graphs["swift"], name="swift")
    clock = time.process_time if pitch_session.device.kind == "cpu" else time.perf_counter

    def cost(work: Callable[[], Any], lasting: float = seconds, share: float = 1.0) -> float:
        times: list[float] = []
        while len(times) <= runs and sum(times) < ROW_SECONDS:
            began = clock()
            work()
            times.append(clock() - began)
        return statistics.median(times[1:] or times) / lasting / share  # the first one warms up

    whole = audio.info(CLIP).seconds
    yield Row("wav", "blocks, resampled", True, cost(lambda: audio.read(CLIP, spec.sample_rate), whole))
    yield Row("wav", "librosa", False, cost(partial(networks.librosa_wav, CLIP, spec), whole))
    yield Row("mel", "log mel", True, cost(lambda: mel.log_mel(song, spec)))
    yield Row("mel", "librosa", False, cost(partial(networks.librosa_mel, song, spec)))

    times = mel.frame_times(frames, spec)
    swift = pitch.Tracker(pitch_session, "swift_scores", 50, 1600)
    yield Row("f0", "SwiftF0, 16 ms", True, cost(partial(swift.at, heard, times)))
    for capacity, piece in (("tiny", heard), ("full", short)):
        tracker = pitch.Tracker(opened(made.graphs[f"crepe_{capacity}"], name="crepe"), "crepe", 50, 1600)
        lasting = len(piece) / pitch.RATE
        yield Row("f0", f"CREPE {capacity}, 10 ms", True, cost(partial(tracker.at, piece, times), lasting))
    with torch.inference_mode():
        yield Row("f0", "CREPE full, 5 ms", False, cost(partial(_eager_crepe, made, short), SHORT_SECONDS))

    session = opened(made.graphs["content"], name="content")
    units = content.units(session, heard)
    padded = torch.from_numpy(np.pad(heard, (0, -len(heard) % content.UNIT_HOP)))[None]
    yield Row("content", made.preset.content_name, True, cost(partial(content.units, session, heard)))
    with torch.inference_mode():
        yield Row("content", made.preset.content_name, False, cost(partial(made.content, padded)))
    yield Row("mel2ph", "stretch", True, cost(lambda: content.mel2ph(frames, len(units))))

    width, bins = made.condition_width, spec.bins
    given = torch.randn(1, width, frames, generator=generator)
    start = torch.randn(1, bins, frames, generator=generator)
    session = opened(made.graphs["denoiser"], name="denoiser")
    for steps in STEPS:
        plan = samplers.plan(LINEAR, "euler", steps)
        work = partial(denoiser.sample, session, given.numpy(), start[0].numpy(), plan)
        yield Row("steps", f"{made.preset.denoiser_name}, {steps}", True, cost(work))
    with torch.inference_mode():
        evaluated = partial(_evaluations, made, start, given)
        share = TIMED_STEPS / PEER_STEPS
        yield Row("steps", f"{made.preset.denoiser_name}, {PEER_STEPS}", False, cost(evaluated, share=share))

    log_mel, f0 = mel.log_mel(song, spec), np.full(frames, 220, np.float32)
    session = opened(made.graphs["vocoder"], name="vocoder")
    yield Row("vocoder", made.preset.vocoder_name, True, cost(partial(_streamed, made, session, log_mel, f0)))
    with torch.inference_mode():
        inputs = made.vocoder_inputs(frames, generator)
        yield Row("vocoder", made.preset.vocoder_name, False, cost(partial(made.vocoder, *inputs)))


def _eager_crepe(made: Networks, heard: np.ndarray[Any, Any]) -> None:
    """As torchcrepe does it, in batches of 512 frames."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(heard, crepe.WINDOW // 2), crepe.WINDOW)[::PEER_HOP]
    for at in range(0, len(frames), 512):
        made.crepe(torch.from_numpy(np.ascontiguousarray(frames[at : at + 512])))


def _evaluations(made: Networks, x: torch.Tensor, given: torch.Tensor) -> None:
    for step in range(TIMED_STEPS):
        made.denoiser(x, torch.full((1,), step / TIMED_STEPS), given)


def _streamed(made: Networks, session: Session, log_mel: Any, f0: Any) -> None:
    stream = vocoder.KINDS[made.preset.vocoder_kind].synthesizer(session, made.mel, made.vocoder_context, 0)
    stream.push(log_mel, f0)
    stream.flush()


def table(preset: str, rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> str:
    """Markdown: every stage, milliseconds for a second of audio, and how many times as much the others' way takes."""
    lines = [
        f"**{preset}** on {results['device']}, {results['threads']} thread(s); "
        f"milliseconds{' of a core' if str(results['device']).startswith('CPU') else ''} for a second of audio",
        "", "| stage | ours | ms | the others' way | ms | ratio |", "|---|---|---:|---|---:|---:|",
    ]  # fmt: skip
    for stage in dict.fromkeys(row["stage"] for row in rows):
        theirs = next((row for row in rows if row["stage"] == stage and not row["ours"]), None)
        for row in (row for row in rows if row["stage"] == stage and row["ours"]):
            other = ("", "", "") if theirs is None else (
                theirs["how"], f"{1000 * theirs['cost']:.2f}", f"{theirs['cost'] / row['cost']:.1f}"
            )  # fmt: skip
            lines.append(f"| {stage} | {row['how']} | {1000 * row['cost']:.2f} | {' | '.join(other)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
