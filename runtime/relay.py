"""Between a sound card, which never waits, and a stream that works in a thread of its own, at a delay that stays.

What a machine that is too slow does: the denoiser takes fewer steps; then blocks that would come too late are passed
over and heard as silence, and counted. When there is time again the steps come back. The delay stays as it was.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.options import Options

Array = NDArray[np.float32]

WINDOW_SECONDS = 0.5  # over which the load is measured
BUSY, IDLE = 0.85, 0.4  # shares of the time: above the first steps are dropped, below the second they come back
PATIENCE = 20  # windows of idling before more steps are tried


class Worker(Protocol):
    """What a relay needs of a ``Stream``."""

    def push(self, samples: Array) -> Array: ...

    def skip(self, samples: Array) -> Array: ...

    def change(self, options: Options) -> None: ...


@dataclass
class Counts:
    """``late``: blocks not there when they were due, heard as silence; ``skipped``: not sung for lack of time;
    ``slipped``: left out or waited for because two sound cards do not run equally fast."""

    late: int = 0
    skipped: int = 0
    slipped: int = 0


class Relay:
    """Takes blocks of one size by ``put`` and gives each back, sung, ``slack`` blocks later by ``take``.

    ``put`` and ``take`` never wait for the work. ``options`` may be replaced at any time.
    """

    def __init__(self, stream: Worker, options: Options, steps: int, seconds: float, slack: int) -> None:
        """``steps`` are the denoiser's when there is time; ``seconds`` is the length of a block."""
        self.stream, self.options, self.seconds, self.slack = stream, options, seconds, slack
        self.governor = Governor(steps)
        self.counts, self.muted = Counts(), False
        self.load = 0.0  # share of the time that the last window took
        self.spent: deque[float] = deque(maxlen=200)  # seconds of each of the last blocks
        self.failure: BaseException | None = None
        self._sung: dict[int, Array] = {}
        self._waiting: deque[tuple[int, Array]] = deque()
        self._change = threading.Condition()
        self._received = 0
        self._due = -slack  # index of the next block to be given out
        self._last = np.zeros(0, np.float32)
        self._gain = 0.0
        self._running = True
        self._thread = threading.Thread(target=self._work, name="stream", daemon=True)
        self._thread.start()

    def put(self, block: Array) -> None:
        """What was recorded; the array may be reused afterwards."""
        with self._change:
            self._waiting.append((self._received, block.copy()))
            self._received += 1
            self._change.notify()

    def take(self, size: int) -> Array:
        """What is to be heard now, [size]."""
        with self._change:
            newest = self._received - 1 - self.slack
            if self._due < newest:  # whoever plays is slower than whoever records
                self.counts.slipped += newest - self._due
                self._due = newest
            block = self._sung.pop(self._due, None)
            ahead = self._due >= self._received
            self._due += 0 if ahead else 1
            self._sung = {index: sung for index, sung in self._sung.items() if index >= self._due}
        if self._due <= 0:
            return np.zeros(size, np.float32)
        self.counts.slipped += ahead
        self.counts.late += block is None and not ahead
        return self._faded(block, size)

    def close(self) -> None:
        """Let the thread end."""
        with self._change:
            self._running = False
            self._change.notify()
        self._thread.join(5)

    def _faded(self, block: Array | None, size: int) -> Array:
        """A block; or, where there is none or it is muted, the end of the last, backwards, as it fades into silence."""
        goal = float(block is not None and not self.muted)
        if block is None or len(block) != size:
            block = self._last[::-1] if len(self._last) == size else np.zeros(size, np.float32)
        gains = np.linspace(self._gain, goal, size, dtype=np.float32)
        self._gain, self._last = goal, block
        return block * gains

    def _work(self) -> None:
        asked, steps = self.options, self.governor.steps
        try:
            while True:
                with self._change:
                    self._change.wait_for(lambda: self._waiting or not self._running)
                    if not self._running:
                        return
                    index, block = self._waiting.popleft()
                    hopeless = self._received - 1 - index >= self.slack
                if (self.options, self.governor.steps) != (asked, steps):
                    asked, steps = self.options, self.governor.steps
                    self.stream.change(replace(asked, steps=steps))
                self._sing(index, block, hopeless)
        except Exception as error:  # told by whoever waits in the main thread
            self.failure = error

    def _sing(self, index: int, block: Array, hopeless: bool) -> None:
        began = time.perf_counter()
        work: Callable[[Array], Array] = self.stream.skip if hopeless else self.stream.push
        sung = work(block)
        seconds = time.perf_counter() - began
        self.counts.skipped += hopeless
        self.spent.append(seconds)
        self.load = self.governor.note(seconds, self.seconds, hopeless)
        with self._change:
            if index >= self._due:
                self._sung[index] = sung


class Governor:
    """How many steps a machine has time for: as many as asked, else half as many, and so on down to one."""

    def __init__(self, steps: int) -> None:
        self.most = self.steps = steps
        self.worked = self.passed = 0.0  # seconds of this window
        self.load = 0.0
        self.idle = 0  # windows in a row
        self.missed = False

    def note(self, worked: float, passed: float, missed: bool) -> float:
        """Count a block that took ``worked`` of ``passed`` seconds; the load of the last window."""
        self.worked, self.passed, self.missed = self.worked + worked, self.passed + passed, self.missed or missed
        if self.passed < WINDOW_SECONDS:
            return self.load
        self.load = self.worked / self.passed
        self.idle = self.idle + 1 if self.load < IDLE and not self.missed else 0
        if self.load > BUSY or self.missed:
            self.steps = max(1, self.steps // 2)
        elif self.idle >= PATIENCE:
            self.steps, self.idle = min(self.most, self.steps * 2), 0
        self.worked, self.passed, self.missed = 0.0, 0.0, False
        return self.load
