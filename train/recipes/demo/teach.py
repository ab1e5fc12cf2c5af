"""The content graph: a teacher's encoder with a unit map that forgets the speaker, fitted on some of the audio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from moksori.export.content import ContentFacts, export_content
from moksori.runtime import audio, content
from moksori.train import perturb, teacher, unit_map

UNITS = 128  # of Whisper's 512 directions; beyond these an alteration moves more than a sixth of what is said
SECONDS = 75.0  # of each folder, heard clean and twice altered
LONGEST_SECONDS = 12.0
CONTEXT_SECONDS = 1.0
CREDIT = "Whisper base, OpenAI (Radford et al. 2022)"


def teach(source: str, folders: dict[str, list[Path]], target: Path) -> None:
    """Fit the unit map on ``folders`` (speaker -> folders of audio) and write the content graph ``target``."""
    taught = teacher.load(source)
    fitted = unit_map.fit(*_frames(taught.network, folders), UNITS)
    last = nn.Linear(taught.width, UNITS)
    last.load_state_dict(
        {"weight": torch.from_numpy(fitted.weight).float(), "bias": torch.from_numpy(fitted.bias).float()}
    )
    facts = ContentFacts(taught.kind, UNITS, CONTEXT_SECONDS, taught.longest, licence="MIT", credit=CREDIT)
    target.parent.mkdir(parents=True, exist_ok=True)
    export_content(nn.Sequential(taught.network, last).eval(), facts, target, precision="w8")


def _frames(
    network: nn.Module, folders: dict[str, list[Path]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Hidden vectors of the same frames from clean and from altered audio [n, W], and their speakers [n]."""
    rng = np.random.default_rng(0)
    clean, altered, speakers = [], [], []
    places = [(number, folder) for number, found in enumerate(folders.values()) for folder in found]
    for number, folder in track(places, "fitting the unit map"):
        for heard in _some(folder, rng):
            original = _hidden(network, heard)
            for _ in range(2):
                other, ratio = perturb.altered(heard, rng)
                clean.append(original)
                altered.append(perturb.realign(_hidden(network, other), ratio, len(original)))
                speakers.append(np.full(len(original), number))
    return np.concatenate(clean).astype(float), np.concatenate(altered).astype(float), np.concatenate(speakers)


def _some(folder: Path, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    files = sorted(folder.glob("*.flac"))
    heard = 0.0
    for index in rng.permutation(len(files)):
        if heard > SECONDS:
            return
        samples = audio.read(files[index], perturb.RATE)[: int(LONGEST_SECONDS * perturb.RATE)]
        heard += len(samples) / perturb.RATE
        yield samples


@torch.no_grad()
def _hidden(network: nn.Module, heard: NDArray[np.float32]) -> NDArray[np.float32]:
    whole = heard[: len(heard) // content.UNIT_HOP * content.UNIT_HOP]
    hidden: NDArray[np.float32] = network(torch.from_numpy(np.ascontiguousarray(whole))[None])[0].numpy()
    return hidden
