"""Clips to rank checkpoints by where nobody gave any: recordings that no training heard, of others than the target."""

from __future__ import annotations

from itertools import chain, zip_longest
from pathlib import Path
from typing import TypeVar

from moksori.runtime import Converter, Options, Voice
from moksori.train.dataset import PreparedData, Slice

T = TypeVar("T")

COUNT = 6
SUNG = "judged"  # folder in RUN_DIR


def of_others(data: PreparedData, target: str) -> dict[str, Path]:
    """Up to ``COUNT`` held-out slices by name, of as many other speakers as possible; none where no other has any."""
    others: dict[int, list[Slice]] = {}
    for piece in data.validation if data.validation is not data.training else ():
        if data.speakers[piece.speaker] != target:
            others.setdefault(piece.speaker, []).append(piece)
    turns = chain.from_iterable(zip_longest(*map(_spread, _spread(list(others.values())))))
    chosen = [piece for piece in turns if piece is not None][:COUNT]
    return {_name(data, piece): data.recording(piece) for piece in chosen}


def of_the_demo(data: PreparedData, target: str, run_dir: Path) -> dict[str, Path]:
    """Held-out slices of the target as the demo voice sings them, in ``run_dir / SUNG``; made where they are not there.

    Raises:
        MoksoriError: the demo voice cannot be loaded, or a slice not converted.
    """
    own = _spread([piece for piece in data.validation if data.speakers[piece.speaker] == target])
    clips = {piece: run_dir / SUNG / f"{piece.id}.flac" for piece in own}
    missing = {piece: path for piece, path in clips.items() if not path.exists()}
    if missing:
        voice = Voice.load(device="cpu")
        singer = next(name for name in voice.speaker_names if name != target)
        converter = Converter(voice, Options(speaker=singer, key="auto"))
        for piece, path in missing.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            converter.convert(data.recording(piece), path)
    return {f"{_name(data, piece)} by demo": path for piece, path in clips.items()}


def _spread(items: list[T]) -> list[T]:
    """``COUNT`` of them at most, evenly spread."""
    return items[:: max(1, len(items) // COUNT)][:COUNT]


def _name(data: PreparedData, piece: Slice) -> str:
    return f"{data.speakers[piece.speaker]}/{piece.id}"
