"""The denoiser: from noise to mel in the few steps of a plan, under conditions computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.pitch import Session
from moksori.runtime.samplers import Step

Array = NDArray[np.float32]

HISTORY = ("history_1", "history_2", "history_3")


@dataclass(frozen=True)
class Conditions:
    """What a chunk of T mel frames should sound like: the inputs of the condition graph."""

    units: Array  # [Tu, D]
    mel2ph: NDArray[np.int64]  # [T], 1-based unit of each frame
    f0: Array  # [T] Hz, positive everywhere
    voiced: NDArray[np.bool_]  # [T]
    loudness: Array  # [T] dB
    speaker: Array  # [S] mixing weights


def condition(session: Session, given: Conditions) -> Array:
    """The conditioner's projections for every layer, [1, C, T]."""
    inputs: dict[str, NDArray[Any]] = {
        "units": given.units[None],
        "mel2ph": given.mel2ph[None],
        "f0": given.f0[None],
        "voiced": given.voiced[None].astype(np.float32),
        "loudness": given.loudness[None],
        "speaker": given.speaker[None],
    }
    return session.run(None, inputs)[0]


def sample(session: Session, given: Array, noise: Array, plan: list[Step]) -> Array:
    """Run the plan from scaled ``noise`` [M, T] under the condition [1, C, T]; normalised mel [M, T]."""
    x = np.ascontiguousarray(noise[None], np.float32)
    past = [np.zeros_like(x)] * len(HISTORY)
    for step in plan:
        inputs = {
            "x": x,
            "t": np.array([step.t], np.float32),
            "coefficients": np.array(step.coefficients, np.float32),
            "condition": given,
            **dict(zip(HISTORY, past, strict=True)),
        }
        x, prediction = session.run(None, inputs)
        past = [prediction, *past[:-1]]
    return x[0]
