"""Opens any file with sound: libsndfile for what it knows, PyAV for the rest; decodes it to mono, block by block."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from moksori.runtime import video
from moksori.runtime.errors import AudioError
from moksori.runtime.files import reachable

Array = NDArray[np.float32]
File: TypeAlias = soundfile.SoundFile | video.Stream

log = logging.getLogger(__name__)

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 3_072_000
BLOCK_FRAMES = 1 << 13  # decoded or encoded at once; long ones overflow the stack of libsndfile's Vorbis encoder
SUFFIXES = frozenset(  # what a folder of recordings may hold, readable or not; files of other names are notes
    f".{name}" for name in "wav wave flac ogg oga opus mp3 aif aiff aifc au caf w64 rf64".split()
) | (video.SUFFIXES - {".ts"})  # a folder may well hold TypeScript
_UNKNOWN_FRAMES = 2**62  # libsndfile reports about 2**63 when a stream does not tell its length


@contextmanager
def opened(path: Path) -> Iterator[File]:
    """An open file that holds at least one frame, or an AudioError in one sentence."""
    path = reachable(path)
    if path.is_dir():
        raise AudioError(f"{path} is a folder: name an audio file")
    try:
        if path.stat().st_size == 0:
            raise AudioError(f"{path} is empty (0 bytes): export or download it again")
    except FileNotFoundError as error:
        raise AudioError(f"{path} does not exist: check the name") from error
    except (OSError, ValueError) as error:
        raise AudioError(f"{path} cannot be read ({error}): check the name and its permissions") from error
    with _decoder(path) as file:
        if file.frames <= 0:
            raise AudioError(f"{path} holds no sound (0 samples): record or export it again")
        if not LOWEST_RATE_HZ <= file.samplerate <= HIGHEST_RATE_HZ:
            raise AudioError(f"{path} says its sample rate is {file.samplerate} Hz, which is damage: export it again")
        yield file


def is_audio(path: Path) -> bool:
    """Whether a file in a folder is meant to be heard, by its name; hidden ones are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def decoded(file: File, path: Path, channel: int | None = None) -> Iterator[Array]:
    """Pieces [n] of one channel, or of the mean of all, at the file's own rate, until the end or the first frame that
    cannot be decoded."""
    expected = _declared_frames(file)
    position = 0
    while True:
        try:
            piece = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        except soundfile.SoundFileError:  # FLAC cut short: the decoder loses its place
            break
        if not len(piece):
            break
        if not np.isfinite(piece).all():
            time = (position + int(np.isfinite(piece).all(axis=1).argmin())) / file.samplerate
            raise AudioError(f"{path} has a NaN or infinite sample at {time:.3f} s: repair or export it again")
        position += len(piece)
        one = 0 if file.channels == 1 else channel
        yield piece.mean(axis=1, dtype=np.float32) if one is None else np.ascontiguousarray(piece[:, one])
    if position == 0:
        raise AudioError(f"{path} is damaged, nothing in it can be decoded: export or download it again")
    if expected < _UNKNOWN_FRAMES and position < expected:
        length, whole = position / file.samplerate, expected / file.samplerate
        log.warning("%s is cut short: %.2f s of %.2f s can be decoded, the rest is missing", path, length, whole)


def _decoder(path: Path) -> File:
    """libsndfile for what it knows, PyAV for the sound of films and phones."""
    try:
        return _Sequential(path if os.name == "nt" else os.fsencode(path))  # a name that is no UTF-8 must do as well
    except (soundfile.SoundFileError, TypeError, ValueError) as error:  # TypeError: headerless audio by its suffix
        try:
            path.open("rb").close()
        except OSError as reason:
            raise AudioError(f"{path} cannot be read ({reason.strerror}): check its permissions") from reason
        if path.suffix.lower() in video.SUFFIXES:
            return video.Stream(path)
        raise AudioError(f"{path} is not audio that can be read here: convert it to WAV or FLAC first") from error


class _Sequential(soundfile.SoundFile):
    """soundfile seeks to where it is after each read, which makes libsndfile's MP3 decoder click at every block."""

    def seekable(self) -> bool:
        return False


def _declared_frames(file: File) -> int:
    """Length by the header; libsndfile lowers ``frames`` to what is there and tells the rest only in its log."""
    if isinstance(file, video.Stream):
        return file.frames - file.samplerate  # containers count the encoder's padding, and round
    match = re.search(r"^ *(?:data|SSND) *: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if match is None or int(match[1]) >= 2**32 - 2**16:  # written to a pipe: the length was never known
        return int(file.frames)
    declared, real = int(match[1]), max(1, int(match[2]))
    return round(file.frames * declared / real)
