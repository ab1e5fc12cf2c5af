"""What svc-prepare promises, measured: a messy folder twice, memory at two lengths, and kills at random moments."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile

from moksori.benchmarks import record
from moksori.runtime import audio
from moksori.runtime.command import Command, Failure
from moksori.runtime.errors import OptionError
from moksori.runtime.files import read_json

CLIP = Path(__file__).resolve().parent.parent / "tests" / "data" / "vocadito_10.flac"
SHORT_SECONDS = 360.0
MEMORY_CACHES = {"f0": ("--cache", "f0"), "units": ("--cache", "units", "--perturb", "1")}
# Name, rate, channels: what a folder may well hold.
FILES = (
    ("민지 🎤/노래 하나.wav", 44_100, 2),
    ("민지 🎤/deep/er/take 2.flac", 48_000, 1),
    ("민지 🎤/phone.ogg", 16_000, 1),
    ("bob/voice memo.opus", 48_000, 1),
    ("bob/old.mp3", 22_050, 1),
    ("bob/eight channels.wav", 96_000, 8),
    ("bob/telephone.wav", 8_000, 1),
    ("bob/phone.m4a", 44_100, 2),
    ("bob/clip.mp4", 48_000, 2),
    ("bob/raw.aac", 44_100, 1),
    ("bob/stream.mkv", 32_000, 1),
    ("bob/browser.webm", 48_000, 1),
)
CODECS = {".m4a": "aac", ".mp4": "aac", ".aac": "aac", ".mkv": "aac", ".webm": "libopus"}
CONTAINERS = {".m4a": "mp4", ".mkv": "matroska", ".aac": "adts"}


@dataclass(frozen=True)
class Plan:
    """What to measure with: a folder for it, processes, kills, seconds of the long file, seconds for the stages."""

    work: Path
    jobs: int
    kills: int
    long_seconds: float
    stage_seconds: tuple[float, ...]


@click.command(cls=Command, extra="video")
@click.argument("parts", nargs=-1)
@click.option("--kills", type=click.IntRange(0), default=20, show_default=True, help="How often to kill -9 a run.")
@click.option("--long", "long_seconds", default=10_800.0, show_default=True, help="Seconds of the long file.")
@click.option(
    "--stages", "stage_seconds", multiple=True, default=(102.0, 7200.0), type=float, show_default=True,
    help="Seconds of audio to time the stages on."
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="As for svc-prepare.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=record.RESULTS, show_default=True, help="Of the JSON files."
)
def main(
    parts: tuple[str, ...], kills: int, long_seconds: float, stage_seconds: tuple[float, ...], jobs: int, folder: Path
) -> None:
    """Measure PARTS of svc-prepare (messy, kills, memory, stages; by default all) and write a JSON file of each."""
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise OptionError(f"there is no part '{min(unknown)}'; choose {', '.join(PARTS)}")
    for part in parts or PARTS:
        with tempfile.TemporaryDirectory() as work:
            results = PARTS[part](Plan(Path(work), jobs, kills, long_seconds, stage_seconds))
        path = folder / f"prepare-{part}.json"
        record.write(path, {"jobs": jobs, **results})
        click.echo(f"{path}: {results}")


def messy(plan: Plan) -> dict[str, Any]:
    """Prepare a messy folder with a long file in it twice: seconds, bytes by product, and what was skipped."""
    source, target, options = plan.work / "messy", plan.work / "data", ("--jobs", str(plan.jobs))
    build(source)
    loop(source / "bob" / "rehearsal.flac", plan.long_seconds)
    first, said = prepare(source, target, *options)
    before = digest(target)
    second, again = prepare(source, target, *options)
    data = read_json(target / "data.json")
    seconds = sum(piece["seconds"] for piece in data["slices"])
    return {
        "files": len(FILES) + 3,
        "slices": len(data["slices"]),
        "audio_seconds": seconds,
        "skipped": [line.rpartition("/")[2] for line in said if line.startswith("skipped: ")],
        "seconds": first["seconds"],
        "peak_memory_mb": first["peak_memory_mb"],
        "second_run_seconds": second["seconds"],
        "second_run_did_nothing": any("nothing to do" in line for line in again) and digest(target) == before,
        "bytes": data["bytes"],
        "f0_bytes_a_second": data["bytes"]["f0"] / seconds,
    }


def kills(plan: Plan) -> dict[str, Any]:
    """Kill a run at random moments, let it end, and compare its bytes with those of an undisturbed one."""
    source, options = plan.work / "messy", ("--jobs", str(plan.jobs))
    build(source)
    whole, _ = prepare(source, plan.work / "data", *options)
    expected, chance = digest(plan.work / "data"), random.Random(0)
    same = halfway = 0
    for number in range(plan.kills):
        target = plan.work / f"data {number}"
        with subprocess.Popen(
            command(source, target, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            time.sleep(chance.uniform(0.1, 1.0) * whole["seconds"])
            process.kill()
        halfway += any(target.rglob("*.flac")) and not (target / "data.json").exists()
        prepare(source, target, *options)
        same += digest(target) == expected
        shutil.rmtree(target)
        click.echo(f"kill {number + 1} of {plan.kills}: the same bytes {same} times", err=True)
    return {"kills": plan.kills, "killed_halfway": halfway, "same_bytes_in_the_end": same}


def memory(plan: Plan) -> dict[str, Any]:
    """Peak resident size of all processes together for a short and a long file, with f0 only and with units."""
    lengths = {"short": SHORT_SECONDS, "long": plan.long_seconds}
    for name, seconds in lengths.items():
        loop(plan.work / name / "loop.flac", seconds)
    found: dict[str, Any] = {}
    for cache, options in MEMORY_CACHES.items():
        peaks: dict[str, Any] = {}
        for name, seconds in lengths.items():
            target = plan.work / f"data-{cache}-{name}"
            peaks[name], _ = prepare(plan.work / name, target, *options, "--jobs", str(plan.jobs))
            peaks[name]["audio_seconds"] = seconds
            shutil.rmtree(target)
            click.echo(f"--cache {cache}, {seconds:g} s: {peaks[name]}", err=True)
        found[cache] = {**peaks, "ratio": peaks["long"]["peak_memory_mb"] / peaks["short"]["peak_memory_mb"]}
    return found


def stages(plan: Plan) -> dict[str, Any]:
    """Seconds and bytes by stage at 44.1 kHz with everything cached, units of the audio itself only."""
    found = {}
    for seconds in plan.stage_seconds:
        name = f"{seconds:g} s"
        loop(plan.work / name / "loop.flac", seconds)
        options = ("--rate", "44100", "--cache", "all", "--perturb", "0", "--jobs", str(plan.jobs))
        took, said = prepare(plan.work / name, plan.work / f"data {name}", *options)
        line = next(line for line in said if line.startswith("core seconds: ")).partition(": ")[2]
        spent = {stage: float(amount) for stage, amount in (part.split() for part in line.split(", "))}
        sizes = read_json(plan.work / f"data {name}" / "data.json")["bytes"]
        found[name] = {**took, "core_seconds": spent, "bytes": sizes}
    return found


PARTS: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "messy": messy,
    "kills": kills,
    "memory": memory,
    "stages": stages,
}


def build(folder: Path) -> None:
    """Write the messy folder: every format, a damaged file, a text with the name of a song."""
    once = audio.read(CLIP, 48_000)
    for number, (name, rate, channels) in enumerate(FILES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path.with_suffix(".tmp.wav"), np.roll(once, 4801 * number), 48_000, subtype="FLOAT")
        samples = audio.read(path.with_suffix(".tmp.wav"), rate)
        path.with_suffix(".tmp.wav").unlink()
        signal = np.stack([samples] * channels, 1)
        if path.suffix in CODECS:
            encode(path, signal, rate)
        elif path.suffix == ".opus":
            soundfile.write(path, signal, rate, format="OGG", subtype="OPUS")
        else:
            with soundfile.SoundFile(path, "w", rate, channels) as file:
                for start in range(0, len(signal), 8192):
                    file.write(signal[start : start + 8192])
    whole = (folder / "bob" / "eight channels.wav").read_bytes()
    (folder / "bob" / "corrupt.wav").write_bytes(whole[:20])
    (folder / "bob" / "text.mp3").write_text("not audio", encoding="utf-8")


def encode(path: Path, signal: np.ndarray, rate: int) -> None:
    """Write [n, channels] with PyAV."""
    import av

    layout = {1: "mono", 2: "stereo"}[signal.shape[1]]
    with av.open(str(path), "w", format=CONTAINERS.get(path.suffix)) as container:
        stream: Any = container.add_stream(CODECS[path.suffix], rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(signal.T), format="fltp", layout=layout)
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def loop(path: Path, seconds: float) -> None:
    """Write the clip over and over, block by block."""
    rate = audio.info(CLIP).rate
    once = audio.read(CLIP, rate)
    with audio.Writer(path, rate, "flac", subtype="PCM_16") as file:
        while file.samples < seconds * rate:
            file.write(once)


def prepare(source: Path, target: Path, *options: str) -> tuple[dict[str, float], list[str]]:
    """Run svc-prepare in a process of its own: seconds and peak memory, and the lines that it wrote."""
    import psutil

    began, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        with subprocess.Popen(command(source, target, *options), stdout=said, stderr=said) as process:
            root = psutil.Process(process.pid)
            while process.poll() is None:
                peak = max(peak, sum(map(_resident, [root, *_children(root)])))
                time.sleep(0.05)
        seconds = time.perf_counter() - began
        said.seek(0)
        lines = said.read().splitlines()
    if process.returncode:
        raise Failure(f"svc-prepare failed: {lines[-1] if lines else process.returncode}")
    return {"seconds": seconds, "peak_memory_mb": peak / 1e6}, lines


def command(source: Path, target: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "moksori.train.prepare", str(source), str(target), "--device", "cpu", *options]


def digest(folder: Path) -> str:
    """One hash of the names and bytes of all files in a folder."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def _children(process: Any) -> list[Any]:
    import psutil

    try:
        found: list[Any] = process.children(recursive=True)
    except psutil.Error:
        found = []
    return found


def _resident(process: Any) -> int:
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
