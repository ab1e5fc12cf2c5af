"""A tour of svc-run: one command over a messy album, stopped by Ctrl-C and by a kill, continued, and all checked."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from moksori.benchmarks import record
from moksori.runtime import audio, curve, jobs, pitch, tags
from moksori.runtime.key import INSIDE, NEAR, Heights, mixed
from moksori.runtime.lufs import Meter
from moksori.runtime.pitch import Tracker
from moksori.runtime.voice import Voice

SONG = Path(__file__).resolve().parent.parent / "tests" / "data" / "vocadito_10.flac"
KEY = 12.0
LOUDNESS = -20.0
WITHIN = {"seconds": 0.06, "lufs": 0.5, "cents": 15.0, "curve_cents": 10.0}
CLIP_KEYS = (-9, -7, -5, -3, 0, 2, 4, 6, 8, 10)  # ten clips at these semitones
Samples = NDArray[np.float32]


@click.command()
@click.option("--minutes", type=float, default=20.0, show_default=True, help="Length of a long track; 0 for none.")
@click.option("--speech", type=click.Path(path_type=Path), help="A recording of speech to put into the album.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=record.RESULTS / "tour.json", show_default=True, help="JSON."
)
def main(minutes: float, speech: Path | None, out: Path) -> None:
    """Convert an album as people have them, and check every result.

    As in: python -m moksori.benchmarks.tour --speech talk.flac
    """
    voice = Voice.load("demo", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        report: dict[str, Any] = {"album": tour(voice, root / "앨범 🎤", root / "out", minutes, speech)}
        report |= {"auto_key": auto_key(voice, root / "clips"), "edited_f0": edited(voice, root / "edited")}
    record.write(out, {"within": WITHIN, **report})
    click.echo(json.dumps(report, indent=2, ensure_ascii=False))


def tour(voice: Voice, songs: Path, out: Path, minutes: float, speech: Path | None) -> dict[str, Any]:
    """One command, interrupted twice, then finished; what came of each file."""
    good, bad = album(songs, minutes, speech)
    command = [songs, "-o", out, "--recursive", "--key", KEY, "--loudness", LOUDNESS, "--format", "flac"]
    command += ["--device", "cpu", "--json"]
    stopped = [_stopped(command, out, signal.SIGINT, 1), _stopped(command, out, signal.SIGKILL, 2)]
    left = [path.name for path in out.rglob("*") if path.is_file() and not path.name.endswith("_demo_+12.flac")]
    began = time.perf_counter()
    done = _svc_run(*command)
    seconds = time.perf_counter() - began
    told = json.loads(done.stdout)
    failed = {Path(one["source"]).name: one["error"] for one in told["results"] if "error" in one}
    checked = [check(voice, Path(one["source"]), Path(one["target"])) for one in told["results"] if "error" not in one]
    assert set(failed) == bad, f"other files failed: {failed}"
    assert {one["source"] for one in checked} == {path.name for path in good} and done.returncode == 2
    assert stopped[0]["exit_code"] == 130 and told["skipped"] >= stopped[1]["finished"] >= stopped[0]["finished"] >= 1
    assert not left, f"an interrupted run left {left}"
    again = json.loads(_svc_run(*command).stdout)
    assert (again["skipped"], again["converted"]) == (len(good), 0)
    return {"stopped": stopped, "seconds_of_the_rest": round(seconds, 1), "failed": failed, "results": checked}


def album(songs: Path, minutes: float, speech: Path | None) -> tuple[set[Path], set[str]]:
    """Write the album; the files that can be converted, and the names of those that cannot."""
    song, rate = soundfile.read(SONG, dtype="float32")
    make: dict[str, Callable[[Path], object]] = {
        "01 바람.flac": partial(_save, samples=song, rate=rate),
        "02 a b (live).wav": partial(_save, samples=song[: 5 * rate], rate=rate, to=8_000),
        "disc 2/🎵 star.ogg": partial(_save, samples=song[: 5 * rate], rate=rate, to=48_000),
        "disc 2/stereo.wav": partial(_save, samples=np.stack([song[: 4 * rate], 0.5 * song[: 4 * rate]], 1), rate=rate),
        "disc 2/CON.mp3": partial(_save, samples=song[: 5 * rate], rate=rate),
        "disc 2/조용히.opus": partial(_save, samples=song[: 4 * rate], rate=rate, to=16_000),
        "quiet.wav": partial(_save, samples=0.003 * song[: 4 * rate], rate=rate),
        "studio.wav": partial(_save, samples=song[: 4 * rate], rate=rate, to=96_000),
    }
    if minutes:
        long = np.tile(song, round(60 * minutes * rate / len(song)))
        make["long/track.flac"] = partial(_save, samples=long, rate=rate)
    if speech:
        make[f"말/{speech.name}"] = partial(shutil.copy, speech)
    for name, write in make.items():
        (songs / name).parent.mkdir(parents=True, exist_ok=True)
        write(songs / name)
    (songs / "broken.mp3").write_bytes(b"\0" * 5000)
    (songs / "notes.txt").write_text("not music", encoding="utf-8")
    soundfile.write(songs / "silence.wav", np.zeros(3 * rate), rate)
    return {songs / name for name in make}, {"broken.mp3", "silence.wav"}


def check(voice: Voice, source: Path, target: Path) -> dict[str, Any]:
    """Length, loudness, pitch, tags and name of one result; an AssertionError names what is off."""
    seconds = audio.info(target).seconds - audio.info(source).seconds
    lufs = loudness(target) - LOUDNESS
    cents, share = distance(voice, source, target, KEY)
    fields = tags.read(target)
    found = {"source": source.name, "seconds": seconds, "lufs": lufs, "cents": cents, "voiced_in_both": share}
    assert abs(seconds) <= WITHIN["seconds"] and abs(lufs) <= WITHIN["lufs"], found
    assert cents <= WITHIN["cents"] and share >= 0.7, found
    assert "voice=demo@" in fields["comment"] and "key=+12" in fields["comment"] and fields["software"], fields
    assert target.name.endswith(f"{source.stem}_demo_+12.flac"), target
    return found


def distance(voice: Voice, source: Path, target: Path, key: float) -> tuple[float, float]:
    """Median cents between a result and its source moved by ``key``, and how much of the source's voicing it keeps."""
    tracker = _tracker(voice)
    (_, f0, sure), (_, sung, heard) = (_heard(path, tracker) for path in (source, target))
    count = min(len(f0), len(sung))
    both = sure[:count] & heard[:count]
    cents = 1200 * np.abs(np.log2(sung[:count][both] / f0[:count][both]) - key / 12)
    return float(np.median(cents)), float(both.sum() / max(1, sure[:count].sum()))


def auto_key(voice: Voice, folder: Path) -> list[dict[str, Any]]:
    """Ten clips that lie at ten heights, brought by ``--key auto`` into a speaker's range."""
    song, rate = soundfile.read(SONG, dtype="float32")
    goal = mixed(voice.manifest.speakers, voice.speaker_weights("heart"))
    for at, semitones in enumerate(CLIP_KEYS):
        start = at * rate // 2
        # Played faster or slower: what is heard is a smaller or larger singer.
        moved = soxr.resample(song[start : start + 3 * rate], 2 ** (semitones / 12) * rate, rate)
        _save(folder / f"{at}.wav", moved.astype(np.float32), rate)
    told = json.loads(_svc_run(folder, "-o", folder / "out", "--key", "auto", "--json", "--device", "cpu").stdout)
    rows = []
    for one in told["results"]:
        heights = Heights()
        _, f0, voiced = _heard(Path(one["target"]), _tracker(voice))
        heights.add(f0, voiced)
        share, away = heights.inside(goal, 0), heights.outside(goal, 0)
        assert share >= INSIDE - 0.05 or away < NEAR + 0.1, (one["source"], share, away)
        rows.append({"clip": Path(one["source"]).name, "key": one["key"], "inside": share, "semitones_outside": away})
    return rows


def edited(voice: Voice, folder: Path) -> dict[str, float]:
    """Export the curve, bend it, give it back: how far the result is from what was asked."""
    asked = folder / "편집.csv"
    folder.mkdir()
    _svc_run(SONG, "-o", folder / "a.wav", "--key", KEY, "--save-f0", "--device", "cpu")
    track = curve.read(folder / "a.f0.csv")
    bent = track.f0 * 2 ** (0.25 * np.sin(2 * np.pi * track.times / 3)).astype(np.float32)
    curve.write(asked, track.times, bent, track.confidence > 0)
    _svc_run(SONG, "-o", folder / "b.wav", "--f0", asked, "--device", "cpu")
    times, sung, voiced = _heard(folder / "b.wav", _tracker(voice))
    wanted, known = pitch.at_times(curve.read(asked), times, pitch.Options())
    cents = 1200 * np.abs(np.log2(sung / wanted))[voiced & known]
    assert np.median(cents) <= WITHIN["curve_cents"], float(np.median(cents))
    return {"median_cents": float(np.median(cents)), "within_50_cents": float(np.mean(cents < 50))}


def loudness(path: Path) -> float:
    """LUFS of a file, read in blocks."""
    with soundfile.SoundFile(path) as file:
        meter = Meter(file.samplerate)
        for block in file.blocks(1 << 16):
            meter.push(block)
    return meter.integrated()


def _tracker(voice: Voice) -> Tracker:
    spec = voice.manifest.pitch
    return Tracker(voice.pitch, spec.kind, spec.fmin, spec.fmax, spec.options)


def _heard(path: Path, tracker: Tracker) -> tuple[NDArray[np.float64], Samples, NDArray[np.bool_]]:
    parts = list(curve.heard(audio.blocks(path, pitch.RATE), tracker))
    times, f0, confidence = (np.concatenate(part) for part in zip(*parts, strict=True))
    return times, f0, confidence >= tracker.options.threshold


def _save(path: Path, samples: Samples, rate: int, to: int | None = None) -> None:
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with audio.Writer(path, to or rate, path.suffix[1:], channels=channels) as file:
        file.write(soxr.resample(samples, rate, to) if to else samples)


def _command(*words: object) -> list[str]:
    return [sys.executable, "-m", "moksori.runtime.cli", *map(str, words)]


def _svc_run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(*words), capture_output=True, encoding="utf-8")


def _stopped(words: list[object], out: Path, by: signal.Signals, after: int) -> dict[str, Any]:
    """Run until so many results lie there, then stop it; how it ended and what is finished."""
    process = subprocess.Popen(_command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    while process.poll() is None and _finished(out) < after:
        time.sleep(0.05)
    process.send_signal(by)
    return {"by": by.name, "exit_code": process.wait(timeout=300), "finished": _finished(out)}


def _finished(out: Path) -> int:
    return sum(not jobs.LEFTOVER.fullmatch(path.name) for path in out.rglob("*.flac"))


if __name__ == "__main__":
    main()
