"""Audio files in and out, in bounded memory: decode, mix to mono, resample; encode without wrapping."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from moksori.runtime import tags
from moksori.runtime.decoder import BLOCK_FRAMES, decoded, opened
from moksori.runtime.errors import AudioError, OptionError
from moksori.runtime.files import atomic_path
from moksori.runtime.tags import Tags

Array = NDArray[np.float32]

QUALITY = "HQ"  # soxr's 20-bit quality
WAV_LIMIT_BYTES = 2**32 - 4096  # sizes in a WAV header are 32-bit


@dataclass(frozen=True)
class Info:
    """What the header says: rate in Hz, frames per channel (a truncated file holds fewer)."""

    rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


@dataclass(frozen=True)
class Format:
    """How libsndfile names a container, and the sample formats it is written with."""

    container: str
    subtype: str


FORMATS = {
    "wav": Format("WAV", "PCM_24"),
    "flac": Format("FLAC", "PCM_24"),
    "ogg": Format("OGG", "VORBIS"),
    "opus": Format("OGG", "OPUS"),
    "mp3": Format("MP3", "MPEG_LAYER_III"),
}


BITS = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}  # of a sample -> libsndfile's name


def subtype(format: str, bits: str | None) -> str | None:
    """libsndfile's name for samples of ``bits`` in a format, None for the format's own; OptionError if it has none."""
    if bits is None or format not in FORMATS:
        return None
    if bits not in BITS or not soundfile.check_format(FORMATS[format].container, BITS[bits]):
        raise OptionError(f"{format} has no samples of {bits} bits: use 16 or 24 in wav and flac, or float in wav")
    return BITS[bits]


def info(path: Path) -> Info:
    """Rate, channels and length of a file.

    Raises:
        AudioError: missing, a folder, empty, not audio, or without a single sample.
    """
    with opened(Path(path)) as file:
        return Info(file.samplerate, file.channels, file.frames)


def blocks(path: Path, rate: int, seconds: float = 10.0, channel: int | None = None) -> Iterator[Array]:
    """Decode a file as mono float32 at ``rate`` Hz, in blocks [n] of ``seconds`` (the last one shorter).

    Channels are averaged unless one is named. Their total length is the file's, resampled: round(frames · rate / file
    rate), at least 1.
    A truncated file gives what can be decoded, and a warning is logged.

    Raises:
        AudioError: as ``info``; a NaN or infinite sample (its time is named); nothing can be decoded.
    """
    size = max(1, round(seconds * rate))
    held: list[Array] = []
    count = 0
    for piece in _resampled(Path(path), rate, channel):
        held.append(piece)
        count += len(piece)
        if count >= size:
            joined = np.concatenate(held)
            for start in range(0, count - size + 1, size):
                yield joined[start : start + size]
            held = [joined[count - count % size :]]
            count %= size
    if count:
        yield np.concatenate(held)


def read(path: Path, rate: int) -> Array:
    """The whole file as mono float32 [n] at ``rate`` Hz; for short files. Raises as ``blocks``."""
    return np.concatenate(list(blocks(path, rate)))


class Writer:
    """Writes one file, which appears only when the ``with`` block ends well.

    ``write`` takes [n] or [n, channels] float samples. Samples beyond full scale are clipped, never wrapped, and
    counted in ``clipped``. ``frames`` is the expected length, if known: a WAV beyond 4 GiB is then written as RF64.
    ``fields`` are tags.

    Raises:
        OptionError: unknown format.
        AudioError: the path cannot be written, the disk is full, the format cannot hold this rate or length, or a
            sample is not a number.
    """

    def __init__(
        self,
        path: Path,
        rate: int,
        format: str = "wav",
        *,
        subtype: str | None = None,
        channels: int = 1,
        frames: int | None = None,
        fields: Tags = MappingProxyType({}),
    ) -> None:
        if format not in FORMATS:
            raise OptionError(f"format {format!r} is unknown: choose one of {', '.join(FORMATS)}")
        self.path, self.rate, self.channels = Path(path), rate, channels
        self.samples = self.clipped = 0
        self._subtype = subtype or FORMATS[format].subtype
        self._container = FORMATS[format].container
        self._frame_bytes = channels * _BYTES.get(self._subtype, 4)
        if self._container == "WAV" and frames is not None and frames * self._frame_bytes > WAV_LIMIT_BYTES:
            self._container = "RF64"
        self._fields = fields
        self._stack = ExitStack()

    def check(self) -> None:
        """Raise AudioError when no file of this format can have this rate or number of channels; writes nothing."""
        try:
            self._opened(io.BytesIO()).close()
        except (soundfile.SoundFileError, ValueError) as error:
            raise self._impossible() from error

    def __enter__(self) -> Writer:
        if self.path.is_dir():
            raise AudioError(f"{self.path} is a folder: name a file to write")
        try:
            with ExitStack() as stack:
                self._temporary = stack.enter_context(atomic_path(self.path))
                self._temporary.touch()  # says why a path cannot be written, which libsndfile does not
                self._file = self._opened(self._temporary)
                if self._container != "MP3":
                    tags.put(self._file, self._fields)
                self._stack = stack.pop_all()
        except OSError as error:
            raise self._unwritable(error.strerror or str(error)) from error
        except (soundfile.SoundFileError, ValueError) as error:
            raise self._impossible() from error
        return self

    def write(self, samples: NDArray[np.floating]) -> None:
        samples = np.asarray(samples, np.float32)
        if not np.isfinite(samples).all():
            raise AudioError(f"{self.path}: a sample to write is not a number; nothing was written")
        self.clipped += int(np.count_nonzero(np.abs(samples) > 1))
        self.samples += len(samples)
        if self._container == "WAV" and self.samples * self._frame_bytes > WAV_LIMIT_BYTES:
            raise AudioError(f"{self.path} would pass 4 GiB, more than WAV can hold: write FLAC instead")
        samples = np.clip(samples, -1, 1)
        try:
            for start in range(0, len(samples), BLOCK_FRAMES):
                self._file.write(samples[start : start + BLOCK_FRAMES])
        except (soundfile.SoundFileError, AssertionError, OSError) as error:  # a short write is an assertion there
            raise self._unwritable() from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._stack:  # its end puts the file in place, or removes it when anything here raises
                self._file.close()
                if error is not None:
                    raise error
                self._check()
                if self._container == "MP3" and self._fields:
                    tags.put_id3(self._temporary, self._fields)
        except (soundfile.SoundFileError, OSError) as failure:
            if failure is error:
                raise
            raise self._unwritable(getattr(failure, "strerror", None) or "") from failure

    def _opened(self, file: Path | io.BytesIO) -> soundfile.SoundFile:
        return soundfile.SoundFile(file, "w", self.rate, self.channels, self._subtype, format=self._container)

    def _impossible(self) -> AudioError:
        what = f"{self._container} with {self.channels} channel(s) at {self.rate} Hz"
        return AudioError(f"{self.path} cannot be written as {what}: choose another format or rate")

    def _check(self) -> None:
        """A disk that fills up while the header is written is not reported by libsndfile."""
        if self._container in ("WAV", "RF64", "FLAC") and soundfile.info(self._temporary).frames != self.samples:
            raise OSError("short file")

    def _unwritable(self, reason: str = "") -> AudioError:
        try:
            full = shutil.disk_usage(self.path.parent).free < 1 << 20
        except OSError:
            full = False
        reason = "the disk is full" if full else reason or "the write failed"
        return AudioError(f"{self.path} cannot be written ({reason}): choose another place for the output")


_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}


def _resampled(path: Path, rate: int, channel: int | None) -> Iterator[Array]:
    with opened(path) as file:
        source = file.samplerate
        pieces = decoded(file, path, channel)
        if source == rate:
            yield from pieces
            return
        total = given = 0
        stream = soxr.ResampleStream(source, rate, 1, dtype="float32", quality=QUALITY)
        for piece, last in _with_last(pieces):
            total += len(piece)
            out = stream.resample_chunk(piece, last=last)
            length = max(1, round(total * rate / source))
            if last:
                out = np.pad(out, (0, max(0, length - given - len(out))))[: length - given]
            given += len(out)
            if len(out):
                yield out


def _with_last(pieces: Iterable[Array]) -> Iterator[tuple[Array, bool]]:
    """Each piece with whether it is the last one."""
    iterator = iter(pieces)
    previous = next(iterator, None)
    while previous is not None:
        following = next(iterator, None)
        yield previous, following is None
        previous = following
