"""Why f0 alone is worth storing: what it takes to make each feature again, against what it takes to keep it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moksori.benchmarks import record, study
from moksori.runtime.command import Command
from moksori.runtime.files import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LENGTH = "7200 s"  # of the two in the record, the steadier
# A GPU, 102 s of 44.1 kHz mono; sizes of 92 s: measured by a user of diff-svc, not by us.
USER_SECONDS = {"mel": 0.17, "f0": 25.4, "units": 0.59}  # decoding is in mel; f0 by CREPE full every 5 ms
USER_LENGTH, USER_STORED_LENGTH = 102.0, 92.0
USER_BYTES = {"f0": 70 * 2**10, "all as npz": 24.3 * 2**20}
FEATURES = ("mel", "f0", "units")

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.study_f0
"""


@click.command(cls=Command, extra="plot", epilog=EXAMPLES)
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie.")
def main(root: Path) -> None:
    """Weigh time against space by the record that benchmarks.prepare left; nothing is measured here."""
    known = read_json(root / record.RESULTS / "prepare-stages.json")[LENGTH]
    hours = float(LENGTH.split()[0]) / 3600
    results = {
        "ours": {
            name: {"seconds": known["core_seconds"][name] / hours, "bytes": known["bytes"][name] / hours}
            for name in FEATURES
        },
        "user": {
            "seconds": {name: 3600 * one / USER_LENGTH for name, one in USER_SECONDS.items()},
            "bytes": {name: 3600 * one / USER_STORED_LENGTH for name, one in USER_BYTES.items()},
        },
    }
    study.finish("f0", results, draw(results), table(results), root)


def table(results: Mapping[str, Any]) -> str:
    cell, ours, user = study.figure_of, results["ours"], results["user"]
    rows = [
        [name, cell(ours[name]["seconds"], 1), cell(ours[name]["bytes"], 1, 1e-6),
         cell(saved(ours[name]), 1), cell(user["seconds"][name], 0),
         cell(user["bytes"].get(name), 1, 1e-6)] for name in FEATURES
    ]  # fmt: skip
    rows.append(["all of them", cell(sum(ours[name]["seconds"] for name in FEATURES), 1),
                 cell(sum(ours[name]["bytes"] for name in FEATURES), 1, 1e-6), "",
                 cell(sum(user["seconds"].values()), 0), cell(user["bytes"]["all as npz"], 1, 1e-6)])  # fmt: skip
    return study.table(
        ["of an hour", "make it, core s", "keep it, MB", "s saved by a MB",
         "diff-svc on a GPU: make it, s", "keep it, MB"],
        rows,
    )  # fmt: skip


def saved(feature: Mapping[str, float]) -> float:
    """Seconds of work that each megabyte kept saves."""
    return feature["seconds"] / (feature["bytes"] / 1e6)


def draw(results: Mapping[str, Any]) -> Figure:
    """Both costs and their quotient."""
    figure, axes = study.sheet(1, 3, (12, 3.6))
    ours = results["ours"]
    columns = (
        ("core seconds to make it", [ours[name]["seconds"] for name in FEATURES]),
        ("MB to keep it", [ours[name]["bytes"] / 1e6 for name in FEATURES]),
        ("seconds saved by a MB", [saved(ours[name]) for name in FEATURES]),
    )
    for axis, (title, values) in zip(axes[0], columns, strict=True):
        _bars(axis, values)
        axis.set_title(f"an hour of audio: {title}", loc="left")
    return figure


def _bars(axis: Axes, values: list[float]) -> None:
    colours = [study.ORANGE if name == "f0" else study.BLUE for name in FEATURES]
    axis.bar(FEATURES, values, color=colours, width=0.6)
    for at, value in enumerate(values):
        axis.annotate(f"{value:.3g}", (at, value), (0, 3), textcoords="offset points", ha="center")
    axis.set_ylim(0, 1.15 * max(values))


if __name__ == "__main__":
    main()
