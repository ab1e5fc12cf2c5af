"""Where a voice is written: a folder or a zip that is there whole or not at all."""

from __future__ import annotations

import secrets
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moksori.export.graph import ExportError
from moksori.runtime import manifest
from moksori.runtime.files import atomic_path

ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # one time for every entry, so that equal voices are equal zips


@contextmanager
def whole(target: Path, force: bool) -> Iterator[Path]:
    """A new folder that becomes ``target`` (folder or zip) when the block succeeds; on error nothing stays."""
    _check_target(target, force)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{secrets.token_hex(8)}.part"
    part.mkdir()
    try:
        yield part
        if target.suffix == ".zip":
            _zip(part, target)
        else:
            _replace(target, part)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_target(target: Path, force: bool) -> None:
    if not target.exists():
        return
    if not force:
        raise ExportError(f"{target} exists; use --force to replace it")
    if target.is_dir() and any(target.iterdir()) and not (target / manifest.FILE).is_file():
        raise ExportError(
            f"{target} holds something else than a voice and will not be replaced; choose another name"
        )
    if target.is_dir() == (target.suffix == ".zip"):
        raise ExportError(f"{target} is {'a folder' if target.is_dir() else 'a file'}; choose another name")


def _replace(target: Path, part: Path) -> None:
    old = target.parent / f".{secrets.token_hex(8)}.old"
    if target.exists():
        target.rename(old)
    try:
        part.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _zip(folder: Path, target: Path) -> None:
    with atomic_path(target) as path, zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(file.name, ZIP_TIME)
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
