"""Networks of the shipped and of the published sizes with random weights, in torch and as our graphs, for timing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import HubertConfig, HubertModel

from moksori.export.content import ContentFacts, export_content
from moksori.export.denoiser import DenoiserFacts, export_denoiser
from moksori.export.pitch import export_crepe, export_swift, load_crepe
from moksori.export.vocoder import export_vocoder
from moksori.models.convnext import ConvNeXtConfig, ConvNeXtDenoiser
from moksori.models.convnext_content import ConvNeXtContent, ConvNeXtContentConfig
from moksori.models.hubert import HubertTeacher
from moksori.models.istft_vocoder import IstftVocoder, IstftVocoderConfig
from moksori.models.nsf_hifigan import NsfHifiGan, NsfHifiGanConfig
from moksori.models.wavenet import WaveNetConfig, WaveNetDenoiser
from moksori.runtime import manifest, pitch
from moksori.runtime.files import sha256_of
from moksori.runtime.manifest import Manifest
from moksori.runtime.mel import MelSpec

ROOT = Path(__file__).resolve().parent.parent
ROLES = ("swift", "crepe_tiny", "crepe_full", "content", "condition", "denoiser", "vocoder")


@dataclass(frozen=True)
class Preset:
    """Networks of one size and how they are called."""

    mel: MelSpec
    content: Callable[[], nn.Module]
    units: int
    content_name: str
    denoiser: Callable[[], nn.Module]
    architecture: str
    denoiser_name: str
    vocoder: Callable[[], nn.Module]
    vocoder_kind: str
    vocoder_name: str


def _hubert_base() -> nn.Module:
    config = HubertConfig(attn_implementation="eager")  # type: ignore[call-arg]
    return HubertTeacher(HubertModel(config), config.num_hidden_layers)


PRESETS = {
    "demo": Preset(
        MelSpec(),
        lambda: ConvNeXtContent(ConvNeXtContentConfig()), 128, "ConvNeXt 8×320",
        lambda: ConvNeXtDenoiser(ConvNeXtConfig(units=128)), "convnext", "ConvNeXt 6×256",
        lambda: IstftVocoder(IstftVocoderConfig()), "istft", "iSTFT",
    ),
    "hubert": Preset(
        MelSpec(),
        _hubert_base, 768, "HuBERT-base",
        lambda: ConvNeXtDenoiser(ConvNeXtConfig(units=768)), "convnext", "ConvNeXt 6×256",
        lambda: IstftVocoder(IstftVocoderConfig()), "istft", "iSTFT",
    ),
    "reference": Preset(
        MelSpec(44_100, 512, 2048, 2048, 128, 40.0, 16_000.0),
        _hubert_base, 768, "HuBERT-base",
        lambda: WaveNetDenoiser(WaveNetConfig(mel_bins=128, units=768, channels=384, layers=20)),
        "wavenet", "WaveNet 20×384",
        lambda: NsfHifiGan(NsfHifiGanConfig()), "nsf_hifigan", "NSF-HiFiGAN",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Networks:
    """A preset's networks in torch, and the files of their graphs."""

    preset: Preset
    content: nn.Module
    denoiser: nn.Module
    vocoder: nn.Module
    crepe: nn.Module
    graphs: Mapping[str, Path]
    vocoder_context: int

    @property
    def mel(self) -> MelSpec:
        return self.preset.mel

    @property
    def condition_width(self) -> int:
        return int(self.denoiser.get_submodule("conditioner.out").out_features)  # type: ignore[arg-type]

    def vocoder_inputs(self, frames: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """What the torch vocoder takes besides the weights; the excitation is given to it."""
        spec = self.mel
        sung = (torch.randn(1, frames, spec.bins, generator=generator) - 5, torch.full((1, frames), 220.0))
        if self.preset.vocoder_kind == "istft":
            source = (1, frames, 2, spec.n_fft // 2 + 1)
            return (*sung, torch.randn(source, generator=generator), torch.randn(source, generator=generator))
        return (*sung, torch.zeros(1, frames), torch.randn(1, frames, spec.hop, generator=generator))


def made(name: str, folder: Path) -> Networks:
    """The networks of a preset, always the same; graphs that ``folder`` lacks are exported into it (minutes).

    Graphs of another tree's networks and exporters are made again.
    """
    preset = PRESETS[name]
    _forget_others(folder)
    torch.manual_seed(0)
    content, denoiser, vocoder = (
        _untied(build()).eval() for build in (preset.content, preset.denoiser, preset.vocoder)
    )
    paths = {role: folder / f"{role}.onnx" for role in ROLES}
    if not paths["swift"].exists():
        export_swift(paths["swift"])
    for capacity in ("tiny", "full"):
        if not paths[f"crepe_{capacity}"].exists():
            export_crepe(capacity, paths[f"crepe_{capacity}"])
    if not paths["content"].exists():
        export_content(content, ContentFacts(name, preset.units, 1.0, 1500), paths["content"])
    if not paths["denoiser"].exists():
        channels: Any = denoiser.get_submodule("conditioner.out").out_features
        facts = DenoiserFacts(preset.architecture, "velocity", preset.mel, preset.units, 1, channels)
        export_denoiser(denoiser, facts, paths["condition"], paths["denoiser"])
    noted = folder / "vocoder.context"
    if not noted.exists():
        context = export_vocoder(vocoder, preset.mel, paths["vocoder"]).spec.context
        noted.write_text(str(context), encoding="ascii")
    return Networks(
        preset, content, denoiser, vocoder, load_crepe("full").eval(), paths, int(noted.read_text(encoding="ascii"))
    )


def voice(name: str, folder: Path) -> Path:
    """The networks of a preset as a voice that svc-run loads, in ``folder``; what it sings is noise."""
    networks, target = made(name, folder), folder / "voice"
    spec, tracker = networks.mel, pitch.TRACKERS["swift_scores"]
    target.mkdir(exist_ok=True)
    for role in manifest.ROLES:
        shutil.copyfile(networks.graphs["swift" if role == "pitch" else role], target / f"{role}.onnx")
    level = (-5.0,) * spec.bins, (2.0,) * spec.bins
    described = Manifest(
        format_version=manifest.FORMAT_VERSION, name=name, description="Random weights, for measuring", mel=spec,
        units=manifest.UnitSpec(networks.preset.units, 16_000, 320, 1.0),
        pitch=manifest.PitchSpec("swift_scores", 50.0, 1600.0, **asdict(tracker.options)),
        speakers=(manifest.Speaker("nobody", 100.0, 200.0, 400.0, -20.0, "none", "nobody"),),
        denoiser=manifest.DenoiserSpec(networks.preset.architecture, "velocity", "linear", "euler", 4, 1.0, 28, *level),
        vocoder=manifest.VocoderSpec(networks.preset.vocoder_kind, networks.vocoder_context, "host"),
        precision=dict.fromkeys(manifest.ROLES, "fp32"), licence="none", credits=(), quality={},
        files=manifest.graph_files(target),
    )  # fmt: skip
    manifest.write(target / manifest.FILE, described)
    return target


def _forget_others(folder: Path) -> None:
    """Remove graphs that other code has made than this."""
    code = sorted(path for part in ("models", "export") for path in (ROOT / part).glob("*.py"))
    mark, digest = folder / "code.sha256", sha256_of(b"".join(path.read_bytes() for path in code))
    if not mark.exists() or mark.read_text(encoding="ascii") != digest:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mark.write_text(digest, encoding="ascii")


def _untied(network: nn.Module) -> nn.Module:
    """The network with small weights where training would begin with none, so that every input changes the output."""
    for weights in network.parameters():
        if weights.dim() > 1 and not bool(weights.any()):
            nn.init.normal_(weights, std=0.02)
    return network


def librosa_wav(path: Path, spec: MelSpec) -> None:
    import librosa

    librosa.load(path, sr=spec.sample_rate, mono=True)


def librosa_mel(song: Any, spec: MelSpec) -> None:
    import librosa

    librosa.feature.melspectrogram(
        y=song, sr=spec.sample_rate, n_fft=spec.n_fft, hop_length=spec.hop, n_mels=spec.bins, fmin=spec.fmin,
        fmax=spec.fmax, power=1.0,
    )  # fmt: skip
