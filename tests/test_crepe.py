"""CREPE against torchcrepe's own network, and against tones whose pitch is known."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from moksori.export import pitch
from moksori.export.spec import ExportError
from moksori.models import crepe
from moksori.runtime import swift


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """torchcrepe's model.py alone; its package imports torchaudio, and the file needs but one number of it."""
    found = importlib.util.find_spec("torchcrepe")
    assert found is not None and found.submodule_search_locations
    stub = types.ModuleType("torchcrepe")
    stub.PITCH_BINS = 360  # type: ignore[attr-defined]
    path = Path(next(iter(found.submodule_search_locations))) / "model.py"
    spec = importlib.util.spec_from_file_location("torchcrepe_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torchcrepe", stub)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("capacity", ["tiny", "full"])
def test_salience_is_torchcrepes(capacity: str, theirs: types.ModuleType) -> None:
    ours = pitch.load_crepe(capacity)
    original = theirs.Crepe(capacity).eval()
    original.load_state_dict(ours.state_dict())
    frames = torch.randn(6, crepe.WINDOW, generator=torch.Generator().manual_seed(1))
    frames[2:] += torch.sin(torch.arange(crepe.WINDOW) * 0.1)
    frames *= torch.logspace(-3, 1, 6)[:, None]
    normal = (frames - frames.mean(1, keepdim=True)) / frames.std(1, keepdim=True)
    with torch.inference_mode():
        np.testing.assert_allclose(ours(frames).numpy(), original(normal).numpy(), atol=2e-6)


@pytest.mark.parametrize("capacity", ["tiny", "full"])
def test_the_spectral_form_is_the_same_function(capacity: str) -> None:
    network = pitch.load_crepe(capacity)
    frames = torch.randn(3, crepe.WINDOW, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        np.testing.assert_allclose(crepe.spectral(network)(frames).numpy(), network(frames).numpy(), atol=2e-6)


@pytest.mark.parametrize("positions", [128, 64, 32, 16, 8])
def test_a_correlation_by_spectra_is_numpys(positions: int) -> None:
    """Impulses at either end and in between, where a transform that is too short would wrap around."""
    generator = np.random.default_rng(positions)
    taps = generator.standard_normal((1, 1, 64))
    values = np.zeros((3, positions))
    values[0, 0] = values[1, -1] = 1
    values[2] = generator.standard_normal(positions)
    wanted = [np.correlate(np.pad(row, (31, 32)), taps[0, 0], "valid") + 0.5 for row in values]
    layer = crepe.Correlation(positions)
    given = (torch.from_numpy(array).float() for array in (values[:, None], taps, np.array([0.5])))
    np.testing.assert_allclose(layer(*given)[:, 0].numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("hertz", [55.0, 110.0, 220.0, 441.3, 880.0, 1500.0])
def test_a_voice_like_tone_has_its_peak_at_its_pitch(hertz: float) -> None:
    network = pitch.load_crepe("tiny")
    time = torch.arange(crepe.WINDOW) / crepe.SAMPLE_RATE
    partials = [torch.sin(2 * torch.pi * hertz * k * time) / k for k in range(1, 6) if hertz * k < 8_000]
    tone = torch.stack(partials).sum(0)
    with torch.inference_mode():
        peak = int(network(0.1 * tone[None])[0].argmax())
    cents = 1200 * np.log2(crepe.FIRST_BIN_HZ * 2 ** (peak * crepe.CENTS_PER_BIN / 1200) / hertz)
    assert abs(cents) < 30


def test_silence_stays_finite() -> None:
    frames = torch.zeros(2, crepe.WINDOW)
    frames[1] += 0.25
    assert torch.equal(crepe.normalise(frames), torch.zeros(2, crepe.WINDOW))
    with torch.inference_mode():
        assert bool(torch.isfinite(pitch.load_crepe("tiny")(frames)).all())


def test_the_graph_equals_the_network_at_another_length(tmp_path: Path) -> None:
    path = tmp_path / "crepe.onnx"
    proof = pitch.export_crepe("tiny", path)
    frames = torch.randn(40, crepe.WINDOW, generator=torch.Generator().manual_seed(2))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        wanted = pitch.load_crepe("tiny")(frames).numpy()
    np.testing.assert_allclose(session.run(None, {"frames": frames.numpy()})[0], wanted, atol=2e-6)
    said = session.get_modelmeta().custom_metadata_map
    assert (said["role"], said["kind"], said["capacity"], said["licence"]) == (
        "pitch",
        "crepe",
        "tiny",
        "MIT",
    )
    assert proof.worst < 1e-5


def test_an_unknown_capacity_is_refused() -> None:
    with pytest.raises(ExportError, match="tiny or full"):
        pitch.load_crepe("huge")


def test_swift_graph_hears_a_gliding_tone(tmp_path: Path) -> None:
    """The closed form: a glide's pitch at every frame; and the fixed range is all that SwiftF0 knows."""
    path = tmp_path / "음높이 🎵.onnx"
    proof = pitch.export_swift(path)
    time = np.arange(32_000) / 16_000
    start, ratio = 150.0, 2.0  # an octave in two seconds
    phase = 2 * np.pi * start * 2 / np.log(ratio) * (ratio ** (time / 2) - 1)
    audio = sum(np.sin(k * phase) / k for k in range(1, 8)).astype(np.float32) * np.float32(0.1)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    scores, confidence = (output[0] for output in session.run(None, {"audio": audio[None]}))
    assert scores.dtype == np.float32 and scores.shape == (len(audio) // 256, 95)
    f0 = swift.frequencies(scores, swift.peaks(scores))
    centres = np.arange(len(f0)) * 256 / 16_000
    cents = 1200 * np.log2(f0 / (start * ratio ** (centres / 2)))
    inner = slice(4, -4)
    assert confidence[inner].min() > 0.5
    assert np.abs(cents[inner]).max() < 15
    said = session.get_modelmeta().custom_metadata_map
    assert (said["kind"], said["hop"], said["context"]) == ("swift_scores", "256", "2815")
    assert proof.errors["scores"] < 1e-5
