"""From a RUN_DIR to a voice: five proved graphs, voice.json and MODEL_CARD.md, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from moksori.export import card, cost, run
from moksori.export.adopt import Adopted, adopt
from moksori.export.content import export_content, student_facts, unit_spec
from moksori.export.cost import PRECISIONS, Cost
from moksori.export.denoiser import DenoiserFacts, DenoiserProof, export_denoiser, step_networks
from moksori.export.graph import ExportError, Proof, metadata
from moksori.export.proof import open_session
from moksori.export.target import whole
from moksori.export.vocoder import export_vocoder
from moksori.runtime import manifest
from moksori.runtime.files import atomic_path, sha256
from moksori.runtime.manifest import ROLES, DenoiserSpec, Manifest, PitchSpec, Speaker, VocoderSpec
from moksori.runtime.mel import MelSpec
from moksori.runtime.voice import Voice
from moksori.train.objective import objective

STRAIGHT_STEPS = 2  # of a flow after reflow
DEFAULTS = {"velocity": ("euler", 4, 0.5), "epsilon": ("plms", 20, 1.0)}  # sampler, steps, noise scale
STORED = ("content", "denoiser", "vocoder")  # whose storage can be chosen; the condition is the denoiser's


@dataclass(frozen=True)
class About:
    """What the networks cannot tell of themselves; about.yaml in the RUN_DIR.

    ``speakers`` gives each a {"licence": …, "credit": …}; ``data``, ``training``, ``limits`` are sentences.
    """

    description: str = ""
    licence: str = ""
    credits: tuple[str, ...] = ()
    speakers: dict[str, dict[str, str]] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    sampler: str | None = None  # these three by what the denoiser predicts, where nothing is said
    steps: int | None = None
    noise_scale: float | None = None
    guidance: float = 1.0  # weight of the conditions against none, for a denoiser that learned with ``dropped``


@dataclass(frozen=True)
class Choices:
    """How to export: ``speakers`` to keep (all when empty), storage precision per network."""

    name: str
    speakers: tuple[str, ...] = ()
    precision: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(STORED, "fp16"))
    student: bool = False
    force: bool = False
    vocoder: Path | None = None  # a published one, in place of the run's
    data: Path | None = None  # prepared data that int8 is calibrated on, and every smaller precision judged by

    def written(self, role: str) -> str:
        """The precision in which the graph of a network is written first."""
        return cost.first(self.precision[role])


@dataclass(frozen=True)
class Exported:
    manifest: Manifest
    proofs: tuple[Proof, ...]
    costs: tuple[Cost, ...] = ()  # of every graph that was made here and is not fp32


def export_voice(run_dir: Path, target: Path, choices: Choices, about: About) -> Exported:
    """Write the voice ``target``, a folder, or a zip when it is named so.

    Raises:
        ExportError: the run lacks something, a graph is not equal to its network, its precision costs more than is
            allowed, or ``target`` exists.
        VoiceError: the voice would not load.
    """
    cost.require_data(choices.precision, choices.data)
    denoiser = run.denoiser(run_dir)
    vocoder = run.vocoder(run_dir) if choices.vocoder is None else None
    if vocoder is not None and denoiser.mel != vocoder.mel:
        raise ExportError(
            f"the denoiser makes {denoiser.mel}, but the vocoder hears {vocoder.mel}; train one of them again"
        )
    speakers = choices.speakers or tuple(denoiser.speakers)
    run.keep_speakers(denoiser.network, denoiser.speakers, speakers)
    with whole(target, choices.force) as folder:
        proofs, networks = _content_and_pitch(run_dir, folder, choices, denoiser.data)
        proof = _denoiser(denoiser, len(speakers), folder, choices.written("denoiser"))
        voiced = _vocoder(vocoder, choices, denoiser.mel, folder / "vocoder.onnx")
        networks |= step_networks(denoiser.network, objective(denoiser.config.objective).prediction) | voiced.networks
        if voiced.credit:
            about = replace(about, credits=(*about.credits, voiced.credit))
        proofs += (proof.condition, proof.denoiser, *voiced.proofs)
        made = _manifest(denoiser, speakers, folder, proof, voiced.spec, choices, about)
        made, costs = cost.reduced(folder, made, networks, choices.precision, choices.data, choices.force)
        manifest.write(folder / manifest.FILE, made)
        trained = (denoiser,) if vocoder is None else (denoiser, vocoder)
        text = card.write(made, about, trained, proofs)
        (folder / card.FILE).write_text(text, encoding="utf-8", newline="\n")
        Voice.load(folder, "cpu")  # the runtime has the last word
    return Exported(made, proofs, costs)


def export_student(
    run_dir: Path, path: Path, precision: str, data: Path | None, force: bool
) -> tuple[Proof, Cost | None]:
    """Write the content network that a run trained as a graph of its own, for svc-prepare."""
    with atomic_path(path) as part:
        network, proof = _student(run_dir, part, cost.first(precision))
        judged = cost.reduced_content(part, network, precision, data, force)
    return replace(proof, path=path), judged


def _student(run_dir: Path, path: Path, precision: str) -> tuple[nn.Module, Proof]:
    student = run.content(run_dir)
    return student.network, export_content(student.network, student_facts(student.config), path, precision)


def precisions(text: str) -> dict[str, str]:
    """ "int8" or "vocoder=int8" as a precision for each network; fp16 where nothing is said.

    Raises:
        ExportError: unknown role or precision.
    """
    chosen = dict.fromkeys(STORED, "fp16")
    for part in text.split(","):
        role, _, precision = part.strip().rpartition("=")
        if precision not in PRECISIONS or (role and role not in STORED):
            raise ExportError(
                f"precision '{part.strip()}' is not {', '.join(PRECISIONS)}, or ROLE=PRECISION"
                f" with ROLE one of {', '.join(STORED)}"
            )
        chosen.update({role: precision} if role else dict.fromkeys(STORED, precision))
    return chosen


def _content_and_pitch(
    run_dir: Path, folder: Path, choices: Choices, data: Mapping[str, Any]
) -> tuple[tuple[Proof, ...], dict[str, nn.Module]]:
    """The very graphs that made the denoiser's features, or the student, proved, in place of the content graph."""
    for role in ("content", "pitch"):
        source = run_dir / "graphs" / f"{role}.onnx"
        if not source.is_file():
            raise ExportError(f"{source} is missing; svc-train copies it there from the prepared data")
        if metadata(source).get("role") != role:
            raise ExportError(
                f"{source} is not a {role} graph of Moksori; copy the one of the denoiser's data there"
            )
        if data.get(f"{role}_sha256", sha256(source)) != sha256(source):
            raise ExportError(
                f"{source} did not make the denoiser's data; copy the one in its DATA_DIR there"
            )
        shutil.copyfile(source, folder / f"{role}.onnx")
    if not choices.student:
        return (), {}
    network, proof = _student(run_dir, folder / "content.onnx", choices.written("content"))
    return (proof,), {"content": network}


def _denoiser(denoiser: run.Trained, speakers: int, folder: Path, precision: str) -> DenoiserProof:
    facts = DenoiserFacts(
        architecture=denoiser.config.architecture,
        prediction=objective(denoiser.config.objective).prediction,
        mel=denoiser.mel,
        units=int(denoiser.data["units"]["dimension"]),
        speakers=speakers,
        channels=denoiser.network.get_submodule("conditioner.out").out_features,  # type: ignore[arg-type]
        dropped=denoiser.config.dropped,
    )
    paths = folder / "condition.onnx", folder / "denoiser.onnx"
    return export_denoiser(denoiser.network, facts, *paths, precision)


def _vocoder(own: run.Trained | None, choices: Choices, mel: MelSpec, path: Path) -> Adopted:
    """The run's own vocoder, or the published one that was chosen."""
    stored = choices.written("vocoder")
    if own is None:
        assert choices.vocoder is not None
        return adopt(choices.vocoder, mel, path, stored)
    proved = export_vocoder(own.network, own.mel, path, stored)
    return Adopted(proved.spec, (proved.vocoder,), "", own.network)


def _manifest(
    denoiser: run.Trained,
    speakers: Sequence[str],
    folder: Path,
    proof: DenoiserProof,
    vocoder: VocoderSpec,
    choices: Choices,
    about: About,
) -> Manifest:
    data, learned = denoiser.data, objective(denoiser.config.objective)
    mean, deviation = learned.scaling(data["statistics"])
    sampler, steps, noise_scale = DEFAULTS[learned.prediction]
    if denoiser.straight is not None:
        steps, noise_scale = STRAIGHT_STEPS, denoiser.straight.noise_scale
    if about.guidance != 1 and not denoiser.config.dropped:
        raise ExportError(
            f"a guidance of {about.guidance:g} needs a denoiser that sometimes did without its conditions, and was not "
            "straightened since; train with dropped: 0.1, or leave guidance out of about.yaml"
        )
    said = {role: metadata(folder / f"{role}.onnx") for role in ROLES}
    dimension = _units(folder / "content.onnx")
    if dimension != data["units"]["dimension"]:
        raise ExportError(
            f"the content graph gives {dimension} numbers a unit, but the denoiser was trained on "
            f"{data['units']['dimension']}; put the content graph of its data into graphs/"
        )
    return Manifest(
        format_version=manifest.FORMAT_VERSION,
        name=choices.name,
        description=about.description,
        mel=denoiser.mel,
        units=unit_spec(said["content"], dimension),
        pitch=_pitch(denoiser),
        speakers=tuple(_speaker(name, data["speakers"], about) for name in speakers),
        denoiser=DenoiserSpec(
            architecture=denoiser.config.architecture,
            prediction=learned.prediction,
            schedule=learned.schedule,
            sampler=sampler if about.sampler is None else about.sampler,
            steps=steps if about.steps is None else about.steps,
            noise_scale=noise_scale if about.noise_scale is None else about.noise_scale,
            context=proof.condition_context + proof.context,
            mean=tuple(round(float(one), 6) for one in mean),
            deviation=tuple(round(float(one), 6) for one in deviation),
            guidance=about.guidance,
        ),
        vocoder=vocoder,
        precision={role: facts.get("precision", "fp32") for role, facts in said.items()},
        licence=about.licence,
        credits=about.credits,
        quality=about.quality,
        files=manifest.graph_files(folder),
    )


def _pitch(denoiser: run.Trained) -> PitchSpec:
    """How the data's f0 was tracked; all of it must be known, or the voice would hear other f0 than it learned from."""
    known = {field.name for field in fields(PitchSpec)}
    if denoiser.data["pitch"].keys() != known:
        missing = ", ".join(sorted(known ^ denoiser.data["pitch"].keys()))
        raise ExportError(
            f"data.yaml in {denoiser.checkpoint.parent} was written by another version of Moksori (under pitch: "
            f"{missing}); run svc-prepare again and train on"
        )
    return PitchSpec(**denoiser.data["pitch"])


def _speaker(name: str, known: Sequence[Mapping[str, float]], about: About) -> Speaker:
    measured = next(speaker for speaker in known if speaker["name"] == name)
    rights = about.speakers.get(name, {})
    figures = {key: float(measured[key]) for key in ("f0_low", "f0_median", "f0_high", "loudness")}
    return Speaker(name=name, **figures, licence=rights.get("licence", ""), credit=rights.get("credit", ""))


def _units(path: Path) -> int:
    return int(open_session(path.read_bytes()).get_outputs()[0].shape[-1])
