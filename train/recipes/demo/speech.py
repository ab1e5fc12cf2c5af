"""The target speaker "heart": hibari-tts reading Debian's fortunes and King James Bible."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from clips import Clip, joined
from packages import DebianPackage, command, debian_root, python_package

HIBARI = "hibari-tts==0.2.1"
RATE = 24000
MIN_S, MAX_S, GAP_S = 4.0, 12.0, 0.2
SECONDS, HELD_OUT = 30 * 60, 8
COOKIES = (
    DebianPackage("fortunes", "usr/share/games/fortunes/wisdom"),
    DebianPackage("fortunes-min", "usr/share/games/fortunes/literature"),
)
BIBLE = DebianPackage("bible-kjv", "usr/bin/bible")
BIBLE_TEXT = DebianPackage("bible-kjv-text", "usr/lib/bible.data")
TOPICS = (
    *("wisdom", "people", "science", "work", "education", "cookie", "platitudes", "pets", "food"),
    *("paradoxum", "law", "humorists", "kids", "news", "literature", "fortunes", "computers", "riddles"),
)
BOOKS = ("psalms1:1-60:99", "proverbs1:1-31:99", "ecclesiastes1:1-12:99", "john1:1-21:99", "genesis1:1-30:99")
PLAIN = re.compile(r"[A-Z][A-Za-z ,;:'-]*[.!?]")
MIN_WORDS, MAX_WORDS = 5, 28


def clips(work: Path) -> Iterator[Clip]:
    """Yield the spoken clips."""
    tts = hibari(work)
    rng = random.Random("heart")
    texts = sentences(work)[0::2]
    read = (tts(text, speed=rng.uniform(0.9, 1.1), seed=seed) for seed, text in enumerate(texts))
    total, made = 0.0, 0
    for audio in gathered(read, rng):
        if not MIN_S * RATE <= len(audio) <= MAX_S * RATE:
            continue
        yield Clip(audio, RATE, held_out=made < HELD_OUT)
        total += 0 if made < HELD_OUT else len(audio) / RATE
        made += 1
        if total >= SECONDS:
            return


def gathered(read: Iterable[np.ndarray], rng: random.Random, rate: int = RATE) -> Iterator[np.ndarray]:
    """Join sentences to clips of various lengths, up to MAX_S."""
    pending: list[np.ndarray] = []
    for audio in read:
        if pending and len(joined([*pending, audio], rate, GAP_S)) > MAX_S * rate:
            yield joined(pending, rate, GAP_S)
            pending = []
        pending.append(audio)
        if len(joined(pending, rate, GAP_S)) > rng.uniform(MIN_S, MAX_S) * rate:
            yield joined(pending, rate, GAP_S)
            pending = []


def hibari(work: Path) -> Any:
    """Load the synthesiser."""
    sys.path.insert(0, str(python_package(work, HIBARI)))
    from hibari import Hibari

    return Hibari(threads=1)


def sentences(work: Path) -> list[str]:
    """Plain English sentences of MIN_WORDS to MAX_WORDS, shuffled the same way every time."""
    found: set[str] = set()
    for text in [*cookies(work), *verses(work)]:
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(text.split())):
            words = sentence.split()
            shouted = any(word.isupper() and len(word) > 1 for word in words)
            if MIN_WORDS <= len(words) <= MAX_WORDS and PLAIN.fullmatch(sentence) and not shouted:
                found.add(sentence)
    result = sorted(found)
    random.Random("sentences").shuffle(result)
    return result


def cookies(work: Path) -> Iterator[str]:
    """Yield the fortune cookies of TOPICS, without attributions."""
    folders = {(debian_root(work, package)[0] / package.proof).parent for package in COOKIES}
    for folder in sorted(folders):
        for topic in TOPICS:
            if (folder / topic).is_file():
                text = (folder / topic).read_text(encoding="utf-8", errors="ignore")
                yield from (re.split(r"\n\s*--", cookie)[0] for cookie in text.split("\n%\n"))


def verses(work: Path) -> Iterator[str]:
    """Yield verses of the King James Bible, which only its own program can unpack."""
    program = debian_root(work, BIBLE)[0] / BIBLE.proof
    data = (debian_root(work, BIBLE_TEXT)[0] / BIBLE_TEXT.proof).parent
    for book in BOOKS:
        line = [str(program), "-p", "./", "-f", book]  # it takes a space in a path for its end
        for verse in command(line, cwd=data, advice="apt-get install bible-kjv").splitlines():
            yield verse.partition(" ")[2]
