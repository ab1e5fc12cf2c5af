"""Pitch trackers by name: SwiftF0 is in the demo voice; CREPE's graphs are made once by svc-export."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from moksori.runtime import library, selftest, voice
from moksori.runtime.errors import OptionError

CREPE = {"crepe": "full", "crepe-tiny": "tiny"}  # name -> capacity
NAMES = ("swift", *CREPE)


def graph(name: str) -> Path:
    """The graph of the tracker ``name``, made when it is not there yet; OptionError when it cannot be."""
    if name == "swift":
        return installed("pitch")
    if name not in CREPE:
        raise OptionError(f"there is no pitch tracker '{name}': name {', '.join(NAMES)}, or an ONNX graph")
    if not place(name).is_file():
        export("--pitch", name)
    return place(name)


def export(option: str, name: str) -> None:
    """Have svc-export make a graph, in a process of its own: it needs another extra, and much memory for a moment.

    Raises:
        OptionError: it could not, in its own words.
    """
    click.echo(f"making the graph of {name}, once, as svc-export {option} does", err=True)
    command = [sys.executable, "-m", "moksori.export.cli", option, name]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8", errors="replace", env=environment
    )
    if done.returncode:
        words = (done.stderr.strip().splitlines() or [f"svc-export {option} {name} ended with {done.returncode}"])[-1]
        raise OptionError(words.removeprefix("Error: "))


def place(name: str) -> Path:
    """Where svc-export puts the graph of a tracker and svc-prepare looks for it."""
    return folder() / f"pitch-{name}.onnx"


def folder() -> Path:
    """Graphs that were made for this user, by name."""
    return selftest.cache_folder().parent / "graphs"


def installed(role: str) -> Path:
    """A graph of the demo voice."""
    found = library.installed().get(voice.DEFAULT)
    if found is None:
        raise OptionError(f"no demo voice is installed to take the {role} graph from: add --{role} {role}.onnx")
    return found / voice.read_manifest(found).files[role].path
