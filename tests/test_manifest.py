"""voice.json: reads back as written, and refuses every key or value that is not right, naming it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moksori.runtime import manifest, voice
from moksori.runtime.errors import VoiceError
from moksori.runtime.schedules import LinearBeta

BETA = {"kind": "linear_beta", "timesteps": 1000, "first": 1e-4, "last": 0.02}


@pytest.fixture
def folder(tmp_path: Path, tiny_voice: Callable[..., Path]) -> Path:
    return tiny_voice(tmp_path / "tiny")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / manifest.FILE
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def test_a_manifest_reads_back_as_written(folder: Path, tmp_path: Path) -> None:
    spec = voice.read_manifest(folder)
    manifest.write(tmp_path / "again.json", spec)
    assert manifest.read((tmp_path / "again.json").read_bytes()) == spec
    assert json.loads((tmp_path / "again.json").read_text(encoding="utf-8")) == json.loads(
        (folder / manifest.FILE).read_text(encoding="utf-8")
    )


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("format_version", 2, "format 2 .* upgrade"),
        ("format_version", 0, "format_version must be 1"),
        ("format_version", True, "format_version must be a whole number"),
        ("colour", "red", "unknown key 'colour'"),
        ("\x1b[31mred", 1, "unknown key '.\\[31mred'"),
        ("licence", "\x9b31m", "licence must be plain text"),
        ("mel.hopp", 240, r"unknown key 'mel.hopp' \(did you mean 'hop'\?\)"),
        ("speakers.0.pitch", 1, r"unknown key 'speakers\[0\].pitch'"),
        ("units.dimension", ..., "key 'units.dimension' is missing; it must be a whole number"),
        ("speakers.1.f0_low", ..., r"'speakers\[1\].f0_low' is missing; it must be a finite number"),
        ("mel", [], r"mel must be an object, not \[\]"),
        ("speakers", {}, "speakers must be a list"),
        ("speakers", [], "speakers must be at least one"),
        ("speakers.0.name", "f001", "each with a name of its own"),
        ("speakers.0.name", "a,b", "speakers.0..name must be a name without"),
        ("speakers.0.name", "\x1b[31mred", "speakers.0..name must be a name without"),
        ("speakers.0.f0_low", 300, "speakers.0. .heart.: f0_low, f0_median and f0_high must not fall"),
        ("name", "../../evil", "name must be a name without"),
        ("name", "", "name must be a name without"),
        ("mel.bins", 513, "mel.bins must be 1 to 512, not 513"),
        ("mel.bins", 0, "mel.bins must be 1 to 512"),
        ("mel.bins", 20.0, "mel.bins must be a whole number, 1 to 512, not 20.0"),
        ("mel.hop", 0, "mel.hop must be 1 to 8192, not 0"),
        ("mel.hop", 241, "mel spec is not usable"),
        ("mel.n_fft", 238, "mel"),
        ("mel.n_fft", 10**9, "mel.n_fft must be 16 to 16384"),
        ("mel.sample_rate", 7_999, "mel.sample_rate must be 8000 to 192000"),
        ("mel.sample_rate", 192_001, "mel.sample_rate must be 8000 to 192000"),
        ("mel.fmax", 13_000, "above half the sample rate"),
        ("mel.fmin", float("nan"), "NaN"),
        ("mel.fmin", float("-inf"), "Infinity"),
        ("units.dimension", 10**6, "units.dimension must be 1 to 4096"),
        ("units.sample_rate", 22_050, "units.sample_rate must be 16000"),
        ("pitch.kind", "yin", "pitch.kind must be 'swift' or 'swift_scores' or 'crepe'"),
        ("pitch.fmin", 3_000, "pitch.fmin 3000 Hz must be below pitch.fmax"),
        ("pitch.threshold", 1.5, "pitch.threshold must be 0 to 1"),
        ("pitch.faint", 0, "pitch: faint is 0, and must be over 0 and at most 1"),
        ("pitch.periods", 21, "pitch.periods must be 0 to 20, not 21"),
        ("pitch.hop", 0.0101, "pitch: a hop of 10.1 ms is no whole number of samples"),
        ("pitch.decoder", "argmax", "pitch.decoder must be 'weighted' or 'viterbi'"),
        ("pitch.median", 4, "pitch: median 4 and mean 1 must be odd"),
        ("pitch.mean", 101, "pitch.mean must be 1 to 99"),
        ("pitch.octave_guard", 1, "pitch.octave_guard must be true or false, not 1"),
        ("pitch.octave_guard", ..., "key 'pitch.octave_guard' is missing"),
        ("denoiser.sampler", "euiler", "denoiser.sampler must be euler or heun"),
        ("denoiser.steps", 0, "denoiser.steps must be 1 to 1000"),
        ("denoiser.noise_scale", -0.1, "denoiser.noise_scale must be 0 to 2"),
        ("denoiser.guidance", 11, "denoiser.guidance must be 0 to 10"),
        ("denoiser.prediction", "x0", "denoiser.prediction must be 'velocity'"),
        ("denoiser.schedule", "cosine", "denoiser.schedule must be 'linear', not \"cosine\""),
        ("denoiser.schedule", 7, "denoiser.schedule must be a text, 'linear', not 7"),
        ("denoiser.schedule", {**BETA, "last": 0.9}, "denoiser.schedule.last must be 1e-08 to 0.5, not 0.9"),
        ("denoiser.schedule", {**BETA, "kind": "cosine"}, "denoiser.schedule.kind must be 'linear_beta'"),
        ("denoiser.schedule", {**BETA, "betas": 3}, "unknown key 'denoiser.schedule.betas'"),
        ("denoiser.schedule", BETA, "denoiser.schedule is that of epsilon models, not of velocity"),
        ("denoiser.prediction", "epsilon", "denoiser.schedule is that of velocity models, not of epsilon"),
        ("denoiser.mean", [0.0] * 19, "one number for each of the 20 mel bins, not 19"),
        ("denoiser.deviation.3", 0, r"denoiser.deviation\[3\] must be 1e-06 to 100, not 0"),
        ("vocoder.kind", "griffin-lim", "vocoder.kind must be 'istft' or 'nsf_hifigan' or 'mini_nsf' or 'openutau'"),
        ("precision.encoder", "fp32", "unknown key 'precision.encoder'"),
        ("precision.content", "fp4", "precision.content must be 'fp32'"),
        ("quality.similarity", "good", 'quality.similarity must be a finite number, not "good"'),
        ("quality.similarity", 10**400, "quality.similarity must be a finite number"),
        ("files.content", ..., "key 'files.content' is missing"),
        ("files.encoder", {"path": "e", "sha256": "0" * 64, "bytes": 1}, "unknown key 'files.encoder'"),
        ("files.content.path", "../content.onnx", "files.content.path must be a plain file name"),
        ("files.content.path", "/etc/passwd", "files.content.path must be a plain file name"),
        ("files.content.path", "C:\\content.onnx", "files.content.path must be a plain file name"),
        ("files.content.path", "..", "files.content.path must be the name of a graph"),
        ("files.content.path", "voice.json", "files.content.path must be the name of a graph"),
        ("files.content.path", "pitch.onnx", "a path of their own"),
        ("files.content.sha256", "x" * 64, "files.content.sha256 must be a lower-case hexadecimal hash"),
        ("files.content.bytes", 2**31, "files.content.bytes must be 1 to"),
    ],
)
def test_voice_json_is_strict(folder: Path, path: str, value: object, words: str) -> None:
    def change(spec: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        at: Any = spec
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        if isinstance(at, list):
            at[int(last)] = value
        elif value is ...:
            del at[last]
        else:
            at[last] = value

    edit(folder, change)
    with pytest.raises(VoiceError, match=words) as caught:
        voice.read_manifest(folder)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not readable JSON"),
        (b"{", "not readable JSON"),
        (b"\xff\xfe{}", "not readable JSON"),
        (b"[" * 100_000, "not readable JSON"),
        (b"[]", "the whole file must be an object"),
        (b'{"name": "a", "name": "b"}', "key 'name' is there twice"),
        (b" " * (manifest.LARGEST_MANIFEST + 1), "are right"),
    ],
)
def test_voice_json_must_be_json(folder: Path, text: bytes, words: str) -> None:
    (folder / manifest.FILE).write_bytes(text)
    with pytest.raises(VoiceError, match=words):
        voice.read_manifest(folder)


def test_an_epsilon_voice_reads_back_with_its_schedule(folder: Path) -> None:
    spec = voice.read_manifest(folder)
    schedule = LinearBeta("linear_beta", 1000, 1e-4, 0.02)
    denoiser = dataclasses.replace(spec.denoiser, prediction="epsilon", schedule=schedule, sampler="unipc")
    manifest.write(folder / manifest.FILE, dataclasses.replace(spec, denoiser=denoiser))
    assert json.loads((folder / manifest.FILE).read_text(encoding="utf-8"))["denoiser"]["schedule"] == BETA
    assert voice.read_manifest(folder).denoiser == denoiser


def test_a_wrong_manifest_is_not_written(folder: Path, tmp_path: Path) -> None:
    spec = dataclasses.replace(voice.read_manifest(folder), name="a/b")
    with pytest.raises(VoiceError, match="name must be"):
        manifest.write(tmp_path / "v.json", spec)
    assert not (tmp_path / "v.json").exists()
