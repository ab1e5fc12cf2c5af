"""A voice, loaded: verified files, open graphs, speakers. Immutable, so that any number of streams may share it."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import archive, devices, graphs, library, manifest, onnx_bytes, selftest
from moksori.runtime.devices import Device, Session
from moksori.runtime.errors import OptionError, VoiceError
from moksori.runtime.manifest import Manifest
from moksori.runtime.strict import nearest

Array = NDArray[np.float32]

DEFAULT = "demo"
MOST_LANES = 4  # each takes the memory of a chunk; more cores are shared among them
DEVICE_LANES = 2  # one waits for the device while the other works beside it


@dataclass(frozen=True)
class Voice:
    """Everything a conversion needs to know and to run."""

    manifest: Manifest
    sessions: Mapping[str, Session] = field(repr=False)  # role -> open graph
    lanes: int = 1  # chunks that may be worked on at a time

    @classmethod
    def load(
        cls,
        voice: str | Path = DEFAULT,
        device: Device | str = "auto",
        threads: int | None = None,
        lanes: int | None = None,
    ) -> Voice:
        """Open and check a voice: format, hashes, graphs, and on any device but the CPU a self-test of each graph.

        Args:
            voice: an installed voice's name, or a folder or zip.
            threads: of the CPU, in all; else MOKSORI_THREADS, else as many as this process may use.
            lanes: chunks of a song worked on at a time, which share the threads; 1 is best for a live stream.
        Raises:
            VoiceError: no such voice, or one that is damaged, altered, too new or unsafe.
            DeviceError: no such device.
        """
        place = devices.pick(device) if isinstance(device, str) else device
        threads = threads or devices.cores()
        lanes = lanes or (min(threads, MOST_LANES) if place.kind == "cpu" else DEVICE_LANES)
        each = max(1, threads // lanes)
        with archive.opened(library.locate(voice), manifest.FILE) as source:
            spec = manifest.read(source.read(manifest.FILE, manifest.LARGEST_MANIFEST))
            # Hashing and onnxruntime's optimiser let go of Python's lock.
            with ThreadPoolExecutor(2) as pool:
                opened = pool.map(partial(_open, source, spec, place, each), manifest.ROLES)
                sessions = dict(zip(manifest.ROLES, opened, strict=True))
        graphs.check_joint(sessions, spec)
        return cls(spec, MappingProxyType(sessions), lanes)

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
        """Sentences about graphs that run elsewhere than asked; one for all of which the same is to be said."""
        told = defaultdict(list)
        for role, session in self.sessions.items():
            if session.notice:
                told[session.notice.removeprefix(f"{session.name} runs ")].append((role, session.notice))
        return tuple(
            same[0][1] if len(same) == 1 else f"the {', '.join(role for role, _ in same)} graphs run {rest}"
            for rest, same in told.items()
        )

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
    with archive.opened(library.locate(voice), manifest.FILE) as source:
        return manifest.read(source.read(manifest.FILE, manifest.LARGEST_MANIFEST))


def read_graphs(voice: str | Path, roles: Iterable[str] = manifest.ROLES) -> tuple[Manifest, dict[str, bytes]]:
    """A voice as it is stored: its manifest and some of its ONNX files, checked as in ``Voice.load`` but not opened."""
    with archive.opened(library.locate(voice), manifest.FILE) as source:
        spec = manifest.read(source.read(manifest.FILE, manifest.LARGEST_MANIFEST))
        return spec, {role: _model(source, spec, role) for role in roles}


def _open(source: archive.Archive, spec: Manifest, device: Device, threads: int, role: str) -> Session:
    file, model = spec.files[role], _model(source, spec, role)
    session = devices.open_session(model, device, threads, f"the {role} graph", spin=False)
    graphs.check(role, session, spec)

    def on_cpu() -> Session:
        return devices.open_session(model, devices.cpu(), threads, f"the {role} graph", spin=False)

    return selftest.trusted(session, on_cpu, lambda: graphs.example(role, spec, session), file.sha256)


def _model(source: archive.Archive, spec: Manifest, role: str) -> bytes:
    file = spec.files[role]
    model = source.read(file.path, file.bytes)
    if len(model) != file.bytes or hashlib.sha256(model).hexdigest() != file.sha256:
        raise VoiceError(
            f"{file.path} of voice '{spec.name}' is not the file {manifest.FILE} describes (its hash differs): "
            "damaged or altered; copy or download the voice again"
        )
    onnx_bytes.check_closed(role, model)
    return model


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
