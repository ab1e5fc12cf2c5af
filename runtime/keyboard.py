"""Keys as they are pressed, without Enter, where the input is a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

ESCAPES = {"[A": "up", "[B": "down"}  # what terminals send after ESC


@contextlib.contextmanager
def keys() -> Iterator[Callable[[float], str]]:
    """While entered, gives a function that waits so many seconds at most for a key: a letter, "up", "down", or ""."""
    if not (sys.stdin and sys.stdin.isatty()):
        yield _none
    elif sys.platform == "win32":
        yield _windows
    else:
        import termios
        import tty

        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        try:
            tty.setcbreak(terminal)
            yield _posix
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _none(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _posix(seconds: float) -> str:
    import select

    terminal = sys.stdin.fileno()
    if not select.select([terminal], [], [], seconds)[0]:
        return ""
    pressed = os.read(terminal, 8).decode("utf-8", "ignore")
    return ESCAPES.get(pressed[1:], "") if pressed.startswith("\x1b") else pressed[:1]


def _windows(seconds: float) -> str:
    import msvcrt

    end = time.monotonic() + seconds
    while not msvcrt.kbhit():  # type: ignore[attr-defined]
        if time.monotonic() >= end:
            return ""
        time.sleep(0.02)
    pressed: str = msvcrt.getwch()  # type: ignore[attr-defined]
    if pressed in "\x00\xe0":
        return {"H": "up", "P": "down"}.get(msvcrt.getwch(), "")  # type: ignore[attr-defined]
    return pressed
