"""The denoiser: from noise to mel in the few steps of a plan, under conditions computed once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import binding, devices, schedules
from moksori.runtime.errors import OptionError
from moksori.runtime.manifest import DenoiserSpec
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

    def cut(self, part: slice) -> Conditions:
        """Of some of the frames."""
        frames = {name: getattr(self, name)[part] for name in ("mel2ph", "f0", "voiced", "loudness")}
        return replace(self, **frames)


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


def noised(mel: Array, noise: Array, spec: DenoiserSpec, depth: float) -> Array:
    """A shallow start: log ``mel`` [T, M], normalised, with the share of ``noise`` [T, M] that ``depth`` has."""
    clear, noisy = schedules.mix(spec.schedule, depth)
    normal = (mel - np.array(spec.mean, np.float32)) / np.array(spec.deviation, np.float32)
    return (clear * normal + noisy * noise).astype(np.float32)


def require_guidable(session: devices.Session, name: str) -> None:
    """OptionError unless the condition graph's network learned to do without units and speaker now and then."""
    if not float(session.metadata.get("dropped", "0")) > 0:
        raise OptionError(
            f"voice '{name}' cannot be guided: its denoiser never did without its conditions in training "
            "(dropped in the config of svc-train denoiser), or was straightened since; leave --guidance out"
        )


def null(given: Conditions) -> Conditions:
    """The same pitch and loudness with nothing said and by nobody, as training with dropped conditions had it."""
    return replace(given, mel2ph=np.zeros_like(given.mel2ph), speaker=np.zeros_like(given.speaker))


def sample(session: Session, given: Array, start: Array, plan: list[Step], unguided: Array | None = None) -> Array:
    """Run the plan from ``start`` [M, T] under the condition [1, C, T]; normalised mel [M, T].

    ``unguided`` is the condition of null steps. On a device all tensors but times and coefficients stay there.
    """
    place = binding.place(session)
    x = place.put(start[None].astype(np.float32))
    past = [place.put(np.zeros((1, *start.shape), np.float32))] * len(HISTORY)
    conditions = {False: place.put(given)} | ({} if unguided is None else {True: place.put(unguided)})
    for step in plan:
        inputs = {
            "x": x,
            "t": place.put(np.array([step.t], np.float32)),
            "coefficients": place.put(np.array([*step.coefficients, *step.view], np.float32)),
            "condition": conditions[step.null],
            **dict(zip(HISTORY, past, strict=True)),
        }
        x, prediction = place.run(inputs)
        if step.kept:
            past = [prediction, *past[:-1]]
    made: Array = place.get(x)[0]
    return made
