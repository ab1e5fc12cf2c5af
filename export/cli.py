"""svc-export: a trained run becomes a voice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError

if TYPE_CHECKING:
    from moksori.export.graph import Proof
    from moksori.runtime.manifest import Manifest

EXAMPLES = """\b
Examples:
  svc-export run/ my_voice/
  svc-export run/ my_voice.zip --speakers heart,f001 --precision int8
  svc-export run/ content.onnx --content-only
  svc-export --pitch crepe
  svc-export --teacher facebook/hubert-base-ls960 --layer 9 content.onnx
  svc-export my_voice/ other_voice/ --vocoder nsf_hifigan.oudep
  svc-export run/ my_vocoder.oudep --openutau
  svc-export --from diff_svc_model/ --content contentvec/ --layer 9 --vocoder nsf_hifigan.oudep my_voice/
  svc-export --inspect my_voice.zip
"""


@click.command("svc-export", cls=Command, extra="export", epilog=EXAMPLES)
@click.argument("run_dir", required=False, type=click.Path(path_type=Path))
@click.argument("voice", required=False, type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What the voice is called.  [default: from VOICE]")
@click.option("--speakers", metavar="A,B", help="The speakers to keep, in this order.  [default: all]")
@click.option(
    "--precision",
    default="fp16",
    show_default=True,
    metavar="P",
    help="How weights are stored: fp32, fp16, int8, or NETWORK=P,NETWORK=P. All compute in fp32.",
)
@click.option(
    "--about",
    "about_file",
    type=click.Path(path_type=Path),
    metavar="YAML",
    help="Description, licences, credits, quality, limits.  [default: RUN_DIR/about.yaml]",
)
@click.option(
    "--student", is_flag=True, help="Ship the content network trained in RUN_DIR, not the one of the data."
)
@click.option(
    "--content-only", is_flag=True, help="Write only the trained content network, to the file VOICE."
)
@click.option("--zip", "as_zip", is_flag=True, help="Write VOICE.zip instead of a folder.")
@click.option("--force", is_flag=True, help="Replace a voice that exists.")
@click.option(
    "--pitch",
    "tracker",
    metavar="NAME",
    help="Write the graph of crepe or crepe-tiny for svc-prepare, and exit; with --from, what the voice hears with.",
)
@click.option(
    "--teacher",
    metavar="DIR|HUB_ID",
    help="Write the content graph of a Whisper, HuBERT or ContentVec for svc-prepare, and exit.",
)
@click.option("--layer", type=click.IntRange(1), metavar="N", help="Of a HuBERT.  [default: its last]")
@click.option(
    "--vocoder",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="In place of the run's or voice's own: openvpi's model or its folder, .oudep, .onnx beside vocoder.yaml.",
)
@click.option(
    "--openutau", is_flag=True, help="Write only the vocoder of RUN_DIR, for OpenUtau: a folder or an .oudep."
)
@click.option(
    "--from",
    "imported",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Make VOICE of a diff-svc model (model_ckpt_steps_N.ckpt, config.yaml); needs --content and --vocoder.",
)
@click.option(
    "--content", metavar="NAME", help="Of --from: a graph, a voice, or a HuBERT or ContentVec by folder or hub id."
)
@click.option("--inspect", metavar="VOICE", help="Print what a voice is, check its files, and exit.")
@click.version_option(package_name="moksori")
def main(
    run_dir: Path | None,
    voice: Path | None,
    name: str | None,
    speakers: str | None,
    precision: str,
    about_file: Path | None,
    student: bool,
    content_only: bool,
    as_zip: bool,
    force: bool,
    tracker: str | None,
    teacher: str | None,
    layer: int | None,
    vocoder: Path | None,
    openutau: bool,
    imported: Path | None,
    content: str | None,
    inspect: str | None,
) -> None:
    """Write the networks in RUN_DIR (trained by svc-train) as VOICE, a folder or .zip for svc-run.

    Of each network the checkpoint that best.json names is taken, else the newest. Every graph is compared with
    its network at lengths it was not exported at; nothing is written when one differs by more than 1e-4.
    """
    console = Console()
    if inspect is not None:
        _inspect(inspect, console)
        return
    if content is not None and imported is None:
        raise OptionError("--content is for --from; a RUN_DIR has the content graph of its data")
    if imported is None and (tracker is not None or teacher is not None):
        from moksori.export import extractors

        if voice is not None:
            raise OptionError("--pitch and --teacher write one file: name it, or nothing, and svc-prepare finds it")
        proof = extractors.tracker(tracker, run_dir) if tracker else extractors.teacher(str(teacher), layer, run_dir)
        _show([proof], console)
        console.print(f"{click.format_filename(proof.path)}", markup=False, highlight=False, soft_wrap=True)
        return
    if imported is not None:
        run_dir, voice = imported, _only_voice(run_dir, voice)
    if run_dir is None or voice is None:
        raise OptionError("name a RUN_DIR and a VOICE, as in: svc-export run/ my_voice/ (svc-export --help)")
    if openutau:
        from moksori.export import vocoders

        _show([vocoders.openutau(run_dir, voice, name, precision, force)], console)
        return
    if imported is None and vocoder is not None and not (run_dir / "denoiser").is_dir():
        from moksori.export import vocoders

        _show(vocoders.exchange(run_dir, voice, vocoder, precision, force), console)
        return
    if imported is None and not run_dir.is_dir():
        raise OptionError(f"{run_dir} is not a folder; name the RUN_DIR of svc-train")
    from moksori.export.graph import ExportError
    from moksori.export.voice import About, Choices, export_student, export_voice, precisions
    from moksori.train import config as configs

    if content_only:
        if voice.exists() and not force:
            raise ExportError(f"{voice} exists; use --force to replace it")
        _show([export_student(run_dir, voice, precisions(precision)["content"])], console)
        return
    target = voice.with_name(f"{voice.name}.zip") if as_zip and voice.suffix != ".zip" else voice
    choices = Choices(
        name=name or (target.stem if target.suffix == ".zip" else target.resolve().name),
        speakers=tuple(part.strip() for part in speakers.split(",")) if speakers else (),
        precision=precisions(precision),
        student=student,
        force=force,
        vocoder=vocoder,
    )
    place = about_file or run_dir / "about.yaml"
    about = configs.load(place, About()) if about_file or place.exists() else About()
    with console.status("exporting and proving the graphs"):
        if imported is None:
            exported = export_voice(run_dir, target, choices, about)
        else:
            from moksori.export import imports

            hearing = imports.hearing(content, layer, tracker)
            exported = imports.import_voice(imported, target, hearing, choices, about)
    _show(exported.proofs, console)
    size = sum(file.bytes for file in exported.manifest.files.values())
    console.print(
        f"{click.format_filename(target)}: {size / 1e6:.1f} MB", markup=False, highlight=False, soft_wrap=True
    )


def _only_voice(first: Path | None, second: Path | None) -> Path:
    """The one name that --from leaves to be said."""
    if first is None or second is not None:
        raise OptionError("--from makes one voice: name it, as in: svc-export --from diff_svc_model/ my_voice/ …")
    return first


def _show(proofs: list[Proof] | tuple[Proof, ...], console: Console) -> None:
    """A row for every graph: how far it is from its network, and what storing its weights small costs."""
    table = Table(title="Graphs against their networks", title_justify="left")
    for head in ("graph", "kind", "stored", "MB", "largest error", "lengths", "rounding", "load"):
        table.add_column(head, justify="left" if head in ("graph", "kind", "stored", "lengths") else "right")
    for proof in proofs:
        lengths = "; ".join(" ".join(f"{name} {n}" for name, n in one.items()) for one in proof.lengths)
        rounding = f"{max(proof.rounding.values()):.1e}" if proof.rounding else "none"
        figures = (
            f"{proof.bytes / 1e6:.2f}",
            f"{proof.worst:.1e}",
            lengths,
            rounding,
            f"{1000 * proof.load_seconds:.0f} ms",
        )
        table.add_row(proof.role, proof.kind, proof.precision, *figures)
    console.print(table)


def _inspect(voice: str, console: Console) -> None:
    from moksori.runtime.voice import Voice

    loaded = Voice.load(voice if not Path(voice).exists() else Path(voice), "cpu")  # checks hashes and graphs
    said = loaded.manifest
    for line in _description(said):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    table = Table()
    for head in ("graph", "kind", "stored as", "bytes", "context", "error", "sha256"):
        table.add_column(head)
    for role, session in loaded.sessions.items():
        facts = session.metadata
        keys = ("kind", "precision", "context", "proof_max_error")
        kind, precision, context, error = (facts.get(key, "") for key in keys)
        table.add_row(
            role,
            kind,
            precision or said.precision.get(role, ""),
            f"{said.files[role].bytes:,}",
            context,
            error,
            said.files[role].sha256[:8],
        )
    console.print(table)
    size = sum(file.bytes for file in said.files.values())
    console.print(f"{size / 1e6:.1f} MB; every file is as voice.json describes it", highlight=False)


def _description(said: Manifest) -> list[str]:
    mel, flow = said.mel, said.denoiser
    milliseconds = 1000 * said.units.hop / said.units.sample_rate
    return [
        f"{said.name}: {said.description}" if said.description else said.name,
        f"  audio     {mel.sample_rate} Hz, {mel.bins} mel bins every {mel.hop} samples",
        f"  content   {said.units.dimension} numbers every {milliseconds:g} ms",
        f"  pitch     {said.pitch.kind}, {said.pitch.fmin:g} to {said.pitch.fmax:g} Hz",
        f"  denoiser  {flow.architecture}, {flow.prediction}, {flow.sampler} in {flow.steps} steps, "
        f"noise {flow.noise_scale:g}",
        f"  vocoder   {said.vocoder.kind}",
        f"  format    {said.format_version}",
        *(
            f"  speaker   {one.name}: {one.f0_low:.0f} to {one.f0_high:.0f} Hz, median {one.f0_median:.0f} Hz"
            + (f" ({one.licence})" if one.licence else "")
            for one in said.speakers
        ),
        *(f"  quality   {name} {value:.4g}" for name, value in said.quality.items()),
        *([f"  licence   {said.licence}"] if said.licence else []),
        *(f"  credit    {credit}" for credit in said.credits),
    ]


if __name__ == "__main__":
    main()
