"""The training loop of all three networks. Read ``train`` from top to bottom; what differs per role is a ``Task``."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from rich.console import Console
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from moksori.runtime.errors import OptionError
from moksori.train import checkpoint, optimizers, precision
from moksori.train.checkpoint import Ranking, State
from moksori.train.dataset import Share
from moksori.train.interrupts import Interrupts
from moksori.train.progress import Progress

PATIENCE = timedelta(hours=6)  # other processes wait while the first validates, which may take a whole song


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast. Times are in optimizer steps."""

    steps: int = 20_000
    optimizer: str = "adamw"  # train/optimizers.py has the others, and the schedules
    learning_rate: float = 1e-3
    schedule: str = "cosine"  # falls to a hundredth
    warmup: int = 200  # the first steps of Adam are noisy while its moments fill
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0  # norm of the whole gradient
    accumulate: int = 1  # batches whose gradients are averaged in one step; memory holds one of them
    precision: str = "auto"  # of activations: bf16 where the device is good at it, else fp32; or fp16
    average: float = 0.999  # decay of the moving average of the weights
    validate_every: int = 500
    save_every: int = 500
    keep: int = 3  # newest checkpoints to keep, beside every tenth one and the best
    check_after: int = 1000  # steps after which it is said whether anything is learnt
    seed: int = 0
    workers: int = 2  # threads that make batches ahead
    adversary_rate: float = 2e-4

    def __post_init__(self) -> None:
        for what, name, table in (
            ("optimizer", self.optimizer, optimizers.OPTIMIZERS),
            ("schedule", self.schedule, optimizers.SCHEDULES),
            ("precision", self.precision, precision.DTYPES),
        ):
            optimizers.known(what, name, table)
        for name in ("steps", "accumulate", "validate_every", "save_every", "keep", "workers"):
            if getattr(self, name) < 1:
                raise OptionError(f"loop: {name} must be 1 or more, not {getattr(self, name)}")


class Task(Protocol):
    """What a role brings to the loop. Chance must come in the batch, drawn per crop, and not from torch."""

    network: nn.Module
    adversary: nn.Module | None
    trivial: float | None  # the loss of a predictor that knows nothing, where that is known
    ranking: Ranking | None  # by which measure of its validation checkpoints are compared; the newest is best by None
    begun: bool  # whether the network knows something before the first step

    def batches(self, share: Share, device: torch.device) -> Generator[dict[str, Tensor]]:
        """Endless batches of a share; the same ones whether or not the run was interrupted."""

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named losses; "loss" is the weighted sum to minimise."""

    def adversary_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """What the adversary minimises on the same batch."""

    def validate(self, network: nn.Module, writer: SummaryWriter, step: int, device: torch.device) -> dict[str, float]:
        """Measures on held-out data with fixed seeds; pictures and sound go to the writer."""


Watch = Callable[[State, SummaryWriter], dict[str, float]]
"""Called after each validation with the state; what it measures is kept beside the validation's figures."""


def train(
    task: Task,
    config: LoopConfig,
    folder: Path,
    console: Console,
    accelerator: Accelerator | None = None,
    watches: Sequence[Watch] = (),
    ranking: Ranking | None = None,
) -> State:
    """Train ``task`` in ``folder`` until ``config.steps``, going on from its newest checkpoint.

    Every validation leaves a checkpoint; the best by ``ranking``, else by the task's own, is kept. Started by
    ``accelerate launch`` or torchrun, every process calls this; the first one writes and speaks.

    Raises:
        MoksoriError: the loss is not finite, or a checkpoint cannot be read or written.
        KeyboardInterrupt: raised again after Ctrl-C or SIGTERM, once what is learnt is saved.
    """
    accelerator = accelerator or processes()
    device, first = accelerator.device, accelerator.is_main_process
    state, sides = _begin(task, config, accelerator)
    newest = checkpoint.newest(folder)
    if newest is not None:
        checkpoint.resume(newest, state)
        console.print(f"going on from step {state.step} of {newest}")
    state.ranking = ranking or task.ranking
    place = accelerator.process_index, accelerator.num_processes
    share = Share(state.step * config.accumulate, *place, config.seed, config.workers)
    progress = Progress(console if first else Console(quiet=True), state.step, config, task.trivial, accelerator)
    batches = task.batches(share, device)
    writer = SummaryWriter(str(folder), purge_step=state.step) if first else None
    interrupts = Interrupts()

    def measure() -> None:
        progress.settle()
        if writer is None:
            return
        state.metrics = task.validate(state.averaged, writer, state.step, device)
        for watch in watches:
            state.metrics |= watch(state, writer)
        state.measured = state.step
        for name, value in {**progress.means, **state.metrics}.items():
            writer.add_scalar(name, value, state.step)
        progress.report(state.step, state.metrics)

    def keep() -> None:
        progress.settle()
        if first:
            checkpoint.save(folder, state)
            checkpoint.tidy(folder, state.ranking, config.keep, 10 * config.save_every)

    try:
        with interrupts.caught():
            if newest is None and task.begun:  # what it begins with may be better than what it learns
                measure()
                keep()
            while state.step < config.steps:
                began = time.monotonic()
                given = list(islice(batches, config.accumulate))
                waited = time.monotonic() - began
                with interrupts.held():
                    losses = _step(state, sides, config, given, accelerator)
                    state.step += 1
                    progress.add(state.step, losses, waited)
                validated = state.step % config.validate_every == 0 or state.step == config.steps
                if validated:
                    measure()
                if validated or state.step % config.save_every == 0:
                    keep()
    except KeyboardInterrupt:
        progress.settle(alone=True)
        if first:
            saved = checkpoint.save(folder, state)
            console.print(f"stopped; saved {saved}. The same command goes on from here.")
        raise
    finally:
        batches.close()
        if writer is not None:
            writer.close()
    return state


def processes() -> Accelerator:
    """This process among those of the run (one, unless a launcher started more) and its device."""
    patient = InitProcessGroupKwargs(timeout=PATIENCE)
    return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no", kwargs_handlers=[patient])


@dataclass(frozen=True)
class Side:
    """A network, its optimizer and ``objective``: batch -> losses, as a module that may be spread over processes."""

    network: nn.Module
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    learning_rate: float


class Objective(nn.Module):
    """A function that gives the losses of a batch, as a module that owns the network it is about."""

    def __init__(self, network: nn.Module, losses: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        super().__init__()
        self.network, self.losses = network, losses

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.losses(batch)


def _begin(task: Task, config: LoopConfig, accelerator: Accelerator) -> tuple[State, dict[str, Side]]:
    """The state of step 0 on this process's device, and what is minimised: the network, then its adversary if any."""
    device = accelerator.device
    network = task.network.to(device)
    scaler = precision.scaler(config.precision, device)
    state = State(network, copy.deepcopy(network).requires_grad_(False), {}, scaler=scaler)
    parts: dict[str, tuple[nn.Module, Any, float]] = {"network": (network, task.losses, config.learning_rate)}
    if task.adversary is not None:
        state.adversary = adversary = task.adversary.to(device)
        parts["adversary"] = (adversary, lambda batch: {"loss": task.adversary_loss(batch)}, config.adversary_rate)
    sides = {}
    for name, (part, losses, rate) in parts.items():
        optimizer = optimizers.optimizer(config.optimizer, part, rate, config.betas, config.weight_decay)
        objective = accelerator.prepare_model(Objective(part, losses))
        sides[name], state.optimizers[name] = Side(part, objective, optimizer, rate), optimizer
    return state, sides


def _step(
    state: State, sides: dict[str, Side], config: LoopConfig, batches: list[dict[str, Tensor]], accelerator: Accelerator
) -> dict[str, Tensor]:
    """One step of every side on the same batches; the mean of each loss over them."""
    torch.manual_seed(_seed(config.seed, state.step, accelerator.process_index))
    share = optimizers.share(config.schedule, state.step, config.steps, config.warmup)
    losses: dict[str, Tensor] = {}
    for name, side in sides.items():
        found = _descend(side, batches, share * side.learning_rate, config, state.scaler, accelerator)
        losses |= found if name == "network" else {name: found["loss"]}
    with torch.no_grad():
        decay = min(config.average, (1 + state.step) / (10 + state.step))
        torch._foreach_lerp_(list(state.averaged.parameters()), list(state.network.parameters()), 1 - decay)
        for kept, now in zip(state.averaged.buffers(), state.network.buffers(), strict=True):
            kept.copy_(now)
    return losses


def _descend(
    side: Side,
    batches: list[dict[str, Tensor]],
    rate: float,
    config: LoopConfig,
    scaler: torch.amp.GradScaler,
    accelerator: Accelerator,
) -> dict[str, Tensor]:
    side.network.train()
    for group in side.optimizer.param_groups:
        group["lr"] = rate
    side.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for number, batch in enumerate(batches, 1):
        last = number == len(batches)  # only then are gradients averaged over processes
        with nullcontext() if last else accelerator.no_sync(side.objective):
            with precision.autocast(config.precision, accelerator.device):
                losses = side.objective(batch)
            scaler.scale(losses["loss"] / len(batches)).backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0) + value.detach() / len(batches)
    scaler.unscale_(side.optimizer)
    nn.utils.clip_grad_norm_(side.network.parameters(), config.clip)
    scaler.step(side.optimizer)
    scaler.update()
    return sums


def _seed(seed: int, step: int, process: int) -> int:
    """Of whatever chance is left in a network, such as dropout: a function of the step, so that resuming is exact."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0])
