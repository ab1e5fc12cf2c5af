"""Checkpoints of diff-svc's shape with random weights, for the tests of importing them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

BINS, HIDDEN, CHANNELS, LAYERS, CYCLE = 20, 8, 16, 3, 2
SAID: dict[str, Any] = {
    "audio_sample_rate": 24_000, "hop_size": 240, "fft_size": 512, "win_size": 512, "audio_num_mel_bins": BINS,
    "fmin": 40, "fmax": 8_000, "hidden_size": HIDDEN, "residual_layers": LAYERS, "residual_channels": CHANNELS,
    "dilation_cycle_length": CYCLE, "timesteps": 1000, "K_step": 1000, "max_beta": 0.02, "schedule_type": "linear",
    "spec_min": [-5.0], "spec_max": [0.5], "f0_min": 40.0, "f0_max": 1100.0, "f0_bin": 256, "pndm_speedup": 10,
    "mel_vmin": -6.0, "mel_vmax": 1.5, "use_nsf": True, "no_fs2": True, "use_uv": False, "task_cls": "training.x.Task",
}  # fmt: skip
SHAPES: dict[str, tuple[int, ...]] = {
    "input_projection": (CHANNELS, BINS, 1), "mlp.0": (4 * CHANNELS, CHANNELS), "mlp.2": (CHANNELS, 4 * CHANNELS),
    "skip_projection": (CHANNELS, CHANNELS, 1), "output_projection": (BINS, CHANNELS, 1),
    **{
        f"residual_layers.{i}.{name}": shape
        for i in range(LAYERS)
        for name, shape in {
            "dilated_conv": (2 * CHANNELS, CHANNELS, 3), "diffusion_projection": (CHANNELS, CHANNELS),
            "conditioner_projection": (2 * CHANNELS, HIDDEN, 1), "output_projection": (2 * CHANNELS, CHANNELS, 1),
        }.items()
    },
}  # fmt: skip


def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    made = {}
    for name, shape in SHAPES.items():
        made[f"model.denoise_fn.{name}.weight"] = torch.randn(shape) / math.sqrt(math.prod(shape[1:]))
        made[f"model.denoise_fn.{name}.bias"] = 0.1 * torch.randn(shape[0])
    made["model.fs2.pitch_embed.weight"] = torch.randn(300, HIDDEN)
    made["model.fs2.mel_out.weight"] = torch.randn(BINS, HIDDEN)
    made["model.spec_min"] = torch.linspace(-5, -4, BINS).reshape(1, 1, BINS)
    made["model.spec_max"] = torch.linspace(0, 0.5, BINS).reshape(1, 1, BINS)
    made["model.betas"] = torch.from_numpy(np.linspace(1e-4, 0.02, 1000)).float()
    return made


def write(folder: Path, *, extra: object = None, weights: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """A model's folder; a change to None leaves the key out."""
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = {"state": {0: {"step": 7, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
    whole = {"state_dict": weights or tensors(), "global_step": 12_000, "optimizer_states": [optimizer]}
    torch.save(whole | ({} if extra is None else {"extra": extra}), folder / "model_ckpt_steps_12000.ckpt")
    said = {key: value for key, value in {**SAID, **changes}.items() if value is not None}
    (folder / "config.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    return folder
