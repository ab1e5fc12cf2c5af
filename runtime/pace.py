"""How much a conversion may take: chunks as long as an amount of memory allows, and shorter ones where it runs out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from moksori.runtime import chunks
from moksori.runtime.backends import BACKENDS
from moksori.runtime.chunks import Chunk, Margins
from moksori.runtime.errors import MemoryFull, OptionError
from moksori.runtime.manifest import Manifest
from moksori.runtime.mel import MelSpec
from moksori.runtime.room import SMALLEST_FRAMES, Room
from moksori.runtime.vocoder import Synthesizer
from moksori.runtime.voice import Voice

Result = TypeVar("Result")

# What `python -m moksori.benchmarks.memory` fits: peak = own + graphs + lanes · seconds of a chunk with its margins.
OWN_BYTES = 100e6  # Python and its packages
BYTES_PER_GRAPH_BYTE = {"fp32": 2.5, "fp16": 5.0}  # weights are computed in 32 bits, and packed beside that
MOST_PER_GRAPH_BYTE = 8.0  # of 8 bits
SECOND_BYTES = 10e6  # in one lane, of the widest activations
SHARE = 0.8  # of the memory that is free is what a run may take when nothing is said

LONGEST_SECONDS = 12.0  # of one chunk; attention grows with its square, and longer ones gain little
SHORTEST_SECONDS = 4.0
LEAST_SECONDS = 2.0  # content in shorter chunks is heard too badly


@dataclass(frozen=True)
class Plan:
    """Chunks that are worked on at a time, and the seconds between which one is cut."""

    lanes: int
    shortest: float
    longest: float


def plan(voice: Voice, margins: Margins, budget: int | None = None) -> Plan:
    """The longest chunks that fit into ``budget`` bytes, by default what is free, and as many lanes as then still fit.

    ``budget`` is main memory; of a device's own, what is free counts where the device tells. With enough memory the
    plan is the same on every machine with as many cores, and so is the result.

    Raises:
        OptionError: ``budget`` is less than the shortest chunk needs.
    """
    fixed = OWN_BYTES + _opened(voice.manifest)
    given = budget if budget is not None else int(SHARE * free()) + resident()
    places = {session.device for session in voice.sessions.values()}
    told = [left for place in places if (left := BACKENDS[place.kind].free(place)) is not None]
    room = min(given - fixed, *(SHARE * left for left in told)) if told else given - fixed
    for lanes in range(voice.lanes, 0, -1):
        seconds = room / (SECOND_BYTES * lanes) - margins.both
        if seconds >= LONGEST_SECONDS or (lanes == 1 and seconds >= LEAST_SECONDS):
            longest = min(seconds, LONGEST_SECONDS)
            return Plan(lanes, SHORTEST_SECONDS * longest / LONGEST_SECONDS, longest)
    least = fixed + SECOND_BYTES * (LEAST_SECONDS + margins.both)
    if budget is None or budget >= least:  # what is free is a guess; running out of it is dealt with when it happens
        return Plan(1, LEAST_SECONDS / 2, LEAST_SECONDS)
    raise OptionError(
        f"--memory {budget / 1e6:.0f}M is too little for voice '{voice.name}': give {1.01 * least / 1e6:.0f}M or more"
    )


def _opened(manifest: Manifest) -> float:
    """Bytes that a voice's graphs take when they are open."""
    return sum(
        file.bytes * BYTES_PER_GRAPH_BYTE.get(manifest.precision[role], MOST_PER_GRAPH_BYTE)
        for role, file in manifest.files.items()
    )


class Halving:
    """Chunks that do not fit into a device's memory are halved, and so are all that follow; shared by lanes.

    ``sharing`` has the vocoder do the same with its own stretches, in all streams of a song.
    """

    def __init__(self, spec: MelSpec, margins: Margins) -> None:
        self.spec, self.margins = spec, margins
        self.frames: int | None = None  # the longest core that is still tried
        self.reason = ""
        self.room: Room | None = None  # the vocoder's

    def each(self, work: Callable[[Chunk], Result], chunk: Chunk) -> Sequence[tuple[Chunk, Result]]:
        """The chunk, or its parts in order, each with its work; MemoryFull when not even the smallest fits."""
        length = chunk.end - chunk.begin
        if self.frames is None or length <= self.frames:
            try:
                return [(chunk, work(chunk))]
            except MemoryFull as error:
                if length < 2 * SMALLEST_FRAMES:
                    raise
                self.frames = min(self.frames or length, -(-length // 2) + chunks.grid(self.spec))
                self.reason = str(error)
        return [pair for half in chunks.halves(chunk, self.spec, self.margins) for pair in self.each(work, half)]

    def sharing(self, stream: Synthesizer) -> Synthesizer:
        """The same stream, with the room that is left to a vocoder."""
        self.room = stream.room = self.room or stream.room
        return stream

    @property
    def notices(self) -> tuple[str, ...]:
        shortened = [("chunks were", self.frames, self.reason)] if self.frames is not None else []
        if self.room is not None and self.room.reason:
            shortened.append(("the vocoder's stretches were", self.room.frames, self.room.reason))
        return tuple(
            f"{what} shortened to {frames / self.spec.frame_rate:.1f} s, since memory ran out: {reason}"
            for what, frames, reason in shortened
        )


def free() -> int:
    """Bytes of main memory that can be had now; a container's limit counts."""
    if sys.platform == "win32":
        return _windows()
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
        limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
        found += [int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii"))]
    except (OSError, ValueError, IndexError):
        pass  # not Linux, or without a limit
    return max(0, min(found)) if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def resident() -> int:
    """Bytes this process holds already, where the system tells."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):  # AttributeError: Wine shows Linux's /proc to Windows' Python
        return 0


def _windows() -> int:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            *((name, ctypes.c_uint64) for name in ("total", "free", "pages", "page", "address", "room", "more")),
        ]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined, unused-ignore]
    return int(status.free)
