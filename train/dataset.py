"""Prepared slices as training crops. Every crop is a function of (seed, index), so a resumed run sees the same data."""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

from moksori.runtime import content, mel
from moksori.runtime.errors import MoksoriError
from moksori.runtime.files import read_json
from moksori.runtime.mel import MelSpec
from moksori.train import arrays, shift

Array = NDArray[np.float32]
Weights = NDArray[np.float64]
Batch = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Slice:
    """One prepared piece of audio; ``frames`` are mel frames."""

    id: str
    speaker: int
    frames: int


@dataclass(frozen=True)
class Crop:
    """``frames`` mel frames of one slice and all that belongs to them (padded with silence past the slice's end)."""

    audio: Array  # [frames · hop]
    windows: Array  # [frames, n_fft] of audio with its surroundings
    moved: Array | None  # longer or shorter ones, from which the mel is made where it is moved in pitch
    f0: Array  # [frames + 2·MARGIN], with context for the source's phase
    voiced: Array
    units: Array  # [frames, D], one variant of the cached ones, carried to mel frames
    speaker: int
    spec: MelSpec
    shift: float = 0.0  # semitones by which mel and f0, but not audio, units and loudness, were moved

    @cached_property  # half of what a crop costs, and not every role asks for it
    def mel(self) -> Array:
        """[frames, M]"""
        if self.moved is not None:
            return shift.log_mel_frames(self.moved, self.spec)
        return mel.log_mel_frames(self.windows, self.spec)

    @cached_property
    def loudness(self) -> Array:
        return mel.loudness_frames(self.windows, self.spec)


@dataclass(frozen=True)
class Share:
    """One process's part of the endless training stream, from batch ``start`` on.

    Crops are numbered through all processes: two of them with batches of B see what one sees with batches of 2·B.
    """

    start: int = 0
    rank: int = 0
    processes: int = 1
    seed: int = 0
    workers: int = 1  # threads that make batches ahead of their use

    def first(self, number: int, size: int) -> int:
        """Number of the first crop in this process's batch ``number`` of ``size`` crops."""
        return (number * self.processes + self.rank) * size


MARGIN = 4  # frames of f0 context on each side
EXAMPLES = 24  # held-out slices that a validation looks at


class PreparedData:
    """A DATA_DIR written by svc-prepare.

    Every ``hold_out``-th slice, and one at least, is for validation and never trained on; a single slice serves both.

    Raises:
        MoksoriError: there is no such data, or its description is damaged.
    """

    def __init__(self, folder: Path, hold_out: int = 40) -> None:
        if not (folder / "data.json").exists():
            raise MoksoriError(f"{folder} holds no prepared data; run: svc-prepare AUDIO_DIR {folder}")
        try:
            facts = read_json(folder / "data.json")
            self.folder, self.facts = folder, facts
            self.spec = mel.MelSpec(**facts["mel"])
            self.unit_dimension = int(facts["units"]["dimension"])
            self.speakers = [str(speaker["name"]) for speaker in facts["speakers"]]
            slices = self._slices()
        except (ValueError, KeyError, TypeError) as error:
            raise MoksoriError(f"{folder / 'data.json'} is damaged ({error!r}); run svc-prepare again") from None
        if not slices:
            raise MoksoriError(f"{folder} holds no slice to train on")
        every = min(hold_out, max(2, len(slices)))
        held = {s.id for s in slices[every // 2 :: every]}
        self.training = [s for s in slices if s.id not in held]
        self.validation = [s for s in slices if s.id in held] or self.training
        self._groups: list[list[Slice]] = [[] for _ in self.speakers]
        for piece in self.training:
            self._groups[piece.speaker].append(piece)
        self._ends = [np.cumsum([p.frames for p in group]) for group in self._groups]

    def crop(self, piece: Slice, start: int, frames: int, variant: int, semitones: float = 0.0) -> Crop:
        """Frames ``start`` to ``start + frames`` of a slice; ``variant`` 0 has the clean units, others altered ones.

        Mel and f0 are moved by ``semitones`` (train/shift.py).
        """
        spec = self.spec
        window = shift.length(semitones, spec)
        pad = (max(window, spec.n_fft) - spec.hop) // 2  # the mel of an inner crop sees its real surroundings
        first = max(0, start * spec.hop - pad)
        path = self.recording(piece)
        stop = (start + frames) * spec.hop + pad
        try:
            audio, _ = soundfile.read(path, frames=stop - first, start=first, dtype="float32")
        except soundfile.SoundFileError as error:
            raise _damaged(path, error) from None
        lead = start * spec.hop - first
        whole = np.pad(audio, (pad - lead, max(0, frames * spec.hop + pad + lead - len(audio))))
        sizes = spec.n_fft, window
        usual, moved = (_windows(whole[pad - (size - spec.hop) // 2 :], size, spec.hop, frames) for size in sizes)
        f0, voiced, units = self._features(piece)
        at = np.arange(start, start + frames)
        inside = np.clip(at, 0, len(f0) - 1)
        stretch = content.mel2ph(len(f0), units.shape[1]) - 1
        near = np.clip(np.arange(start - MARGIN, start + frames + MARGIN), 0, len(f0) - 1)
        heard = units[variant % len(units)][stretch[inside]].astype(np.float32)
        if not (np.isfinite(heard).all() and np.isfinite(f0[near]).all()):
            raise _damaged(self._features_of(piece), "it holds what is no number")
        return Crop(
            audio=whole[pad : pad + frames * spec.hop],
            windows=usual,
            moved=moved if semitones else None,
            f0=f0[near] * np.float32(window / spec.n_fft if semitones else 1),
            voiced=(voiced[inside] & (at < len(f0))).astype(np.float32),
            units=heard,
            speaker=piece.speaker,
            spec=spec,
            shift=12 * float(np.log2(window / spec.n_fft)) if semitones else 0.0,
        )

    def recording(self, piece: Slice) -> Path:
        """The audio file of a slice."""
        return self.folder / "audio" / self.speakers[piece.speaker] / f"{piece.id}.flac"

    @property
    def examples(self) -> list[Slice]:
        """Up to ``EXAMPLES`` held-out slices, spread over all of them, so that every validation costs the same."""
        return self.validation[:: -(-len(self.validation) // EXAMPLES)]

    @property
    def has_units(self) -> bool:
        return "units" in self.facts.get("cached", ["units"])

    def require_units(self) -> None:
        """MoksoriError when svc-prepare was told to keep f0 only; crops of such data hold zeros for units."""
        if not self.has_units:
            raise MoksoriError(
                f"{self.folder} holds no units; add them with: svc-prepare AUDIO_DIR {self.folder} --cache units "
                "(and the options it was made with)"
            )

    def _features(self, piece: Slice) -> tuple[Array, NDArray[np.bool_], NDArray[np.float16]]:
        """f0 [T], voiced [T] and units [variants, Tu, D] of a slice; without units, zeros."""
        path = self._features_of(piece)
        try:
            f0, voiced, *heard = arrays.read(path, ("f0", "voiced", *(("units",) if self.has_units else ())))
            return f0, voiced, heard[0] if heard else np.zeros((1, 1, self.unit_dimension), np.float16)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(path, error) from None

    def _features_of(self, piece: Slice) -> Path:
        return self.folder / "features" / self.speakers[piece.speaker] / f"{piece.id}.npz"

    def _slices(self) -> list[Slice]:
        index = {name: number for number, name in enumerate(self.speakers)}
        rate = self.spec.frame_rate
        listed = (Slice(s["id"], index[s["speaker"]], int(s["seconds"] * rate)) for s in self.facts["slices"])
        return [piece for piece in listed if piece.frames > 0]

    def random_crop(
        self, seed: int, index: int, frames: int, balance: Weights, variants: bool, shifted: float = 0.0
    ) -> Crop:
        """Crop number ``index`` of the endless training stream.

        ``balance`` [speakers] weighs the speakers; with ``variants`` its units come from clean or altered audio. A
        share ``shifted`` of the crops is moved in pitch.
        """
        rng = np.random.default_rng([seed, index])
        speaker = int(rng.choice(len(self.speakers), p=balance))
        ends = self._ends[speaker]
        piece = self._groups[speaker][int(np.searchsorted(ends, rng.integers(0, ends[-1]), side="right"))]
        start = int(rng.integers(0, max(1, piece.frames - frames + 1)))
        variant = int(rng.integers(0, 1 << 30)) if variants else 0
        return self.crop(piece, start, frames, variant, shift.drawn(shifted, seed, index))

    def balance(self, favoured: dict[str, float]) -> Weights:
        """Share of each speaker in training [speakers]: √seconds, so that the small are heard too, × ``favoured``."""
        unknown = set(favoured) - set(self.speakers)
        if unknown:
            raise MoksoriError(f"speaker_weights names {sorted(unknown)}, but the data has {self.speakers}")
        seconds = np.array([ends[-1] if len(ends) else 0 for ends in self._ends], np.float64)
        return shares("speaker_weights", np.sqrt(seconds) * [favoured.get(name, 1.0) for name in self.speakers])


def shares(what: str, weights: Weights) -> Weights:
    """Weights as shares of 1; MoksoriError when a config's ``what`` has one below 0, or leaves nobody."""
    total = weights.sum()
    if not (np.isfinite(total) and total > 0 and (weights >= 0).all()):
        raise MoksoriError(f"{what} must be numbers from 0 on, and somebody with data above 0")
    return weights / total


def _damaged(path: Path, why: object) -> MoksoriError:
    return MoksoriError(f"{path} cannot be trained on ({why}); delete it and run svc-prepare again")


def _windows(audio: Array, size: int, hop: int, count: int) -> Array:
    """The first ``count`` windows of ``size`` samples, one every ``hop``: [count, size]."""
    return np.lib.stride_tricks.sliding_window_view(audio, size)[::hop][:count]


class Collate(Protocol):
    def __call__(self, crops: list[Crop], first_index: int) -> Batch: ...


def batches(
    data: PreparedData, collate: Collate, share: Share, *, size: int, frames: int, balance: Weights,
    variants: bool = True, shifted: float = 0.0,
) -> Generator[Batch]:
    """Endless batches of a share, made ahead in threads (decoding and transforms release the GIL).

    In each of them numpy's BLAS has one thread: more would wait for one another, busily, on the cores that train.
    """

    def make(number: int) -> Batch:
        first = share.first(number, size)
        crops = [data.random_crop(share.seed, first + k, frames, balance, variants, shifted) for k in range(size)]
        return collate(crops, first)

    one = ThreadpoolController().select(internal_api="openblas").limit(limits=1)
    with one, ThreadPoolExecutor(share.workers) as pool:
        numbers = itertools.count(share.start)
        queue = deque(pool.submit(make, next(numbers)) for _ in range(2 * share.workers + 2))
        try:
            while True:
                queue.append(pool.submit(make, next(numbers)))
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()


def tensors(stream: Generator[Batch], device: torch.device) -> Generator[dict[str, Tensor]]:
    """The same batches as tensors on ``device``; closing it closes the stream."""
    try:
        for batch in stream:
            ready = {name: torch.from_numpy(value) for name, value in batch.items()}
            if device.type == "cuda":  # copied while the step before is computed
                ready = {name: value.pin_memory() for name, value in ready.items()}
            yield {name: value.to(device, non_blocking=True) for name, value in ready.items()}
    finally:
        stream.close()
