"""Checkpoints: one safetensors file each, with everything needed to go on as if nothing had happened."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from moksori.runtime.errors import MoksoriError
from moksori.runtime.files import atomic_path, read_json

NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")
BEST = "best.json"


@dataclass
class State:
    """What a run carries from step to step; ``averaged`` is the moving average of ``network`` that gets exported."""

    network: nn.Module
    averaged: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    adversary: nn.Module | None = None


def save(folder: Path, state: State) -> Path:
    """Write ``folder/checkpoint-<step>.safetensors``: weights, average, optimizer moments and the random state."""
    tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    tensors |= {f"averaged.{name}": value for name, value in state.averaged.state_dict().items()}
    if state.adversary is not None:
        tensors |= {f"adversary.{name}": value for name, value in state.adversary.state_dict().items()}
    for which, optimizer in state.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{which}.{index}.{name}": value for name, value in moments.items()}
    tensors["random"] = torch.get_rng_state()
    info = {"step": state.step, "metrics": state.metrics}
    path = folder / f"checkpoint-{state.step:08d}.safetensors"
    with atomic_path(path) as temporary:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, temporary,
                  metadata={"moksori": json.dumps(info)})  # fmt: skip
    return path


def resume(path: Path, state: State) -> None:
    """Load a checkpoint into ``state`` in place, random state included; MoksoriError if it is another network's."""
    tensors, info = _read(path)
    try:
        state.network.load_state_dict(_part(tensors, "network"))
        state.averaged.load_state_dict(_part(tensors, "averaged"))
        if state.adversary is not None:
            state.adversary.load_state_dict(_part(tensors, "adversary"))
    except RuntimeError:
        config = path.parent / "config.yaml"
        raise MoksoriError(f"{path} does not fit {config}; restore the config it was trained with") from None
    for which, optimizer in state.optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, f"optimizer.{which}").items():
            index, kind = name.split(".", 1)
            moments.setdefault(int(index), {})[kind] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random"])
    state.step, state.metrics = int(info["step"]), info["metrics"]


def weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The averaged weights by name, and {"step", "metrics"}: what export needs."""
    tensors, info = _read(path)
    return _part(tensors, "averaged"), info


def steps(folder: Path) -> list[int]:
    """Steps that have a checkpoint in ``folder``, ascending."""
    found = (NAME.fullmatch(entry.name) for entry in folder.iterdir()) if folder.is_dir() else ()
    return sorted(int(match[1]) for match in found if match)


def newest(folder: Path) -> Path | None:
    """The checkpoint with the largest step number."""
    found = steps(folder)
    return at(folder, found[-1]) if found else None


def chosen(folder: Path) -> Path | None:
    """The checkpoint that ``best.json`` names, else the newest."""
    if (folder / BEST).exists():
        return at(folder, int(read_json(folder / BEST)["step"]))
    return newest(folder)


def at(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:08d}.safetensors"


def prune(folder: Path, keep: int, every: int) -> None:
    """Delete all but the newest ``keep``, multiples of ``every`` steps, and the chosen best."""
    best = chosen(folder)
    for step in steps(folder)[:-keep]:
        if step % every and at(folder, step) != best:
            at(folder, step).unlink()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return tensors, json.loads(file.metadata()["moksori"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise MoksoriError(
            f"{path} is not a readable checkpoint ({error}); delete it to go on from the one before"
        ) from None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = prefix + "."
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}
