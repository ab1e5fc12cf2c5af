"""What reduced graphs are calibrated on and heard with: moments of prepared data, or a tone made here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from moksori.export.spec import ExportError
from moksori.runtime import mel, pitch
from moksori.runtime.mel import MelSpec
from moksori.train.dataset import MARGIN, PreparedData, Slice
from moksori.train.start import differences

Array = NDArray[np.float32]

SECONDS = 3.0  # of a clip at most
CALIBRATING, HEARD = 8, 4  # clips


@dataclass(frozen=True)
class Clip:
    """Audio [T·hop] at a voice's rate, and of its T mel frames f0 in Hz, voicing and level in dB."""

    audio: Array
    f0: Array
    voiced: NDArray[np.bool_]
    loudness: Array


@dataclass(frozen=True)
class Clips:
    """``calibrating`` is what graphs may adapt to, ``heard`` what they are judged by; ``name`` says what that is."""

    calibrating: tuple[Clip, ...]
    heard: tuple[Clip, ...]
    name: str
    rate: int  # Hz


def clips(data: Path | None, spec: MelSpec | None = None) -> Clips:
    """Of the DATA_DIR ``data``: calibration on slices that training sees, judgement by held-out ones.

    Args:
        spec: the mel of the voice, which the data must have; None where sound alone is asked for.

    Raises:
        MoksoriError: there is no such data.
        ExportError: it is of another mel.
    """
    if data is None:
        spec = spec or MelSpec()
        return Clips((), (tone(spec),), "a tone", spec.sample_rate)
    prepared = PreparedData(data)
    spec = spec or prepared.spec
    differing = differences(prepared.spec, spec, "the voice")
    if differing:
        raise ExportError(f"{data} holds mel with {differing}; give --data the data that the voice learned from")
    frames = round(SECONDS * spec.frame_rate)

    def some(slices: list[Slice], count: int) -> tuple[Clip, ...]:
        chosen = slices[:: -(-len(slices) // count)]
        return tuple(_clip(prepared, one, min(frames, one.frames)) for one in chosen)

    heard = some(prepared.examples, HEARD)
    name = f"{len(heard)} held-out clip{'s' if len(heard) > 1 else ''}"
    return Clips(some(prepared.training, CALIBRATING), heard, name, spec.sample_rate)


def at_16k(clip: Clip, rate: int) -> Array:
    """What content and pitch graphs hear of a clip at ``rate``."""
    return soxr.resample(clip.audio, rate, pitch.RATE)


def tone(spec: MelSpec) -> Clip:
    """Harmonics of a gliding voice that swells and pauses, with breath."""
    count = round(SECONDS * spec.frame_rate)
    samples = count * spec.hop
    time = np.arange(samples) / spec.sample_rate
    hertz = 200 * 2 ** (0.6 * np.sin(2 * np.pi * 0.4 * time))
    phase = 2 * np.pi * np.cumsum(hertz) / spec.sample_rate
    audible = [k for k in range(1, 40) if k * hertz.max() < spec.sample_rate / 2]
    wave = sum((np.sin(k * phase) / k for k in audible), np.zeros(samples))
    sounding = time % 1.0 < 0.8
    noise = np.random.default_rng(0).standard_normal(samples)
    audio = (0.15 * sounding * wave * (0.6 + 0.4 * np.sin(2 * np.pi * time)) + 0.003 * noise).astype(np.float32)
    middle = np.arange(count) * spec.hop + spec.hop // 2
    return Clip(audio, hertz[middle].astype(np.float32), sounding[middle], mel.loudness(audio, spec))


def _clip(prepared: PreparedData, piece: Slice, frames: int) -> Clip:
    crop = prepared.crop(piece, (piece.frames - frames) // 2, frames, 0)
    return Clip(crop.audio, crop.f0[MARGIN:-MARGIN], crop.voiced > 0.5, crop.loudness)
