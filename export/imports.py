"""Models that others trained, whole: a diff-svc checkpoint with content, pitch and vocoder becomes a voice."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from moksori.export import card, extractors
from moksori.export.adopt import adopt
from moksori.export.denoiser import DenoiserFacts, DenoiserProof, export_denoiser
from moksori.export.graph import ExportError, Proof, metadata
from moksori.export.target import whole
from moksori.export.voice import DEFAULTS, STUDENT_CONTEXT, About, Choices, Exported
from moksori.runtime import devices, manifest, pitch
from moksori.runtime.manifest import ROLES, DenoiserSpec, Manifest, PitchSpec, Speaker, UnitSpec, VocoderSpec
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
    model = diff_svc.read(source)
    with whole(target, choices.force) as folder:
        proofs = _content(hearing, choices.precision["content"], model, folder / "content.onnx")
        tracked = heard.pitch(hearing.tracker, devices.cpu())
        shutil.copyfile(tracked.path, folder / "pitch.onnx")
        adopted = adopt(choices.vocoder, model.mel, folder / "vocoder.onnx", choices.precision["vocoder"])
        proof = _denoiser(model, folder, choices.precision["denoiser"])
        origin = f"Imported from a diff-svc model, {model.path.name}; its singer and trainer are to be credited"
        about = replace(about, credits=(*about.credits, origin, adopted.credit))
        made = _manifest(model, folder, proof, adopted.spec, tracked.kind, choices, about)
        manifest.write(folder / manifest.FILE, made)
        proofs += (proof.condition, proof.denoiser, *adopted.proofs)
        (folder / card.FILE).write_text(card.write(made, about, (), proofs), encoding="utf-8", newline="\n")
        Voice.load(folder, "cpu")
    return Exported(made, proofs)


def _content(hearing: Hearing, precision: str, model: DiffSvc, path: Path) -> tuple[Proof, ...]:
    """The graph of a network of transformers, proved, or a graph that exists already, as it is."""
    if extractors.is_network(hearing.content):
        proofs: tuple[Proof, ...] = (extractors.teacher(hearing.content, hearing.layer, path, precision),)
    else:
        if hearing.layer is not None:
            raise ExportError(f"a layer can be chosen of a network only, and {hearing.content} is a graph already")
        shutil.copyfile(heard.content(hearing.content, devices.cpu()).path, path)
        proofs = ()
    dimension = heard.content(str(path), devices.cpu()).dimension
    if dimension != model.config.units:
        raise ExportError(
            f"{hearing.content} gives {dimension} numbers a unit, and {model.path} was trained on {model.config.units} "
            f"(hidden_size in {diff_svc.CONFIG}); give --content the network it was trained with"
        )
    return proofs


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
        units=UnitSpec(model.config.units, 16_000, 320, float(said["content"].get("context") or STUDENT_CONTEXT)),
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
    return PitchSpec(tracker, low, high, **asdict(pitch.DEFAULTS[tracker]))


def _speaker(model: DiffSvc, choices: Choices, about: About) -> Speaker:
    """The range is all the network can tell apart: a checkpoint does not say how high its singer sings."""
    name = choices.speakers[0] if choices.speakers else choices.name
    low, high = model.config.conditioner.f0_min, model.config.conditioner.f0_max
    rights = about.speakers.get(name, {})
    median = math.sqrt(low * high)
    return Speaker(name, low, median, high, LOUDNESS, rights.get("licence", ""), rights.get("credit", ""))
