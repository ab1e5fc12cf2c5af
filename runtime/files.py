"""Files that are either whole or absent: atomic replacement, hashes, UTF-8 JSON."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HASH_BLOCK = 1 << 20  # bytes read at once
_LONGEST_PLAIN = 240  # characters of a path that every Windows takes as it is


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, with its suffix, that takes its place when the block succeeds.

    The folder is made when missing. On any error, Ctrl-C included, the temporary file goes and ``path`` is untouched.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path = reachable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{secrets.token_hex(8)}.part{path.suffix}"
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def reachable(path: Path) -> Path:
    """``path``, in the form in which Windows opens it however long it is."""
    return Path(_extended(str(Path(path).absolute()))) if sys.platform == "win32" else Path(path)


def _extended(text: str) -> str:
    r"""An absolute Windows path behind ``\\?\`` when it is long; shares have a prefix of their own."""
    if len(text) < _LONGEST_PLAIN or text.startswith("\\\\?\\"):
        return text
    return "\\\\?\\UNC\\" + text[2:] if text.startswith("\\\\") else "\\\\?\\" + text


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_json(path: Path, obj: Any) -> None:
    """Write JSON atomically: UTF-8, two-space indent, no NaN (ValueError)."""
    text = json.dumps(obj, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def read_json(path: Path) -> Any:
    """Read UTF-8 JSON; json.JSONDecodeError and UnicodeDecodeError are both ValueError."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
