"""The command ``svc-train``: one network of a voice, from prepared data."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from moksori.runtime.command import Command

EXAMPLES = """\b
Examples:
  svc-train vocoder data/ run/
  svc-train denoiser data/ run/ --steps 20000
  svc-train denoiser data/ run/ --config mine.yaml
"""


@click.command("svc-train", cls=Command, extra="train", epilog=EXAMPLES)
@click.argument("role", type=click.Choice(["content", "vocoder", "denoiser"]))
@click.argument("data_dir", type=click.Path(file_okay=False, path_type=Path))
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="YAML",
    help="What differs from the defaults.  [default: what the run was begun with]",
)
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Train until this step.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.  [default: all cores]")
@click.version_option(package_name="moksori")
def main(
    role: str, data_dir: Path, run_dir: Path, config_file: Path | None, steps: int | None, threads: int | None
) -> None:
    """Train one network of a voice from DATA_DIR (made by svc-prepare) into RUN_DIR.

    A voice needs a vocoder and a denoiser; the content network is usually taken from a voice that has one. The same
    command again goes on from the newest checkpoint.
    """
    from moksori.train import run

    run.run(role, data_dir, run_dir, config_file, steps, threads, Console(stderr=True))


if __name__ == "__main__":
    main()
