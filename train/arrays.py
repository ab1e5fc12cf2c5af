"""Arrays of an npz file, for threads.

Numpy reads headers with ``ast``, which in many a Python fails now and then when two threads use it at once
("AST constructor recursion depth mismatch", CPython issue 106905).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

HEADER = re.compile(rb"\{'descr': '([^'O]+)', 'fortran_order': False, 'shape': \(([\d, ]*)\), \}\s*")


def read(path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """The arrays ``names`` of a file that numpy's savez wrote; they cannot be written to.

    Raises:
        OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error: it is missing or damaged.
    """
    with zipfile.ZipFile(path) as archive:
        return [_array(archive, f"{name}.npy") for name in names]


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """See numpy.lib.format: magic and version, length of the header, header, data."""
    with archive.open(name) as file:
        version = npy.read_magic(file)
        size = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
        header = HEADER.fullmatch(file.read(size))
        if header is None:
            raise ValueError(f"{name} has an unusual header")
        shape = tuple(int(part) for part in header[2].split(b",") if part.strip())
        return np.frombuffer(file.read(), np.dtype(header[1].decode())).reshape(shape)
