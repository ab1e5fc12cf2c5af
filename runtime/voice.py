"""A voice, loaded: verified files, open graphs, speakers. Immutable, so that any number of streams may share it."""

from __future__ import annotations

import hashlib
import importlib.resources
import math
import unicodedata
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import archive, devices, graphs, manifest, onnx_bytes, selftest
from moksori.runtime.devices import Device, Session
from moksori.runtime.errors import OptionError, VoiceError
from moksori.runtime.manifest import Manifest
from moksori.runtime.strict import nearest

Array = NDArray[np.float32]

DEFAULT = "demo"
_PACKAGE = "moksori.voices"  # each folder in it is an installed voice


@dataclass(frozen=True)
class Voice:
    """Everything a conversion needs to know and to run."""

    manifest: Manifest
    sessions: Mapping[str, Session] = field(repr=False)  # role -> open graph

    @classmethod
    def load(
        cls, voice: str | Path = DEFAULT, device: Device | str = "auto", threads: int | None = None
    ) -> Voice:
        """Open and check a voice: format, hashes, graphs, and on any device but the CPU a self-test of each graph.

        Args:
            voice: an installed voice's name, or a folder or zip.
            threads: CPU threads in one operator; by default all.
        Raises:
            VoiceError: no such voice, or one that is damaged, altered, too new or unsafe.
            DeviceError: no such device.
        """
        place = devices.pick(device) if isinstance(device, str) else device
        with archive.opened(locate(voice), manifest.FILE) as source:
            spec = manifest.read(source.read(manifest.FILE, manifest.LARGEST_MANIFEST))
            # Hashing and onnxruntime's optimiser let go of Python's lock.
            with ThreadPoolExecutor(2) as pool:
                opened = pool.map(partial(_open, source, spec, place, threads), manifest.ROLES)
                sessions = dict(zip(manifest.ROLES, opened, strict=True))
        graphs.check_joint(sessions, spec)
        return cls(spec, MappingProxyType(sessions))

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def content(self) -> Session:
        return self.sessions["content"]

    @property
    def pitch(self) -> Session:
        return self.sessions["pitch"]

    @property
    def condition(self) -> Session:
        return self.sessions["condition"]

    @property
    def denoiser(self) -> Session:
        return self.sessions["denoiser"]

    @property
    def vocoder(self) -> Session:
        return self.sessions["vocoder"]

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about graphs that run elsewhere than asked."""
        return tuple(session.notice for session in self.sessions.values() if session.notice)

    @property
    def speaker_names(self) -> tuple[str, ...]:
        return tuple(speaker.name for speaker in self.manifest.speakers)

    def speaker_index(self, name: str) -> int:
        """The place of a speaker in ``manifest.speakers``; OptionError lists the names when there is none such."""
        names = [_plain(one) for one in self.speaker_names]
        if _plain(name) not in names:
            hint = nearest(name, self.speaker_names)
            raise OptionError(
                f"voice '{self.name}' has no speaker '{name}'{hint}; it has {', '.join(self.speaker_names)}"
            )
        return names.index(_plain(name))

    def speaker_weights(self, text: str | None = None) -> Array:
        """Mix weights [speakers], summing to 1, of "heart" or "heart:0.7,f001:0.3"; the first speaker by default."""
        weights = np.zeros(len(self.speaker_names), np.float32)
        for part in (text or self.speaker_names[0]).split(","):
            name, _, amount = part.partition(":")
            index = self.speaker_index(name.strip())
            if weights[index]:
                raise OptionError(f"speaker '{name.strip()}' is in the mix '{text}' twice; name each once")
            weights[index] = _weight(amount, text) if ":" in part else 1
        return (weights / weights.sum()).astype(np.float32)


def read_manifest(voice: str | Path = DEFAULT) -> Manifest:
    """What a voice says about itself, without opening its graphs."""
    with archive.opened(locate(voice), manifest.FILE) as source:
        return manifest.read(source.read(manifest.FILE, manifest.LARGEST_MANIFEST))


def installed() -> dict[str, Path]:
    """Voices that came with packages: name -> folder."""
    try:
        folders = [
            entry for entry in importlib.resources.files(_PACKAGE).iterdir() if isinstance(entry, Path)
        ]
    except (ModuleNotFoundError, NotADirectoryError):
        return {}
    return {folder.name: folder for folder in sorted(folders) if (folder / manifest.FILE).is_file()}


def locate(voice: str | Path) -> Path:
    """The folder or zip of a voice; a bare text is first an installed voice's name, then a path."""
    known = installed() if isinstance(voice, str) else {}
    if isinstance(voice, str) and voice in known:
        return known[voice]
    if isinstance(voice, str) and not Path(voice).exists():
        names = f"; installed: {', '.join(known)}" if known else ""
        raise VoiceError(
            f"there is no voice '{voice}'{nearest(voice, known)}; give a folder or .zip of a voice{names}"
        )
    return Path(voice)


def _open(source: archive.Archive, spec: Manifest, device: Device, threads: int | None, role: str) -> Session:
    file = spec.files[role]
    model = source.read(file.path, file.bytes)
    if len(model) != file.bytes or hashlib.sha256(model).hexdigest() != file.sha256:
        raise VoiceError(
            f"{file.path} of voice '{spec.name}' is not the file {manifest.FILE} describes (its hash differs): "
            "damaged or altered; copy or download the voice again"
        )
    onnx_bytes.check_closed(role, model)
    session = devices.open_session(model, device, threads, f"the {role} graph")
    graphs.check(role, session, spec)

    def on_cpu() -> Session:
        return devices.open_session(model, devices.cpu(), threads, f"the {role} graph")

    return selftest.trusted(session, on_cpu, lambda: graphs.example(role, spec, session), file.sha256)


def _weight(text: str, mix: str | None) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < 1e6:
        raise OptionError(
            f"'{text}' in the speaker mix '{mix}' must be a number above 0, as in heart:0.7,f001:0.3"
        )
    return weight


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS types Korean decomposed
