"""Listeners of benchmarks/quality.py beside those that judge training: naturalness, a second recogniser, loudness."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from moksori.runtime import loudness, mel
from moksori.runtime.mel import MelSpec
from moksori.train.measures import RATE, Recogniser, Sound, character_error_rate, needed

ENGLISH = "en"
SHORTEST = 0.5  # seconds that a judgement of naturalness needs


@dataclass(frozen=True)
class Listeners:
    """Who hears; where one was not asked for, what it would say is None."""

    whisper: Recogniser | None = None
    sphinx: Sphinx | None = None
    mos: Naturalness | None = None

    def natural(self, sound: Sound) -> float | None:
        return None if self.mos is None else self.mos.of(sound)

    def misheard(self, source: Sound, result: Sound) -> float | None:
        """Characters that Whisper hears in the result and not in the source, as a share."""
        if self.whisper is None:
            return None
        language = self.whisper.language(source)
        return character_error_rate(*(self.whisper.text(one, language) for one in (source, result)))

    def misheard_english(self, source: Sound, result: Sound) -> float | None:
        """The same by Sphinx; None too where Whisper hears another language."""
        if self.sphinx is None or (self.whisper is not None and self.whisper.language(source) != ENGLISH):
            return None
        return character_error_rate(self.sphinx.text(source), self.sphinx.text(result))


class Naturalness:
    """DistillMOS (Stahl & Gamper 2025): 1 to 5. Made for speech and fond of synthesisers, so for comparisons only."""

    def __init__(self) -> None:
        import torch

        with _without_torchaudio(), contextlib.redirect_stdout(io.StringIO()):
            self._model = needed("distillmos").ConvTransformerSQAModel().eval()
        self._torch = torch

    def of(self, sound: Sound) -> float:
        samples = np.nan_to_num(sound.at(RATE))
        heard = np.pad(samples, (0, max(0, round(SHORTEST * RATE) - len(samples))))
        with self._torch.no_grad():
            return float(self._model(self._torch.from_numpy(heard.astype(np.float32))[None]))


class Sphinx:
    """CMU Sphinx, a recogniser of hidden Markov models for English: it shares nothing with Whisper."""

    def __init__(self) -> None:
        self._pocketsphinx = needed("pocketsphinx")

    def text(self, sound: Sound) -> str:
        """What is said; empty when nothing is."""
        samples = np.clip(np.nan_to_num(sound.at(RATE)), -1, 1)
        if not len(samples):
            return ""
        decoder = self._pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL")  # a new one: it adapts to what it hears
        decoder.start_utt()
        decoder.process_raw((samples * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return str(found.hypstr) if found else ""


def loudness_error(source: Sound, result: Sound, spec: MelSpec) -> float:
    """dB by which frames of a result are louder or softer than the source's, in the mean, once both are level.

    Only what is loud in the source counts, and one gain for all of it does not. NaN for a silent source.
    """
    first, second = (mel.loudness(sound.at(spec.sample_rate), spec) for sound in (source, result))
    count = min(len(first), len(second))
    if not count:
        return float("nan")
    loud = first[:count] > max(float(np.quantile(first, 0.95)) - loudness.ACTIVE_RANGE_DB, mel.LOUDNESS_FLOOR_DB)
    apart = (second[:count] - first[:count])[loud]
    return float(np.abs(apart - np.median(apart)).mean()) if len(apart) else float("nan")


@contextlib.contextmanager
def _without_torchaudio() -> Iterator[None]:
    """distillmos and what it builds on import torchaudio, whose wheels break a CPU torch, for reading files only."""
    absent = {name for name in ("torchaudio", "torchaudio.transforms") if name not in sys.modules}
    for name in absent:
        sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
