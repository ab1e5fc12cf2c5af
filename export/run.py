"""What a RUN_DIR of svc-train holds: networks with their averaged weights, and facts of their data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from moksori.export.spec import ExportError
from moksori.runtime.mel import MelSpec
from moksori.train import checkpoint
from moksori.train import config as configs
from moksori.train import content as content_training
from moksori.train import denoiser as denoiser_training
from moksori.train import vocoder as vocoder_training
from moksori.train.content import ContentConfig
from moksori.train.denoiser import DenoiserConfig
from moksori.train.reflow import ReflowConfig
from moksori.train.vocoder import VocoderConfig


@dataclass(frozen=True)
class Trained:
    """One network with the averaged weights of ``checkpoint``; ``data`` is the data.yaml beside it."""

    role: str
    network: nn.Module
    config: Any
    data: dict[str, Any]
    checkpoint: Path
    step: int
    straight: ReflowConfig | None = None  # how a denoiser was straightened, where it was

    @property
    def mel(self) -> MelSpec:
        return MelSpec(**self.data["mel"])

    @property
    def speakers(self) -> list[str]:
        return [str(speaker["name"]) for speaker in self.data["speakers"]]

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())


def denoiser(run: Path) -> Trained:
    """The denoiser of a run, with its conditioner; the straightened one where there is one, which is not guided.

    Raises:
        ExportError: it was not trained here.
        MoksoriError: its checkpoint or config cannot be read.
    """
    config = configs.load(_folder(run, "denoiser") / "config.yaml", DenoiserConfig())
    data = configs.read(run / "denoiser" / "data.yaml")
    bins, units, speakers = data["mel"]["bins"], data["units"]["dimension"], len(data["speakers"])
    network = denoiser_training.build(config, bins, units, speakers)
    if checkpoint.newest(run / "reflow") is None:
        return _trained(run, "denoiser", network, config)
    made = _trained(run, "reflow", network, replace(config, dropped=0.0))
    if made.data["content_sha256"] != data["content_sha256"]:
        raise ExportError(f"{run / 'reflow'} was trained on other data than the denoiser; delete it, or train it again")
    chosen = checkpoint.chosen(run / "denoiser")
    if chosen is not None and chosen.exists() and chosen.stat().st_mtime > made.checkpoint.stat().st_mtime:
        raise ExportError(f"the denoiser of {run} has learned more since it was straightened; delete {run / 'reflow'}")
    straight = configs.load(run / "reflow" / "config.yaml", ReflowConfig())
    return replace(made, role="denoiser", straight=straight)


def vocoder(run: Path) -> Trained:
    """The vocoder of a run; raises as ``denoiser`` does."""
    config = configs.load(_folder(run, "vocoder") / "config.yaml", VocoderConfig())
    return _trained(run, "vocoder", vocoder_training.build(config), config)


def content(run: Path) -> Trained:
    """The content network trained in a run; raises as ``denoiser`` does."""
    config = configs.load(_folder(run, "content") / "config.yaml", ContentConfig())
    return _trained(run, "content", content_training.build(config), config)


def keep_speakers(network: nn.Module, known: Sequence[str], wanted: Sequence[str]) -> None:
    """Leave in the conditioner only the speakers ``wanted``, in that order; others may have served training.

    Raises:
        ExportError: a name that is not known.
    """
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ExportError(f"the run has no speaker '{unknown[0]}'; it has {', '.join(known)}")
    layer = network.get_submodule("conditioner.speaker_in")
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight = nn.Parameter(layer.weight[:, [list(known).index(name) for name in wanted]].clone())
    layer.in_features = len(wanted)


def _folder(run: Path, role: str) -> Path:
    folder = run / role
    if checkpoint.newest(folder) is None:
        raise ExportError(f"{run} holds no trained {role}; run: svc-train {role} DATA_DIR {run}")
    return folder


def _trained(run: Path, role: str, network: nn.Module, config: Any) -> Trained:
    folder = run / role
    path = checkpoint.chosen(folder)
    if path is None or not path.exists():
        raise ExportError(
            f"{folder / checkpoint.BEST} names a checkpoint that is gone; delete it to use the newest"
        )
    weights, info = checkpoint.weights(path)
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise ExportError(
            f"{path} does not fit {folder / 'config.yaml'}; restore the config it was trained with"
        ) from None
    return Trained(role, network.eval(), config, configs.read(folder / "data.yaml"), path, int(info["step"]))
