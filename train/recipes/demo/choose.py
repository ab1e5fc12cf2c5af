"""Which checkpoint to ship: each sings clips that no training heard, as the targets, and is judged."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from moksori.export.voice import About, Choices, export_voice
from moksori.runtime import Converter, Options, Voice
from moksori.runtime.files import read_json, write_json
from moksori.train import checkpoint
from moksori.train.judge import Clip, Judge, Verdict, score
from moksori.train.measures import Recogniser, Sound

NEWEST = 3  # checkpoints that are judged
CLIPS = 2  # of each held-out speaker
SPOKEN = {"ast_en": "en", "ast_es": "es", "ast_ru": "ru"}  # folder of a held-out speaker -> language
KEYS = {"heart": 2.0, "f001": 10.0}  # semitones, as --key speech takes for these speakers
REFERENCES = 6


@dataclass(frozen=True)
class Heldout:
    """Recordings that no training saw: ``work/heldout/<speaker>``."""

    folder: Path

    def sounds(self, speaker: str, count: int) -> list[Sound]:
        return [Sound.read(path) for path in self.paths(speaker, count)]

    def paths(self, speaker: str, count: int) -> list[Path]:
        return sorted((self.folder / speaker).iterdir())[:count]


def choose(run: Path, work: Path, speakers: Sequence[str], about: About) -> int:
    """Judge the newest denoiser checkpoints and write ``best.json``; returns the chosen step."""
    folder = run / "denoiser"
    known = folder / "verdicts.json"
    verdicts: dict[str, dict[str, float]] = read_json(known) if known.exists() else {}
    clips, judge = _judge(work, speakers)
    for step in checkpoint.steps(folder)[-NEWEST:]:
        if str(step) in verdicts:
            continue
        shutil.rmtree(run / "reflow", ignore_errors=True)  # straightened from another, and export would take it
        verdict = _verdict(run, work / "candidate", step, speakers, about, clips, judge)
        verdicts[str(step)] = _figures(verdict)
        write_json(known, verdicts)
        click.echo(f"step {step}: " + "  ".join(f"{name} {value:.3f}" for name, value in verdicts[str(step)].items()))
    best = max(verdicts, key=lambda step: verdicts[step]["score"])
    write_json(folder / checkpoint.BEST, {"step": int(best), **verdicts[best]})
    return int(best)


def _judge(work: Path, speakers: Sequence[str]) -> tuple[dict[str, Path], Judge]:
    held = Heldout(work / "heldout")
    paths, clips = {}, []
    for target in speakers:
        for source, language in SPOKEN.items():
            for path in held.paths(source, CLIPS):
                name = f"{path.stem} to {target}"
                paths[name] = path
                clips.append(Clip(name, Sound.read(path), target, KEYS[target], language))
    references = {speaker: held.sounds(speaker, REFERENCES) for speaker in speakers}
    return paths, Judge(clips, references, Recogniser(work / "teacher"))


def _verdict(
    run: Path,
    candidate: Path,
    step: int,
    speakers: Sequence[str],
    about: About,
    paths: dict[str, Path],
    judge: Judge,
) -> Verdict:
    best = run / "denoiser" / checkpoint.BEST
    write_json(best, {"step": step})  # what export takes
    export_voice(run, candidate, Choices("candidate", tuple(speakers), force=True), about)
    voice = Voice.load(candidate, "cpu")

    def convert(clip: Clip) -> Sound:
        target = candidate.parent / "candidate.wav"
        Converter(voice, Options(speaker=clip.speaker, key=clip.key)).convert(paths[clip.name], target)
        return Sound.read(target)

    verdict = judge.verdict(convert)
    shutil.rmtree(candidate)
    return verdict


def _figures(verdict: Verdict) -> dict[str, float]:
    names = ("similarity", "source_similarity", "cents", "off_pitch", "voicing", "error_rate")
    return {"score": score(verdict), **{name: float(getattr(verdict, name)) for name in names}}
