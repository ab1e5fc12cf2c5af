"""What is said while a network learns: step, losses, speed, time left, and whether it learns at all."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from moksori.runtime.errors import MoksoriError

if TYPE_CHECKING:
    from moksori.train.loop import LoopConfig

BETWEEN = 15.0  # seconds between lines
TOGETHER = 20  # steps whose losses leave a graphics card at once, since each transfer waits for it
FEW = 10  # first losses that stand for what a network knows before it learns
CLEARLY = 0.98  # share of the trivial loss below which something is learnt


class Progress:
    """Collects losses; ``means`` are since the last validation.

    Args:
        trivial: the loss of a predictor that knows nothing; where it is not known, the first losses stand for it.
    """

    def __init__(
        self, console: Console, step: int, config: LoopConfig, trivial: float | None, accelerator: Accelerator
    ) -> None:
        self.console, self.config, self.first, self.trivial = console, config, step, trivial
        self.accelerator = accelerator
        self.together = 1 if accelerator.device.type == "cpu" else TOGETHER
        self.began = self.spoke = time.monotonic()
        self.waited = 0.0
        self.pending: list[tuple[int, dict[str, Tensor]]] = []
        self.history: list[float] = []  # the loss of each step, until it is said whether anything is learnt
        self.sums: dict[str, float] = {}
        self.count = 0

    @property
    def means(self) -> dict[str, float]:
        return {f"train/{name}": total / max(1, self.count) for name, total in self.sums.items()}

    def add(self, step: int, losses: dict[str, Tensor], waited: float) -> None:
        """Take the losses of a step, and the seconds that it waited for data."""
        self.pending.append((step, losses))
        self.waited += waited
        if len(self.pending) < self.together and step != self.config.check_after:
            return
        self.settle()
        if step == self.config.check_after:
            self._judge(step)
        if time.monotonic() - self.spoke > BETWEEN:
            self.report(step, {})

    def settle(self, alone: bool = False) -> None:
        """Bring pending losses here, averaged over processes unless ``alone``; MoksoriError if one is not finite."""
        if not self.pending:
            return
        table = torch.stack([torch.stack([value.float() for value in losses.values()]) for _, losses in self.pending])
        rows = (table if alone else self.accelerator.reduce(table, "mean")).tolist()
        for (step, losses), row in zip(self.pending, rows, strict=True):
            values = dict(zip(losses, row, strict=True))
            if not math.isfinite(values["loss"]):
                raise MoksoriError(f"the loss is {values['loss']} at step {step}; lower learning_rate and start again")
            for name, value in values.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            if step <= self.config.check_after:
                self.history.append(values["loss"])
        self.count += len(self.pending)
        self.pending = []

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """One line; after a validation, with its ``metrics``, the means begin anew."""
        elapsed = max(time.monotonic() - self.began, 1e-9)
        speed = (step - self.first) / elapsed
        pace = f"  {speed:.2f} steps/s" if speed else ""
        left = f"  {_clock((self.config.steps - step) / speed)} left" if speed else ""
        figures = "  ".join(f"{name} {value:.4g}" for name, value in {**self.means, **metrics}.items())
        waiting = f"  {self.waited / elapsed:.0%} waiting for data" if self.waited > 0.1 * elapsed else ""
        self.console.print(
            f"step {step}/{self.config.steps}  {figures}{pace}{waiting}{left}"
        )
        self.spoke = time.monotonic()
        if metrics:
            self.sums, self.count = {}, 0

    def _judge(self, step: int) -> None:
        begun = self.history[:FEW]
        ignorant = self.trivial if self.trivial is not None else sum(begun) / len(begun)
        recent = self.history[-max(1, len(self.history) // 5) :]
        loss = sum(recent) / len(recent)
        if loss < CLEARLY * ignorant:
            self.console.print(f"it learns: after {step} steps the loss is {loss:.3g}; nothing known is {ignorant:.3g}")
        else:
            self.console.print(
                f"Warning: it is not learning: after {step} steps the loss is {loss:.3g}, and {ignorant:.3g} is what "
                "knowing nothing gives; look at report.html of the data, and try another learning_rate"
            )


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02d}:{int(seconds) % 60:02d}"
