"""Mel and f0 to sound, as a stream: the kinds of vocoder behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from moksori.runtime.devices import Session
from moksori.runtime.istft_vocoder import Array, IstftSynthesizer
from moksori.runtime.manifest import VocoderSpec
from moksori.runtime.mel import MelSpec
from moksori.runtime.nsf_vocoder import MiniNsfSynthesizer, NsfSynthesizer
from moksori.runtime.openutau import OpenUtauSynthesizer


class Synthesizer(Protocol):
    """State of one stream, made of (session, mel spec, context in frames, seed)."""

    def push(self, mel: Array, f0: Array) -> Array:
        """Take mel [k, M] and f0 [k] (positive everywhere); returns the samples that became final."""

    def flush(self) -> Array:
        """The rest, up to frames · hop samples in all."""


KINDS: Mapping[str, Callable[[Session, MelSpec, int, int], Synthesizer]] = {
    "istft": IstftSynthesizer,
    "nsf_hifigan": NsfSynthesizer,
    "mini_nsf": MiniNsfSynthesizer,
    "openutau": OpenUtauSynthesizer,
}


def synthesizer(session: Session, spec: MelSpec, vocoder: VocoderSpec, seed: int) -> Synthesizer:
    """A stream through the vocoder of a voice."""
    return KINDS[vocoder.kind](session, spec, vocoder.context, seed)
