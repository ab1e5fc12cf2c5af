"""The figures of benchmarks/pitch.py as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def table(results: Mapping[str, Any]) -> str:
    """What it comes to, then speed, octave errors by clip, and the errors of each tracker in each condition."""
    made_on = f"{results['threads']} thread(s), {results['device']}. {results['note']}".strip()
    lines = [*_verdict(results), f"{results['seconds']:g} s of 16 kHz audio, {made_on}", "", *_speed(results), ""]
    lines += [*_octaves(results), "", *_errors(results["accuracy"])]
    return "\n".join(lines) + "\n"


def _verdict(results: Mapping[str, Any]) -> list[str]:
    """How the default compares with torchcrepe, when that was run."""
    whole = {row["tracker"]: row for row in results["accuracy"] if row["condition"] == "all"}
    default, peer = results["default"], results["peer"]
    speeds = {row["tracker"]: row for row in results["speed"]}
    if peer not in whole:
        return []
    faster = {name: f"{row['times_faster']:.0f}" for name, row in speeds.items()}
    same = f"{speeds[peer]['same_bins_as_crepe_full']:.2%}"
    return [
        f"By CPU seconds SwiftF0 is {faster['SwiftF0']} times and CREPE full at the same 5 ms "
        f"{speeds['CREPE full, 5 ms']['times_faster']:.1f} times as fast as torchcrepe, with {same} of its bins.",
        "Over all clips and conditions: " + "; ".join(
            f"{name}: octave errors {whole[name]['octave']:.2%}, sung but missed {whole[name]['missed']:.2%}"
            for name in (default, peer)
        ) + ".",
        "",
    ]


def _speed(results: Mapping[str, Any]) -> list[str]:
    peer = results["peer"]
    lines = [
        f"| tracker | wall s | CPU s | CPU s per s | times as fast as {peer}, CPU | by the wall |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["speed"]:
        wall, cpu = row["seconds"], row["cpu_seconds"]
        names = ("times_faster", "times_faster_by_the_wall")
        faster = " | ".join(f"{row[name]:.1f}" if name in row else "" for name in names)
        lines.append(f"| {row['tracker']} | {wall:.3f} | {cpu:.3f} | {cpu / results['seconds']:.4f} | {faster} |")
    return lines


def _octaves(results: Mapping[str, Any]) -> list[str]:
    """Octave errors by clip and condition, of the default and of torchcrepe."""
    parts = [row for row in results["accuracy"] if "octave_by_clip" in row]
    rows = {(row["tracker"], row["condition"]): row["octave_by_clip"] for row in parts}
    conditions = list(dict.fromkeys(condition for _, condition in rows))
    names = [name for name in (results["default"], results["peer"]) if (name, conditions[0]) in rows]
    columns = [(name, condition) for condition in conditions for name in names]
    head = " | ".join(f"{name}, {condition}" for name, condition in columns)
    lines = [f"| octave errors, {results['clip_seconds']:g} s each | {head} |", "|---" * (len(columns) + 1) + "|"]
    for clip in results["clips"]:
        shares = " | ".join(f"{rows[column][clip]:.2%}" for column in columns)
        lines.append(f"| {clip} | {shares} |")
    return lines


def _errors(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| tracker | condition | median cents | off by > 50 cents | octave errors | wrong voicing | sung, but missed |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = " | ".join(f"{row[name]:.2%}" for name in ("off_pitch", "octave", "voicing", "missed"))
        lines.append(f"| {row['tracker']} | {row['condition']} | {row['cents']:.1f} | {shares} |")
    return lines
