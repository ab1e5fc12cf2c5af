"""The graphs that svc-prepare hears with, by what a person calls them: a file, a voice, a tracker, a network."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from moksori.runtime import archive, devices, library, manifest, voice
from moksori.runtime.backends import Device
from moksori.runtime.errors import OptionError
from moksori.runtime.files import atomic_path, sha256
from moksori.runtime.pitch import TRACKERS
from moksori.train import features, trackers

HUB_ID = re.compile(r"[\w-]+/[\w.-]+")
UNITS_PER_SECOND = 50
TORCH_FILES = (".pt", ".pth")  # as HuBERT-soft is published


@dataclass(frozen=True)
class Graph:
    """A graph that was opened once. ``dimension`` is D of the units of a content graph, else 0."""

    path: Path
    sha256: str
    bytes: int
    kind: str
    dimension: int = 0
    longest: float | None = None  # seconds that a content graph can hear at once
    notice: str = ""
    device: str = ""  # where it runs


def content(name: str | None, device: Device) -> Graph:
    """A content graph, from a file, a voice, or a folder or hub id of transformers, of which svc-export makes one.

    Raises:
        OptionError: there is none of that name, or it is not a content graph; says what to run.
        VoiceError: it is damaged.
    """
    path = trackers.installed("content") if name is None else _content_path(name)
    digest, session = _opened(path, device)
    inputs, outputs = session.raw.get_inputs(), session.raw.get_outputs()
    if [one.name for one in inputs] != ["audio"] or outputs[0].name != "units":
        raise OptionError(f"{path} is not a content graph: its only input must be audio and its output units")
    longest = session.metadata.get("longest")
    seconds = int(longest) / UNITS_PER_SECOND if longest else None
    dimension = int(session.metadata.get("dimension") or outputs[0].shape[-1])
    kind = session.metadata.get("kind", "")
    place = str(session.device)
    return Graph(path, digest, path.stat().st_size, kind, dimension, seconds, session.notice, place)


def pitch(name: str | None, device: Device) -> Graph:
    """A pitch graph, from a file or a tracker's name; raises as ``content``."""
    given = Path(name or "")
    path = given if name and (given.suffix == ".onnx" or given.is_file()) else trackers.graph(name or "swift")
    digest, session = _opened(path, device)
    taken = {one.name for one in session.raw.get_inputs()}
    kinds = [kind for kind, one in TRACKERS.items() if set(one.interface.inputs) == taken]
    if not kinds:
        inputs = " or ".join(" and ".join(one.interface.inputs) for one in TRACKERS.values())
        raise OptionError(f"{path} is not a pitch graph: its only input must be {inputs}")
    said = session.metadata.get("kind", "")
    notice, place = session.notice, str(session.device)
    return Graph(path, digest, path.stat().st_size, said if said in kinds else kinds[0], notice=notice, device=place)


def place(name: str) -> Path:
    """Where svc-export puts the graph of a network and svc-prepare looks for it; another network, another place."""
    folder = Path(name)
    weights = folder / "model.safetensors"
    text = name
    if folder.exists():
        status = weights.stat() if weights.is_file() else folder.stat()
        text = f"{folder.resolve()}, {status.st_size}, {status.st_mtime_ns}"
    stem = re.sub(r"[^A-Za-z0-9]+", "-", folder.name).strip("-") or "network"
    return trackers.folder() / f"content-{stem}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.onnx"


def _content_path(name: str) -> Path:
    given = Path(name)
    if given.is_file() and given.suffix == ".zip":
        return _of_voice(given)
    if given.is_file() and given.suffix in TORCH_FILES:
        return _made(name)
    if given.is_file() or given.suffix == ".onnx":
        return given
    if given.is_dir() and (given / manifest.FILE).is_file():
        return _of_voice(given)
    if not given.exists() and name in library.installed():
        return _of_voice(library.installed()[name])
    if (given / "config.json").is_file() or (not given.exists() and HUB_ID.fullmatch(name)):
        return _made(name)
    raise OptionError(f"{name} is no content graph, voice, or network of transformers (a folder with config.json)")


def _made(name: str) -> Path:
    if not place(name).is_file():
        trackers.export("--teacher", name)
    return place(name)


def _of_voice(path: Path) -> Path:
    """The content graph of a voice's folder, or out of its zip."""
    file = voice.read_manifest(path).files["content"]
    if path.is_dir():
        return path / file.path
    target = trackers.folder() / f"content-{file.sha256[:32]}.onnx"
    if not target.is_file():
        with archive.opened(path, manifest.FILE) as opened, atomic_path(target) as temporary:
            temporary.write_bytes(opened.read(file.path, file.bytes))
    return target


def _opened(path: Path, device: Device) -> tuple[str, devices.Session]:
    """Its hash, and the graph where it will run: on a device that fails the self-test, that is the CPU."""
    if not path.is_file():
        raise OptionError(f"{path} does not exist: name an ONNX graph")
    digest = sha256(path)
    return digest, features.opened(path, digest, device)
