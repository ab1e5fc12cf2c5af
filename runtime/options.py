"""How to sing: every choice a person has, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from moksori.runtime import files, formant, key
from moksori.runtime.errors import OptionError
from moksori.runtime.voice import Voice

Key = float | Literal["auto", "speech"]
FARTHEST_KEY = 60  # semitones
LOUDNESS_RANGE = (-70.0, 0.0)  # LUFS
RATES = (8_000, 192_000)  # Hz


@dataclass(frozen=True)
class Options:
    """``None`` takes the voice's own default, or what the source has.

    Raises:
        OptionError: a value that cannot be used.
    """

    speaker: str | None = None  # a name, or a mix such as "heart:0.7,f001:0.3"
    key: Key = 0.0  # semitones; the words bring it into the speaker's range (key.WORDS)
    formant: float = 0.0  # semitones by which the throat grows smaller
    f0: Path | None = None  # a curve (curve.read) to sing in place of the source's pitch; the key moves it too
    steps: int | None = None
    sampler: str | None = None
    noise_scale: float | None = None
    depth: float = 1.0  # how much of the way from noise: 1 is all; below, it begins at the source's own mel, noised
    guidance: float | None = None  # weight of the conditions against none (classifier-free), where a voice learned that
    seed: int = 0
    stereo: bool = False  # sing left and right apart
    loudness: float | None = None  # LUFS of the result; else as loud as the source
    rate: int | Literal["source"] | None = None  # Hz of the result
    bits: str | None = None  # audio.BITS of the result

    def __post_init__(self) -> None:
        if self.key not in key.WORDS and not -FARTHEST_KEY <= float(self.key) <= FARTHEST_KEY:
            raise OptionError(f"a key of {self.key:g} semitones leaves the range of voices; use -60 to 60")
        if self.key in key.WORDS and self.f0 is not None:
            raise OptionError(f"the key {self.key} and an f0 curve both say how high to sing: leave one out")
        if not -formant.LARGEST <= self.formant <= formant.LARGEST:
            raise OptionError(f"formants {self.formant:g} semitones away are nobody's: use -12 to 12")
        low, high = LOUDNESS_RANGE
        if self.loudness is not None and not low <= self.loudness <= high:
            raise OptionError(f"a loudness of {self.loudness:g} LUFS is not possible: use {low:g} to {high:g}")
        if isinstance(self.rate, int) and not RATES[0] <= self.rate <= RATES[1]:
            raise OptionError(f"a rate of {self.rate} Hz is not possible: use {RATES[0]} to {RATES[1]}")

    def settings(self, voice: Voice) -> Mapping[str, str]:
        """All that decides what a result holds, as its tag says it; equal settings make equal files of a source."""
        graphs = "".join(file.sha256 for file in voice.manifest.files.values())
        settings = {
            "voice": f"{voice.name}@{files.sha256_of(graphs.encode())[:8]}",
            "speaker": self.speaker or voice.speaker_names[0],
            "key": self.key if isinstance(self.key, str) else f"{self.key:+g}",
            "steps": str(self.steps or voice.manifest.denoiser.steps),
            "seed": str(self.seed),
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in settings and value != field.default:
                settings[field.name] = files.sha256(value)[:8] if isinstance(value, Path) else str(value)
        return settings
