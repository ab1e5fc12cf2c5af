"""The recordings that a data set is made of: who speaks in which file, and whether it was already prepared."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

from moksori.runtime.decoder import is_audio
from moksori.runtime.errors import OptionError
from moksori.runtime.files import read_json, sha256, write_json
from moksori.train.features import Place, Settings

LONGEST_NAME = 64  # characters of a speaker's


@dataclass(frozen=True)
class Source:
    """One file of one speaker; ``id`` is its own in the whole data set."""

    speaker: str
    path: Path
    id: str


@dataclass(frozen=True)
class Record:
    """What came of a source: its slices as (id, seconds), or the sentence why it has none.

    ``keys`` names what is complete, by product; a record without the audio's is never kept.
    """

    keys: dict[str, str]
    sha256: str
    size: int
    modified_ns: int
    slices: tuple[tuple[str, float], ...]
    error: str = ""


@dataclass(frozen=True)
class Found:
    """Files of all speakers, in a fixed order, and a sentence for each folder that could not be looked into."""

    sources: list[Source]
    unreadable: list[str]


def find(audio_dir: Path) -> Found:
    """The audio files of each speaker. Hidden files and folders are passed over, links are followed.

    Raises:
        OptionError: no such folder, no audio in it, audio beside the speakers' folders, or two speakers of one name.
    """
    if not audio_dir.is_dir():
        raise OptionError(f"{audio_dir} is not a folder: name the one that holds the recordings")
    unreadable: list[str] = []
    children = sorted(path for path in audio_dir.iterdir() if not path.name.startswith("."))
    loose = [path for path in children if is_audio(path)]
    speakers = {path.name: paths for path in children if path.is_dir() and (paths := _audio_in(path, unreadable))}
    if loose and speakers:
        raise OptionError(f"{loose[0]} lies beside the speakers' folders: move it into the folder of its speaker")
    if loose:
        speakers = {audio_dir.resolve().name or "speaker": loose}
    if not speakers:
        why = f" ({unreadable[0]})" if unreadable else ""
        raise OptionError(f"{audio_dir} holds no audio{why}: put a folder of recordings for each speaker into it")
    names = {folder: speaker_name(folder) for folder in speakers}
    for one, other in combinations(names, 2):
        if names[one].casefold() == names[other].casefold():
            raise OptionError(f"{one} and {other} would both be speaker {names[one]}: rename a folder, or merge them")
    files = [(names[folder], path) for folder, paths in speakers.items() for path in paths]
    return Found([Source(name, path, _source_id(path.relative_to(audio_dir))) for name, path in files], unreadable)


def speaker_name(folder: str) -> str:
    """A folder's name as a voice can hold it: "Kim, takes 1/2 " is "Kim_ takes 1_2"."""
    cleaned = re.sub(r'[\\/:,*?"<>|]', "_", "".join(char if char.isprintable() else "_" for char in folder))
    return cleaned[:LONGEST_NAME].strip(" .") or "speaker"


def check_folders(audio_dir: Path, data_dir: Path) -> None:
    """Refuse, with OptionError, folders in which preparing would read its own output or remove someone's files."""
    source, target = audio_dir.resolve(), data_dir.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise OptionError(f"{data_dir} and {audio_dir} lie one inside the other: choose another DATA_DIR")
    if data_dir.exists() and not data_dir.is_dir():
        raise OptionError(f"{data_dir} is a file: choose another DATA_DIR")
    if data_dir.is_dir() and any(data_dir.iterdir()) and not (data_dir / "sources").is_dir():
        raise OptionError(f"{data_dir} holds other things than prepared data: choose a new or empty DATA_DIR")


def record(source: Source, data_dir: Path, settings: Settings) -> Record | None:
    """What is known of a source whose audio is cut as ``settings`` ask; its features may be older.

    None when it has to be decoded. A file of the same size and time is the same.
    """
    try:
        known = read_json(_record_path(source, data_dir))
        old = Record(**{**known, "slices": tuple((str(name), float(length)) for name, length in known["slices"])})
        status = source.path.stat()
        same = (old.size, old.modified_ns) == (status.st_size, status.st_mtime_ns)
        digest = old.sha256 if same else sha256(source.path)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if old.keys.get("audio") != settings.keys(digest)["audio"]:
        return None
    if not same:
        old = replace(old, size=status.st_size, modified_ns=status.st_mtime_ns)
        keep_record(source, data_dir, old)
    places = (Place(data_dir, source.speaker, name) for name, _ in old.slices)
    return old if all(place.flac.is_file() and place.npz.is_file() for place in places) else None


def keep_record(source: Source, data_dir: Path, record: Record) -> None:
    write_json(_record_path(source, data_dir), asdict(record))


def forget_record(source: Source, data_dir: Path) -> None:
    """Before its slices change: a run that is killed among them must not be believed."""
    _record_path(source, data_dir).unlink(missing_ok=True)


def remove_others(data_dir: Path, places: list[Place], sources: list[Source]) -> None:
    """Remove the files of slices and sources that no longer belong, and what a killed run left behind."""
    wanted = {path for place in places for path in (place.flac, place.npz)}
    wanted |= {_record_path(source, data_dir) for source in sources}
    for folder, suffix in (("audio", ".flac"), ("features", ".npz"), ("sources", ".json")):
        for path in sorted((data_dir / folder).rglob(f"*{suffix}")):
            if path not in wanted:
                path.unlink()
        for path in sorted((data_dir / folder).glob("*")):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
    for path in data_dir.glob(".*.part*"):
        path.unlink()


def _record_path(source: Source, data_dir: Path) -> Path:
    return data_dir / "sources" / source.speaker / f"{source.id}.json"


def _audio_in(folder: Path, unreadable: list[str]) -> list[Path]:
    """Audio at any depth. A folder is gone through once, however many links lead to it."""

    def refused(error: OSError) -> None:
        unreadable.append(f"{printable(str(error.filename))} cannot be read ({error.strerror}): check its permissions")

    paths, seen = [], set()
    for parent, folders, names in os.walk(folder, onerror=refused, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        names = [] if real in seen else names
        seen.add(real)
        paths += [path for name in names if is_audio(path := Path(parent) / name)]
    return sorted(paths)


def printable(text: str) -> str:
    """``text`` without what UTF-8 cannot hold, as names of files may."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _source_id(relative: Path) -> str:
    """The file's stem made safe, and a hash of its place, so that no two are the same."""
    place = hashlib.sha256(relative.as_posix().encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', relative.stem).strip('_')[:40] or 'audio'}-{place}"
