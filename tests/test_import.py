"""A diff-svc model becomes a voice: by the names of its checkpoint, against the published formulas written out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from diff_svc_files import BINS, CHANNELS, CYCLE, HIDDEN, LAYERS, tensors, write
from torch import Tensor
from torch.nn import functional as F

from moksori.export.cli import main
from moksori.models.nsf_hifigan import NsfHifiGan, NsfHifiGanConfig
from moksori.runtime import denoiser, samplers
from moksori.runtime.converter import Converter
from moksori.runtime.voice import Voice

TinyVoice = Callable[..., Path]

# the published formulas, by the names of the checkpoint


def conv(w: dict[str, Tensor], name: str, x: Tensor, dilation: int = 1) -> Tensor:
    weight, bias = (w[f"model.denoise_fn.{name}.{part}"].double() for part in ("weight", "bias"))
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    return F.conv1d(x, weight, bias, padding=dilation * (weight.shape[2] // 2), dilation=dilation)


def stated_condition(w: dict[str, Tensor], units: Tensor, mel2ph: Tensor, f0: Tensor) -> Tensor:
    """[1, H, T] of units [Tu, H]."""
    m, low, high = (1127 * torch.log(1 + torch.as_tensor(one, dtype=torch.float64) / 700) for one in (f0, 40, 1100))
    place = ((m - low) * 254 / (high - low) + 1).clamp(1, 255)
    pitch = w["model.fs2.pitch_embed.weight"].double()[(place + 0.5).floor().long()]
    spoken = torch.cat([torch.zeros(1, HIDDEN, dtype=torch.float64), units.double()])[mel2ph]
    return ((spoken + pitch) * (mel2ph > 0)[:, None]).T[None]


def stated_noise(w: dict[str, Tensor], x: Tensor, t: float, condition: Tensor) -> Tensor:
    half = CHANNELS // 2
    e = torch.exp(-torch.arange(half, dtype=torch.float64) * math.log(10_000) / (half - 1))
    step = conv(w, "mlp.0", torch.cat([torch.sin(t * e), torch.cos(t * e)])[None])
    step = conv(w, "mlp.2", step * torch.tanh(torch.log1p(torch.exp(step))))
    y, total = conv(w, "input_projection", x).relu(), torch.zeros(1, dtype=torch.float64)
    for i in range(LAYERS):
        name = f"residual_layers.{i}"
        z = y + conv(w, f"{name}.diffusion_projection", step)[..., None]
        z = conv(w, f"{name}.dilated_conv", z, 2 ** (i % CYCLE)) + conv(w, f"{name}.conditioner_projection", condition)
        z = torch.sigmoid(z[:, :CHANNELS]) * torch.tanh(z[:, CHANNELS:])
        z = conv(w, f"{name}.output_projection", z)
        y, total = (y + z[:, :CHANNELS]) / math.sqrt(2), total + z[:, CHANNELS:]
    return conv(w, "output_projection", conv(w, "skip_projection", total / math.sqrt(LAYERS)).relu())


def stated_mel(w: dict[str, Tensor], x: Tensor, condition: Tensor, interval: int) -> Tensor:
    """PLMS as they run it, from 1000; then natural-log mel [M, T]."""
    bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)

    def moved(x: Tensor, noise: Tensor, t: int) -> Tensor:
        a, b = bars[t], bars[max(t - interval, 0)]
        scale = x / (a.sqrt() * (a.sqrt() + b.sqrt()))
        return x + (b - a) * (scale - noise / (a.sqrt() * (((1 - b) * a).sqrt() + ((1 - a) * b).sqrt())))

    past: list[Tensor] = []
    for t in range(1000 - interval, -1, -interval):
        noise = stated_noise(w, x, t, condition)
        if not past:
            ahead = stated_noise(w, moved(x, noise, t), max(t - interval, 0), condition)
            mixed = (noise + ahead) / 2
        else:
            known = [noise, *past]
            tables = {2: (3, -1, 2), 3: (23, -16, 5, 12), 4: (55, -59, 37, -9, 24)}
            *weights, below = tables[min(len(known), 4)]
            mixed = sum((k * one for k, one in zip(weights, known, strict=False)), torch.zeros_like(noise)) / below
        past = [noise, *past][:3]
        x = moved(x, mixed, t)
    low, high = (w[f"model.{name}"].double().reshape(BINS, 1) for name in ("spec_min", "spec_max"))
    return math.log(10) * ((x[0] + 1) / 2 * (high - low) + low)


# what becomes of it


@pytest.fixture(scope="module")
def vocoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """openvpi's form of a small generator."""
    folder = tmp_path_factory.mktemp("보코더")
    torch.manual_seed(0)
    network = NsfHifiGan(NsfHifiGanConfig(BINS, 24_000, (8, 5, 3, 2), (16, 11, 7, 4), 16, "2", (3,), ((1, 3),)))
    torch.save({"generator": network.state_dict()}, folder / "model")
    said = {
        "sampling_rate": 24_000, "num_mels": BINS, "hop_size": 240, "n_fft": 512, "win_size": 512, "fmin": 40,
        "fmax": 8_000, "upsample_rates": [8, 5, 3, 2], "upsample_kernel_sizes": [16, 11, 7, 4],
        "upsample_initial_channel": 16, "resblock": "2", "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3]],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, onnx.ModelProto]) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    for role in ("content", "pitch"):
        onnx.save(tiny_models[role], folder / f"{role}.onnx")
    return folder


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, graphs: Path, vocoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("가져온 🎤")
    write(folder / "model")
    # An older checkpoint that would fail: the newest is taken.
    (folder / "model" / "model_ckpt_steps_9000.ckpt").write_bytes(b"")
    result = bring(folder / "model", folder / "my voice", graphs, vocoder, "--precision", "fp32", "--speakers", "ann")
    assert result.exit_code == 0, result.output
    return folder / "my voice"


def bring(source: Path, target: Path, graphs: Path, vocoder: Path | None, *more: str) -> Result:
    given = ["--from", source, target, "--content", graphs / "content.onnx", "--pitch", graphs / "pitch.onnx"]
    given += [] if vocoder is None else ["--vocoder", vocoder]
    return CliRunner().invoke(main, [str(one) for one in (*given, *more)])


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert all(word in result.stderr for word in words), result.stderr


def test_both_graphs_are_the_published_formulas(imported: Path) -> None:
    voice, w, rng = Voice.load(imported, "cpu", threads=1), tensors(), np.random.default_rng(0)
    frames = 50
    units = rng.standard_normal((24, HIDDEN)).astype(np.float32)
    mel2ph = np.concatenate([[0], np.sort(rng.integers(1, 25, frames - 2)), [0]])
    f0 = np.concatenate([[20, 5_000], rng.uniform(40, 1100, frames - 2)]).astype(np.float32)
    level = np.zeros(frames, np.float32)
    given = denoiser.Conditions(units, mel2ph, f0, level > 0, level, np.ones(1, np.float32))
    found = denoiser.condition(voice.condition, given)
    condition = stated_condition(w, torch.from_numpy(units), torch.from_numpy(mel2ph), torch.from_numpy(f0))
    wanted = torch.cat([conv(w, f"residual_layers.{i}.conditioner_projection", condition) for i in range(LAYERS)], 1)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)
    x = rng.standard_normal((1, BINS, frames)).astype(np.float32)
    for t in (0, 1, 480, 999):
        nothing = np.zeros_like(x)
        feed = {"x": x, "t": np.array([t], np.float32), "condition": found}
        feed |= {f"history_{k}": nothing for k in (1, 2, 3)}
        feed |= {"coefficients": np.array([0, 1, 0, 0, 0, 0, 1], np.float32)}
        made = voice.denoiser.run(None, feed)[1]
        np.testing.assert_allclose(made, stated_noise(w, torch.from_numpy(x).double(), t, condition).numpy(), atol=1e-4)


def test_its_mel_is_what_theirs_was(imported: Path) -> None:
    """The whole way: their PLMS at an interval of 125, their range, natural logarithm."""
    voice, w, rng = Voice.load(imported, "cpu", threads=1), tensors(), np.random.default_rng(1)
    spec, frames = voice.manifest.denoiser, 30
    units, start = rng.standard_normal((15, HIDDEN)), rng.standard_normal((BINS, frames))
    mel2ph, f0 = np.repeat(np.arange(1, 16), 2), rng.uniform(80, 800, frames).astype(np.float32)
    level = np.zeros(frames, np.float32)
    given = denoiser.Conditions(units.astype(np.float32), mel2ph, f0, level > 0, level, np.ones(1, np.float32))
    plan = samplers.plan(spec.schedule, "pndm", 8)
    normal = denoiser.sample(voice.denoiser, denoiser.condition(voice.condition, given), start, plan)
    found = normal * np.array(spec.deviation)[:, None] + np.array(spec.mean)[:, None]
    condition = stated_condition(w, torch.from_numpy(units), torch.from_numpy(mel2ph), torch.from_numpy(f0))
    wanted = stated_mel(w, torch.from_numpy(start)[None], condition, 125).numpy()
    assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()


def test_what_the_voice_says(imported: Path) -> None:
    said = Voice.load(imported, "cpu", threads=1).manifest
    assert (said.denoiser.prediction, said.denoiser.sampler, said.denoiser.steps) == ("epsilon", "plms", 20)
    assert (said.denoiser.schedule.timesteps, said.denoiser.schedule.last) == (1000, 0.02)  # type: ignore[union-attr]
    assert (said.mel.bins, said.units.dimension, said.pitch.fmin, said.pitch.fmax) == (BINS, HIDDEN, 50, 1100)
    assert said.denoiser.context == 1 + 2 + 1
    assert [one.name for one in said.speakers] == ["ann"] and said.vocoder.kind == "nsf_hifigan"
    assert said.name == "my voice" and "model_ckpt_steps_12000.ckpt" in said.credits[0]
    assert "12000" in (imported / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_it_sings(imported: Path, tmp_path: Path) -> None:
    time = np.arange(24_000) / 24_000
    tone = 0.2 * sum(np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 9))
    soundfile.write(tmp_path / "tone.wav", tone, 24_000)
    Converter(Voice.load(imported, "cpu", threads=1)).convert(tmp_path / "tone.wav", tmp_path / "out.wav")
    made, rate = soundfile.read(tmp_path / "out.wav")
    assert (len(made), rate) == (24_000, 24_000) and np.isfinite(made).all() and made.std() > 1e-3


def test_parts_that_do_not_fit(tmp_path: Path, graphs: Path, vocoder: Path, tiny_voice: TinyVoice) -> None:
    model, target = write(tmp_path / "model"), tmp_path / "voice"
    refused(bring(model, target, graphs, None), "needs a vocoder: add --vocoder")
    refused(bring(model, target, graphs, vocoder, "--speakers", "a,b"), "has one speaker")
    refused(bring(model, target, graphs, vocoder, "--layer", "9"), "is a graph already")
    wide = write(tmp_path / "wide", weights=wider(), hidden_size=6)
    refused(bring(wide, target, graphs, vocoder), "gives 8 numbers a unit", "trained on 6 (hidden_size in config.yaml)")
    other = write(tmp_path / "other", hop_size=256)
    refused(bring(other, target, graphs, vocoder), "hears mel with hop 240")
    invoke = CliRunner().invoke
    refused(invoke(main, ["--from", str(model), str(target)]), "add --content")
    refused(invoke(main, ["--from", str(model)]), "--from makes one voice")
    refused(invoke(main, [str(model), str(target), "--content", "x.onnx"]), "has no voice.json")
    assert not target.exists() and sorted(one.name for one in tmp_path.iterdir()) == ["model", "other", "wide"]


def wider() -> dict[str, Tensor]:
    """Weights of a model with other units."""
    maps = {name: value for name, value in tensors().items() if value.ndim > 1 and value.shape[1] == HIDDEN}
    return tensors() | {name: value[:, :6] for name, value in maps.items()}
