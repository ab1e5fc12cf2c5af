"""Graphs for svc-prepare of networks that others trained: CREPE, Whisper, HuBERT, ContentVec."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from torch import nn

from moksori.export import cost
from moksori.export.content import ContentFacts, export_content
from moksori.export.cost import Cost
from moksori.export.graph import ExportError, Proof
from moksori.export.pitch import export_crepe
from moksori.runtime import devices
from moksori.runtime.files import atomic_path
from moksori.train import extractors, hubert_soft, trackers
from moksori.train import teacher as teachers

CONTEXT_SECONDS = 1.0  # that a unit should be given on each side in conversion


def tracker(name: str, path: Path | None) -> Proof:
    """The graph of a pitch tracker, where svc-prepare looks for it unless ``path`` says otherwise.

    Raises:
        ExportError: an unknown name, or its weights are not installed.
    """
    if name not in trackers.CREPE:
        raise ExportError(f"there is no pitch tracker '{name}' to export; name {' or '.join(trackers.CREPE)}")
    return export_crepe(trackers.CREPE[name], path or trackers.place(name))


def teacher(
    source: str, layer: int | None, path: Path | None, precision: str = "fp32", data: Path | None = None,
    force: bool = False,
) -> tuple[Proof, Cost | None]:  # fmt: skip
    """The content graph of a network in transformers' format, where svc-prepare looks for it, or at ``path``.

    Raises:
        ExportError: a layer or another precision is chosen and no path, as it would be found under the network's name;
            or the precision costs too much.
        MoksoriError: it cannot be read, or is of another kind.
    """
    if path is None and (layer is not None or precision != "fp32"):
        raise ExportError(
            "a graph of one layer or precision needs a FILE to be told apart: add content.onnx and give it --content"
        )
    target = path or extractors.place(source)
    with atomic_path(target) as part:
        network, proof = content(source, layer, part, cost.first(precision))
        judged = cost.reduced_content(part, network, precision, data, force)
    return replace(proof, path=target), judged


def content(source: str, layer: int | None, path: Path, precision: str) -> tuple[nn.Module, Proof]:
    """A network in transformers' format, and its graph; raises as ``teacher`` does."""
    taught = teachers.load(source, layer)
    facts = ContentFacts(taught.kind, taught.width, CONTEXT_SECONDS, taught.longest)
    return taught.network, export_content(taught.network, facts, path, precision)


def listener(
    source: str, layer: int | None, path: Path, precision: str, dimension: int, whose: str
) -> tuple[tuple[Proof, ...], dict[str, nn.Module]]:
    """A voice's content graph: of a network of transformers, proved, or a graph that exists already, as it is.

    Raises:
        ExportError: it does not give ``dimension`` numbers a unit, on which ``whose`` voice was trained.
        MoksoriError: it cannot be read.
    """
    proofs: tuple[Proof, ...] = ()
    networks: dict[str, nn.Module] = {}
    if is_network(source):
        network, proof = content(source, layer, path, precision)
        proofs, networks = (proof,), {"content": network}
    elif layer is not None:
        raise ExportError(f"a layer can be chosen of a network only, and {source} is a graph already")
    else:
        shutil.copyfile(extractors.content(source, devices.cpu()).path, path)
    given = extractors.content(str(path), devices.cpu()).dimension
    if given != dimension:
        raise ExportError(
            f"{source} gives {given} numbers a unit, and {whose}; give --content the network it was trained with"
        )
    return proofs, networks


def is_network(source: str) -> bool:
    """Is this what ``teacher`` takes: a folder of transformers, a hub id, or the torch file of HuBERT-soft?"""
    place = Path(source)
    if hubert_soft.is_file(source) or (place / "config.json").is_file():
        return True
    return not place.exists() and bool(extractors.HUB_ID.fullmatch(source))
