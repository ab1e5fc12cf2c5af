"""The life of a training run: kills, locks, full disks and memories, Ctrl-C."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from torch import Tensor, nn
from training import refused, written

from moksori.runtime.errors import MoksoriError
from moksori.train import checkpoint, memory
from moksori.train.checkpoint import State
from moksori.train.cli import main
from moksori.train.denoiser import DenoiserTask
from moksori.train.interrupts import Interrupts
from moksori.train.lock import alone

pytestmark = pytest.mark.usefixtures("same_threads")


def arguments(*given: str | Path | int) -> list[str]:
    return [str(one) for one in (*given, "--threads", 1, "--by-loss")]


def svc_train(*given: str | Path | int) -> Result:
    return CliRunner().invoke(main, arguments(*given))


KILLED = """
import os, signal
from moksori.train import checkpoint
from moksori.train.cli import main

whole = checkpoint.save_file

def half(tensors, path, metadata):
    whole(tensors, path, metadata=metadata)
    if len(checkpoint.steps(path.parent)) == 2:
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_file = half
main()
"""


def test_a_run_killed_while_it_saves_goes_on_bit_for_bit(tiny_data: Path, tmp_path: Path) -> None:
    """The third checkpoint is half written when kill -9 comes; the second is whole, and the half goes."""
    config, folder, reached = written(tmp_path / "tiny.yaml"), tmp_path / "killed" / "denoiser", 4
    given = arguments("denoiser", tiny_data, tmp_path / "killed", "--config", config, "--steps", 100)
    killed = subprocess.run([sys.executable, "-c", KILLED, *given], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint.steps(folder) == [2, reached] and len(list(folder.glob(".*.part*"))) == 1
    for name in ("killed", "straight"):
        result = svc_train("denoiser", tiny_data, tmp_path / name, "--config", config, "--steps", reached + 2)
        assert result.exit_code == 0, result.output
    assert list(folder.glob(".*.part*")) == []
    runs = (tmp_path / name / "denoiser" for name in ("killed", "straight"))
    one, other = (load_file(checkpoint.at(run, reached + 2)) for run in runs)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_second_run_in_the_same_folder_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    config = written(tmp_path / "tiny.yaml")
    with alone(tmp_path / "run" / "denoiser" / ".lock", "busy"):
        refused(
            svc_train("denoiser", tiny_data, tmp_path / "run", "--config", config, "--steps", 1),
            f"another svc-train trains the denoiser of {tmp_path / 'run'}",
        )
    assert svc_train("denoiser", tiny_data, tmp_path / "run", "--config", config, "--steps", 1).exit_code == 0


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    network = nn.Linear(400, 400)
    state = State(network, network, {}, step=1)
    kept = checkpoint.save(tmp_path, state).read_bytes()
    state.step = 2
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(MoksoriError, match=r"00000002.safetensors cannot be written .*it needs 1 MB: free some"):
            checkpoint.save(tmp_path, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.at(tmp_path, 1).name]
    assert checkpoint.at(tmp_path, 1).read_bytes() == kept


def test_memory_that_runs_out_ends_in_advice(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(self: DenoiserTask, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": torch.empty(1 << 55)}

    monkeypatch.setattr(DenoiserTask, "losses", greedy)
    config = written(tmp_path / "tiny.yaml")
    result = svc_train("denoiser", tiny_data, tmp_path / "run", "--config", config, "--steps", 1)
    refused(result, "memory ran out; use --preset low-memory, or halve batch")


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError("std::bad_alloc")]
)
def test_every_kind_of_full_memory_is_known(error: Exception) -> None:
    with pytest.raises(MoksoriError, match="memory ran out"), memory.advised():
        raise error


def test_other_errors_are_not_taken_for_a_full_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory.advised():
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_step_to_be_whole(number: signal.Signals) -> None:
    interrupts, whole = Interrupts(), []
    before = signal.signal(number, signal.default_int_handler)  # a test run in the background ignores SIGINT
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.caught():
            with interrupts.held():
                os.kill(os.getpid(), number)
                whole.append("step")
            whole.append("never")
        with pytest.raises(KeyboardInterrupt), interrupts.caught():
            os.kill(os.getpid(), number)
            whole.append("never")
        assert whole == ["step"]
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
