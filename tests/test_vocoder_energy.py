"""The vocoder's energy distance: least for takes that are as random as recordings are, and what that teaches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from rich.console import Console
from training import data_of

from moksori.runtime.mel import MelSpec
from moksori.train import loop, vocoder
from moksori.train.dataset import PreparedData, Share
from moksori.train.vocoder import VocoderConfig, VocoderTask

SPEC = MelSpec(8_000, 64, 256, 256, 12, 40, 4_000)
NETWORK = {"channels": 32, "hidden": 48, "layers": 1, "kernel": 3}
SECONDS = 4
RESOLUTIONS = ((128, 32), (256, 64))  # the usual ones are longer than these crops


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocoder, "RESOLUTIONS", RESOLUTIONS)


@pytest.fixture
def hiss(tmp_path: Path) -> PreparedData:
    """Recordings of white noise, said to be sung."""
    rng = np.random.default_rng(0)
    sounds = {hertz: 0.1 * rng.standard_normal(SECONDS * SPEC.sample_rate) for hertz in (150.0, 200.0, 250.0)}
    return PreparedData(data_of(tmp_path / "data", SPEC, sounds))


def task(data: PreparedData, energy: bool) -> VocoderTask:
    return VocoderTask(data, VocoderConfig(network=NETWORK, energy=energy, batch=4, frames=32))


def distance(task: VocoderTask, takes: list[torch.Tensor], wanted: torch.Tensor) -> float:
    return float(task._distances(takes, wanted)["loss"])


def test_the_energy_distance_is_least_for_takes_like_the_recordings(hiss: PreparedData) -> None:
    """Noise as loud as the recordings: neither louder nor softer, nor the same noise in both takes."""
    learns = task(hiss, energy=True)
    torch.manual_seed(0)
    wanted, one, other = 0.1 * torch.randn(3, 16, 8_000)
    gains = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5)
    found = {gain: distance(learns, [gain * one, gain * other], wanted) for gain in gains}
    assert min(gains, key=found.__getitem__) == 1.0
    assert found[1.0] < distance(learns, [one, one], wanted) - 0.1


def test_it_teaches_to_make_noise_of_noise(hiss: PreparedData, tmp_path: Path) -> None:
    """Share of the power that comes from the noise source; the network begins with far more from pulses."""
    shares = {}
    for energy in (False, True):
        torch.manual_seed(0)
        learns = task(hiss, energy)
        config = loop.LoopConfig(
            steps=150, learning_rate=8e-3, warmup=1, average=0.9, precision="fp32", validate_every=150, save_every=150
        )
        state = loop.train(learns, config, tmp_path / str(energy), Console(quiet=True))
        assert ("validation/energy" in state.metrics) == energy
        batch = next(learns.batches(Share(), torch.device("cpu")))
        silent = torch.zeros_like(batch["noise"])
        with torch.no_grad():
            parts = [
                learns._synthesise(state.averaged, {**batch, name: silent}).square().mean()
                for name in ("harmonic", "noise")
            ]
        shares[energy] = float(parts[0] / sum(parts))
    assert shares[True] > 0.9 and shares[True] > shares[False] + 0.2, shares
