"""NSF-HiFiGAN against numpy: its sources in float64, a residual block by hand, and the names of published weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal

from moksori.models import nsf_hifigan
from moksori.models.nsf_hifigan import HarmonicSource, NsfHifiGan, NsfHifiGanConfig, ResBlock1, SineSource
from moksori.runtime import source
from moksori.runtime.mel import MelSpec

RATE, HOP, FRAMES = 8_000, 64, 12
CONFIG = NsfHifiGanConfig(6, RATE, (4, 4, 2, 2), (8, 8, 4, 4), 32, "1", (3, 5), ((1, 3), (1, 3)))
SPEC = MelSpec(RATE, HOP, 256, 256, 6, 40, 4_000)
F0 = np.array([200, 210, 230, 0, 0, 90, 95, 400, 800, 790, 300, 310.0])


@pytest.fixture(autouse=True)
def same_weights() -> None:
    torch.manual_seed(0)


def test_the_published_size() -> None:
    with torch.device("meta"):
        network = NsfHifiGan(NsfHifiGanConfig())
    plain = sum(p.numel() for name, p in network.named_parameters() if not name.endswith("original0"))
    assert plain / 1e6 == pytest.approx(14.2, abs=0.05)
    assert NsfHifiGanConfig().hop == 512


def test_the_harmonic_source_by_hand() -> None:
    """Nine sines whose phase is a running sum over samples, silent and noisy where there is no f0, merged by tanh."""
    made = HarmonicSource(CONFIG)
    noise = np.random.default_rng(0).standard_normal((FRAMES, HOP))
    start = 0.3
    phase = (start + source.frame_phases(F0.astype(np.float32), SPEC)) % 1
    given = (torch.tensor(value, dtype=torch.float32)[None] for value in (F0, phase, noise))
    with torch.no_grad():
        found = made(*given)[0].numpy()
    hertz = np.repeat(F0, HOP)
    cycles = start + np.cumsum(hertz / RATE)
    offsets = 2 * np.pi * (np.arange(9) * (np.sqrt(5) - 1) / 2)
    sines = 0.1 * np.sin(2 * np.pi * np.outer(cycles, np.arange(1, 10)) + offsets) * (hertz > 0)[:, None]
    weight, bias = made.l_linear.weight.detach().numpy()[0], made.l_linear.bias.item()
    deviation = np.where(hertz > 0, 0.003, 0.1 / 3) * np.linalg.norm(weight)
    np.testing.assert_allclose(found, np.tanh(sines @ weight + bias + deviation * noise.ravel()), atol=2e-5)


def test_the_mini_source_by_hand() -> None:
    """One sine at rate/4, its f0 a line from frame to frame."""
    config = dataclasses.replace(CONFIG, mini=True)
    made, steps, rate = SineSource(config), 16, RATE / 4
    phase = source.frame_phases(F0.astype(np.float32), SPEC, (steps - 1) / (2 * steps)) % 1
    with torch.no_grad():
        found = made(*(torch.tensor(value, dtype=torch.float32)[None] for value in (F0, phase)))[0].numpy()
    ends = np.append(F0[1:], F0[-1])
    hertz = (F0[:, None] + (ends - F0)[:, None] * np.arange(steps) / steps).ravel()
    np.testing.assert_allclose(found, np.sin(2 * np.pi * np.cumsum(hertz / rate)), atol=1e-4)


def test_advance_is_what_the_host_sums() -> None:
    for mini, bend in ((False, 0.0), (True, 15 / 32)):
        network = NsfHifiGan(dataclasses.replace(CONFIG, mini=mini))
        advance = network.m_source.advance(torch.tensor(F0, dtype=torch.float32)[None])[0].numpy()
        wanted = np.diff(source.frame_phases(F0.astype(np.float32), SPEC, bend))
        np.testing.assert_allclose(advance[:-1], wanted, rtol=1e-6)


def test_phase_stays_exact_for_an_hour() -> None:
    """At 300 Hz a frame of 64 samples adds exactly 2.4 cycles, so every fifth frame is a whole one."""
    phase = source.frame_phases(np.full(3600 * 125, 300, np.float32), SPEC)
    np.testing.assert_allclose((phase[::5] + 0.5) % 1, 0.5, atol=2e-5)


def test_a_residual_block_by_hand() -> None:
    block, x = ResBlock1(3, 5, (1, 4)), torch.randn(1, 3, 40)

    def leaky(value: np.ndarray) -> np.ndarray:
        return np.where(value > 0, value, 0.1 * value)

    def conv(layer: Any, value: np.ndarray, dilation: int) -> np.ndarray:
        weight = layer.weight.detach().numpy()
        spread = np.zeros((3, 3, 4 * dilation + 1))
        spread[..., ::dilation] = weight
        return np.array(
            [
                sum(signal.correlate(value[i], spread[o, i], mode="same") for i in range(3)) + layer.bias[o].item()
                for o in range(3)
            ]
        )

    wanted = x[0].numpy()
    for first, second, dilation in zip(block.convs1, block.convs2, (1, 4), strict=True):
        wanted = wanted + conv(second, leaky(conv(first, leaky(wanted), dilation)), 1)
    np.testing.assert_allclose(block(x)[0].detach().numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("resblock", ["1", "2"])
@pytest.mark.parametrize("mini", [False, True])
def test_every_spelling_of_weight_norm_loads(resblock: str, mini: bool) -> None:
    """The older pairs weight_g and weight_v, torch's parametrizations, and plain weights are one network."""
    config = dataclasses.replace(CONFIG, resblock=resblock, mini=mini)
    network = NsfHifiGan(config).eval()
    ours = network.state_dict()
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    older = {}
    for name, value in ours.items():
        stem, _, last = name.partition("parametrizations")
        older[stem + names["parametrizations" + last] if last else name] = value
    assert {"conv_pre.weight_g", "ups.0.weight_v", "conv_post.bias"} < older.keys()
    parts = {name: part for name, part in network.named_modules() if hasattr(part, "parametrizations")}
    plain = {name: value for name, value in ours.items() if "parametrizations" not in name}
    plain |= {f"{name}.weight": part.weight.detach() for name, part in parts.items()}
    given = (torch.randn(1, 5, 6), torch.full((1, 5), 220.0), torch.rand(1, 5), torch.randn(1, 5, HOP))
    with torch.no_grad():
        wanted = network(*given)
        for state in (ours, older, plain):
            other = NsfHifiGan(config).eval()
            other.load_state_dict(dict(state))
            torch.testing.assert_close(other(*given), wanted, rtol=0, atol=1e-6)
    assert wanted.shape == (1, 5 * HOP)


def test_the_names_are_the_published_ones() -> None:
    names = set(NsfHifiGan(CONFIG).state_dict())
    assert {"m_source.l_linear.weight", "noise_convs.3.bias", "resblocks.7.convs2.1.bias"} < names
    assert not any("offsets" in name or "steps" in name for name in names)
    assert NsfHifiGan(CONFIG).noise_convs[0].weight.shape == (16, 1, 32)  # twice the stride of 4·2·2
    assert NsfHifiGan(CONFIG).noise_convs[3].weight.shape == (2, 1, 1)
    mini = set(NsfHifiGan(dataclasses.replace(CONFIG, mini=True)).state_dict())
    assert "source_conv.weight" in mini and not any(name.startswith(("m_source", "noise_convs")) for name in mini)


def test_f0_is_sung() -> None:
    """The loudest line of the spectrum of the source lies at f0, whatever the mel."""
    made = HarmonicSource(CONFIG)
    torch.nn.init.zeros_(made.l_linear.weight)
    made.l_linear.weight.data[0, 0] = 1
    f0 = np.full(125, 250, np.float32)
    phase = torch.tensor(source.frame_phases(f0, SPEC) % 1, dtype=torch.float32)[None]
    with torch.no_grad():
        sound = made(torch.from_numpy(f0)[None], phase, torch.zeros(1, 125, HOP))[0].numpy()
    assert np.abs(np.fft.rfft(sound - sound.mean())).argmax() == 250  # one second


@pytest.mark.parametrize(("hop", "rates"), [(512, (8, 8, 2, 2, 2)), (256, (8, 8, 2, 2)), (240, (8, 5, 3, 2))])
def test_upsampling_of_usual_hops(hop: int, rates: tuple[int, ...]) -> None:
    found, kernels = nsf_hifigan.upsampling(hop)
    assert found == rates
    config = NsfHifiGanConfig(rates=found, kernels=kernels, channels=256)
    assert next(nsf_hifigan.problems(config), None) is None and config.hop == hop


@pytest.mark.parametrize("hop", [441, 22, 1, 0])
def test_hops_that_cannot_be_upsampled_to(hop: int) -> None:
    with pytest.raises(ValueError, match="does not divide"):
        nsf_hifigan.upsampling(hop)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resblock": "3"}, "resblock must be"),
        ({"kernels": (8, 8, 4)}, "rates do not go"),
        ({"kernels": (8, 8, 4, 3)}, "by even numbers"),
        ({"rates": (4, 4, 2, 3), "kernels": (8, 8, 4, 7)}, "end with an even one"),
        ({"channels": 24}, "cannot be halved"),
        ({"resblock_kernels": (3, 4)}, "must be odd"),
        ({"resblock_dilations": ((1, 3),)}, "as many lists"),
    ],
)
def test_a_config_that_is_no_network(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NsfHifiGan(dataclasses.replace(CONFIG, **change))
