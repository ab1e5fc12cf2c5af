"""The training loop of all three networks. Read ``train`` from top to bottom; what differs per role is a ``Task``."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from moksori.runtime.errors import MoksoriError
from moksori.train import checkpoint
from moksori.train.checkpoint import State


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast. Times are in optimizer steps."""

    steps: int = 20_000
    learning_rate: float = 1e-3  # falls to a hundredth along a cosine
    warmup: int = 200  # the first steps of Adam are noisy while its moments fill
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0  # norm of the whole gradient
    average: float = 0.999  # decay of the moving average of the weights
    validate_every: int = 500
    save_every: int = 500
    keep: int = 3  # newest checkpoints to keep, beside every tenth one and the best
    seed: int = 0
    adversary_rate: float = 2e-4


class Task(Protocol):
    """What a role brings to the loop."""

    network: nn.Module
    adversary: nn.Module | None

    def batches(self, step: int, device: torch.device) -> Generator[dict[str, Tensor]]:
        """Endless batches from ``step`` on; the same ones whether or not the run was interrupted."""

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named losses; "loss" is the weighted sum to minimise."""

    def adversary_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """What the adversary minimises on the same batch."""

    def validate(self, network: nn.Module, writer: SummaryWriter, step: int, device: torch.device) -> dict[str, float]:
        """Measures on held-out data with fixed seeds; pictures and sound go to the writer."""


def train(task: Task, config: LoopConfig, folder: Path, console: Console) -> State:
    """Train ``task`` in ``folder`` until ``config.steps``, going on from its newest checkpoint.

    Raises:
        MoksoriError: the loss is not finite, or memory ran out; Ctrl-C saves first and is raised again.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    task.network.to(device)
    state = State(task.network, copy.deepcopy(task.network).requires_grad_(False), _optimizers(task, config))
    state.adversary = task.adversary.to(device) if task.adversary is not None else None
    newest = checkpoint.newest(folder)
    if newest is not None:
        checkpoint.resume(newest, state)
        console.print(f"going on from step {state.step} of {newest}")
    folder.mkdir(parents=True, exist_ok=True)
    writer = SummaryWriter(str(folder), purge_step=state.step)
    progress = Progress(console, state.step, config.steps)
    batches = task.batches(state.step, device)
    try:
        while state.step < config.steps:
            batch = next(batches)
            losses = _step(task, state, config, batch)
            state.step += 1
            progress.update(state.step, losses)
            if state.step % config.validate_every == 0 or state.step == config.steps:
                state.metrics = task.validate(state.averaged, writer, state.step, device)
                progress.report(state.step, state.metrics)
                for name, value in {**progress.means, **state.metrics}.items():
                    writer.add_scalar(name, value, state.step)
            if state.step % config.save_every == 0 or state.step == config.steps:
                checkpoint.save(folder, state)
                checkpoint.prune(folder, config.keep, 10 * config.save_every)
    except KeyboardInterrupt:
        saved = checkpoint.save(folder, state)
        console.print(f"stopped; saved {saved}. The same command goes on from here.")
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise MoksoriError(f"the device ran out of memory; use a smaller batch or crop ({error})") from None
    finally:
        batches.close()
        writer.close()
    return state


def _step(task: Task, state: State, config: LoopConfig, batch: dict[str, Tensor]) -> dict[str, float]:
    rate = schedule(state.step, config)
    state.network.train()
    losses = task.losses(batch)
    _descend(losses["loss"], state.network, state.optimizers["network"], config.learning_rate * rate, config.clip)
    if state.adversary is not None:
        losses["adversary"] = task.adversary_loss(batch)
        optimizer = state.optimizers["adversary"]
        _descend(losses["adversary"], state.adversary, optimizer, config.adversary_rate * rate, config.clip)
    with torch.no_grad():
        decay = min(config.average, (1 + state.step) / (10 + state.step))
        for mean, value in zip(state.averaged.parameters(), state.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
    values = {name: float(value.detach()) for name, value in losses.items()}
    if not math.isfinite(values["loss"]):
        raise MoksoriError(f"the loss is {values['loss']} at step {state.step}; lower learning_rate and start again")
    return values


def _descend(loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer, rate: float, clip: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimizer.step()


def schedule(step: int, config: LoopConfig) -> float:
    """Share of the learning rate at a step: linear warm-up, then a cosine down to 1 % (Loshchilov & Hutter 2017)."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    return warm * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / config.steps))))


def _optimizers(task: Task, config: LoopConfig) -> dict[str, torch.optim.Optimizer]:
    networks = {"network": task.network} | ({"adversary": task.adversary} if task.adversary is not None else {})
    adamw = partial(torch.optim.AdamW, betas=config.betas, weight_decay=config.weight_decay)
    return {name: adamw(network.parameters(), lr=config.learning_rate) for name, network in networks.items()}


class Progress:
    """One line now and then: step, loss, steps per second, time left."""

    def __init__(self, console: Console, step: int, steps: int) -> None:
        self.console, self.steps, self.first = console, steps, step
        self.began = self.spoke = time.monotonic()
        self.sums: dict[str, float] = {}
        self.count = 0

    @property
    def means(self) -> dict[str, float]:
        return {f"train/{name}": total / max(1, self.count) for name, total in self.sums.items()}

    def update(self, step: int, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if time.monotonic() - self.spoke > 15:
            self.report(step, {})

    def report(self, step: int, metrics: dict[str, float]) -> None:
        speed = (step - self.first) / (time.monotonic() - self.began)
        left = (self.steps - step) / max(speed, 1e-9)
        figures = "  ".join(f"{name} {value:.4g}" for name, value in {**self.means, **metrics}.items())
        self.console.print(f"step {step}/{self.steps}  {figures}  {speed:.2f} steps/s  {_clock(left)} left")
        self.spoke = time.monotonic()
        if metrics:
            self.sums, self.count = {}, 0


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02d}:{int(seconds) % 60:02d}"
