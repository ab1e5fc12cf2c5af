"""Prepared slices as training crops. Every crop is a function of (seed, index), so a resumed run sees the same data."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from moksori.runtime import content, mel
from moksori.runtime.errors import MoksoriError
from moksori.runtime.files import read_json

Array = NDArray[np.float32]
Weights = NDArray[np.float64]
Batch = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Slice:
    """One prepared piece of audio; ``frames`` are mel frames."""

    id: str
    speaker: int
    frames: int


@dataclass(frozen=True)
class Crop:
    """``frames`` mel frames of one slice and all that belongs to them (padded with silence past the slice's end)."""

    audio: Array  # [frames · hop]
    mel: Array  # [frames, M]
    f0: Array  # [frames + 2·MARGIN], with context for the source's phase
    voiced: Array
    loudness: Array
    units: Array  # [frames, D], one variant of the cached ones, carried to mel frames
    speaker: int


MARGIN = 4  # frames of f0 context on each side


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
        self._groups = [[p for p in self.training if p.speaker == number] for number in range(len(self.speakers))]
        self._ends = [np.cumsum([p.frames for p in group]) for group in self._groups]

    def crop(self, piece: Slice, start: int, frames: int, variant: int) -> Crop:
        """Frames ``start`` to ``start + frames`` of a slice; ``variant`` 0 has the clean units, others altered ones."""
        spec, speaker = self.spec, self.speakers[piece.speaker]
        pad = (spec.n_fft - spec.hop) // 2  # the mel of an inner crop sees its real surroundings
        first = max(0, start * spec.hop - pad)
        path = self.folder / "audio" / speaker / f"{piece.id}.flac"
        stop = (start + frames) * spec.hop + pad
        try:
            audio, _ = soundfile.read(path, frames=stop - first, start=first, dtype="float32")
        except soundfile.SoundFileError as error:
            raise MoksoriError(f"{path} cannot be read ({error}); run svc-prepare again") from None
        lead = start * spec.hop - first
        whole = np.pad(audio, (pad - lead, max(0, frames * spec.hop + pad + lead - len(audio))))
        windows = np.lib.stride_tricks.sliding_window_view(whole, spec.n_fft)[:: spec.hop][:frames]
        with np.load(self.folder / "features" / speaker / f"{piece.id}.npz") as features:
            f0, voiced = features["f0"], features["voiced"]
            units = features["units"] if self.has_units else np.zeros((1, 1, self.unit_dimension), np.float16)
        at = np.arange(start, start + frames)
        inside = np.clip(at, 0, len(f0) - 1)
        stretch = content.mel2ph(len(f0), units.shape[1]) - 1
        near = np.clip(np.arange(start - MARGIN, start + frames + MARGIN), 0, len(f0) - 1)
        return Crop(
            audio=whole[pad : pad + frames * spec.hop],
            mel=mel.log_mel_frames(windows, spec),
            f0=f0[near],
            voiced=(voiced[inside] & (at < len(f0))).astype(np.float32),
            loudness=mel.loudness_frames(windows, spec),
            units=units[variant % len(units)][stretch[inside]].astype(np.float32),
            speaker=piece.speaker,
        )

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

    def _slices(self) -> list[Slice]:
        index = {name: number for number, name in enumerate(self.speakers)}
        rate = self.spec.frame_rate
        return [Slice(s["id"], index[s["speaker"]], int(s["seconds"] * rate)) for s in self.facts["slices"]]

    def random_crop(self, seed: int, index: int, frames: int, balance: Weights, variants: bool) -> Crop:
        """Crop number ``index`` of the endless training stream.

        ``balance`` [speakers] weighs the speakers; with ``variants`` its units come from clean or altered audio.
        """
        rng = np.random.default_rng([seed, index])
        speaker = int(rng.choice(len(self.speakers), p=balance))
        ends = self._ends[speaker]
        piece = self._groups[speaker][int(np.searchsorted(ends, rng.integers(0, ends[-1]), side="right"))]
        start = int(rng.integers(0, max(1, piece.frames - frames + 1)))
        return self.crop(piece, start, frames, variant=int(rng.integers(0, 1 << 30)) if variants else 0)

    def balance(self, favoured: dict[str, float]) -> Weights:
        """Share of each speaker in training [speakers]: √seconds, so that the small are heard too, × ``favoured``."""
        unknown = set(favoured) - set(self.speakers)
        if unknown:
            raise MoksoriError(f"speaker_weights names {sorted(unknown)}, but the data has {self.speakers}")
        seconds = np.array([ends[-1] if len(ends) else 0 for ends in self._ends], np.float64)
        weights = np.sqrt(seconds) * [favoured.get(name, 1.0) for name in self.speakers]
        return weights / weights.sum()


class Collate(Protocol):
    def __call__(self, crops: list[Crop], first_index: int) -> Batch: ...


def batches(
    data: PreparedData, collate: Collate, *, seed: int, start: int, size: int, frames: int, balance: Weights,
    variants: bool = True, ahead: int = 4,
) -> Generator[Batch]:
    """Endless batches from number ``start`` on, made ahead in a thread (decoding and transforms release the GIL)."""

    def make(number: int) -> Batch:
        indices = range(number * size, (number + 1) * size)
        return collate([data.random_crop(seed, index, frames, balance, variants) for index in indices], indices[0])

    with ThreadPoolExecutor(1) as pool:
        queue = [pool.submit(make, start + k) for k in range(ahead)]
        number = start + ahead
        try:
            while True:
                yield queue.pop(0).result()
                queue.append(pool.submit(make, number))
                number += 1
        finally:
            for future in queue:
                future.cancel()


def tensors(stream: Generator[Batch], device: torch.device) -> Generator[dict[str, Tensor]]:
    """The same batches as tensors on ``device``; closing it closes the stream."""
    try:
        for batch in stream:
            yield {name: torch.from_numpy(value).to(device) for name, value in batch.items()}
    finally:
        stream.close()
