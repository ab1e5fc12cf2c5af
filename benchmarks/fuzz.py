"""Damaged recordings and damaged voices by the thousand: each is converted or refused in one sentence, and none leaves
a traceback, a hang, a crash or a file behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile

from moksori.benchmarks import record
from moksori.runtime import Converter, Voice, files, library
from moksori.runtime.command import Command
from moksori.runtime.errors import MoksoriError

LIMIT_SECONDS = 120.0  # for one case, the opening of the voice included
SAMPLED = 50  # every so many cases the command itself is run too
SECONDS, RATE = 0.4, 22_050  # of the recordings that are damaged
KINDS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.fuzz --audio 2000 --voices 500
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.option("--audio", "recordings", type=click.IntRange(0), default=200, show_default=True, help="Damaged files.")
@click.option("--voices", type=click.IntRange(0), default=50, show_default=True, help="Damaged voices.")
@click.option("--voice", "voice_name", default="demo", show_default=True, help="What is damaged, and converts.")
@click.option("--seed", default=0, show_default=True, help="Of the first case; the others count from it.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: in benchmarks/results]")
def main(recordings: int, voices: int, voice_name: str, seed: int, path: Path | None) -> None:
    """Convert damaged recordings, and with damaged voices."""
    cases = [Case("audio", seed + at) for at in range(recordings)] + [Case("voice", seed + at) for at in range(voices)]
    found = list(run(cases, library.locate(voice_name)))
    outcomes = Counter(f"{case.kind} {verdict.outcome}" for case, verdict in found)
    problems = [
        {"case": f"{case.kind} {case.seed}", "what": verdict.text} for case, verdict in found if verdict.outcome == BAD
    ]
    for outcome, count in sorted(outcomes.items()):
        click.echo(f"{count:>6}  {outcome}")
    for problem in problems:
        click.echo(f"{problem['case']}: {problem['what']}")
    record.write(path or record.RESULTS / "fuzz.json", {"outcomes": dict(outcomes), "problems": problems})
    if problems:
        raise click.exceptions.Exit(1)


@dataclass(frozen=True)
class Case:
    kind: str  # "audio" or "voice"
    seed: int


@dataclass(frozen=True)
class Verdict:
    outcome: str
    text: str = ""


FINE, REFUSED, BAD = "converted", "refused", "BAD"


def run(cases: list[Case], voice: Path) -> Iterator[tuple[Case, Verdict]]:
    """Each case with what came of it, tried in a process of its own that is replaced when it hangs or dies."""
    with tempfile.TemporaryDirectory(prefix="moksori fuzz ") as name:
        folder = Path(name)
        worker = _Worker(voice, folder)
        try:
            for number, case in enumerate(cases):
                verdict = worker.verdict(case)
                if verdict.outcome != BAD and number % SAMPLED == 0:
                    verdict = _command(case, voice, folder, verdict)
                yield case, verdict
        finally:
            worker.stop()


class _Worker:
    def __init__(self, voice: Path, folder: Path) -> None:
        self.voice, self.folder = voice, folder
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.voice, self.folder), daemon=True)
        self.process.start()
        theirs.close()

    def verdict(self, case: Case) -> Verdict:
        self.pipe.send(case)
        try:
            if self.pipe.poll(LIMIT_SECONDS):
                found: Verdict = self.pipe.recv()
                return found
            text = f"hangs for more than {LIMIT_SECONDS:g} s"
        except EOFError:
            self.process.join()
            text = f"the process died (exit code {self.process.exitcode})"
        self.stop()
        self._start()
        return Verdict(BAD, text)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection, voice: Path, folder: Path) -> None:
    """Answer each case with its verdict, until killed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders talk about damage
    converter = Converter(Voice.load(voice, "cpu", threads=1))
    whole = folder / "whole.wav"
    soundfile.write(whole, _song(), RATE)
    while True:
        case: Case = pipe.recv()
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        (place / "out").mkdir(parents=True)
        if case.kind == "audio":
            pipe.send(_tried(partial(converter.convert, damaged_audio(place, case.seed)), place))
        else:
            pipe.send(_tried(partial(_with, damaged_voice(voice, place / "voice", case.seed), whole), place))


def _with(voice: Path, source: Path, target: Path) -> None:
    Converter(Voice.load(voice, "cpu", threads=1)).convert(source, target)


def _tried(work: Callable[[Path], Any], place: Path) -> Verdict:
    try:
        work(place / "out" / "a.wav")
        outcome, text = FINE, ""
    except (MoksoriError, OSError) as error:  # svc-run makes one line of either
        outcome, text = REFUSED, str(error)
    except BaseException:
        return Verdict(BAD, traceback.format_exc(limit=-3))
    left = sorted(path.name for path in (place / "out").iterdir())
    if left != (["a.wav"] if outcome == FINE else []):
        return Verdict(BAD, f"{outcome}, and leaves {left}")
    if outcome == FINE and not np.isfinite(soundfile.read(place / "out" / "a.wav")[0]).all():
        return Verdict(BAD, "a result that is no number")
    return Verdict(outcome, text)


def _command(case: Case, voice: Path, folder: Path, expected: Verdict) -> Verdict:
    """The same through svc-run: exit code 0, or 2 with one line."""
    place = folder / "case"
    shutil.rmtree(place / "out")
    source = next(place.glob("song.*")) if case.kind == "audio" else folder / "whole.wav"
    used = voice if case.kind == "audio" else place / "voice"
    command = [sys.executable, "-m", "moksori.runtime.cli", source, "-o", place / "out", "--voice", used]
    try:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, encoding="utf-8", errors="replace", timeout=LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Verdict(BAD, "svc-run hangs")
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    fine = done.returncode == (0 if expected.outcome == FINE else 2) and len(errors) == (expected.outcome == REFUSED)
    if not fine or "Traceback" in done.stderr:
        return Verdict(BAD, f"svc-run, exit code {done.returncode}: {done.stderr[-500:]}")
    return expected


def damaged_audio(place: Path, seed: int) -> Path:
    """One recording with one to four kinds of damage; now and then its suffix tells another format."""
    rng = np.random.default_rng(seed)
    suffix = str(rng.choice(list(KINDS)))
    container, subtype = KINDS[suffix]
    whole = place / f"whole.{suffix}"
    soundfile.write(whole, np.tile(_song()[:, None], int(rng.integers(1, 3))), RATE, format=container, subtype=subtype)
    data = mutated(whole.read_bytes(), rng)
    whole.unlink()
    named = place / f"song.{rng.choice(list(KINDS)) if rng.random() < 0.1 else suffix}"
    named.write_bytes(data)
    return named


def damaged_voice(voice: Path, target: Path, seed: int) -> Path:
    """A copy of a voice with a damaged manifest or graph; half of the graphs have their new hash in the manifest."""
    rng = np.random.default_rng(seed)
    target.mkdir()
    for path in voice.iterdir():
        if path.is_file():
            _link(path, target / path.name)
    manifest = target / "voice.json"
    how = rng.choice(["bytes", "value", "graph", "told graph", "missing"])
    if how == "bytes":
        _replace(manifest, mutated(manifest.read_bytes(), rng))
    elif how == "value":
        _replace(manifest, json.dumps(_changed(files.read_json(manifest), rng)).encode())
    else:
        graph = target / f"{rng.choice(['content', 'pitch', 'condition', 'denoiser', 'vocoder'])}.onnx"
        if how == "missing":
            graph.unlink()
            return target
        data = mutated(graph.read_bytes(), rng)
        _replace(graph, data)
        if how == "told graph" and data:
            said = files.read_json(manifest)
            said["files"][graph.stem] |= {"sha256": files.sha256(graph), "bytes": len(data)}
            _replace(manifest, json.dumps(said).encode())
    return target


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes flipped, cut off, zeroed, repeated, left out or made up; mostly near the begin, where headers are."""
    made = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        length = len(made)
        if not length:
            break
        reach = length if rng.random() < 0.5 else min(length, 128)
        at, count = int(rng.integers(reach)), int(rng.integers(1, 64))
        match int(rng.integers(6)):
            case 0:
                made[at] ^= 1 << int(rng.integers(8))
            case 1:
                del made[max(at, 1) :]
            case 2:
                made[at : at + count] = bytes(len(made[at : at + count]))
            case 3:
                made[at:at] = made[at : at + count]
            case 4:
                del made[at : at + count]
            case _:
                made[at : at + count] = rng.bytes(len(made[at : at + count]))
    return bytes(made)


STRANGE: tuple[Any, ...] = (None, 0, -1, 1e308, "", "../../x", [], {}, True, 2**63, "가" * 1000, [[[[]]]], float("inf"))


def _changed(value: Any, rng: np.random.Generator) -> Any:
    """JSON with one value, somewhere in it, replaced or gone."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = str(rng.choice(list(value)))
        if rng.random() < 0.1:
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = int(rng.integers(len(value)))
        return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    return STRANGE[int(rng.integers(len(STRANGE)))]


def _song() -> np.ndarray[Any, np.dtype[np.float32]]:
    time = np.arange(round(SECONDS * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 220 * time) * np.sin(np.pi * time / SECONDS)).astype(np.float32)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _replace(path: Path, data: bytes) -> None:
    """A new file, since the old one may be a link to the voice's own."""
    path.unlink()
    path.write_bytes(data)


if __name__ == "__main__":
    main()
