"""Clips sung as every target by a voice that still learns, and judged: what studies of training hold to one another."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from moksori.benchmarks import inputs as recordings
from moksori.benchmarks import study
from moksori.runtime import Converter, Options, Voice
from moksori.runtime.errors import OptionError
from moksori.train import audition
from moksori.train.dataset import PreparedData
from moksori.train.judge import Clip, Judge, Verdict, score
from moksori.train.measures import Recogniser, Sound

Figures = dict[str, float | None]  # None where nothing was measured
# options, by what is predicted
SUNG_WITH: dict[str, dict[str, Any]] = {"velocity": {"steps": 4, "noise_scale": 0.2}, "epsilon": {}}


class Panel:
    """Holds the clips, each at the key that suits a target, and the loaded measures.

    Args:
        targets: speakers of ``data`` that sing all the clips; ``references`` has a folder of recordings of each.
        recogniser: folder of a Whisper model; without one words are not judged.
    Raises:
        OptionError: nothing to convert, or nothing to hold it to.
    """

    def __init__(
        self, data: PreparedData, targets: Sequence[str], inputs: Sequence[Path], sung: Sequence[Path],
        references: Path | None, recogniser: Path | None,
    ) -> None:  # fmt: skip
        if references is None:
            raise OptionError("give --references, a folder with a folder of recordings of each target")
        self.targets = targets
        known = recordings.references(references, targets)
        self._paths: dict[tuple[str, str], Path] = {}
        clips = []
        for one in recordings.found(inputs, sung):
            for speaker in targets:
                clip = recordings.clip(one, speaker, 0.0, known)
                clips.append(replace(clip, key=audition.suited(clip.sound, audition.span(data, speaker))))
                self._paths[clip.name, speaker] = one.path
        self._judge = Judge(clips, known, Recogniser(recogniser) if recogniser else None)

    @property
    def clips(self) -> list[str]:
        return sorted({name for name, _ in self._paths})

    def figures(self, voice: Voice, **options: Any) -> dict[str, Figures]:
        """Means over all clips, as "all", and over those of each target. ``options`` go before the usual ones."""
        options = SUNG_WITH[voice.manifest.denoiser.prediction] | options
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "clip.wav")

            def convert(clip: Clip) -> Sound:
                asked = Options(speaker=clip.speaker, key=clip.key, **options)
                Converter(voice, asked).convert(self._paths[clip.name, clip.speaker], target)
                return Sound.read(target)

            return self._judged(convert)

    def unconverted(self) -> dict[str, Figures]:
        """The same of the recordings as they are: who they resemble of themselves."""
        return self._judged(lambda clip: clip.sound)

    def _judged(self, convert: Callable[[Clip], Sound]) -> dict[str, Figures]:
        verdict = self._judge.verdict(convert)
        of = {name: Verdict.of([row for row in verdict.rows if row.speaker == name]) for name in self.targets}
        return {name: _figures(one) for name, one in {"all": verdict, **of}.items()}


def _figures(verdict: Verdict) -> Figures:
    measured = {"score": score(verdict), **asdict(replace(verdict, rows=()))}
    return {name: None if math.isnan(value) else value for name, value in measured.items() if name != "rows"}


HEAD = (
    "similarity to target", "to source", "character errors, %", "over 50 cents, %", "voicing errors, %", "score",
)  # fmt: skip


def cells(found: Figures) -> list[str]:
    """Figures as a row of a table under HEAD."""
    cell = study.figure_of
    return [
        cell(found["similarity"], 3), cell(found["source_similarity"], 3), cell(found["error_rate"], 0, 100),
        cell(found["off_pitch"], 1, 100), cell(found["voicing"], 1, 100), cell(found["score"], 2),
    ]  # fmt: skip


OPTIONS = (
    click.option("--as", "targets", multiple=True, default=("heart", "f001"), show_default=True, help="Who sings."),
    click.option("--inputs", multiple=True, type=click.Path(path_type=Path), help="Folder or file of speech."),
    click.option("--sung", multiple=True, type=click.Path(path_type=Path), help="Folder or file of singing."),
    click.option("--references", type=click.Path(path_type=Path), help="Folder of speakers."),
    click.option("--recogniser", type=click.Path(path_type=Path), help="Folder of a CTranslate2 Whisper model."),
)  # fmt: skip


def takes_panel(function: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that judges by a panel."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function
