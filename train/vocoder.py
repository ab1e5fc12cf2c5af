"""How the iSTFT vocoder learns: to give back the recording whose mel and f0 it was shown."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from moksori.models.discriminator import SpectrogramDiscriminator
from moksori.models.istft_vocoder import IstftVocoder, IstftVocoderConfig
from moksori.runtime import mel, noise, source
from moksori.train import dataset
from moksori.train.dataset import MARGIN, Crop, PreparedData
from moksori.train.loop import LoopConfig

RESOLUTIONS = ((256, 80), (640, 200), (2048, 512))  # FFT size and hop in samples
EDGE = 2  # frames at each end of a crop that lack a neighbour to overlap with


@dataclass(frozen=True)
class VocoderConfig:
    network: IstftVocoderConfig = field(default_factory=IstftVocoderConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(average=0.9995))
    batch: int = 8
    frames: int = 64
    mel_weight: float = 1.5
    adversarial: bool = False  # worth it on a GPU; on a CPU it costs nine tenths of the speed
    adversarial_weight: float = 0.1
    speaker_weights: dict[str, float] = field(default_factory=dict)  # multiplies a speaker's share of the crops


class VocoderTask:
    """The loop's view of the vocoder."""

    def __init__(self, data: PreparedData, config: VocoderConfig) -> None:
        self.data, self.config, self.spec = data, config, data.spec
        self.network: nn.Module = IstftVocoder(config.network)
        self.adversary: nn.Module | None = SpectrogramDiscriminator() if config.adversarial else None
        self._filters = torch.from_numpy(mel.filterbank(data.spec))

    def batches(self, step: int, device: torch.device) -> Generator[dict[str, Tensor]]:
        config = self.config
        stream = dataset.batches(
            self.data, self._collate, seed=config.loop.seed, start=step, size=config.batch, frames=config.frames,
            balance=self.data.balance(config.speaker_weights),
        )  # fmt: skip
        return dataset.tensors(stream, device)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        audio = self._synthesise(self.network, batch)
        wanted = batch["audio"][:, EDGE * self.spec.hop : -EDGE * self.spec.hop]
        audio = audio[:, EDGE * self.spec.hop : -EDGE * self.spec.hop]
        losses = {"spectral": spectral_loss(audio, wanted), "mel": self._mel_distance(audio, wanted)}
        losses["loss"] = losses["spectral"] + self.config.mel_weight * losses["mel"]
        if self.adversary is not None:
            batch["generated"] = audio.detach()
            with torch.no_grad():
                real = self.adversary(wanted)
            fake = self.adversary(audio)
            losses["fool"] = sum((stack[-1] - 1).square().mean() for stack in fake) / len(fake)
            pairs = [(a, b) for r, f in zip(real, fake, strict=True) for a, b in zip(r[:-1], f[:-1], strict=True)]
            losses["features"] = sum((a - b).abs().mean() / a.abs().mean() for a, b in pairs) / len(pairs)
            losses["loss"] = losses["loss"] + self.config.adversarial_weight * (losses["fool"] + 2 * losses["features"])
        return losses

    def adversary_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Least squares (Mao et al. 2017) between the recording and what the vocoder just made."""
        assert self.adversary is not None
        wanted = batch["audio"][:, EDGE * self.spec.hop : -EDGE * self.spec.hop]
        real, fake = self.adversary(wanted), self.adversary(batch["generated"])
        terms = [(r[-1] - 1).square().mean() + f[-1].square().mean() for r, f in zip(real, fake, strict=True)]
        return torch.stack(terms).mean()

    @torch.no_grad()
    def validate(self, network: nn.Module, writer: SummaryWriter, step: int, device: torch.device) -> dict[str, float]:
        """Mean log-mel distance of copy-synthesis on held-out slices."""
        network.eval()
        distances = []
        for number, piece in enumerate(self.data.validation[:24]):
            crop = self.data.crop(piece, 0, min(piece.frames, 300), variant=0)
            batch = {k: torch.from_numpy(v).to(device) for k, v in self._collate([crop], number).items()}
            audio = self._synthesise(network, batch)
            distances.append(float(self._mel_distance(audio, batch["audio"])))
            if number < 3:
                writer.add_audio(f"copy/{piece.id}", audio[0].cpu(), step, self.spec.sample_rate)
        return {"validation/mel": float(np.mean(distances))}

    def _synthesise(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        spectra = network(batch["mel"], batch["f0"], batch["harmonic"], batch["noise"])
        return overlap_add(spectra, self.spec)

    def _collate(self, crops: list[Crop], first_index: int) -> dataset.Batch:
        sources = [excitation(crop, self.spec, first_index + k) for k, crop in enumerate(crops)]
        return {
            "mel": np.stack([crop.mel for crop in crops]),
            "f0": np.stack([crop.f0[MARGIN:-MARGIN] for crop in crops]),
            "audio": np.stack([crop.audio for crop in crops]),
            "harmonic": np.stack([harmonic for harmonic, _ in sources]),
            "noise": np.stack([noisy for _, noisy in sources]),
        }

    def _mel_distance(self, audio: Tensor, wanted: Tensor) -> Tensor:
        return (self._log_mel(audio) - self._log_mel(wanted)).abs().mean()

    def _log_mel(self, audio: Tensor) -> Tensor:
        """runtime/mel.py in torch, for the gradient's sake; a test holds the two together."""
        spec, pad = self.spec, (self.spec.n_fft - self.spec.hop) // 2
        padded = F.pad(audio.unsqueeze(1), (pad, pad), mode="reflect").squeeze(1)
        window = torch.from_numpy(mel.hann(spec.win, spec.n_fft)).to(audio.device)
        transform = torch.stft(padded, spec.n_fft, spec.hop, window=window, center=False, return_complex=True)
        magnitude = torch.sqrt(transform.real**2 + transform.imag**2 + 1e-12)
        return torch.log((self._filters.to(audio.device) @ magnitude).clamp(min=mel.FLOOR))


def fitted(config: VocoderConfig, data: PreparedData) -> VocoderConfig:
    """``config`` with the widths that the data dictates."""
    return replace(config, network=replace(config.network, mel_bins=data.spec.bins, n_fft=data.spec.n_fft))


def excitation(crop: Crop, spec: mel.MelSpec, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Source spectra of a crop, each [T, 2, K], from a random start phase."""
    count, pad = len(crop.mel), (spec.n_fft - spec.hop) // 2
    start = float(np.random.default_rng(seed).random())
    train = source.pulses(source.phases(crop.f0, spec.hop, spec.sample_rate, start), start)
    begin = source.TAPS // 2 + (MARGIN - 1) * spec.hop - pad
    white = noise.frames("vocoder", seed, 0, count + -(-spec.n_fft // spec.hop), spec.hop).reshape(-1)
    return (
        source.spectrum(source.windows(train[begin:], count, spec), spec),
        source.spectrum(source.windows(white, count, spec), spec),
    )


def overlap_add(spectra: Tensor, spec: mel.MelSpec) -> Tensor:
    """runtime/source.py's overlap-add in torch: [B, T, 2, K] -> [B, T·hop]."""
    window = torch.from_numpy(mel.hann(spec.win, spec.n_fft)).to(spectra.device)
    frames = torch.fft.irfft(torch.complex(spectra[..., 0, :], spectra[..., 1, :]), n=spec.n_fft) * window
    count, pad = frames.shape[1], (spec.n_fft - spec.hop) // 2
    size = (1, (count - 1) * spec.hop + spec.n_fft)
    fold = {"output_size": size, "kernel_size": (1, spec.n_fft), "stride": (1, spec.hop)}
    total = F.fold(frames.transpose(1, 2), **fold)[:, 0, 0]
    weight = F.fold((window**2).view(1, -1, 1).expand(1, -1, count).contiguous(), **fold)[:, 0, 0]
    return (total / weight.clamp(min=1e-4))[:, pad : pad + count * spec.hop]


def spectral_loss(audio: Tensor, wanted: Tensor) -> Tensor:
    """Multi-resolution spectral convergence and log-magnitude distance (Yamamoto et al. 2020, eq. 4 to 6)."""
    total = audio.new_zeros(())
    for n_fft, hop in RESOLUTIONS:
        ours, theirs = magnitude(audio, n_fft, hop), magnitude(wanted, n_fft, hop)
        total = total + (theirs - ours).norm() / theirs.norm() + (theirs.log() - ours.log()).abs().mean()
    return total / len(RESOLUTIONS)


def magnitude(audio: Tensor, n_fft: int, hop: int) -> Tensor:
    """Magnitude spectrogram [B, n_fft/2 + 1, frames], kept off zero for the logarithm's gradient."""
    window = torch.hann_window(n_fft, device=audio.device)
    transform = torch.stft(audio, n_fft, hop, window=window, return_complex=True)
    return torch.view_as_real(transform).square().sum(-1).add(1e-8).sqrt()
