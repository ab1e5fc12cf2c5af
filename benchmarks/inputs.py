"""Recordings that benchmarks convert, and those of the target that results are held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from moksori.runtime.errors import OptionError
from moksori.train.judge import Clip
from moksori.train.measures import Sound

KINDS = ("speech", "singing")
SUNG = "_sung"  # a speaker's sung references lie in a folder that ends so


@dataclass(frozen=True)
class Recording:
    """An input. `kind` is one of KINDS."""

    kind: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.path.resolve().parent.name}/{self.path.stem}"


def found(speech: Sequence[Path], sung: Sequence[Path]) -> list[Recording]:
    """What is to be converted.

    Raises:
        OptionError: there is nothing.
    """
    made = [
        Recording(kind, path)
        for kind, places in zip(KINDS, (speech, sung), strict=True)
        for place in places
        for path in recordings(place)
    ]
    if not made:
        raise OptionError("there is nothing to convert: give recordings by --inputs or --sung")
    return made


def recordings(place: Path) -> list[Path]:
    """Audio files in a folder and the folders in it, or the one file named."""
    if not place.exists():
        raise OptionError(f"{place} does not exist: check the name")
    if place.is_file():
        return [place]
    suffixes = {f".{name.lower()}" for name in soundfile.available_formats()}
    return sorted(path for path in place.rglob("*") if path.suffix.lower() in suffixes)


def references(folder: Path, speakers: Sequence[str]) -> dict[str, list[Sound]]:
    """Recordings by speaker, and by speaker + SUNG where there are such."""
    known = {}
    for name in (*speakers, *(f"{speaker}{SUNG}" for speaker in speakers)):
        if name in speakers or (folder / name).is_dir():
            known[name] = [Sound.read(path) for path in recordings(folder / name)]
    return known


def clip(one: Recording, speaker: str, key: float, known: Mapping[str, Sequence[Sound]]) -> Clip:
    """A recording to be converted to ``speaker``; singing is held to the speaker's singing where there is some."""
    sung = f"{speaker}{SUNG}"
    reference = sung if one.kind == "singing" and sung in known else speaker
    return Clip(one.name, Sound.read(one.path), speaker, key, reference=reference)
