"""Make the demo voice again from packages: fetch, teach, prepare, train three networks, choose, straighten, export.

python train/recipes/demo/run.py [--work build/demo]

A large teacher first hears all of the audio, and a small content network learns to hear the same, beside the vocoder.
The denoiser then learns from what the small network hears, so that it knows its mistakes; in the end it learns to need
a single step.

Four to five hours on two CPU cores that compute bf16. On a GPU all train four times as many
steps. Every step resumes: stop it at any moment and start it again.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import click
import clips
import flite
import pico
import resung
import torch
from choose import choose
from programs import Programs
from teach import teach

from moksori.export.pitch import export_swift
from moksori.export.voice import About, Choices, export_voice
from moksori.runtime.errors import MoksoriError
from moksori.train import config as configs
from moksori.train import workers
from moksori.train.reflow import SAMPLER, ReflowConfig
from moksori.train.run import ROLES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LONGER_ON_GPU = 4
TARGETS = ("heart", "f001")
PROGRAMS = Programs()
SETTINGS = ("steps", "guidance", "noise_scale")  # with which the denoiser sings, and with which reflow teaches it
PROMPTS = [f"ast_{language}" for language in ("en", "es", "fr", "it", "ru")]
READERS = [*(f"flite_{voice}" for voice in flite.VOICES), *(f"pico_{voice}" for voice in pico.VOICES)]
READERS += ["espeak", "mei", "nsh", "menardi"]
# speaker -> folders of fetched audio
FOLDERS = {"heart": ("heart", "heart_sung"), "f001": ("f001",), **{name: (name,) for name in PROMPTS}}
# The content network hears more voices than the others, and all of them sing too.
HEARD = FOLDERS | {name: (name, f"{name}_sung") for name in (*PROMPTS, *READERS)}


@click.command(help=__doc__)
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "build" / "demo")
@click.option("--voice", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "voices" / "demo")
def main(work: Path, voice: Path) -> None:
    try:
        with PROGRAMS.stoppable():
            _main(work.resolve(), voice.resolve())
    except (MoksoriError, OSError, subprocess.CalledProcessError) as error:
        raise click.ClickException(str(error)) from error


def _main(work: Path, voice: Path) -> None:
    graphs, run = work / "graphs", work / "run"
    teacher, heard, pitch = graphs / "teacher.onnx", graphs / "content.onnx", graphs / "pitch.onnx"
    PROGRAMS.run(HERE / "fetch.py", work)
    if not (work / "whisper" / "config.json").exists():
        PROGRAMS.run(HERE / "teacher.py", work / "teacher" / "model.bin", work / "whisper")
    if not teacher.exists():
        fetched = {speaker: [work / "audio" / name for name in parts] for speaker, parts in FOLDERS.items()}
        teach(str(work / "whisper"), fetched, teacher)
    if not pitch.exists():
        export_swift(pitch)
    _sing(work, pitch)
    _arrange(work, work / "train_audio", FOLDERS)
    _arrange(work, work / "heard_audio", HEARD)
    _prepare(work / "heard_audio", work / "taught", teacher, pitch, altered=0)  # svc-train content alters them itself
    _prepare(work / "train_audio", work / "copied", teacher, pitch, cache="f0")  # the vocoder needs no units
    about = configs.load(HERE / "about.yaml", About())
    with PROGRAMS.together() as pool:
        half = max(1, workers.cores() // 2)
        vocoder = pool.submit(_train, work / "copied", run, "vocoder", half)
        _train(work / "taught", run, "content", half)
        PROGRAMS.run("-m", "moksori.export.cli", run, heard, "--content-only", "--force")
        _prepare(work / "train_audio", work / "data", heard, pitch, altered=2)
        vocoder.result()
    _train(work / "data", run, "denoiser")
    taught = configs.load(HERE / "reflow.yaml", ReflowConfig())
    as_taught = replace(about, sampler=SAMPLER, **{name: getattr(taught, name) for name in SETTINGS})
    step = choose(run, work, TARGETS, as_taught)
    _train(work / "data", run, "reflow")
    export_voice(run, voice, Choices("demo", TARGETS, force=True), about)
    click.echo(f"wrote {voice} with the denoiser of step {step}")


def _sing(work: Path, pitch: Path) -> None:
    """What was read, sung too; what was held out of it is held out again."""
    for name in (*PROMPTS, *READERS):
        if not (work / "audio" / f"{name}_sung").is_dir():
            click.echo(f"{name}_sung: from {name} …")
            made = resung.clips(work / "audio" / name, pitch)
            held_out = (replace(clip, held_out=True) for clip in resung.clips(work / "heldout" / name, pitch))
            clips.write(work, f"{name}_sung", itertools.chain(made, held_out))


def _prepare(
    recordings: Path, data: Path, heard: Path, pitch: Path, altered: int = 0, cache: str = "units"
) -> None:
    options: list[str | Path] = ["--content", heard, "--pitch", pitch, "--perturb", str(altered), "--cache", cache]
    PROGRAMS.run("-m", "moksori.train.prepare", recordings, data, *options)


def _train(data: Path, run: Path, role: str, threads: int | None = None) -> None:
    """svc-train with the recipe's config; its lines are passed on with the role before them."""
    config = HERE / f"{role}.yaml"
    steps = configs.load(config, ROLES[role].config).loop.steps * (LONGER_ON_GPU if torch.cuda.is_available() else 1)
    arguments: list[str | Path | int] = [role, data, run, "--config", config, "--steps", steps]
    arguments += ["--by-loss"]  # choose.py judges
    if threads:
        arguments += ["--threads", threads]
    PROGRAMS.run("-m", "moksori.train.cli", *arguments, name=role)


def _arrange(work: Path, target: Path, folders: dict[str, tuple[str, ...]]) -> None:
    """One folder a speaker, as svc-prepare wants it, of hard links to what was fetched."""
    for speaker, parts in folders.items():
        for name in parts:
            folder = target / speaker / name
            folder.mkdir(parents=True, exist_ok=True)
            for file in sorted((work / "audio" / name).glob("*.flac")):
                if not (folder / file.name).exists():
                    _link(file, folder / file.name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


if __name__ == "__main__":
    main()
