"""The last stage: a result waits until its loudness is known, and is then written at it, never clipped."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import soxr
from numpy.typing import NDArray

from moksori.runtime import loudness
from moksori.runtime.audio import QUALITY, Writer
from moksori.runtime.errors import AudioError
from moksori.runtime.files import reachable
from moksori.runtime.lufs import Meter

Array = NDArray[np.float32]

BLOCK = 1 << 15  # samples of all channels read back at once
ROUNDS = 4  # the limiter takes loudness away, which more gain gives back, which is limited again
CLOSE = 0.05  # LU
LARGEST_GAIN_DB = 40.0


@dataclass(frozen=True)
class Levels:
    """``loudness`` in LUFS as written; ``gain`` in dB; ``limited`` is the share of samples that the limiter bent."""

    loudness: float
    gain: float
    limited: float


class Master:
    """Collects a stream of [n] or [n, channels] samples at ``rate`` Hz and writes it, whole, at ``goal`` LUFS.

    The samples wait in a file without a name, in the target's folder: nothing is left of it when the process is killed.

    Raises:
        AudioError: nothing can be written there.
    """

    def __init__(self, target: Path, rate: int, channels: int = 1) -> None:
        self.target, self.rate, self.channels = target, rate, channels
        self._meter = Meter(rate)
        self._peak = 0.0

    def __enter__(self) -> Master:
        try:
            folder = reachable(self.target).parent
            folder.mkdir(parents=True, exist_ok=True)
            # __exit__ closes it.
            self._spool: IO[bytes] = tempfile.TemporaryFile(dir=folder)
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def push(self, samples: Array) -> None:
        self._meter.push(samples)
        self._peak = max(self._peak, float(np.abs(samples).max(initial=0)))
        try:
            self._spool.write(np.ascontiguousarray(samples, "<f4").tobytes())
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, writer: Writer, goal: float) -> Levels:
        """All that was pushed into ``writer``, at its rate and at ``goal`` LUFS as far as ±40 dB and the limiter go."""
        found = self._meter.integrated()
        gain = float(np.clip(goal - found, -LARGEST_GAIN_DB, LARGEST_GAIN_DB)) if np.isfinite(found - goal) else 0.0
        found += gain
        if self._peak * 10 ** (gain / 20) > loudness.KNEE:
            for _ in range(ROUNDS):
                found = self._limited_loudness(gain)
                if goal - found < CLOSE or gain >= LARGEST_GAIN_DB:
                    break
                gain = min(LARGEST_GAIN_DB, gain + goal - found)
        bent = total = 0
        for block in self._at_rate(writer.rate):
            loud = loudness.amplified(block, gain)
            bent += int(np.count_nonzero(np.abs(loud) > loudness.KNEE))
            total += loud.size
            writer.write(loudness.limited(loud))
        return Levels(found, gain, bent / max(total, 1))

    def _unwritable(self, error: OSError) -> AudioError:
        return AudioError(f"{self.target} cannot be written ({error.strerror}): choose another place for the output")

    def _limited_loudness(self, gain: float) -> float:
        meter = Meter(self.rate)
        for block in self._blocks():
            meter.push(loudness.limited(loudness.amplified(block, gain)))
        return meter.integrated()

    def _blocks(self) -> Iterator[Array]:
        self._spool.seek(0)
        while data := self._spool.read(4 * (BLOCK // self.channels) * self.channels):
            samples = np.frombuffer(data, "<f4").astype(np.float32)
            yield samples.reshape(-1, self.channels) if self.channels > 1 else samples

    def _at_rate(self, rate: int) -> Iterator[Array]:
        if rate == self.rate:
            yield from self._blocks()
            return
        stream = soxr.ResampleStream(self.rate, rate, self.channels, dtype="float32", quality=QUALITY)
        taken = given = 0
        for block in self._blocks():
            taken += len(block)
            piece = stream.resample_chunk(block)
            given += len(piece)
            yield piece
        rest = stream.resample_chunk(np.zeros((0, self.channels) if self.channels > 1 else 0, np.float32), last=True)
        missing = max(0, round(taken * rate / self.rate) - given)
        yield np.concatenate([rest, np.zeros((missing, *rest.shape[1:]), np.float32)])[:missing]
