"""Whether svc-prepare's warnings are right: of voices alone, of music under them, of a stranger among them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from moksori.benchmarks import record
from moksori.benchmarks.prepare import prepare
from moksori.benchmarks.speed import CLIP
from moksori.runtime import audio, slicer
from moksori.runtime.command import Command
from moksori.runtime.decoder import is_audio
from moksori.runtime.errors import OptionError
from moksori.runtime.files import atomic_path, read_json

Array = NDArray[np.float32]

RATE = 24_000  # Hz
BELOW_DB = (10, 15, 20, 25)  # of the music, to the sounding parts of the voice
SOUNDING_DB = 30.0  # below the loudest 10 ms a voice does not sound
SKIPPED_SECONDS = 30.0  # of a piece of music, which may begin quietly
FILES = 4  # of each voice, when a stranger takes the place of one
FILE_SECONDS = 6  # of each of them
MUSIC, STRANGER = "dB below the loudest", "far from the other files"

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.warnings --voices build/demo/audio --music song.mp3 --music another.ogg
"""


@click.command(cls=Command, extra="train", epilog=EXAMPLES)
@click.option("--voices", required=True, type=click.Path(path_type=Path), help="With a folder for each voice.")
@click.option("--music", "pieces", multiple=True, required=True, type=click.Path(path_type=Path), help="Without voice.")
@click.option("--seconds", type=click.FloatRange(5), default=20, show_default=True, help="Of each voice.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="As for svc-prepare.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: in benchmarks/results]")
def main(voices: Path, pieces: tuple[Path, ...], seconds: float, jobs: int, path: Path | None) -> None:
    """Count false alarms and misses of the warnings of music under a voice and of another voice."""
    if not voices.is_dir():
        raise OptionError(f"{voices} is not a folder: name one with a folder of recordings for each voice")
    folders = {folder.name: sorted(filter(is_audio, folder.rglob("*"))) for folder in sorted(voices.iterdir())}
    files = {CLIP.stem: [CLIP]} | {name: found[:FILES] for name, found in folders.items() if found}
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "in"
        for name, parts in cases(files, list(pieces), seconds):
            for number, samples in enumerate(parts):
                with audio.Writer(source / name / f"{number}.flac", RATE, "flac", subtype="PCM_16") as file:
                    file.write(samples)
        prepare(source, Path(work) / "data", "--cache", "f0", "--jobs", str(jobs))
        data = read_json(Path(work) / "data" / "data.json")
    results = judged(data, list(files), [piece.stem for piece in pieces])
    path = path or record.RESULTS / "warnings.json"
    record.write(path, {"seconds": seconds, "files": {name: len(some) for name, some in files.items()}, **results})
    text = table(results)
    with atomic_path(path.with_suffix(".md")) as part:
        part.write_text(text, encoding="utf-8")
    click.echo(text)


def cases(files: dict[str, list[Path]], pieces: list[Path], seconds: float) -> Iterator[tuple[str, list[Array]]]:
    """Speakers as svc-prepare sees them: their names, and samples [n] of each of their files."""
    music = {piece.stem: next(audio.blocks(piece, RATE, SKIPPED_SECONDS + seconds)) for piece in pieces}
    music = {name: samples[int(SKIPPED_SECONDS * RATE) :] for name, samples in music.items()}
    heard = {name: [audio.read(path, RATE) for path in paths] for name, paths in files.items()}
    for name, parts in heard.items():
        voice = np.resize(np.concatenate(parts), int(seconds * RATE))
        yield f"{name} alone", [voice]
        for piece, under in music.items():
            for below in BELOW_DB:
                yield f"{name} over {piece} {below}", [mixed(voice, under, below)]
        for other, others in heard.items():
            if other != name and min(len(parts), len(others)) >= FILES:
                some = (*parts[: FILES - 1], others[0])
                yield f"{name} with {other}", [part[: FILE_SECONDS * RATE] for part in some]
    for piece, samples in music.items():
        yield f"{piece} alone", [samples]


def mixed(voice: Array, music: Array, below: float) -> Array:
    """``voice`` [n] and ``music`` [m], repeated, so many dB below its sounding parts; no louder than full scale."""
    levels = slicer.levels(voice, RATE)
    power = np.mean(10 ** (levels[levels > levels.max() - SOUNDING_DB] / 10))
    under = np.resize(music, len(voice))
    both = voice + under * np.sqrt(power / np.mean(np.square(under, dtype=np.float64))) * 10 ** (-below / 20)
    return (both / max(1.0, float(np.abs(both).max()))).astype(np.float32)


def judged(data: dict[str, Any], voices: list[str], pieces: list[str]) -> dict[str, Any]:
    """Which cases were warned of, and the contrast of each in dB."""
    contrast = {speaker["name"]: speaker["contrast"] for speaker in data["speakers"]}

    def warned(name: str, words: str) -> bool:
        return any(line.startswith(f"{name}: ") and words in line for line in data["warnings"])

    music = []
    for voice in voices:
        row: dict[str, Any] = {"voice": voice, "alone": contrast[f"{voice} alone"]}
        row["false_alarm"] = warned(f"{voice} alone", MUSIC)
        for below in BELOW_DB:
            row[f"{below} dB below"] = [warned(f"{voice} over {piece} {below}", MUSIC) for piece in pieces]
        music.append(row)
    strangers = {name: warned(name, STRANGER) for name in sorted(contrast) if " with " in name}
    return {"music": music, "strangers": strangers, "contrast": contrast}


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each voice, and how many strangers were found."""
    steps = [f"{below} dB below" for below in BELOW_DB]
    lines = [
        f"| voice | contrast alone, dB | false alarm | {' | '.join(f'music {step}' for step in steps)} |",
        "|---" * (len(steps) + 3) + "|",
    ]
    for row in results["music"]:
        found = " | ".join(f"{sum(row[step])} of {len(row[step])}" for step in steps)
        lines.append(f"| {row['voice']} | {row['alone']:.0f} | {'yes' if row['false_alarm'] else 'no'} | {found} |")
    strangers = results["strangers"]
    noticed = f"noticed in {sum(strangers.values())} of {len(strangers)} pairs"
    lines += ["", f"One file of another voice among {FILES - 1}, by its pitch alone: {noticed}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
