"""The vocoders that can be trained, behind one interface: what excites them, and how their output becomes audio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from moksori.models import nsf_hifigan
from moksori.models.istft_vocoder import IstftVocoder, IstftVocoderConfig
from moksori.models.nsf_hifigan import NsfHifiGan, NsfHifiGanConfig
from moksori.runtime import mel, noise, source
from moksori.runtime.errors import OptionError
from moksori.runtime.mel import MelSpec
from moksori.train import config as configs
from moksori.train.dataset import MARGIN, Crop

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Architecture:
    """``excitation`` (crop, mel spec, seed, network config) gives the inputs beside mel and f0, by name."""

    config: Any  # the network's defaults
    network: Callable[[Any], nn.Module]
    widths: Callable[[MelSpec], dict[str, Any]]  # what the data dictates
    excitation: Callable[[Crop, MelSpec, int, Any], dict[str, Array]]
    synthesise: Callable[[nn.Module, dict[str, Tensor], MelSpec], Tensor]  # audio [B, T·hop]


@dataclass(frozen=True)
class Start:
    """A trained vocoder to begin with: ``network`` is its architecture's config, ``mel`` what it hears."""

    architecture: str
    network: Any
    mel: MelSpec
    state: dict[str, Tensor]


def architecture(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise OptionError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not '{name}'")
    return ARCHITECTURES[name]


def shape(name: str, given: Mapping[str, Any]) -> Any:
    """The config of a network with the values ``given``; OptionError for an unknown key or a value of another type."""
    return configs.overlay(architecture(name).config, _tuples(dict(given)), "network")


def resolved(name: str, given: Mapping[str, Any], spec: MelSpec) -> Any:
    """The network's config with the values ``given`` and those that the data dictates.

    Raises:
        OptionError: no such architecture, an unknown or unfit key, or a network of another hop than the data's.
    """
    plain = configs.plain(shape(name, given)) | architecture(name).widths(spec)
    if name == "nsf_hifigan" and not given.keys() & {"rates", "kernels"}:
        try:
            plain["rates"], plain["kernels"] = nsf_hifigan.upsampling(spec.hop)
        except ValueError as error:
            raise OptionError(f"{error}; prepare the data with another hop or train architecture istft") from None
    config = shape(name, plain)
    problem = _problem(config, spec)
    if problem:
        raise OptionError(f"network: {problem}")
    return config


def overlap_add(spectra: Tensor, spec: MelSpec) -> Tensor:
    """runtime/source.py's overlap-add in torch: [B, T, 2, K] -> [B, T·hop]."""
    window = torch.from_numpy(mel.hann(spec.win, spec.n_fft)).to(spectra.device)
    spectra = spectra.float()  # a transform in half precision is none
    frames = torch.fft.irfft(torch.complex(spectra[..., 0, :], spectra[..., 1, :]), n=spec.n_fft) * window
    count, pad = frames.shape[1], (spec.n_fft - spec.hop) // 2
    size = (1, (count - 1) * spec.hop + spec.n_fft)
    fold = {"output_size": size, "kernel_size": (1, spec.n_fft), "stride": (1, spec.hop)}
    total = F.fold(frames.transpose(1, 2), **fold)[:, 0, 0]
    weight = F.fold((window**2).view(1, -1, 1).expand(1, -1, count).contiguous(), **fold)[:, 0, 0]
    return (total / weight.clamp(min=1e-4))[:, pad : pad + count * spec.hop]


def source_spectra(crop: Crop, spec: MelSpec, seed: int, _: Any = None) -> dict[str, Array]:
    """Spectra of pulses and noise, each [T, 2, K], from a random start phase."""
    count, pad = len(crop.mel), (spec.n_fft - spec.hop) // 2
    start = float(np.random.default_rng(seed).random())
    train = source.pulses(source.phases(crop.f0, spec.hop, spec.sample_rate, start), start)
    begin = source.TAPS // 2 + (MARGIN - 1) * spec.hop - pad
    white = noise.frames("vocoder", seed, 0, count + -(-spec.n_fft // spec.hop), spec.hop).reshape(-1)
    return {
        "harmonic": source.spectrum(source.windows(train[begin:], count, spec), spec),
        "noise": source.spectrum(source.windows(white, count, spec), spec),
    }


def sine_phase(crop: Crop, spec: MelSpec, seed: int, config: NsfHifiGanConfig) -> dict[str, Array]:
    """The sine's phase at the begin of each frame, [T] cycles from a random one on, and noise [T, hop]."""
    count, steps = len(crop.mel), config.source_hop
    bend = (steps - 1) / (2 * steps) if config.mini else 0.0
    start = float(np.random.default_rng(seed).random())
    phase = (start + source.frame_phases(crop.f0[MARGIN:-MARGIN], spec, bend)) % 1
    inputs = {"phase": phase.astype(np.float32)}
    if not config.mini:
        inputs["noise"] = noise.frames("vocoder", seed, 0, count, spec.hop)
    return inputs


def _from_spectra(network: nn.Module, batch: dict[str, Tensor], spec: MelSpec) -> Tensor:
    spectra = network(batch["mel"], batch["f0"], batch["harmonic"], batch["noise"])
    return overlap_add(spectra, spec)


def _from_sines(network: nn.Module, batch: dict[str, Tensor], spec: MelSpec) -> Tensor:
    audio: Tensor = network(batch["mel"], batch["f0"], batch["phase"], batch.get("noise"))
    return audio.float()


def _problem(config: Any, spec: MelSpec) -> str | None:
    if not isinstance(config, NsfHifiGanConfig):
        return None
    problem = next(nsf_hifigan.problems(config), None)
    if problem is None and config.hop != spec.hop:
        return f"rates {list(config.rates)} upsample by {config.hop}, but the data has a hop of {spec.hop}"
    return problem


def _tuples(value: Any) -> Any:
    """YAML's lists as tuples, at every depth."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


ARCHITECTURES: dict[str, Architecture] = {
    "istft": Architecture(
        IstftVocoderConfig(),
        IstftVocoder,
        lambda spec: {"mel_bins": spec.bins, "n_fft": spec.n_fft},
        source_spectra,
        _from_spectra,
    ),
    "nsf_hifigan": Architecture(
        NsfHifiGanConfig(),
        NsfHifiGan,
        lambda spec: {"mel_bins": spec.bins, "sample_rate": spec.sample_rate},
        sine_phase,
        _from_sines,
    ),
}
