"""What svc-export prints: proofs, what smaller precisions cost, and what a voice is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from moksori.export.cost import Cost
    from moksori.export.graph import Proof
    from moksori.runtime.manifest import Manifest


def proofs(shown: Sequence[Proof], costs: Sequence[Cost], console: Console) -> None:
    """A row for every graph: how far it is from its network, and how far it looks; then what it is made of."""
    later = {cost.role: cost for cost in costs if cost.precision == "int8"}
    table = _table("Graphs against their networks", "graph", "kind", "stored", "MB", "relative error", "largest error",
                   "lengths", "looks")  # fmt: skip
    for proof in shown:
        stored = f"{proof.precision}, then int8" if proof.role in later else proof.precision
        table.add_row(
            proof.role, proof.kind, stored, f"{proof.bytes / 1e6:.2f}", f"{proof.worst:.1e}", f"{proof.absolute:.1e}",
            lengths(proof.lengths), proof.context,
        )  # fmt: skip
    console.print(table)
    for proof in shown:
        line = f"{proof.role}, opset {proof.opset}: {' '.join(proof.operators)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if costs:
        console.print(_costs(costs))


def lengths(rounds: Sequence[Mapping[str, int]]) -> str:
    """Each axis with its lengths: "units 1, 31; frames 2, 61"."""
    return "; ".join(f"{name} {', '.join(str(one[name]) for one in rounds)}" for name in rounds[0])


def voice(name: str, console: Console) -> None:
    """All that a voice says of itself, after its files were checked."""
    from moksori.runtime.voice import Voice

    loaded = Voice.load(name if not Path(name).exists() else Path(name), "cpu")  # checks hashes and graphs
    said = loaded.manifest
    for line in _description(said):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    heads = ("graph", "kind", "stored as", "bytes", "context", "error", "sha256")
    table = Table(*heads)
    for role, session in loaded.sessions.items():
        facts = session.metadata
        keys = ("kind", "precision", "context", "proof_max_error")
        kind, precision, context, error = (facts.get(key, "") for key in keys)
        stored, file = precision or said.precision.get(role, ""), said.files[role]
        table.add_row(role, kind, stored, f"{file.bytes:,}", context, error, file.sha256[:8])
    console.print(table)
    for role, session in loaded.sessions.items():
        if "distance_of_fp32" in session.metadata:
            console.print(f"  {role:9} {_cost(session.metadata)}", markup=False, highlight=False, soft_wrap=True)
    size = sum(file.bytes for file in said.files.values())
    console.print(f"{size / 1e6:.1f} MB; every file is as voice.json describes it", highlight=False)


def _costs(costs: Sequence[Cost]) -> Table:
    table = _table("Against fp32", "graph", "precision", "distance", "allowed", "size", "speed", "judged by")
    for cost in costs:
        distance = f"{cost.distance:.2g} {cost.unit}"
        allowed = f"{cost.limit:g}" if cost.within else f"{cost.limit:g}: FORCED"
        speed = f"{cost.speed:.2f} times"
        table.add_row(cost.role, cost.precision, distance, allowed, f"{cost.size:.0%}", speed, cost.heard)
    return table


def _cost(facts: Mapping[str, str]) -> str:
    return (
        f"{facts['precision']} against fp32: {facts['distance_of_fp32']} apart by {facts['distance_heard']} "
        f"({facts['distance_allowed']} allowed), {float(facts['size_of_fp32']):.0%} of the size"
    )


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left")
    for head in heads:
        table.add_column(head, justify="right" if head in ("MB", "size", "distance") else "left")
    return table


def _description(said: Manifest) -> Iterator[str]:
    mel, flow = said.mel, said.denoiser
    milliseconds = 1000 * said.units.hop / said.units.sample_rate
    yield f"{said.name}: {said.description}" if said.description else said.name
    yield f"  audio     {mel.sample_rate} Hz, {mel.bins} mel bins every {mel.hop} samples"
    yield f"  content   {said.units.dimension} numbers every {milliseconds:g} ms"
    yield f"  pitch     {said.pitch.kind}, {said.pitch.fmin:g} to {said.pitch.fmax:g} Hz"
    yield (
        f"  denoiser  {flow.architecture}, {flow.prediction}, {flow.sampler} in {flow.steps} steps, "
        f"noise {flow.noise_scale:g}" + (f", guidance {flow.guidance:g}" if flow.guidance != 1 else "")
    )
    yield f"  vocoder   {said.vocoder.kind}"
    yield f"  format    {said.format_version}"
    for one in said.speakers:
        rights = f" ({one.licence})" if one.licence else ""
        median = f"median {one.f0_median:.0f} Hz"
        yield f"  speaker   {one.name}: {one.f0_low:.0f} to {one.f0_high:.0f} Hz, {median}{rights}"
    for name, value in said.quality.items():
        yield f"  quality   {name} {value:.4g}"
    if said.licence:
        yield f"  licence   {said.licence}"
    for credit in said.credits:
        yield f"  credit    {credit}"
