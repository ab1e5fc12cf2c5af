"""The content graph: 16 kHz audio in, units out. Any network that keeps the 320-sample grid fits."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from moksori.export.context import LooksFurther, reach
from moksori.export.graph import Axis, GraphSpec, Lengths, Port, Proof, write
from moksori.models.convnext_content import EDGE, ConvNeXtContent, ConvNeXtContentConfig, Remembering
from moksori.runtime import content, manifest
from moksori.runtime.manifest import UnitSpec
from moksori.train.content import ContentConfig, shape

SHORTEST = content.MINIMUM // content.UNIT_HOP  # units; the front ends mirror audio at both ends
PROBED = 256  # units, 5 s, in which a network's reach is looked for
USUAL_CONTEXT = 1.0  # seconds to either side, for networks that listen to all they are given


@dataclass(frozen=True)
class ContentFacts:
    """What a content network is, besides its weights.

    Attributes:
        kind: architecture, such as "whisper" or "hubert".
        context: seconds of audio to either side that a unit should be given.
        lookahead: seconds after its end that it depends on at all, or None when that is all there is.
        longest: largest number of units in one call, or None when there is no limit.
    """

    kind: str
    dimension: int
    context: float
    longest: int | None = None
    lookahead: float | None = None
    licence: str = ""
    credit: str = ""


def export_content(network: nn.Module, facts: ContentFacts, path: Path, precision: str = "fp32") -> Proof:
    """Write ``network`` (audio [1, 320·u] -> units [1, u, D]) as a content graph.

    Raises:
        ExportError: the graph differs from the network.
    """
    spec = content_spec(facts, looks(network))
    if isinstance(network, ConvNeXtContent):
        return write(Remembering(network), remembering(spec, network.config), path, precision)
    return write(network, spec, path, precision)


def looks(network: nn.Module) -> str:
    """Units to either side whose audio can change a unit, found by gradient; "all" of what it is given for most."""
    double = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    (audio,) = _draw({"units": PROBED}, torch.Generator().manual_seed(0))

    def by_unit(samples: Tensor) -> Tensor:
        found: Tensor = double(samples.flatten(1))
        return found

    try:
        return str(reach(by_unit, audio.double().unflatten(1, (PROBED, content.UNIT_HOP)), 1, 1))
    except LooksFurther:
        return "all"


def student_facts(config: ContentConfig) -> ContentFacts:
    """What a content network trained here is."""
    network = shape(config)
    if isinstance(network, ConvNeXtContentConfig):
        return ContentFacts(config.architecture, network.units, network.context, lookahead=network.lookahead)
    return ContentFacts(config.architecture, network.units, USUAL_CONTEXT)


def unit_spec(said: Mapping[str, str], dimension: int) -> UnitSpec:
    """What voice.json says of a content graph with the metadata ``said``."""
    context = float(said.get("context") or USUAL_CONTEXT)
    lookahead = float(said.get("lookahead") or manifest.FAR)
    return UnitSpec(dimension, content.RATE, content.UNIT_HOP, context, lookahead)


def content_spec(facts: ContentFacts, seen: str) -> GraphSpec:
    return GraphSpec(
        role="content",
        kind=facts.kind,
        inputs=(Port("audio", (1, f"{content.UNIT_HOP}*units")),),
        outputs=(Port("units", (1, "units", facts.dimension)),),
        axes=(Axis("units", traced=50, unseen=(SHORTEST, 37, 128), minimum=SHORTEST, maximum=facts.longest),),
        draw=_draw,
        metadata={
            "sample_rate": str(content.RATE),
            "hop": str(content.UNIT_HOP),
            "dimension": str(facts.dimension),
            "context": f"{facts.context:g}",
            "looks": seen,
            "lookahead": "" if facts.lookahead is None else f"{facts.lookahead:g}",
            "longest": str(facts.longest or ""),
            "licence": facts.licence,
            "credit": facts.credit,
        },
    )


def remembering(spec: GraphSpec, config: ConvNeXtContentConfig) -> GraphSpec:
    """The same graph with what a stream carries from call to call; whoever does not gives and takes none of it."""
    rows = config.layers * (config.kernel - 1)
    state = (1, rows, config.channels)

    def draw(lengths: Lengths, generator: torch.Generator) -> tuple[Tensor, ...]:
        (audio,) = _draw(lengths, generator)
        before, past = 0.1 * torch.randn(1, EDGE, generator=generator), torch.randn(*state, generator=generator)
        return audio, before, past, torch.randint(0, lengths["units"] + 1, (1,), generator=generator)

    return replace(
        spec,
        inputs=(*spec.inputs, Port("before", (1, EDGE)), Port("state", state), Port("settled", (1,))),
        outputs=(*spec.outputs, Port("next_state", state)),
        draw=draw,
        optional=frozenset({"before", "state", "settled"}),
    )


def _draw(lengths: Lengths, generator: torch.Generator) -> tuple[Tensor]:
    """Harmonics of a gliding tone that swells and fades, with noise: [1, n] at 16 kHz."""
    samples = lengths["units"] * content.UNIT_HOP
    time = torch.arange(samples) / content.RATE
    start, glide, swell = torch.rand(3, generator=generator).tolist()
    phase = 2 * torch.pi * (120 + 200 * start) * (time + 0.2 * glide * time**2)
    voice = sum((torch.sin(k * phase) / k for k in range(1, 12)), torch.zeros(samples))
    level = 0.05 + 0.1 * torch.sin(torch.pi * (1 + 3 * swell) * time).square()
    noise = torch.randn(samples, generator=generator)
    return ((level * voice + 0.01 * noise)[None],)
