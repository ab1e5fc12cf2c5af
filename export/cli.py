"""svc-export: a trained run becomes a voice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console

from moksori.export import show
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError

EXAMPLES = """\b
Examples:
  svc-export run/ my_voice/
  svc-export run/ my_voice.zip --speakers heart,f001 --precision int8 --data data/
  svc-export run/ content.onnx --content-only
  svc-export --pitch crepe
  svc-export --teacher facebook/hubert-base-ls960 --layer 9 content.onnx
  svc-export my_voice/ other_voice/ --vocoder nsf_hifigan.oudep
  svc-export my_voice/ other_voice/ --content contentvec/ --layer 9
  svc-export run/ my_vocoder.oudep --openutau
  svc-export --from diff_svc_model/ --content contentvec/ --layer 9 --vocoder nsf_hifigan.oudep my_voice/
  svc-export --inspect my_voice.zip
"""
SMALLER = frozenset({"--precision", "--data", "--force"})
WHOLE = SMALLER | {"--name", "--speakers", "--about", "--zip", "--vocoder"}
# What can be asked for, and the options that then mean something.
TASKS: Mapping[str, frozenset[str]] = {
    "--inspect": frozenset(),
    "--from": WHOLE | {"--content", "--layer", "--pitch"},
    "--teacher": SMALLER | {"--layer"},
    "--pitch": frozenset({"--force"}),
    "--openutau": SMALLER | {"--name"},
    "--content-only": SMALLER,
    "a RUN_DIR": WHOLE | {"--student"},
    "a voice": SMALLER | {"--vocoder", "--content", "--layer", "--zip"},
}


@click.command("svc-export", cls=Command, extra="export", epilog=EXAMPLES)
@click.argument("run_dir", required=False, type=click.Path(path_type=Path))
@click.argument("voice", required=False, type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What the voice is called.  [default: from VOICE]")
@click.option("--speakers", metavar="A,B", help="The speakers to keep, in this order.  [default: all]")
@click.option(
    "--precision",
    metavar="P",
    help="fp32; fp16 and w8: weights stored in 16 or 8 bits, computed in fp32; int8: computed in 8 bits, for CPUs, "
    "needs --data. Or NETWORK=P,NETWORK=P.  [default: fp16; with --teacher fp32]",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Prepared data of the voice: calibrates int8, and judges every precision.  [default: judged by a tone]",
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
@click.option("--force", is_flag=True, help="Replace what exists, and keep a precision that costs too much.")
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
    "--content",
    metavar="NAME",
    help="With --from, or in place of a voice's own: a graph, a voice, or a HuBERT or ContentVec by folder or hub id.",
)
@click.option("--inspect", metavar="VOICE", help="Print what a voice is, check its files, and exit.")
@click.version_option(package_name="moksori")
@click.pass_context
def main(
    ctx: click.Context,
    run_dir: Path | None,
    voice: Path | None,
    name: str | None,
    speakers: str | None,
    precision: str | None,
    data: Path | None,
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
    its network at lengths it was not exported at; nothing is written when one differs by more than 1e-4. What a
    smaller precision than fp32 costs is measured and printed; nothing is written when it is too much.
    """
    console = Console()
    task = _task(ctx, run_dir)
    if task == "--inspect":
        show.voice(str(inspect), console)
        return
    if task in ("--teacher", "--pitch"):
        if voice is not None:
            raise OptionError(f"{task} writes one file: name it, or nothing, and svc-prepare finds it")
        _extractor(tracker if teacher is None else None, teacher, layer, run_dir, precision, data, force, console)
        return
    if imported is not None:
        run_dir, voice = imported, _only_voice(run_dir, voice)
    if run_dir is None or voice is None:
        raise OptionError("name a RUN_DIR and a VOICE, as in: svc-export run/ my_voice/ (svc-export --help)")
    target = voice.with_name(f"{voice.name}.zip") if as_zip and voice.suffix != ".zip" else voice
    from moksori.export import vocoders
    from moksori.export.exchange import Parts, exchange
    from moksori.export.graph import ExportError
    from moksori.export.voice import About, Choices, export_student, export_voice, precisions
    from moksori.train import config as configs

    stored = precisions(precision or "fp16")
    if task == "--openutau":
        proof, cost = vocoders.openutau(run_dir, voice, name, stored["vocoder"], data, force)
        show.proofs([proof], [cost] if cost else [], console)
        return
    if task == "a voice":
        parts = Parts(vocoder, content, layer)
        show.proofs(*exchange(run_dir, target, parts, stored, data, force), console)
        return
    if imported is None and not run_dir.is_dir():
        raise OptionError(f"{run_dir} is not a folder; name the RUN_DIR of svc-train")
    if task == "--content-only":
        if voice.exists() and not force:
            raise ExportError(f"{voice} exists; use --force to replace it")
        proof, cost = export_student(run_dir, voice, stored["content"], data, force)
        show.proofs([proof], [cost] if cost else [], console)
        return
    choices = Choices(
        name=name or (target.stem if target.suffix == ".zip" else target.resolve().name),
        speakers=tuple(part.strip() for part in speakers.split(",")) if speakers else (),
        precision=stored,
        student=student,
        force=force,
        vocoder=vocoder,
        data=data,
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
    show.proofs(exported.proofs, exported.costs, console)
    size = sum(file.bytes for file in exported.manifest.files.values())
    console.print(
        f"{click.format_filename(target)}: {size / 1e6:.1f} MB", markup=False, highlight=False, soft_wrap=True
    )


def _task(ctx: click.Context, run_dir: Path | None) -> str:
    """What is asked for; OptionError when an option is given that would mean nothing then."""
    given = [
        one.opts[0]
        for one in ctx.command.params
        if isinstance(one, click.Option) and ctx.get_parameter_source(one.name or "") is ParameterSource.COMMANDLINE
    ]
    task = next((name for name in TASKS if name in given), "a RUN_DIR")
    exchanged = {"--vocoder", "--content"} & set(given)
    if task == "a RUN_DIR" and exchanged and run_dir is not None and not (run_dir / "denoiser").is_dir():
        task = "a voice"
    for option in given:
        if option != task and option not in TASKS[task]:
            others = [name for name, options in TASKS.items() if option == name or option in options]
            raise OptionError(f"{option} is for {', '.join(dict.fromkeys(others))}, not for {task}; leave it out")
    return task


def _extractor(
    tracker: str | None, teacher: str | None, layer: int | None, path: Path | None, precision: str | None,
    data: Path | None, force: bool, console: Console,
) -> None:  # fmt: skip
    from moksori.export import extractors
    from moksori.export.voice import precisions

    if tracker is not None:
        proof, cost = extractors.tracker(tracker, path), None
    else:
        stored = precisions(precision or "fp32")["content"]
        proof, cost = extractors.teacher(str(teacher), layer, path, stored, data, force)
    show.proofs([proof], [cost] if cost else [], console)
    console.print(f"{click.format_filename(proof.path)}", markup=False, highlight=False, soft_wrap=True)


def _only_voice(first: Path | None, second: Path | None) -> Path:
    """The one name that --from leaves to be said."""
    if first is None or second is not None:
        raise OptionError("--from makes one voice: name it, as in: svc-export --from diff_svc_model/ my_voice/ …")
    return first


if __name__ == "__main__":
    main()
