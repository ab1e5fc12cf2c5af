"""A vocoder alone, of a RUN_DIR or published, for OpenUtau."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from moksori.export import run
from moksori.export.cost import Cost
from moksori.export.graph import ExportError, Proof
from moksori.export.openutau import About, export_openutau
from moksori.models.nsf_hifigan import NsfHifiGan
from moksori.runtime.mel import MelSpec
from moksori.train import published


def openutau(
    source: Path, target: Path, name: str | None, precision: str, data: Path | None, force: bool
) -> tuple[Proof, Cost | None]:
    """The vocoder of a RUN_DIR, or a generator as openvpi publishes it, in OpenUtau's form.

    Raises:
        ExportError: int8, which the devices of OpenUtau's users may not have; or as ``export_openutau``.
    """
    if precision == "int8":
        raise ExportError("a vocoder for OpenUtau runs on devices nobody knows; give --precision fp32, fp16 or w8")
    network, mel, controllable = _network(source)
    about = About(name or target.stem, pitch_controllable=controllable)
    return export_openutau(network, mel, target, about, precision, data, force)


def _network(source: Path) -> tuple[nn.Module, MelSpec, bool]:
    """A vocoder, what it hears, and whether its maker says that it follows any f0."""
    if published.is_published(source):
        found = published.read(source)
        network = NsfHifiGan(found.config)
        network.load_state_dict(found.state)
        return network.eval(), found.mel, found.pitch_controllable
    trained = run.vocoder(source)
    return trained.network, trained.mel, False
