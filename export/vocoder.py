"""The vocoder graph of the iSTFT kind: mel, f0 and the spectra of the excitation in, spectrum frames out."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from moksori.export.context import reach
from moksori.export.graph import Axis, GraphSpec, Lengths, Port, Proof, write
from moksori.runtime.mel import MelSpec

PROBED = 512  # frames, in which the network's reach is looked for


@dataclass(frozen=True)
class VocoderProof:
    """The graph, and how many mel frames it looks to either side."""

    vocoder: Proof
    context: int


def export_istft_vocoder(
    network: nn.Module, mel: MelSpec, path: Path, precision: str = "fp32"
) -> VocoderProof:
    """Write an ``IstftVocoder``.

    Raises:
        ExportError: the graph differs from the network.
    """
    context = _reach(network, mel)
    return VocoderProof(write(network, istft_spec(mel, context), path, precision), context)


def istft_spec(mel: MelSpec, context: int) -> GraphSpec:
    source = (1, "frames", 2, mel.n_fft // 2 + 1)
    return GraphSpec(
        role="vocoder",
        kind="istft",
        inputs=(
            Port("mel", (1, "frames", mel.bins)),
            Port("f0", (1, "frames")),
            Port("harmonic", source),
            Port("noise", source),
        ),
        outputs=(Port("spectrum", source),),
        axes=(Axis("frames", traced=24, unseen=(1, 50, 120)),),
        draw=lambda lengths, generator: draw(mel, lengths, generator),
        metadata={
            "sample_rate": str(mel.sample_rate),
            "hop": str(mel.hop),
            "n_fft": str(mel.n_fft),
            "win": str(mel.win),
            "mel_bins": str(mel.bins),
            "context": str(context),
        },
    )


def draw(mel: MelSpec, lengths: Lengths, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Log-mel frames about as loud as speech, f0 over four octaves, and two unit-power excitations."""
    frames = lengths["frames"]
    source = (1, frames, 2, mel.n_fft // 2 + 1)
    return (
        -5 + 2.5 * torch.randn(1, frames, mel.bins, generator=generator),
        60 * 2 ** (4 * torch.rand(1, frames, generator=generator)),
        torch.randn(source, generator=generator),
        torch.randn(source, generator=generator),
    )


def _reach(network: nn.Module, mel: MelSpec) -> int:
    double = copy.deepcopy(network).cpu().double().eval()
    inputs = draw(mel, {"frames": PROBED}, torch.Generator().manual_seed(0))
    log_mel, f0, harmonic, noise = (tensor.double() for tensor in inputs)

    def from_mel(given: Tensor) -> Tensor:
        spectrum: Tensor = double(given, f0, harmonic, noise)
        return spectrum

    def from_f0(given: Tensor) -> Tensor:
        spectrum: Tensor = double(log_mel, given, harmonic, noise)
        return spectrum

    return max(reach(from_mel, log_mel, 1, 1), reach(from_f0, f0, 1, 1))
