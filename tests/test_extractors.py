"""Graphs by name: what svc-export makes is what svc-prepare finds, and what is missing names the line that makes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import errors
from safetensors.torch import load_file
from transformers import HubertConfig, HubertModel

from moksori.export.cli import main as svc_export
from moksori.runtime import devices
from moksori.runtime.errors import MoksoriError, OptionError
from moksori.runtime.files import sha256
from moksori.train import extractors, teacher, trackers

CPU = devices.cpu()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hubert(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    HubertModel(config).save_pretrained(tmp_path / "내 hubert")
    return tmp_path / "내 hubert"


@pytest.fixture
def hub(tmp_path: Path, hubert: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a network in a cache laid out as huggingface_hub lays it out, with the hub itself out of reach."""
    kept = tmp_path / "hub" / "models--moksori--tiny-hubert"
    (kept / "snapshots").mkdir(parents=True)
    shutil.copytree(hubert, kept / "snapshots" / ("5" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("5" * 40, encoding="utf-8")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return "moksori/tiny-hubert"


def test_a_hub_id_becomes_a_graph_offline(hub: str, capfd: pytest.CaptureFixture[str]) -> None:
    graph = extractors.content(hub, CPU)
    assert "making the graph of moksori/tiny-hubert, once" in capfd.readouterr().err
    assert (graph.kind, graph.dimension, graph.sha256) == ("hubert", 16, sha256(extractors.place(hub)))
    assert graph.device == str(CPU)
    audio = np.random.default_rng(0).uniform(-0.1, 0.1, (1, 6400)).astype(np.float32)
    units = devices.open_session(graph.path, CPU).run(None, {"audio": audio})[0]
    assert units.shape == (1, 20, 16)
    assert extractors.content(hub, CPU) == graph
    assert "making" not in capfd.readouterr().err
    with pytest.raises(OptionError, match="nobody/nothing was never downloaded whole, and the hub cannot be reached"):
        extractors.content("nobody/nothing", CPU)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (errors.RepositoryNotFoundError, "x/y is not on the hub, or it is private"),
        (errors.GatedRepoError, "x/y is only for those whom its owner lets in"),
        (errors.LocalEntryNotFoundError, "x/y was never downloaded whole"),
        (errors.EntryNotFoundError, "x/y has no config.json, or neither model.safetensors nor pytorch_model.bin"),
        (ValueError, r"x/y cannot be read \(several lines\)"),
    ],
)
def test_why_a_network_cannot_be_had(kind: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, *, trust_remote_code: bool) -> None:
        raise OSError("several\nlines") from kind.__new__(kind)

    monkeypatch.setattr(teacher.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(MoksoriError, match=words):
        teacher.load("x/y")


def test_a_folder_is_read_with_new_and_old_weights(hubert: Path) -> None:
    """pytorch_model.bin is a pickle, and is read without running what it might hold."""
    width = teacher.load(str(hubert)).width
    weights = load_file(hubert / "model.safetensors")
    torch.save(weights, hubert / "pytorch_model.bin")
    (hubert / "model.safetensors").unlink()
    assert teacher.load(str(hubert)).width == width == 16
    torch.save({"a": Path("/")}, hubert / "pytorch_model.bin")
    for _ in range(2):
        with pytest.raises(MoksoriError, match="is no network of transformers: it needs config"):
            teacher.load(str(hubert))
        (hubert / "pytorch_model.bin").unlink(missing_ok=True)


def test_a_folder_becomes_a_graph_by_its_weights(hubert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str]] = []

    def export(option: str, name: str) -> None:
        made.append((option, name))
        raise OptionError("not now")

    monkeypatch.setattr(trackers, "export", export)
    with pytest.raises(OptionError, match="not now"):
        extractors.content(str(hubert), CPU)
    assert made == [("--teacher", str(hubert))]
    before = extractors.place(str(hubert))
    (hubert / "model.safetensors").touch()  # other weights would have another time
    assert extractors.place(str(hubert)) != before
    refused = CliRunner().invoke(svc_export, ["--teacher", str(hubert), "--layer", "1"])
    assert (refused.exit_code, "needs a FILE" in refused.output) == (2, True)


def test_crepe_is_made_once(tmp_path: Path) -> None:
    assert extractors.pitch("crepe-tiny", CPU).kind == "crepe"
    assert trackers.place("crepe-tiny").is_file()
    assert trackers.graph("crepe-tiny").is_relative_to(tmp_path / "cache")
    for words in (["--pitch", "praat"], ["--pitch", "crepe", "a", "b"]):
        refused = CliRunner().invoke(svc_export, words)
        assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    with pytest.raises(OptionError, match="no pitch tracker 'praat'"):
        trackers.graph("praat")


def test_a_voice_lends_its_content_graph(tmp_path: Path, tiny_voice: Callable[[Path], Path]) -> None:
    folder = tiny_voice(tmp_path / "voice")
    shutil.make_archive(str(tmp_path / "zipped"), "zip", folder)
    expected = sha256(folder / "content.onnx")
    for name in (folder, tmp_path / "zipped.zip", folder / "content.onnx"):
        graph = extractors.content(str(name), CPU)
        assert (graph.sha256, graph.dimension) == (expected, 8)
    with pytest.raises(OptionError, match="not a content graph"):
        extractors.content(str(folder / "pitch.onnx"), CPU)
    with pytest.raises(OptionError, match="not a pitch graph"):
        extractors.pitch(str(folder / "denoiser.onnx"), CPU)
    with pytest.raises(OptionError, match="nothing here is no content graph, voice"):
        extractors.content("nothing here", CPU)
