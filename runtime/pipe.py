"""Sound through a pipe: WAV or bare samples come from one program and go, converted, to another, as they come."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.errors import AudioError
from moksori.runtime.stream import Stream

Array = NDArray[np.float32]

READ_BYTES = 1 << 16  # at most at a time; what is there is taken at once
ENDLESS = 0xFFFFFFFF  # a size in a WAV header that is not known yet
LONGEST_CHUNK = 1 << 20  # bytes of a chunk before the samples
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # how WAV codes samples


@dataclass(frozen=True)
class Coding:
    """How samples are stored, channels side by side. ``container`` is "wav" or "raw"."""

    rate: int
    code: str = "s16le"
    channels: int = 1
    container: str = "raw"

    @property
    def width(self) -> int:
        """Bytes of one sample of all channels."""
        return CODES[self.code][1] * self.channels


CODES = {"s16le": (PCM, 2), "s24le": (PCM, 3), "s32le": (PCM, 4), "f32le": (FLOAT, 4)}  # -> WAV's code, bytes


def header(file: BinaryIO) -> Coding:
    """Read the header of a WAV stream, up to its samples.

    Raises:
        AudioError: not WAV, or samples of another kind.
    """
    riff = file.read(12)
    if len(riff) < 12 or riff[:4] not in (b"RIFF", b"RF64") or riff[8:] != b"WAVE":
        raise AudioError("what comes through the pipe is no WAV: send WAV, or name bare samples by --raw and --rate")
    coding = None
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise AudioError("the WAV that comes through the pipe ends before its samples: send all of it")
        name, size = struct.unpack("<4sI", head)
        if name == b"data" and coding is not None:
            return coding
        if name == b"data" or size > LONGEST_CHUNK:
            raise AudioError("the WAV that comes through the pipe is damaged: its samples come before their format")
        body = file.read(size + size % 2)
        if name == b"fmt ":
            coding = _coding(body)


def convert(stream: Stream, source: BinaryIO, target: BinaryIO, coding: Coding) -> None:
    """Give ``target`` what ``source`` holds, converted, as one channel, as long and as coded; each part at once."""
    if coding.container == "wav":
        target.write(_header(coding))
        target.flush()
    late = stream.latency
    for samples in _sung(stream, source, coding):
        fresh = samples[min(late, len(samples)) :]
        late -= len(samples) - len(fresh)
        target.write(encoded(fresh, coding.code))
        target.flush()


def decoded(data: bytes, coding: Coding) -> Array:
    """Bytes of whole samples as the mean of their channels, [n]."""
    kind, size = CODES[coding.code]
    if kind == FLOAT:
        samples = np.frombuffer(data, "<f4")
    elif size == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        samples = wide.view("<i4")[:, 0] / np.float32(2**31)
    else:
        samples = np.frombuffer(data, f"<i{size}") / np.float32(2 ** (8 * size - 1))
    return samples.reshape(-1, coding.channels).mean(1, dtype=np.float32)


def encoded(samples: Array, code: str) -> bytes:
    """Samples [n] within ±1 as bytes."""
    kind, size = CODES[code]
    if kind == FLOAT:
        return samples.astype("<f4").tobytes()
    full = 2 ** (8 * size - 1)
    whole = np.clip(np.round(samples.astype(np.float64) * full), -full, full - 1).astype("<i4")
    return np.ascontiguousarray(whole[:, None].view(np.uint8)[:, :size]).tobytes()


def _sung(stream: Stream, source: BinaryIO, coding: Coding) -> Iterator[Array]:
    rest = b""
    read = getattr(source, "read1", source.read)
    while data := read(READ_BYTES):
        rest += data
        whole = len(rest) // coding.width * coding.width
        if whole:
            yield stream.push(decoded(rest[:whole], coding))
        rest = rest[whole:]
    yield stream.flush()


def _coding(body: bytes) -> Coding:
    if len(body) < 16:
        raise AudioError("the WAV that comes through the pipe is damaged: its format is cut short")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
    if kind == EXTENSIBLE and len(body) >= 26:
        kind = struct.unpack("<H", body[24:26])[0]
    code = next((name for name, (wav, size) in CODES.items() if (wav, 8 * size) == (kind, bits)), None)
    if code is None or not channels:
        raise AudioError(f"WAV of {bits} bits and kind {kind} cannot be read from a pipe: send 16, 24, 32 or float")
    return Coding(rate, code, channels, "wav")


def _header(coding: Coding) -> bytes:
    kind, size = CODES[coding.code]
    parts = struct.pack("<HHIIHH", kind, 1, coding.rate, coding.rate * size, size, 8 * size)
    begin, end = (b"RIFF", ENDLESS, b"WAVE", b"fmt ", 16), (b"data", ENDLESS)
    return struct.pack("<4sI4s4sI", *begin) + parts + struct.pack("<4sI", *end)
