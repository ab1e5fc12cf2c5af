"""A training run: which data, which config, which network, in which folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from moksori.runtime.errors import OptionError
from moksori.runtime.files import atomic_path
from moksori.train import checkpoint, content, denoiser, preset, vocoder, workers
from moksori.train import config as configs
from moksori.train.audition import Audition, Hearing
from moksori.train.content import ContentConfig, ContentTask
from moksori.train.dataset import PreparedData
from moksori.train.denoiser import DenoiserConfig, DenoiserTask
from moksori.train.lock import alone
from moksori.train.loop import Task, processes, train
from moksori.train.memory import advised
from moksori.train.reflow import ReflowConfig, ReflowTask
from moksori.train.vocoder import VocoderConfig, VocoderTask


@dataclass(frozen=True)
class Role:
    """Something that can be trained: its default config, and how data and config become a task."""

    config: Any
    fitted: Callable[[Any, PreparedData], Any]  # the config with the widths that the data dictates
    task: Callable[[PreparedData, Any, Path], Task]  # of data, config and RUN_DIR
    needs: tuple[str, ...]  # facts of the data that a run cannot change
    begin: Callable[[Any], None] = lambda task: None  # before the first step of a new run


HEARD = ("mel", "pitch", "content_sha256", "pitch_sha256", "speakers")
ROLES = {
    "content": Role(ContentConfig(), content.fitted, lambda data, config, _: ContentTask(data, config), ("units",)),
    "vocoder": Role(
        VocoderConfig(), vocoder.fitted, lambda data, config, _: VocoderTask(data, config), ("mel",), VocoderTask.begin
    ),
    "denoiser": Role(
        DenoiserConfig(), denoiser.fitted, lambda data, config, _: DenoiserTask(data, config), HEARD
    ),
    "reflow": Role(ReflowConfig(), lambda config, _: config, ReflowTask, HEARD),
}
KEPT_FACTS = ("mel", "units", "pitch", "content_sha256", "pitch_sha256", "speakers", "statistics")  # export needs them


@dataclass(frozen=True)
class Wishes:
    """What a command asks for. With neither presets nor a config file, a run goes on with what it was begun with."""

    presets: tuple[str, ...] = ()  # laid over the defaults in this order
    config_file: Path | None = None  # laid over the presets
    steps: int | None = None
    threads: int | None = None  # of each process; by default its share of the cores
    start_from: str | None = None  # whose weights a new vocoder begins with (train/start.py)
    audition: Audition = field(default_factory=Audition)


def run(role: str, data_dir: Path, run_dir: Path, wishes: Wishes, console: Console) -> None:
    """Train ``role`` on ``data_dir`` in ``run_dir / role``; under a launcher, each of its processes calls this.

    Raises:
        OptionError: an unusable config, or data of another kind than the run was begun with.
        MoksoriError: no prepared data, a damaged checkpoint, or a loss that is not a number.
    """
    accelerator = processes()
    first = accelerator.is_main_process
    cores = max(1, workers.cores() // accelerator.num_processes)
    torch.set_num_threads(wishes.threads or cores)
    data = PreparedData(data_dir)
    folder = run_dir / role
    used = folder / "config.yaml"
    _check_data(folder / "data.yaml", data, ROLES[role].needs)
    config = ROLES[role].fitted(_config(role, used, wishes, data), data)
    torch.manual_seed(config.loop.seed)  # the first weights
    busy = f"another svc-train trains the {role} of {run_dir}: wait for it, or give another RUN_DIR"
    with advised():
        task = ROLES[role].task(data, config, run_dir)
        _check_network(used, config, lambda known: ROLES[role].fitted(known, data))
        if checkpoint.newest(folder) is None:
            ROLES[role].begin(task)
        heard = wishes.audition.hearing(role, config, data, run_dir, console) if first else Hearing()
        with alone(folder / ".lock", busy) if first else nullcontext():
            if first:
                write_down(role, data, run_dir, config)
            state = train(task, config.loop, folder, console, accelerator, heard.watches, heard.ranking)
    best = checkpoint.chosen(folder)
    if first and best is not None and state.ranking is not None:
        console.print(f"svc-export takes {best.name}, the best by {state.ranking.metric}")


def _config(role: str, used: Path, wishes: Wishes, data: PreparedData) -> Any:
    """The defaults, under the presets, under the config file; or as the run was begun."""
    config = ROLES[role].config
    for name in wishes.presets:
        config = preset.overlay(name, role, config, data.spec)
    if wishes.config_file is not None:
        config = configs.load(wishes.config_file, config)
    elif not wishes.presets and used.exists():
        config = configs.load(used, config)
    if wishes.start_from is not None:
        if role != "vocoder":
            raise OptionError(f"--from is for svc-train vocoder, not for {role}")
        config = replace(config, start_from=wishes.start_from)
    return config if wishes.steps is None else replace(config, loop=replace(config.loop, steps=wishes.steps))


def write_down(role: str, data: PreparedData, run_dir: Path, config: Any) -> None:
    """What belongs beside the checkpoints; and what a killed run left half written goes."""
    folder = run_dir / role
    for part in folder.glob(".*.part*"):
        part.unlink()
    configs.save(folder / "config.yaml", config)
    if not (folder / "data.yaml").exists():
        configs.save(folder / "data.yaml", {name: data.facts[name] for name in KEPT_FACTS})
    if role == "denoiser":
        _keep_graphs(data.folder, run_dir / "graphs")


def _check_network(used: Path, config: Any, fitted: Callable[[Any], Any]) -> None:
    """A run goes on only with the network of its checkpoints; the rest of a config may change."""
    if checkpoint.newest(used.parent) is None or not used.exists():
        return
    known, wanted = configs.plain(fitted(configs.load(used, config))), configs.plain(config)
    for name in ("architecture", "network", "objective"):
        if known.get(name) != wanted.get(name):
            raise OptionError(
                f"{used.parent} was begun with {name} {known[name]}, not {wanted[name]}; "
                "go on without --config or train into a new RUN_DIR"
            )


def _check_data(path: Path, data: PreparedData, needs: tuple[str, ...]) -> None:
    """A run goes on only with data of the kind it was begun with; there may be more of it, in the same mel's scale."""
    if not path.exists():
        return
    known = configs.read(path)
    found, wanted = ({name: _named(facts[name]) for name in needs} for facts in (data.facts, known))
    off = configs.differences(found, wanted)
    if off:
        raise OptionError(
            f"{data.folder} does not fit {path.parent}, which was begun with other data: {'; '.join(off)}; "
            "train into a new RUN_DIR, or prepare the data again as it was"
        )
    data.facts |= {name: known[name] for name in ("statistics", "speakers")}


def _named(fact: Any) -> Any:
    """A fact as it must stay: of speakers, who they are, not what was measured of them."""
    return [speaker["name"] for speaker in fact] if isinstance(fact, list) else configs.plain(fact)


def _keep_graphs(data_dir: Path, folder: Path) -> None:
    """The voice is exported with the very graphs that made its features, so a run keeps copies."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("content.onnx", "pitch.onnx"):
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(data_dir / name, temporary)
