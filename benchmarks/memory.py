"""How much memory a conversion takes, by the length of the song and by the length of a chunk: JSON, and a picture."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from moksori.benchmarks import record
from moksori.benchmarks.speed import CLIP, peak_memory
from moksori.runtime import Converter, Voice, audio, library, pace
from moksori.runtime.command import Command

RATE = 44_100  # Hz of the songs
CHUNKS = (3.0, 7.0, 12.0)  # seconds, between which memory grows almost in proportion
FITTED_MINUTES = 1.0

EXAMPLES = """\b
Examples:
  python -m moksori.benchmarks.memory
  python -m moksori.benchmarks.memory --minutes 1,6,20,60
  python -m moksori.benchmarks.memory --preset hubert
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.option("--voice", "voice_name", default="demo", show_default=True, help="Name, folder or .zip.")
@click.option("--preset", help="Random networks of these sizes instead: demo, hubert or reference (networks.py).")
@click.option("--minutes", default="1,3,6", show_default=True, help="Of the songs.")
@click.option("--device", default="cpu", show_default=True, help="As for svc-run.")
@click.option("--steps", default=1, show_default=True, help="Of the denoiser; they change time, not memory.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: in benchmarks/results]")
def main(voice_name: str, preset: str | None, minutes: str, device: str, steps: int, path: Path | None) -> None:
    """Convert long songs, each in a process of its own, and see what it holds."""
    if preset is not None:
        from moksori.benchmarks import networks

        voice = networks.voice(preset, Path("build", "benchmarks", preset))
    else:
        voice = library.locate(voice_name)
    lengths = [float(text) for text in minutes.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        songs = [measured(voice, folder, length, device, steps, None) for length in lengths]
        fits = [measured(voice, folder, FITTED_MINUTES, device, steps, seconds) for seconds in CHUNKS]
    slope, rest = np.polyfit([one["chunk_seconds"] for one in fits], [one["peak_mb"] for one in fits], 1)
    fit = {"mb_per_chunk_second": slope, "mb_without": rest}
    results = {"voice": preset or voice_name, "songs": songs, "chunks": fits, **fit}
    for one in songs:
        click.echo(f"{one['minutes']:>6g} min  peak {one['peak_mb']:.0f} MB")
    click.echo(f"one lane, chunks of n seconds: {rest:.0f} MB + {slope:.1f} MB · n; longest against shortest song: "
               f"{songs[-1]['peak_mb'] / songs[0]['peak_mb'] - 1:+.1%}")  # fmt: skip
    path = path or record.RESULTS / f"memory-{preset or voice.stem}.json"
    record.write(path, results)
    draw(path.with_suffix(".png"), songs)
    click.echo(f"written to {path} and {path.with_suffix('.png')}")


def measured(
    voice: Path, folder: Path, minutes: float, device: str, steps: int, chunk: float | None
) -> dict[str, Any]:
    """One song of so many minutes; in one lane with chunks of ``chunk`` seconds where that is given."""
    song = folder / "song.wav"
    write(song, minutes)
    job = {"voice": str(voice), "song": str(song), "device": device, "steps": steps, "chunk": chunk}
    command = [sys.executable, "-m", "moksori.benchmarks.memory", "--child", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise click.ClickException(f"the conversion failed: {done.stderr[-500:]}")
    return {"minutes": minutes, **json.loads(done.stdout)}


def child(text: str) -> None:
    """Convert one song and print what this process held, as JSON: at its peak, and along the way."""
    from moksori.runtime import Options

    job = json.loads(text)
    lanes = None if job["chunk"] is None else 1
    voice = Voice.load(Path(job["voice"]), job["device"], lanes=lanes)
    loaded = pace.resident()
    converter = Converter(voice, Options(steps=job["steps"]))
    if job["chunk"] is not None:
        converter.pace = pace.Plan(1, job["chunk"], job["chunk"])
    seen: list[tuple[float, float]] = []
    song = Path(job["song"])

    def look(share: float) -> None:
        if not seen or share - seen[-1][0] >= 0.01:
            seen.append((share, pace.resident() / 1e6))

    converter.convert(song, song.with_name("result.flac"), look)
    facts = {"loaded_mb": loaded / 1e6, "peak_mb": peak_memory(), "along": seen, "chunk_seconds": job["chunk"]}
    click.echo(json.dumps(facts))


def write(target: Path, minutes: float) -> None:
    """The clip over and over, at 44.1 kHz, block by block."""
    clip = audio.read(CLIP, RATE)
    with audio.Writer(target, RATE) as file:
        left = round(60 * minutes * RATE)
        while left > 0:
            file.write(clip[:left])
            left -= len(clip)


def draw(path: Path, songs: list[dict[str, Any]]) -> None:
    """Resident memory over the minutes of each song."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for one in songs:
        share, held = zip(*one["along"], strict=True)
        label = f"{one['minutes']:g} min, peak {one['peak_mb']:.0f} MB"
        axes.plot([one["minutes"] * at for at in share], held, label=label)
    axes.set(xlabel="minutes of the song", ylabel="resident memory, MB", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
    else:
        main()
