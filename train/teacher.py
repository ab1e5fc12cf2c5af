"""Teachers of content: published speech encoders, from a local folder or by hub id, with one unit every 20 ms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, HubertModel
from transformers.utils import cached_file

from moksori.models.hubert import HubertTeacher
from moksori.models.whisper import MAX_UNITS, WhisperConfig, WhisperContent
from moksori.runtime.errors import MoksoriError

WEIGHTS = "model.safetensors"  # never a pickle


@dataclass(frozen=True)
class Teacher:
    """``network`` takes audio [B, n] at 16 kHz, n a multiple of 320, to hidden vectors [B, n / 320, width]."""

    network: nn.Module
    kind: str
    width: int
    longest: int | None  # units in one call


def load(source: str, layer: int | None = None) -> Teacher:
    """A Whisper, HuBERT or ContentVec in transformers' format.

    Args:
        source: a local folder (config.json and model.safetensors) or a hub id.
        layer: of a HuBERT, counted from 1; by default its last. ContentVec's layer 9 is taken through its final
            projection, as models of the first version expect.
    Raises:
        MoksoriError: it cannot be found or read, or is of another kind.
    """
    try:
        config = AutoConfig.from_pretrained(source)
        weights = load_file(str(cached_file(source, WEIGHTS)))
    except (OSError, ValueError, SafetensorError) as error:
        raise MoksoriError(f"{source} is no folder or hub id with config.json and {WEIGHTS}: {error}") from None
    if config.model_type not in LOADERS:
        raise MoksoriError(f"{source} is a '{config.model_type}'; teachers are {', '.join(LOADERS)}")
    return LOADERS[config.model_type](source, config, weights, layer)


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
