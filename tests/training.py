"""The tiny networks of the tests of svc-train, and the command itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from moksori.train.cli import main

# In single precision wherever they run, so that what is compared is the same to many digits.
LOOP = {
    "precision": "fp32", "schedule": "constant", "warmup": 1, "validate_every": 1000, "save_every": 2, "workers": 1,
}  # fmt: skip
TINY: dict[str, Any] = {"batch": 4, "frames": 32, "network": {"channels": 32, "hidden": 48, "layers": 2, "kernel": 5}}
VOCODER: dict[str, Any] = {
    "batch": 2, "frames": 24, "network": {"channels": 16, "hidden": 24, "layers": 1, "kernel": 3},
}  # fmt: skip


def written(path: Path, **changes: object) -> Path:
    """A YAML config of the tiny denoiser, with changes; those of the loop under "loop"."""
    loop = {**LOOP, **changes.pop("loop", {})}  # type: ignore[dict-item]
    path.write_text(yaml.safe_dump({**TINY, **changes, "loop": loop}), encoding="utf-8")
    return path


def svc_train(*given: str | Path | int) -> Result:
    """The command on one thread; checkpoints are ranked by loss, since conversions take their time."""
    return CliRunner().invoke(main, [str(one) for one in (*given, "--threads", 1, "--by-loss")])


def refused(result: Result, said: str) -> None:
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output
