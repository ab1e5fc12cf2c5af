"""Targets moved in pitch and formants, against the same sound made at the other pitch."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from moksori.models.conditioner import Conditioner, ConditionerConfig
from moksori.runtime import mel
from moksori.runtime.errors import OptionError
from moksori.runtime.files import write_json
from moksori.runtime.mel import MelSpec
from moksori.train import denoiser, shift
from moksori.train.dataset import MARGIN, PreparedData
from moksori.train.denoiser import DenoiserConfig

SPEC = MelSpec()
FRAMES = 60


def voice(f0: float, formant: float, seconds: float = 1.0) -> np.ndarray:
    """Harmonics of f0 under one broad formant, [n]."""
    time = np.arange(int(seconds * SPEC.sample_rate)) / SPEC.sample_rate
    wave = np.zeros_like(time)
    for hertz in f0 * np.arange(1, int(11_000 / f0)):
        wave += 0.1 * np.exp(-(((hertz - formant) / formant) ** 2)) * np.sin(2 * np.pi * hertz * time + hertz / f0)
    return wave


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """One slice of 2 s at 200 Hz, as svc-prepare leaves it."""
    folder = tmp_path_factory.mktemp("shift")
    for name in ("audio", "features"):
        (folder / name / "ann").mkdir(parents=True)
    soundfile.write(folder / "audio" / "ann" / "a.flac", voice(200, 1500, 2), SPEC.sample_rate)
    count = 2 * SPEC.sample_rate // SPEC.hop
    units = np.random.default_rng(0).standard_normal((1, count // 2, 4)).astype(np.float16)
    f0, voiced = np.full(count, 200, np.float32), np.ones(count, bool)
    np.savez(folder / "features" / "ann" / "a.npz", f0=f0, voiced=voiced, units=units)
    bins = {name: [0.0 if name == "mean" else 1.0] * SPEC.bins for name in ("mean", "deviation")}
    facts = {
        "mel": vars(SPEC), "units": {"dimension": 4}, "speakers": [{"name": "ann"}], "statistics": bins,
        "slices": [{"id": "a", "speaker": "ann", "seconds": 2.0}],
    }  # fmt: skip
    write_json(folder / "data.json", facts)
    return PreparedData(folder)


@pytest.mark.parametrize("semitones", [-5, -2.3, 1, 4, 5])
def test_a_moved_mel_is_that_of_the_moved_voice(data: PreparedData, semitones: float) -> None:
    plain = data.crop(data.training[0], 50, FRAMES, 0)
    moved = data.crop(data.training[0], 50, FRAMES, 0, semitones)
    ratio = float(moved.f0[0] / plain.f0[0])
    assert 12 * np.log2(ratio) == pytest.approx(semitones, abs=0.05)
    assert moved.shift == pytest.approx(12 * np.log2(ratio), abs=1e-4)
    sung = mel.log_mel(voice(200 * ratio, 1500 * ratio).astype(np.float32), SPEC)[20]
    strong = sung > sung.max() - 4
    assert np.abs(moved.mel[FRAMES // 2] - sung)[strong].mean() < 0.2
    assert np.abs(plain.mel[FRAMES // 2] - sung)[strong].mean() > 0.5 or abs(semitones) < 2
    for name in ("audio", "units", "voiced", "loudness"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(plain, name))
    assert len(moved.f0) == FRAMES + 2 * MARGIN


def test_a_crop_at_the_ends_can_be_moved(data: PreparedData) -> None:
    for start in (0, 195):
        for semitones in (-5.0, 5.0):
            assert data.crop(data.training[0], start, FRAMES, 0, semitones).mel.shape == (FRAMES, SPEC.bins)


def test_no_semitones_change_nothing(data: PreparedData) -> None:
    windows = np.random.default_rng(1).standard_normal((5, SPEC.n_fft)).astype(np.float32)
    assert shift.length(0, SPEC) == SPEC.n_fft
    np.testing.assert_allclose(shift.log_mel_frames(windows, SPEC), mel.log_mel_frames(windows, SPEC), atol=1e-4)
    assert data.crop(data.training[0], 50, FRAMES, 0).shift == 0


def test_a_share_of_the_crops_is_moved() -> None:
    drawn = np.array([shift.drawn(0.25, 7, index) for index in range(2000)])
    assert np.mean(drawn != 0) == pytest.approx(0.25, abs=0.03)
    assert -5 <= drawn.min() < -4.8 and 4.8 < drawn.max() <= 5
    assert shift.drawn(0.25, 7, 3) == drawn[3]
    assert all(shift.drawn(0, 7, index) == 0 for index in range(50))


def test_the_network_is_told_and_a_voice_sings_unmoved() -> None:
    torch.manual_seed(0)
    made = Conditioner(4, 1, 8, 8, ConditionerConfig(shifts=True))
    ones = torch.ones(1, 3)
    given = (torch.randn(1, 3, 4), torch.tensor([[1, 2, 3]]), 200 * ones, ones, -20 * ones, torch.ones(1, 1))
    assert torch.equal(made(*given), made(*given, shift=torch.zeros(1)))
    assert not torch.allclose(made(*given), made(*given, shift=torch.tensor([5.0])), atol=1e-3)


def test_a_config_decides(data: PreparedData) -> None:
    built = denoiser.build(DenoiserConfig(shifted=0.2), SPEC.bins, 4, 1)
    assert "conditioner.shift_in.weight" in built.state_dict()
    assert "conditioner.shift_in.weight" not in denoiser.build(DenoiserConfig(), SPEC.bins, 4, 1).state_dict()
    for network, said in (
        ({"conditioner": {"kind": "sum"}}, "shifted needs a conditioner that can be told"),
        ({"conditioner": {"kind": "product"}}, "kind must be one of convnext, sum, not 'product'"),
        ({"conditioner": {"pitch": "rough"}}, "pitch must be one of continuous, coarse, not 'rough'"),
        ({"conditioner": {"pich": "coarse"}}, "unknown key 'pich'; did you mean 'pitch'"),
    ):
        with pytest.raises(OptionError, match=said):
            denoiser.build(DenoiserConfig(network=network, shifted=0.2), SPEC.bins, 4, 1)


def test_a_network_learns_with_moved_targets(data: PreparedData) -> None:
    config = DenoiserConfig(network={"channels": 16, "hidden": 16, "layers": 1}, batch=4, frames=32, shifted=0.9)
    task = denoiser.DenoiserTask(data, config)
    batch = next(task.batches(denoiser.Share(), torch.device("cpu")))
    assert int((batch["shift"] != 0).sum()) >= 2
    task.losses(batch)["loss"].backward()
    told = task.network.get_parameter("conditioner.shift_in.weight").grad
    assert told is not None and float(told.abs().max()) > 0
