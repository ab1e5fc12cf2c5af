"""What a denoiser sounds like while it learns: a song sung at every validation, and clips of others judged."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from moksori.runtime import Converter, Options, audio
from moksori.runtime import key as keys
from moksori.runtime.errors import MoksoriError, OptionError
from moksori.runtime.files import sha256_of
from moksori.runtime.key import Heights, Range
from moksori.runtime.options import Key
from moksori.train import corpus, heldout, measures
from moksori.train.checkpoint import Ranking, State
from moksori.train.dataset import PreparedData
from moksori.train.judge import Clip, Judge, Verdict, score
from moksori.train.loop import Watch
from moksori.train.measures import RATE, SILENCE, Recogniser, Sound, pitch
from moksori.train.singer import Singer

SCORE = "judge/score"
PREVIEWS = "previews"  # folder in RUN_DIR
REFERENCES = 6  # recordings that stand for the target
FIGURES = ("similarity", "source_similarity", "off_pitch", "voicing", "error_rate")


@dataclass(frozen=True)
class Audition:
    """What is to be heard at each validation, as ``speaker`` (whom training hears most), ``key`` semitones up."""

    preview: Path | None = None  # a song
    judge: Path | None = None  # a folder of clips of other speakers; else held-out ones are taken
    recogniser: Path | None = None  # a Whisper model for CTranslate2; without one, words are not judged
    speaker: str | None = None
    key: Key = "auto"
    by_loss: bool = False  # judge nothing

    def hearing(self, role: str, config: Any, data: PreparedData, run_dir: Path, console: Console) -> Hearing:
        """What the loop is to call while a ``role`` is trained by ``config``; it is said how checkpoints are ranked.

        Where nobody asked for a judgement and none is possible, they are ranked by loss.

        Raises:
            OptionError: another role than the denoiser, no such speaker, no clips, or no vocoder yet.
            MoksoriError: a clip cannot be read, or a package that measures is missing.
        """
        judging = self.judge is not None or self.recogniser is not None
        if role != "denoiser":
            if judging or self.preview is not None:
                raise OptionError(f"--preview and --judge are for svc-train denoiser, not for {role}")
            return Hearing()
        if judging and self.by_loss:
            raise OptionError("--by-loss judges nothing: leave it or --judge and --recogniser out")
        speaker = self.speaker or data.speakers[int(np.argmax(data.balance(config.speaker_weights)))]
        if speaker not in data.speakers:
            raise OptionError(f"the data has no speaker '{speaker}'; it has {', '.join(data.speakers)}")
        options = Options(speaker=speaker, key=self.key, depth=config.objective.depth)
        watches: list[Watch] = []
        if self.preview is not None:
            audio.info(self.preview)  # refuses what cannot be read now, not at the first validation
            watches.append(Preview(Singer(data, config, run_dir), self.preview, options, run_dir / PREVIEWS))
        if self.by_loss:
            return Hearing(watches)
        try:
            judged = self._judged(data, config, run_dir, options)
        except MoksoriError as error:
            if judging:
                raise
            console.print(f"checkpoints are ranked by loss alone, which says little of how they sing: {error}")
            return Hearing(watches)
        console.print(f"checkpoints are ranked by {judged.said}")
        return Hearing([*watches, judged], judged.ranking)

    def _judged(self, data: PreparedData, config: Any, run_dir: Path, options: Options) -> Judged:
        measures.check()
        singer = Singer(data, config, run_dir)
        recogniser = Recogniser(self.recogniser) if self.recogniser is not None else None
        speaker = str(options.speaker)
        if self.judge is not None:
            return Judged(singer, clips(self.judge), options, recogniser)
        found = heldout.of_others(data, speaker) or heldout.of_the_demo(data, speaker, run_dir)
        return Judged(singer, found, options, recogniser)


@dataclass(frozen=True)
class Hearing:
    """What is called after each validation, and what that ranks checkpoints by, if it does."""

    watches: Sequence[Watch] = ()
    ranking: Ranking | None = None


class Preview:
    """Sings one song into ``folder/step-<step>.wav`` and TensorBoard."""

    def __init__(self, singer: Singer, song: Path, options: Options, folder: Path) -> None:
        self.singer, self.song, self.options, self.folder = singer, song, options, folder

    def __call__(self, state: State, writer: SummaryWriter) -> dict[str, float]:
        target = self.folder / f"step-{state.step:08d}.wav"
        voice = self.singer.voice(state.averaged, self.singer.vocoder())
        Converter(voice, self.options).convert(self.song, target)
        sound = Sound.read(target)
        writer.add_audio(f"preview/{self.song.stem}", torch.from_numpy(sound.samples), state.step, sound.rate)
        return {}


class Judged:
    """Converts clips and measures them (train/judge.py); the score is what ``best.json`` is chosen by.

    Args:
        paths: clips by name; all are converted with the vocoder there is now, so that scores can be compared.
        recogniser: without one, words are not judged.
    Raises:
        MoksoriError: a clip cannot be read or is silent, or a package that measures is missing.
    """

    def __init__(
        self, singer: Singer, paths: Mapping[str, Path], options: Options, recogniser: Recogniser | None
    ) -> None:
        self.singer, self.options, self.paths, self.vocoder = singer, options, paths, singer.vocoder()
        speaker, data = str(options.speaker), singer.data
        goal = span(data, speaker)
        listed = [_clip(name, path, speaker, options.key, goal) for name, path in paths.items()]
        self.judge = Judge(listed, {speaker: references(data, speaker)}, recogniser)
        measured = "similarity and pitch" if recogniser is None else "similarity, pitch and words"
        self.said = f"the {measured} of {len(listed)} clips, sung as {speaker}: {', '.join(paths)}"
        known = [(clip.name, clip.key, len(clip.sound.samples)) for clip in listed]
        self.ranking = Ranking(SCORE, sha256_of(repr((self.said, known, self.vocoder.name)).encode())[:16], False)

    def __call__(self, state: State, writer: SummaryWriter) -> dict[str, float]:
        voice = self.singer.voice(state.averaged, self.vocoder)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "clip.wav")

            def convert(clip: Clip) -> Sound:
                Converter(voice, replace(self.options, key=clip.key)).convert(self.paths[clip.name], target)
                return Sound.read(target)

            return figures(self.judge.verdict(convert))


def figures(verdict: Verdict) -> dict[str, float]:
    """A verdict as metrics; what was not judged is left out."""
    found = {SCORE: score(verdict), **{f"judge/{name}": float(getattr(verdict, name)) for name in FIGURES}}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def clips(folder: Path) -> dict[str, Path]:
    """The audio files in a folder of any depth, by name; OptionError when there is none."""
    found = sorted(path for path in folder.rglob("*") if corpus.is_audio(path))
    if not found:
        raise OptionError(f"{folder} holds no audio to judge by: put some clips of other speakers there")
    return {path.relative_to(folder).as_posix(): path for path in found}


def references(data: PreparedData, speaker: str) -> list[Sound]:
    """Recordings of a speaker, those first that no training heard."""
    number = data.speakers.index(speaker)
    pieces = [piece for piece in (*data.validation, *data.training) if piece.speaker == number]
    return [Sound.read(data.recording(piece)) for piece in pieces[:REFERENCES]]


def span(data: PreparedData, speaker: str) -> Range:
    """The range of a speaker of the data."""
    known = data.facts["speakers"][data.speakers.index(speaker)]
    return Range(*(float(known[name]) for name in ("f0_low", "f0_median", "f0_high")))


def suited(sound: Sound, goal: Range, word: str = "auto") -> float:
    """Semitones that bring a recording into a range, as svc-run's key of that word."""
    heights, f0 = Heights(), pitch(sound.at(RATE)).astype(np.float32)
    heights.add(f0, f0 > 0)
    return keys.WORDS[word](heights, goal)


def _clip(name: str, path: Path, speaker: str, key: Key, goal: Range) -> Clip:
    sound = Sound.read(path)
    if not len(sound.samples) or np.abs(sound.samples).max() < SILENCE:
        raise OptionError(f"{path} is silent, and nothing can be judged by it: take it away")
    return Clip(name, sound, speaker, suited(sound, goal, key) if isinstance(key, str) else key)
