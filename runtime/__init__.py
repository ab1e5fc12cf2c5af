"""The engine: converts audio with a voice. Needs numpy, onnxruntime, soundfile, soxr, click, platformdirs and rich.

    from moksori.runtime import Converter, Options, Voice

    voice = Voice.load("demo")
    Converter(voice, Options(speaker="heart")).convert("song.wav", "converted.wav")
    Stream(voice, Options(speaker="heart")).push(samples)  # live
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moksori.runtime.converter import Converter
    from moksori.runtime.options import Options
    from moksori.runtime.report import Report
    from moksori.runtime.stream import Live, Stream
    from moksori.runtime.voice import Voice

_HOMES = {
    "Converter": "converter",
    "Live": "stream",
    "Options": "options",
    "Report": "report",
    "Stream": "stream",
    "Voice": "voice",
}
__all__ = ["Converter", "Live", "Options", "Report", "Stream", "Voice"]


def __getattr__(name: str) -> Any:
    """Import on first use: a command that only prints its help should not load onnxruntime."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
