"""diff-svc models that are of another type, damaged or hostile: each is refused in a sentence, and nothing is run."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diff_svc_files import BINS, HIDDEN, tensors, write
from torch import Tensor

from moksori.runtime.errors import MoksoriError
from moksori.train import diff_svc


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"no_fs2": False}, "no_fs2 is False, and models with an encoder of FastSpeech 2"),
        ({"no_fs2": None}, "no_fs2 is missing"),
        ({"use_nsf": False}, "use_nsf is False, and models for vocoders without f0, such as those of 24 kHz"),
        ({"use_uv": True}, "use_uv is True"),
        ({"schedule_type": "cosine"}, "schedule_type is cosine"),
        ({"K_step": 400}, "K_step must be timesteps"),
        ({"residual_channels": 10**9}, "residual_channels must be a whole number from 4 to 2048, not 1000000000"),
        ({"residual_layers": 10**9}, "residual_layers must be"),
        ({"residual_layers": 4}, r"lacks model.denoise_fn.residual_layers.3.dilated_conv.weight"),
        ({"residual_layers": 2}, r"holds model.denoise_fn.residual_layers.2.\S+, which config.yaml does not call for"),
        ({"residual_channels": 32}, r"input_projection.weight is \[16, 20, 1\], not \[32, 20, 1\]"),
        ({"hidden_size": 16}, r"conditioner_projection.weight is \[32, 8, 1\], not \[32, 16, 1\]"),
        ({"f0_bin": 400}, r"pitch_embed.weight is \[300, 8\], not \[400, 8\]"),
        ({"max_beta": 0.06}, "model.betas are not linear up to max_beta 0.06"),
        ({"hop_size": "512"}, "hop_size must be a whole number"),
        ({"hop_size": True}, "hop_size must be a whole number"),
        ({"fmax": 20_000}, "above half the sample rate"),
        ({"fmin": float("nan")}, "fmin must be a number"),
        ({"f0_min": 1200}, "f0_min must be below f0_max"),
    ],
)
def test_configs_of_another_kind(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(MoksoriError, match=words) as caught:
        diff_svc.read(write(tmp_path / "x", **change))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_tensors_of_another_kind(tmp_path: Path) -> None:
    def changed(**tensor: Tensor | None) -> dict[str, Tensor]:
        named = {f"model.{name}".replace("__", "."): value for name, value in tensor.items()}
        return {name: value for name, value in {**tensors(), **named}.items() if value is not None}

    inner = "denoise_fn__mlp__0__bias"
    cases = [
        (changed(**{inner: None}), "lacks model.denoise_fn.mlp.0.bias"),
        (changed(**{inner: torch.full((64,), math.nan)}), "no numbers"),
        (changed(fs2__spk_embed__weight=torch.ones(3, HIDDEN)), "holds model.fs2.spk_embed.weight"),
        (changed(spec_max=torch.full((1, 1, BINS), -6.0)), "spec_max must be above spec_min"),
        (changed(spec_max=torch.zeros(1, 1, 7)), "spec_max must be one number or 20"),
        ({"model.other": torch.ones(1)}, "holds no layers of a WaveNet"),
    ]
    for weights, words in cases:
        with pytest.raises(MoksoriError, match=words):
            diff_svc.read(write(tmp_path / "x", weights=weights))


def test_a_range_of_the_config_alone(tmp_path: Path) -> None:
    weights = {name: value for name, value in tensors().items() if "spec_" not in name}
    read = diff_svc.read(write(tmp_path / "x", weights=weights))
    assert read.mean == pytest.approx([math.log(10) * -2.25] * BINS) and read.step == 12_000
    assert read.deviation == pytest.approx([math.log(10) * 2.75] * BINS)
    with pytest.raises(MoksoriError, match=r"config\.yaml has no numbers for spec_min"):
        diff_svc.read(write(tmp_path / "x", weights=weights, spec_min=None))


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch exploded",)


def test_hostile_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "x", extra=Bomb()) / "model_ckpt_steps_12000.ckpt"
    with pytest.raises(MoksoriError, match=r"12000.ckpt wants to run \w+\.system when it is opened"):
        diff_svc.read(file.parent)
    file.write_bytes(pickle.dumps({"state_dict": Bomb()}, protocol=2))
    with pytest.raises(MoksoriError, match=r"wants to run \w+\.system"):
        diff_svc.read(file)
    whole = (write(tmp_path / "y") / file.name).read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        file.write_bytes(whole[:size])
        with pytest.raises(MoksoriError, match=r"12000\.ckpt"):
            diff_svc.read(file)
    torch.save({"generator": {}}, file)
    with pytest.raises(MoksoriError, match="holds no 'state_dict' of tensors"):
        diff_svc.read(file)
    config = tmp_path / "y" / "config.yaml"
    for text in ("!!python/object/apply:os.system ['touch exploded']", "[" * 20_000, "a: b: c", "- 1", "\x00"):
        config.write_text(text, encoding="utf-8")
        with pytest.raises(MoksoriError, match=r"config\.yaml") as caught:
            diff_svc.read(config.parent)
        assert "\n" not in str(caught.value)
    config.unlink()
    with pytest.raises(MoksoriError, match=r"config\.yaml is missing"):
        diff_svc.read(config.parent)
    with pytest.raises(MoksoriError, match=r"has no model_ckpt_steps_N\.ckpt"):
        diff_svc.read(tmp_path)
    assert not (tmp_path / "exploded").exists()
