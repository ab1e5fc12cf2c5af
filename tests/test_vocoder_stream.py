"""The streaming iSTFT vocoder: any cutting of mel and f0 gives the samples of one pass over the whole."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moksori.models.istft_vocoder import IstftVocoder, IstftVocoderConfig
from moksori.runtime import mel, noise, source
from moksori.runtime.istft_vocoder import Harmonics, IstftSynthesizer
from moksori.runtime.mel import MelSpec
from moksori.train import synthesis as training
from moksori.train.dataset import MARGIN

SPEC = MelSpec(sample_rate=8_000, hop=80, n_fft=256, win=256, bins=12, fmin=40, fmax=4_000)
REACH = 7  # frames: 1 of the first convolution and 3 of each of two blocks
FRAMES, SEED = 50, 3
AHEAD = 3  # frames of source in the half window of 128 samples beyond a frame, and one of f0


class TorchSession:
    """A network in the shape of a loaded graph."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    @torch.no_grad()
    def run(self, outputs: None, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        given = (torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in ("mel", "f0", "harmonic", "noise"))
        return [self.network(*given).numpy()]


def network() -> IstftVocoder:
    torch.manual_seed(0)
    made = IstftVocoder(IstftVocoderConfig(12, 256, channels=16, hidden=24, layers=2, kernel=7)).eval()
    for block in made.blocks:
        torch.nn.init.ones_(block.gamma)  # so that far frames weigh enough to be missed
    torch.nn.init.normal_(made.head.weight, std=0.3)
    return made


SESSION = TorchSession(network())
MEL = np.random.default_rng(0).normal(-5, 2, (FRAMES, 12)).astype(np.float32)
F0 = (200 * 2 ** np.cumsum(np.random.default_rng(1).normal(0, 0.05, FRAMES))).astype(np.float32)


def stream(cuts: list[int], context: int) -> np.ndarray:
    synthesizer = IstftSynthesizer(SESSION, SPEC, context, SEED)
    edges = [0, *sorted(cuts), FRAMES]
    parts = [synthesizer.push(MEL[a:b], F0[a:b]) for a, b in pairwise(edges)]
    return np.concatenate([*parts, synthesizer.flush()])


def offline() -> np.ndarray:
    """The way of training: one excitation, the network once over everything, torch's overlap-add."""
    hertz = np.concatenate([F0[:1], F0, np.repeat(F0[-1:], AHEAD + 1)])
    train = source.pulses(source.phases(hertz, SPEC.hop, SPEC.sample_rate), 0.0)
    pad = (SPEC.n_fft - SPEC.hop) // 2
    whole = np.concatenate([np.zeros(pad, np.float32), train[source.TAPS // 2 :]])
    whole[max(0, pad - source.TAPS // 2) : pad] += train[: source.TAPS // 2]
    white = noise.frames("vocoder", SEED, -2, FRAMES + 5, SPEC.hop).reshape(-1)[2 * SPEC.hop - pad :]
    spectra = (source.spectrum(source.windows(signal, FRAMES, SPEC), SPEC)[None] for signal in (whole, white))
    harmonic, noisy = spectra
    with torch.no_grad():
        given = (torch.from_numpy(value) for value in (MEL[None], F0[None], harmonic, noisy))
        return training.overlap_add(SESSION.network(*given), SPEC)[0].numpy()


WHOLE = offline()
SCALE = float(np.abs(WHOLE).max())


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, FRAMES), max_size=10))
def test_any_cutting_equals_one_pass(cuts: list[int]) -> None:
    found = stream(cuts, REACH)
    assert found.shape == (FRAMES * SPEC.hop,)
    np.testing.assert_allclose(found / SCALE, WHOLE / SCALE, atol=1e-5)


def test_one_frame_less_context_is_heard() -> None:
    cuts = list(range(5, FRAMES, 5))
    assert np.abs(stream(cuts, REACH) - WHOLE).max() < 1e-5 * SCALE
    assert np.abs(stream(cuts, REACH - 1) - WHOLE).max() > 1e-4 * SCALE


def test_frame_by_frame_nothing_is_early_or_late() -> None:
    """After k frames all samples are out that ``context`` frames of future and half a window allow."""
    synthesizer = IstftSynthesizer(SESSION, SPEC, REACH, SEED)
    pad, out = (SPEC.n_fft - SPEC.hop) // 2, 0
    for frame in range(FRAMES):
        out += len(synthesizer.push(MEL[frame : frame + 1], F0[frame : frame + 1]))
        assert out == max(0, (frame + 1 - REACH) * SPEC.hop - pad)
        assert len(synthesizer.mel) <= 2 * REACH + 1  # a long stream holds no more than a short one
        assert len(synthesizer.push(MEL[:0], F0[:0])) == 0
    assert out + len(synthesizer.flush()) == FRAMES * SPEC.hop


@pytest.mark.parametrize("frames", [1, 2, REACH])
def test_streams_shorter_than_the_context(frames: int) -> None:
    synthesizer = IstftSynthesizer(SESSION, SPEC, REACH, SEED)
    assert len(synthesizer.push(MEL[:frames], F0[:frames])) == 0
    assert synthesizer.flush().shape == (frames * SPEC.hop,)


def test_no_frames_are_no_samples() -> None:
    assert len(IstftSynthesizer(SESSION, SPEC, REACH, SEED).flush()) == 0


def test_training_hears_the_same_excitation() -> None:
    """The harmonic source of a crop, made for training, is the stream's when the stream starts at the crop's phase."""
    hertz = np.concatenate([F0[:1].repeat(MARGIN), F0, F0[-1:].repeat(MARGIN)])
    harmonic = training.source_spectra(SimpleNamespace(mel=MEL, f0=hertz), SPEC, seed=11)["harmonic"]
    harmonics = Harmonics(SPEC)
    harmonics.phase = float(np.random.default_rng(11).random())
    harmonics.extend(hertz)
    np.testing.assert_allclose(harmonics.spectra(MARGIN - 1, FRAMES), harmonic, atol=1e-6)


def test_torchs_overlap_add_is_numpys() -> None:
    spectra = np.random.default_rng(0).standard_normal((9, 2, 129)).astype(np.float32)
    total, weight = source.overlap_add(spectra, SPEC)
    pad = (SPEC.n_fft - SPEC.hop) // 2
    wanted = (total / np.maximum(weight, 1e-4))[pad : pad + 9 * SPEC.hop]
    found = training.overlap_add(torch.from_numpy(spectra)[None], SPEC)[0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
    assert mel.hann(SPEC.win, SPEC.n_fft).shape == (SPEC.n_fft,)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_rendering_with_what_is_foreseen_equals_one_pass(size: int) -> None:
    """Frames are the same whether they are rendered as they come, with their context foreseen, or all at once."""
    synthesizer, parts = IstftSynthesizer(SESSION, SPEC, REACH, SEED), []
    for at in range(0, FRAMES - REACH - AHEAD - size, size):
        known = at + size + REACH + AHEAD
        made = synthesizer.render(MEL[at:known], F0[at:known], size)
        assert len(made) == (known - at) * SPEC.hop and len(synthesizer.mel) <= REACH + 2
        parts.append(made[: size * SPEC.hop])
    found = np.concatenate(parts)
    np.testing.assert_allclose(found, stream([], REACH)[: len(found)], atol=1e-5)


def test_what_was_foreseen_wrongly_leaves_no_trace() -> None:
    """Frames that turn out otherwise change what is rendered of themselves alone, beyond the reach of the network."""
    right, wrong = (IstftSynthesizer(SESSION, SPEC, REACH, SEED) for _ in range(2))
    right.render(MEL[:20], F0[:20], 10)
    wrong.render(np.concatenate([MEL[:10], MEL[30:40]]), F0[:20], 10)
    made = [one.render(MEL[10:30], F0[10:30], 10) for one in (right, wrong)]
    np.testing.assert_array_equal(made[0], made[1])
