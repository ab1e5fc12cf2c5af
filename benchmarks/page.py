"""docs/results.md and its figures, and the figures in README: all of it from the JSON in benchmarks/results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from moksori.benchmarks import plots, readme, record
from moksori.runtime.command import Command
from moksori.runtime.files import atomic_path

Results = Mapping[str, Any]

PAGE = Path("docs", "results.md")
HEAD = """# Results

Made by `python -m moksori.benchmarks.page` from the files in `benchmarks/results`, which hold more than is shown here.
`make bench` measures again what needs no recordings, card or root, in about half an hour on two idle cores, and makes
this page. A load above 1 tells of other work at the time, with which times are longer than an idle machine's. A +
behind a commit tells that files differed from it.
"""

EXAMPLES = """\b
Examples:
  python -m moksori.benchmarks.page
  python -m moksori.benchmarks.page --check
"""


@click.command(cls=Command, extra="plot", epilog=EXAMPLES)
@click.option("--check", is_flag=True, help="Write nothing; end with 1 when something written is out of date.")
def main(check: bool) -> None:
    """Write docs/results.md with its figures, and put the newest figures into both READMEs. Run it from the root."""
    old = stale(Path())
    if check:
        for path in old:
            click.echo(f"{path} is not what benchmarks/results says; run: python -m moksori.benchmarks.page")
        raise SystemExit(bool(old))
    for path, text in written(Path()).items():
        with atomic_path(path) as part:
            part.write_text(text, encoding="utf-8", newline="\n")
    plots.draw(record.RESULTS, plots.FIGURES)
    click.echo(f"wrote {PAGE}; changed: {', '.join(map(str, old)) or 'nothing'}")


def written(root: Path) -> dict[Path, str]:
    """Path -> text of all that is made from the results below ``root``, but for the figures."""
    results = root / record.RESULTS
    return {root / PAGE: page(results), **readme.renewed(root, results)}


def stale(root: Path) -> list[Path]:
    """The files whose text is not made from the newest results."""
    texts = written(root).items()
    return [path for path, text in texts if not path.is_file() or path.read_text(encoding="utf-8") != text]


def page(results: Path) -> str:
    """Markdown of every section, those included that nothing was measured for."""
    parts = [HEAD]
    for section in SECTIONS:
        found = sorted(path for pattern in section.files for path in results.glob(pattern))
        parts.append(f"## {section.title}\n\n{section.says}\n" if section.says else f"## {section.title}\n")
        figure = plots.DRAWN.get(section.title)
        if found and figure is not None and plots.possible(figure, results):
            parts.append(f"![{section.title}](figures/{figure.file})\n")
        parts += [_told(section, path) for path in found]
        if not found:
            parts.append(f"Not measured yet: `{section.command}`.\n")
    return "\n".join(parts)


@dataclass(frozen=True)
class Section:
    """``table`` makes Markdown of one file; without it, the table that the benchmark wrote beside the file serves."""

    title: str
    files: tuple[str, ...]
    command: str
    says: str = ""
    table: Callable[[Results], Sequence[str]] | None = None


def _told(section: Section, path: Path) -> str:
    """What one file says, and what it was made with."""
    results = json.loads(path.read_text(encoding="utf-8"))
    made = results["circumstances"]
    beside = path.with_suffix(".md")
    if section.table is None and beside.is_file():
        lines = [line.replace("#", "###", 1) if line.startswith("#") else line for line in _lines(beside)]
    else:
        lines = list((section.table or _plain)(results))
    origin = [
        f"`{path.name}`", made["time"][:10], f"commit {(made['commit'] or 'unknown')[:7]}"
        + ("+" if (made["commit"] or "").endswith("+") else ""),
        made["processor"], f"{made['cores']} cores", f"load {made['load']}", f"onnxruntime {_onnxruntime(made)}",
    ]  # fmt: skip
    return "\n".join([*lines, "", f"<small>{', '.join(origin)}</small>", ""])


def _lines(path: Path) -> list[str]:
    """Of a benchmark's own table; a title that says what the section's does is left out."""
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    return lines[2:] if lines[0].startswith("# ") else lines


def _onnxruntime(made: Results) -> str:
    versions = [version for name, version in made["packages"].items() if name.startswith("onnxruntime")]
    return versions[0] if versions else "unknown"


def _plain(results: Results) -> list[str]:
    """Each single figure of a file, by its key."""
    rows = [(key, value) for key, value in results.items() if isinstance(value, int | float | str | bool)]
    return table(("what", "value"), [(key.replace("_", " "), _figure(value)) for key, value in rows])


def _figure(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table."""
    ruler = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ruler, *rows)]


def _speed(results: Results) -> list[str]:
    seconds, whole = results["seconds"], results["elapsed_seconds"]
    rows = [
        (stage, f"{spent:.2f}", f"{1000 * spent / seconds:.1f}", results["devices"].get(stage, ""))
        for stage, spent in results["stages"].items()
    ]
    rows.append(("**all of it, by the clock**", f"{whole:.2f}", f"{1000 * whole / seconds:.1f}", ""))
    peak = results["peak_memory_mb"]
    return [
        f"Voice {results['voice']}, {seconds:g} s of singing, {results['steps']} steps, median of {results['runs']} "
        f"runs: real-time factor {results['real_time_factor']:.3f}"
        + (f", peak memory {peak:.0f} MB" if peak else "")
        + f"; opened in {results['loading_seconds']:.2f} s.",
        "",
        *table(("stage", "seconds", "ms for a second of audio", "device"), rows),
    ]


def _memory(results: Results) -> list[str]:
    songs = [(f"{one['minutes']:g} min", f"{one['peak_mb']:.0f}") for one in results["songs"]]
    chunks = [(f"1 min in chunks of {one['chunk_seconds']:g} s", f"{one['peak_mb']:.0f}") for one in results["chunks"]]
    return table(("song", "peak MB"), [*songs, *chunks])


def _prepare(results: Results) -> list[str]:
    """Each length or case that a file of benchmarks/prepare.py holds, or its single figures."""
    cases = {name: case for name, case in results.items() if isinstance(case, dict) and "peak_memory_mb" in case}
    if not cases:
        return _plain(results)
    rows = [(name, f"{case['seconds']:.0f}", f"{case['peak_memory_mb']:.0f}") for name, case in cases.items()]
    return table(("recordings", "seconds", "peak MB, all processes"), rows)


def _training(results: Results) -> list[str]:
    rows = [
        (
            case["preset"], case["role"], f"{case['hours']:.2g} h", f"{case['steps_per_second']:.3f}",
            f"{case['waiting']:.0%}", f"{case['peak_memory_mb'] or 0:.0f}",
        )
        for case in results["cases"]
    ]  # fmt: skip
    return table(("preset", "network", "data", "steps a second", "waiting for data", "peak MB"), rows)


def _fuzz(results: Results) -> list[str]:
    rows = [*results["outcomes"].items(), ("traceback, hang, crash or file left", len(results["problems"]))]
    return table(("damaged files", "of them"), rows)


def _tour(results: Results) -> list[str]:
    sung = results["album"]["results"] if "album" in results else []
    cents = [one["cents"] for one in sung]
    return table(("an album of", "worst median pitch error, cents"), [(f"{len(sung)} tracks", f"{max(cents):.1f}")])


def _footprint(results: Results) -> list[str]:
    rows = [(one["name"], one["version"], f"{one['mb']:.1f}", one["why"]) for one in results["packages"]]
    rows.append(("**all**", "", f"**{results['all_mb']:.1f}**", ""))
    return [
        f"The wheel has {results['wheel_mb']:.1f} MB. Installed with the extra `cpu` in an empty environment it takes "
        f"{results['all_mb']:.0f} MB, compiled modules included:",
        "",
        *table(("package", "version", "MB", "what for"), rows),
        "",
        f"pip itself, {results['pip_mb']:.0f} MB, is not counted: nothing here needs it once all is installed.",
    ]


SPEED, STAGES, MEMORY, PITCH = "Speed", "Stages, beside the others' way", "Memory", "Pitch"
SECTIONS = (
    Section(SPEED, ("speed-*.json",), "python -m moksori.benchmarks.speed --seconds 180", table=_speed),
    Section(STAGES, ("stages-*.json",), "python -m moksori.benchmarks.stages",
            "The same networks as others run them: eager torch, CREPE full every 5 ms, 100 denoiser evaluations."),
    Section(MEMORY, ("memory-*.json",), "python -m moksori.benchmarks.memory --minutes 1,6,60", table=_memory),
    Section("Live latency", ("latency-*.json",), "python -m moksori.benchmarks.latency"),
    Section(PITCH, ("pitch*.json",), "python -m moksori.benchmarks.pitch"),
    Section("Quality", ("quality-*.json",), "python -m moksori.benchmarks.quality demo"),
    Section("Quality of prompts made to sing", ("sung-*.json",),
            "python -m moksori.benchmarks.quality demo --sung sung --output benchmarks/results/sung-demo",
            "Three held-out prompts of each language, as the demo voice's recipe draws them out and re-pitches them "
            "(`build/demo/heldout/ast_*_sung` after `make demo-voice`)."),
    Section("Graphs against their networks", ("parity*.json",), "python -m moksori.benchmarks.parity RUN_DIR"),
    Section("Graphics cards", ("gpu-*.json",), "python -m moksori.benchmarks.gpu"),
    Section("Preparing", ("prepare-*.json",), "python -m moksori.benchmarks.prepare", table=_prepare),
    Section("Training", ("training*.json",), "python -m moksori.benchmarks.training", table=_training),
    Section("Warnings of svc-prepare", ("warnings.json",), "python -m moksori.benchmarks.warnings"),
    Section("Damaged files", ("fuzz.json",), "python -m moksori.benchmarks.fuzz", table=_fuzz),
    Section("A messy album", ("tour.json",), "python -m moksori.benchmarks.tour", table=_tour),
    Section("Footprint", ("footprint.json",), "python -m moksori.benchmarks.footprint", table=_footprint),
)  # fmt: skip


if __name__ == "__main__":
    main()
