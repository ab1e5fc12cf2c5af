"""The networks: shapes, conditions that do or do not matter, closed forms, and Whisper against transformers' own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import transformers
from scipy import signal
from torch import Tensor, nn

from moksori.models import discriminator, layers
from moksori.models.conditioner import Conditioner, ConditionerConfig
from moksori.models.convnext import ConvNeXtConfig, ConvNeXtDenoiser
from moksori.models.hubert import HubertContent, HubertContentConfig
from moksori.models.istft_vocoder import IstftVocoder, IstftVocoderConfig
from moksori.models.wavenet import WaveNetConfig, WaveNetDenoiser
from moksori.models.whisper import WhisperConfig, WhisperContent, WhisperLogMel

BINS, UNITS, SPEAKERS, FRAMES, BATCH = 10, 6, 3, 14, 2
CONVNEXT = ConvNeXtConfig(BINS, UNITS, SPEAKERS, channels=16, hidden=24, layers=3, kernel=5)
WAVENET = WaveNetConfig(BINS, UNITS, SPEAKERS, channels=16, layers=3, dilation_cycle=2)
DENOISERS: dict[str, Callable[[], nn.Module]] = {
    "convnext": lambda: ConvNeXtDenoiser(CONVNEXT),
    "wavenet": lambda: WaveNetDenoiser(WAVENET),
}


def conditions(seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "units": torch.randn(BATCH, FRAMES // 2, UNITS, generator=random),
        "mel2ph": torch.arange(2, FRAMES + 2).div(2, rounding_mode="floor").repeat(BATCH, 1),
        "f0": 100 + 400 * torch.rand(BATCH, FRAMES, generator=random),
        "voiced": torch.ones(BATCH, FRAMES),
        "loudness": -20 * torch.rand(BATCH, FRAMES, generator=random),
        "speaker": torch.eye(SPEAKERS)[:BATCH],
    }


@pytest.fixture(autouse=True)
def same_weights() -> None:
    torch.manual_seed(0)


# the denoisers and their conditions


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoisers_shapes(name: str) -> None:
    network = DENOISERS[name]()
    condition = network.get_submodule("conditioner")(**conditions())
    assert condition.shape[::2] == (BATCH, FRAMES)
    out = network(torch.randn(BATCH, BINS, FRAMES), torch.rand(BATCH), condition)
    assert out.shape == (BATCH, BINS, FRAMES)


@pytest.mark.parametrize("name", DENOISERS)
def test_a_new_denoiser_guesses_almost_nothing(name: str) -> None:
    """So that training begins at the best linear guess (train/objective.py)."""
    network = DENOISERS[name]()
    with torch.no_grad():
        condition = network.get_submodule("conditioner")(**conditions())
        guess = network(torch.randn(BATCH, BINS, FRAMES), torch.rand(BATCH), condition)
    assert float(guess.abs().max()) < 0.5


@pytest.mark.parametrize("name", DENOISERS)
def test_every_input_matters(name: str) -> None:
    """Through the network, to the output, with the last layer drawn at random."""
    network = DENOISERS[name]()
    last = {"convnext": "mel_out", "wavenet": "output_projection"}[name]
    nn.init.normal_(network.get_submodule(last).weight)
    given = {k: v.requires_grad_() if v.is_floating_point() else v for k, v in conditions().items()}
    x, t = torch.randn(BATCH, BINS, FRAMES, requires_grad=True), torch.rand(BATCH, requires_grad=True)
    network(x, t, network.get_submodule("conditioner")(**given)).square().sum().backward()
    for what, value in {**given, "x": x, "t": t}.items():
        if value.requires_grad:
            assert value.grad is not None and float(value.grad.abs().min()) > 0, what


def test_mel2ph_0_is_padding() -> None:
    conditioner = Conditioner(UNITS, SPEAKERS, 16, 20, ConditionerConfig())
    given = conditions()
    other = {**given, "units": given["units"] + 10}
    none = torch.zeros_like(given["mel2ph"])
    assert torch.equal(conditioner(**{**given, "mel2ph": none}), conditioner(**{**other, "mel2ph": none}))
    assert not torch.allclose(conditioner(**given), conditioner(**other), atol=1e-2)


def test_mel2ph_counts_from_one() -> None:
    """Stretching inside the network equals handing over units that are stretched already."""
    conditioner = Conditioner(UNITS, SPEAKERS, 16, 20, ConditionerConfig())
    given = conditions()
    stretched = given["units"].repeat_interleave(2, 1)
    one_each = torch.arange(1, FRAMES + 1).repeat(BATCH, 1)
    ready = {**given, "units": stretched, "mel2ph": one_each}
    assert torch.allclose(conditioner(**given), conditioner(**ready), atol=1e-6)


def test_speakers_mix_linearly() -> None:
    """The embedding of a mix is the mix of the embeddings."""
    layer = Conditioner(UNITS, SPEAKERS, 16, 20, ConditionerConfig()).speaker_in
    heart, other = layer(torch.eye(SPEAKERS)[:2])
    assert torch.allclose(layer(torch.tensor([0.3, 0.7, 0])), 0.3 * heart + 0.7 * other, atol=1e-6)


# pieces


@pytest.mark.parametrize("kernel", [1, 3, 9])
def test_the_depthwise_convolution_is_scipys(kernel: int) -> None:
    layer = layers.DepthwiseConv(4, kernel)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 20, 4)
    wanted = np.empty((2, 20, 4))
    for batch in range(2):
        for channel in range(4):
            taps = layer.weight.detach()[channel, 0].numpy()
            wanted[batch, :, channel] = signal.correlate(x[batch, :, channel].numpy(), taps, mode="same")
    wanted += layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, atol=1e-5)


def test_pitch_features_by_hand() -> None:
    """440 Hz is one octave up; the rates turn by π/4, π/2, π, 2π, … an octave. Out of range is the range's end."""
    found = layers.octave_features(torch.tensor([440.0]), 4)[0]
    angles = np.pi * np.array([0.25, 0.5, 1, 2])
    np.testing.assert_allclose(found.numpy(), [1, *np.sin(angles), *np.cos(angles)], atol=1e-6)
    ends = layers.octave_features(torch.tensor([1.0, 20.0, 2_560.0, 9_000.0]), 4)
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[2], ends[3])


# the vocoder and its adversary


def test_the_vocoder_filters_its_sources() -> None:
    """With a head that says a constant: gain and turn of the harmonics, gain of the noise, as complex numbers."""
    config = IstftVocoderConfig(BINS, 16, channels=8, hidden=8, layers=1)
    network, bins = IstftVocoder(config), 9
    nn.init.zeros_(network.head.weight)
    bias = torch.randn(3, bins)
    network.head.bias.data = bias.flatten()
    harmonic, noise = torch.randn(2, 1, 5, 2, bins)
    with torch.no_grad():
        found = network(torch.randn(1, 5, BINS), torch.full((1, 5), 200.0), harmonic, noise).numpy()
    gain, turn, noise_gain = bias.numpy()

    def complex_of(x: Tensor) -> np.ndarray:
        return x[:, :, 0].numpy() + 1j * x[:, :, 1].numpy()

    wanted = np.exp(gain - 2 + 1j * turn) * complex_of(harmonic) + np.exp(noise_gain - 3) * complex_of(noise)
    np.testing.assert_allclose(found[:, :, 0] + 1j * found[:, :, 1], wanted, atol=1e-5)


def test_the_discriminators_shapes() -> None:
    network, samples = discriminator.SpectrogramDiscriminator(channels=4), 8_000
    found = network(torch.randn(BATCH, samples))
    assert len(found) == len(discriminator.RESOLUTIONS) == 3
    for (n_fft, hop), maps in zip(discriminator.RESOLUTIONS, found, strict=True):
        frames, bins = samples // hop + 1, n_fft // 2 + 1
        widths = [bins, *(-(-bins // 2**k) for k in (1, 2, 3, 3))]
        wanted = [*((BATCH, 4, frames, width) for width in widths), (BATCH, 1, frames, widths[-1])]
        assert [tuple(m.shape) for m in maps] == wanted


# the content networks


@pytest.mark.parametrize("units", [4, 5, 33])
def test_hubert_gives_a_unit_every_20_ms(units: int) -> None:
    network = HubertContent(HubertContentConfig(units=7, width=32, layers=1, heads=2, front=16)).eval()
    with torch.no_grad():
        assert network(torch.randn(BATCH, units * 320)).shape == (BATCH, units, 7)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """30 s: five of a swelling, noisy tone, then silence."""
    time = np.arange(5 * 16_000) / 16_000
    wave = np.sin(2 * np.pi * 150 * time * (1 + 0.1 * time)) * np.sin(time) ** 2
    noise = np.random.default_rng(0).standard_normal(len(time))
    return np.pad(0.3 * wave + 0.01 * noise, (0, 25 * 16_000)).astype(np.float32)


@pytest.fixture(scope="module")
def features(speech: np.ndarray) -> Tensor:
    extract = transformers.WhisperFeatureExtractor()
    return torch.as_tensor(extract(speech, sampling_rate=16_000, return_tensors="pt").input_features)


def test_whispers_features_are_whispers(speech: np.ndarray, features: Tensor) -> None:
    with torch.no_grad():
        found = WhisperLogMel()(torch.from_numpy(speech)[None])
    assert found.shape == (1, 80, 3_000)
    assert float((found - features).abs().max()) < 1e-3


def test_whispers_encoder_is_transformers(speech: np.ndarray, features: Tensor) -> None:
    """The same random weights, by the same names, give the same hidden states over 30 s."""
    config = transformers.WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=128, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=8, vocab_size=50, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    theirs = transformers.WhisperModel(config).encoder.eval()
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    ours = WhisperContent(WhisperConfig(width=32, layers=2, heads=4)).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        wanted = theirs(features).last_hidden_state
        found = ours(torch.from_numpy(speech)[None])
    assert found.shape == wanted.shape == (1, 1_500, 32)
    assert float((found - wanted).abs().max()) < 2e-3
    assert float(wanted.std(1).mean()) > 0.1


@pytest.mark.parametrize("units", [4, 9])
def test_whisper_takes_any_length(units: int) -> None:
    network = WhisperContent(WhisperConfig(width=32, layers=1, heads=2)).eval()
    with torch.no_grad():
        assert network(torch.randn(1, units * 320)).shape == (1, units, 32)
