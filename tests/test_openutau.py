"""OpenUtau's form: what its published contract asks of a vocoder, written and read; and voices with such vocoders."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from moksori.export import adopt
from moksori.export.cli import main
from moksori.export.openutau import OpenUtauForm
from moksori.models.nsf_hifigan import NsfHifiGan, NsfHifiGanConfig
from moksori.runtime import vocoder
from moksori.runtime.errors import MoksoriError
from moksori.runtime.mel import MelSpec
from moksori.runtime.voice import Voice

TinyVoice = Callable[..., Path]

MEL = MelSpec(sample_rate=24_000, hop=240, n_fft=512, win=512, bins=20, fmin=40, fmax=8_000)  # the tiny voice's
CONFIG = NsfHifiGanConfig(20, 24_000, (8, 5, 3, 2), (16, 11, 7, 4), 16, "2", (3,), ((1, 3),))
SAID = {
    "sampling_rate": 24_000, "num_mels": 20, "hop_size": 240, "n_fft": 512, "win_size": 512, "fmin": 40, "fmax": 8_000,
    "upsample_rates": [8, 5, 3, 2], "upsample_kernel_sizes": [16, 11, 7, 4], "upsample_initial_channel": 16,
    "resblock": "2", "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]], "pc_aug": True,
}  # fmt: skip
KEYS = {
    "name": str, "model": str, "sample_rate": int, "hop_size": int, "win_size": int, "fft_size": int,
    "num_mel_bins": int, "mel_fmin": float, "mel_fmax": float, "mel_base": str, "mel_scale": str,
    "pitch_controllable": bool,
}  # fmt: skip


def network() -> NsfHifiGan:
    torch.manual_seed(0)
    return NsfHifiGan(CONFIG).eval()


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openvpi 보코더")
    torch.save({"generator": network().state_dict()}, folder / "model")
    (folder / "config.json").write_text(json.dumps(SAID), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def package(generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("out") / "my 🎤.oudep"
    result = export(generator, target, "--openutau")
    assert result.exit_code == 0, result.output
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return target


def export(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert all(word in result.stderr for word in words), result.stderr


def accept(graph: bytes, said: dict[str, Any]) -> onnxruntime.InferenceSession:
    """What OpenUtau asks: names, types and shapes of the graph, keys and values of vocoder.yaml."""
    assert {key: type(value) for key, value in said.items()} == KEYS
    assert said["mel_base"] in ("e", "10") and said["mel_scale"] in ("slaney", "htk")
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    taken = {one.name: (one.type, one.shape) for one in session.get_inputs()}
    assert taken["mel"][0] == taken["f0"][0] == "tensor(float)" and set(taken) == {"mel", "f0"}
    (one, frames, bins), (also_one, also_frames) = taken["mel"][1], taken["f0"][1]
    assert (one, also_one, bins) == (1, 1, said["num_mel_bins"]) and frames == also_frames == "n_frames"
    (made,) = session.get_outputs()
    assert (made.name, made.type, len(made.shape)) == ("waveform", "tensor(float)", 2)
    for count in (1, 13, 200):
        feed = {"mel": np.full((1, count, bins), -5, np.float32), "f0": np.full((1, count), 220, np.float32)}
        (waveform,) = session.run(None, feed)
        assert waveform.shape == (1, count * said["hop_size"]) and np.abs(waveform).max() <= 1
    return session


def test_a_package_is_what_openutau_asks_for(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        assert sorted(archive.namelist()) == ["nsf_hifigan.onnx", "oudep.yaml", "vocoder.yaml"]
        said = yaml.safe_load(archive.read("vocoder.yaml"))
        about = yaml.safe_load(archive.read("oudep.yaml"))
        graph = archive.read(said["model"])
    assert about.keys() == {"id", "version", "description", "class"}
    assert (said["sample_rate"], said["mel_fmax"], said["pitch_controllable"]) == (24_000, 8_000, True)
    accept(graph, said)
    model = onnx.load_from_string(graph)
    assert not any(node.op_type.startswith("Random") or node.op_type in ("If", "Loop") for node in model.graph.node)


def test_the_phase_inside_stays_exact() -> None:
    """Over ten minutes the graph's float32 sum is within a ten-thousandth of a cycle of its own advances' sum."""
    form = OpenUtauForm(network())
    f0 = torch.tensor(220 * 2 ** np.sin(np.arange(30_000) / 40), dtype=torch.float32)[None]
    with torch.no_grad():
        found = form.phase(f0)[0].numpy().astype(np.float64)
        advance = form.network.m_source.advance(f0)[0].numpy().astype(np.float64)
    off = (found - np.concatenate([[0], np.cumsum(advance)[:-1]]) + 0.5) % 1 - 0.5
    assert np.abs(off).max() < 1e-4


def test_the_noise_inside_is_white_and_long() -> None:
    table = OpenUtauForm(network()).noise
    assert table.numel() > MEL.sample_rate  # a second before it repeats
    spectrum = np.abs(np.fft.rfft(table.numpy().ravel())) ** 2
    parts = spectrum[1:15_001].reshape(15, -1).mean(1)
    assert float(table.std()) == pytest.approx(1, abs=0.02) and parts.max() < 1.2 * parts.min()


def test_istft_has_no_such_form(tmp_path: Path, generator: Path) -> None:
    refused(export(tmp_path, tmp_path / "x", "--openutau"), "no trained vocoder")
    (tmp_path / "taken.oudep").write_bytes(b"")
    refused(export(generator, tmp_path / "taken.oudep", "--openutau"), "exists; use --force")


# in a voice


def sung(voice: Voice, cuts: list[int]) -> np.ndarray:
    random = np.random.default_rng(0)
    mel, f0 = random.normal(-5, 1, (60, 20)).astype(np.float32), np.full(60, 220, np.float32)
    synthesizer = vocoder.synthesizer(voice.vocoder, voice.manifest.mel, voice.manifest.vocoder, 0)
    parts = [synthesizer.push(mel[a:b], f0[a:b]) for a, b in pairwise([0, *cuts, 60])]
    return np.concatenate([*parts, synthesizer.flush()])


def test_a_voice_takes_a_published_generator(generator: Path, tmp_path: Path, tiny_voice: TinyVoice) -> None:
    """The graph of its checkpoint, streamed exactly; quality measured with the old vocoder is gone."""
    result = export(tiny_voice(tmp_path / "tiny"), tmp_path / "new voice", "--vocoder", generator / "model")
    assert result.exit_code == 0, result.output
    voice = Voice.load(tmp_path / "new voice", "cpu", threads=1)
    said = voice.manifest
    assert (said.vocoder.kind, said.vocoder.phase, dict(said.quality)) == ("nsf_hifigan", "host", {})
    assert "trained elsewhere" in said.credits[-1] and said.precision["vocoder"] == "fp16"
    whole, cut = sung(voice, []), sung(voice, [7, 8, 29])
    np.testing.assert_allclose(cut, whole, atol=1e-5 * np.abs(whole).max())
    assert len(whole) == 60 * 240
    assert "trained elsewhere" in (tmp_path / "new voice" / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_voice_takes_a_package(package: Path, tmp_path: Path, tiny_voice: TinyVoice) -> None:
    result = export(tiny_voice(tmp_path / "tiny"), tmp_path / "new.zip", "--vocoder", package)
    assert result.exit_code == 0, result.output
    voice = Voice.load(tmp_path / "new.zip", "cpu", threads=1)
    assert (voice.manifest.vocoder.kind, voice.manifest.vocoder.phase) == ("openutau", "graph")
    assert len(sung(voice, [20, 31])) == 60 * 240


def echo(folder: Path, base: str | None, noisy: bool = False, **changes: Any) -> Path:
    """A graph whose waveform is its mean mel, held through each frame, beside a vocoder.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("ReduceMean", ["mel", "two"], ["level"], keepdims=1),
        helper.make_node("Expand", ["level", "shape"], ["wide"]),
        helper.make_node("Reshape", ["wide", "flat"], ["held"]),
        helper.make_node("ReduceMin", ["f0"], ["lowest"], keepdims=0),
        helper.make_node("Mul", ["lowest", "zero"], ["nothing"]),
        helper.make_node("Add", ["held", "nothing"], ["quiet"]),
        helper.make_node("RandomNormalLike", ["quiet"], ["drawn"]),
        helper.make_node("Mul", ["drawn", "some" if noisy else "zero"], ["hiss"]),
        helper.make_node("Add", ["quiet", "hiss"], ["waveform"]),
    ]
    weights: dict[str, Any] = {"two": np.array([2]), "shape": np.array([1, 1, 240]), "flat": np.array([1, -1])}
    weights |= {"zero": np.float32(0), "some": np.float32(0.1)}
    ports = [("mel", (1, "n_frames", 20)), ("f0", (1, "n_frames")), ("waveform", (1, "n_samples"))]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "echo", values[:2], values[2:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "nsf_hifigan.onnx")
    said = {
        "name": "echo", "model": "nsf_hifigan.onnx", "sample_rate": 24_000, "hop_size": 240, "win_size": 512,
        "fft_size": 512, "num_mel_bins": 20, "mel_fmin": 40, "mel_fmax": 8_000, "mel_base": base, **changes,
    }  # fmt: skip
    said = {key: value for key, value in said.items() if value is not None}
    (folder / "vocoder.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("base", "factor"), [("e", 1.0), ("10", 1 / np.log(10)), (None, 1 / np.log(10)), (10, 0.4343)])
def test_mel_of_either_logarithm(tmp_path: Path, base: str | None, factor: float) -> None:
    """A voice's mel is a natural logarithm; a package that says nothing means base 10, as OpenUtau reads it."""
    folder = echo(tmp_path / "x", base)
    for source in (folder, folder / "nsf_hifigan.onnx"):
        adopt.adopt(source, MEL, tmp_path / "vocoder.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "vocoder.onnx", providers=["CPUExecutionProvider"])
        feed = {"mel": np.full((1, 4, 20), -3, np.float32), "f0": np.full((1, 4), 220, np.float32)}
        np.testing.assert_allclose(session.run(None, feed)[0], np.full((1, 960), -3 * factor), rtol=1e-4)


def test_noise_inside_repeats(tmp_path: Path) -> None:
    adopt.adopt(echo(tmp_path / "x", "e", noisy=True), MEL, tmp_path / "vocoder.onnx")
    feed = {"mel": np.full((1, 4, 20), -3, np.float32), "f0": np.full((1, 4), 220, np.float32)}
    runs = [
        onnxruntime.InferenceSession(tmp_path / "vocoder.onnx", providers=["CPUExecutionProvider"]).run(None, feed)[0]
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*runs)
    assert runs[0].std() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample_rate": 44_100}, r"sample_rate 44100 \(the voice: 24000\)"),
        ({"hop_size": 512, "num_mel_bins": 128}, r"hop 512 \(the voice: 240\), bins 128 \(the voice: 20\)"),
        ({"mel_base": "2"}, "mel_base in vocoder.yaml must be e or 10"),
        ({"mel_scale": "htk"}, "scale 'htk'"),
        ({"hop_size": "x"}, "must be numbers"),
        ({"hop_size": 10**30}, "must be numbers"),
        ({"mel_fmin": None}, "lacks mel_fmin"),
        ({"model": "../../secret.onnx"}, "plain name"),
        ({"model": "gone.onnx"}, "has no gone.onnx"),
    ],
)
def test_packages_that_do_not_fit(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    base = change.pop("mel_base", "e") if "mel_base" in change else "e"
    with pytest.raises(MoksoriError, match=words) as caught:
        adopt.adopt(echo(tmp_path / "x", base, **change), MEL, tmp_path / "vocoder.onnx")
    assert "\n" not in str(caught.value) and not (tmp_path / "vocoder.onnx").exists()


def test_hostile_packages(tmp_path: Path) -> None:
    good, target = echo(tmp_path / "good", "e"), tmp_path / "vocoder.onnx"
    outside = tmp_path / "outside"
    outside.mkdir()

    def packed(name: str, member: str, mode: int = 0o644) -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(good / "vocoder.yaml", "vocoder.yaml")
            entry = zipfile.ZipInfo(member)
            entry.external_attr = mode << 16
            archive.writestr(entry, (good / "nsf_hifigan.onnx").read_bytes())
        return path

    linked = echo(tmp_path / "linked", "e")
    (linked / "nsf_hifigan.onnx").rename(outside / "model.onnx")
    (linked / "nsf_hifigan.onnx").symlink_to(outside / "model.onnx")
    external = echo(tmp_path / "external", "e")
    model = onnx.load(external / "nsf_hifigan.onnx")
    onnx.external_data_helper.convert_model_to_external_data(model, location="w.bin", size_threshold=0)
    onnx.save(model, external / "nsf_hifigan.onnx")
    short = echo(tmp_path / "short", "e")
    data = (short / "nsf_hifigan.onnx").read_bytes()
    (short / "nsf_hifigan.onnx").write_bytes(data[: len(data) // 2])
    half = tmp_path / "half.oudep"
    half.write_bytes(packed("whole.oudep", "nsf_hifigan.onnx").read_bytes()[:300])
    nested = echo(tmp_path / "nested", "e")
    (nested / "vocoder.yaml").write_text("[" * 20_000, encoding="utf-8")
    cases = [
        (packed("up.oudep", "../nsf_hifigan.onnx"), "leaves the folder"),
        (packed("link.oudep", "nsf_hifigan.onnx", 0o120777), "a link"),
        (linked, "a link"),
        (external, "another file"),
        (short, "damaged|cut short"),
        (half, "cut short|not a zip"),
        (nested, "cannot be read as YAML"),
        (tmp_path / "nowhere.oudep", "is no vocoder"),
        (outside, "is no vocoder"),
    ]
    for source, words in cases:
        with pytest.raises(MoksoriError, match=words) as caught:
            adopt.adopt(source, MEL, target)
        assert "\n" not in str(caught.value)
    assert not target.exists()


def test_a_graph_of_other_ports_or_length(tmp_path: Path) -> None:
    source = echo(tmp_path / "x", "e")
    model = onnx.load(source / "nsf_hifigan.onnx")
    long = onnx.ModelProto.FromString(model.SerializeToString())
    long.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([1, 1, 241]), "shape"))
    onnx.save(long, source / "nsf_hifigan.onnx")
    with pytest.raises(MoksoriError, match=r"makes \[1, 2169\] of 9 frames, not \[1, 2160\]"):
        adopt.adopt(source, MEL, tmp_path / "v.onnx")
    model.graph.input[1].name = "pitch"
    model.graph.node[3].input[0] = "pitch"
    onnx.save(model, source / "nsf_hifigan.onnx")
    with pytest.raises(MoksoriError, match="mel, pitch, waveform, not mel, f0 and waveform"):
        adopt.adopt(source, MEL, tmp_path / "v.onnx")
