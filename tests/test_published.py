"""Generators of other people's: read by name, and refused in a sentence when damaged, absurd or hostile."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from moksori.models.nsf_hifigan import NsfHifiGan, NsfHifiGanConfig
from moksori.runtime.errors import MoksoriError
from moksori.train import published, torch_file

CONFIG = NsfHifiGanConfig(6, 8_000, (4, 4, 2, 2), (8, 8, 4, 4), 16, "1", (3, 5), ((1, 3), (1, 3)))
SAID: dict[str, Any] = {
    "sampling_rate": 8_000, "num_mels": 6, "hop_size": 64, "n_fft": 256, "win_size": 256, "fmin": 40, "fmax": 4_000,
    "upsample_rates": [4, 4, 2, 2], "upsample_kernel_sizes": [8, 8, 4, 4], "upsample_initial_channel": 16,
    "resblock": "1", "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3], [1, 3]],
    "discriminator_periods": [3, 5],
}  # fmt: skip


def older_names(network: NsfHifiGan) -> dict[str, torch.Tensor]:
    """The state as openvpi's training writes it."""
    spelled = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for name, value in network.state_dict().items():
        for ours, theirs in spelled.items():
            name = name.replace(ours, theirs)
        state[name] = value
    return state


def write(folder: Path, said: dict[str, Any] | None = None, mini: bool = False, **beside: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = NsfHifiGan(replace(CONFIG, mini=mini))
    torch.save({"generator": older_names(network), **beside}, folder / "model")
    said = {**SAID, "mini_nsf": mini} if said is None else said
    (folder / "config.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


@pytest.mark.parametrize("mini", [False, True])
def test_a_published_folder(tmp_path: Path, mini: bool) -> None:
    folder = write(tmp_path / "보코더 🎤", mini=mini)
    for path in (folder, folder / "model"):
        assert published.is_published(path)
        found = published.read(path)
        assert found.config == replace(CONFIG, mini=mini)
        assert (found.mel.sample_rate, found.mel.hop, found.mel.bins, found.mel.fmax) == (8_000, 64, 6, 4_000)
        torch.manual_seed(0)
        wanted, network = NsfHifiGan(found.config), NsfHifiGan(found.config)
        network.load_state_dict(found.state)
        for name, value in wanted.state_dict().items():
            torch.testing.assert_close(network.state_dict()[name], value)


def test_numbered_checkpoints(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    (folder / "model").rename(folder / "g_steps_9000.ckpt")
    torch.save({"generator": {}}, folder / "g_steps_800.ckpt")
    assert published.read(folder).state.keys() == older_names(NsfHifiGan(CONFIG)).keys()


def test_half_precision_becomes_whole(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    state = {name: value.half() for name, value in older_names(NsfHifiGan(CONFIG)).items()}
    torch.save({"generator": state}, folder / "model")
    assert {value.dtype for value in published.read(folder).state.values()} == {torch.float32}


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch exploded",)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_pickle_that_wants_more_is_named(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "x", extra=Bomb()) if form == "torch" else write(tmp_path / "x")
    if form == "pickle":
        (folder / "model").write_bytes(pickle.dumps({"generator": Bomb()}, protocol=2))
    with pytest.raises(MoksoriError, match=r"wants to run \w+\.system when it is opened") as caught:
        published.read(folder)
    assert "\n" not in str(caught.value) and not (tmp_path / "exploded").exists()


def test_a_file_cut_short(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    whole = (folder / "model").read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        (folder / "model").write_bytes(whole[:size])
        with pytest.raises(MoksoriError, match="model"):
            published.read(folder)


def test_a_file_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "x")
    with zipfile.ZipFile(folder / "model", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model/data/0", bytes(2**20))
    monkeypatch.setattr(torch_file, "LARGEST", 2**18)
    with pytest.raises(MoksoriError, match="unpacks to"):
        published.read(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"upsample_initial_channel": 10**9}, "upsample_initial_channel must hold whole numbers from 1 to 8192"),
        ({"upsample_initial_channel": [16]}, "upsample_initial_channel must hold"),
        ({"upsample_rates": 4}, "upsample_rates must hold"),
        ({"upsample_rates": [4] * 99}, "upsample_rates must hold"),
        ({"resblock_dilation_sizes": [1, 3]}, "resblock_dilation_sizes must hold"),
        ({"resblock_dilation_sizes": [[1] * 32] * 2, "resblock_kernel_sizes": [3, 3]}, "does not fit|more layers"),
        ({"num_mels": True}, "num_mels must hold"),
        ({"num_mels": 7}, "size mismatch for conv_pre"),
        ({"hop_size": 128}, "upsample_rates make 64 samples"),
        ({"resblock": "2"}, r"resblocks\.0\.convs"),
        ({"mini_nsf": True}, "m_source|source_conv"),
        ({"noise_sigma": 0.1}, "noise_sigma"),
        ({"fmax": 9_000}, "half the sample rate"),
        ({"fmin": "low"}, "frequencies"),
    ],
)
def test_configs_that_do_not_fit(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    folder = write(tmp_path / "x", {**SAID, **change})
    with pytest.raises(MoksoriError, match=words) as caught:
        published.read(folder)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", {key: value for key, value in SAID.items() if key != "n_fft"})
    with pytest.raises(MoksoriError, match="lacks n_fft"):
        published.read(folder)
    (folder / "config.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(MoksoriError, match="cannot be read as JSON"):
        published.read(folder)
    folder = write(tmp_path / "y")
    torch.save({"state_dict": {}}, folder / "model")
    with pytest.raises(MoksoriError, match="holds no 'generator'"):
        published.read(folder)
    (folder / "model").unlink()
    with pytest.raises(MoksoriError, match="no model"):
        published.read(folder)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    folder, state = write(tmp_path / "x"), older_names(NsfHifiGan(CONFIG))
    state["conv_post.bias"][:] = float("nan")
    torch.save({"generator": state}, folder / "model")
    with pytest.raises(MoksoriError, match=r"conv_post\.bias holds values that are no numbers"):
        published.read(folder)
