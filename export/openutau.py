"""NSF-HiFiGAN in the form that OpenUtau and DiffSinger use: mel and f0 to waveform, vocoder.yaml, .oudep."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from moksori.export import cost
from moksori.export.cost import Cost
from moksori.export.graph import Axis, GraphSpec, Port, Proof, write
from moksori.export.spec import ExportError
from moksori.export.vocoder import draw_sung, facts
from moksori.models.nsf_hifigan import NsfHifiGan
from moksori.runtime.files import atomic_path
from moksori.runtime.mel import MelSpec

MODEL, CONFIG, PACKAGE = "nsf_hifigan.onnx", "vocoder.yaml", "oudep.yaml"
TABLE = 128  # frames of noise, then it begins again: over a second, which nobody hears repeat
COARSE = 1024  # parts of a cycle that sums of phase are exact in


@dataclass(frozen=True)
class About:
    name: str
    version: str = "1.0"
    description: str = ""
    pitch_controllable: bool = False


class OpenUtauForm(nn.Module):
    """mel [1, T, M], f0 [1, T] -> waveform [1, T·hop]: sums the phase itself and holds its own noise.

    Sums in float32 lose a cycle's fraction as they grow. So each frame's advance, without its whole cycles, is split
    into a multiple of 1/1024, whose sums are exact up to 32768 frames, and a rest, whose sums stay small.
    The noise is a constant table, since random operators fail on some devices and make a song unlike itself.
    """

    noise: Tensor

    def __init__(self, network: NsfHifiGan) -> None:
        super().__init__()
        self.network = network
        drawn = torch.randn(TABLE, network.config.hop, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", drawn, persistent=False)

    def forward(self, mel: Tensor, f0: Tensor) -> Tensor:
        phase = self.phase(f0)
        if "noise" not in self.network.inputs:
            made: Tensor = self.network(mel, f0, phase)
            return made
        number = torch.cumsum(torch.ones_like(f0), dim=1) - 1
        place = (number - TABLE * torch.floor(number / TABLE)).to(torch.int64)
        made = self.network(mel, f0, phase, self.noise.index_select(0, place.squeeze(0)).unsqueeze(0))
        return made

    def phase(self, f0: Tensor) -> Tensor:
        """Cycles at the begin of each frame, [1, T], without whole ones."""
        advance = self.network.m_source.advance(f0)
        advance = advance - torch.floor(advance + 0.5)
        coarse = torch.floor(advance * COARSE + 0.5) / COARSE
        fine = advance - coarse
        before = torch.cumsum(coarse, dim=1) - coarse
        total = before - torch.floor(before) + (torch.cumsum(fine, dim=1) - fine)
        return total - torch.floor(total)


def export_openutau(
    network: nn.Module,
    mel: MelSpec,
    target: Path,
    about: About,
    precision: str = "fp32",
    data: Path | None = None,
    force: bool = False,
) -> tuple[Proof, Cost | None]:
    """Write the folder ``target`` with the graph and vocoder.yaml, or with oudep.yaml all in one when so named.

    Raises:
        ExportError: another kind of vocoder, a target that exists, a graph that differs from the network, or a
            precision that costs too much.
    """
    if not isinstance(network, NsfHifiGan):
        raise ExportError("OpenUtau takes NSF-HiFiGAN; train the vocoder with architecture: nsf_hifigan")
    packed = target.suffix == ".oudep"
    if target.exists() and (not force or target.is_dir() == packed):
        raise ExportError(f"{target} exists; use --force to replace it, or another name")
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / MODEL
        proof = write(OpenUtauForm(network), openutau_spec(mel), graph, precision)
        judged = cost.reduced_vocoder(graph, OpenUtauForm(network), mel, precision, data, force)
        if not packed:
            with atomic_path(target / MODEL) as part:
                shutil.copyfile(graph, part)
            _write(target / CONFIG, vocoder_yaml(mel, about))
            return proof, judged
        package = {"id": about.name, "version": about.version, "description": about.description, "class": "vocoder"}
        with atomic_path(target) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(PACKAGE, _text(package))
            archive.writestr(CONFIG, _text(vocoder_yaml(mel, about)))
            archive.write(graph, MODEL)
    return proof, judged


def openutau_spec(mel: MelSpec) -> GraphSpec:
    return GraphSpec(
        role="vocoder",
        kind="openutau",
        inputs=(Port("mel", (1, "n_frames", mel.bins)), Port("f0", (1, "n_frames"))),
        outputs=(Port("waveform", (1, f"{mel.hop}*n_frames")),),
        axes=(Axis("n_frames", traced=24, unseen=(1, 17, 150)),),
        draw=lambda lengths, generator: draw_sung(mel, {"frames": lengths["n_frames"]}, generator),
        metadata=facts(mel),
    )


def vocoder_yaml(mel: MelSpec, about: About) -> dict[str, Any]:
    """The keys of vocoder.yaml. OpenUtau reads a missing mel_base as 10, so it is always there."""
    return {
        "name": about.name,
        "model": MODEL,
        "sample_rate": mel.sample_rate,
        "hop_size": mel.hop,
        "win_size": mel.win,
        "fft_size": mel.n_fft,
        "num_mel_bins": mel.bins,
        "mel_fmin": mel.fmin,
        "mel_fmax": mel.fmax,
        "mel_base": "e",
        "mel_scale": "slaney",
        "pitch_controllable": about.pitch_controllable,
    }


def _write(path: Path, value: dict[str, Any]) -> None:
    with atomic_path(path) as part:
        part.write_text(_text(value), encoding="utf-8", newline="\n")


def _text(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
