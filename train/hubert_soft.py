"""HuBERT-soft as its authors publish it (van Niekerk et al. 2022), one torch file, as transformers' HuBERT with a head.

The file is read by train/torch_file.py, which runs nothing in it. Sizes are those of its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import HubertConfig, HubertModel

from moksori.models.hubert import HubertTeacher
from moksori.runtime.errors import MoksoriError
from moksori.train import torch_file
from moksori.train.extractors import TORCH_FILES

HEAD = 64  # numbers of one attention head, in HuBERT of any size
WIDEST = 4_096
UNUSED = re.compile(r"(masked_spec_embed|label_embedding\..*)$")  # of the training alone
POSITIONS = "encoder.pos_conv_embed.conv"

# Their name before .weight or .bias -> transformers'. Attention and layers follow by number.
ONCE = {
    "feature_projection.norm": "feature_projection.layer_norm",
    "feature_projection.projection": "feature_projection.projection",
    "feature_extractor.norm0": "feature_extractor.conv_layers.0.layer_norm",
    "norm": "encoder.layer_norm",
}
EACH = {
    "self_attn.out_proj": "attention.out_proj",
    "linear1": "feed_forward.intermediate_dense",
    "linear2": "feed_forward.output_dense",
    "norm1": "layer_norm",
    "norm2": "final_layer_norm",
}


def is_file(source: str) -> bool:
    """Is this a torch file, which of the networks for content only HuBERT-soft is?"""
    return Path(source).suffix in TORCH_FILES and Path(source).is_file()


def network(path: Path) -> HubertTeacher:
    """Audio [B, n] -> units [B, n / 320, D].

    Raises:
        MoksoriError: it is damaged, wants to run code, or is another network.
    """
    held = _tensors(path)
    try:
        state, config = _ours(held), _config(held)
        hubert = HubertModel(config)
        hubert.load_state_dict(state)
        width, units = config.hidden_size, held["proj.weight"].shape[0]
        head = nn.Linear(width, units)
        head.load_state_dict({"weight": held["proj.weight"], "bias": held["proj.bias"]})
    except KeyError as error:
        raise MoksoriError(f"{path} lacks {error.args[0]}; it is no HuBERT-soft") from None
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
        line = str(error).strip().splitlines()[-1].strip()
        raise MoksoriError(f"{path} is no HuBERT-soft: {line}") from None
    return HubertTeacher(hubert.eval(), config.num_hidden_layers, head).eval()


def _tensors(path: Path) -> dict[str, Tensor]:
    whole = torch_file.read(path, "HuBERT-soft")
    state = whole.get("hubert", whole) if isinstance(whole, dict) else None
    if not isinstance(state, dict) or not all(isinstance(one, Tensor) for one in state.values()):
        raise MoksoriError(f"{path} holds other things than tensors; it is no HuBERT-soft")
    named = {str(name).removeprefix("module."): value.float() for name, value in state.items()}
    for name, value in named.items():
        if not torch.isfinite(value).all():
            raise MoksoriError(f"{path}: {name} holds values that are no numbers; get it again")
    return {name: value for name, value in named.items() if not UNUSED.match(name)}


def _layers(held: Mapping[str, Tensor]) -> int:
    return 1 + max((int(m[1]) for name in held if (m := re.match(r"encoder\.layers\.(\d{1,2})\.", name))), default=-1)


def _config(held: Mapping[str, Tensor]) -> HubertConfig:
    front = held["feature_extractor.conv0.weight"].shape[0]
    width, grouped, taps = held["positional_embedding.conv.weight_v"].shape
    if max(width, front) > WIDEST or width % HEAD:
        raise ValueError(f"a width of {width} is none of HuBERT's")
    return HubertConfig(  # type: ignore[call-arg]  # transformers fills in its signature at run time
        hidden_size=width, num_hidden_layers=_layers(held), num_attention_heads=width // HEAD,
        intermediate_size=held["encoder.layers.0.linear1.weight"].shape[0], conv_dim=(front,) * 7,
        num_conv_pos_embeddings=taps, num_conv_pos_embedding_groups=width // grouped, mask_time_prob=0.0,
        attn_implementation="eager",
    )  # fmt: skip


def _ours(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names; attention's three maps lie in one tensor there, one below the other."""
    names = dict(ONCE)
    for at in range(_layers(held)):
        names |= {f"encoder.layers.{at}.{theirs}": f"encoder.layers.{at}.{ours}" for theirs, ours in EACH.items()}
    parts = ("weight", "bias")
    state = {f"{ours}.{part}": held[f"{theirs}.{part}"] for theirs, ours in names.items() for part in parts}
    for at in range(_layers(held)):
        for part in parts:
            maps = held[f"encoder.layers.{at}.self_attn.in_proj_{part}"].chunk(3)
            for letter, value in zip("qkv", maps, strict=True):
                state[f"encoder.layers.{at}.attention.{letter}_proj.{part}"] = value
    for at in range(7):
        state[f"feature_extractor.conv_layers.{at}.conv.weight"] = held[f"feature_extractor.conv{at}.weight"]
    state[f"{POSITIONS}.bias"] = held["positional_embedding.conv.bias"]
    state[f"{POSITIONS}.parametrizations.weight.original0"] = held["positional_embedding.conv.weight_g"]
    state[f"{POSITIONS}.parametrizations.weight.original1"] = held["positional_embedding.conv.weight_v"]
    return state
