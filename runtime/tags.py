"""What a result says about itself: the source's own tags, and in a comment the voice and settings that made it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import soundfile

from moksori.runtime.files import atomic_path

Tags = Mapping[str, str]  # libsndfile's names of fields

SOFTWARE = f"Moksori {importlib.metadata.version('moksori')}"
MARK = "Sung by Moksori"  # a comment of ours begins so
KEPT = ("title", "artist", "album", "date", "tracknumber", "genre")
LONGEST = 1000  # characters of one field; a damaged file may hold anything
# ID3v2.4 frames (id3.org, 2000).
_FRAMES = {"title": "TIT2", "artist": "TPE1", "album": "TALB", "date": "TDRC", "tracknumber": "TRCK", "genre": "TCON"}
_FRAMES |= {"software": "TSSE", "copyright": "TCOP"}
_UTF8 = b"\x03"


def comment(settings: Mapping[str, object]) -> str:
    """``Sung by Moksori: voice=demo; key=+2`` of {"voice": "demo", "key": "+2"}."""
    return f"{MARK}: " + "; ".join(f"{name}={value}" for name, value in settings.items())


def read(path: Path) -> Tags:
    """The fields of a file; none where it has none or cannot be read."""
    try:
        with soundfile.SoundFile(path) as file:
            fields = file.copy_metadata()
    except (OSError, soundfile.SoundFileError, TypeError, ValueError):
        return MappingProxyType({})
    return MappingProxyType({name: _text(value) for name, value in fields.items()})


def of_result(source: Path, settings: Mapping[str, object]) -> Tags:
    """What to write into the result of ``source``: its own title and the like, and how it was sung."""
    own = read(source)
    fields = {name: own[name] for name in KEPT if own.get(name)}
    return MappingProxyType({"title": source.stem, **fields, "software": SOFTWARE, "comment": comment(settings)})


def ours(path: Path) -> bool:
    """Whether Moksori made a file."""
    return read(path).get("comment", "").startswith(MARK)


def made_with(path: Path, settings: Mapping[str, object]) -> bool:
    """Whether Moksori made a file with just these settings."""
    return read(path).get("comment", "").partition("; sung=")[0] == comment(settings)


def put(file: soundfile.SoundFile, tags: Tags) -> None:
    """Set the fields of an open file before its first sample; a format leaves out what it cannot keep."""
    for name, value in tags.items():
        with contextlib.suppress(soundfile.SoundFileError):
            setattr(file, name, value)


def put_id3(path: Path, tags: Tags) -> None:
    """Set the fields of a finished MP3 as ID3v2.4 in UTF-8; libsndfile's own would be Latin-1 and lose letters."""
    frames = b"".join(_frame(_FRAMES[name], _UTF8 + value.encode()) for name, value in tags.items() if name in _FRAMES)
    if "comment" in tags:
        frames += _frame("COMM", _UTF8 + b"und\0" + tags["comment"].encode())
    with atomic_path(path) as temporary, temporary.open("wb") as file, path.open("rb") as sound:
        file.write(b"ID3\x04\x00\x00" + _synchsafe(len(frames)) + frames)
        shutil.copyfileobj(sound, file)


def _frame(name: str, body: bytes) -> bytes:
    return name.encode() + _synchsafe(len(body)) + b"\0\0" + body


def _synchsafe(number: int) -> bytes:
    """Seven bits to a byte, so that no tag looks like sound."""
    return bytes((number >> shift) & 0x7F for shift in (21, 14, 7, 0))


def _text(value: str) -> str:
    return "".join(letter for letter in value if letter.isprintable())[:LONGEST]
