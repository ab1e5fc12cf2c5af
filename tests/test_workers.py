"""Worker processes do not outlive the process that began them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moksori.train import workers

ORPHAN = """
import os, sys, time
from moksori.train import workers
if __name__ == "__main__":
    with workers.pool(2) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="asks for a process by a signal")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "orphan.py").write_text(ORPHAN, encoding="utf-8")
    with subprocess.Popen([sys.executable, str(tmp_path / "orphan.py")], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{worker}/stat").exists() and " Z " in Path(f"/proc/{worker}/stat").read_text():
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux what a process ignores")
def test_processes_are_deaf_to_ctrl_c_from_their_first_moment() -> None:
    before = signal.getsignal(signal.SIGINT)
    with workers.pool(2) as pool:
        done = pool.submit(abs, -1)
        assert signal.getsignal(signal.SIGINT) is before
        for pid in list(pool._processes):  # type: ignore[attr-defined]
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
            assert int(ignored, 16) >> (signal.SIGINT - 1) & 1
        assert done.result() == 1
