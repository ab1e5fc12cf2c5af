"""Graphs for svc-prepare of networks that others trained: CREPE, Whisper, HuBERT, ContentVec."""

from __future__ import annotations

from pathlib import Path

from moksori.export.content import ContentFacts, export_content
from moksori.export.graph import ExportError, Proof
from moksori.export.pitch import export_crepe
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


def teacher(source: str, layer: int | None, path: Path | None, precision: str = "fp32") -> Proof:
    """The content graph of a network in transformers' format, where svc-prepare looks for it, or at ``path``.

    Raises:
        ExportError: a layer is chosen and no path, which would be found under the network's name.
        MoksoriError: it cannot be read, or is of another kind.
    """
    if layer is not None and path is None:
        raise ExportError("a graph of one layer needs a FILE to be told apart: add content.onnx and give it --content")
    taught = teachers.load(source, layer)
    facts = ContentFacts(taught.kind, taught.width, CONTEXT_SECONDS, taught.longest)
    return export_content(taught.network, facts, path or extractors.place(source), precision)


def is_network(source: str) -> bool:
    """Is this what ``teacher`` takes: a folder of transformers, a hub id, or the torch file of HuBERT-soft?"""
    place = Path(source)
    if hubert_soft.is_file(source) or (place / "config.json").is_file():
        return True
    return not place.exists() and bool(extractors.HUB_ID.fullmatch(source))
