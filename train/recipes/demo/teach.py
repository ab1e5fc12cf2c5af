"""The demo's content graph: Whisper's encoder with a unit map that forgets the speaker, fitted on some of the audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import load_file

from moksori.export.content import ContentFacts, export_content
from moksori.models.whisper import MAX_UNITS, UNIT_HOP, WhisperConfig, WhisperContent
from moksori.runtime import audio
from moksori.train import perturb, unit_map

UNITS = 128  # of Whisper's 512 directions; beyond these an alteration moves more than a sixth of what is said
SECONDS = 75.0  # of each folder, heard clean and twice altered
LONGEST_SECONDS = 12.0
CONTEXT_SECONDS = 1.0
CREDIT = "Whisper base, OpenAI (Radford et al. 2022)"


def teach(whisper: Path, folders: dict[str, list[Path]], target: Path) -> None:
    """Fit the unit map on ``folders`` (speaker -> folders of audio) and write the content graph ``target``."""
    weights = {name.removeprefix("encoder."): value for name, value in load_file(whisper / "model.safetensors").items()}
    network = WhisperContent(WhisperConfig()).eval()
    network.load_state_dict(weights)
    fitted = unit_map.fit(*_frames(network, folders), UNITS)
    mapped = WhisperContent(replace(network.config, units=UNITS)).eval()
    weights["unit_map.weight"] = torch.from_numpy(fitted.weight).float()
    weights["unit_map.bias"] = torch.from_numpy(fitted.bias).float()
    mapped.load_state_dict(weights)
    facts = ContentFacts("whisper", UNITS, CONTEXT_SECONDS, MAX_UNITS, "MIT", CREDIT)
    target.parent.mkdir(parents=True, exist_ok=True)
    export_content(mapped, facts, target, precision="int8")


def _frames(
    network: WhisperContent, folders: dict[str, list[Path]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Hidden vectors of the same frames from clean and from altered audio [n, 512], and their speakers [n]."""
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
    rng.shuffle(files)
    heard = 0.0
    for file in files:
        if heard > SECONDS:
            return
        samples = audio.read(file, perturb.RATE)[: int(LONGEST_SECONDS * perturb.RATE)]
        heard += len(samples) / perturb.RATE
        yield samples


@torch.no_grad()
def _hidden(network: WhisperContent, heard: NDArray[np.float32]) -> NDArray[np.float32]:
    whole = heard[: len(heard) // UNIT_HOP * UNIT_HOP]
    hidden: NDArray[np.float32] = network(torch.from_numpy(np.ascontiguousarray(whole))[None])[0].numpy()
    return hidden
