"""NSF-HiFiGAN generators as openvpi publishes them: a torch file beside a config.json.

The file is read by train/torch_file.py, which runs nothing in it.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moksori.models import nsf_hifigan
from moksori.models.nsf_hifigan import NsfHifiGan, NsfHifiGanConfig
from moksori.runtime.errors import MoksoriError
from moksori.runtime.mel import MelSpec
from moksori.train import torch_file

CONFIG = "config.json"
LARGEST_CONFIG = 2**20  # bytes
PARAMETERS = 2**29  # of a network; the published ones have 14 million
SAYS_WEIGHT_NORM = re.compile(r"(.*)(weight_[gv]|parametrizations\.weight\.original[01])$")

LAYERS = 1_024  # residual convolutions; the published ones have 90

# The keys of config.json that make the network: our name, the largest number in it, how deep its lists go.
NETWORK = {
    "num_mels": ("mel_bins", 512, 0),
    "sampling_rate": ("sample_rate", 192_000, 0),
    "upsample_rates": ("rates", 64, 1),
    "upsample_kernel_sizes": ("kernels", 256, 1),
    "upsample_initial_channel": ("channels", 8_192, 0),
    "resblock_kernel_sizes": ("resblock_kernels", 99, 1),
    "resblock_dilation_sizes": ("resblock_dilations", 99, 2),
}
MEL = {"sampling_rate": "sample_rate", "hop_size": "hop", "n_fft": "n_fft", "win_size": "win", "num_mels": "bins"}


@dataclass(frozen=True)
class Published:
    """A generator: its network, the mel it hears (natural logarithm), its weights by name."""

    config: NsfHifiGanConfig
    mel: MelSpec
    state: dict[str, Tensor]
    pitch_controllable: bool  # it was trained on shifted formants, so that f0 may leave the mel's


def is_published(path: Path) -> bool:
    """Is this a folder of such a generator, or a file in one?"""
    folder = path if path.is_dir() else path.parent
    return path.exists() and path.suffix not in (".onnx", ".oudep", ".safetensors") and (folder / CONFIG).is_file()


def read(path: Path) -> Published:
    """The generator in a folder, or in a file beside its config.json.

    Raises:
        MoksoriError: something is missing, damaged, absurd, of an unknown kind, or wants to run code.
    """
    folder = path if path.is_dir() else path.parent
    said = _json(folder / CONFIG)
    config, mel = _config(said, folder / CONFIG)
    file = path if path.is_file() else _file(folder)
    state = _tensors(file)
    _check(state, config, file)
    return Published(config, mel, state, bool(said.get("pc_aug", False)))


def _file(folder: Path) -> Path:
    """``model``, else the only other file that may be one; of numbered checkpoints the last."""
    if (folder / "model").is_file():
        return folder / "model"
    found = [one for one in folder.iterdir() if one.suffix in (".ckpt", ".pt", ".pth") and one.is_file()]
    if not found:
        raise MoksoriError(f"{folder} has a {CONFIG} but no model, .ckpt or .pt beside it; put the generator there")
    return max(found, key=lambda one: ([int(number) for number in re.findall(r"\d+", one.name)], one.name))


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise MoksoriError(f"{path} is too large to be a generator's config; get it again")
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MoksoriError(f"{path} cannot be read as JSON ({error}); get it again") from None
    if not isinstance(said, dict):
        raise MoksoriError(f"{path} is not a generator's config; get it again")
    return said


def _config(said: dict[str, Any], path: Path) -> tuple[NsfHifiGanConfig, MelSpec]:
    needed = {*NETWORK, *MEL, "fmin", "resblock"}
    if missing := sorted(needed - said.keys()):
        raise MoksoriError(f"{path} lacks {', '.join(missing)}; it is no config of an NSF-HiFiGAN")
    if said.get("noise_sigma"):
        raise MoksoriError(f"{path} has noise_sigma {said['noise_sigma']}, and only generators without it are known")
    network = {ours: _numbers(said[key], most, depth, f"{path}: {key}") for key, (ours, most, depth) in NETWORK.items()}
    numbers = {ours: _numbers(said[key], 192_000, 0, f"{path}: {key}") for key, ours in MEL.items()}
    rate = numbers["sample_rate"]
    fmax = said.get("fmax") or rate / 2  # null means all there is
    if not all(type(edge) in (int, float) and math.isfinite(edge) for edge in (said["fmin"], fmax)):
        raise MoksoriError(f"{path}: fmin and fmax must be frequencies in Hz")
    config = NsfHifiGanConfig(**network, resblock=str(said["resblock"]), mini=bool(said.get("mini_nsf", False)))
    problem = next(nsf_hifigan.problems(config), None)
    if problem is None and config.hop != numbers["hop"]:
        problem = f"upsample_rates make {config.hop} samples of a frame, and hop_size says {numbers['hop']}"
    if problem is None and len(config.rates) * sum(len(one) for one in config.resblock_dilations) > LAYERS:
        problem = "it describes more layers than any generator has"
    if problem:
        raise MoksoriError(f"{path}: {problem}")
    try:
        return config, MelSpec(**numbers, fmin=float(said["fmin"]), fmax=float(fmax))
    except ValueError as error:
        raise MoksoriError(f"{path}: {error}") from None


def _numbers(value: Any, most: int, depth: int, place: str) -> Any:
    """A whole number from 1 to ``most``, or ``depth`` levels of lists of them as tuples."""
    if depth and isinstance(value, list) and 0 < len(value) <= 32:
        return tuple(_numbers(item, most, depth - 1, place) for item in value)
    if not depth and type(value) is int and 0 < value <= most:
        return value
    raise MoksoriError(f"{place} must hold whole numbers from 1 to {most}, not {str(value)[:40]}")


def _tensors(path: Path) -> dict[str, Tensor]:
    """The ``generator`` of a torch file."""
    whole = torch_file.read(path, "generator")
    state = whole.get("generator") if isinstance(whole, dict) else None
    if not isinstance(state, dict) or not all(isinstance(one, Tensor) for one in state.values()):
        raise MoksoriError(f"{path} holds no 'generator' of tensors; it is no checkpoint of an NSF-HiFiGAN")
    return {str(name): value.float() for name, value in state.items()}


def _check(state: dict[str, Tensor], config: NsfHifiGanConfig, path: Path) -> None:
    """Refuse weights that are not the config's, before any memory is taken for the network."""
    with torch.device("meta"):
        network = NsfHifiGan(config)
    if sum(one.numel() for one in network.parameters()) > PARAMETERS:
        raise MoksoriError(f"{path.parent / CONFIG} describes a network beyond any size; get it again")
    wanted = {_plain(name): one for name, one in network.state_dict().items()}
    found = {_plain(name) for name in state}
    if found != wanted.keys():
        name = sorted(found ^ wanted.keys())[0]
        raise MoksoriError(
            f"{path} does not fit {CONFIG}: {name} is in {'the file' if name in found else 'the config'} alone"
        )
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise MoksoriError(f"{path}: {name} holds values that are no numbers; get it again")
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        line = str(error).strip().splitlines()[-1].strip()
        raise MoksoriError(f"{path} does not fit {CONFIG}: {line}") from None


def _plain(name: str) -> str:
    """A parameter's name whichever way weight norm writes it."""
    match = SAYS_WEIGHT_NORM.match(name)
    return f"{match[1]}weight" if match else name
