"""Content: what is said, not who says it. A graph turns 16 kHz audio into units, one every 20 ms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import devices
from moksori.runtime.crepe import Session

Array = NDArray[np.float32]

RATE = 16_000  # Hz
UNIT_HOP = 320  # samples, 20 ms
MINIMUM = 4 * UNIT_HOP  # the front ends mirror up to 200 samples and convolve a few frames


def units(session: Session, audio: Array) -> Array:
    """Units of ``audio`` [n] at 16 kHz: [ceil(n / 320), D]. Audio is padded with zeros to whole units."""
    count = -(-len(audio) // UNIT_HOP)
    return session.run(None, {"audio": _whole(audio, count)[None]})[0][0, :count]


@dataclass(frozen=True)
class Memory:
    """What a network that remembers has heard before a unit: samples [1, n], and what its blocks keep of them."""

    before: Array
    state: Array


def memory(session: devices.Session) -> Memory | None:
    """Of nothing, as at the begin of a stream; None of a network that has to hear its past again."""
    sizes = {one.name: one.shape for one in session.raw.get_overridable_initializers()}
    if not {"before", "state", "settled"} <= sizes.keys():
        return None
    return Memory(*(np.zeros(sizes[name], np.float32) for name in ("before", "state")))


def go_on(session: Session, audio: Array, known: Memory, settled: int) -> tuple[Array, Memory]:
    """Units of ``audio`` [n], as ``units``, after what is known; and what is known before unit ``settled`` of them.

    The last units lack what comes after them, so the next call should begin, with ``settled``, before these.
    """
    count = -(-len(audio) // UNIT_HOP)
    padded = _whole(audio, count)
    given = {"audio": padded[None], "before": known.before, "state": known.state}
    found, state = session.run(None, {**given, "settled": np.array([settled], np.int64)})
    whole = np.concatenate([known.before[0], padded[: settled * UNIT_HOP]])
    return found[0, :count], Memory(whole[None, len(whole) - known.before.shape[1] :], state)


def _whole(audio: Array, count: int) -> Array:
    """Audio padded with zeros to ``count`` units, and to as many as any network takes."""
    return np.pad(audio, (0, max(count * UNIT_HOP, MINIMUM) - len(audio)))


def mel2ph(frames: int, count: int) -> NDArray[np.int64]:
    """1-based unit index of each mel frame by linear stretch: unit i ends at int(i·d + d + 0.5), d = frames / count."""
    stretch = frames / count
    ends = np.floor(np.arange(count) * stretch + stretch + 0.5).astype(np.int64)
    return np.minimum(np.searchsorted(ends, np.arange(frames), side="right") + 1, count)
