"""f0 as a table that people can read, draw and edit: ``time,f0`` in seconds and Hz, 0 where nothing is sung."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import pitch
from moksori.runtime.errors import OptionError
from moksori.runtime.files import atomic_path
from moksori.runtime.pitch import Track

Array = NDArray[np.float32]

HEAD = "time,f0"
SUFFIX = ".f0.csv"
LOWEST_HZ, HIGHEST_HZ = 20.0, 5000.0
LARGEST_BYTES = 200 * 2**20  # ten million points, a day of song
SEPARATORS = "\t;,"  # the first of these that a line has parts its cells


def heard(blocks: Iterable[Array], tracker: pitch.Tracker) -> Iterator[tuple[NDArray[np.floating], Array, Array]]:
    """Times [k] in s, f0 [k] in Hz and confidence [k] of a stream of 16 kHz blocks, block by block."""
    start = 0
    for block in blocks:
        track = tracker.track(block)
        count = int(np.searchsorted(track.times, len(block) / pitch.RATE))  # the next block has the last one again
        yield track.times[:count] + start / pitch.RATE, track.f0[:count], track.confidence[:count]
        start += len(block)


def write(path: Path, times: NDArray[np.floating], f0: Array, voiced: NDArray[np.bool_]) -> None:
    """Write a curve, all [T], atomically. Times have 0.1 ms, f0 0.001 Hz: a hundredth of a cent at 170 Hz."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        print(HEAD, file=file)
        for time, hertz, sung in zip(times, f0, voiced, strict=True):
            print(f"{time:.4f},{hertz:.3f}" if sung else f"{time:.4f},0", file=file)


def read(path: Path) -> Track:
    """A curve as ``write`` leaves it, or as a spreadsheet does: any points in time order, commas, semicolons or tabs.

    Between two voiced points the pitch glides; a point of 0 Hz, or of none, makes its surroundings unvoiced.

    Raises:
        OptionError: unreadable, no numbers, times that do not rise, or pitches that no voice has; names the line.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise OptionError(f"{path} has more than {LARGEST_BYTES >> 20} MiB, so it is no f0 curve")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise OptionError(f"{path} cannot be read ({error.strerror}): check the name of the f0 curve") from error
    except UnicodeDecodeError as error:
        raise OptionError(f"{path} is no text in UTF-8: save the f0 curve as CSV UTF-8") from error
    points = [_point(line, f"line {at} of {path}") for at, line in enumerate(lines, 1) if _counts(line, at)]
    if not points:
        raise OptionError(f"{path} has no points: write lines such as 1.25,220 (seconds, Hz)")
    times, f0 = np.array(points, np.float64).T
    backwards = np.flatnonzero(np.diff(times) <= 0)
    if len(backwards):
        raise OptionError(f"the times of {path} must rise, and {times[backwards[0] + 1]:g} s does not")
    return Track(times, np.where(f0 > 0, f0, 220).astype(np.float32), (f0 > 0).astype(np.float32))


def _counts(line: str, number: int) -> bool:
    """Whether a line holds a point: empty ones, comments and the head do not."""
    text = line.strip()
    return bool(text) and not text.startswith("#") and not (number == 1 and text[0].isalpha())


def _point(line: str, where: str) -> tuple[float, float]:
    mark = next((mark for mark in SEPARATORS if mark in line.strip()), ",")
    cells = [cell.strip().strip('"') for cell in line.strip().split(mark)]
    if mark != ",":  # where a comma does not part cells, it parts decimals
        cells = [cell.replace(",", ".") for cell in cells]
    try:
        time, hertz = float(cells[0]), float(cells[1] or 0) if len(cells) > 1 else math.nan
    except ValueError:
        time = hertz = math.nan
    if not (math.isfinite(time) and math.isfinite(hertz)):
        raise OptionError(f"{where} is no time and f0: write lines such as 1.25,220 (seconds, Hz)")
    if hertz != 0 and not LOWEST_HZ <= hertz <= HIGHEST_HZ:
        raise OptionError(f"{where} asks for {hertz:g} Hz: give {LOWEST_HZ:g} to {HIGHEST_HZ:g}, or 0 for no pitch")
    return time, hertz
