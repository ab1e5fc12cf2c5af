"""svc-export from end to end: a tiny trained run becomes a voice that the runtime loads, or nothing at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from moksori.benchmarks import parity
from moksori.export import run as runs
from moksori.export.cli import main
from moksori.export.content import ContentFacts, export_content
from moksori.export.pitch import export_swift
from moksori.export.spec import ExportError
from moksori.models.convnext_content import ConvNeXtContentConfig
from moksori.models.whisper import WhisperConfig, WhisperContent
from moksori.runtime.manifest import PitchSpec
from moksori.runtime.mel import MelSpec
from moksori.runtime.voice import Voice
from moksori.train import checkpoint, objective
from moksori.train import config as configs
from moksori.train.content import ContentConfig
from moksori.train.content import build as build_content
from moksori.train.denoiser import DenoiserConfig, build
from moksori.train.vocoder import VocoderConfig
from moksori.train.vocoder import build as build_vocoder

MEL = MelSpec(sample_rate=24_000, hop=240, n_fft=512, win=512, bins=20, fmin=40, fmax=8_000)
UNITS, SPEAKERS = 8, ("aide", "heart", "f001")
DENOISER = DenoiserConfig(network={"channels": 32, "hidden": 48, "layers": 2, "kernel": 5})
VOCODER = VocoderConfig(network={"mel_bins": 20, "n_fft": 512, "channels": 24, "hidden": 32, "layers": 2})
CONTENT = ContentConfig(network={"units": UNITS, "channels": 32, "hidden": 48, "layers": 2, "kernel": 5})
ABOUT = """
description: A voice for tests, 목소리
licence: CC-BY-4.0
credits: [made by a test]
speakers: {heart: {licence: Apache-2.0, credit: nobody}}
quality: {similarity: 0.81}
limits: [It says nothing.]
steps: 6
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN_DIR with two steps of every network; the newer one differs."""
    run = tmp_path_factory.mktemp("run of 한글 🎤")
    for step in (10, 20):
        torch.manual_seed(step)
        save(run / "denoiser", build(DENOISER, MEL.bins, UNITS, len(SPEAKERS)), DENOISER, step)
        save(run / "vocoder", build_vocoder(VOCODER), VOCODER, step)
        save(run / "content", build_content(CONTENT), CONTENT, step)
    torch.manual_seed(0)
    teacher = WhisperContent(WhisperConfig(width=UNITS, layers=1, heads=2)).eval()
    facts = ContentFacts("whisper", UNITS, context=1.5, longest=1500, licence="MIT")
    export_content(teacher, facts, run / "graphs" / "content.onnx")
    export_swift(run / "graphs" / "pitch.onnx")
    (run / "about.yaml").write_text(ABOUT, encoding="utf-8")
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="session")
def voice(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("voices") / "나의 voice"
    result = export(trained, target, "--speakers", "heart,aide")
    assert result.exit_code == 0, result.output
    return target


def save(folder: Path, network: torch.nn.Module, config: object, step: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    optimizers: dict[str, torch.optim.Optimizer] = {"network": torch.optim.AdamW(network.parameters())}
    checkpoint.save(folder, checkpoint.State(network, network, optimizers, step))
    configs.save(folder / "config.yaml", config)
    figures = {"seconds": 60.0, "f0_low": 100.0, "f0_median": 200.0, "f0_high": 400.0, "loudness": -20.0}
    facts = {
        "mel": asdict(MEL),
        "units": {"dimension": UNITS},
        "pitch": asdict(PitchSpec("swift_scores", 50.0, 1600.0, 0.5, median=3)),
        "speakers": [{"name": name, **figures} for name in SPEAKERS],
        "statistics": {"mean": [-5.0] * MEL.bins, "deviation": [2.0] * MEL.bins},
    }
    configs.save(folder / "data.yaml", facts)


def export(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result, *words: str) -> None:
    """One line on stderr, exit code 2."""
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("Error: ")
    for word in words:
        assert word in result.stderr


def test_a_voice_holds_what_the_run_and_about_say(voice: Path) -> None:
    names = {"voice.json", "MODEL_CARD.md", *(f"{role}.onnx" for role in Voice.load(voice, "cpu").sessions)}
    assert {path.name for path in voice.iterdir()} == names
    said = json.loads((voice / "voice.json").read_text(encoding="utf-8"))
    assert said["name"] == "나의 voice"
    assert [speaker["name"] for speaker in said["speakers"]] == ["heart", "aide"]
    assert (said["speakers"][0]["licence"], said["speakers"][1]["licence"]) == ("Apache-2.0", "")
    assert said["units"] == {"dimension": UNITS, "sample_rate": 16_000, "hop": 320, "context": 1.5, "lookahead": 60.0}
    assert said["pitch"] == {
        "kind": "swift_scores", "fmin": 50.0, "fmax": 1600.0, "threshold": 0.5,
        "hop": 0.01, "decoder": "weighted", "median": 3, "mean": 1, "octave_guard": False, "faint": 1.0, "periods": 0,
    }  # fmt: skip
    assert (said["denoiser"]["steps"], said["denoiser"]["sampler"]) == (6, "euler")
    # kernel 5 twice in the denoiser; kernel 5 twice before it; 3 and twice 7 in the vocoder
    assert (said["denoiser"]["context"], said["vocoder"]["context"]) == (2 * 2 + 2 * 2, 1 + 2 * 3)
    assert said["precision"] == {"content": "fp32", "pitch": "fp32"} | dict.fromkeys(
        ("condition", "denoiser", "vocoder"), "fp16"
    )
    card = (voice / "MODEL_CARD.md").read_text(encoding="utf-8")
    for part in (
        "목소리",
        "| heart | 100 / 200 / 400 Hz | -20 dB | Apache-2.0 |",
        "It says nothing.",
        "0.81",
        "made by a",
    ):
        assert part in card


def test_the_graphs_are_the_newest_networks(voice: Path, trained: Path) -> None:
    """x_next and prediction against the formula in DESIGN.md, computed with the checkpoint's own weights."""
    network = build(DENOISER, MEL.bins, UNITS, len(SPEAKERS)).eval()
    network.load_state_dict(checkpoint.weights(checkpoint.at(trained / "denoiser", 20))[0])
    rng = torch.Generator().manual_seed(3)
    frames, count = 37, 19
    units = torch.randn(1, count, UNITS, generator=rng)
    mel2ph = torch.linspace(0, count, frames).long()[None]
    f0, voiced = torch.full((1, frames), 220.0), (torch.rand(1, frames, generator=rng) > 0.5).float()
    loudness, mix = torch.full((1, frames), -25.0), torch.tensor([[0.25, 0.75]])
    everyone = torch.tensor([[0.75, 0.25, 0.0]])  # heart and aide, in the order of the run
    loaded = Voice.load(voice, "cpu")
    feed = {
        "units": units,
        "mel2ph": mel2ph,
        "f0": f0,
        "voiced": voiced,
        "loudness": loudness,
        "speaker": mix,
    }
    condition = loaded.condition.run(None, {name: value.numpy() for name, value in feed.items()})[0]
    with torch.inference_mode():
        wanted = network.get_submodule("conditioner")(units, mel2ph, f0, voiced, loudness, everyone)
    assert relative(condition, wanted.numpy()) < 5e-3  # fp16 weights
    state = {
        name: torch.randn(1, MEL.bins, frames, generator=rng)
        for name in ("x", "history_1", "history_2", "history_3")
    }
    coefficients = np.array([0.9, 0.2, -0.1, 0.05, 0.3], np.float32)
    step = {name: value.numpy() for name, value in state.items()}
    step |= {"t": np.array([0.3], np.float32), "coefficients": coefficients, "condition": condition}
    x_next, prediction = loaded.denoiser.run(None, step)
    with torch.inference_mode():
        flow = objective.velocity(network, state["x"], torch.tensor([0.3]), wanted).numpy()
    assert relative(prediction, flow) < 5e-3
    terms = (step["x"], prediction, step["history_1"], step["history_2"], step["history_3"])
    np.testing.assert_allclose(
        x_next, sum(c * term for c, term in zip(coefficients, terms, strict=True)), atol=1e-5
    )


def relative(values: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(values - wanted).max() / np.abs(wanted).max())


def test_best_json_decides(run: Path, tmp_path: Path) -> None:
    newest = checkpoint.weights(checkpoint.at(run / "vocoder", 20))[0]
    assert torch.equal(runs.vocoder(run).network.state_dict()["head.weight"], newest["head.weight"])
    (run / "vocoder" / "best.json").write_text('{"step": 10}', encoding="utf-8")
    best = checkpoint.weights(checkpoint.at(run / "vocoder", 10))[0]
    assert torch.equal(runs.vocoder(run).network.state_dict()["head.weight"], best["head.weight"])
    checkpoint.at(run / "vocoder", 10).unlink()
    refused(export(run, tmp_path / "v"), "best.json names a checkpoint that is gone")
    shutil.rmtree(run / "vocoder")
    refused(export(run, tmp_path / "v"), "no trained vocoder", "svc-train vocoder")


def test_a_zip_is_the_same_voice_and_the_student_can_be_shipped(trained: Path, tmp_path: Path) -> None:
    more = ("--zip", "--student", "--precision", "w8", "--name", "student", "--force")
    result = export(trained, tmp_path / "내 목소리", *more)
    assert result.exit_code == 0, result.output
    path = tmp_path / "내 목소리.zip"
    loaded = Voice.load(path, "cpu")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert loaded.name == "student"
    assert loaded.content.metadata["kind"] == "convnext"
    student = ConvNeXtContentConfig(**CONTENT.network)
    assert loaded.manifest.units.context == pytest.approx(student.context)
    assert loaded.manifest.units.lookahead == pytest.approx(student.lookahead)
    shown = export("--inspect", path)
    assert shown.exit_code == 0
    for word in ("student", "heart", "f001", "w8 against fp32", "convnext", "every file is as voice.json describes it"):
        assert word in shown.output


def test_an_existing_target_is_kept_unless_forced(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "documents"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work", encoding="utf-8")
    refused(export(trained, other), "exists", "--force")
    refused(export(trained, other, "--force"), "something else than a voice")
    assert (other / "thesis.txt").read_text(encoding="utf-8") == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["documents"]


@pytest.mark.parametrize(
    ("error", "code"), [(ExportError("the graph is wrong"), 2), (KeyboardInterrupt(), 130)]
)
def test_a_failed_or_stopped_export_leaves_the_old_voice(
    voice: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    target = tmp_path / "v"
    shutil.copytree(voice, target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    monkeypatch.setattr("moksori.export.voice.export_denoiser", fail)
    assert export(trained, target, "--force").exit_code == code
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_what_cannot_be_exported_is_said(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "v"
    refused(export(), "RUN_DIR", "svc-export run/ my_voice/")
    refused(export(tmp_path / "nothing", target), "not a folder")
    refused(export(run, target, "--speakers", "heart,nobody"), "no speaker 'nobody'", "aide, heart, f001")
    refused(export(run, target, "--precision", "fp8"), "fp8", "int8")
    refused(export("--inspect", tmp_path / "nothing"), "no voice")
    (run / "about.yaml").write_text("license: MIT", encoding="utf-8")
    refused(export(run, target), "unknown key 'license'", "licence")
    (run / "about.yaml").write_text("guidance: 2", encoding="utf-8")
    refused(export(run, target), "a guidance of 2 needs a denoiser", "dropped: 0.1")
    (run / "about.yaml").unlink()
    facts = run / "denoiser" / "data.yaml"
    known = facts.read_text(encoding="utf-8")
    facts.write_text(f"{known}content_sha256: {64 * '0'}\n", encoding="utf-8")
    refused(export(run, target), "content.onnx did not make the denoiser's data")
    facts.write_text(known.replace("  median: 3\n", ""), encoding="utf-8")
    refused(export(run, target), "another version of Moksori", "median", "svc-prepare again")
    facts.write_text(known, encoding="utf-8")
    shutil.copyfile(run / "graphs" / "pitch.onnx", run / "graphs" / "content.onnx")
    refused(export(run, target), "not a content graph")
    (run / "graphs" / "content.onnx").write_bytes(b"an html page, perhaps")
    refused(export(run, target), "not an ONNX file")
    (run / "graphs" / "content.onnx").unlink()
    refused(export(run, target), "content.onnx is missing")
    checkpoint.at(run / "denoiser", 20).write_bytes(b"cut short")
    refused(export(run, target), "not a readable checkpoint")
    assert not target.exists()


def test_help_shows_an_example() -> None:
    result = export("--help")
    assert result.exit_code == 0
    assert "svc-export run/ my_voice/" in result.output


def test_the_parity_table_has_every_graph(trained: Path, tmp_path: Path) -> None:
    arguments = [str(trained), "--precisions", "w8", "--out", str(tmp_path / "parity")]
    result = CliRunner().invoke(parity.main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "parity.json").read_text(encoding="utf-8"))
    made = ["content", "condition", "denoiser", "vocoder"]
    assert [one["graph"] for one in found["graphs"]] == [*made, "content, copied", "pitch, copied"]
    assert [(one["role"], one["precision"]) for one in found["costs"]] == [(role, "w8") for role in made]
    for one in found["graphs"][:4]:
        assert one["stored"] == "w8" and len(one["millionths"]) == len(one["lengths"]) == 3
        assert 0 < max(one["millionths"]) < 100 and 1e-4 < one["rounding"] < 0.2
    text = (tmp_path / "parity.md").read_text(encoding="utf-8")
    assert text.count("| w8 |") == 8
    refused(CliRunner().invoke(parity.main, []), "name a RUN_DIR of svc-train, or add --kinds or --real-size")
