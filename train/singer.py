"""A voice whose denoiser is still learning: the runtime sings with torch networks in the place of graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moksori.runtime import Voice, devices
from moksori.runtime import voice as voices
from moksori.runtime.devices import Session
from moksori.runtime.errors import OptionError
from moksori.runtime.manifest import DenoiserSpec, Manifest, PitchSpec, Speaker, UnitSpec, VocoderSpec
from moksori.runtime.mel import MelSpec
from moksori.train import checkpoint, start, synthesis
from moksori.train.dataset import PreparedData
from moksori.train.denoiser import PREVIEW, PREVIEW_STEPS, DenoiserConfig
from moksori.train.objective import PREDICTIONS, objective

CONTEXT_SECONDS = 1.0  # to either side of a chunk; more than any network here needs to be heard well
VOCODER_FRAMES = 40  # the same, of the vocoder


@dataclass(frozen=True)
class Vocoder:
    """The vocoder of a voice that is learning."""

    name: str
    spec: VocoderSpec
    session: Session


class Singer:
    """Everything of a voice but the denoiser, from prepared data and the RUN_DIR that its vocoder is trained in.

    Raises:
        OptionError: there is no vocoder for the data's mel, neither trained nor the demo voice's.
    """

    def __init__(self, data: PreparedData, config: DenoiserConfig, run_dir: Path) -> None:
        self.data, self.config, self.run_dir = data, config, run_dir
        self.objective = objective(config.objective)
        self.heard = {
            role: devices.open_session(data.folder / f"{role}.onnx", devices.cpu(), name=f"the {role} graph")
            for role in ("content", "pitch")
        }
        self.vocoder()

    def voice(self, denoiser: nn.Module, vocoder: Vocoder) -> Voice:
        """With the denoiser as it is now."""
        conditioner = denoiser.eval().get_submodule("conditioner")
        sessions = {
            **self.heard,
            "condition": session("the conditioner", conditioner),
            "denoiser": session("the denoiser", Step(denoiser, self.objective.prediction)),
            "vocoder": vocoder.session,
        }
        return Voice(self._manifest(vocoder.spec), sessions)

    def vocoder(self) -> Vocoder:
        """The best trained in RUN_DIR so far, else the demo voice's where that has the same mel."""
        trained = checkpoint.chosen(self.run_dir / "vocoder")
        if trained is not None:
            return vocoder_at(trained, self.data.spec)
        if voices.read_manifest().mel == self.data.spec:
            demo = Voice.load(device="cpu")
            return Vocoder("demo", demo.manifest.vocoder, demo.vocoder)
        raise OptionError(
            "a denoiser cannot be heard without a vocoder; run first: "
            f"svc-train vocoder {self.data.folder} {self.run_dir}"
        )

    def _manifest(self, vocoder: VocoderSpec) -> Manifest:
        facts, content = self.data.facts, self.heard["content"].metadata
        context = float(content.get("context") or CONTEXT_SECONDS)
        mean, deviation = self.objective.scaling(facts["statistics"])
        sampler, noise_scale = PREVIEW[self.objective.prediction]
        return Manifest(
            format_version=1,
            name=self.run_dir.name,
            description="",
            mel=self.data.spec,
            units=UnitSpec(self.data.unit_dimension, 16_000, 320, context),
            pitch=PitchSpec(**facts["pitch"]),
            speakers=tuple(_speaker(speaker) for speaker in facts["speakers"]),
            denoiser=DenoiserSpec(
                architecture=self.config.architecture,
                prediction=self.objective.prediction,
                schedule=self.objective.schedule,
                sampler=sampler,
                steps=PREVIEW_STEPS,
                noise_scale=noise_scale,
                context=round(CONTEXT_SECONDS * self.data.spec.frame_rate),
                mean=tuple(mean.tolist()),
                deviation=tuple(deviation.tolist()),
            ),
            vocoder=vocoder,
            precision={},
            licence="",
            credits=(),
            quality={},
            files={},
        )


class Step(nn.Module):
    """One step of a sampler, as the denoiser graph of a voice does it (runtime/samplers.py)."""

    def __init__(self, network: nn.Module, prediction: str) -> None:
        super().__init__()
        self.network, self.predict = network, PREDICTIONS[prediction]

    def forward(
        self, x: Tensor, t: Tensor, history_1: Tensor, history_2: Tensor, history_3: Tensor, coefficients: Tensor,
        condition: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        looked, output = coefficients[5:] if len(coefficients) > 5 else (0.0, 1.0)
        prediction = looked * x + output * self.predict(self.network, x, t, condition)
        terms = (x, prediction, history_1, history_2, history_3)
        return sum((c * term for c, term in zip(coefficients, terms, strict=False)), torch.zeros_like(x)), prediction


class TorchGraph:
    """A network under the face of onnxruntime's InferenceSession: named arrays in, arrays out."""

    def __init__(self, network: nn.Module) -> None:
        self.network: Callable[..., Tensor | tuple[Tensor, ...]] = network.eval()
        self.device = next(network.parameters()).device

    @torch.no_grad()
    def run(self, outputs: list[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        given = {name: torch.from_numpy(np.ascontiguousarray(value)).to(self.device) for name, value in inputs.items()}
        made = self.network(**given)
        return [one.cpu().numpy() for one in (made if isinstance(made, tuple) else (made,))]


def session(name: str, network: nn.Module) -> Session:
    """A network as a session of the runtime."""
    place = replace(devices.cpu(), label="torch")
    return Session(name, place, TorchGraph(network))


def vocoder_at(source: str | Path, spec: MelSpec) -> Vocoder:
    """The vocoder at ``source`` (train/start.py), as torch runs it.

    Raises:
        MoksoriError: there is none, or it hears another mel than ``spec``.
    """
    found = start.read(str(source))
    differing = start.differences(found.mel, spec)
    if differing:
        raise OptionError(f"the vocoder of {source} hears mel with {differing}")
    network = synthesis.architecture(found.architecture).network(found.network)
    network.load_state_dict(found.state)
    kind = "mini_nsf" if getattr(found.network, "mini", False) else found.architecture
    return Vocoder(Path(source).name, VocoderSpec(kind, VOCODER_FRAMES, "host"), session("the vocoder", network))


def _speaker(known: Mapping[str, Any]) -> Speaker:
    figures = {name: float(known[name]) for name in ("f0_low", "f0_median", "f0_high", "loudness")}
    return Speaker(name=str(known["name"]), **figures, licence="", credit="")
