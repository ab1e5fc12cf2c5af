"""Clips of one speaker on disk: levelled, 16-bit mono FLAC, in a folder that appears when it is complete."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from packages import fresh_folder

PEAK = 0.7  # of full scale
SILENCE_DBFS = -50.0


@dataclass(frozen=True)
class Clip:
    """Mono audio (samples,) at `rate` Hz; `held_out` clips are never trained on."""

    audio: np.ndarray
    rate: int
    held_out: bool = False
    notes: Sequence[dict[str, Any]] | None = None


def write(work: Path, speaker: str, clips: Iterable[Clip]) -> None:
    """Write `audio/<speaker>`, `heldout/<speaker>` and, for clips that have them, `notes/<speaker>`."""
    kinds = ("notes", "heldout", "audio")  # audio last: it marks the speaker as finished
    partial = {kind: fresh_folder(work / kind / f".{speaker}.partial") for kind in kinds}
    counts = {"audio": 0, "heldout": 0}
    for clip in clips:
        if is_silent(clip.audio):
            continue
        kind = "heldout" if clip.held_out else "audio"
        name = f"{speaker}_{'h' if clip.held_out else ''}{counts[kind]:04d}"
        counts[kind] += 1
        soundfile.write(partial[kind] / f"{name}.flac", levelled(clip.audio), clip.rate, subtype="PCM_16")
        if clip.notes is not None:
            (partial["notes"] / f"{name}.json").write_text(json.dumps(clip.notes, ensure_ascii=False) + "\n")
    for kind in kinds:
        final = work / kind / speaker
        if not any(partial[kind].iterdir()):
            partial[kind].rmdir()
            continue
        fresh_folder(final).rmdir()
        partial[kind].rename(final)


def seconds(folder: Path) -> float:
    """Total length of the audio in a folder."""
    return sum(soundfile.info(file).duration for file in sorted(folder.glob("*.flac")))


def is_silent(audio: np.ndarray) -> bool:
    """True below SILENCE_DBFS RMS: levelling such a recording would only make loud noise."""
    if not len(audio):
        return True
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    return rms < 10 ** (SILENCE_DBFS / 20)


def levelled(audio: np.ndarray) -> np.ndarray:
    """Scale to PEAK."""
    return np.asarray(audio * (PEAK / np.abs(audio).max()), dtype=np.float32)


def joined(pieces: Sequence[np.ndarray], rate: int, gap_s: float) -> np.ndarray:
    """Pieces one after another with `gap_s` of silence between them."""
    gap = np.zeros(round(gap_s * rate), np.float32)
    return np.concatenate([part for piece in pieces for part in (piece, gap)][:-1])
