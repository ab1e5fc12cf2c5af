"""The costs of training as lines and as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moksori.benchmarks import record


def line(figures: dict[str, Any]) -> str:
    text = (
        f"{figures['preset']:<14}{figures['role']:<10}{figures['hours']:>6.2f} h"
        f"  {figures['steps_per_second']:>8.3f} steps/s  {figures['core_seconds_per_step']:.3f} core s each"
        f"  {figures['waiting']:>5.0%} waiting"
        f"  {figures['peak_memory_mb'] or 0:>6.0f} MB  listed in {figures['listing_seconds']:.2f} s"
    )
    if figures["target"] is None:
        return text
    reached = figures["seconds_to_target"]
    best = f"not in {figures['training_seconds']:.0f} s, best {figures['best']:.3g}"
    return f"{text}  {figures['target']} " + (best if reached is None else f"after {reached:.0f} s")


def table(cases: list[dict[str, Any]]) -> str:
    """The cases as Markdown, one a row."""
    said = record.circumstances()
    rows = [f"Training, on {said['cores']} cores of {said['processor']} at a load of {said['load']}.", ""]
    rows += ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for case in cases:
        rows.append("| " + " | ".join(show(case) for show in COLUMNS.values()) + " |")
    return "\n".join(rows) + "\n"


def _reached(case: dict[str, Any]) -> str:
    if case["target"] is None:
        return ""
    if case["seconds_to_target"] is None:
        return f"not to {case['target']:g} in {case['training_seconds']:.0f} s; best {case['best']:.3g}"
    return f"{case['target']:g} in {case['seconds_to_target']:.0f} s"


COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "preset": lambda case: str(case["preset"]),
    "role": lambda case: str(case["role"]),
    "hours of data": lambda case: f"{case['hours']:.2f}" if case["hours"] else "as given",
    "batch": lambda case: str(case["batch"]),
    "steps/s": lambda case: f"{case['steps_per_second']:.3f}",
    "core s a step": lambda case: f"{case['core_seconds_per_step']:.3f}",
    "waiting for data": lambda case: f"{case['waiting']:.1%}",
    "peak memory, MB": lambda case: f"{case['peak_memory_mb'] or 0:.0f}",
    "listed in, s": lambda case: f"{case['listing_seconds']:.2f}",
    "validation loss": _reached,
}
