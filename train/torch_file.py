"""Torch files that others made, read with ``weights_only``: tensors and plain values, and nothing in them is run."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from moksori.runtime.errors import MoksoriError

LARGEST = 2**31  # bytes, unpacked


def read(path: Path, kind: str) -> Any:
    """What is in ``path``, with tensors in memory; ``kind`` is what it should be, for messages.

    Raises:
        MoksoriError: the file is too large, damaged, or wants to run code.
    """
    _check_size(path, kind)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)|[Uu]nsupported (?:global|class) ([\w.]+)", str(error))
        name = next((group for group in wanted.groups() if group), None) if wanted else None
        if name is None:
            raise MoksoriError(f"{path} is damaged or no torch file of weights; get it again") from None
        raise MoksoriError(
            f"{path} wants to run {name} when it is opened, which no weights need; do not use this file"
        ) from None
    except Exception as error:  # torch's reader fails in many ways on damaged files
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise MoksoriError(f"{path} is damaged or no torch file ({reason}); get it again") from None


def _check_size(path: Path, kind: str) -> None:
    """Refuse a file that would unpack to more than memory should hold."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as file:
                size = sum(entry.file_size for entry in file.infolist())
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise MoksoriError(f"{path} is damaged ({error}); get it again") from None
    if size > LARGEST:
        raise MoksoriError(f"{path} unpacks to {size / 2**30:.1f} GiB, which no {kind} has; do not use this file")
