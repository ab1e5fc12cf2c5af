"""Presets: what they say is what is trained, and only on data of their geometry."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from training import TINY, refused, svc_train, written

from moksori.runtime.mel import MelSpec
from moksori.train import config as configs
from moksori.train import preset
from moksori.train.run import ROLES

pytestmark = pytest.mark.usefixtures("same_threads")

GEOMETRIES = {"light-24k": MelSpec(), "reference-44k": MelSpec(44_100, 512, 2048, 2048, 128, 40.0, 16_000.0)}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", preset.names())
def test_a_preset_says_what_its_file_says(name: str, role: str) -> None:
    said = yaml.safe_load((preset.FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    config = configs.plain(preset.overlay(name, role, ROLES[role].config, GEOMETRIES.get(name, MelSpec())))
    for key, value in said[role].items():
        assert {k: config[key][k] for k in value} == value if isinstance(value, dict) else config[key] == value


def test_presets_lie_over_one_another_and_a_config_over_all(tiny_data: Path, tmp_path: Path) -> None:
    config = written(tmp_path / "tiny.yaml", batch=3)
    given = "--preset", "light-24k", "--preset", "low-memory", "--config", config
    result = svc_train("denoiser", tiny_data, tmp_path / "run", *given, "--steps", 1)
    assert result.exit_code == 0, result.output
    used = configs.read(tmp_path / "run" / "denoiser" / "config.yaml")
    assert (used["batch"], used["frames"], used["loop"]["accumulate"], used["loop"]["steps"]) == (3, 32, 4, 1)
    assert used["architecture"] == "convnext"
    network = used["network"]  # written out, with what the data dictates
    assert {name: network[name] for name in TINY["network"]} == TINY["network"]
    assert (network["mel_bins"], network["speakers"], network["time_scale"]) == (100, 2, 1000)


def test_a_preset_for_other_data_or_of_no_name_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    wide = svc_train("denoiser", tiny_data, tmp_path / "run", "--preset", "reference-44k")
    refused(wide, "mel sample_rate 24000, not 44100, hop 240, not 512")
    refused(wide, "prepare it with: svc-prepare AUDIO_DIR DATA_DIR --rate 44100")
    near = svc_train("denoiser", tiny_data, tmp_path / "run", "--preset", "low-memori")
    refused(near, "there is no preset 'low-memori' (did you mean 'low-memory'?)")
    assert not (tmp_path / "run").exists()


def test_the_reference_preset_is_the_communitys_network() -> None:
    """20 residual layers of 384 channels, dilations 1 2 4 8, as published (diff-svc's 44.1 kHz configs)."""
    config = preset.overlay("reference-44k", "denoiser", ROLES["denoiser"].config, GEOMETRIES["reference-44k"])
    from moksori.train.denoiser import build

    with torch.device("meta"):
        network = build(config, 128, 256, 1)
    layers = [module for name, module in network.named_modules() if name.endswith("dilated_conv")]
    assert [layer.dilation[0] for layer in layers] == [1, 2, 4, 8] * 5
    assert {(layer.in_channels, layer.out_channels) for layer in layers} == {(384, 768)}


def test_differences_are_told_one_by_one() -> None:
    found = {"mel": {"hop": 240, "bins": 100}, "names": ["a", "b"], "same": 1}
    wanted = {"mel": {"hop": 512, "bins": 100}, "names": ["a"], "same": 1, "more": "x" * 64}
    phrases = configs.differences(found, wanted)
    assert phrases == ["mel hop 240, not 512", "names a, b, not a", "more nothing, not xxxxxxxxxxxx…"]
