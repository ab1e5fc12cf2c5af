"""How a vocoder learns: to give back the recording whose mel and f0 it was shown."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from moksori.models.discriminator import SpectrogramDiscriminator
from moksori.runtime import mel
from moksori.runtime.errors import OptionError
from moksori.train import config as configs
from moksori.train import dataset, start, synthesis
from moksori.train.checkpoint import Ranking
from moksori.train.dataset import MARGIN, Crop, PreparedData, Share
from moksori.train.loop import LoopConfig
from moksori.train.precision import full

RESOLUTIONS = ((256, 80), (640, 200), (2048, 512))  # FFT size and hop in samples
AGAIN = "again_"  # before the names of a second take's inputs
FAR = 1 << 30  # from the seeds of the first takes to those of the second
EDGE = 2  # frames at each end of a crop that lack a neighbour to overlap with


@dataclass(frozen=True)
class VocoderConfig:
    architecture: str = "istft"  # or nsf_hifigan
    network: dict[str, Any] = field(default_factory=dict)  # what differs from the architecture's own defaults
    start_from: str | None = None  # begin with these weights: openvpi's, a run's, a checkpoint's or a voice's
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(average=0.9995))
    batch: int = 8
    frames: int = 64
    mel_weight: float = 1.5
    energy: bool = False  # teach how random a sound is, by two takes of it; a step takes twice as long
    adversarial: bool = False  # worth it on a GPU; on a CPU it costs nine tenths of the speed
    adversarial_weight: float = 0.1
    adversary_channels: int = 32
    speaker_weights: dict[str, float] = field(default_factory=dict)  # multiplies a speaker's share of the crops


@dataclass(frozen=True)
class Seen:
    """What sounds [B, n] are compared by: magnitudes [B, K, T] at RESOLUTIONS and log mel [B, M, T]."""

    magnitudes: list[Tensor]
    log_mel: Tensor


def spectral_distance(one: Seen, other: Seen, whole: Seen) -> Tensor:
    """Multi-resolution spectral convergence and log-magnitude distance (Yamamoto et al. 2020, eq. 4 to 6).

    Convergence is relative to the norm of ``whole``.
    """
    total = one.log_mel.new_zeros(())
    for ours, theirs, all_of_it in zip(one.magnitudes, other.magnitudes, whole.magnitudes, strict=True):
        total = total + (theirs - ours).norm() / all_of_it.norm() + (theirs.log() - ours.log()).abs().mean()
    return total / len(RESOLUTIONS)


def mel_distance(one: Seen, other: Seen, whole: Seen) -> Tensor:
    return (one.log_mel - other.log_mel).abs().mean()


DISTANCES = {"spectral": spectral_distance, "mel": mel_distance}


class VocoderTask:
    """The loop's view of the vocoder."""

    trivial: float | None = None
    begun = False

    def __init__(self, data: PreparedData, config: VocoderConfig) -> None:
        self.data, self.config, self.spec = data, config, data.spec
        least = max(n_fft for n_fft, _ in RESOLUTIONS) // (2 * data.spec.hop) + 2 * EDGE + 1
        if config.frames < least:
            raise OptionError(f"frames is {config.frames}, and crops of this data need {least} at least")
        self.architecture = synthesis.architecture(config.architecture)
        self.shape = synthesis.resolved(config.architecture, config.network, data.spec)
        self.network: nn.Module = self.architecture.network(self.shape)
        judge = SpectrogramDiscriminator(config.adversary_channels) if config.adversarial else None
        self.adversary: nn.Module | None = judge
        # what an adversary teaches costs mel distance and is heard, so there the newest is the best
        measure = "validation/energy" if config.energy else "validation/mel"
        self.ranking: Ranking | None = None if config.adversarial else Ranking(measure)
        self._filters = torch.from_numpy(mel.filterbank(data.spec))

    def batches(self, share: Share, device: torch.device) -> Generator[dict[str, Tensor]]:
        config = self.config
        balance = self.data.balance(config.speaker_weights)
        stream = dataset.batches(
            self.data, self._collate, share, size=config.batch, frames=config.frames, balance=balance
        )
        return dataset.tensors(stream, device)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        wanted = self._inside(batch["audio"])
        takes = [self._inside(self._synthesise(self.network, inputs)) for inputs in self._takes(batch)]
        losses, audio = self._distances(takes, wanted), takes[0]
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
        wanted = self._inside(batch["audio"])
        real, fake = self.adversary(wanted), self.adversary(batch["generated"])
        terms = [(r[-1] - 1).square().mean() + f[-1].square().mean() for r, f in zip(real, fake, strict=True)]
        return torch.stack(terms).mean()

    @torch.no_grad()
    def validate(self, network: nn.Module, writer: SummaryWriter, step: int, device: torch.device) -> dict[str, float]:
        """Mean log-mel distance of copy-synthesis on held-out slices, and their energy distance if it is learned."""
        network.eval()
        distances, energies = [], []
        for number, piece in enumerate(self.data.examples):
            crop = self.data.crop(piece, 0, min(piece.frames, 300), variant=0)
            batch = {k: torch.from_numpy(v).to(device) for k, v in self._collate([crop], number).items()}
            takes = [self._synthesise(network, inputs) for inputs in self._takes(batch)]
            losses = self._distances(takes, batch["audio"])
            distances.append(float(losses["mel"]))
            energies.append(float(losses["loss"]))
            if number < 3:
                writer.add_audio(f"copy/{piece.id}", takes[0][0].cpu(), step, self.spec.sample_rate)
        energy = {"validation/energy": float(np.mean(energies))} if self.config.energy else {}
        return {"validation/mel": float(np.mean(distances)), **energy}

    def begin(self) -> None:
        """Take the weights of ``start_from``, if any; for the first step of a run."""
        if self.config.start_from is not None:
            self.network.load_state_dict(start.read(self.config.start_from).state)
            self.begun = True

    def _distances(self, takes: list[Tensor], wanted: Tensor) -> dict[str, Tensor]:
        """Distances of takes [B, n] from the recording, and from each other.

        The energy distance (Gritsenko et al. 2020, arXiv:2008.01160):
        E d(take, recording) - E d(take, other take) / 2 is least when takes are spread as the recordings are. The
        distance alone is least for what lies in the middle of them: in place of noise, something that never changes.
        """
        recording, *seen = (self._seen(audio) for audio in (wanted, *takes))
        losses = {
            name: torch.stack([distance(one, recording, recording) for one in seen]).mean()
            for name, distance in DISTANCES.items()
        }
        losses["loss"] = self._weighed(losses)
        if len(takes) > 1:
            one, other = seen
            apart = self._weighed({name: distance(one, other, recording) for name, distance in DISTANCES.items()})
            losses |= {"apart": apart, "loss": losses["loss"] - apart / 2}
        return losses

    def _weighed(self, distances: dict[str, Tensor]) -> Tensor:
        return distances["spectral"] + self.config.mel_weight * distances["mel"]

    @full
    def _seen(self, audio: Tensor) -> Seen:
        return Seen([magnitude(audio, *size) for size in RESOLUTIONS], self._log_mel(audio))

    def _inside(self, audio: Tensor) -> Tensor:
        return audio[:, EDGE * self.spec.hop : -EDGE * self.spec.hop]

    def _takes(self, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Inputs of one take, or of two that differ by chance alone."""
        other = {name.removeprefix(AGAIN): value for name, value in batch.items() if name.startswith(AGAIN)}
        return [batch, {**batch, **other}] if other else [batch]

    def _synthesise(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return self.architecture.synthesise(network, batch, self.spec)

    def _collate(self, crops: list[Crop], first_index: int) -> dataset.Batch:
        excite = self.architecture.excitation
        sources = [excite(crop, self.spec, first_index + k, self.shape) for k, crop in enumerate(crops)]
        if self.config.energy:
            for k, crop in enumerate(crops):
                others = excite(crop, self.spec, FAR + first_index + k, self.shape)
                sources[k] |= {AGAIN + name: value for name, value in others.items()}
        return {
            "mel": np.stack([crop.mel for crop in crops]),
            "f0": np.stack([crop.f0[MARGIN:-MARGIN] for crop in crops]),
            "audio": np.stack([crop.audio for crop in crops]),
            **{name: np.stack([one[name] for one in sources]) for name in sources[0]},
        }

    def _log_mel(self, audio: Tensor) -> Tensor:
        """runtime/mel.py in torch, for the gradient's sake; a test holds the two together."""
        spec, pad = self.spec, (self.spec.n_fft - self.spec.hop) // 2
        padded = F.pad(audio.unsqueeze(1), (pad, pad), mode="reflect").squeeze(1)
        window = torch.from_numpy(mel.hann(spec.win, spec.n_fft)).to(audio.device)
        transform = torch.stft(padded, spec.n_fft, spec.hop, window=window, center=False, return_complex=True)
        magnitude = torch.sqrt(transform.real**2 + transform.imag**2 + 1e-12)
        return torch.log((self._filters.to(audio.device) @ magnitude).clamp(min=mel.FLOOR))


def fitted(config: VocoderConfig, data: PreparedData) -> VocoderConfig:
    """``config`` with all of the network written out: as given, as ``start_from`` has it, as the data dictates.

    Raises:
        OptionError: what is given, what is started from and the data do not go together.
    """
    if config.start_from is None or config.network.keys() == configs.plain(_defaults(config)).keys():
        shape = synthesis.resolved(config.architecture, config.network, data.spec)
        return replace(config, network=configs.plain(shape))
    return start.fitted(config, data.spec)


def build(config: VocoderConfig) -> nn.Module:
    """The network of a config that ``fitted`` has written out."""
    kind = synthesis.architecture(config.architecture)
    return kind.network(synthesis.shape(config.architecture, config.network))


def _defaults(config: VocoderConfig) -> Any:
    return synthesis.architecture(config.architecture).config


def magnitude(audio: Tensor, n_fft: int, hop: int) -> Tensor:
    """Magnitude spectrogram [B, n_fft/2 + 1, frames], kept off zero for the logarithm's gradient."""
    window = torch.hann_window(n_fft, device=audio.device)
    transform = torch.stft(audio, n_fft, hop, window=window, return_complex=True)
    return torch.view_as_real(transform).square().sum(-1).add(1e-8).sqrt()
