"""diff-svc's checkpoints, 44.1 kHz NSF type: a ``model_ckpt_steps_N.ckpt`` beside a config.yaml, as our own WaveNet.

The encoder is a sum of units and a pitch embedding; models with FastSpeech 2's encoder are of another type. The torch
file is read by train/torch_file.py, which runs nothing in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from moksori.models.conditioner import ConditionerConfig
from moksori.models.wavenet import WaveNetConfig, WaveNetDenoiser
from moksori.runtime.errors import MoksoriError
from moksori.runtime.mel import MelSpec
from moksori.runtime.schedules import LinearBeta
from moksori.train import torch_file

CONFIG = "config.yaml"
CHECKPOINT = re.compile(r"model_ckpt_steps_(\d+)\.ckpt")
LARGEST_CONFIG = 2**20  # bytes
LN_10 = math.log(10)  # their mel is a logarithm to base 10, ours a natural one

# The numbers of config.yaml: the smallest and the largest that are taken, and whether they must be whole.
NUMBERS = {
    "audio_sample_rate": (8_000, 192_000, True),
    "hop_size": (1, 8_192, True),
    "fft_size": (16, 16_384, True),
    "win_size": (16, 16_384, True),
    "audio_num_mel_bins": (1, 512, True),
    "fmin": (0, 96_000, False),
    "fmax": (1, 96_000, False),
    "hidden_size": (1, 2_048, True),
    "residual_layers": (1, 100, True),
    "residual_channels": (4, 2_048, True),
    "dilation_cycle_length": (1, 10, True),
    "timesteps": (1, 10_000, True),
    "K_step": (1, 10_000, True),
    "max_beta": (1e-4, 0.5, False),
    "f0_min": (1, 20_000, False),
    "f0_max": (1, 20_000, False),
    "f0_bin": (3, 10_000, True),
}
KINDS = {
    "no_fs2": (True, "with an encoder of FastSpeech 2"),
    "use_nsf": (True, "for vocoders without f0, such as those of 24 kHz"),
    "use_uv": (False, "that hear unvoiced frames as f0 0"),
    "schedule_type": ("linear", "with another noise schedule"),
}
@dataclass(frozen=True)
class DiffSvc:
    """A model: its network's config and weights by our names, its mel, and how a mel is made of what it samples.

    ``mean`` and ``deviation`` [bins] take values of -1…1 to natural logarithms.
    """

    path: Path
    step: int
    config: WaveNetConfig
    mel: MelSpec
    schedule: LinearBeta
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    state: dict[str, Tensor]

    @property
    def network(self) -> WaveNetDenoiser:
        made = WaveNetDenoiser(self.config)
        made.load_state_dict(self.state)
        return made.eval()


def read(path: Path) -> DiffSvc:
    """The newest checkpoint of a folder, or the one that is named.

    Raises:
        MoksoriError: something is missing, damaged, absurd, of another type, or wants to run code.
    """
    folder = path if path.is_dir() else path.parent
    file = newest(path) if path.is_dir() else path
    if not file.is_file():
        raise MoksoriError(f"{path} does not exist; name a folder with model_ckpt_steps_N.ckpt and {CONFIG}")
    said = _config(folder / CONFIG)
    config, mel, schedule = _described(said, folder / CONFIG)
    held = _tensors(file)
    state = _ours(_Held(held, file), config)
    _check_schedule(held, schedule, file)
    low, high = (_range(held, said, name, mel.bins, file) for name in ("spec_min", "spec_max"))
    if not (high > low).all():
        raise MoksoriError(f"{file}: spec_max must be above spec_min in every bin")
    mean, deviation = LN_10 * (low + high) / 2, LN_10 * (high - low) / 2
    match = CHECKPOINT.fullmatch(file.name)
    return DiffSvc(
        file,
        int(match[1]) if match else 0,
        config,
        mel,
        schedule,
        tuple(mean.tolist()),
        tuple(deviation.tolist()),
        state,
    )


def newest(folder: Path) -> Path:
    """The checkpoint of the most steps."""
    found = {int(match[1]): one for one in folder.iterdir() if (match := CHECKPOINT.fullmatch(one.name))}
    if not found:
        raise MoksoriError(f"{folder} has no model_ckpt_steps_N.ckpt; name the folder of a diff-svc model")
    return found[max(found)]


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MoksoriError(f"{path} is missing; put the config.yaml of the model beside its checkpoint")
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise MoksoriError(f"{path} is too large to be a model's config; get it again")
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:160]
        raise MoksoriError(f"{path} cannot be read as plain YAML ({reason}); get it again") from None
    if not isinstance(said, dict):
        raise MoksoriError(f"{path} is not a model's config; get it again")
    return said


def _described(said: Mapping[str, Any], path: Path) -> tuple[WaveNetConfig, MelSpec, LinearBeta]:
    for key, (wanted, what) in KINDS.items():
        if said.get(key, wanted) != wanted or (wanted is True and key not in said):
            raise MoksoriError(f"{path}: {key} is {said.get(key, 'missing')}, and models {what} cannot be imported")
    values = {key: _number(said, key, path) for key in NUMBERS}
    if values["K_step"] != values["timesteps"]:
        raise MoksoriError(f"{path}: K_step must be timesteps; models that begin at another mel cannot be imported")
    if values["f0_min"] >= values["f0_max"] or values["residual_channels"] % 2:
        raise MoksoriError(f"{path}: f0_min must be below f0_max, and residual_channels even")
    hidden, bins = int(values["hidden_size"]), int(values["audio_num_mel_bins"])
    config = WaveNetConfig(
        mel_bins=bins,
        units=hidden,
        speakers=1,
        channels=int(values["residual_channels"]),
        layers=int(values["residual_layers"]),
        dilation_cycle=int(values["dilation_cycle_length"]),
        time_scale=1,
        conditioner=ConditionerConfig(
            "sum", hidden, "coarse", int(values["f0_bin"]), values["f0_min"], values["f0_max"]
        ),
    )
    rate, hop, n_fft, win = (int(values[key]) for key in ("audio_sample_rate", "hop_size", "fft_size", "win_size"))
    try:
        mel = MelSpec(rate, hop, n_fft, win, bins, float(values["fmin"]), float(values["fmax"]))
    except ValueError as error:
        raise MoksoriError(f"{path}: {error}") from None
    return config, mel, LinearBeta(timesteps=int(values["timesteps"]), last=float(values["max_beta"]))


def _number(said: Mapping[str, Any], key: str, path: Path) -> float:
    low, high, whole = NUMBERS[key]
    value = said.get(key)
    if type(value) not in ((int,) if whole else (int, float)) or not low <= value <= high:  # type: ignore[operator]
        raise MoksoriError(
            f"{path}: {key} must be a {'whole ' if whole else ''}number from {low:g} to {high:g}, not {str(value)[:40]}"
        )
    return value  # type: ignore[return-value]


def _tensors(path: Path) -> dict[str, Tensor]:
    whole = torch_file.read(path, "diff-svc model")
    state = whole.get("state_dict") if isinstance(whole, dict) else None
    if not isinstance(state, dict) or not all(isinstance(one, Tensor) for one in state.values()):
        raise MoksoriError(f"{path} holds no 'state_dict' of tensors; it is no checkpoint of diff-svc")
    prefix = "model."
    return {
        str(name).removeprefix(prefix): value for name, value in state.items() if str(name).startswith(prefix)
    }


@dataclass(frozen=True)
class _Held:
    """A file's tensors; taking one checks that it is there, of this shape, and of numbers."""

    tensors: Mapping[str, Tensor]
    path: Path

    def take(self, name: str, *shape: int) -> Tensor:
        found = self.tensors.get(name)
        if found is None:
            raise MoksoriError(f"{self.path} lacks model.{name}, which {CONFIG} calls for")
        if tuple(found.shape) != shape:
            raise MoksoriError(
                f"{self.path} does not fit {CONFIG}: model.{name} is {list(found.shape)}, not {list(shape)}"
            )
        if not torch.isfinite(found).all():
            raise MoksoriError(f"{self.path}: model.{name} holds values that are no numbers; get it again")
        return found.float()


def _ours(held: _Held, config: WaveNetConfig) -> dict[str, Tensor]:
    """The weights by our names; the layers' conditioner projections become one map."""
    channels, hidden, bins_of_f0 = config.channels, config.units, config.conditioner.f0_bins
    layers = _layers(held, config.layers)
    places = _places(config, layers)
    maps = [f"{layer}.conditioner_projection" for layer in layers]
    _refuse_more(held, {*places, *maps})
    state = {}
    for theirs, (ours, shape) in places.items():
        state[f"{ours}.weight"] = held.take(f"{theirs}.weight", *shape)
        state[f"{ours}.bias"] = held.take(f"{theirs}.bias", shape[0])
    weights = [held.take(f"{name}.weight", 2 * channels, hidden, 1)[:, :, 0] for name in maps]
    biases = [held.take(f"{name}.bias", 2 * channels) for name in maps]
    rows = held.tensors.get("fs2.pitch_embed.weight", torch.empty(0, 0)).shape[0]  # some 300, of which so many are used
    table = held.take("fs2.pitch_embed.weight", max(rows, bins_of_f0), hidden)[:bins_of_f0]
    return state | {
        "conditioner.out.weight": torch.cat(weights),
        "conditioner.out.bias": torch.cat(biases),
        "conditioner.units_in.weight": torch.eye(hidden),
        "conditioner.units_in.bias": torch.zeros(hidden),
        "conditioner.speaker_in.weight": torch.zeros(hidden, 1),
        "conditioner.pitch_table.rows.weight": table.contiguous(),
    }


def _places(config: WaveNetConfig, layers: list[str]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Their name of a layer with weight and bias -> ours, and the weight's shape."""
    channels, bins = config.channels, config.mel_bins
    once: dict[str, tuple[str, tuple[int, ...]]] = {
        "denoise_fn.input_projection": ("input_projection", (channels, bins, 1)),
        "denoise_fn.mlp.0": ("time.1", (4 * channels, channels)),
        "denoise_fn.mlp.2": ("time.3", (channels, 4 * channels)),
        "denoise_fn.skip_projection": ("skip_projection", (channels, channels, 1)),
        "denoise_fn.output_projection": ("output_projection", (bins, channels, 1)),
    }
    each: dict[str, tuple[int, ...]] = {
        "dilated_conv": (2 * channels, channels, 3),
        "diffusion_projection": (channels, channels),
        "output_projection": (2 * channels, channels, 1),
    }
    inner = {
        f"{layer}.{name}": (f"layers.{at}.{name}", shape)
        for at, layer in enumerate(layers)
        for name, shape in each.items()
    }
    return once | inner


def _layers(held: _Held, count: int) -> list[str]:
    """The names before those of each layer's tensors."""
    found = {match[1] for name in held.tensors if (match := re.match(r"(denoise_fn\.\w+)\.\d+\.dilated_conv\.", name))}
    if len(found) != 1:
        raise MoksoriError(f"{held.path} holds no layers of a WaveNet (dilated_conv); it is no model of this type")
    (stem,) = found
    return [f"{stem}.{index}" for index in range(count)]


def _refuse_more(held: _Held, taken: set[str]) -> None:
    """A tensor that would change what is heard, and has no place here."""
    known = {f"{name}.{part}" for name in taken for part in ("weight", "bias")} | {"fs2.pitch_embed.weight"}
    for name in sorted(held.tensors.keys() - known):
        if name.startswith("denoise_fn.") or re.match(r"fs2\.\w*embed", name):
            raise MoksoriError(f"{held.path} holds model.{name}, which {CONFIG} does not call for: an unknown type")


def _check_schedule(held: Mapping[str, Tensor], schedule: LinearBeta, path: Path) -> None:
    betas = held.get("betas")
    if betas is None:
        return
    wanted = np.linspace(schedule.first, schedule.last, schedule.timesteps)
    if betas.shape != wanted.shape or not np.allclose(betas.double().numpy(), wanted, rtol=1e-3, atol=1e-7):
        raise MoksoriError(f"{path} does not fit {CONFIG}: model.betas are not linear up to max_beta {schedule.last:g}")


def _range(held: Mapping[str, Tensor], said: Mapping[str, Any], name: str, bins: int, path: Path) -> np.ndarray:
    """One end of the normalised mel [bins], of the checkpoint, else of config.yaml."""
    try:
        value = held[name].double().numpy().ravel() if name in held else np.atleast_1d(np.array(said[name], np.float64))
    except (KeyError, ValueError, TypeError):
        raise MoksoriError(f"{path} lacks model.{name}, and {CONFIG} has no numbers for {name}") from None
    if value.ndim != 1 or len(value) not in (1, bins) or not np.isfinite(value).all() or np.abs(value).max() > 40:
        raise MoksoriError(f"{path}: {name} must be one number or {bins}, from -40 to 40")
    return np.broadcast_to(value, bins)
