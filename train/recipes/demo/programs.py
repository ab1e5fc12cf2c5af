"""Programs that a recipe starts, some side by side: none goes on when another fails or the recipe is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import FrameType

import click


class Programs:
    """Python programs that run now. Each is told to stop by SIGTERM, at which svc-train saves what it has learned."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = RLock()  # a signal may come while its own thread holds it
        self._failed: subprocess.CalledProcessError | None = None
        self._stopped = False

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM wait until all that run have told what they saved."""
        before = {number: signal.signal(number, self._asked) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def together(self) -> Iterator[ThreadPoolExecutor]:
        """A pool for what runs beside the main thread. What still runs is stopped when anything fails."""
        with ThreadPoolExecutor() as pool:
            try:
                yield pool
            except Exception:
                self._stop()
                raise

    def run(self, *arguments: str | Path | float, name: str = "") -> None:
        """Run ``python ARGUMENTS``; with ``name``, its lines are passed on with that before them.

        Raises:
            CalledProcessError: it failed, or it was stopped because of the one of which this tells.
        """
        command = [sys.executable, *map(str, arguments)]
        output, errors = (subprocess.PIPE, subprocess.STDOUT) if name else (None, None)
        environment = {**os.environ, "COLUMNS": "160"} if name else None  # or its lines are folded as for a terminal
        with self._lock:
            if self._stopped:
                raise self._failed or KeyboardInterrupt
            process = subprocess.Popen(command, stdout=output, stderr=errors, encoding="utf-8", env=environment)
            self._running.add(process)
        with process:
            for line in process.stdout or ():
                click.echo(f"{name:>8}  {line}", nl=False)
        with self._lock:
            self._running.discard(process)
            if process.returncode and not self._stopped:
                self._failed = subprocess.CalledProcessError(process.returncode, command)
        if process.returncode:
            self._stop()
            raise self._failed or KeyboardInterrupt

    def _stop(self) -> None:
        with self._lock:
            if not self._stopped:  # a second signal would meet one that saves
                self._stopped = True
                for process in self._running:
                    process.terminate()

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self._stop()
        self._stopped = True  # of Ctrl-C a terminal tells all of them itself
        if not self._running:
            raise KeyboardInterrupt
