"""The figures of benchmarks/quality.py: means with 95 % intervals, as Markdown and as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from moksori.benchmarks.study import BLUE, GREEN, ORANGE, figure_of, save, sheet, table

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """A column: its heading, the field of a row it shows, the factor to its unit, and its digits."""

    heading: str
    field: str
    factor: float
    digits: int

    def of(self, row: Found) -> float:
        value = {**row, **row["pitch"]}[self.field]
        return math.nan if value is None else self.factor * float(value)


MEASURES = (
    Measure("similarity to target", "similarity", 1, 3),
    Measure("to source", "source_similarity", 1, 3),
    Measure("f0 error, cents", "cents", 1, 1),
    Measure("over 50 cents, %", "off_pitch", 100, 1),
    Measure("octave errors, %", "octave", 100, 2),
    Measure("voicing errors, %", "voicing", 100, 1),
    Measure("characters misheard, %", "error_rate", 100, 1),
    Measure("by Sphinx, English, %", "sphinx_error_rate", 100, 1),
    Measure("naturalness", "naturalness", 1, 2),
    Measure("loudness error, dB", "loudness_error", 1, 1),
    Measure("mel distance to 64 steps", "steps_distance", 1, 3),
)
PICTURED = ("similarity", "source_similarity", "cents", "error_rate", "naturalness", "loudness_error")
BY_FOLDER = ("similarity", "source_similarity", "off_pitch", "voicing", "error_rate")
CEILINGS = {"similarity": "similarity", "naturalness": "copied_naturalness"}  # of a measure: a field of bounds


def summary(rows: Sequence[Found], parts: int = 1) -> list[dict[str, Any]]:
    """Mean and half of the 95 % interval of each measure, for each system, speaker and kind that has clips.

    The name of a clip begins with its kind; with 2 ``parts``, each folder of a kind counts apart.
    """
    groups: dict[tuple[str, str, str], list[Found]] = {}
    for row in rows:
        kind = "/".join(row["clip"].split("/")[:parts])
        groups.setdefault((row["system"], row["speaker"], kind), []).append(row)
    return [
        {"system": system, "speaker": speaker, "kind": kind, "clips": len(members)}
        | {measure.field: interval(map(measure.of, members)) for measure in MEASURES}
        for (system, speaker, kind), members in groups.items()
    ]


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; NaN where there are too few values."""
    known = [value for value in values if not math.isnan(value)]
    mean = float(np.mean(known)) if known else math.nan
    if len(known) < 2:
        return mean, math.nan
    return mean, float(stats.t.ppf(0.975, len(known) - 1) * stats.sem(known))


def markdown(results: Found) -> str:
    """All tables, and what the numbers were made with."""
    shown = [one for one in MEASURES if any(not math.isnan(group[one.field][0]) for group in results["summary"])]
    converted = _groups(results["summary"], shown)
    apart = _groups(results["folders"], [one for one in shown if one.field in BY_FOLDER])
    copied = table(
        ["recordings", "count", "similarity among themselves", "of their copies", "log-mel L1 of copies",
         "their f0 error, cents", "over 50 cents, %", "voicing errors, %", "characters misheard, %", "naturalness",
         "of their copies"],
        [
            [one["recordings"], str(one["count"]), *(figure_of(one[name], 3) for name in
             ("similarity", "copied_similarity", "mel")), figure_of(one["cents"], 1),
             *(figure_of(one[name], 1, 100) for name in ("off_pitch", "voicing", "error_rate")),
             figure_of(one["naturalness"], 2), figure_of(one["copied_naturalness"], 2)]
            for one in results["bounds"]
        ],
    )  # fmt: skip
    keys = " and ".join(f"{key} for {kind}" for kind, key in results["keys"].items())
    scores = ", ".join(f"{name} {value:.3f}" for name, value in results["score"].items())
    return (
        f"Voice {results['voice']}, {results['steps']} steps, key {keys}, seed {results['seed']}; "
        f"mean ± 95 % interval over clips. Scores: {scores}.\n\n{converted}\n"
        f"The same by folder of inputs:\n\n{apart}\n"
        "The floor moves pitch, formants and colour by signal processing. The ceilings are the target's own "
        f"recordings, and their mel and f0 through the vocoder (copies):\n\n{copied}"
    )


def _groups(groups: Sequence[Found], shown: Sequence[Measure]) -> str:
    """A row for each group, with the measures shown."""
    return table(
        ["system", "speaker", "input", "clips", *(one.heading for one in shown)],
        [
            [group["system"], group["speaker"], group["kind"], str(group["clips"])]
            + [_written(group[one.field], one.digits) for one in shown]
            for group in groups
        ],
    )


def draw(results: Found, path: Path) -> None:
    """A panel for each measure: every group with its interval, the floor beside it, and the ceiling as a line."""
    systems = list(dict.fromkeys(group["system"] for group in results["summary"]))
    groups = list(dict.fromkeys((group["speaker"], group["kind"]) for group in results["summary"]))
    found = {(group["system"], group["speaker"], group["kind"]): group for group in results["summary"]}
    figure, axes = sheet(2, 3, (11, 5.5))
    for axis, field in zip(axes.flat, PICTURED, strict=True):
        measure = next(one for one in MEASURES if one.field == field)
        for at, (speaker, kind) in enumerate(groups):
            for place, (system, colour) in enumerate(zip(systems, (BLUE, ORANGE), strict=False)):
                middle, half = (value if value is not None else math.nan
                                for value in found[system, speaker, kind][field])  # fmt: skip
                axis.errorbar(
                    at + 0.3 * place - 0.15, middle, 0 if math.isnan(half) else half, fmt="o", color=colour,
                    label=system if not at else None,
                )  # fmt: skip
            ceiling = _ceiling(results, speaker, kind).get(CEILINGS.get(field, ""))
            if ceiling is not None:
                axis.hlines(ceiling, at - 0.35, at + 0.35, color=GREEN, label=None if at else "ceiling")
        axis.set_xticks(range(len(groups)), [f"{speaker}\n{kind}" for speaker, kind in groups], fontsize=8)
        axis.set_xlim(-0.6, len(groups) - 0.4)
        axis.set_title(measure.heading, loc="left", fontsize=10)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    save(figure, path)


def _ceiling(results: Found, speaker: str, kind: str) -> Found:
    """The bounds of the recordings that a group was held to."""
    known = {one["recordings"]: one for one in results["bounds"]}
    sung = known.get(f"{speaker}_sung") if kind == "singing" else None
    found: Found = sung or known.get(speaker, {})
    return found


def _written(value: tuple[float, float], digits: int) -> str:
    mean, half = value
    if math.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")
