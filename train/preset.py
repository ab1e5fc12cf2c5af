"""Presets: YAML files of this package with what they change for each role, and the mel geometry they are made for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from moksori.runtime.errors import OptionError
from moksori.runtime.mel import MelSpec
from moksori.train import config as configs
from moksori.train.optimizers import known

T = TypeVar("T")

FOLDER = Path(__file__).parent / "presets"


def names() -> list[str]:
    return [path.stem for path in sorted(FOLDER.glob("*.yaml"))]


def overlay(name: str, role: str, defaults: T, spec: MelSpec) -> T:
    """``defaults`` with what a preset says of ``role`` laid over them.

    Raises:
        OptionError: no such preset, or one for another geometry than ``spec``.
    """
    given = configs.read(known("preset", name, {name: FOLDER / f"{name}.yaml" for name in names()}))
    off = configs.differences(asdict(spec), given.get("mel", {}))
    if off:
        raise OptionError(
            f"preset {name} is not for this data: mel {', '.join(off)}; prepare it with: "
            f"svc-prepare AUDIO_DIR DATA_DIR --rate {given['mel']['sample_rate']}"
        )
    return configs.overlay(defaults, given.get(role, {}), f"preset {name}")
