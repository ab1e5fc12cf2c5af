"""Vocoder graphs: what each kind takes and gives, how far it looks, and the proof that it is its network."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moksori.export.context import reach
from moksori.export.graph import Axis, ExportError, GraphSpec, Lengths, Port, Proof, write
from moksori.models.istft_vocoder import IstftVocoder
from moksori.models.nsf_hifigan import NsfHifiGan
from moksori.runtime.manifest import VocoderSpec
from moksori.runtime.mel import MelSpec

PROBED = (64, 512)  # frames in which the network's reach is looked for, the second when the first are too few
UNVOICED = 0.2  # share of the frames of a drawn f0


@dataclass(frozen=True)
class VocoderProof:
    """The graph, and what voice.json says of it."""

    vocoder: Proof
    spec: VocoderSpec


def export_vocoder(network: nn.Module, mel: MelSpec, path: Path, precision: str = "fp32") -> VocoderProof:
    """Write an ``IstftVocoder`` or an ``NsfHifiGan``.

    Raises:
        ExportError: the graph differs from the network.
    """
    spec = SPECS[type(network)](network, mel)
    context = receptive_field(network, spec)
    described = {"context": str(context), "network": json.dumps(asdict(network.config))}  # type: ignore[call-overload]
    spec = replace(spec, metadata={**spec.metadata, **described})
    return VocoderProof(write(network, spec, path, precision), VocoderSpec(spec.kind, context, "host"))


def istft_spec(network: Any, mel: MelSpec) -> GraphSpec:
    source = (1, "frames", 2, mel.n_fft // 2 + 1)
    return GraphSpec(
        role="vocoder",
        kind="istft",
        inputs=(*_sung(mel), Port("harmonic", source), Port("noise", source)),
        outputs=(Port("spectrum", source),),
        axes=(Axis("frames", traced=24, unseen=(1, 50, 120)),),
        draw=lambda lengths, generator: _draw_istft(mel, lengths, generator),
        metadata=facts(mel),
    )


def nsf_spec(network: Any, mel: MelSpec) -> GraphSpec:
    ports = {"phase": Port("phase", (1, "frames")), "noise": Port("noise", (1, "frames", mel.hop))}
    inputs = (*_sung(mel), *(ports[name] for name in network.inputs[2:]))
    return GraphSpec(
        role="vocoder",
        kind="mini_nsf" if network.config.mini else "nsf_hifigan",
        inputs=inputs,
        outputs=(Port("waveform", (1, f"{mel.hop}*frames")),),
        axes=(Axis("frames", traced=24, unseen=(1, 17, 50)),),
        draw=lambda lengths, generator: _draw_nsf(mel, lengths, generator)[: len(inputs)],
        metadata={**facts(mel), "source_hop": str(network.config.source_hop)},
    )


SPECS: dict[type[nn.Module], Callable[[Any, MelSpec], GraphSpec]] = {
    IstftVocoder: istft_spec,
    NsfHifiGan: nsf_spec,
}


def facts(mel: MelSpec) -> dict[str, str]:
    """Metadata of every vocoder graph."""
    return {
        "sample_rate": str(mel.sample_rate),
        "hop": str(mel.hop),
        "n_fft": str(mel.n_fft),
        "win": str(mel.win),
        "mel_bins": str(mel.bins),
    }


def draw_sung(mel: MelSpec, lengths: Lengths, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Log-mel frames about as loud as speech, and f0 over four octaves."""
    frames = lengths["frames"]
    return (
        -5 + 2.5 * torch.randn(1, frames, mel.bins, generator=generator),
        60 * 2 ** (4 * torch.rand(1, frames, generator=generator)),
    )


def receptive_field(network: nn.Module, spec: GraphSpec) -> int:
    """Frames to either side of a frame that can change what is made of it, in any input."""
    double = copy.deepcopy(network).cpu().double().eval()
    for last, frames in zip((False, True), PROBED, strict=True):
        inputs = [one.double() for one in spec.draw({"frames": frames}, torch.Generator().manual_seed(0))]
        widths = [one[0, 0].numel() for one in inputs]
        packed = torch.cat([one.reshape(1, frames, -1) for one in inputs], dim=-1)

        def frame_by_frame(given: Tensor, inputs: list[Tensor] = inputs, widths: list[int] = widths) -> Tensor:
            parts = given.split(widths, dim=-1)
            out: Tensor = double(*(part.reshape(one.shape) for part, one in zip(parts, inputs, strict=True)))
            return out.reshape(1, given.shape[1], -1)

        try:
            return reach(frame_by_frame, packed, 1, 1)
        except ExportError:
            if last:
                raise
    raise AssertionError("PROBED is empty")


def _sung(mel: MelSpec) -> tuple[Port, Port]:
    return Port("mel", (1, "frames", mel.bins)), Port("f0", (1, "frames"))


def _draw_istft(mel: MelSpec, lengths: Lengths, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Two unit-power excitations with the rest."""
    source = (1, lengths["frames"], 2, mel.n_fft // 2 + 1)
    excited = (torch.randn(source, generator=generator) for _ in range(2))
    return (*draw_sung(mel, lengths, generator), *excited)


def _draw_nsf(mel: MelSpec, lengths: Lengths, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Some frames without f0, any phase, noise of unit power."""
    log_mel, f0 = draw_sung(mel, lengths, generator)
    frames = lengths["frames"]
    voiced = torch.rand(1, frames, generator=generator) > UNVOICED
    voiced[:, frames // 2] = True  # a single frame must show what f0 does
    phase = torch.rand(1, frames, generator=generator)
    return log_mel, f0 * voiced, phase, torch.randn(1, frames, mel.hop, generator=generator)
