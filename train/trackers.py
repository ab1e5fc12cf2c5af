"""Pitch trackers by name: SwiftF0 is in the demo voice; CREPE's graphs are made once by svc-export."""

from __future__ import annotations

from pathlib import Path

from moksori.runtime import selftest, voice
from moksori.runtime.errors import OptionError

CREPE = {"crepe": "full", "crepe-tiny": "tiny"}  # name -> capacity
NAMES = ("swift", *CREPE)


def graph(name: str) -> Path:
    """The graph of the tracker ``name``, or OptionError with the line that makes it."""
    if name == "swift":
        return installed("pitch")
    if name not in CREPE:
        raise OptionError(f"there is no pitch tracker '{name}': name {', '.join(NAMES)}, or an ONNX graph")
    if not place(name).is_file():
        raise OptionError(f"the graph of {name} is not made yet; run once: svc-export --pitch {name}")
    return place(name)


def place(name: str) -> Path:
    """Where svc-export puts the graph of a tracker and svc-prepare looks for it."""
    return folder() / f"pitch-{name}.onnx"


def folder() -> Path:
    """Graphs that were made for this user, by name."""
    return selftest.cache_folder().parent / "graphs"


def installed(role: str) -> Path:
    """A graph of the demo voice."""
    found = voice.installed().get(voice.DEFAULT)
    if found is None:
        raise OptionError(f"no demo voice is installed to take the {role} graph from: add --{role} {role}.onnx")
    return found / voice.read_manifest(found).files[role].path
