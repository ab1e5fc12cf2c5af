"""Every benchmark that needs nothing but this computer, one after another, and then docs/results.md.

Left out, each with its own command: gpu (a graphics card), quality and warnings (recordings), windows (root), parity of
a RUN_DIR, fuzz and the long cases of prepare (hours).
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from moksori.benchmarks import record
from moksori.runtime.command import Command
from moksori.runtime.errors import MoksoriError

LIMIT = 900  # seconds for one of them
RUNS = {  # name -> module and its arguments; together under half an hour on two idle cores
    "speed": ("speed", "--seconds", "180"),
    "memory": ("memory", "--minutes", "1,6,60"),
    "stages": ("stages",),
    "latency": ("latency",),
    "pitch": ("pitch", "--seconds", "6"),
    "prepare": ("prepare", "messy", "--long", "600"),
    "training": ("training", "--hours", "0.1667", "--hours", "1"),
    "tour": ("tour",),
    "footprint": ("footprint",),
    "page": ("page",),
}

EXAMPLES = """\b
Examples:
  python -m moksori.benchmarks.all
  python -m moksori.benchmarks.all --only speed --only page
"""


@click.command(cls=Command, extra="export,eval", epilog=EXAMPLES)
@click.option("--only", "names", multiple=True, type=click.Choice(list(RUNS)), help="May be given more than once.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: in benchmarks/results]")
def main(names: tuple[str, ...], path: Path | None) -> None:
    """Run the benchmarks from the root of the checkout, and tell how long each took."""
    done = []
    for name in names or RUNS:
        click.echo(f"== {name}")
        done.append(run(name, RUNS[name]))
    record.write(path or record.RESULTS / "all.json", {"runs": done})
    for one in done:
        click.echo(f"{one['name']:<12}{one['seconds']:>7.0f} s  {one['end']}")
    failed = [one["name"] for one in done if one["end"] != "done"]
    if failed:
        raise MoksoriError(f"these did not end as they should: {', '.join(failed)}; run each alone to see why")


def run(name: str, command: tuple[str, ...]) -> dict[str, Any]:
    """One benchmark in a process of its own, so that none measures what another left in memory."""
    began = time.perf_counter()
    words = [sys.executable, "-m", f"moksori.benchmarks.{command[0]}", *command[1:]]
    try:
        code = subprocess.run(words, timeout=LIMIT).returncode
        end = "done" if code == 0 else f"ended with {code}"
    except subprocess.TimeoutExpired:
        end = f"stopped after {LIMIT} s"
    return {"name": name, "seconds": time.perf_counter() - began, "end": end}


if __name__ == "__main__":
    main()
