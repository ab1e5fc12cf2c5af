"""The command ``svc-train``: one network of a voice, from prepared data."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from moksori.runtime.command import Command

PATH = click.Path(path_type=Path)
EXAMPLES = """\b
Examples:
  svc-train vocoder data/ run/
  svc-train vocoder data/ run/ --from demo --steps 5000
  svc-train denoiser data/ run/ --steps 20000
  svc-train denoiser data/ run/ --preset low-memory --config mine.yaml
  svc-train denoiser data/ run/ --preview song.wav --judge clips/
  svc-train reflow data/ run/
  accelerate launch -m moksori.train.cli denoiser data/ run/
"""


@click.command("svc-train", cls=Command, extra="train", epilog=EXAMPLES)
@click.argument("role", type=click.Choice(["content", "vocoder", "denoiser", "reflow"]))
@click.argument("data_dir", type=click.Path(file_okay=False, path_type=Path))
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--preset",
    "presets",
    multiple=True,
    metavar="NAME",
    help="light-24k, reference-44k, low-memory; may be given more than once.  [default: what the run was begun with]",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="YAML",
    help="What differs from presets and defaults.  [default: what the run was begun with]",
)
@click.option(
    "--from",
    "start_from",
    metavar="WEIGHTS",
    help="Begin a vocoder with those of a voice, a RUN_DIR, a checkpoint, or openvpi's model.",
)
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Train until this step.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.  [default: all cores]")
@click.option("--preview", type=PATH, metavar="SONG", help="Sing it at every validation, into RUN_DIR/previews.")
@click.option(
    "--judge",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Clips of other speakers: keep the checkpoint that converts them best.  [default: held-out ones of the data]",
)
@click.option("--by-loss", is_flag=True, help="Keep the denoiser of the lowest validation loss; convert nothing.")
@click.option("--recogniser", type=PATH, metavar="DIR", help="A CTranslate2 Whisper model, to judge words too.")
@click.option("--speaker", metavar="NAME", help="Who sings what is judged and --preview.  [default: the most heard]")
@click.option("--key", type=float, metavar="N", help="How many semitones up.  [default: into the speaker's range]")
@click.version_option(package_name="moksori")
def main(
    role: str,
    data_dir: Path,
    run_dir: Path,
    presets: tuple[str, ...],
    config_file: Path | None,
    start_from: str | None,
    steps: int | None,
    threads: int | None,
    preview: Path | None,
    judge: Path | None,
    by_loss: bool,
    recogniser: Path | None,
    speaker: str | None,
    key: float | None,
) -> None:
    """Train one network of a voice from DATA_DIR (made by svc-prepare) into RUN_DIR.

    A voice needs a vocoder and a denoiser; the content network is usually taken from a voice that has one. With reflow
    the denoiser learns to need fewer steps. The same command again goes on from the newest checkpoint.
    """
    from moksori.train import run
    from moksori.train.audition import Audition

    audition = Audition(preview, judge, recogniser, speaker, "auto" if key is None else key, by_loss)
    wishes = run.Wishes(presets, config_file, steps, threads, start_from, audition)
    run.run(role, data_dir, run_dir, wishes, Console(stderr=True))


if __name__ == "__main__":
    main()
