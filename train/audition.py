"""What a denoiser sounds like while it learns: a song sung at every validation, and clips of others judged."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from moksori.runtime import Converter, Options, audio
from moksori.runtime.errors import OptionError
from moksori.train import corpus
from moksori.train.checkpoint import SCORE, State
from moksori.train.dataset import PreparedData
from moksori.train.judge import Clip, Judge, Verdict, score
from moksori.train.loop import Watch
from moksori.train.measures import Recogniser, Sound
from moksori.train.singer import Singer

PREVIEWS = "previews"  # folder in RUN_DIR
REFERENCES = 6  # recordings that stand for the target
FIGURES = ("similarity", "source_similarity", "off_pitch", "voicing", "error_rate")


@dataclass(frozen=True)
class Audition:
    """What is to be heard at each validation, as ``speaker`` (the data's first), ``key`` semitones up."""

    preview: Path | None = None  # a song
    judge: Path | None = None  # a folder of clips of other speakers
    recogniser: Path | None = None  # a Whisper model for CTranslate2; without one, words are not judged
    speaker: str | None = None
    key: float = 0.0

    def watches(self, role: str, config: Any, data: PreparedData, run_dir: Path) -> list[Watch]:
        """What the loop calls after each validation of a ``role`` that is trained by ``config``.

        Raises:
            OptionError: another role than the denoiser, no such speaker, no clips, or no vocoder yet.
            MoksoriError: a clip cannot be read, or a package that measures is missing.
        """
        if self.preview is None and self.judge is None:
            return []
        if role != "denoiser":
            raise OptionError(f"--preview and --judge are for the denoiser; the {role} alone makes no voice")
        singer = Singer(data, config, run_dir)
        options = Options(speaker=self.speaker or data.speakers[0], key=self.key, depth=singer.objective.depth)
        if options.speaker not in data.speakers:
            raise OptionError(f"the data has no speaker '{options.speaker}'; it has {', '.join(data.speakers)}")
        watches: list[Watch] = []
        if self.preview is not None:
            audio.info(self.preview)  # refuses what cannot be read now, not at the first validation
            watches.append(Preview(singer, self.preview, options, run_dir / PREVIEWS))
        if self.judge is not None:
            recogniser = Recogniser(self.recogniser) if self.recogniser is not None else None
            watches.append(Judged(singer, clips(self.judge), options, recogniser))
        return watches


class Preview:
    """Sings one song into ``folder/step-<step>.wav`` and TensorBoard."""

    def __init__(self, singer: Singer, song: Path, options: Options, folder: Path) -> None:
        self.singer, self.song, self.options, self.folder = singer, song, options, folder

    def __call__(self, state: State, writer: SummaryWriter) -> dict[str, float]:
        target = self.folder / f"step-{state.step:08d}.wav"
        Converter(self.singer.voice(state.averaged), self.options).convert(self.song, target)
        sound = Sound.read(target)
        writer.add_audio(f"preview/{self.song.stem}", torch.from_numpy(sound.samples), state.step, sound.rate)
        return {}


class Judged:
    """Converts clips and measures them (train/judge.py); the score is what ``best.json`` is chosen by."""

    def __init__(self, singer: Singer, paths: list[Path], options: Options, recogniser: Recogniser | None) -> None:
        self.singer, self.options = singer, options
        speaker = str(options.speaker)
        self.paths = {str(path): path for path in paths}
        key = float(options.key)
        listed = [Clip(name, Sound.read(path), speaker, key) for name, path in self.paths.items()]
        self.judge = Judge(listed, {speaker: references(singer.data, speaker)}, recogniser)

    def __call__(self, state: State, writer: SummaryWriter) -> dict[str, float]:
        converter = Converter(self.singer.voice(state.averaged), self.options)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "clip.wav")

            def convert(clip: Clip) -> Sound:
                converter.convert(self.paths[clip.name], target)
                return Sound.read(target)

            return figures(self.judge.verdict(convert))


def figures(verdict: Verdict) -> dict[str, float]:
    """A verdict as metrics; what was not judged is left out."""
    found = {SCORE: score(verdict), **{f"judge/{name}": float(getattr(verdict, name)) for name in FIGURES}}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def clips(folder: Path) -> list[Path]:
    """The audio files in a folder of any depth; OptionError when there is none."""
    found = sorted(path for path in folder.rglob("*") if corpus.is_audio(path))
    if not found:
        raise OptionError(f"{folder} holds no audio to judge by: put some clips of other speakers there")
    return found


def references(data: PreparedData, speaker: str) -> list[Sound]:
    """Recordings of a speaker, those first that no training heard."""
    number = data.speakers.index(speaker)
    pieces = [piece for piece in (*data.validation, *data.training) if piece.speaker == number]
    return [Sound.read(data.folder / "audio" / speaker / f"{piece.id}.flac") for piece in pieces[:REFERENCES]]
