"""What a graph takes and gives: names, shapes and element types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FLOAT, INT64 = "tensor(float)", "tensor(int64)"


@dataclass(frozen=True)
class Tensor:
    """A number is a fixed size, a name a length that changes from run to run."""

    shape: tuple[int | str, ...]
    kind: str = FLOAT


@dataclass(frozen=True)
class Interface:
    inputs: Mapping[str, Tensor]  # beside those that have a default
    outputs: Mapping[str, Tensor]
    optional: Mapping[str, Tensor] = field(default_factory=dict)  # outputs that may be there too
