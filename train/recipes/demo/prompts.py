"""Human speech: the Asterisk telephone prompts in five languages, decoded and joined to clips."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from clips import Clip, is_silent, joined
from packages import DebianPackage, debian_root, python_package

RATE = 16000
MIN_S, MAX_S, GAP_S = 5.0, 12.0, 0.25
HELD_OUT_MIN_S, HELD_OUT_MAX_S = 4.0, 10.0
# Tones, noises and animals; the folder `silence` is what it says.
NOT_SPEECH = {
    *("beep", "beeperr", "ascending-2tone", "descending-2tone"),
    *("confbridge-join", "confbridge-leave", "tt-monkeys"),
}
NOT_SPEECH_STARTS = ("fpm-", "silence")
AV = "av==18.1.0"


def package(language: str) -> DebianPackage:
    """The Debian package of one language's prompts."""
    return DebianPackage(
        f"asterisk-core-sounds-{language}-g722", f"usr/share/asterisk/sounds/{language}_*/vm-goodbye.g722"
    )


def clips(work: Path, language: str, held_out: int) -> Iterator[Clip]:
    """Yield the language's clips, of which `held_out` are held out."""
    root, _ = debian_root(work, package(language))
    sys.path.insert(0, str(python_package(work, AV)))
    folder = next(root.glob(package(language).proof)).parent
    pieces: list[np.ndarray] = []
    for file in sorted(folder.rglob("*.g722")):
        name = file.relative_to(folder).as_posix()
        if file.stem in NOT_SPEECH or name.startswith(NOT_SPEECH_STARTS):
            continue
        audio = decoded(file)
        if not is_silent(audio):
            pieces.extend(split(audio))
    # Shuffled, so that a clip of single words does not follow the alphabet.
    random.Random(language).shuffle(pieces)
    made = [joined(group, RATE, GAP_S) for group in grouped(pieces)]
    suited = [i for i, audio in enumerate(made) if HELD_OUT_MIN_S <= len(audio) / RATE <= HELD_OUT_MAX_S]
    chosen = set(suited[:held_out])
    for i, audio in enumerate(made):
        yield Clip(audio, RATE, held_out=i in chosen)


def decoded(file: Path) -> np.ndarray:
    """Decode a G.722 file to (samples,) at RATE."""
    import av

    with av.open(str(file), format="g722") as container:
        frames = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    return np.concatenate(frames).astype(np.float32) / 32768 if frames else np.zeros(0, np.float32)


def split(audio: np.ndarray) -> list[np.ndarray]:
    """Cut a recording longer than MAX_S at its quietest moments."""
    hop = RATE // 50
    parts = []
    while len(audio) > MAX_S * RATE:
        low, high = round(MIN_S * 50), round((MAX_S - 1) * 50)
        frames = audio[low * hop : high * hop].reshape(-1, hop)
        power = np.convolve(np.square(frames).mean(axis=1), np.ones(5), mode="same")
        cut = (low + int(power.argmin())) * hop + hop // 2
        parts.append(audio[:cut])
        audio = audio[cut:]
    return [*parts, audio]


def grouped(pieces: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Gather pieces until another would make the clip longer than MAX_S."""
    group: list[np.ndarray] = []
    length = 0.0
    for piece in pieces:
        added = len(piece) / RATE + GAP_S
        if group and length + added > MAX_S:
            yield group
            group, length = [], 0.0
        group.append(piece)
        length += added
    if group:
        yield group
