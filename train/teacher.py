"""Teachers of content: published speech encoders, from a local folder or by hub id, with one unit every 20 ms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import errors
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, HubertModel
from transformers.utils import cached_file

from moksori.models.hubert import HubertTeacher
from moksori.models.whisper import MAX_UNITS, WhisperConfig, WhisperContent
from moksori.runtime.errors import MoksoriError
from moksori.train import hubert_soft

SAFE, OLD = "model.safetensors", "pytorch_model.bin"
HUB: Mapping[type[Exception], str] = {  # the first that fits
    errors.GatedRepoError: "is only for those whom its owner lets in: ask on its page, then run hf auth login",
    errors.RepositoryNotFoundError: "is not on the hub, or it is private: check the name",
    errors.LocalEntryNotFoundError: "was never downloaded whole, and the hub cannot be reached: go online and try "
    "again, or name a folder with the network",
    errors.EntryNotFoundError: f"has no config.json, or neither {SAFE} nor {OLD}: name another network",
}


@dataclass(frozen=True)
class Teacher:
    """``network`` takes audio [B, n] at 16 kHz, n a multiple of 320, to hidden vectors [B, n / 320, width]."""

    network: nn.Module
    kind: str
    width: int
    longest: int | None  # units in one call


def load(source: str, layer: int | None = None) -> Teacher:
    """A Whisper, HuBERT or ContentVec in transformers' format, or HuBERT-soft as its authors publish it.

    Args:
        source: a local folder (config.json and model.safetensors), a hub id, or the torch file of HuBERT-soft.
        layer: of a HuBERT, counted from 1; by default its last. ContentVec's layer 9 is taken through its final
            projection, as models of the first version expect.
    Raises:
        MoksoriError: it cannot be found or read, or is of another kind.
    """
    if hubert_soft.is_file(source):
        if layer is not None:
            raise MoksoriError("a layer can be chosen of HuBERT and ContentVec only; HuBERT-soft has its own head")
        network = hubert_soft.network(Path(source))
        assert network.projection is not None
        return Teacher(network, "hubert", network.projection.out_features, None)
    try:
        config = AutoConfig.from_pretrained(source)
        weights = _weights(source)
    except (OSError, ValueError, SafetensorError, UnpicklingError) as error:
        raise MoksoriError(_reason(source, error)) from error
    if config.model_type not in LOADERS:
        raise MoksoriError(f"{source} is a '{config.model_type}'; teachers are {', '.join(LOADERS)}")
    return LOADERS[config.model_type](source, config, weights, layer)


def _weights(source: str) -> dict[str, torch.Tensor]:
    try:
        return load_file(str(cached_file(source, SAFE)))
    except OSError:
        old = cached_file(source, OLD)
        weights: dict[str, torch.Tensor] = torch.load(str(old), map_location="cpu", weights_only=True)  # runs no code
        return weights


def _reason(source: str, error: BaseException) -> str:
    """Why a network could not be had, in one sentence with the mend."""
    if Path(source).exists():
        return f"{source} is no network of transformers: it needs config.json, and {SAFE} or {OLD}, whole"
    cause: BaseException | None = error
    while cause is not None:
        for kind, mend in HUB.items():
            if isinstance(cause, kind):
                return f"{source} {mend}"
        cause = cause.__cause__ or cause.__context__
    return f"{source} cannot be read ({' '.join(str(error).split())[:200]}): download it again"


def _whisper(source: str, config: Any, weights: dict[str, torch.Tensor], layer: int | None) -> Teacher:
    if layer is not None:
        raise MoksoriError("a layer can be chosen of HuBERT and ContentVec only; Whisper's last is always taken")
    network = WhisperContent(WhisperConfig(config.d_model, config.encoder_layers, config.encoder_attention_heads))
    encoder = {name.removeprefix("model."): value for name, value in weights.items()}
    prefix = "encoder."
    network.load_state_dict({n.removeprefix(prefix): v.float() for n, v in encoder.items() if n.startswith(prefix)})
    return Teacher(network.eval(), "whisper", config.d_model, MAX_UNITS)


def _hubert(source: str, config: Any, weights: dict[str, torch.Tensor], layer: int | None) -> Teacher:
    hubert = HubertModel.from_pretrained(source, attn_implementation="eager").eval()
    projection = None
    if "final_proj.weight" in weights and layer == 9:
        width, hidden = weights["final_proj.weight"].shape
        projection = nn.Linear(hidden, width)
        projection.load_state_dict({"weight": weights["final_proj.weight"], "bias": weights["final_proj.bias"]})
    network = HubertTeacher(hubert, config.num_hidden_layers if layer is None else layer, projection)
    return Teacher(network.eval(), "hubert", projection.out_features if projection else config.hidden_size, None)


LOADERS: dict[str, Callable[[str, Any, dict[str, torch.Tensor], int | None], Teacher]] = {
    "whisper": _whisper,
    "hubert": _hubert,
}
