"""The condition and denoiser graphs: what depends on the chunk alone, and one step of the sampler."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from moksori.export.context import reach
from moksori.export.graph import Axis, GraphSpec, Lengths, Port, Proof, write
from moksori.runtime.graphs import COEFFICIENTS
from moksori.runtime.mel import MelSpec
from moksori.train.objective import PREDICTIONS

HISTORY = 3  # earlier predictions that a step can weigh
LONGEST_TIME = {"velocity": 1.0, "epsilon": 999.0}  # of the times a step is proved at
PROBED = 1024  # frames, in which a network's reach is looked for


@dataclass(frozen=True)
class DenoiserFacts:
    """What a denoiser is, besides its weights; ``channels`` are those of the condition tensor.

    ``dropped`` is the share of its training without units and speaker; above 0 it can be guided.
    """

    architecture: str
    prediction: str
    mel: MelSpec
    units: int
    speakers: int
    channels: int
    dropped: float = 0.0


@dataclass(frozen=True)
class DenoiserProof:
    """Both graphs, and how many mel frames each looks to either side."""

    condition: Proof
    denoiser: Proof
    condition_context: int
    context: int


def export_denoiser(
    network: nn.Module,
    facts: DenoiserFacts,
    condition_path: Path,
    denoiser_path: Path,
    precision: str = "fp32",
) -> DenoiserProof:
    """Write the ``conditioner`` inside ``network`` and the sampler step around it.

    Raises:
        ExportError: a graph differs from the network.
    """
    conditioner = network.get_submodule("conditioner")
    step = Step(network, facts.prediction)
    condition_context = _condition_reach(conditioner, facts)
    context = _step_reach(step, facts)
    silent = conditioner.silent
    assert isinstance(silent, frozenset)
    condition = write(conditioner, condition_spec(facts, condition_context, silent), condition_path, precision)
    denoiser = write(step, denoiser_spec(facts, context), denoiser_path, precision)
    return DenoiserProof(condition, denoiser, condition_context, context)


def step_networks(network: nn.Module, prediction: str) -> dict[str, nn.Module]:
    """The network as the two graphs have it, by role."""
    return {"condition": network.get_submodule("conditioner"), "denoiser": Step(network, prediction).eval()}


class Step(nn.Module):
    """x_next = c0·x + c1·prediction + c2·history_1 + c3·history_2 + c4·history_3, all [1, M, T].

    Of an epsilon model the prediction is v0·x + v1·ε (runtime/samplers.py), with v0 and v1 behind the coefficients.
    """

    def __init__(self, network: nn.Module, prediction: str) -> None:
        super().__init__()
        self.network = network
        self.viewed = prediction == "epsilon"
        self.predict = PREDICTIONS[prediction]

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        history_1: Tensor,
        history_2: Tensor,
        history_3: Tensor,
        coefficients: Tensor,
        condition: Tensor,
    ) -> tuple[Tensor, Tensor]:
        prediction = self.predict(self.network, x, t, condition)
        c0, c1, c2, c3, c4, *view = coefficients.split(1)
        if self.viewed:
            prediction = view[0] * x + view[1] * prediction
        x_next = c0 * x + c1 * prediction + c2 * history_1 + c3 * history_2 + c4 * history_3
        return x_next, prediction


def condition_spec(facts: DenoiserFacts, context: int, silent: frozenset[str]) -> GraphSpec:
    return GraphSpec(
        role="condition",
        kind=facts.architecture,
        inputs=(
            Port("units", (1, "units", facts.units)),
            Port("mel2ph", (1, "frames")),
            Port("f0", (1, "frames")),
            Port("voiced", (1, "frames")),
            Port("loudness", (1, "frames")),
            Port("speaker", (1, facts.speakers)),
        ),
        outputs=(Port("condition", (1, facts.channels, "frames")),),
        axes=(Axis("units", traced=12, unseen=(1, 31, 100)), *_frames()),
        draw=lambda lengths, generator: draw_conditions(facts, lengths, generator),
        metadata={
            **_mel_metadata(facts.mel),
            "dimension": str(facts.units),
            "context": str(context),
            "dropped": f"{facts.dropped:g}",
        },
        silent=silent,
    )


def denoiser_spec(facts: DenoiserFacts, context: int) -> GraphSpec:
    mel = (1, facts.mel.bins, "frames")
    return GraphSpec(
        role="denoiser",
        kind=facts.architecture,
        inputs=(
            Port("x", mel),
            Port("t", (1,)),
            *(Port(f"history_{k}", mel) for k in range(1, HISTORY + 1)),
            Port("coefficients", (COEFFICIENTS[facts.prediction],)),
            Port("condition", (1, facts.channels, "frames")),
        ),
        outputs=(Port("x_next", mel), Port("prediction", mel)),
        axes=_frames(),
        draw=lambda lengths, generator: draw_step(facts, lengths, generator),
        metadata={**_mel_metadata(facts.mel), "prediction": facts.prediction, "context": str(context)},
    )


def draw_conditions(facts: DenoiserFacts, lengths: Lengths, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Conditions with every kind of frame: voiced and not, any pitch and level, padding (mel2ph 0) too."""
    units, frames = lengths["units"], lengths["frames"]
    uniform = torch.rand(3, 1, frames, generator=generator)
    return (
        torch.randn(1, units, facts.units, generator=generator),
        torch.randint(0, units + 1, (1, frames), generator=generator).sort().values,
        60 * 2 ** (4 * uniform[0]),
        (uniform[1] > 0.4).float(),
        -60 + 55 * uniform[2],
        torch.rand(1, facts.speakers, generator=generator),
    )


def draw_step(facts: DenoiserFacts, lengths: Lengths, generator: torch.Generator) -> tuple[Tensor, ...]:
    """A state, a time, history, coefficients and a condition, none of them zero."""
    mel = (1, facts.mel.bins, lengths["frames"])
    return (
        torch.randn(mel, generator=generator),
        LONGEST_TIME[facts.prediction] * torch.rand(1, generator=generator),
        *(torch.randn(mel, generator=generator) for _ in range(HISTORY)),
        torch.randn(COEFFICIENTS[facts.prediction], generator=generator),
        torch.randn(1, facts.channels, lengths["frames"], generator=generator),
    )


def _frames() -> tuple[Axis, ...]:
    return (Axis("frames", traced=48, unseen=(2, 61, 200)),)


def _mel_metadata(mel: MelSpec) -> dict[str, str]:
    return {"sample_rate": str(mel.sample_rate), "hop": str(mel.hop), "mel_bins": str(mel.bins)}


def _condition_reach(conditioner: nn.Module, facts: DenoiserFacts) -> int:
    """By the units, one to a frame, which are added before the conditioner looks around."""
    network = copy.deepcopy(conditioner).cpu().double().eval()
    lengths = {"units": PROBED, "frames": PROBED}
    units, _, *others = draw_conditions(facts, lengths, torch.Generator().manual_seed(0))
    in_step = torch.arange(1, PROBED + 1).unsqueeze(0)

    def from_units(spoken: Tensor) -> Tensor:
        condition: Tensor = network(spoken, in_step, *(other.double() for other in others))
        return condition

    return reach(from_units, units.double(), axis_in=1, axis_out=2)


def _step_reach(step: Step, facts: DenoiserFacts) -> int:
    double = copy.deepcopy(step).cpu().double().eval()
    x, *others, condition = (
        v.double() for v in draw_step(facts, {"frames": PROBED}, torch.Generator().manual_seed(0))
    )

    def from_state(state: Tensor) -> Tensor:
        prediction: Tensor = double(state, *others, condition)[1]
        return prediction

    def from_condition(given: Tensor) -> Tensor:
        prediction: Tensor = double(x, *others, given)[1]
        return prediction

    return max(reach(from_state, x, 2, 2), reach(from_condition, condition, 2, 2))
