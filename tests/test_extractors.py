"""Graphs by name: what svc-export makes is what svc-prepare finds, and what is missing names the line that makes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import HubertConfig, HubertModel

from moksori.export.cli import main as svc_export
from moksori.runtime import devices
from moksori.runtime.errors import OptionError
from moksori.runtime.files import sha256
from moksori.train import extractors, trackers

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


def test_a_teacher_becomes_a_graph_that_is_found_by_its_name(hubert: Path) -> None:
    with pytest.raises(OptionError, match="run once: svc-export --teacher"):
        extractors.content(str(hubert), CPU)
    done = CliRunner().invoke(svc_export, ["--teacher", str(hubert)])
    assert done.exit_code == 0, done.output
    graph = extractors.content(str(hubert), CPU)
    assert (graph.kind, graph.dimension, graph.sha256) == ("hubert", 16, sha256(extractors.place(str(hubert))))
    audio = np.random.default_rng(0).uniform(-0.1, 0.1, (1, 6400)).astype(np.float32)
    units = devices.open_session(graph.path, CPU).run(None, {"audio": audio})[0]
    assert units.shape == (1, 20, 16)
    (hubert / "model.safetensors").touch()  # other weights would have another time
    with pytest.raises(OptionError, match="must become a graph first"):
        extractors.content(str(hubert), CPU)
    refused = CliRunner().invoke(svc_export, ["--teacher", str(hubert), "--layer", "1"])
    assert (refused.exit_code, "needs a FILE" in refused.output) == (2, True)
    with pytest.raises(OptionError, match=r'svc-export --teacher "lengyue233/content-vec-best"'):
        extractors.content("lengyue233/content-vec-best", CPU)


def test_crepe_is_made_once(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="svc-export --pitch crepe-tiny"):
        trackers.graph("crepe-tiny")
    done = CliRunner().invoke(svc_export, ["--pitch", "crepe-tiny"])
    assert done.exit_code == 0, done.output
    assert extractors.pitch("crepe-tiny", CPU).kind == "crepe"
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
