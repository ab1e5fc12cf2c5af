"""Our WaveNet with the summing conditioner against diff-svc's published formulas, written out with plain arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from moksori.export import denoiser as exporting
from moksori.models.conditioner import CoarsePitch, Conditioner, ConditionerConfig
from moksori.models.wavenet import WaveNetConfig, WaveNetDenoiser
from moksori.runtime.mel import MelSpec

BINS, HIDDEN, CHANNELS, LAYERS, CYCLE = 12, 10, 16, 5, 4
CONFIG = WaveNetConfig(
    BINS, units=HIDDEN, speakers=1, channels=CHANNELS, layers=LAYERS, dilation_cycle=CYCLE, time_scale=1,
    conditioner=ConditionerConfig("sum", channels=HIDDEN, f0_bins=256, f0_min=40, f0_max=1100),
)  # fmt: skip
Array = np.ndarray


@pytest.fixture(scope="module")
def network() -> WaveNetDenoiser:
    torch.manual_seed(0)
    made = WaveNetDenoiser(CONFIG)
    for parameter in made.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    encoder = made.get_submodule("conditioner.units_in")
    encoder.weight.data, encoder.bias.data = torch.eye(HIDDEN), torch.zeros(HIDDEN)
    made.get_submodule("conditioner.speaker_in").weight.data.zero_()  # type: ignore[operator]
    return made.eval()


def conv(x: Array, weight: Array, bias: Array, dilation: int = 1) -> Array:
    """[C, T] by [O, C, k] with zeros beyond the ends."""
    reach = (weight.shape[2] - 1) // 2 * dilation
    padded = np.pad(x, ((0, 0), (reach, reach)))
    columns = [padded[:, k * dilation : k * dilation + x.shape[1]] for k in range(weight.shape[2])]
    return sum(weight[:, :, k] @ column for k, column in enumerate(columns)) + bias[:, None]


def mish(x: Array) -> Array:
    return x * np.tanh(np.log1p(np.exp(x)))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def coarse(f0: Array) -> Array:
    m, low, high = (1127 * np.log(1 + np.asarray(hertz) / 700) for hertz in (f0, 40, 1100))
    return np.floor(np.clip((m - low) * 254 / (high - low) + 1, 1, 255) + 0.5).astype(int)


def stated(w: dict[str, Array], x: Array, t: int, units: Array, mel2ph: Array, f0: Array) -> Array:
    """Noise [M, T] of diff-svc's denoiser: step embedding, residual layers, skips."""
    half = CHANNELS // 2
    e = np.exp(-np.arange(half) * np.log(10_000) / (half - 1))
    step = np.concatenate([np.sin(t * e), np.cos(t * e)])
    step = w["time.3.weight"] @ mish(w["time.1.weight"] @ step + w["time.1.bias"]) + w["time.3.bias"]
    pitch = w["conditioner.pitch_table.rows.weight"][coarse(f0)]
    condition = ((np.concatenate([np.zeros((1, HIDDEN)), units])[mel2ph] + pitch) * (mel2ph > 0)[:, None]).T
    y = np.maximum(conv(x, w["input_projection.weight"], w["input_projection.bias"]), 0)
    total = np.zeros_like(y)
    for i in range(LAYERS):
        projection = slice(i * 2 * CHANNELS, (i + 1) * 2 * CHANNELS)
        name = f"layers.{i}."
        z = y + (w[name + "diffusion_projection.weight"] @ step + w[name + "diffusion_projection.bias"])[:, None]
        z = conv(z, w[name + "dilated_conv.weight"], w[name + "dilated_conv.bias"], 2 ** (i % CYCLE))
        z = z + w["conditioner.out.weight"][projection] @ condition + w["conditioner.out.bias"][projection][:, None]
        gate, filtered = z[:CHANNELS], z[CHANNELS:]
        z = sigmoid(gate) * np.tanh(filtered)
        z = conv(z, w[name + "output_projection.weight"], w[name + "output_projection.bias"])
        y, total = (y + z[:CHANNELS]) / np.sqrt(2), total + z[CHANNELS:]
    total = np.maximum(conv(total / np.sqrt(LAYERS), w["skip_projection.weight"], w["skip_projection.bias"]), 0)
    return conv(total, w["output_projection.weight"], w["output_projection.bias"])


@pytest.mark.parametrize("t", [0, 1, 480, 999])
def test_it_is_the_published_network(network: WaveNetDenoiser, t: int) -> None:
    rng = np.random.default_rng(t)
    frames = 40
    x, units = rng.standard_normal((BINS, frames)), rng.standard_normal((9, HIDDEN))
    mel2ph = np.concatenate([[0, 0], np.sort(rng.integers(1, 10, frames - 4)), [0, 0]])
    f0 = np.concatenate([[0, 20, 5_000], rng.uniform(40, 1100, frames - 3)])
    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
    wanted = stated(weights, x, t, units, mel2ph, f0)
    single = [torch.from_numpy(value)[None].float() for value in (units, f0, x)]
    level = torch.full((1, frames), -20.0)
    with torch.inference_mode():
        condition = network.conditioner(
            single[0], torch.from_numpy(mel2ph)[None], single[1], level, level, torch.ones(1, 1)
        )
        found = network(single[2], torch.tensor([float(t)]), condition)[0]
    assert np.abs(found.numpy() - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_inputs_that_it_does_not_hear_are_named(network: WaveNetDenoiser) -> None:
    assert network.conditioner.silent == {"voiced", "loudness", "speaker"}
    assert Conditioner(4, 1, 8, 8, ConditionerConfig()).silent == frozenset()


def test_it_becomes_graphs(network: WaveNetDenoiser, tmp_path: Path) -> None:
    """Both are proved against torch by the exporter itself, at every time up to 999."""
    mel = MelSpec(sample_rate=24_000, hop=240, n_fft=512, win=512, bins=BINS, fmin=40, fmax=8_000)
    facts = exporting.DenoiserFacts("wavenet", "epsilon", mel, HIDDEN, 1, channels=LAYERS * 2 * CHANNELS)
    proof = exporting.export_denoiser(network, facts, tmp_path / "condition.onnx", tmp_path / "denoiser.onnx")
    assert proof.condition.worst < 1e-4 and proof.denoiser.worst < 1e-4
    assert proof.condition_context == 0
    assert proof.context == 1 + 2 + 4 + 8 + 1


def test_coarse_pitch_bins() -> None:
    table = CoarsePitch(ConditionerConfig(f0_min=40, f0_max=1100), 1)
    table.rows.weight.data = torch.arange(256.0)[:, None]
    found = table(torch.tensor([[0.0, 40.0, 1100.0, 9000.0, 220.0]]))[0, :, 0]
    assert found.tolist() == [1, 1, 255, 255, coarse(np.array([220.0]))[0]]


def test_ours_can_hear_coarse_pitch_too() -> None:
    """Two f0 within a bin are one; across bins they differ."""
    torch.manual_seed(1)
    made = Conditioner(4, 1, 8, 8, ConditionerConfig(pitch="coarse"))
    units, ones = torch.randn(1, 3, 4), torch.ones(1, 3)
    near, same, far = (
        made(units, torch.tensor([[1, 2, 3]]), torch.full((1, 3), hertz), ones, ones, torch.ones(1, 1))
        for hertz in (220.0, 220.2, 240.0)
    )
    assert torch.equal(near, same)
    assert not torch.allclose(near, far, atol=1e-3)
