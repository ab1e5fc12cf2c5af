"""The small content network: what it hears of the past and of the future, and that pieces make the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from moksori.export.content import looks
from moksori.models.convnext_content import ConvNeXtContent, ConvNeXtContentConfig
from moksori.models.convnext_content import LogMel as ContentLogMel
from moksori.models.hubert import HubertContent, HubertContentConfig

HOP = 320
SMALL = ConvNeXtContentConfig(units=7, channels=16, hidden=24, layers=4, kernel=5, ahead=2)


def network(config: ConvNeXtContentConfig = SMALL) -> ConvNeXtContent:
    torch.manual_seed(0)
    return ConvNeXtContent(config).eval()


def heard_by(net: ConvNeXtContent, audio: Tensor, unit: int) -> np.ndarray:
    """Indices of the samples that a unit depends on, by its gradient."""
    audio = audio.clone().requires_grad_(True)
    net(audio)[0, unit].square().sum().backward()
    assert audio.grad is not None
    return np.flatnonzero(audio.grad[0].numpy())


@pytest.mark.parametrize("units", [4, 5, 33])
def test_there_is_a_unit_every_20_ms(units: int) -> None:
    with torch.no_grad():
        assert network()(torch.randn(2, units * HOP)).shape == (2, units, 7)


@pytest.mark.parametrize("ahead", [0, 1, 4])
def test_a_unit_hears_just_what_the_config_says(ahead: int) -> None:
    config = ConvNeXtContentConfig(units=3, channels=16, hidden=24, layers=4, kernel=5, ahead=ahead)
    torch.manual_seed(1)
    heard = heard_by(network(config), torch.randn(1, 40 * HOP), unit := 24)
    # Hann's window is 0 at its first sample
    assert heard[0] == unit * HOP - round(config.context * 16_000) + 1
    assert heard[-1] == (unit + 1) * HOP + round(config.lookahead * 16_000) - 1


def test_the_export_finds_how_far_it_looks() -> None:
    """14 units and three quarters of a window before; a network with attention looks at all there is."""
    assert looks(network()) == "15"
    hubert = HubertContent(HubertContentConfig(units=7, width=32, layers=1, heads=2, front=16))
    assert looks(hubert) == "all"


def test_pieces_with_their_context_are_the_whole() -> None:
    net, audio = network(), torch.randn(1, 60 * HOP)
    before, after = (-(-round(seconds * 16_000) // HOP) for seconds in (SMALL.context, SMALL.lookahead))
    with torch.no_grad():
        whole = net(audio)
        for start in range(before, 60 - 5 - after, 5):
            piece = net(audio[:, (start - before) * HOP : (start + 5 + after) * HOP])
            assert float((piece[:, before : before + 5] - whole[:, start : start + 5]).abs().max()) < 1e-5


def test_the_spectrum_is_that_of_each_window() -> None:
    """Against numpy's transform of the window around each hop, through the same filters."""
    audio = np.random.default_rng(0).standard_normal(1600).astype(np.float32)
    log_mel = ContentLogMel()
    padded, hann = np.pad(audio, 120), 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.stack([np.abs(np.fft.rfft(padded[160 * i : 160 * i + 400] * hann)) ** 2 for i in range(10)], 1)
    wanted = (np.log10(log_mel.filters.numpy() @ power + 1e-6) + 3) / 2
    assert np.abs(log_mel(torch.from_numpy(audio)[None])[0].numpy() - wanted).max() < 1e-4
