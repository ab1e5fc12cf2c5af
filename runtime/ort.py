"""onnxruntime, imported late and once: which package provides it, and what to run when it is missing or doubled."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import sys
from functools import lru_cache
from typing import Any

from moksori.runtime.errors import DeviceError
from moksori.runtime.strict import printable

# package -> the extra that brings it
VARIANTS = {"onnxruntime-gpu": "cuda", "onnxruntime-directml": "directml", "onnxruntime": "cpu"}


@lru_cache(maxsize=1)
def module() -> Any:
    """The onnxruntime module, imported when first needed; refuses two variants at once, since the last one wins."""
    variants = [name for name in VARIANTS if installed(name)]
    if len(variants) > 1:
        raise DeviceError(
            f"{' and '.join(variants)} are both installed and overwrite each other; run: "
            f'pip uninstall -y {" ".join(variants)}   and then: pip install "moksori[{VARIANTS[variants[0]]}]"'
        )
    try:
        import onnxruntime
    except ImportError as error:
        if variants:
            raise DeviceError(
                f"{variants[0]} cannot be loaded ({first_line(error)}); run: "
                f"pip install --force-reinstall {variants[0]}"
                + ("   and install Microsoft's Visual C++ Redistributable" if sys.platform == "win32" else "")
            ) from error
        raise DeviceError(
            'no onnxruntime is installed; run one of: pip install "moksori[cpu]" (any machine), '
            '"moksori[cuda]" (NVIDIA), "moksori[directml]" (Windows), "moksori[webgpu]" (any graphics card)'
        ) from error
    onnxruntime.set_default_logger_severity(4)  # reasons reach people through errors and notices
    _give_memory_back()
    return onnxruntime


def _give_memory_back() -> None:
    """Have glibc return large freed blocks, and keep one heap for all threads: 150 MB less in four minutes.

    Smaller ones it keeps, and 16 MiB of what lies above them: to get each back from the system costs more than most of
    what is done in it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            libc = ctypes.CDLL(None)
            libc.mallopt(_MMAP_THRESHOLD, 1 << 22)
            libc.mallopt(_TRIM_THRESHOLD, 1 << 24)
            libc.mallopt(_ARENA_MAX, 1)


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of malloc.h


def installed(package: str) -> str:
    """The version of an installed package, or nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def require(provider: str, what: str, extra: str) -> None:
    """DeviceError with the pip lines unless the installed onnxruntime was built with ``provider``."""
    if provider in module().get_available_providers():
        return
    others = " ".join(name for name in VARIANTS if installed(name))
    first = f"pip uninstall -y {others}   and then: " if others else ""
    raise DeviceError(f'the installed onnxruntime has no {what}; run: {first}pip install "moksori[{extra}]"')


def first_line(error: BaseException) -> str:
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0][:300])
