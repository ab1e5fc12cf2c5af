"""A training run: which data, which config, which network, in which folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from moksori.runtime.errors import OptionError
from moksori.runtime.files import atomic_path
from moksori.train import checkpoint, content, vocoder
from moksori.train import config as configs
from moksori.train.content import ContentConfig, ContentTask
from moksori.train.dataset import PreparedData
from moksori.train.denoiser import DenoiserConfig, DenoiserTask
from moksori.train.loop import Task, train
from moksori.train.vocoder import VocoderConfig, VocoderTask


@dataclass(frozen=True)
class Role:
    """A network that can be trained: its default config, and how data and config become a task."""

    config: Any
    fitted: Callable[[Any, PreparedData], Any]  # the config with the widths that the data dictates
    task: Callable[[PreparedData, Any], Task]
    needs: tuple[str, ...]  # facts of the data that a run cannot change


ROLES = {
    "content": Role(ContentConfig(), content.fitted, ContentTask, ("units",)),
    "vocoder": Role(VocoderConfig(), vocoder.fitted, VocoderTask, ("mel",)),
    "denoiser": Role(
        DenoiserConfig(),
        lambda config, data: config,
        DenoiserTask,
        ("mel", "content_sha256", "pitch_sha256", "speakers"),
    ),
}
KEPT_FACTS = ("mel", "units", "pitch", "content_sha256", "pitch_sha256", "speakers", "statistics")


def run(
    role: str,
    data_dir: Path,
    run_dir: Path,
    config_file: Path | None,
    steps: int | None,
    threads: int | None,
    console: Console,
) -> None:
    """Train ``role`` on ``data_dir`` in ``run_dir / role``; None takes what the run was begun with, or the defaults.

    Raises:
        OptionError: an unusable config, or data of another kind than the run was begun with.
        MoksoriError: no prepared data, a damaged checkpoint, or a loss that is not a number.
    """
    torch.set_num_threads(threads or os.cpu_count() or 1)
    data = PreparedData(data_dir)
    folder = run_dir / role
    used = folder / "config.yaml"
    config = ROLES[role].config
    if config_file is not None or used.exists():
        config = configs.load(config_file or used, config)
    if steps is not None:
        config = replace(config, loop=replace(config.loop, steps=steps))
    config = ROLES[role].fitted(config, data)
    torch.manual_seed(config.loop.seed)  # the first weights
    task = ROLES[role].task(data, config)
    _check_network(used, config)
    _check_data(folder / "data.yaml", data, ROLES[role].needs)
    configs.save(used, config)
    if role == "denoiser":
        _keep_graphs(data_dir, run_dir / "graphs")
    train(task, config.loop, folder, console)


def _check_network(used: Path, config: Any) -> None:
    """A run goes on only with the network of its checkpoints; the rest of a config may change."""
    if checkpoint.newest(used.parent) is None or not used.exists():
        return
    known, wanted = configs.plain(configs.load(used, config)), configs.plain(config)
    for name in ("architecture", "network"):
        if known.get(name) != wanted.get(name):
            raise OptionError(
                f"{used.parent} was begun with {name} {known[name]}, not {wanted[name]}; "
                "go on without --config or train into a new RUN_DIR"
            )


def _check_data(path: Path, data: PreparedData, needs: tuple[str, ...]) -> None:
    """A run goes on only with data of the kind it was begun with; the facts kept here are also what export needs."""
    facts = {name: data.facts[name] for name in KEPT_FACTS}
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        configs.save(path, facts)
        return
    known = configs.read(path)
    for name in needs:
        if known[name] != facts[name]:
            raise OptionError(
                f"{data.folder} has {name} {facts[name]}, but {path.parent} was begun with {known[name]}; "
                "train into a new RUN_DIR or prepare the data again"
            )


def _keep_graphs(data_dir: Path, folder: Path) -> None:
    """The voice is exported with the very graphs that made its features, so a run keeps copies."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("content.onnx", "pitch.onnx"):
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(data_dir / name, temporary)
