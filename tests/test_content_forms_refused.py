"""HuBERT folders that lie about their size, lack weights or are cut short: a sentence, no traceback, nothing run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import HubertConfig, HubertModel

from moksori.export.cli import main
from moksori.runtime.errors import MoksoriError
from moksori.runtime.voice import Voice
from moksori.train import teacher

TinyVoice = Callable[..., Path]


@pytest.fixture
def hubert(tmp_path: Path) -> Path:
    """Eight numbers a unit, as the tiny voice wants them."""
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    HubertModel(config).save_pretrained(tmp_path / "내 hubert")
    return tmp_path / "내 hubert"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 10**12}, "hidden_size in config.json must be from 1 to 4096, not 1000000000000"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers in config.json must be from 1 to 64"),
        ({"conv_dim": [10**9] * 7}, "conv_dim in config.json must be from 1 to 2048"),
        ({"conv_kernel": [3] * 10**4}, "config.json"),
        ({"hidden_size": -4}, "hidden_size in config.json must be"),
        ({"hidden_size": "x"}, "config.json"),
        ({"hidden_size": 16}, "weights are not those of its config.json"),
        ({"num_hidden_layers": 3}, "lacks encoder.layers.2.* and 15 more"),
        ({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}, "config.json"),
    ],
)
def test_configs_that_lie(hubert: Path, change: dict[str, Any], words: str) -> None:
    path = hubert / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    (hubert / "evil.py").write_text("open('exploded', 'w')", encoding="utf-8")
    with pytest.raises(MoksoriError, match=words) as caught:
        teacher.load(str(hubert))
    assert "\n" not in str(caught.value) and str(hubert) in str(caught.value)
    assert not Path("exploded").exists()


def test_weights_that_are_damaged(hubert: Path) -> None:
    with pytest.raises(MoksoriError, match="has 2 layers, and no layer 9"):
        teacher.load(str(hubert), 9)
    path = hubert / "model.safetensors"
    whole, weights = path.read_bytes(), load_file(path)
    name = "encoder.layer_norm.weight"
    for some, words in (
        ({key: value for key, value in weights.items() if key != name}, f"lacks {name}"),
        (weights | {name: torch.full((8,), torch.nan)}, f"{name} holds no numbers"),
    ):
        save_file(some, path, {"format": "pt"})
        with pytest.raises(MoksoriError, match=words):
            teacher.load(str(hubert))
    for size in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(MoksoriError, match="whole"):
            teacher.load(str(hubert))


def test_a_voice_takes_another_content_network(hubert: Path, tmp_path: Path, tiny_voice: TinyVoice) -> None:
    folder, target = tiny_voice(tmp_path / "voice"), tmp_path / "새 voice"
    result = CliRunner().invoke(main, [str(one) for one in (folder, target, "--content", hubert)])
    assert result.exit_code == 0, result.output
    voice = Voice.load(target, "cpu", threads=1)
    said = voice.manifest
    assert (voice.content.metadata["kind"], said.precision["content"], dict(said.quality)) == ("hubert", "fp16", {})
    assert said.vocoder == Voice.load(folder, "cpu", threads=1).manifest.vocoder
    assert {"distance_of_fp32", "size_of_fp32"} <= voice.content.metadata.keys()
    path = hubert / "config.json"
    wide = json.loads(path.read_text(encoding="utf-8")) | {"hidden_size": 12}
    HubertModel(HubertConfig(**wide)).save_pretrained(hubert)
    refused = CliRunner().invoke(main, [str(one) for one in (folder, tmp_path / "x", "--content", hubert)])
    assert refused.exit_code == 2 and refused.stderr.count("\n") == 1
    assert "gives 12 numbers a unit, and voice 'tiny' was trained on 8" in refused.stderr
    assert not (tmp_path / "x").exists()
