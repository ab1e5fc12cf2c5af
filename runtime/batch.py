"""Converting many files: one after the other, each told about when it is done; a bad one does not stop the rest."""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from moksori.runtime import curve, jobs, summary
from moksori.runtime.command import sentence
from moksori.runtime.errors import MoksoriError
from moksori.runtime.jobs import Job

if TYPE_CHECKING:
    from moksori.runtime.converter import Converter
    from moksori.runtime.report import Report

CONVERTED, SKIPPED, FAILED, STOPPED = "converted", "skipped", "failed", "stopped"


@dataclass
class Batch:
    """Some jobs for one converter. ``run`` does them all; ``results`` then has an entry for each, as JSON does.

    ``quiet`` prints nothing but errors, for a report in JSON afterwards.
    """

    converter: Converter
    jobs: Sequence[Job]
    force: bool
    quiet: bool
    results: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> bool:
        """Whether nothing failed."""
        jobs.tidy({job.target.parent for job in self.jobs})
        for number, job in enumerate(self.jobs, 1):
            entry = {"source": str(job.source), "target": str(job.target), "status": STOPPED}
            self.results.append(entry)
            try:
                entry |= self._do(job, f"{number}/{len(self.jobs)} {job.source.name}")
            except (MoksoriError, OSError) as error:
                click.echo(f"Error: {sentence(error)}", err=True)
                entry |= {"status": FAILED, "error": sentence(error)}
        failed, skipped = self.counts[FAILED], self.counts[SKIPPED]
        if failed and len(self.jobs) > 1:
            click.echo(f"{failed} of {len(self.jobs)} files were not converted", err=True)
        if skipped:
            self._say(f"{skipped} of {len(self.jobs)} were already converted like this; --force does it again")
        return not failed

    @property
    def counts(self) -> Counter[str]:
        return Counter(entry["status"] for entry in self.results)

    def json(self) -> str:
        """What came of each file. ASCII alone, so that no console's code page can damage it."""
        document = {
            "moksori": importlib.metadata.version("moksori"),
            "voice": self.converter.voice.name,
            **{status: self.counts[status] for status in (CONVERTED, SKIPPED, FAILED)},
            "results": self.results,
        }
        return json.dumps(document, indent=2, allow_nan=False)

    def _do(self, job: Job, name: str) -> dict[str, Any]:
        settings = self.converter.settings
        if not self.force and not job.problem and job.finished(settings):
            self._say(f"{click.format_filename(job.target)}\n  already converted with these settings: skipped")
            return {"status": SKIPPED}
        job.check(settings, self.force)
        with _progress(name) as progress:
            report = self.converter.convert(job.source, job.target, progress)
        self._say(summary.text(report))
        entry = {**report.plain(), "status": CONVERTED}
        if job.save_f0:
            curve.write(job.curve, report.trace.times, report.trace.f0, report.trace.voiced)
            self._say(f"  f0       {click.format_filename(job.curve)}")
            entry["f0"] = str(job.curve)
        if job.plot:
            self._draw(job, report)
            entry["picture"] = str(job.picture)
        return entry

    def _draw(self, job: Job, report: Report) -> None:
        from moksori.runtime import plot

        style = self.converter.style
        title = f"{job.source.name}  →  {style.voice} ({style.speaker}), key {report.key:+g}"
        tracker, home, trace = self.converter.tracker, self.converter.range, report.trace
        before, after = plot.heard("before", job.source, tracker), plot.heard("after", job.target, tracker)
        marks = plot.Marks(trace.cuts, trace.muted, (home.low, home.high))
        plot.draw(job.picture, click.format_filename(title), before, after, marks)
        self._say(f"  picture  {click.format_filename(job.picture)}")

    def _say(self, text: str) -> None:
        if not self.quiet:
            click.echo(text)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr while it is a terminal; it is gone at the end."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(name), total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
