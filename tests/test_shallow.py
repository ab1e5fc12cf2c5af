"""Depth and guidance: where sampling begins, and what it heeds, seen from the converter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

from moksori.runtime import Converter, Options, Voice, denoiser, mel
from moksori.runtime.denoiser import Conditions
from moksori.runtime.errors import OptionError
from moksori.runtime.performer import Performer
from moksori.runtime.schedules import LinearBeta

RATE = 24_000
Models = dict[str, onnx.ModelProto]
TinyVoice = Callable[..., Path]


@pytest.fixture
def song(tmp_path: Path) -> Path:
    time = np.arange(RATE) / RATE
    wave = sum(np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 8))
    soundfile.write(tmp_path / "song.wav", 0.1 * wave * (1.2 + np.sin(9 * time)), RATE, subtype="FLOAT")
    return tmp_path / "song.wav"


Heard = dict[str, list[np.ndarray]]


def listened(voice: Voice, song: Path, monkeypatch: pytest.MonkeyPatch, **options: float) -> Heard:
    """Convert, and tell what ``denoiser.condition`` and ``denoiser.sample`` were given and gave."""
    heard: Heard = {"start": [], "mel2ph": [], "speaker": [], "made": []}
    condition, sample = denoiser.condition, denoiser.sample

    def conditioned(session: denoiser.Session, given: Conditions) -> np.ndarray:
        heard["mel2ph"].append(given.mel2ph)
        heard["speaker"].append(given.speaker)
        return condition(session, given)

    def sampled(session: denoiser.Session, given: np.ndarray, start: np.ndarray, *rest: object) -> np.ndarray:
        heard["start"].append(start)
        heard["made"].append(sample(session, given, start, *rest))
        return heard["made"][-1]

    monkeypatch.setattr(denoiser, "condition", conditioned)
    monkeypatch.setattr(denoiser, "sample", sampled)
    Converter(voice, Options(**options)).convert(song, song.with_name("out.wav"))
    monkeypatch.undo()
    return heard


def test_a_shallow_start_is_the_sources_mel(
    tiny_voice: TinyVoice, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without noise it is 1 - depth times the source's mel, normalised; its level is the voice's: a constant apart."""
    voice = Voice.load(tiny_voice(song.parent / "voice"), "cpu", threads=1)
    found = listened(voice, song, monkeypatch, depth=0.3, noise_scale=0.0)["start"][0]
    spec = voice.manifest.denoiser
    own = mel.log_mel(soundfile.read(song, dtype="float32")[0], voice.manifest.mel)
    apart = found.T / 0.7 * np.array(spec.deviation) + np.array(spec.mean) - own
    loud = own > own.max() - 5  # silence has no level to move
    assert np.ptp(apart[loud]) < 1e-3
    with_noise = listened(voice, song, monkeypatch, depth=0.3, noise_scale=1.0)["start"][0]
    full = listened(voice, song, monkeypatch, depth=1.0, noise_scale=1.0)["start"][0]
    np.testing.assert_allclose(with_noise - found, 0.3 * full, atol=1e-5)


def test_the_noise_of_a_start_is_the_schedules(tiny_voice: TinyVoice, tmp_path: Path) -> None:
    spec = Voice.load(tiny_voice(tmp_path / "voice"), "cpu", threads=1).manifest.denoiser
    own, noise = np.random.default_rng(0).standard_normal((2, 6, len(spec.mean))).astype(np.float32)
    epsilon = dataclasses.replace(spec, prediction="epsilon", schedule=LinearBeta(timesteps=100, last=0.06))
    bar = np.prod(1 - np.linspace(1e-4, 0.06, 100)[:40])
    wanted = np.sqrt(bar) * (own - spec.mean[0]) / spec.deviation[0] + np.sqrt(1 - bar) * noise
    np.testing.assert_allclose(denoiser.noised(own, noise, epsilon, 0.4), wanted, atol=1e-5)


def test_guidance_weighs_the_conditions_against_none(
    tiny_voice: TinyVoice, tiny_models: Models, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny graph is affine in its condition, so guided results lie on the line through those of weight 0 and 1."""
    model = onnx.ModelProto.FromString(tiny_models["condition"].SerializeToString())
    model.metadata_props.add(key="dropped", value="0.1")
    voice = Voice.load(tiny_voice(song.parent / "voice", {"condition": model}), "cpu", threads=1)
    made = {}
    for weight in (0.0, 1.0, 2.5):
        heard = listened(voice, song, monkeypatch, guidance=weight)
        made[weight] = heard["made"][0]
        if weight != 1:
            assert [bool(one.any()) for one in heard["mel2ph"]] == [True, False]
            assert [float(one.sum()) for one in heard["speaker"]] == [1, 0]
    assert np.abs(made[1.0] - made[0.0]).max() > 0.1
    np.testing.assert_allclose(made[2.5], 2.5 * made[1.0] - 1.5 * made[0.0], atol=1e-4)


def test_a_voice_is_guided_as_it_says_unless_asked_otherwise(
    tiny_voice: TinyVoice, tiny_models: Models, tmp_path: Path
) -> None:
    model = onnx.ModelProto.FromString(tiny_models["condition"].SerializeToString())
    model.metadata_props.add(key="dropped", value="0.1")
    folder = tiny_voice(tmp_path / "voice", {"condition": model})
    written = json.loads((folder / "voice.json").read_text(encoding="utf-8"))
    written["denoiser"]["guidance"] = 2.0
    (folder / "voice.json").write_text(json.dumps(written), encoding="utf-8")
    voice, steps = Voice.load(folder, "cpu", threads=1), written["denoiser"]["steps"]
    assert len(Performer(voice).plan) == 2 * steps
    assert Performer(voice).plan == Performer(voice, Options(guidance=2.0)).plan
    assert len(Performer(voice, Options(guidance=1.0)).plan) == steps


def test_a_voice_that_never_lacked_its_conditions_is_not_guided(tiny_voice: TinyVoice, tmp_path: Path) -> None:
    voice = Voice.load(tiny_voice(tmp_path / "voice"), "cpu", threads=1)
    with pytest.raises(OptionError, match="voice 'tiny' cannot be guided"):
        Converter(voice, Options(guidance=2.0))
    for depth in (0.0, 1.1, float("nan")):
        with pytest.raises(OptionError, match="a depth of"):
            Converter(voice, Options(depth=depth))
