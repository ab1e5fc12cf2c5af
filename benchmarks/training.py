"""What training costs: steps a second, the share of time spent waiting for data, peak memory, and the time to a loss.

Data sets of any length are made of one song, its slices repeated as hard links. That keeps the files in the system's
cache, so what is shown is the cost of many slices, not of a slow disk.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import yaml

from moksori.benchmarks import record, study, training_table
from moksori.benchmarks.panel import Panel, takes_panel
from moksori.benchmarks.prepare import CLIP, prepare
from moksori.benchmarks.speed import peak_memory
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError
from moksori.runtime.files import atomic_path, read_json, write_json

WARM = 3  # first steps, which are left out
LEAST = WARM + 2
HOURS = (1 / 6, 1.0, 10.0)
MEASURE = {"denoiser": "validation/loss", "vocoder": "validation/mel", "content": "validation/altered_l1"}

EXAMPLES = """\b
Examples:
  python -m moksori.benchmarks.training
  python -m moksori.benchmarks.training --preset light-24k --preset reference-44k+low-memory --steps 30 --limit 60
  python -m moksori.benchmarks.training --data data/ --target 0.5 --limit 1800
  python -m moksori.benchmarks.training --demo 120 --data build/demo/data --run run \\
      --inputs talk --references build/demo/heldout --recogniser build/demo/teacher
"""


@dataclass(frozen=True)
class Case:
    """One run, of ``steps`` or until ``target``, a validation loss; and of ``limit`` seconds at most.

    ``preset`` may be several, joined by "+", each laid over the one before.
    """

    role: str
    preset: str
    data: Path
    hours: float
    steps: int
    target: float | None
    limit: float
    config: Path | None = None


@click.command(cls=Command, extra="train", epilog=EXAMPLES)
@click.option("--data", type=click.Path(path_type=Path), help="A DATA_DIR, as it is.  [default: made of a song]")
@click.option("--preset", "names", multiple=True, default=("light-24k",), show_default=True)
@click.option("--role", "roles", multiple=True, type=click.Choice(list(MEASURE)), default=("denoiser", "vocoder"))
@click.option("--hours", multiple=True, type=float, default=HOURS, help="Lengths of data.  [default: 1/6, 1, 10]")
@click.option("--steps", type=click.IntRange(LEAST), default=12, show_default=True, help="In each case.")
@click.option("--target", type=float, help="Train until this validation loss instead, and tell the time.")
@click.option("--limit", type=float, default=1200.0, show_default=True, help=f"Seconds a case, if {LEAST} steps fit.")
@click.option("--config", type=click.Path(path_type=Path), help="YAML over the presets; with --demo, not the recipe's.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: in benchmarks/results]")
@click.option("--demo", "minutes", type=float, help="Instead: train the demo's denoiser this long, and judge it.")
@click.option("--judged", type=click.IntRange(1), default=8, show_default=True, help="How often, with --demo.")
@click.option("--run", "run_dir", type=click.Path(path_type=Path), help="RUN_DIR of --demo, which goes on.")
@takes_panel
def main(
    data: Path | None,
    names: tuple[str, ...],
    roles: tuple[str, ...],
    hours: tuple[float, ...],
    steps: int,
    target: float | None,
    limit: float,
    config: Path | None,
    path: Path | None,
    minutes: float | None,
    judged: int,
    run_dir: Path | None,
    **panel: Any,
) -> None:
    """Measure svc-train per preset, role and length of data; or how a voice gets better with the time."""
    if minutes is not None:
        _demo(data, config, minutes, judged, run_dir, panel)
        return
    path, found = path or record.RESULTS / "training.json", []
    with tempfile.TemporaryDirectory() as work:
        for name in names:
            for length in hours if data is None else (0.0,):
                folder = data or _made(Path(work), name, length)
                for role in roles:
                    found.append(_measured(Case(role, name, folder, length, steps, target, limit, config)))
                    click.echo(training_table.line(found[-1]))
    record.write(path, {"cases": found})
    with atomic_path(path.with_suffix(".md")) as part:
        part.write_text(training_table.table(found), encoding="utf-8", newline="\n")
    click.echo(f"written to {path} and {path.with_suffix('.md')}")


def _demo(
    data: Path | None, config: Path | None, minutes: float, judged: int, run_dir: Path | None, panel: dict[str, Any]
) -> None:
    from moksori.benchmarks import training_time
    from moksori.train.dataset import PreparedData

    if data is None or run_dir is None:
        raise OptionError("--demo needs --data and --run, a DATA_DIR and a RUN_DIR")
    results = training_time.measured(
        data, config or training_time.RECIPE, run_dir, minutes, judged, Panel(PreparedData(data), **panel)
    )
    study.finish("minutes", results, training_time.draw(results), training_time.table(results), Path())


def repeated(source: Path, target: Path, hours: float) -> Path:
    """A DATA_DIR of ``hours`` whose slices are those of ``source``, over and over."""
    facts = read_json(source / "data.json")
    slices: list[dict[str, Any]] = []
    seconds = 0.0
    while seconds < 3600 * hours:
        piece = facts["slices"][len(slices) % len(facts["slices"])]
        name = f"{len(slices):07d}"
        for kind, suffix in (("audio", "flac"), ("features", "npz")):
            link = target / kind / piece["speaker"] / f"{name}.{suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(source / kind / piece["speaker"] / f"{piece['id']}.{suffix}", link)
        slices.append({**piece, "id": name})
        seconds += piece["seconds"]
    write_json(target / "data.json", {**facts, "slices": slices})
    for graph in ("content.onnx", "pitch.onnx"):
        os.link(source / graph, target / graph)
    return target


def measure(case: Case) -> dict[str, Any]:
    """Run one case in this process."""
    from rich.console import Console

    from moksori.train import config as configs
    from moksori.train import loop, preset, run
    from moksori.train.dataset import PreparedData

    began = time.process_time()
    data = PreparedData(case.data)
    listing = time.process_time() - began
    role = run.ROLES[case.role]
    config = role.config
    for name in case.preset.split("+"):
        config = preset.overlay(name, case.role, config, data.spec)
    if case.config is not None:
        config = configs.load(case.config, config)
    if case.target is None:
        config = replace(config, loop=replace(config.loop, steps=case.steps, validate_every=case.steps))
    config = role.fitted(config, data)
    task = Timed(role.task(data, config, Path()), case, config.loop.accumulate)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Reached):
        loop.train(task, config.loop, Path(folder), Console(quiet=True))
    size = f"{config.loop.accumulate} x {config.batch}"
    return {**task.figures(), "batch": size, "listing_seconds": listing, "peak_memory_mb": peak_memory()}


class Reached(Exception):
    """The target, or the limit: no more need be trained."""


class Timed:
    """A task that remembers when each batch was asked for and when it came; validations are not counted.

    Args:
        accumulate: batches in a step.
    """

    def __init__(self, task: Any, case: Case, accumulate: int) -> None:
        self.task, self.case, self.accumulate = task, case, accumulate
        self.network, self.adversary, self.trivial = task.network, task.adversary, task.trivial
        self.losses, self.adversary_loss = task.losses, task.adversary_loss
        self.ranking, self.begun = task.ranking, task.begun
        self.asked: list[float] = []
        self.spent: list[float] = []  # core seconds when each was asked for; these do not feel what else runs here
        self.came: list[float] = []
        self.validating = 0.0
        self.course: list[tuple[float, float]] = []  # seconds of training, validation loss

    def batches(self, share: Any, device: Any) -> Generator[dict[str, Any]]:
        stream = self.task.batches(share, device)
        try:
            while not self._over():
                self.asked.append(time.perf_counter())
                self.spent.append(time.process_time())
                batch = next(stream)
                self.came.append(time.perf_counter())
                yield batch
            raise Reached
        finally:
            stream.close()

    def validate(self, network: Any, writer: Any, step: int, device: Any) -> dict[str, float]:
        began = time.perf_counter()
        trained = began - self.asked[0] - self.validating
        metrics: dict[str, float] = self.task.validate(network, writer, step, device)
        self.validating += time.perf_counter() - began
        loss = metrics[MEASURE[self.case.role]]
        self.course.append((trained, loss))
        if self.case.target is not None and (loss <= self.case.target or trained > self.case.limit):
            raise Reached
        return metrics

    def _over(self) -> bool:
        measured = len(self.came) >= LEAST * self.accumulate and len(self.came) % self.accumulate == 0
        return self.case.target is None and measured and time.perf_counter() - self.asked[0] > self.case.limit

    def figures(self) -> dict[str, Any]:
        accumulate = self.accumulate
        begun = self.asked[WARM * accumulate :: accumulate]
        each = statistics.median(later - earlier for earlier, later in itertools.pairwise(begun))
        waits = [came - asked for asked, came in zip(self.asked, self.came, strict=True)][WARM * accumulate :]
        cores = self.spent[WARM * accumulate :: accumulate]
        target = self.case.target
        reached = [seconds for seconds, loss in self.course if target is not None and loss <= target]
        return {
            "role": self.case.role,
            "preset": self.case.preset,
            "hours": self.case.hours,
            "steps": len(self.came) // accumulate,
            "steps_per_second": 1 / each,
            "core_seconds_per_step": statistics.median(later - earlier for earlier, later in itertools.pairwise(cores)),
            "waiting": sum(waits) / (each * len(begun)),
            "target": target,
            "seconds_to_target": reached[0] if reached else None,
            "training_seconds": self.course[-1][0] if self.course else 0.0,
            "best": min(loss for _, loss in self.course) if self.course else None,
        }


def _made(work: Path, name: str, hours: float) -> Path:
    """Data in a preset's geometry, prepared once a rate."""
    from moksori.train import preset

    said = yaml.safe_load((preset.FOLDER / f"{name.split('+')[0]}.yaml").read_text(encoding="utf-8"))
    rate = str(said.get("mel", {}).get("sample_rate", 24_000))
    once = work / f"once-{rate}"
    if not once.exists():
        recordings = work / "recordings" / "singer"
        recordings.mkdir(parents=True, exist_ok=True)
        if not (recordings / CLIP.name).exists():
            (recordings / CLIP.name).write_bytes(CLIP.read_bytes())
        prepare(recordings.parent, once, "--rate", rate, "--max", "6", "--min", "2", "--jobs", "1")
    target = work / f"{rate}-{hours:g}h"
    return target if target.exists() else repeated(once, target, hours)


def _measured(case: Case) -> dict[str, Any]:
    """In a fresh process, so that peak memory is its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (case,))


if __name__ == "__main__":
    main()
