"""The log-mel spectrogram against librosa, and training's copy of it in torch against this one."""

from __future__ import annotations

from types import SimpleNamespace

import librosa
import numpy as np
import pytest
import torch

from moksori.runtime import mel
from moksori.runtime.mel import MelSpec
from moksori.train.vocoder import VocoderTask

DEMO = MelSpec()
REFERENCE = MelSpec(44_100, 512, 2048, 2048, 128, 40, 16_000)
NARROW = MelSpec(16_000, 160, 512, 400, 40, 0, 8_000)  # a window shorter than the transform
SPECS = pytest.mark.parametrize("spec", [DEMO, REFERENCE, NARROW], ids=["24 kHz", "44.1 kHz", "narrow"])


def song(samples: int, rate: int) -> np.ndarray:
    time = np.arange(samples) / rate
    signal = sum(np.sin(2 * np.pi * 180 * k * time) / k for k in range(1, 20))
    noise = np.random.default_rng(0).standard_normal(samples)
    return (0.1 * signal * (time % 0.5 < 0.3) + 1e-3 * noise).astype(np.float32)


def librosas_filters(spec: MelSpec) -> np.ndarray:
    limits = {"fmin": spec.fmin, "fmax": spec.fmax}
    return np.asarray(librosa.filters.mel(sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.bins, **limits))


def by_librosa(audio: np.ndarray, spec: MelSpec) -> np.ndarray:
    pad = (spec.n_fft - spec.hop) // 2
    padded = np.pad(audio, pad, mode="reflect")
    magnitude = np.abs(librosa.stft(padded, n_fft=spec.n_fft, hop_length=spec.hop, win_length=spec.win, center=False))
    return np.log(np.maximum(librosas_filters(spec) @ magnitude, 1e-5)).T


@SPECS
@pytest.mark.parametrize("extra", [0, 0.5, 0.99])
def test_log_mel_is_librosas(spec: MelSpec, extra: float) -> None:
    audio = song(40 * spec.hop + int(extra * spec.hop), spec.sample_rate)
    found = mel.log_mel(audio, spec)
    assert (found.shape, found.dtype) == ((40, spec.bins), np.float32)
    np.testing.assert_allclose(found, by_librosa(audio, spec)[:40], atol=2e-3)


@SPECS
def test_the_filters_are_librosas(spec: MelSpec) -> None:
    theirs = librosas_filters(spec)
    np.testing.assert_allclose(mel.filterbank(spec), theirs, atol=1e-6 * theirs.max())


@SPECS
@pytest.mark.parametrize("hops", [0, 1, 2, 3])
@pytest.mark.parametrize("more", [0, 1, -1])
def test_any_length_gives_whole_hops(spec: MelSpec, hops: int, more: int) -> None:
    samples = max(0, hops * spec.hop + more)
    audio = song(samples, spec.sample_rate)
    found = mel.log_mel(audio, spec)
    assert len(found) == len(mel.loudness(audio, spec)) == samples // spec.hop == spec.frames(samples)
    assert np.isfinite(found).all()


def test_silence_is_the_floor() -> None:
    np.testing.assert_array_equal(mel.log_mel(np.zeros(2_400, np.float32), DEMO), np.float32(np.log(1e-5)))
    np.testing.assert_array_equal(mel.loudness(np.zeros(2_400, np.float32), DEMO), -80)


def test_a_frame_lies_in_the_middle_of_its_hop() -> None:
    """A click at sample s is loudest in the frame whose centre, (t + 1/2)·hop, is nearest."""
    for at in (1_000, 1_319, 1_321, 3_000):
        audio = np.zeros(4_800, np.float32)
        audio[at] = 1
        nearest = np.abs(mel.frame_times(20, DEMO) - at / DEMO.sample_rate).argmin()
        assert mel.loudness(audio, DEMO).argmax() == nearest == at // DEMO.hop


@pytest.mark.parametrize("decibels", [-3, -30, -61])
def test_loudness_of_a_tone(decibels: float) -> None:
    amplitude = np.sqrt(2) * 10 ** (decibels / 20)
    audio = (amplitude * np.sin(2 * np.pi * 1_000 * np.arange(9_600) / 24_000)).astype(np.float32)
    np.testing.assert_allclose(mel.loudness(audio, DEMO)[3:-3], decibels, atol=0.01)


@SPECS
def test_trainings_copy_in_torch_is_the_same(spec: MelSpec) -> None:
    """The one feature that exists twice, for its gradient."""
    audio = song(30 * spec.hop, spec.sample_rate)
    task = SimpleNamespace(spec=spec, _filters=torch.from_numpy(mel.filterbank(spec)))
    theirs = VocoderTask._log_mel(task, torch.from_numpy(audio)[None])[0].T.numpy()
    np.testing.assert_allclose(theirs, mel.log_mel(audio, spec), atol=2e-3)
    assert np.abs(theirs - mel.log_mel(audio, spec)).mean() < 1e-5


@pytest.mark.parametrize(
    "fields", [{"hop": 241}, {"win": 2048}, {"fmax": 12_001}, {"fmin": 9_000, "fmax": 8_000}, {"fmin": -1}]
)
def test_a_spec_that_cannot_be_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"mel spec is not usable|above half the sample rate"):
        MelSpec(**fields)
