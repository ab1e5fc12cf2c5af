"""Steps that are shared out: over processes, over parts of a batch, and computed in half precision."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training import LOOP, VOCODER, svc_train, written

from moksori.runtime.files import read_json
from moksori.train import checkpoint

pytestmark = pytest.mark.usefixtures("same_threads")


def begin(*given: str | Path | int, **environment: str) -> subprocess.Popen[str]:
    """svc-train in a process of its own."""
    command = [sys.executable, "-m", "moksori.train.cli", *map(str, given), "--threads", "1", "--by-loss"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
    )


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "audio": 0})
    found.Reload()
    return found


def test_two_processes_learn_what_one_learns_of_double_batches(tiny_data: Path, tmp_path: Path) -> None:
    """The environment is what torchrun and accelerate launch set."""
    loop = {"validate_every": 1, "save_every": 100, "learning_rate": 1e-3}
    half, whole = written(tmp_path / "half.yaml", loop=loop), written(tmp_path / "whole.yaml", loop=loop, batch=8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    given = "denoiser", tiny_data, tmp_path / "two", "--config", half, "--steps", 6
    both = [begin(*given, RANK=str(rank), LOCAL_RANK=str(rank), **place) for rank in (0, 1)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "step 6/6" in said[0] and said[1].count("step") == 0
    one = svc_train("denoiser", tiny_data, tmp_path / "one", "--config", whole, "--steps", 6)
    assert one.exit_code == 0, one.output
    for name in ("train/loss", "validation/loss"):
        first, second = ([e.value for e in events(tmp_path / run / "denoiser").Scalars(name)] for run in ("one", "two"))
        assert len(first) == 6
        np.testing.assert_allclose(second, first, rtol=2e-4)
    assert len(set(first)) == 6
    assert checkpoint.steps(tmp_path / "two" / "denoiser") == [4, 5, 6]  # the first process alone writes, and keeps 3


def test_gradients_accumulate_to_those_of_the_whole_batch(tiny_data: Path, tmp_path: Path) -> None:
    for name, changes in {"whole": {"batch": 8}, "parts": {"batch": 2, "loop": {"accumulate": 4}}}.items():
        config = written(tmp_path / f"{name}.yaml", **changes)
        assert svc_train("denoiser", tiny_data, tmp_path / name, "--config", config, "--steps", 2).exit_code == 0
    one, other = (load_file(checkpoint.at(tmp_path / name / "denoiser", 2)) for name in ("whole", "parts"))
    for name in one:
        if name.endswith(".exp_avg"):  # a mean of gradients
            scale = float(one[name].abs().max())
            torch.testing.assert_close(other[name], one[name], rtol=0, atol=2e-3 * scale + 1e-7)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_like_single(tiny_data: Path, tmp_path: Path, precision: str) -> None:
    losses = {}
    for name in ("fp32", precision):
        config = written(tmp_path / f"{name}.yaml", loop={"precision": name, "validate_every": 1})
        for steps in (2, 4):  # the second time from a checkpoint, with the scaler's state
            result = svc_train("denoiser", tiny_data, tmp_path / name, "--config", config, "--steps", steps)
            assert result.exit_code == 0, result.output
        losses[name] = read_json(tmp_path / name / "denoiser" / checkpoint.BEST)["validation/loss"]
        kept = load_file(checkpoint.at(tmp_path / name / "denoiser", 4))
        assert {value.dtype for key, value in kept.items() if key.startswith("network.")} == {torch.float32}
    np.testing.assert_allclose(losses[precision], losses["fp32"], rtol=0.02)
    assert losses[precision] != losses["fp32"]


def test_the_vocoder_learns_in_half_precision(tiny_data: Path, tmp_path: Path) -> None:
    config = {**VOCODER, "loop": {**LOOP, "precision": "bf16"}}
    (tmp_path / "v.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    result = svc_train("vocoder", tiny_data, tmp_path / "run", "--config", tmp_path / "v.yaml", "--steps", 2)
    assert result.exit_code == 0, result.output
