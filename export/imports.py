"""Models that others trained, whole: a diff-svc checkpoint with content, pitch and vocoder becomes a voice."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from moksori.export import card, cost, extractors
from moksori.export.adopt import adopt
from moksori.export.content import unit_spec
from moksori.export.denoiser import DenoiserFacts, DenoiserProof, export_denoiser, step_networks
from moksori.export.graph import ExportError, metadata
from moksori.export.target import whole
from moksori.export.voice import DEFAULTS, About, Choices, Exported
from moksori.runtime import devices, manifest, pitch
from moksori.runtime.manifest import ROLES, DenoiserSpec, Manifest, PitchSpec, Speaker, VocoderSpec
from moksori.runtime.voice import Voice
from moksori.train import diff_svc
from moksori.train import extractors as heard
from moksori.train.diff_svc import DiffSvc
from moksori.train.prepare import F0_HIGH_HZ, F0_LOW_HZ

LOUDNESS = -20.0  # dB; the network does not hear it


@dataclass(frozen=True)
class Hearing:
    """What a voice hears with. ``content`` is a graph, a voice, or a network by folder or hub id and its ``layer``."""

    content: str
    layer: int | None = None
    tracker: str = "swift"  # or another name or graph, as svc-prepare --pitch takes it


def hearing(content: str | None, layer: int | None, tracker: str | None) -> Hearing:
    """Of the command line's options; ExportError without content, which no checkpoint holds."""
    if content is None:
        raise ExportError("a diff-svc model needs the network that hears content: add --content, its folder or graph")
    return Hearing(content, layer) if tracker is None else Hearing(content, layer, tracker)


def import_voice(source: Path, target: Path, hearing: Hearing, choices: Choices, about: About) -> Exported:
    """Write the diff-svc model at ``source`` as the voice ``target``, with the vocoder of ``choices``.

    Raises:
        ExportError: the parts do not fit each other, a graph differs from its network, or ``target`` exists.
        MoksoriError: a part cannot be read, is of another type, or wants to run code.
    """
    if choices.vocoder is None:
        raise ExportError("a diff-svc model needs a vocoder: add --vocoder nsf_hifigan.oudep, or openvpi's folder")
    if len(choices.speakers) > 1:
        raise ExportError("a diff-svc model has one speaker; give --speakers one name")
    cost.require_data(choices.precision, choices.data)
    model = diff_svc.read(source)
    with whole(target, choices.force) as folder:
        dimension = model.config.units
        proofs, networks = extractors.listener(
            hearing.content, hearing.layer, folder / "content.onnx", choices.written("content"), dimension,
            f"{model.path} was trained on {dimension} (hidden_size in {diff_svc.CONFIG})",
        )  # fmt: skip
        tracked = heard.pitch(hearing.tracker, devices.cpu())
        shutil.copyfile(tracked.path, folder / "pitch.onnx")
        adopted = adopt(choices.vocoder, model.mel, folder / "vocoder.onnx", choices.written("vocoder"))
        proof = _denoiser(model, folder, choices.written("denoiser"))
        networks |= step_networks(model.network, "epsilon") | adopted.networks
        origin = f"Imported from a diff-svc model, {model.path.name}; its singer and trainer are to be credited"
        about = replace(about, credits=(*about.credits, origin, adopted.credit))
        made = _manifest(model, folder, proof, adopted.spec, tracked.kind, choices, about)
        made, costs = cost.reduced(folder, made, networks, choices.precision, choices.data, choices.force)
        manifest.write(folder / manifest.FILE, made)
        proofs += (proof.condition, proof.denoiser, *adopted.proofs)
        (folder / card.FILE).write_text(card.write(made, about, (), proofs), encoding="utf-8", newline="\n")
        Voice.load(folder, "cpu")
    return Exported(made, proofs, costs)


def _denoiser(model: DiffSvc, folder: Path, precision: str) -> DenoiserProof:
    config = model.config
    channels = 2 * config.channels * config.layers
    facts = DenoiserFacts("wavenet", "epsilon", model.mel, config.units, config.speakers, channels)
    return export_denoiser(model.network, facts, folder / "condition.onnx", folder / "denoiser.onnx", precision)


def _manifest(
    model: DiffSvc,
    folder: Path,
    proof: DenoiserProof,
    vocoder: VocoderSpec,
    tracker: str,
    choices: Choices,
    about: About,
) -> Manifest:
    said = {role: metadata(folder / f"{role}.onnx") for role in ROLES}
    sampler, steps, noise_scale = DEFAULTS["epsilon"]
    return Manifest(
        format_version=manifest.FORMAT_VERSION,
        name=choices.name,
        description=about.description,
        mel=model.mel,
        units=unit_spec(said["content"], model.config.units),
        pitch=_pitch(model, tracker),
        speakers=(_speaker(model, choices, about),),
        denoiser=DenoiserSpec(
            architecture="wavenet",
            prediction="epsilon",
            schedule=model.schedule,
            sampler=about.sampler or sampler,
            steps=about.steps or steps,
            noise_scale=noise_scale if about.noise_scale is None else about.noise_scale,
            context=proof.condition_context + proof.context,
            mean=tuple(round(one, 6) for one in model.mean),
            deviation=tuple(round(one, 6) for one in model.deviation),
        ),
        vocoder=vocoder,
        precision={role: facts.get("precision", "fp32") for role, facts in said.items()},
        licence=about.licence,
        credits=about.credits,
        quality=about.quality,
        files=manifest.graph_files(folder),
    )


def _pitch(model: DiffSvc, tracker: str) -> PitchSpec:
    heard_by = model.config.conditioner
    low, high = max(heard_by.f0_min, F0_LOW_HZ), min(heard_by.f0_max, F0_HIGH_HZ)
    return PitchSpec(tracker, low, high, **asdict(pitch.TRACKERS[tracker].options))


def _speaker(model: DiffSvc, choices: Choices, about: About) -> Speaker:
    """The range is all the network can tell apart: a checkpoint does not say how high its singer sings."""
    name = choices.speakers[0] if choices.speakers else choices.name
    low, high = model.config.conditioner.f0_min, model.config.conditioner.f0_max
    rights = about.speakers.get(name, {})
    median = math.sqrt(low * high)
    return Speaker(name, low, median, high, LOUDNESS, rights.get("licence", ""), rights.get("credit", ""))
