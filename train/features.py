"""What training reads of one slice: its audio as FLAC, f0 and units as npz, made with the graphs that convert."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from moksori.runtime import audio, content, devices, mel, pitch, slicer
from moksori.runtime.errors import OptionError
from moksori.runtime.files import atomic_path
from moksori.train import perturb

Array = NDArray[np.float32]

VERSION = 1  # of what a slice's files hold; another number makes them anew
EDGE_SECONDS = 0.1  # silence kept at either end of a slice
SHORTEST_SECONDS = 0.8
SILENT_DB = -50.0  # a slice whose loudest 10 ms are below is silence
BELOW_PEAK_DB = 45.0  # so far below the loudest 10 ms, an end is silence


@dataclass(frozen=True)
class Settings:
    """Everything that a slice's files depend on, besides its samples. Lengths in seconds, f0 in Hz."""

    mel: mel.MelSpec
    kind: str
    fmin: float
    fmax: float
    threshold: float
    minimum: float
    maximum: float
    variants: int
    content_sha256: str
    pitch_sha256: str

    def key(self, source_sha256: str) -> str:
        """Names the outcome for one source file: the same key, the same files."""
        text = json.dumps([VERSION, asdict(self), source_sha256], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Place:
    """Where the files of one slice lie."""

    data: Path
    speaker: str
    id: str

    @property
    def flac(self) -> Path:
        return self.data / "audio" / self.speaker / f"{self.id}.flac"

    @property
    def npz(self) -> Path:
        return self.data / "features" / self.speaker / f"{self.id}.npz"

    def holds(self, key: str) -> bool:
        """Whether both files are there, made under ``key``; npz is written last."""
        if not (self.npz.is_file() and self.flac.is_file()):
            return False
        try:
            with np.load(self.npz) as features:
                return bool(str(features["key"]) == key)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return False

    def dimension(self) -> int:
        """D of the units."""
        with np.load(self.npz) as features:
            return int(features["units"].shape[-1])


def make(place: Place, samples: Array, settings: Settings, key: str) -> None:
    """Write the files of a slice [n] at ``settings.mel.sample_rate``; npz holds

    f0 float32 [T] in Hz, positive everywhere; voiced bool [T]; units float16 [1 + variants, Tu, D], row 0 of the
    audio itself, the others of altered audio brought back to its grid; key.
    """
    spec, models = settings.mel, _models(place.data, settings)
    heard = soxr.resample(samples, spec.sample_rate, pitch.RATE)
    track = models.tracker.track(heard)
    times = mel.frame_times(spec.frames(len(samples)), spec)
    f0, voiced = pitch.at_times(track, times, settings.threshold)
    rows = [content.units(models.content, heard)]
    for variant in range(1, settings.variants + 1):
        other, ratio = perturb.altered(heard, perturb.generator(place.id, variant))
        rows.append(perturb.realign(content.units(models.content, other), ratio, len(rows[0])))
    with audio.Writer(place.flac, spec.sample_rate, "flac", subtype="PCM_16") as file:
        file.write(samples)
    with atomic_path(place.npz) as temporary:
        np.savez(temporary, f0=f0, voiced=voiced, units=np.stack(rows).astype(np.float16), key=np.array(key))


def trimmed(samples: Array, rate: int) -> Array:
    """``samples`` without silence at its ends, 0.1 s of it kept; nothing, [0], when too short or silent."""
    level = slicer.levels(samples, rate)
    if not len(level) or level.max() < SILENT_DB:
        return samples[:0]
    loud = np.flatnonzero(level >= max(slicer.FLOOR_DB + 1, level.max() - BELOW_PEAK_DB))
    hop, edge = slicer.level_hop(rate), round(EDGE_SECONDS * rate)
    kept = samples[max(0, loud[0] * hop - edge) : (loud[-1] + 1) * hop + edge]
    return kept if len(kept) >= SHORTEST_SECONDS * rate else samples[:0]


def graph_inputs(path: Path) -> list[str]:
    """Names of a graph's inputs; OptionError for a missing file, VoiceError for a damaged one."""
    if not path.is_file():
        raise OptionError(f"{path} does not exist: name an ONNX graph")
    return [str(given.name) for given in _session(path).raw.get_inputs()]


def _session(path: Path) -> devices.Session:
    """On one CPU thread: slices run side by side, each in its own process."""
    return devices.open_session(path, devices.cpu(), threads=1, name=str(path))


@dataclass(frozen=True)
class _Models:
    content: devices.Session
    tracker: pitch.Tracker


@lru_cache(maxsize=1)
def _models(data: Path, settings: Settings) -> _Models:
    """The graphs, opened once in each process."""
    tracker = pitch.Tracker(_session(data / "pitch.onnx"), settings.kind, settings.fmin, settings.fmax)
    return _Models(_session(data / "content.onnx"), tracker)
