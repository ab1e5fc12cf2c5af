"""A finished voice with another vocoder or content graph in place of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from moksori.export import card, cost, extractors
from moksori.export.adopt import adopt
from moksori.export.content import unit_spec
from moksori.export.cost import Cost
from moksori.export.graph import Proof, metadata
from moksori.export.target import whole
from moksori.runtime import manifest, voice
from moksori.runtime.manifest import Manifest


@dataclass(frozen=True)
class Parts:
    """What takes the place of the voice's own; None leaves it. ``layer`` is that of a content network."""

    vocoder: Path | None = None
    content: str | None = None
    layer: int | None = None


def exchange(
    name: Path, target: Path, parts: Parts, precision: dict[str, str], data: Path | None, force: bool
) -> tuple[tuple[Proof, ...], tuple[Cost, ...]]:
    """Write the voice ``name`` as ``target`` with other parts.

    Its measured quality is left out, since it was measured with the old ones.

    Raises:
        MoksoriError: a part cannot be read or does not fit, the voice cannot be read, ``target`` exists, or a precision
            costs too much.
    """
    changed = {"vocoder": parts.vocoder, "content": parts.content}
    cost.require_data({role: precision[role] for role, part in changed.items() if part is not None}, data)
    said, graphs = voice.read_graphs(str(name))
    with whole(target, force) as folder:
        for role, graph in graphs.items():
            (folder / f"{role}.onnx").write_bytes(graph)
        made, proofs = replace(said, quality={}), tuple[Proof, ...]()
        networks: dict[str, nn.Module] = {}
        if parts.content is not None:
            made, proofs, networks = _content(made, parts, cost.first(precision["content"]), folder)
        if parts.vocoder is not None:
            made, proved, adopted = _vocoder(made, parts.vocoder, cost.first(precision["vocoder"]), folder)
            proofs, networks = proofs + proved, networks | adopted
        made = replace(made, files=manifest.graph_files(folder))
        made, costs = cost.reduced(folder, made, networks, precision, data, force)
        manifest.write(folder / manifest.FILE, made)
        text = f"# {made.name}\n\n{made.description}\n\n" + "".join(f"- {one}\n" for one in made.credits)
        (folder / card.FILE).write_text(text, encoding="utf-8", newline="\n")
        voice.Voice.load(folder, "cpu")
    return proofs, costs


Changed = tuple[Manifest, tuple[Proof, ...], dict[str, nn.Module]]


def _vocoder(said: Manifest, source: Path, precision: str, folder: Path) -> Changed:
    adopted = adopt(source, said.mel, folder / "vocoder.onnx", precision)
    stored = {**said.precision, "vocoder": precision if adopted.proofs else "fp32"}
    credits = (*said.credits, adopted.credit)
    return replace(said, vocoder=adopted.spec, precision=stored, credits=credits), adopted.proofs, adopted.networks


def _content(said: Manifest, parts: Parts, precision: str, folder: Path) -> Changed:
    path = folder / "content.onnx"
    assert parts.content is not None
    whose = f"voice '{said.name}' was trained on {said.units.dimension}"
    made = extractors.listener(parts.content, parts.layer, path, precision, said.units.dimension, whose)
    facts = metadata(path)
    stored = {**said.precision, "content": facts.get("precision", "fp32")}
    return replace(said, units=unit_spec(facts, said.units.dimension), precision=stored), *made
