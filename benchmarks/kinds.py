"""One network of every kind that svc-export can write, for the parity table: published weights where a package has
them, else random weights in a small network of the same layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from transformers import HubertConfig, HubertModel

from moksori.export.content import ContentFacts, export_content
from moksori.export.denoiser import DenoiserFacts, export_denoiser
from moksori.export.graph import Proof, write
from moksori.export.openutau import OpenUtauForm, openutau_spec
from moksori.export.pitch import export_crepe, export_swift
from moksori.export.vocoder import export_vocoder
from moksori.models.conditioner import ConditionerConfig
from moksori.models.convnext import ConvNeXtConfig, ConvNeXtDenoiser
from moksori.models.hubert import HubertContent, HubertContentConfig, HubertTeacher
from moksori.models.istft_vocoder import IstftVocoder, IstftVocoderConfig
from moksori.models.nsf_hifigan import NsfHifiGan, NsfHifiGanConfig
from moksori.models.wavenet import WaveNetConfig, WaveNetDenoiser
from moksori.models.whisper import WhisperConfig, WhisperContent
from moksori.runtime.mel import MelSpec

MEL = MelSpec(sample_rate=24_000, hop=240, n_fft=512, win=512, bins=40, fmin=40, fmax=8_000)
UNITS, WIDTH = 16, 64
STORED = ("fp32", "fp16", "w8")  # of graphs that svc-export never makes int8 of
Write = Callable[[Path, str], list[Proof]]


@dataclass(frozen=True)
class Kind:
    """``write(path, precision)`` exports it; ``only`` names its precisions where not all make sense."""

    name: str
    write: Write
    only: tuple[str, ...] = ()


def kinds() -> Iterator[Kind]:
    yield Kind("SwiftF0, published", lambda path, _: [export_swift(path)], ("fp32",))
    for capacity in ("tiny", "full"):
        yield Kind(f"CREPE {capacity}, published", _crepe(capacity), STORED)
    yield Kind("HuBERT-soft: last layer, head", _content(lambda: _hubert(12, projected=True)))
    yield Kind("ContentVec: layer 9, projection", _content(lambda: _hubert(9, projected=True)))
    yield Kind("ContentVec: layer 12", _content(lambda: _hubert(12), WIDTH))
    yield Kind("Whisper", _content(lambda: WhisperContent(WhisperConfig(WIDTH, 2, 2)), WIDTH, 1500))
    yield Kind("small HuBERT", _content(lambda: HubertContent(HubertContentConfig(UNITS, WIDTH, 2, 2, 32))))
    convnext = ConvNeXtConfig(MEL.bins, UNITS, 2, WIDTH, 2 * WIDTH, 2)
    yield Kind("ConvNeXt", _denoiser(lambda: ConvNeXtDenoiser(convnext), "convnext", "velocity"))
    heard = ConditionerConfig(kind="sum", channels=UNITS)
    wavenet = WaveNetConfig(MEL.bins, UNITS, 2, WIDTH, 4, 4, 1.0, heard)
    yield Kind("WaveNet, as diff-svc has it", _denoiser(lambda: WaveNetDenoiser(wavenet), "wavenet", "epsilon"))
    istft = IstftVocoderConfig(MEL.bins, MEL.n_fft, WIDTH, 2 * WIDTH, 2)
    yield Kind("iSTFT vocoder", _vocoder(lambda: IstftVocoder(istft)))
    rates, kernels = (8, 5, 3, 2), (16, 11, 7, 4)
    nsf = NsfHifiGanConfig(MEL.bins, MEL.sample_rate, rates, kernels, WIDTH, "1", (3, 7), ((1, 3, 5),) * 2)
    yield Kind("NSF-HiFiGAN", _vocoder(lambda: NsfHifiGan(nsf)))
    yield Kind("mini NSF-HiFiGAN", _vocoder(lambda: NsfHifiGan(replace(nsf, mini=True))))
    openutau = openutau_spec(MEL)
    yield Kind(
        "NSF-HiFiGAN in OpenUtau's form",
        lambda path, stored: [write(_made(lambda: OpenUtauForm(NsfHifiGan(nsf))), openutau, path, stored)],
        STORED,
    )


def _made(build: Callable[[], nn.Module]) -> nn.Module:
    """Random weights, always the same, none of them zero."""
    torch.manual_seed(0)
    network = build().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def _hubert(layer: int, projected: bool = False) -> nn.Module:
    network = HubertModel(
        HubertConfig(  # type: ignore[call-arg]
            hidden_size=WIDTH, num_hidden_layers=12, num_attention_heads=2, intermediate_size=2 * WIDTH,
            conv_dim=(32,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
            attn_implementation="eager",
        )
    )  # fmt: skip
    return HubertTeacher(network, layer, nn.Linear(WIDTH, UNITS) if projected else None)


def _crepe(capacity: str) -> Write:
    return lambda path, precision: [export_crepe(capacity, path, precision)]


def _content(build: Callable[[], nn.Module], dimension: int = UNITS, longest: int | None = None) -> Write:
    facts = ContentFacts("test", dimension, 1.0, longest)
    return lambda path, precision: [export_content(_made(build), facts, path, precision)]


def _denoiser(build: Callable[[], nn.Module], architecture: str, prediction: str) -> Write:
    def write_both(path: Path, precision: str) -> list[Proof]:
        network = _made(build)
        channels = network.get_submodule("conditioner.out").out_features
        facts = DenoiserFacts(architecture, prediction, MEL, UNITS, 2, channels)  # type: ignore[arg-type]
        proved = export_denoiser(network, facts, path.with_stem("condition"), path, precision)
        return [proved.condition, proved.denoiser]

    return write_both


def _vocoder(build: Callable[[], nn.Module]) -> Write:
    return lambda path, precision: [export_vocoder(_made(build), MEL, path, precision).vocoder]
