"""A song for a stream that sings with the tiny voice, and all that comes of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from moksori.runtime import Stream, Voice, manifest
from moksori.runtime.mel import MelSpec

MEL = MelSpec(sample_rate=24_000, hop=240, n_fft=512, win=512, bins=20, fmin=40, fmax=8_000)  # the tiny voice's
RATE = MEL.sample_rate


def pulses(folder: Path, models: Mapping[str, onnx.ModelProto]) -> Voice:
    """The tiny voice without noise in its vocoder: pulses at f0, as loud as the mel."""
    vocoder = copy.deepcopy(models["vocoder"])
    for node in vocoder.graph.node:
        if list(node.input) == ["harmonic", "noise"]:
            node.CopyFrom(helper.make_node("Identity", ["harmonic"], ["source"]))
    for role, model in {**models, "vocoder": vocoder}.items():
        (folder / f"{role}.onnx").write_bytes(model.SerializeToString())
    spec = manifest.Manifest(
        format_version=1, name="tiny", description="", mel=MEL, units=manifest.UnitSpec(8, 16_000, 320, 0.0, 0.0),
        pitch=manifest.PitchSpec("swift", 46.875, 2093.75, 0.5),
        speakers=tuple(manifest.Speaker(name, 100, 200, 400, -20, "CC0", "nobody") for name in ("heart", "f001")),
        denoiser=manifest.DenoiserSpec(
            "convnext", "velocity", "linear", "euler", 4, 0.5, 0, (-5.0,) * MEL.bins, (2.0,) * MEL.bins
        ),
        vocoder=manifest.VocoderSpec("istft", 0, "host"), precision=dict.fromkeys(manifest.ROLES, "fp32"),
        licence="CC0", credits=("nobody",), quality={}, files=manifest.graph_files(folder),
    )  # fmt: skip
    manifest.write(folder / manifest.FILE, spec)
    return Voice.load(folder, "cpu", threads=1)


def song(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 0.7 * time + seed)
    wave = np.sum([np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 9)], axis=0)
    return (0.2 * swell * wave + 1e-3 * np.random.default_rng(seed).standard_normal(len(time))).astype(np.float32)


def sung(stream: Stream, signal: np.ndarray, sizes: list[int] | None = None) -> np.ndarray:
    """All that comes out, pushed in pieces of these sizes over and over."""
    parts, at, turn = [], 0, 0
    while at < len(signal):
        size = (sizes or [len(signal)])[turn % len(sizes or [0])]
        parts.append(stream.push(signal[at : at + size]))
        at, turn = at + size, turn + 1
    return np.concatenate([*parts, stream.flush()])
