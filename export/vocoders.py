"""What svc-export does with vocoders alone."""

from __future__ import annotations

from pathlib import Path

from moksori.export import adopt, run
from moksori.export.graph import Proof
from moksori.export.openutau import About, export_openutau
from moksori.export.voice import precisions
from moksori.models.nsf_hifigan import NsfHifiGan
from moksori.train import published


def openutau(source: Path, target: Path, name: str | None, precision: str, force: bool) -> Proof:
    """The vocoder of a RUN_DIR, or a generator as openvpi publishes it, in OpenUtau's form."""
    about = About(name or target.stem)
    stored = precisions(precision)["vocoder"]
    if published.is_published(source):
        found = published.read(source)
        network = NsfHifiGan(found.config)
        network.load_state_dict(found.state)
        about = About(about.name, pitch_controllable=found.pitch_controllable)
        return export_openutau(network.eval(), found.mel, target, about, stored, force)
    trained = run.vocoder(source)
    return export_openutau(trained.network, trained.mel, target, about, stored, force)


def exchange(voice: Path, target: Path, source: Path, precision: str, force: bool) -> tuple[Proof, ...]:
    """``voice`` as ``target``, with another vocoder."""
    stored = precisions(precision)["vocoder"]
    _, proofs = adopt.exchange(str(voice), source, target, stored, force)
    return proofs
