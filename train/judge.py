"""Judge a voice by what it is for: recordings of other speakers, converted, then measured.

Reconstruction loss does not predict how a conversion sounds, so checkpoints are chosen by `score`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from moksori.runtime.errors import MoksoriError
from moksori.runtime.mel import Array
from moksori.train.measures import (
    PitchErrors,
    Recogniser,
    Similarity,
    Sound,
    character_error_rate,
    pitch_errors,
)

ERROR_RATE_WEIGHT, OFF_PITCH_WEIGHT, VOICING_WEIGHT = 1.0, 0.5, 0.25


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording to convert to `speaker`, `key` semitones up.

    `reference` names the recordings that the result is compared with, by default the speaker's: singing is to
    be held to singing. `words` is False where a recogniser hears none in the source, as in much singing.
    """

    name: str
    sound: Sound
    speaker: str
    key: float = 0.0
    language: str | None = None
    reference: str | None = None
    words: bool = True

    @property
    def compared_with(self) -> str:
        return self.reference or self.speaker


@dataclass(frozen=True)
class Row:
    """What was measured on one clip. The words are absent where they were not judged."""

    clip: str
    speaker: str
    similarity: float
    source_similarity: float
    pitch: PitchErrors
    error_rate: float | None = None
    source_text: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Verdict:
    """Means over the clips, and the clips. `error_rate` is NaN where no words were judged."""

    similarity: float
    source_similarity: float
    cents: float
    off_pitch: float
    octave: float
    voicing: float
    error_rate: float
    rows: tuple[Row, ...]

    @staticmethod
    def of(rows: Sequence[Row]) -> Verdict:
        return Verdict(
            similarity=_mean(row.similarity for row in rows),
            source_similarity=_mean(row.source_similarity for row in rows),
            cents=_mean(row.pitch.cents for row in rows),
            off_pitch=_mean(row.pitch.off_pitch for row in rows),
            octave=_mean(row.pitch.octave for row in rows),
            voicing=_mean(row.pitch.voicing for row in rows),
            error_rate=_mean(math.nan if row.error_rate is None else row.error_rate for row in rows),
            rows=tuple(rows),
        )


class Judge:
    """Holds the clips, what is known of them, and the loaded measures; serves any number of verdicts.

    Args:
        references: recordings of each speaker that a clip names (as `speaker`, or as `reference`).
        recogniser: without one the words are not judged, and `error_rate` is NaN.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        references: Mapping[str, Sequence[Sound]],
        recogniser: Recogniser | None = None,
    ) -> None:
        for clip in clips:
            if clip.compared_with not in references:
                raise MoksoriError(f"clip {clip.name} needs reference recordings of {clip.compared_with}")
        self._similarity = Similarity(references)
        self._recogniser = recogniser
        self._sources = [self._known(clip) for clip in clips]

    def verdict(self, convert: Callable[[Clip], Sound]) -> Verdict:
        """Convert every clip and measure the results."""
        return Verdict.of([self._row(source, convert(source.clip)) for source in self._sources])

    def _known(self, clip: Clip) -> _Source:
        embedding = self._similarity.embed(clip.sound)
        if self._recogniser is None or not clip.words:
            return _Source(clip, embedding)
        language = clip.language or self._recogniser.language(clip.sound)
        return _Source(clip, embedding, language, self._recogniser.text(clip.sound, language))

    def _row(self, source: _Source, result: Sound) -> Row:
        clip, embedding = source.clip, self._similarity.embed(result)
        row = Row(
            clip=clip.name,
            speaker=clip.speaker,
            similarity=self._similarity.to(clip.compared_with, embedding),
            source_similarity=float(embedding @ source.embedding),
            pitch=pitch_errors(clip.sound, result, clip.key),
        )
        if self._recogniser is None or not clip.words:
            return row
        text = self._recogniser.text(result, source.language)
        error_rate = character_error_rate(source.text, text)
        return replace(row, error_rate=error_rate, source_text=source.text, text=text)


def score(verdict: Verdict) -> float:
    """One number to rank checkpoints by, higher is better:
    similarity - character error rate - 0.5 · share over 50 cents - 0.25 · voicing error.

    One point of error rate costs one point of similarity. A silent result has no pitch to be wrong, but its
    similarity (0), error rate (1) and voicing put it last.
    """
    lost = ERROR_RATE_WEIGHT * _or_zero(verdict.error_rate)
    lost += OFF_PITCH_WEIGHT * _or_zero(verdict.off_pitch) + VOICING_WEIGHT * verdict.voicing
    return verdict.similarity - lost


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


@dataclass(frozen=True, eq=False)
class _Source:
    """What does not change from verdict to verdict. The words' reference is what is heard in the source."""

    clip: Clip
    embedding: Array
    language: str = ""
    text: str = ""
