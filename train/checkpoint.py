"""Checkpoints: one safetensors file each, with everything needed to go on as if nothing had happened."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from moksori.runtime.errors import MoksoriError
from moksori.runtime.files import atomic_path, read_json, write_json

NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")
BEST = "best.json"


@dataclass(frozen=True)
class Ranking:
    """What checkpoints are compared by: a metric, and what it was measured on; others' figures say nothing here."""

    metric: str
    on: str = ""
    falls: bool = True  # the better, the lower

    def best(self, metrics: dict[int, dict[str, float]]) -> int:
        """The step with the best metrics; of equal ones the latest."""
        sign = -1 if self.falls else 1
        return max(metrics, key=lambda step: (sign * metrics[step][self.metric], step))


@dataclass
class State:
    """What a run carries from step to step; ``averaged`` is the moving average of ``network`` that gets exported."""

    network: nn.Module
    averaged: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    measured: int = 0  # the step that ``metrics`` are of
    ranking: Ranking | None = None
    adversary: nn.Module | None = None
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))


def save(folder: Path, state: State) -> Path:
    """Write ``folder/checkpoint-<step>.safetensors``: weights, average, optimizer moments; chance needs no state.

    Raises:
        MoksoriError: it cannot be written, mostly for want of space; earlier checkpoints are as they were.
    """
    tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    tensors |= {f"averaged.{name}": value for name, value in state.averaged.state_dict().items()}
    if state.adversary is not None:
        tensors |= {f"adversary.{name}": value for name, value in state.adversary.state_dict().items()}
    for which, optimizer in state.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{which}.{index}.{name}": value for name, value in moments.items()}
    info = {"step": state.step, "metrics": state.metrics, "measured": state.measured}
    info |= {"scaler": state.scaler.state_dict(), "ranking": state.ranking and asdict(state.ranking)}
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    path = at(folder, state.step)
    try:
        with atomic_path(path) as temporary:
            save_file(whole, temporary, metadata={"moksori": json.dumps(info)})
    except (OSError, SafetensorError) as error:
        size = sum(value.nbytes for value in whole.values()) / 1e6
        raise MoksoriError(
            f"{path} cannot be written ({error}); it needs {size:.0f} MB: free some space, and the same command goes "
            "on from the checkpoint before"
        ) from None
    return path


def resume(path: Path, state: State) -> None:
    """Load a checkpoint into ``state`` in place; MoksoriError if it is damaged or another network's."""
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
    if info.get("scaler"):
        state.scaler.load_state_dict(info["scaler"])
    state.step, state.metrics, state.measured = int(info["step"]), info["metrics"], int(info.get("measured", 0))


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


def tidy(folder: Path, ranking: Ranking | None, keep: int, every: int) -> None:
    """Write ``best.json``, and delete all checkpoints but the best, the newest ``keep`` and multiples of ``every``."""
    if ranking is None:
        (folder / BEST).unlink(missing_ok=True)
    else:
        choose(folder, ranking)
    prune(folder, keep, every)


def choose(folder: Path, ranking: Ranking) -> None:
    """Write ``best.json``: the best of the checkpoints that were measured for this ranking, if any."""
    known: dict[int, dict[str, float]] = {}
    for step in steps(folder):
        with suppress(MoksoriError):  # a damaged one cannot be the best
            info = _info(at(folder, step))
            measured = info.get("measured") == step and math.isfinite(info["metrics"].get(ranking.metric, math.nan))
            if measured and info.get("ranking") == asdict(ranking):
                known[step] = info["metrics"]
    if known:
        best = ranking.best(known)
        write_json(folder / BEST, {"step": best, "by": ranking.metric, **known[best]})


def prune(folder: Path, keep: int, every: int) -> None:
    """Delete all but the newest ``keep``, multiples of ``every`` steps, and the chosen best."""
    best = chosen(folder)
    for step in steps(folder)[:-keep]:
        if step % every and at(folder, step) != best:
            at(folder, step).unlink()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _said(file)  # noqa: SIM118 (not a dict)


def _info(path: Path) -> dict[str, Any]:
    with _opened(path) as file:
        return _said(file)


def _said(file: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(file.metadata()["moksori"])
    return said


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        earlier = [step for step in steps(path.parent) if at(path.parent, step) < path]
        mend = f"delete it to go on from {at(path.parent, earlier[-1]).name}" if earlier else "delete it to begin anew"
        raise MoksoriError(f"{path} is not a readable checkpoint ({error}); {mend}") from None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = prefix + "."
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}
