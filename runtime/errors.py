"""Errors a person can act on: one sentence that names the thing and the mend. Commands print it and exit with 2."""

from __future__ import annotations


class MoksoriError(Exception):
    """Base of every error that is meant to be read by a user."""


class AudioError(MoksoriError):
    """An audio file cannot be read, or holds nothing to convert."""


class VoiceError(MoksoriError):
    """A voice folder or zip is damaged, altered, of another version, or asks for something it must not."""


class DeviceError(MoksoriError):
    """The asked device does not exist here, or no onnxruntime is installed for it."""


class MemoryFull(DeviceError):
    """A graph asked for more memory than its device has left."""


class OptionError(MoksoriError):
    """An option has a value that cannot be used."""
