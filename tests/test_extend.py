"""Parts added from outside the package: each file in tests/extend is installed as a stranger's package and used."""

from __future__ import annotations

import copy
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
import soundfile
import yaml
from click.testing import CliRunner, Result

from moksori.export.denoiser import DenoiserFacts, export_denoiser
from moksori.export.vocoder import SPECS, export_vocoder
from moksori.runtime import backends, devices, pitch, plugins, samplers, vocoder
from moksori.runtime.cli import main as svc_run
from moksori.runtime.errors import MoksoriError
from moksori.runtime.files import read_json
from moksori.runtime.manifest import DenoiserSpec, PitchSpec
from moksori.runtime.mel import MelSpec
from moksori.train import checkpoint, denoiser, synthesis
from moksori.train.cli import main as svc_train
from moksori.train.denoiser import DenoiserConfig
from moksori.train.prepare import main as svc_prepare

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = Path(__file__).parent / "extend"
SONG = Path(__file__).parent / "data" / "vocadito_10.flac"
STAGES = {
    "sampler": {"runtime": "sampler"},
    "device": {"runtime": "device"},
    "tracker": {"runtime": "tracker"},
    "denoiser": {"train": "denoiser"},
    "vocoder": {"runtime": "vocoder", "train": "vocoder_training", "export": "vocoder_export"},
}
TABLES: tuple[dict[Any, Any], ...] = (
    samplers.SAMPLERS, backends.BACKENDS, pitch.TRACKERS, vocoder.KINDS, denoiser.ARCHITECTURES,
    synthesis.ARCHITECTURES, SPECS,
)  # fmt: skip
LOOP = {"schedule": "constant", "warmup": 1, "validate_every": 1000, "save_every": 2, "workers": 1}
TINY = MelSpec(sample_rate=24_000, hop=240, n_fft=512, win=512, bins=20, fmin=40, fmax=8_000)

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install("sampler")``: the example as pip would leave it, gone again after the test."""
    site, before = tmp_path / "site packages", [copy.deepcopy(dict(table)) for table in TABLES]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def installed(*names: str) -> Path:
        (site / "extend").mkdir(parents=True)
        for file in EXAMPLES.glob("*.py"):
            (site / "extend" / file.name).write_bytes(file.read_bytes())
        for name in names:
            facts = site / f"{name}-1.0.dist-info"
            facts.mkdir()
            (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
            lines = [f"{stage} = extend.{module}" for stage, module in STAGES[name].items()]
            (facts / "entry_points.txt").write_text("\n".join(["[moksori]", *lines, ""]), encoding="utf-8")
        monkeypatch.syspath_prepend(site)
        return site

    yield installed
    for table, kept in zip(TABLES, before, strict=True):
        table.clear()
        table.update(kept)
    for module in [module for module in sys.modules if module.partition(".")[0] == "extend"]:
        del sys.modules[module]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    samples, rate = soundfile.read(SONG, frames=2 * 44_100)
    soundfile.write(tmp_path / "song.wav", samples, rate)
    return tmp_path / "song.wav"


def run(command: click.Command, *arguments: object) -> Result:
    done = CliRunner().invoke(command, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return done


def converted(clip: Path, *arguments: object) -> np.ndarray:
    target = clip.with_name("result.wav")
    run(svc_run, clip, "-o", target, "--force", *arguments)
    samples: np.ndarray = soundfile.read(target)[0]
    assert len(samples) == 2 * 24_000 and np.isfinite(samples).all()
    return samples


def test_a_sampler(install: Install, clip: Path, tmp_path: Path, tiny_voice: Callable[..., Path]) -> None:
    install("sampler")
    voice = tiny_voice(tmp_path / "voice")
    refused = CliRunner().invoke(svc_run, [str(clip), "--voice", str(voice), "--sampler", "midpiont"])
    assert refused.exit_code == 2 and "midpoint" in refused.output
    assert np.abs(converted(clip, "--voice", voice, "--sampler", "midpoint", "--steps", 3)).max() > 1e-3

    def error(steps: int) -> float:
        """Of dx/dt = x·cos t from x = 1 over 0…1, whose solution is e^sin t."""
        x, history = 1.0, 0.0
        for step in samplers.plan("linear", "midpoint", steps):
            c0, c1, c2, _, _ = step.coefficients
            slope = x * np.cos(step.t)
            x, history = c0 * x + c1 * slope + c2 * history, slope
        return float(abs(x - np.exp(np.sin(1))))

    assert np.log2(error(80) / error(160)) == pytest.approx(2, abs=0.05)


def test_a_device(install: Install, clip: Path, tmp_path: Path, tiny_voice: Callable[..., Path]) -> None:
    install("device")
    voice = tiny_voice(tmp_path / "voice")
    assert "plain:0  CPU, not optimised" in run(svc_run, "--devices").output
    done = run(svc_run, clip, "-o", tmp_path / "a.wav", "--voice", voice, "--device", "plain")
    assert "plain:0 (CPU, not optimised)" in done.output
    np.testing.assert_allclose(
        converted(clip, "--voice", voice, "--device", "plain"), converted(clip, "--voice", voice, "--device", "cpu"),
        atol=1e-4,
    )  # fmt: skip
    listed = [device.kind for device in devices.available()]
    assert "plain" in listed and listed[-1] == "cpu"
    assert devices.pick("auto").kind != "plain"


def test_a_pitch_tracker(install: Install, clip: Path, tmp_path: Path, tiny_voice: Callable[..., Path]) -> None:
    install("tracker")
    graph = tmp_path / "pitch.onnx"
    importlib.import_module("extend.tracker_graph").write_graph(graph)
    # Harmonics of a gliding tone: what is heard is what was sung.
    time = np.arange(3 * 16_000) / 16_000
    sung = 110 * 2 ** (time / 3 * 2)
    phase = 2 * np.pi * np.cumsum(sung) / 16_000
    tone = np.sum([0.1 * np.sin(k * phase) / k for k in range(1, 8)], axis=0).astype(np.float32)
    plugins.load()
    tracker = pitch.Tracker(devices.open_session(graph, devices.cpu()), "autocorrelation", 60, 1000)
    f0, voiced = tracker.at(tone, time[1600:-1600:160])
    assert voiced.all() and np.abs(1200 * np.log2(f0 / sung[1600:-1600:160])).max() < 10
    assert not tracker.at(np.zeros(8000, np.float32), np.array([0.1, 0.3]))[1].any()

    songs, content = tmp_path / "songs", tmp_path / "voice" / "content.onnx"
    songs.mkdir()
    soundfile.write(songs / "a.wav", np.tile(tone, 2), 16_000)
    kind = PitchSpec("autocorrelation", 60, 1000, 0.6)
    voice = tiny_voice(tmp_path / "voice", models={"pitch": onnx.load(graph)}, pitch=kind)
    run(svc_prepare, songs, tmp_path / "data", "--content", content, "--pitch", graph, "--jobs", 2, "--perturb", 0)
    facts = read_json(tmp_path / "data" / "data.json")
    assert facts["pitch"]["kind"] == "autocorrelation" and facts["pitch"]["threshold"] == 0.6
    assert np.abs(converted(clip, "--voice", voice)).max() > 1e-3


def test_a_denoiser_and_a_vocoder(
    install: Install, clip: Path, tmp_path: Path, tiny_data: Path, tiny_voice: Callable[..., Path]
) -> None:
    install("denoiser", "vocoder")
    network = {"denoiser": {"channels": 16, "layers": 1}, "vocoder": {"harmonics": 12, "hidden": 16}}
    names = {"denoiser": "residual", "vocoder": "harmonic"}
    for role, architecture in names.items():
        config = {"architecture": architecture, "network": network[role], "batch": 2, "frames": 32, "loop": LOOP}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        given = (role, tiny_data, tmp_path / "run", "--config", tmp_path / "config.yaml")
        run(svc_train, *given, "--steps", 2, "--threads", 1)
        assert checkpoint.newest(tmp_path / "run" / role) is not None

    plugins.load("export")
    known = DenoiserConfig(architecture="residual", network=network["denoiser"])
    facts = DenoiserFacts("residual", "velocity", TINY, units=8, speakers=2, channels=16)
    paths = [tmp_path / f"{role}.onnx" for role in ("condition", "denoiser", "vocoder")]
    proof = export_denoiser(denoiser.build(known, TINY.bins, 8, 2), facts, paths[0], paths[1])
    shape = synthesis.resolved("harmonic", network["vocoder"], TINY)
    made = export_vocoder(synthesis.architecture("harmonic").network(shape), TINY, paths[2])
    assert made.spec.kind == "harmonic" and made.spec.context == 0
    numbers = (-5.0,) * TINY.bins, (2.0,) * TINY.bins
    spec = DenoiserSpec("residual", "velocity", "linear", "euler", 4, 0.5, proof.context, *numbers)
    models = {path.stem: onnx.load(path) for path in paths}
    voice = tiny_voice(tmp_path / "voice", models=models, denoiser=spec, vocoder=made.spec)
    assert np.abs(converted(clip, "--voice", voice)).max() > 1e-4


def test_the_vocoders_stream_is_its_training(install: Install) -> None:
    """The same levels, in chunks and in torch at once, give the same sound."""
    import torch

    install("vocoder")
    plugins.load("train")
    rng = np.random.default_rng(0)
    f0 = rng.uniform(80, 400, 40).astype(np.float32)
    mel = rng.standard_normal((40, TINY.bins)).astype(np.float32)
    levels = rng.uniform(0, 0.1, (40, 12)).astype(np.float32)

    class Graph:
        at = 0

        def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            self.at += len(inputs["f0"][0])
            return [levels[None, self.at - len(inputs["f0"][0]) : self.at]]

    stream = vocoder.KINDS["harmonic"].synthesizer(Graph(), TINY, 0, 0)
    sung = np.concatenate([*(stream.push(mel[a:b], f0[a:b]) for a, b in ((0, 7), (7, 8), (8, 40))), stream.flush()])
    batch = {"mel": torch.from_numpy(mel)[None], "f0": torch.from_numpy(f0)[None]}
    wanted = synthesis.architecture("harmonic").synthesise(lambda *_: torch.from_numpy(levels)[None], batch, TINY)
    # Training fades the first frame in from silence, as the stream does.
    np.testing.assert_allclose(sung, wanted[0].numpy(), atol=2e-4)


def test_a_package_that_fails_is_named(install: Install, clip: Path) -> None:
    site = install("sampler")
    (site / "extend" / "sampler.py").write_text("import nothing_of_that_name\n", encoding="utf-8")
    done = CliRunner().invoke(svc_run, [str(clip)])
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert "the package sampler" in done.output and "pip uninstall sampler" in done.output
    with pytest.raises(MoksoriError, match="nothing_of_that_name"):
        plugins.load("export")


def test_a_package_of_training_does_not_slow_conversion(install: Install) -> None:
    """svc-run imports what is named for the runtime, and no torch with it."""
    site = install("denoiser", "vocoder")
    script = (
        "import sys; from moksori.runtime import plugins, vocoder; plugins.load();"
        "print(list(vocoder.KINDS)[-1], 'torch' in sys.modules)"
    )
    found = {"PYTHONPATH": str(site), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=found, check=True)
    assert done.stdout == "harmonic False\n"


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_contributing_tells_it(file: Path) -> None:
    """CONTRIBUTING.md shows the very file, or names it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = f"`tests/extend/{file.name}`" in text
    shown = f"```python\n{file.read_text(encoding='utf-8')}```" in text
    assert named and (shown or file.stem in ("tracker_graph", "vocoder_training", "vocoder_export"))
