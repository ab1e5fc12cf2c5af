"""Where voices are found by name: those that came with packages, and those in the user's own folder."""

from __future__ import annotations

import importlib.resources
import os
from pathlib import Path

import platformdirs

from moksori.runtime import manifest
from moksori.runtime.errors import VoiceError
from moksori.runtime.strict import nearest

PACKAGE = "moksori.voices"  # each folder in it is a voice
FOLDER = "MOKSORI_VOICES"  # environment variable


def folder() -> Path:
    """The user's voices: what MOKSORI_VOICES says, else where this system keeps a program's data. It may not exist."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else platformdirs.user_data_path("moksori", appauthor=False) / "voices"


def installed() -> dict[str, Path]:
    """Voices by name: folders that came with packages, and folders and zips of the user, who wins."""
    return {**_packaged(), **_own()}


def locate(voice: str | Path) -> Path:
    """The folder or zip of a voice; a bare text is first an installed voice's name, then a path.

    Raises:
        VoiceError: neither; lists what is installed.
    """
    known = installed() if isinstance(voice, str) else {}
    if isinstance(voice, str) and voice in known:
        return known[voice]
    if isinstance(voice, str) and not Path(voice).exists():
        names = f"; installed: {', '.join(known)}" if known else ""
        raise VoiceError(
            f"there is no voice '{voice}'{nearest(voice, known)}; give a folder or .zip of a voice{names}"
        )
    return Path(voice)


def _packaged() -> dict[str, Path]:
    try:
        folders = [entry for entry in importlib.resources.files(PACKAGE).iterdir() if isinstance(entry, Path)]
    except (ModuleNotFoundError, NotADirectoryError):
        return {}
    return {folder.name: folder for folder in sorted(folders) if (folder / manifest.FILE).is_file()}


def _own() -> dict[str, Path]:
    try:
        entries = sorted(folder().iterdir())
    except OSError:
        return {}
    zips = {path.stem: path for path in entries if path.suffix.lower() == ".zip" and path.is_file()}
    return zips | {path.name: path for path in entries if (path / manifest.FILE).is_file()}
