"""The files of a voice, from a folder or straight out of a zip: bounded reads, nothing followed, nothing unpacked."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from moksori.runtime.errors import VoiceError
from moksori.runtime.strict import printable

LARGEST_TOTAL = 4 * 2**30  # bytes, all entries of a zip together
LARGEST_RATIO = 100  # unpacked to packed; weights compress by 1.1, JSON by 10
RATIO_MATTERS = 2**20  # bytes; smaller entries can do no harm
_ENCRYPTED = 0x1
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a bound
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError)


class Archive(Protocol):
    """Plain file names to bytes."""

    def read(self, name: str, largest: int) -> bytes:
        """The bytes of ``name``; VoiceError when missing, linked, damaged or more than ``largest`` bytes."""
        ...


@contextmanager
def opened(path: Path, manifest: str) -> Iterator[Archive]:
    """The folder or zip at ``path``, whose files lie beside the one named ``manifest``."""
    if path.is_dir():
        yield _Folder(path)
        return
    if not path.is_file():
        raise VoiceError(
            f"there is no voice at {path}; give a voice folder, its .zip, or an installed voice's name"
        )
    try:
        file = zipfile.ZipFile(path)
    except OSError as error:
        raise VoiceError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except _DAMAGE as error:
        raise VoiceError(
            f"{path} is not a zip file or is cut short ({error}); copy or download it again"
        ) from error
    with file:
        yield _Zip(path, file, manifest)


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str, largest: int) -> bytes:
        path = self.path / name
        try:
            status = path.lstat()
        except OSError:
            raise VoiceError(
                f"{self.path} has no {name}, so it is no whole voice; copy or export it again"
            ) from None
        if not stat.S_ISREG(status.st_mode):
            kind = "a link" if stat.S_ISLNK(status.st_mode) else "no plain file"
            raise VoiceError(f"{path} is {kind}, which a voice must not hold; put the file itself there")
        if status.st_size > largest:
            raise VoiceError(
                f"{path} has {status.st_size} bytes where {largest} are right; copy the voice again"
            )
        try:
            return path.read_bytes()
        except OSError as error:
            raise VoiceError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


class _Zip:
    def __init__(self, path: Path, file: zipfile.ZipFile, manifest: str) -> None:
        self.path, self.file = path, file
        entries = file.infolist()
        for entry in entries:
            problem = _problem(entry)
            if problem:
                raise VoiceError(
                    f"{path} holds '{printable(entry.orig_filename)}', {problem}; do not use this file"
                )
        names = [entry.filename for entry in entries]
        if len(set(names)) < len(names):
            raise VoiceError(f"{path} holds two files of the same name; make the zip again")
        if sum(entry.file_size for entry in entries) > LARGEST_TOTAL:
            raise VoiceError(
                f"{path} unpacks to more than {LARGEST_TOTAL // 2**30} GiB; do not use this file"
            )
        self.root = self._root(manifest, names)

    def read(self, name: str, largest: int) -> bytes:
        try:
            entry = self.file.getinfo(str(self.root / name))
        except KeyError:
            raise VoiceError(
                f"{self.path} has no {name}, so it is no whole voice; make the zip again"
            ) from None
        if entry.file_size > largest:
            raise VoiceError(
                f"{name} in {self.path} has {entry.file_size} bytes where {largest} are right; get it again"
            )
        try:
            return self.file.read(entry)  # never more than the size declared above
        except _DAMAGE as error:
            raise VoiceError(
                f"{name} in {self.path} is damaged ({error}); copy or download it again"
            ) from error

    def _root(self, manifest: str, names: list[str]) -> PurePosixPath:
        """Where the voice lies: at the top, or in the one folder that was zipped."""
        homes = [
            path.parent
            for path in map(PurePosixPath, names)
            if path.name == manifest and len(path.parts) <= 2
        ]
        homes = [home for home in homes if home.name != "__MACOSX"]
        if len(homes) != 1:
            found = "no" if not homes else "more than one"
            raise VoiceError(
                f"{self.path} holds {found} {manifest}; a voice zip has one, at the top or in one folder"
            )
        return homes[0]


def _problem(entry: zipfile.ZipInfo) -> str | None:
    name = entry.orig_filename
    parts = name.rstrip("/").split("/")
    if "\\" in name or "\0" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        return "a path that leaves the folder"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "a link"
    if entry.flag_bits & _ENCRYPTED:
        return "which is encrypted"
    if entry.compress_type not in _COMPRESSIONS:
        return "packed in a way other than deflate"
    if entry.file_size > RATIO_MATTERS and entry.file_size > LARGEST_RATIO * max(entry.compress_size, 1):
        return f"which unpacks to more than {LARGEST_RATIO} times its size"
    return None
