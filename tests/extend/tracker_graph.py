"""The graph of tracker.py, which svc-prepare takes by its file: ``write_graph(Path("pitch.onnx"))``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from moksori.export.graph import Axis, GraphSpec, Lengths, Port, Proof, write

WINDOW, LAGS = 1024, 322


class Autocorrelation(nn.Module):
    """Windows [F, 1024] -> correlation [F, 322] at each lag, of the sound alone: the window's own is divided out."""

    window: Tensor
    to_power: Tensor
    to_lags: Tensor

    def __init__(self) -> None:
        super().__init__()
        window = np.hanning(WINDOW)
        waves = np.exp(2j * np.pi * np.outer(np.arange(WINDOW), np.arange(WINDOW // 2 + 1)) / WINDOW)
        back = np.cos(2 * np.pi * np.outer(np.arange(WINDOW // 2 + 1), np.arange(LAGS)) / WINDOW)
        back[1:-1] *= 2  # frequencies of which the transform has two
        own = (np.abs(window @ waves) ** 2) @ back
        parts = {"window": window, "to_power": np.hstack([waves.real, waves.imag]), "to_lags": back / own * own[0]}
        for name, array in parts.items():
            self.register_buffer(name, torch.from_numpy(array.astype(np.float32)))

    def forward(self, windows: Tensor) -> Tensor:
        waves = (windows * self.window) @ self.to_power
        real, imaginary = waves.chunk(2, dim=-1)
        correlation = (real.square() + imaginary.square()) @ self.to_lags
        out: Tensor = correlation / (correlation[:, :1] + 1e-6)
        return out


def draw(lengths: Lengths, generator: torch.Generator) -> tuple[Tensor, ...]:
    return (0.1 * torch.randn(lengths["frames"], WINDOW, generator=generator),)


def write_graph(path: Path) -> Proof:
    spec = GraphSpec(
        role="pitch",
        kind="autocorrelation",
        inputs=(Port("windows", ("frames", WINDOW)),),
        outputs=(Port("correlation", ("frames", LAGS)),),
        axes=(Axis("frames", traced=3, unseen=(1, 5, 17)),),
        draw=draw,
        metadata={"sample_rate": "16000", "window": str(WINDOW)},
    )
    return write(Autocorrelation(), spec, path)
