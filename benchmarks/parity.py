"""How far each graph is from its network, at three lengths and in every precision; and what exporting costs.

    python -m moksori.benchmarks.parity RUN_DIR --data DATA_DIR --kinds --real-size
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moksori.benchmarks import record
from moksori.export import show
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError
from moksori.runtime.files import atomic_path

if TYPE_CHECKING:
    from moksori.export.graph import Proof

PRECISIONS = ("fp32", "fp16", "w8", "int8")
MOST_SECONDS, MOST_MB = 180, 6 * 1024 * 1.048576  # of a real-size export, on two cores
CLASSIC = {
    "sampling_rate": 44_100, "num_mels": 128, "hop_size": 512, "n_fft": 2048, "win_size": 2048, "fmin": 40,
    "fmax": 16_000, "upsample_rates": [8, 8, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4, 4],
    "upsample_initial_channel": 512, "resblock": "1", "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
}  # fmt: skip


@click.command(cls=Command, extra="export")
@click.argument("run_dir", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--data", type=click.Path(path_type=Path), help="Its prepared data, without which int8 is left out.")
@click.option("--precisions", default=",".join(PRECISIONS), show_default=True)
@click.option("--kinds", is_flag=True, help="A small network of every other kind that svc-export can write, too.")
@click.option("--real-size", is_flag=True, help="Export a HuBERT-base and an NSF-HiFiGAN of random weights too.")
@click.option("--out", type=click.Path(path_type=Path), default=record.RESULTS / "parity", show_default=True)
def main(
    run_dir: Path | None, data: Path | None, precisions: str, kinds: bool, real_size: bool, out: Path
) -> None:
    """Export every network of RUN_DIR in every precision and write OUT.json and OUT.md.

    What OUT.json holds already of a part or precision that is not asked for now stays.
    """
    if run_dir is None and not (real_size or kinds):
        raise OptionError("name a RUN_DIR of svc-train, or add --kinds or --real-size")
    chosen = precisions.split(",")
    results: dict[str, Any] = {"graphs": [], "costs": [], "kinds": [], "real_size": []}
    place = out.with_suffix(".json")
    if place.is_file():
        results |= {name: json.loads(place.read_text(encoding="utf-8"))[name] for name in results}
    if run_dir is not None:
        kept = (one for one in results["graphs"] if "copied" not in one["graph"])
        results["graphs"] = [one for one in kept if one["stored"] not in chosen]
        results["costs"] = [one for one in results["costs"] if one["precision"] not in chosen]
        for name, rows in exported(run_dir, chosen, data).items():
            results[name] += rows
    if kinds:
        results["kinds"] = list(of_kinds(chosen))
    if real_size:
        results["real_size"] = list(real_sizes())
    record.write(place, results)
    text = markdown(results)
    with atomic_path(out.with_suffix(".md")) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    click.echo(text)


def exported(run_dir: Path, precisions: Sequence[str], data: Path | None) -> dict[str, Any]:
    """Rows of the graphs that svc-export makes of a run and of those it copies, and what smaller precisions cost."""
    from moksori.export import graph
    from moksori.export.voice import STORED, About, Choices, export_voice

    student = any((run_dir / "content").glob("*.safetensors"))
    found: dict[str, Any] = {"graphs": [], "costs": []}
    with tempfile.TemporaryDirectory() as folder:
        for precision in precisions:
            if precision == "int8" and data is None:
                continue
            chosen = dict.fromkeys(STORED, precision)
            choices = Choices(f"in {precision}", precision=chosen, student=student, force=True, data=data)
            made = export_voice(run_dir, Path(folder) / precision, choices, About())
            if precision != "int8":  # made of the fp32 graphs, which have rows already
                found["graphs"] += [row(proof) for proof in made.proofs]
            found["costs"] += [asdict(cost) for cost in made.costs]
        copied = [run_dir / "graphs" / f"{role}.onnx" for role in ("content", "pitch")]
        found["graphs"] += [_copied(path.stem, path.stat().st_size, graph.metadata(path)) for path in copied]
    return found


def of_kinds(precisions: Sequence[str]) -> Iterator[dict[str, Any]]:
    from moksori.benchmarks import kinds

    for kind in kinds.kinds():
        with tempfile.TemporaryDirectory() as folder:
            chosen = [one for one in precisions if one in (kind.only or precisions)]
            for precision in dict.fromkeys("fp32" if one == "int8" else one for one in chosen):
                for proof in kind.write(Path(folder) / f"{precision}.onnx", precision):
                    made = [row(proof)] if precision in chosen else []
                    made += [in_int8(proof)] if precision == "fp32" and "int8" in chosen else []
                    yield from ({**one, "graph": f"{kind.name}: {proof.role}"} for one in made)


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
        "looks": proof.context,
    }


def in_int8(proof: Proof) -> dict[str, Any]:
    """The row of the same graph in int8: calibrated on drawn inputs, compared with fp32 on others by relative L2."""
    import numpy as np
    import onnx
    import torch

    from moksori.export.proof import open_session
    from moksori.export.quantize import quantized

    def drawn(lengths: Mapping[str, int], seed: int) -> dict[str, Any]:
        tensors = proof.spec.draw(lengths, torch.Generator().manual_seed(seed))
        return {port.name: one.numpy() for port, one in zip(proof.spec.inputs, tensors, strict=True)}

    model = onnx.load(proof.path)
    feeds = [drawn(proof.spec.traced, 100 + seed) for seed in range(4)]
    small = quantized(model, feeds, proof.role in ("denoiser", "vocoder")).SerializeToString()
    pair = open_session(small), open_session(model.SerializeToString())
    distances = []
    for lengths in proof.lengths:
        found, wanted = (session.run(None, drawn(lengths, 7)) for session in pair)
        apart = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, wanted, strict=True)]
        distances.append(float(max(apart)))
    at_lengths = {"millionths": [1e6 * one for one in distances], "rounding": distances[-1]}
    return {**row(proof), "stored": "int8", "bytes": len(small), **at_lengths}


def _copied(role: str, size: int, said: Mapping[str, str]) -> dict[str, Any]:
    """A graph that a voice takes over byte by byte, by the proof that it carries."""
    errors = json.loads(said.get("proof_errors", f"[{said['proof_max_error']}]"))
    return {
        "graph": f"{role}, copied",
        "kind": said["kind"],
        "stored": said["precision"],
        "bytes": size,
        "millionths": [1e6 * error for error in errors],
        "lengths": json.loads(said["proof_lengths"]),
        "rounding": 0.0,
        "looks": said.get("context", ""),
    }


# of real size


@dataclass(frozen=True)
class Export:
    """A folder of a network in its published form, and what svc-export is told to make of it."""

    name: str
    parameters: int
    arguments: tuple[str, ...]


def real_sizes() -> Iterator[dict[str, Any]]:
    """Seconds and peak memory of each export, each in a process of its own.

    Processor seconds bound the wall clock of a quiet machine from above, and are what the limit is held against.
    """
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
            peak, busy = json.loads(done.stdout.splitlines()[-1])
            kept = min(seconds, busy) <= MOST_SECONDS and (peak is None or peak <= MOST_MB)
            figures = {"seconds": seconds, "processor_seconds": busy, "peak_mb": peak, "within_limits": kept}
            yield {"network": export.name, "parameters": export.parameters, **figures}


CHILD = """
import json, sys, time
from moksori.benchmarks.speed import peak_memory
from moksori.export.cli import main
main(sys.argv[1:], standalone_mode=False)
print(json.dumps([peak_memory(), time.process_time()]))
"""


def hubert_base(folder: Path) -> Export:
    """HuBERT-base as transformers saves it (Hsu et al. 2021): 95 million random weights."""
    from transformers import HubertConfig, HubertModel

    network = HubertModel(HubertConfig())
    network.save_pretrained(folder)
    count = sum(one.numel() for one in network.parameters())
    return Export("HuBERT-base", count, ("--teacher", str(folder), str(folder.with_suffix(".onnx"))))


def nsf_hifigan(folder: Path) -> Export:
    """openvpi's classic generator: 14 million random weights."""
    import torch

    from moksori.models.nsf_hifigan import NsfHifiGan, NsfHifiGanConfig

    folder.mkdir()
    network = NsfHifiGan(NsfHifiGanConfig())
    torch.save({"generator": network.state_dict()}, folder / "model")
    (folder / "config.json").write_text(json.dumps(CLASSIC), encoding="utf-8")
    count = sum(one.numel() for one in network.parameters())
    return Export("NSF-HiFiGAN", count, (str(folder), str(folder.with_suffix(".oudep")), "--openutau"))


# the table

HEADS = ("graph", "kind", "stored", "MB", "error at three lengths", "lengths", "rounding", "looks")
COSTS = ("graph", "precision", "distance", "allowed", "size", "times as fast", "judged by")
SIZES = ("network of real size", "parameters", "seconds", "processor seconds", "peak MB")


def markdown(results: Mapping[str, Any]) -> str:
    limits = f"under {MOST_SECONDS} s by one of these clocks, and 6 GiB"
    parts = {
        "## Of a trained run": (HEADS, map(_cells, results["graphs"])),
        "## Smaller precisions of the run against fp32, in the sound": (COSTS, map(_cost, results["costs"])),
        "## Small networks of every kind": (HEADS, map(_cells, results["kinds"])),
        "## Published formats at real size": ((*SIZES, limits), map(_size, results["real_size"])),
    }
    text = (
        "# Graphs against their networks\n\nErrors are shares of the largest value of an output; each input was drawn "
        "anew at each length. Rounding is what storing weights small costs, as a relative L2 distance. An int8 graph "
        "is made of the fp32 graph above it; its errors are relative L2 distances from that one, on drawn inputs.\n"
    )
    shown = ((title, table(heads, rows)) for title, (heads, rows) in parts.items())
    return text + "".join(f"\n{title}\n\n{body}" for title, body in shown if body.count("\n") > 2)


def _cells(one: Mapping[str, Any]) -> Sequence[str]:
    errors = " ".join(f"{error / 1e6:.0e}" for error in one["millionths"])
    rounding = f"{one['rounding']:.0e}" if one["rounding"] else "none"
    size = f"{one['bytes'] / 1e6:.2f}"
    return one["graph"], one["kind"], one["stored"], size, errors, show.lengths(one["lengths"]), rounding, one["looks"]


def _cost(one: Mapping[str, Any]) -> Sequence[str]:
    distance, allowed = f"{one['distance']:.2g} {one['unit']}", f"{one['limit']:g}"
    return one["role"], one["precision"], distance, allowed, f"{one['size']:.0%}", f"{one['speed']:.2f}", one["heard"]


def _size(one: Mapping[str, Any]) -> Sequence[str]:
    numbers = (one["seconds"], one["processor_seconds"], one["peak_mb"] or 0)
    kept = "yes" if one["within_limits"] else "no"
    return one["network"], f"{one['parameters'] / 1e6:.1f} M", *(f"{number:.0f}" for number in numbers), kept


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (heads, ["---"] * len(heads), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
