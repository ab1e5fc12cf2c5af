"""Content networks in every form people have: HuBERT-soft's torch file and ContentVec's two kinds of units."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import HubertConfig, HubertModel

from moksori.export import extractors
from moksori.runtime import devices
from moksori.runtime.errors import MoksoriError, VoiceError
from moksori.train import extractors as hearing
from moksori.train import teacher

WIDTH, UNITS, FRONT, LAYERS, TAPS, INNER = 128, 6, 8, 2, 16, 32


class Soft(nn.Module):
    """HuBERT-soft as its paper describes it, by the names of its published weights, in torch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        kernels = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
        convs = {
            f"conv{at}": nn.Conv1d(FRONT if at else 1, FRONT, size, stride, bias=False)
            for at, (size, stride) in enumerate(kernels)
        }
        self.feature_extractor = nn.ModuleDict({**convs, "norm0": nn.GroupNorm(FRONT, FRONT)})
        maps = {"norm": nn.LayerNorm(FRONT), "projection": nn.Linear(FRONT, WIDTH)}
        self.feature_projection = nn.ModuleDict(maps)
        conv = nn.Conv1d(WIDTH, WIDTH, TAPS, padding=TAPS // 2, groups=16)
        self.positional_embedding = nn.ModuleDict({"conv": nn.utils.weight_norm(conv, dim=2)})
        self.norm = nn.LayerNorm(WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, WIDTH // 64, INNER, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.proj = nn.Linear(WIDTH, UNITS)
        self.label_embedding = nn.Embedding(10, UNITS)

    def forward(self, audio: Tensor) -> Tensor:
        x = F.pad(audio[:, None], (40, 40))
        for at in range(7):
            x = self.feature_extractor[f"conv{at}"](x)
            x = F.gelu(self.feature_extractor["norm0"](x) if at == 0 else x)
        x = self.feature_projection["projection"](self.feature_projection["norm"](x.transpose(1, 2)))
        x = x + F.gelu(self.positional_embedding["conv"](x.transpose(1, 2))[:, :, :-1]).transpose(1, 2)
        units: Tensor = self.proj(self.encoder(self.norm(x)))
        return units


@pytest.fixture(scope="module")
def soft() -> Soft:
    torch.manual_seed(0)
    made = Soft()
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made.eval()


def audio(seconds: float) -> Tensor:
    return 0.1 * torch.randn(1, int(16_000 * seconds), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("prefix", "nested"), [("", False), ("module.", False), ("module.", True)])
def test_the_torch_file_is_the_paper_s_network(tmp_path: Path, soft: Soft, prefix: str, nested: bool) -> None:
    state = {prefix + name: value for name, value in soft.state_dict().items()}
    torch.save({"hubert": state} if nested else state, tmp_path / "hubert-soft.pt")
    found = teacher.load(str(tmp_path / "hubert-soft.pt"))
    assert (found.kind, found.width, found.longest) == ("hubert", UNITS, None)
    with torch.inference_mode():
        torch.testing.assert_close(found.network(audio(1)), soft(audio(1)), atol=1e-4, rtol=1e-4)


def test_it_becomes_a_graph(tmp_path: Path, soft: Soft) -> None:
    torch.save(soft.state_dict(), tmp_path / "소프트.pt")
    assert extractors.is_network(str(tmp_path / "소프트.pt"))
    proof, _ = extractors.teacher(str(tmp_path / "소프트.pt"), None, tmp_path / "content.onnx")
    session = onnxruntime.InferenceSession(proof.path, providers=["CPUExecutionProvider"])
    (units,) = session.run(None, {"audio": audio(0.64).numpy()})
    with torch.inference_mode():
        wanted = soft(audio(0.64)).numpy()
    assert units.shape == (1, 32, UNITS)
    np.testing.assert_allclose(units, wanted, atol=1e-4 * np.abs(wanted).max())


def test_svc_prepare_has_it_made(tmp_path: Path, soft: Soft, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each file of that name: a changed one is made anew."""
    made: list[str] = []

    def export(option: str, name: str) -> None:
        made.append(f"{option} {name}")
        hearing.place(name).write_bytes(b"no graph")

    monkeypatch.setattr(hearing.trackers, "folder", lambda: tmp_path)
    monkeypatch.setattr(hearing.trackers, "export", export)
    name = str(tmp_path / "soft.pt")
    for content in (soft.state_dict(), soft.state_dict(), {"longer": torch.ones(9)}):
        torch.save(content, name)
        os.utime(name, (len(content), len(content)))
        with pytest.raises(VoiceError):  # it opens what was made
            hearing.content(name, devices.cpu())
    assert made == [f"--teacher {name}"] * 2


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch exploded",)


def test_other_torch_files(tmp_path: Path, soft: Soft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = soft.state_dict()
    cases: list[tuple[object, str]] = [
        ({"x": Bomb()}, r"wants to run \w+\.system"),
        ({"x": torch.ones(1)}, "lacks .*is no HuBERT-soft"),
        ({"x": 1}, "other things than tensors"),
        ({name: value for name, value in good.items() if name != "proj.bias"}, r"lacks proj\.bias"),
        (good | {"norm.weight": torch.ones(7)}, "is no HuBERT-soft: size mismatch"),
        (good | {"norm.weight": torch.full((WIDTH,), torch.nan)}, "no numbers"),
    ]
    for content, words in cases:
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(MoksoriError, match=words) as caught:
            teacher.load(str(tmp_path / "x.pt"))
        assert "\n" not in str(caught.value)
    (tmp_path / "x.pt").write_bytes(b"PK")
    with pytest.raises(MoksoriError, match="damaged or no torch file"):
        teacher.load(str(tmp_path / "x.pt"))
    with pytest.raises(MoksoriError, match="a layer can be chosen"):
        torch.save(good, tmp_path / "x.pt")
        teacher.load(str(tmp_path / "x.pt"), 1)
    assert not (tmp_path / "exploded").exists()


def test_contentvec_gives_both_kinds_of_units(tmp_path: Path) -> None:
    """Layer 9 through the final projection (version 1), and the last layer as it is (version 2)."""
    torch.manual_seed(0)
    hubert = HubertModel(
        HubertConfig(  # type: ignore[call-arg]
            hidden_size=32, num_hidden_layers=12, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
            num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, attn_implementation="eager",
        )
    ).eval()  # fmt: skip
    head = nn.Linear(32, 5)
    hubert.save_pretrained(tmp_path)
    state = hubert.state_dict() | {"final_proj.weight": head.weight.data, "final_proj.bias": head.bias.data}
    whole = {name: value.contiguous() for name, value in state.items()}
    save_file(whole, tmp_path / "model.safetensors", {"format": "pt"})
    with torch.inference_mode():
        hidden = hubert(F.pad(audio(1), (40, 40)), output_hidden_states=True).hidden_states
        first, second = teacher.load(str(tmp_path), 9), teacher.load(str(tmp_path))
        torch.testing.assert_close(first.network(audio(1)), head(hidden[9]))
        torch.testing.assert_close(second.network(audio(1)), hidden[12])
    assert (first.width, second.width) == (5, 32)
