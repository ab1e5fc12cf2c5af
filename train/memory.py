"""When memory runs out while training: advice in place of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from moksori.runtime.errors import MoksoriError

SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")  # of torch's RuntimeErrors
ADVICE = "use --preset low-memory, or halve batch (or frames, seconds) in a --config and double loop: accumulate"


@contextmanager
def advised() -> Iterator[None]:
    """MoksoriError with advice in place of the errors that torch and Python raise when memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        text = str(error)
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and not any(sign in text for sign in SIGNS):
            raise
        first = text.strip().splitlines()[0] if text.strip() else "no more is said"
        raise MoksoriError(f"memory ran out; {ADVICE} ({first})") from None
