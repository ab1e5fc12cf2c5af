"""What training reads of one slice: its audio as FLAC, f0 and units as npz, made with the graphs that convert."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from moksori.runtime import audio, content, devices, mel, pitch, selftest, slicer
from moksori.runtime.backends import Device, cpu
from moksori.runtime.files import atomic_path
from moksori.train import perturb

Array = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

# Of how each product is made; another number makes it anew. What follows from the audio follows it by its key.
VERSIONS = {"audio": 2, "f0": 2, "units": 2, "mel": 1}
ARRAYS = {"f0": ("f0", "voiced"), "units": ("units",), "mel": ("mel",)}
STORED = ("units",)  # half-precision noise does not compress
KEY_DIGITS = 32
EDGE_SECONDS = 0.1  # silence kept at either end of a slice
SHORTEST_SECONDS = 0.8
SILENT_DB = -50.0  # a slice whose loudest 10 ms are below is silence
BELOW_PEAK_DB = 45.0  # so far below the loudest 10 ms, an end is silence


@dataclass(frozen=True)
class Settings:
    """Everything that a slice's files depend on, besides its samples. Lengths in seconds, f0 in Hz.

    The device is not among them: what devices compute differs by less than their self-test allows.
    """

    mel: mel.MelSpec
    kind: str
    fmin: float
    fmax: float
    tracking: pitch.Options
    minimum: float
    maximum: float
    variants: int
    content_sha256: str
    pitch_sha256: str
    products: tuple[str, ...] = ("f0", "units")

    def keys(self, source_sha256: str) -> dict[str, str]:
        """Names the outcome for one source file, product by product: the same key, the same bytes."""
        sound = _digest(VERSIONS["audio"], self.mel.sample_rate, self.minimum, self.maximum, source_sha256)
        grid = self.mel.sample_rate, self.mel.hop, self.mel.n_fft
        depends: dict[str, tuple[Any, ...]] = {
            "f0": (self.kind, self.fmin, self.fmax, asdict(self.tracking), self.pitch_sha256, *grid),
            "units": (self.content_sha256, self.variants),
            "mel": (asdict(self.mel),),
        }
        made = {name: _digest(VERSIONS[name], *depends[name], sound) for name in self.products}
        return {"audio": sound, **made}


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

    def keys(self) -> dict[str, str]:
        """What the files hold, by product; empty when one is missing or damaged. npz is written last."""
        if not (self.npz.is_file() and self.flac.is_file()):
            return {}
        try:
            with np.load(self.npz) as features:
                found = json.loads(bytes(features["keys"][()]))
                return found if set(features.files) >= {n for p in found for n in ARRAYS.get(p, ())} else {}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return {}

    def sizes(self) -> dict[str, int]:
        """Bytes on disk by product."""
        with zipfile.ZipFile(self.npz) as archive:
            packed = {entry.filename.removesuffix(".npy"): entry.compress_size for entry in archive.infolist()}
        rest = self.npz.stat().st_size - sum(packed.values())
        sizes = {product: sum(packed.get(name, 0) for name in names) for product, names in ARRAYS.items()}
        sizes["f0"] += rest + packed.get("keys", 0)
        return {"audio": self.flac.stat().st_size, **sizes}


def make(
    place: Place, samples: Array | None, keys: Mapping[str, str], settings: Settings, device: Device
) -> dict[str, float]:
    """Write what is missing of a slice, [n] at ``settings.mel.sample_rate``, or None when its audio is there.

    npz holds f0 float32 [T] in Hz, positive everywhere; voiced bool [T]; and when asked for, units float16
    [1 + variants, Tu, D], row 0 of the audio itself, the others of altered audio brought back to its grid; mel
    float16 [T, M]. All are made from the audio as it is stored, and what is there under its key stays.

    Returns:
        Seconds of a core spent, by product.
    """
    spent: dict[str, float] = {}
    held = place.keys()
    if samples is not None and held.get("audio") != keys["audio"]:
        with _clock(spent, "audio"):
            place.npz.unlink(missing_ok=True)  # so that no moment shows new audio with old features
            held = {}
            with audio.Writer(place.flac, settings.mel.sample_rate, "flac", subtype="PCM_16") as file:
                file.write(samples)
    if held == keys:
        return spent
    arrays: Arrays = {}
    if held:
        with np.load(place.npz) as features:
            kept = [name for product in settings.products if held.get(product) == keys[product]
                    for name in ARRAYS[product]]  # fmt: skip
            arrays = {name: features[name] for name in kept}
    sound = Sound(place, audio.read(place.flac, settings.mel.sample_rate), settings, device)
    for product in settings.products:
        if not set(ARRAYS[product]) <= set(arrays):
            with _clock(spent, product):
                arrays |= MAKERS[product](sound)
    ordered = {name: arrays[name] for product in settings.products for name in ARRAYS[product]}
    _write(place.npz, {"keys": np.array(json.dumps(keys).encode()), **ordered})
    return spent


@dataclass(frozen=True)
class Sound:
    """The stored audio [n] of a slice, and what is needed to make something of it."""

    place: Place
    samples: Array
    settings: Settings
    device: Device

    @cached_property
    def heard(self) -> Array:
        """[n] at 16 kHz, what both graphs hear."""
        return soxr.resample(self.samples, self.settings.mel.sample_rate, pitch.RATE)

    def graph(self, role: str, sha256: str) -> devices.Session:
        return _session(self.place.data / f"{role}.onnx", sha256, self.device)


def f0(sound: Sound) -> Arrays:
    settings, spec = sound.settings, sound.settings.mel
    session = sound.graph("pitch", settings.pitch_sha256)
    tracker = pitch.Tracker(session, settings.kind, settings.fmin, settings.fmax, settings.tracking)
    times = mel.frame_times(spec.frames(len(sound.samples)), spec)
    hertz, voiced = tracker.at(sound.heard, times)
    return {"f0": hertz, "voiced": voiced}


def units(sound: Sound) -> Arrays:
    session = sound.graph("content", sound.settings.content_sha256)
    rows = [content.units(session, sound.heard)]
    for variant in range(1, sound.settings.variants + 1):
        other, ratio = perturb.altered(sound.heard, perturb.generator(sound.place.id, variant))
        rows.append(perturb.realign(content.units(session, other), ratio, len(rows[0])))
    return {"units": np.stack(rows).astype(np.float16)}


def spectrogram(sound: Sound) -> Arrays:
    return {"mel": mel.log_mel(sound.samples, sound.settings.mel).astype(np.float16)}


MAKERS: dict[str, Callable[[Sound], Arrays]] = {"f0": f0, "units": units, "mel": spectrogram}


def trimmed(samples: Array, rate: int) -> Array:
    """``samples`` without silence at its ends, 0.1 s of it kept; nothing, [0], when too short or silent."""
    level = slicer.levels(samples, rate)
    if not len(level) or level.max() < SILENT_DB:
        return samples[:0]
    loud = np.flatnonzero(level >= max(slicer.FLOOR_DB + 1, level.max() - BELOW_PEAK_DB))
    hop, edge = slicer.level_hop(rate), round(EDGE_SECONDS * rate)
    kept = samples[max(0, loud[0] * hop - edge) : (loud[-1] + 1) * hop + edge]
    return kept if len(kept) >= SHORTEST_SECONDS * rate else samples[:0]


@lru_cache(maxsize=2)
def _session(path: Path, sha256: str, device: Device) -> devices.Session:
    """Opened once in each process."""
    return opened(path, sha256, device)


def opened(path: Path, sha256: str, device: Device) -> devices.Session:
    """A graph on one CPU thread, for slices are made side by side, or on a device that computes what the CPU does."""
    session = devices.open_session(path, device, threads=1, name=str(path), spin=False)

    def on_cpu() -> devices.Session:
        return devices.open_session(path, cpu(), threads=1, name=str(path), spin=False)

    return selftest.trusted(session, on_cpu, lambda: _example(session), sha256)


def _example(session: devices.Session) -> Arrays:
    """A second of noise in the shape that a graph takes."""
    given = session.raw.get_inputs()[0]
    width = given.shape[-1] if isinstance(given.shape[-1], int) else pitch.RATE
    return {given.name: np.random.default_rng(0).uniform(-0.1, 0.1, (1, width)).astype(np.float32)}


def _write(path: Path, arrays: Arrays) -> None:
    """An npz with the same bytes for the same arrays: what compresses is deflated, nothing tells the time."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_STORED if name in STORED else zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


@contextmanager
def _clock(spent: dict[str, float], name: str) -> Iterator[None]:
    began = time.process_time()
    yield
    spent[name] = spent.get(name, 0.0) + time.process_time() - began
