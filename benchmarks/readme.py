"""The figures in README's tables, from the newest results: computed here, put there, and compared by a test.

A row is found by its first cell in README.md; README.ko.md has the same rows in the same order. Of a cell only the
figures change, so that words and units stay each language's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NAMES = ("README.md", "README.ko.md")
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
FIGURE = re.compile(r"\d+(?:[.,]\d+)*")

Results = Mapping[str, Any]


def renewed(root: Path, results: Path) -> dict[Path, str]:
    """Both READMEs with the figures of ``results``; a figure whose results are gone stays as it is."""
    texts = [(root / name).read_text(encoding="utf-8") for name in NAMES]
    wanted = figures(results)
    tables = [list(TABLE.finditer(text)) for text in texts]
    for number, english in reversed(list(enumerate(tables[0]))):
        for row, line in enumerate(english[0].splitlines()):
            label = line.split("|")[1].strip()
            if label in wanted:
                for at, found in enumerate(tables):
                    texts[at] = _placed(texts[at], found[number], row, wanted[label])
        tables = [list(TABLE.finditer(text)) for text in texts]
    return {root / name: text for name, text in zip(NAMES, texts, strict=True)}


def _placed(text: str, table: re.Match[str], row: int, cells: tuple[str, ...]) -> str:
    """The text with the figures of one row in the place of those it has; the table begins where it began."""
    end = text.index("\n\n", table.start()) if "\n\n" in text[table.start() :] else len(text)
    lines = text[table.start() : end].split("\n")
    old = lines[row].split("|")
    new = [_refigured(was, cell) for was, cell in zip(old[2:], cells, strict=False)]
    lines[row] = "|".join([*old[:2], *new, *old[2 + len(new) :]])
    return text[: table.start()] + "\n".join(lines) + text[end:]


def _refigured(cell: str, wanted: str) -> str:
    """The cell with its first figures replaced one by one; where it has too few, all of it that is before a comma."""
    fresh = FIGURE.findall(wanted)
    if len(fresh) > len(FIGURE.findall(cell)):
        return f" {', '.join([wanted, *(words.strip() for words in cell.split(',')[1:])])} "
    following = iter(fresh)
    return FIGURE.sub(lambda was: next(following, was[0]), cell)


def figures(results: Path) -> dict[str, tuple[str, ...]]:
    """First cell of a row -> its next cells; "" leaves a cell as it is."""
    return {label: cells for part in (_quality, _speed, _beside) for label, cells in part(results)}


def _read(results: Path, name: str) -> Results | None:
    path = results / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


QUALITY = {  # row -> key and form
    "similarity to the target": ("similarity", "{:.2f}"),
    "similarity to the source": ("source_similarity", "{:.2f}"),
    "median pitch error, cents": ("cents", "{:.1f}"),
    "characters that a recogniser hears differently": ("error_rate", "{:.0f} %"),
}
STEPS = ", 2"  # how benchmarks/stages.py ends a row of as many evaluations as the demo voice takes
SPEAKERS = ("heart", "f001")
KINDS = ("speech", "singing")


def _quality(results: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Speech, then singing, of each speaker."""
    found = _read(results, "quality-demo")
    if found is None:
        return
    groups = {(one["speaker"], one["kind"]): one for one in found["summary"] if one["system"] == "converted"}
    own = {one["recordings"]: one["similarity"] for one in found["bounds"]}
    yield "similarity of the target's own recordings", tuple(
        ", ".join(f"{own.get(name, own[speaker]):.2f}" for name in (speaker, f"{speaker}_sung")) for speaker in SPEAKERS
    )
    for label, (key, form) in QUALITY.items():
        yield label, tuple(
            ", ".join(form.format(groups[speaker, kind][key][0]) for kind in KINDS if (speaker, kind) in groups)
            for speaker in SPEAKERS
        )


def _speed(results: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    found = _read(results, "speed-demo")
    if found is not None:
        yield "time to convert 1 min", (f"{60 * found['real_time_factor']:.1f} s", "")
        yield "peak memory meanwhile", (f"{found['peak_memory_mb']:.0f} MB", "")
        yield "evaluations of the denoiser", (str(found["evaluations"]), "")


def _beside(results: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Moksori, then what others do."""
    pitch, memory = _read(results, "pitch"), _read(results, "memory-demo")
    if pitch is not None:
        spent = {row["tracker"]: row["cpu_seconds"] / pitch["seconds"] for row in pitch["speed"]}
        peer = next((f"{1000 * cost:,.0f} ms" for name, cost in spent.items() if name.startswith("torchcrepe")), "")
        yield "f0 of 1 s, on one core", (f"{1000 * spent['SwiftF0']:.0f} ms", peer)
    if memory is not None:
        long = next((song for song in memory["songs"] if song["minutes"] == 6), None)
        yield "peak memory for a song of 6 min", (f"{long['peak_mb']:.0f} MB" if long else "", "")
    footprint = _read(results, "footprint")
    if footprint is not None:
        yield "disk that the runtime takes, its voice included", (f"{footprint['all_mb']:.0f} MB", "")
    latency = _read(results, "latency-demo")
    if latency is not None:
        easy = [row["end_to_end_ms"] for row in latency["cost"] if row["share"] <= latency["bars"]["share"]]
        yield "live latency", (f"{min(easy):.0f} ms" if easy else "", "")
    stages = _read(results, "stages-cpu")
    if stages is not None:
        ours, theirs = (1000 * sum(costs.values()) for costs in beside(stages))
        yield "all stages for 1 s", (f"{ours:,.0f} ms", f"{theirs:,.0f} ms")


def beside(results: Results) -> tuple[dict[str, float], dict[str, float]]:
    """Stage -> cost of ours (the first way, or the one of the demo voice's steps) and of the others' way, of both."""
    rows = results["presets"].get("demo") or next(iter(results["presets"].values()))
    theirs = {row["stage"]: row["cost"] for row in rows if not row["ours"]}
    ours: dict[str, float] = {}
    for row in rows:
        if row["ours"] and row["stage"] in theirs and (row["stage"] not in ours or row["how"].endswith(STEPS)):
            ours[row["stage"]] = row["cost"]
    return ours, theirs
