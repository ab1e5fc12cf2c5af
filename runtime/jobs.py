"""Which files to convert into which: folders are searched, trees kept, nothing destroyed, finished work left alone."""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moksori.runtime import curve, tags
from moksori.runtime.decoder import is_audio
from moksori.runtime.errors import OptionError
from moksori.runtime.naming import Naming, Style

LEFTOVER = re.compile(r"\.[0-9a-f]{16}\.part\.\w+")  # what files.atomic_path leaves when its process is killed
LEFTOVER_AGE = 3600.0  # seconds; writing a result takes less


@dataclass(frozen=True)
class Found:
    """An input file, and the folder below the one that was named in which it lies."""

    path: Path
    inside: Path = Path()


@dataclass(frozen=True)
class Job:
    """One file to convert. ``problem`` says why it must not be."""

    source: Path
    target: Path
    plot: bool
    save_f0: bool
    problem: str = ""

    @property
    def picture(self) -> Path:
        return self.target.with_suffix(".png")

    @property
    def curve(self) -> Path:
        return self.target.with_suffix(curve.SUFFIX)

    @property
    def results(self) -> list[Path]:
        return [self.target, *([self.picture] if self.plot else []), *([self.curve] if self.save_f0 else [])]

    def finished(self, settings: Mapping[str, str]) -> bool:
        """Whether all results exist, made of this source, as it is, with these settings."""
        if not all(path.is_file() for path in self.results) or not self.source.is_file():
            return False
        made = self.target.stat().st_mtime >= self.source.stat().st_mtime
        return made and tags.made_with(self.target, settings)

    def check(self, settings: Mapping[str, str], force: bool) -> None:
        """Raise OptionError where writing would destroy something."""
        if self.problem:
            raise OptionError(self.problem)
        if force or tags.made_with(self.target, settings):
            return
        for path in self.results:
            if path.exists():
                raise OptionError(
                    f"{path} exists and was made otherwise: overwrite it by --force, or name another by -o or --name"
                )


def find(inputs: Iterable[Path], recursive: bool, out: Path | None) -> list[Found]:
    """The files that inputs mean: a file itself, a folder's audio files, with ``recursive`` those of its folders too.

    A file that is meant twice counts once, where it was meant first.

    In folders, hidden files, what lies below ``out`` and what Moksori made are passed over.

    Raises:
        OptionError: a folder without audio.
    """
    found: list[Found] = []
    for path in inputs:
        if not path.is_dir():
            found.append(Found(path))
            continue
        files = [file for file in _walk(path, recursive, out) if not tags.ours(file)]
        if not files:
            below = "" if recursive else "; --recursive looks into its folders too"
            raise OptionError(f"{path} is a folder without audio to convert{below}")
        found += [Found(file, file.parent.relative_to(path)) for file in files]
    once: dict[Path, Found] = {}
    for one in found:
        once.setdefault(one.path.absolute(), one)
    return list(once.values())


def plan(found: Sequence[Found], place: Naming, style: Style, plot: bool, save_f0: bool) -> list[Job]:
    """A job for each file, with its problem where two results would be one, or one an input."""
    targets = [place.target(one.path, style, one.inside) for one in found]
    sources = {_key(one.path) for one in found} | {key for one in found if (key := _identity(one.path))}
    rivals = defaultdict(list)
    for one, target in zip(found, targets, strict=True):
        rivals[_key(target)].append(str(one.path))
    jobs = []
    for one, target in zip(found, targets, strict=True):
        problem, same = "", rivals[_key(target)]
        if _key(target) in sources or _identity(target) in sources:
            problem = f"{target} is an input, which is never overwritten: name another by -o"
        elif len(same) > 1:
            problem = f"{', '.join(same)} would all become {target}: convert them into different folders"
        jobs.append(Job(one.path, target, plot, save_f0, problem))
    return jobs


def tidy(folders: Iterable[Path]) -> None:
    """Remove what a killed run left half-written in these folders."""
    for folder in folders:
        for path in folder.glob(".*.part.*"):
            if LEFTOVER.fullmatch(path.name) and time.time() - path.stat().st_mtime > LEFTOVER_AGE:
                path.unlink(missing_ok=True)


def _walk(folder: Path, recursive: bool, out: Path | None) -> list[Path]:
    avoided = _key(out) if out is not None and _key(out) != _key(folder) else None
    paths = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [
            name for name in folders if recursive and name[0] != "." and _key(Path(parent, name)) != avoided
        ]
        paths += [path for name in names if is_audio(path := Path(parent, name))]
    return sorted(paths)


def _identity(path: Path) -> str:
    """Equal for two names of one existing file, links included; empty for a file that does not exist."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


def _key(path: Path) -> str:
    """Equal for paths that a file system may take for one file; some do not tell a from A."""
    return unicodedata.normalize("NFC", str(path.resolve())).casefold()
