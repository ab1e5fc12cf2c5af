"""The demo's recipe: its scripts start, and its configs say what the programs understand."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import yaml

from moksori.export.voice import About
from moksori.models.whisper import WhisperConfig, WhisperContent
from moksori.runtime import Voice, pitch
from moksori.train import config as configs
from moksori.train.content import ContentConfig
from moksori.train.denoiser import DenoiserConfig, build
from moksori.train.reflow import ReflowConfig
from moksori.train.vocoder import VocoderConfig

ROOT = Path(__file__).resolve().parents[1]
RECIPE, VOICES = ROOT / "train" / "recipes" / "demo", ROOT / "voices"
DEFAULTS: dict[str, Any] = {
    "about": About(),
    "content": ContentConfig(),
    "reflow": ReflowConfig(),
    "denoiser": DenoiserConfig(),
    "vocoder": VocoderConfig(),
}


@pytest.mark.parametrize("script", ["fetch", "teacher", "run"])
def test_a_script_starts(script: str, tmp_path: Path) -> None:
    """From any folder, as `python path/to/script.py --help`: all that it imports is there."""
    path = RECIPE / f"{script}.py"
    done = subprocess.run([sys.executable, path, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted(RECIPE.glob("*.yaml")), ids=lambda path: path.name)
def test_a_config_is_understood(path: Path) -> None:
    """Every key is known, and what the file says is what comes of it."""
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    loaded = configs.plain(configs.load(path, DEFAULTS[path.stem]))
    for name, value in said.items():
        found = loaded[name]
        assert found == value or {key: found[key] for key in value} == value


def test_the_denoiser_of_the_recipe_can_be_built() -> None:
    config = configs.load(RECIPE / "denoiser.yaml", DenoiserConfig())
    assert sum(parameter.numel() for parameter in build(config, 100, 128, 7).parameters()) < 10_000_000


def recipe(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_whispers_weights_get_the_names_of_our_network() -> None:
    """ctranslate2's encoder variables, of which q, k and v are one matrix, become every parameter of WhisperContent."""
    width, rng = 8, np.random.default_rng(0)
    names = {
        "layer_0/self_attention/linear_0": (3 * width, width),
        "layer_0/self_attention/linear_1": (width, width),
        "layer_0/ffn/linear_0": (4 * width, width),
        "layer_0/ffn/linear_1": (width, 4 * width),
        "conv1": (width, 80, 3),
        "conv2": (width, width, 3),
    }
    given = {f"encoder/{name}/weight": rng.standard_normal(shape) for name, shape in names.items()}
    given |= {f"encoder/{name}/bias": rng.standard_normal(shape[0]) for name, shape in names.items()}
    for norm in ("layer_norm", "layer_0/self_attention/layer_norm", "layer_0/ffn/layer_norm"):
        given |= {f"encoder/{norm}/{kind}": rng.standard_normal(width) for kind in ("gamma", "beta")}
    given["encoder/position_encodings/encodings"] = rng.standard_normal((1500, width))
    found = {k.removeprefix("encoder."): v for k, v in recipe("teacher").encoder(given).items()}
    ours = WhisperContent(WhisperConfig(width=width, layers=1, heads=2)).state_dict()
    assert {k: v.shape for k, v in found.items()} == {k: tuple(v.shape) for k, v in ours.items()}
    fused = given["encoder/layer_0/self_attention/linear_0/weight"].astype(np.float32)
    for at, name in enumerate(("q_proj", "k_proj", "v_proj")):
        part = found[f"layers.0.self_attn.{name}.weight"]
        np.testing.assert_array_equal(part, fused[at * width : (at + 1) * width])


def test_what_was_read_is_sung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Syllables of one pitch last longer and follow a melody, as loud as they were, with pauses between them."""
    soundfile = pytest.importorskip("soundfile")
    monkeypatch.syspath_prepend(str(RECIPE))
    resung = importlib.import_module("resung")
    seconds = np.arange(6 * 16_000) / 16_000
    buzz = sum(np.sin(2 * np.pi * 150 * k * seconds) / k for k in range(1, 40))
    soundfile.write(tmp_path / "read.flac", 0.2 * buzz * (seconds % 0.5 < 0.4), 16_000)
    made = [clip.audio for clip in resung.clips(tmp_path, VOICES / "demo" / "pitch.onnx")]
    assert len(made) == 1 and len(made[0]) > 6 * resung.RATE / resung.SMALLER
    tracker = pitch.Tracker(Voice.load(str(VOICES / "demo"), "cpu").pitch, "swift_scores", 60, 1000)
    times = np.arange(0.1, len(made[0]) / resung.RATE - 0.1, 0.02)
    f0, voiced = tracker.at(soxr.resample(made[0], resung.RATE, 16_000), times)
    assert 0.5 < voiced.mean() < 1
    low, high = 0.85 * 150 * resung.LARGER, 3 * 150 * resung.SMALLER
    assert np.mean((f0[voiced] > 0.95 * low) & (f0[voiced] < 1.05 * high)) > 0.95
    assert np.ptp(np.log2(np.percentile(f0[voiced], [10, 90]))) > 0.15
    assert list(resung.clips(tmp_path / "none", VOICES / "demo" / "pitch.onnx")) == []


WAITS = """
import os, signal, time
def stop(*_):
    os.write(1, b"saved\\n")  # a print could meet the one below half done
    os._exit(1)
signal.signal(signal.SIGTERM, stop)
print("waits", flush=True)
time.sleep(60)
"""
SIDE_BY_SIDE = """
import sys
from programs import Programs
programs = Programs()
with programs.stoppable(), programs.together() as pool:
    beside = pool.submit(programs.run, "-c", sys.argv[1], name="beside")
    programs.run("-c", sys.argv[2], name="main")
    beside.result()
"""


@pytest.mark.parametrize("fails_beside", [True, False])
def test_when_a_program_fails_the_other_is_stopped(fails_beside: bool) -> None:
    fails = "import time; time.sleep(1); exit(3)"
    programs = [fails, WAITS] if fails_beside else [WAITS, fails]
    command = [sys.executable, "-c", SIDE_BY_SIDE, *programs]
    done = subprocess.run(command, cwd=RECIPE, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].split() == ["main" if fails_beside else "beside", "saved"]
    assert "returned non-zero exit status 3" in done.stderr.splitlines()[-1]  # the one that failed, not the stopped one


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process at once")
def test_when_the_recipe_is_told_to_stop_so_are_its_programs() -> None:
    command = [sys.executable, "-c", SIDE_BY_SIDE, WAITS, WAITS]
    with subprocess.Popen(command, cwd=RECIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        began = [process.stdout.readline().split()[1] for _ in range(2)]
        process.terminate()
        output, errors = process.communicate(timeout=30)
    assert began == ["waits", "waits"]
    assert sorted(output.split()) == ["beside", "main", "saved", "saved"]
    assert "KeyboardInterrupt" in errors
