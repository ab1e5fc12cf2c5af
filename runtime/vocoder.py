"""Mel and f0 to sound, as a stream: the kinds of vocoder behind one interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from moksori.runtime.devices import Session
from moksori.runtime.istft_vocoder import Array, IstftSynthesizer
from moksori.runtime.mel import MelSpec
from moksori.runtime.nsf_vocoder import MiniNsfSynthesizer, NsfSynthesizer
from moksori.runtime.openutau import OpenUtauSynthesizer
from moksori.runtime.ports import Interface, Tensor
from moksori.runtime.room import Room

if TYPE_CHECKING:
    from moksori.runtime.manifest import VocoderSpec


class Synthesizer(Protocol):
    """State of one stream, made of (session, mel spec, context in frames, seed); ``room`` bounds one run."""

    room: Room

    def push(self, mel: Array, f0: Array) -> Array:
        """Take mel [k, M] and f0 [k] (positive everywhere); returns the samples that became final."""

    def flush(self) -> Array:
        """The rest, up to frames · hop samples in all."""

    def render(self, mel: Array, f0: Array, final: int) -> Array:
        """For a stream that cannot wait, instead of the other two: [k · hop] samples of k frames as they are known now.

        The first ``final`` of them are used up; the next call brings the rest again.
        """


@dataclass(frozen=True)
class Kind:
    """How a kind of vocoder streams, and what its graph takes beside mel and f0, and gives."""

    synthesizer: Callable[[Session, MelSpec, int, int], Synthesizer]
    beside: Callable[[MelSpec], dict[str, Tensor]]
    output: Callable[[MelSpec], dict[str, Tensor]]

    def interface(self, spec: MelSpec) -> Interface:
        sung = {"mel": Tensor((1, "T", spec.bins)), "f0": Tensor((1, "T"))}
        return Interface(sung | self.beside(spec), self.output(spec))


def synthesizer(session: Session, spec: MelSpec, vocoder: VocoderSpec, seed: int) -> Synthesizer:
    """A stream through the vocoder of a voice."""
    return KINDS[vocoder.kind].synthesizer(session, spec, vocoder.context, seed)


def _nothing(spec: MelSpec) -> dict[str, Tensor]:
    return {}


def _waveform(spec: MelSpec) -> dict[str, Tensor]:
    return {"waveform": Tensor((1, "n"))}


def _spectrum(*names: str) -> Callable[[MelSpec], dict[str, Tensor]]:
    return lambda spec: {name: Tensor((1, "T", 2, spec.n_fft // 2 + 1)) for name in names}


def _phase(spec: MelSpec) -> dict[str, Tensor]:
    return {"phase": Tensor((1, "T"))}


def _phase_and_noise(spec: MelSpec) -> dict[str, Tensor]:
    return {**_phase(spec), "noise": Tensor((1, "T", spec.hop))}


KINDS: dict[str, Kind] = {
    "istft": Kind(IstftSynthesizer, _spectrum("harmonic", "noise"), _spectrum("spectrum")),
    "nsf_hifigan": Kind(NsfSynthesizer, _phase_and_noise, _waveform),
    "mini_nsf": Kind(MiniNsfSynthesizer, _phase, _waveform),
    "openutau": Kind(OpenUtauSynthesizer, _nothing, _waveform),
}
