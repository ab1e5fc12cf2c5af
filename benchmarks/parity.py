"""How far each graph of a voice is from its network, at three lengths and in every precision; and what exporting costs.

    python -m moksori.benchmarks.parity RUN_DIR
    python -m moksori.benchmarks.parity --real-size
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moksori.benchmarks import record
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError
from moksori.runtime.files import atomic_path

if TYPE_CHECKING:
    from moksori.export.graph import Proof

PRECISIONS = ("fp32", "fp16", "int8")
HEADS = ("graph", "kind", "stored", "MB", "error at three lengths", "lengths", "rounding", "load ms")
MOST_SECONDS, MOST_MB = 180, 6 * 1024 * 1.048576  # of a real-size export, on two cores
CLASSIC = {
    "sampling_rate": 44_100, "num_mels": 128, "hop_size": 512, "n_fft": 2048, "win_size": 2048, "fmin": 40,
    "fmax": 16_000, "upsample_rates": [8, 8, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4, 4],
    "upsample_initial_channel": 512, "resblock": "1", "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
}  # fmt: skip


@click.command(cls=Command, extra="export")
@click.argument("run_dir", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--precisions", default=",".join(PRECISIONS), show_default=True, help="Of the weights, as stored.")
@click.option("--real-size", is_flag=True, help="Export a HuBERT-base and an NSF-HiFiGAN of random weights too.")
@click.option("--out", type=click.Path(path_type=Path), default=record.RESULTS / "parity", show_default=True)
def main(run_dir: Path | None, precisions: str, real_size: bool, out: Path) -> None:
    """Export every network of RUN_DIR in every precision and write OUT.json and OUT.md."""
    if run_dir is None and not real_size:
        raise OptionError("name a RUN_DIR of svc-train, or add --real-size")
    graphs = [row(proof) for proof in exported(run_dir, precisions.split(","))] if run_dir is not None else []
    results: dict[str, Any] = {"graphs": graphs, "real_size": list(real_sizes()) if real_size else []}
    record.write(out.with_suffix(".json"), results)
    text = markdown(results)
    with atomic_path(out.with_suffix(".md")) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    click.echo(text)


def exported(run_dir: Path, precisions: Sequence[str]) -> Iterator[Proof]:
    """The proofs of the graphs that svc-export makes of a run, its own content network among them if it trained one."""
    from moksori.export.voice import STORED, About, Choices, export_voice

    student = (run_dir / "content").is_dir()
    with tempfile.TemporaryDirectory() as folder:
        for precision in precisions:
            choices = Choices(f"in {precision}", precision=dict.fromkeys(STORED, precision), student=student)
            yield from export_voice(run_dir, Path(folder) / precision, choices, About()).proofs


def row(proof: Proof) -> dict[str, Any]:
    """What the table says of a graph; ``millionths`` are the largest errors, of the largest value, by length."""
    return {
        "graph": proof.role,
        "kind": proof.kind,
        "stored": proof.precision,
        "bytes": proof.bytes,
        "millionths": [1e6 * error for error in proof.at_lengths],
        "lengths": [dict(one) for one in proof.lengths],
        "rounding": max(proof.rounding.values(), default=0.0),
        "load_seconds": proof.load_seconds,
    }


# of real size


@dataclass(frozen=True)
class Export:
    """A folder of a network in its published form, and what svc-export is told to make of it."""

    name: str
    arguments: tuple[str, ...]


def real_sizes() -> Iterator[dict[str, Any]]:
    """Seconds and peak memory of each export, each in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for export in (hubert_base(folder / "hubert"), nsf_hifigan(folder / "nsf")):
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", CHILD, *export.arguments], capture_output=True, encoding="utf-8", check=False
            )
            seconds = time.perf_counter() - started
            if done.returncode:
                raise OptionError(f"svc-export of {export.name} failed: {done.stderr.strip().splitlines()[-1]}")
            peak = json.loads(done.stdout.splitlines()[-1])
            kept = seconds <= MOST_SECONDS and (peak is None or peak <= MOST_MB)
            yield {"network": export.name, "seconds": seconds, "peak_mb": peak, "within_limits": kept}


CHILD = """
import json, sys
from moksori.export.cli import main
main(sys.argv[1:], standalone_mode=False)
print(json.dumps(peak_memory()))
"""


def hubert_base(folder: Path) -> Export:
    """HuBERT-base as transformers saves it (Hsu et al. 2021): 95 million random weights."""
    from transformers import HubertConfig, HubertModel

    HubertModel(HubertConfig()).save_pretrained(folder)
    return Export("HuBERT-base", ("--teacher", str(folder), str(folder.with_suffix(".onnx"))))


def nsf_hifigan(folder: Path) -> Export:
    """openvpi's classic generator: 14 million random weights."""
    import torch

    from moksori.models.nsf_hifigan import NsfHifiGan, NsfHifiGanConfig

    folder.mkdir()
    torch.save({"generator": NsfHifiGan(NsfHifiGanConfig()).state_dict()}, folder / "model")
    (folder / "config.json").write_text(json.dumps(CLASSIC), encoding="utf-8")
    return Export("NSF-HiFiGAN", (str(folder), str(folder.with_suffix(".oudep")), "--openutau"))


# the table


def markdown(results: Mapping[str, Any]) -> str:
    graphs = (
        (
            one["graph"],
            one["kind"],
            one["stored"],
            f"{one['bytes'] / 1e6:.2f}",
            " ".join(f"{error / 1e6:.0e}" for error in one["millionths"]),
            "; ".join(" ".join(f"{name} {n}" for name, n in lengths.items()) for lengths in one["lengths"]),
            f"{one['rounding']:.0e}" if one["rounding"] else "none",
            f"{1000 * one['load_seconds']:.0f}",
        )
        for one in results["graphs"]
    )
    sizes = (
        (one["network"], f"{one['seconds']:.0f}", f"{one['peak_mb'] or 0:.0f}", "yes" if one["within_limits"] else "no")
        for one in results["real_size"]
    )
    text = "# Graphs against their networks\n\nErrors are shares of the largest value of an output; each input was "
    text += "drawn anew at each length. Rounding is what storing weights small costs, as a relative L2 distance.\n\n"
    parts = [table(HEADS, graphs)] if results["graphs"] else []
    if results["real_size"]:
        limits = f"under {MOST_SECONDS} s and 6 GiB"
        parts.append(table(("network of real size", "seconds", "peak MB", limits), sizes))
    return text + "\n".join(parts)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (heads, ["---"] * len(heads), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
