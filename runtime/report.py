"""What a conversion did: what was sung frame by frame, how loud, how fast, and where it ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import mel
from moksori.runtime.key import Range
from moksori.runtime.master import Levels
from moksori.runtime.mel import MelSpec

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Report:
    """``seconds`` is the audio's length, ``elapsed`` and ``stages`` are wall-clock seconds; ``key`` in semitones."""

    source: Path
    target: Path
    sample_rate: int
    channels: int
    seconds: float
    elapsed: float
    key: float
    levels: Levels
    settings: Mapping[str, str]
    stages: dict[str, float]
    devices: dict[str, str]
    notices: tuple[str, ...]
    trace: Trace

    def plain(self) -> dict[str, Any]:
        """All but the trace, as JSON has it."""
        return {
            "source": str(self.source),
            "target": str(self.target),
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "seconds": round(self.seconds, 4),
            "elapsed": round(self.elapsed, 4),
            "key": self.key,
            "loudness": round(self.levels.loudness, 2) if np.isfinite(self.levels.loudness) else None,
            "gain": round(self.levels.gain, 2),
            "limited": round(self.levels.limited, 6),
            "settings": dict(self.settings),
            "stages": {stage: round(seconds, 4) for stage, seconds in self.stages.items()},
            "devices": self.devices,
            "notices": list(self.notices),
        }


@dataclass
class Trace:
    """Filled while a song is sung, frame by frame: its f0 in Hz, whether it is voiced, whether the gate is open."""

    spec: MelSpec
    cuts: list[float] = field(default_factory=list)  # seconds at which one chunk gives way to the next
    _f0: list[Array] = field(default_factory=list, repr=False)
    _voiced: list[NDArray[np.bool_]] = field(default_factory=list, repr=False)
    _shut: list[NDArray[np.bool_]] = field(default_factory=list, repr=False)

    def add(self, end: int, f0: Array, voiced: NDArray[np.bool_], opened: Array) -> None:
        """What one chunk, whose core ends at frame ``end``, makes final; f0 may lag behind the others by a fade."""
        self.cuts.append(end * self.spec.hop / self.spec.sample_rate)
        self._f0.append(f0)
        self._voiced.append(voiced)
        self._shut.append(opened <= 0)

    @property
    def f0(self) -> Array:
        """Hz as sung, [T]."""
        return np.concatenate([*self._f0, np.zeros(0, np.float32)])

    @property
    def voiced(self) -> NDArray[np.bool_]:
        return np.concatenate([*self._voiced, np.zeros(0, bool)])

    @property
    def times(self) -> NDArray[np.floating]:
        """Seconds, [T]."""
        return mel.frame_times(len(self.f0), self.spec)

    def beyond(self, goal: Range, semitones: float) -> float:
        """The share of the voiced time that is sung farther than ``semitones`` from a range."""
        ratio, sung = 2 ** (semitones / 12), self.f0[self.voiced[: len(self.f0)]]
        return float(np.mean((sung < goal.low / ratio) | (sung > goal.high * ratio))) if len(sung) else 0.0

    @property
    def muted(self) -> list[tuple[float, float]]:
        """Seconds from … to … in which the gate is shut."""
        shut = np.concatenate([*self._shut, np.zeros(1, bool)])
        edges = np.flatnonzero(np.diff(shut, prepend=False)) * (self.spec.hop / self.spec.sample_rate)
        return [(float(a), float(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
