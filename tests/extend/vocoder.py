"""A vocoder's stream: sines at the multiples of f0, as loud as a graph says (the harmonics of DDSP, Engel et al. 2020).

The graph looks at one frame at a time, so that nothing needs to wait for what comes after it.
"""

from __future__ import annotations

import numpy as np

from moksori.runtime.devices import Array, Session
from moksori.runtime.mel import MelSpec
from moksori.runtime.ports import Tensor
from moksori.runtime.room import Room
from moksori.runtime.vocoder import KINDS, Kind


class HarmonicSynthesizer:
    """State of one stream: the phase in cycles, and how loud the harmonics were at the end of the last frame."""

    def __init__(self, session: Session, spec: MelSpec, context: int, seed: int) -> None:
        self.session, self.spec, self.room = session, spec, Room()  # room for all there is: a frame takes little
        self.phase, self.level = 0.0, np.zeros(0)

    def push(self, mel: Array, f0: Array) -> Array:
        return self.render(mel, f0, len(mel))

    def flush(self) -> Array:
        return np.zeros(0, np.float32)

    def render(self, mel: Array, f0: Array, final: int) -> Array:
        """The sound of all these frames; the next call goes on behind the first ``final`` of them."""
        if not len(mel):
            return np.zeros(0, np.float32)
        hop, rate = self.spec.hop, self.spec.sample_rate
        levels = self.session.run(None, {"mel": mel[None], "f0": f0[None]})[0][0]  # [k, H]
        numbers = np.arange(1, levels.shape[1] + 1)
        levels = np.where(f0[:, None] * numbers < rate / 2, levels, 0)
        before = np.concatenate([self.level[None] if len(self.level) else np.zeros_like(levels[:1]), levels[:-1]])
        phases = self.phase + np.cumsum(np.repeat(f0.astype(np.float64), hop)) / rate
        fade = np.arange(1, hop + 1) / hop
        made = np.zeros(len(mel) * hop)
        for number, old, new in zip(numbers, before.T, levels.T, strict=True):
            level = old[:, None] * (1 - fade) + new[:, None] * fade
            made += level.reshape(-1) * np.sin(2 * np.pi * number * phases)
        if final:
            self.phase, self.level = float(phases[final * hop - 1] % 1), levels[final - 1]
        return made.astype(np.float32)


# Its graph takes mel and f0, as all do, and nothing beside; "C" is whatever number of harmonics it was trained with.
KINDS["harmonic"] = Kind(HarmonicSynthesizer, lambda spec: {}, lambda spec: {"levels": Tensor((1, "T", "C"))})
