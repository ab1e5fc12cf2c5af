"""The small HuBERT that a voice can ship: transformers' own architecture with a narrow front end, and a unit head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import remove_parametrizations
from transformers import HubertConfig, HubertModel

RECEPTIVE, HOP = 400, 320  # samples of 16 kHz audio behind one unit, and between two


@dataclass(frozen=True)
class HubertContentConfig:
    units: int = 128
    width: int = 256
    layers: int = 6
    heads: int = 4
    front: int = 128  # channels of the convolutional front end
    positions: int = 31  # taps of the positional convolution: 0.3 s each side


class HubertContent(nn.Module):
    """Audio [B, n] at 16 kHz, n a multiple of 320 -> units [B, n / 320, D]."""

    def __init__(self, config: HubertContentConfig) -> None:
        super().__init__()
        self.config = config
        self.hubert = HubertModel(
            HubertConfig(  # type: ignore[call-arg]  # transformers fills in its signature at run time
                hidden_size=config.width, num_hidden_layers=config.layers, num_attention_heads=config.heads,
                intermediate_size=4 * config.width, conv_dim=(config.front,) * 7, num_feat_extract_layers=7,
                num_conv_pos_embeddings=config.positions, num_conv_pos_embedding_groups=16, feat_extract_norm="layer",
                do_stable_layer_norm=True, conv_bias=True, layerdrop=0.0, mask_time_prob=0.0, hidden_dropout=0.0,
                attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, final_dropout=0.0,
                attn_implementation="eager",
            )
        )  # fmt: skip
        self.head = nn.Linear(config.width, config.units)

    def forward(self, audio: Tensor) -> Tensor:
        edge = (RECEPTIVE - HOP) // 2  # as HuBERT-soft pads: one unit for every 320 samples
        padded = nn.functional.pad(audio, (edge, edge))
        units: Tensor = self.head(self.hubert(padded).last_hidden_state)
        return units

    def fuse(self) -> HubertContent:
        """Fold the weight norm of the positional convolution, which does not export."""
        convolution = self.hubert.encoder.pos_conv_embed.conv
        if torch.nn.utils.parametrize.is_parametrized(convolution):
            remove_parametrizations(convolution, "weight")
        return self
