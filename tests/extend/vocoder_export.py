"""The graph of vocoder_training.py's network, as vocoder.py runs it."""

from __future__ import annotations

from moksori.export.spec import Axis, GraphSpec, Port
from moksori.export.vocoder import SPECS, draw_sung, facts
from moksori.runtime.mel import MelSpec

from .vocoder_training import HarmonicVocoder


def spec(network: HarmonicVocoder, mel: MelSpec) -> GraphSpec:
    return GraphSpec(
        role="vocoder",
        kind="harmonic",
        inputs=(Port("mel", (1, "frames", mel.bins)), Port("f0", (1, "frames"))),
        outputs=(Port("levels", (1, "frames", network.config.harmonics)),),
        axes=(Axis("frames", traced=24, unseen=(1, 17, 50)),),
        draw=lambda lengths, generator: draw_sung(mel, lengths, generator),
        metadata=facts(mel),
    )


SPECS[HarmonicVocoder] = spec
