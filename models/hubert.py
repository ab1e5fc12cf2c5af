"""The small HuBERT that a voice can ship: transformers' own architecture with a narrow front end, and a unit head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
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


class HubertTeacher(nn.Module):
    """A published HuBERT as a content network: audio [B, n] -> hidden vectors of one layer [B, n / 320, W].

    ``projection`` is ContentVec's ``final_proj``, where units are taken through it.
    """

    def __init__(self, hubert: HubertModel, layer: int, projection: nn.Linear | None = None) -> None:
        super().__init__()
        self.hubert, self.layer, self.projection = hubert, layer, projection

    def forward(self, audio: Tensor) -> Tensor:
        hidden: Tensor = self.hubert(padded(audio), output_hidden_states=True).hidden_states[self.layer]
        return hidden if self.projection is None else self.projection(hidden)


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
        units: Tensor = self.head(self.hubert(padded(audio)).last_hidden_state)
        return units


def padded(audio: Tensor) -> Tensor:
    """Audio with the edges that HuBERT-soft adds, so that there is one unit for every 320 samples."""
    edge = (RECEPTIVE - HOP) // 2
    return nn.functional.pad(audio, (edge, edge))
