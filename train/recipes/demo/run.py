"""Make the demo voice again from packages: fetch, teach, prepare, train three networks, choose, export.

python train/recipes/demo/run.py [--work build/demo]

The voice is written when its vocoder and denoiser are trained, with the teacher's content network in it; then the
small student of that network learns, and the voice is written again if the student is judged no worse.

Two hours on two CPU cores, and a night for the student. On a GPU all train ten times as many steps. Every step
resumes: stop it at any moment and start it again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click
import torch
from choose import choose, student_is_ready
from teach import teach

from moksori.export.pitch import export_swift
from moksori.export.voice import About, Choices, export_voice
from moksori.runtime.errors import MoksoriError
from moksori.train import config as configs
from moksori.train.run import ROLES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LONGER_ON_GPU = 10
TARGETS = ("heart", "f001")
# speaker -> folders of fetched audio, and how many clips of them (every second one) to train on
FOLDERS: dict[str, dict[str, int | None]] = {
    "heart": {"heart": None, "heart_sung": None},
    "f001": {"f001": None},
    "ast_en": {"ast_en": 72},
    **{f"ast_{language}": {f"ast_{language}": 36} for language in ("es", "fr", "it", "ru")},
}


@click.command(help=__doc__)
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "build" / "demo")
@click.option("--voice", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "voices" / "demo")
def main(work: Path, voice: Path) -> None:
    try:
        _main(work.resolve(), voice.resolve())
    except (MoksoriError, OSError, subprocess.CalledProcessError) as error:
        raise click.ClickException(str(error)) from error


def _main(work: Path, voice: Path) -> None:
    graphs, run = work / "graphs", work / "run"
    _python(HERE / "fetch.py", work)
    if not (work / "whisper" / "config.json").exists():
        _python(HERE / "teacher.py", work / "teacher" / "model.bin", work / "whisper")
    if not (graphs / "content.onnx").exists():
        fetched = {speaker: [work / "audio" / name for name in parts] for speaker, parts in FOLDERS.items()}
        teach(str(work / "whisper"), fetched, graphs / "content.onnx")
    if not (graphs / "pitch.onnx").exists():
        export_swift(graphs / "pitch.onnx")
    _arrange(work)
    graph_options: list[str | Path] = ["--content", graphs / "content.onnx", "--pitch", graphs / "pitch.onnx"]
    _python("-m", "moksori.train.prepare", work / "train_audio", work / "data", *graph_options)
    about = configs.load(HERE / "about.yaml", About())
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(_train, work), ("vocoder", "denoiser")))  # neither needs the other
    step = choose(run, work, TARGETS, about)
    export_voice(run, voice, Choices("demo", TARGETS, force=True), about)
    click.echo(f"wrote {voice} with the denoiser of step {step} and the teacher's content network")
    _train(work, "content")
    if student_is_ready(run, work, TARGETS, about):
        export_voice(run, voice, Choices("demo", TARGETS, student=True, force=True), about)
        click.echo(f"wrote {voice} again with the student's content network")


def _train(work: Path, role: str) -> None:
    """svc-train with the recipe's config; its lines are passed on with the role before them."""
    config = HERE / f"{role}.yaml"
    steps = configs.load(config, ROLES[role].config).loop.steps * (LONGER_ON_GPU if torch.cuda.is_available() else 1)
    threads = 1 if role != "content" else os.cpu_count() or 1  # two networks train at once, and small ones
    arguments: list[str | Path | int] = [role, work / "data", work / "run"]
    arguments += ["--config", config, "--steps", steps, "--threads", threads, "--by-loss"]  # choose.py judges
    command = [sys.executable, "-m", "moksori.train.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "160"}  # or its lines are folded for a narrow terminal
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", env=environment
    ) as process:
        for line in process.stdout or ():
            click.echo(f"{role:>8}  {line}", nl=False)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _arrange(work: Path) -> None:
    """One folder a speaker, as svc-prepare wants it, of hard links to what was fetched."""
    for speaker, parts in FOLDERS.items():
        for name, count in parts.items():
            folder = work / "train_audio" / speaker / name
            folder.mkdir(parents=True, exist_ok=True)
            files = sorted((work / "audio" / name).glob("*.flac"))
            for file in files if count is None else files[::2][:count]:
                if not (folder / file.name).exists():
                    _link(file, folder / file.name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _python(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
