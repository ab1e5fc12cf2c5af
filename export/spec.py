"""What a graph promises: its inputs and outputs, how long each axis may be, and inputs that prove it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from moksori.runtime.errors import MoksoriError

Lengths = Mapping[str, int]
Draw = Callable[[Lengths, torch.Generator], tuple[Tensor, ...]]


class ExportError(MoksoriError):
    """A network cannot be written as a graph that every device computes alike."""


@dataclass(frozen=True)
class Axis:
    """A length that changes from call to call.

    ``traced`` is the length given to the exporter; the proof is at ``unseen``, which must differ from it.
    """

    name: str
    traced: int
    unseen: tuple[int, ...]
    minimum: int = 1
    maximum: int | None = None

    def __post_init__(self) -> None:
        if self.traced in self.unseen or len(set(self.unseen)) != len(self.unseen):
            raise ExportError(
                f"axis {self.name}: the lengths of the proof {self.unseen} must differ from {self.traced}"
            )


@dataclass(frozen=True)
class Port:
    """One input or output; an axis is a fixed length, the name of an ``Axis``, or a multiple: "320*units"."""

    name: str
    axes: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphSpec:
    """One graph. ``draw(lengths, generator)`` gives one tensor per input, in order and valid for the network.

    ``silent`` names the inputs that may leave the outputs as they are; every other input must change them. Those of
    ``optional`` can be left out of a call, and are zeros then.
    """

    role: str
    kind: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    axes: tuple[Axis, ...]
    draw: Draw
    metadata: Mapping[str, str] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()

    @property
    def traced(self) -> Lengths:
        return {axis.name: axis.traced for axis in self.axes}

    @property
    def unseen(self) -> tuple[Lengths, ...]:
        """One set of lengths for each round of the proof."""
        rounds = zip(*(axis.unseen for axis in self.axes), strict=True)
        return tuple({axis.name: n for axis, n in zip(self.axes, lengths, strict=True)} for lengths in rounds)


def shape(port: Port, lengths: Lengths) -> tuple[int, ...]:
    """The shape a port has at these lengths."""
    return tuple(axis if isinstance(axis, int) else _length(axis, lengths) for axis in port.axes)


def factor(axis: str) -> tuple[int, str]:
    """ "320*units" -> (320, "units"); "units" -> (1, "units")."""
    multiple, _, name = axis.rpartition("*")
    return int(multiple or 1), name


def _length(axis: str, lengths: Lengths) -> int:
    multiple, name = factor(axis)
    return multiple * lengths[name]
