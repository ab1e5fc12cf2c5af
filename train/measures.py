"""Measures of audio: whose voice, which pitch, which words. Nothing here is used inside a conversion.

The packages are optional (extra `eval`); a missing one raises a MoksoriError that names the pip line.
Audio is float32 mono in [-1, 1].
"""

from __future__ import annotations

import importlib
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from moksori.runtime import audio
from moksori.runtime.errors import MoksoriError
from moksori.runtime.mel import Array, MelSpec, filterbank, hann, log_mel

RATE = 16_000  # Hz, of everything measured here except mel_distance
PITCH_STEP = 0.01  # seconds between Praat's frames
PITCH_FLOOR, PITCH_CEILING = 60.0, 1100.0  # Hz
OFF_PITCH = 50.0  # cents
OCTAVE_ERROR = 600.0  # cents: nearer to another octave than to this one
SHORTEST_SPEECH = 0.5  # seconds; below, trimming has eaten the voice (it does so with high singing)
SILENCE = 1e-4  # peak below which there is nothing to recognise a voice by
INSTALL = {
    "distillmos": "pip install --no-deps distillmos xls-r-sqa",
    "pocketsphinx": "pip install --no-deps pocketsphinx",
    "resemblyzer": "pip install --no-deps resemblyzer webrtcvad-wheels",
    "parselmouth": "pip install praat-parselmouth",
    "ctranslate2": "pip install ctranslate2 tokenizers",
    "tokenizers": "pip install ctranslate2 tokenizers",
}


def check() -> None:
    """MoksoriError when a package is missing that every judgement needs."""
    for module in ("resemblyzer", "parselmouth"):
        needed(module)


@dataclass(frozen=True, eq=False)
class Sound:
    """Mono samples [n] at `rate` Hz."""

    samples: Array
    rate: int

    @staticmethod
    def read(path: Path) -> Sound:
        rate = audio.info(path).rate
        return Sound(audio.read(path, rate), rate)

    def at(self, rate: int) -> Array:
        return self.samples if rate == self.rate else soxr.resample(self.samples, self.rate, rate)


class Similarity:
    """Cosine between speaker embeddings of Resemblyzer's voice encoder (Wan et al., 2018), on the CPU."""

    def __init__(self, references: Mapping[str, Sequence[Sound]]) -> None:
        self._resemblyzer = needed("resemblyzer")
        self._encoder = self._resemblyzer.VoiceEncoder("cpu", verbose=False)
        self._centroids = {name: self._centroid(name, sounds) for name, sounds in references.items()}

    def to(self, speaker: str, embedding: Array) -> float:
        """Cosine of an embedding with the centre of a speaker's references."""
        return float(embedding @ self._centroids[speaker])

    def embed(self, sound: Sound) -> Array:
        """Unit vector [256]; zeros for a sound with nothing in it, so that it resembles nobody."""
        samples = _finite(sound.at(RATE))
        if not len(samples) or np.max(np.abs(samples)) < SILENCE:
            return np.zeros(self._resemblyzer.hparams.model_embedding_size, np.float32)
        speech = self._resemblyzer.preprocess_wav(np.clip(samples, -1, 1))
        if len(speech) < SHORTEST_SPEECH * RATE:
            level = self._resemblyzer.hparams.audio_norm_target_dBFS
            speech = self._resemblyzer.normalize_volume(samples, level, increase_only=True)
        embedding: Array = self._encoder.embed_utterance(speech).astype(np.float32)
        return embedding

    def _centroid(self, name: str, sounds: Sequence[Sound]) -> Array:
        if not sounds:
            raise MoksoriError(f"there is no reference recording of {name}: give at least one")
        total: Array = np.sum([self.embed(sound) for sound in sounds], axis=0)
        return total / np.float32(max(float(np.linalg.norm(total)), 1e-9))


@dataclass(frozen=True)
class PitchErrors:
    """Of a result against its source moved by the key.

    `cents` is the median absolute error where both are voiced (NaN if nowhere), `off_pitch` and `octave` are
    the shares (0 to 1) of those frames that are off by over 50 cents and by over half an octave, `voicing` is
    the share of all frames where only one of the two is voiced.
    """

    cents: float
    off_pitch: float
    octave: float
    voicing: float


def pitch_errors(source: Sound, result: Sound, key: float = 0.0) -> PitchErrors:
    """Compare the f0 of a result with that of its source, `key` semitones up.

    The two start together; what a result has beyond its source is left out, what it lacks is unvoiced.
    """
    samples = source.at(RATE)
    wanted, got = pitch(samples), pitch(_fit(result.at(RATE), len(samples)))
    both = (wanted > 0) & (got > 0)
    voicing = float(np.mean((wanted > 0) != (got > 0)))
    if not both.any():
        return PitchErrors(math.nan, math.nan, math.nan, voicing)
    cents = np.abs(1200 * np.log2(got[both] / wanted[both]) - 100 * key)
    off, octave = (float(np.mean(cents > limit)) for limit in (OFF_PITCH, OCTAVE_ERROR))
    return PitchErrors(float(np.median(cents)), off, octave, voicing)


def pitch(samples: Array) -> NDArray[np.float64]:
    """f0 in Hz of 16 kHz audio every 10 ms, 0 where unvoiced (Boersma, 1993)."""
    parselmouth = needed("parselmouth")
    shortest = math.ceil(4 * RATE / PITCH_FLOOR)  # Praat refuses less than three periods of the floor
    clean = _finite(_fit(samples, max(len(samples), shortest)))
    track = parselmouth.Sound(clean.astype(np.float64), RATE).to_pitch_ac(
        time_step=PITCH_STEP, pitch_floor=PITCH_FLOOR, pitch_ceiling=PITCH_CEILING
    )
    f0: NDArray[np.float64] = track.selected_array["frequency"]
    return f0


class Recogniser:
    """Greedy Whisper through CTranslate2, from a folder with model.bin, config.json and tokenizer.json."""

    WINDOW = 30  # seconds per call of the encoder
    LONGEST = 200  # tokens per window: a small model that has lost the thread repeats itself until stopped

    def __init__(self, folder: Path, threads: int = 1) -> None:
        if not (folder / "model.bin").is_file():
            raise MoksoriError(f"{folder} holds no model.bin: give the folder of a CTranslate2 Whisper model")
        self._ctranslate2 = needed("ctranslate2")
        self._model = self._ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="float32", intra_threads=threads
        )
        self._tokenizer = needed("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))

    def language(self, sound: Sound) -> str:
        """Code of the language heard in the first 30 seconds ("en" from an English-only model)."""
        if not self._model.is_multilingual:
            return "en"
        token, _ = self._model.detect_language(next(self._windows(sound)))[0][0]
        return str(token).strip("<|>")

    def text(self, sound: Sound, language: str | None = None) -> str:
        """What is said; empty when nothing is."""
        spoken = language or self.language(sound)
        task = [f"<|{spoken}|>", "<|transcribe|>"] if self._model.is_multilingual else []
        prompt = ["<|startoftranscript|>", *task, "<|notimestamps|>"]
        pieces = []
        for features in self._windows(sound):
            found = self._model.generate(features, [prompt], beam_size=1, max_length=self.LONGEST)
            pieces.append(self._tokenizer.decode(found[0].sequences_ids[0], skip_special_tokens=True).strip())
        return " ".join(piece for piece in pieces if piece)

    def _windows(self, sound: Sound) -> Iterator[Any]:
        samples = _finite(sound.at(RATE))
        step = self.WINDOW * RATE
        for start in range(0, max(len(samples), 1), step):
            features = whisper_mel(_fit(samples[start : start + step], step), self._model.n_mels)
            yield self._ctranslate2.StorageView.from_array(np.ascontiguousarray(features[None]))


def whisper_mel(samples: Array, bins: int = 80) -> Array:
    """Whisper's front end: [n] samples at 16 kHz -> [bins, n // 160] (Radford et al., 2022, section 2.2)."""
    spec = MelSpec(sample_rate=RATE, hop=160, n_fft=400, win=400, bins=bins, fmin=0.0, fmax=8000.0)
    padded = np.pad(samples, spec.n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop]
    frames = frames[: len(samples) // spec.hop] * hann(spec.win, spec.n_fft)
    power = np.abs(np.fft.rfft(frames, axis=-1)) ** 2
    log = np.log10(np.maximum(filterbank(spec) @ power.T.astype(np.float32), 1e-10))
    return ((np.maximum(log, log.max() - 8) + 4) / 4).astype(np.float32)


def character_error_rate(reference: str, hypothesis: str) -> float:
    """Edits per letter of the reference, at most 1 since recognisers loop; only letters count, not case."""
    wanted, got = _letters(reference), _letters(hypothesis)
    if not wanted:
        return float(bool(got))
    return min(1.0, _edits(wanted, got) / len(wanted))


def mel_distance(one: Sound, other: Sound, spec: MelSpec) -> float:
    """Mean absolute difference of the log-mels (natural logarithm) over the frames that both have."""
    first, second = (log_mel(sound.at(spec.sample_rate), spec) for sound in (one, other))
    frames = min(len(first), len(second))
    if not frames:
        return math.nan
    return float(np.mean(np.abs(first[:frames] - second[:frames])))


def _letters(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).lower()
    return "".join(character for character in folded if character.isalpha())


def _edits(wanted: str, got: str) -> int:
    """Levenshtein distance, one row of the table at a time."""
    columns = np.arange(len(got) + 1)
    letters = np.array([ord(letter) for letter in got], np.int64)
    row = columns
    for letter in wanted:
        best = np.concatenate([row[:1] + 1, np.minimum(row[1:] + 1, row[:-1] + (letters != ord(letter)))])
        row = np.minimum.accumulate(best - columns) + columns  # insertions, all at once
    return int(row[-1])


def _fit(samples: Array, length: int) -> Array:
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def _finite(samples: Array) -> Array:
    return np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)


def needed(module: str) -> Any:
    """A package that a measure is made with; MoksoriError, with the pip line, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MoksoriError(f"measuring needs {module} ({error}): {INSTALL[module]}") from error
