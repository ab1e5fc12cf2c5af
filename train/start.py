"""Weights of a vocoder to begin a training with: published by openvpi, of a run of one's own, or of a voice."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from moksori.runtime.errors import OptionError
from moksori.runtime.mel import MelSpec
from moksori.train import checkpoint, published, shipped, synthesis
from moksori.train import config as configs
from moksori.train.synthesis import Start

if TYPE_CHECKING:
    from moksori.train.vocoder import VocoderConfig


def read(source: str) -> Start:
    """The vocoder at ``source``: a generator's folder or file, a RUN_DIR, a checkpoint, or a voice.

    Raises:
        MoksoriError: there is none, or it is damaged or unsafe.
    """
    path = Path(source)
    if published.is_published(path):
        found = published.read(path)
        return Start("nsf_hifigan", found.config, found.mel, found.state)
    folder = path / "vocoder" if path.is_dir() else path.parent
    file = path if path.suffix == ".safetensors" else checkpoint.chosen(folder)
    if file is not None:
        return _trained(file, folder)
    return shipped.read(source)


def fitted(config: VocoderConfig, spec: MelSpec) -> VocoderConfig:
    """``config`` with the architecture and network of what it starts from.

    Raises:
        OptionError: the data is heard otherwise, or the config asks for another network.
    """
    assert config.start_from is not None
    found = read(config.start_from)
    differing = differences(found.mel, spec)
    if differing:
        raise OptionError(f"{config.start_from} hears mel with {differing}; prepare the data like that")
    if config.architecture not in ("istft", found.architecture):
        raise OptionError(f"{config.start_from} is of architecture {found.architecture}, not {config.architecture}")
    plain = configs.plain(found.network)
    for name, value in config.network.items():
        if plain.get(name) != value:
            raise OptionError(
                f"network: {name} is {value}, but {config.start_from} has {plain.get(name, 'no such key')}; "
                "leave it out, or begin without --from"
            )
    return replace(config, architecture=found.architecture, network=plain)


def differences(theirs: MelSpec, ours: MelSpec, where: str = "the data") -> str:
    """What two mel specs disagree on, as in "hop 512 (the data: 240)"; empty when they are the same."""
    pairs = [(field.name, getattr(theirs, field.name), getattr(ours, field.name)) for field in fields(MelSpec)]
    return ", ".join(f"{name} {a:g} ({where}: {b:g})" for name, a, b in pairs if a != b)


def _trained(file: Path, folder: Path) -> Start:
    said, data = configs.read(folder / "config.yaml"), configs.read(folder / "data.yaml")
    try:
        name, network, mel = said.get("architecture", "istft"), said["network"], MelSpec(**data["mel"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise OptionError(f"{folder} is no run of a vocoder: config.yaml or data.yaml lacks something") from None
    state, _ = checkpoint.weights(file)
    return Start(name, synthesis.shape(name, network), mel, state)
