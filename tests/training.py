"""Tiny networks and data of the tests of svc-train, and the command itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from moksori.runtime.mel import MelSpec
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


def data_of(folder: Path, spec: MelSpec, sounds: Mapping[float, NDArray[np.float64]]) -> Path:
    """A DATA_DIR as svc-prepare writes it, of one slice for each of ``sounds`` (f0 in Hz -> samples)."""
    slices = [
        {"id": str(number), "speaker": "ann", "seconds": len(sound) / spec.sample_rate}
        for number, sound in enumerate(sounds.values())
    ]
    for part in ("audio", "features"):
        (folder / part / "ann").mkdir(parents=True)
    for one, (hertz, sound) in zip(slices, sounds.items(), strict=True):
        soundfile.write(folder / "audio" / "ann" / f"{one['id']}.flac", sound, spec.sample_rate)
        frames = spec.frames(len(sound))
        units = np.zeros((1, frames // 2, 2), np.float16)
        arrays = {"f0": np.full(frames, hertz, np.float32), "voiced": np.ones(frames, bool), "units": units}
        np.savez(folder / "features" / "ann" / f"{one['id']}.npz", **arrays)
    facts = {
        "mel": asdict(spec), "units": {"dimension": 2}, "pitch": {}, "content_sha256": "", "pitch_sha256": "",
        "speakers": [{"name": "ann"}], "statistics": {}, "slices": slices,
    }  # fmt: skip
    (folder / "data.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def tones(spec: MelSpec) -> dict[float, NDArray[np.float64]]:
    """Two seconds each of two tones with overtones."""
    time = np.arange(2 * spec.sample_rate) / spec.sample_rate
    overtones = np.arange(1, 6)[:, None]
    return {
        hertz: 0.2 * (np.sin(2 * np.pi * hertz * overtones * time) / overtones).sum(0) for hertz in (220.0, 275.0)
    }


def refused(result: Result, said: str) -> None:
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output
