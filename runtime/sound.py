"""Sound cards, through PortAudio: found by name, opened with errors that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.errors import DeviceError
from moksori.runtime.strict import nearest, printable

Array = NDArray[np.float32]
Side = Literal["input", "output"]

LATENCY: dict[str, str | float] = {"ALSA": 0.04}  # seconds to ask a host for; "low" of others is safe already
ATTEMPTS = (48_000, 44_100)  # Hz that a card may be opened at, after its own rate


@dataclass(frozen=True)
class Card:
    """One device of PortAudio: its number there, its name, its host API, and channels to record and to play."""

    index: int
    name: str
    host: str
    inputs: int
    outputs: int
    rate: int

    def __str__(self) -> str:
        return f"{self.index}: {self.name} ({self.host})"

    def channels(self, side: Side) -> int:
        return self.inputs if side == "input" else self.outputs


def cards() -> list[Card]:
    """All devices that PortAudio finds now.

    Raises:
        DeviceError: there is no PortAudio.
    """
    hosts = _portaudio().query_hostapis()
    return [
        Card(
            index, printable(found["name"]), hosts[found["hostapi"]]["name"],
            found["max_input_channels"], found["max_output_channels"], round(found["default_samplerate"]),
        )
        for index, found in enumerate(_portaudio().query_devices())
    ]  # fmt: skip


def pick(which: str | None, side: Side) -> Card:
    """The card of a number, a name or part of one, or the system's default.

    Raises:
        DeviceError: no such card, or none at all; lists what there is.
    """
    fitting = [card for card in cards() if card.channels(side)]
    verb = {"input": "record from", "output": "play on"}[side]
    if not fitting:
        raise DeviceError(
            f"there is no sound card to {verb}: plug one in, or start the sound server, and look with svc-live --list"
        )
    if which is None:
        default = _portaudio().default.device[side == "output"]
        return next((card for card in fitting if card.index == default), fitting[0])
    if which.isdecimal():
        named = [card for card in fitting if card.index == int(which)]
    else:
        wanted = which.casefold()
        named = [card for card in fitting if card.name.casefold() == wanted]
        named = named or [card for card in fitting if wanted in card.name.casefold()]
    if not named:
        hint = nearest(which, [card.name for card in fitting])
        raise DeviceError(f"there is no {side} '{which}'{hint}; here: {', '.join(map(str, fitting))}")
    return named[0]


def rate(source: Card, target: Card) -> int:
    """Hz at which both cards can work, their own first.

    Raises:
        DeviceError: none; both must be one then.
    """
    sounddevice, reason = _portaudio(), ""
    for attempt in dict.fromkeys((source.rate, target.rate, *ATTEMPTS)):
        try:
            sounddevice.check_input_settings(source.index, 1, "float32", samplerate=attempt)
            sounddevice.check_output_settings(target.index, 1, "float32", samplerate=attempt)
        except sounddevice.PortAudioError as error:
            reason = _reason(error)
            continue
        return attempt
    raise DeviceError(f"{source} and {target} cannot be opened at one rate ({reason}): choose others, see --list")


@contextlib.contextmanager
def running(
    source: Card, target: Card, rate: int, size: int, record: Callable[[Array], None], play: Callable[[int], Array]
) -> Iterator[Callable[[], float]]:
    """While entered, ``record`` is called with [size] samples as they come and ``play`` for [size] to be heard.

    Both run in PortAudio's thread and must not wait. Gives a function that tells the driver's own latency in seconds.

    Raises:
        DeviceError: a card cannot be opened; from that function, one has stopped.
    """
    sounddevice = _portaudio()
    asked = LATENCY.get(target.host, "low")
    settings: dict[str, Any] = {"samplerate": rate, "blocksize": size, "dtype": "float32", "latency": asked}

    def taken(data: Array, frames: int, when: object, status: object) -> None:
        record(data.mean(1))

    def given(data: Array, frames: int, when: object, status: object) -> None:
        data[:] = play(frames)[:, None]

    def both(heard: Array, data: Array, frames: int, when: object, status: object) -> None:
        record(heard.mean(1))
        data[:] = play(frames)[:, None]

    channels = min(source.inputs, 2), min(target.outputs, 2)
    try:
        with ExitStack() as stack:
            try:
                pair = (source.index, target.index)
                stream = sounddevice.Stream(device=pair, channels=channels, callback=both, **settings)
                streams = [stack.enter_context(stream)]
            except sounddevice.PortAudioError:  # not every two cards can be one
                streams = [
                    stack.enter_context(kind(device=card.index, channels=count, callback=callback, **settings))
                    for kind, card, count, callback in (
                        (sounddevice.InputStream, source, channels[0], taken),
                        (sounddevice.OutputStream, target, channels[1], given),
                    )
                ]

            def latency() -> float:
                if not all(stream.active for stream in streams):
                    raise DeviceError(f"{source} or {target} has stopped: is it still plugged in?")
                return sum(float(np.sum(stream.latency)) for stream in streams)

            yield latency
    except sounddevice.PortAudioError as error:
        raise DeviceError(
            f"{source} and {target} cannot be opened ({_reason(error)}): close what else uses them, or choose others"
        ) from error


@contextlib.contextmanager
def playing(target: Card, rate: int, size: int, play: Callable[[int], Array]) -> Iterator[None]:
    """While entered, ``play`` is called for what is to be heard on one more card."""

    def given(data: Array, frames: int, when: object, status: object) -> None:
        data[:] = play(frames)[:, None]

    sounddevice = _portaudio()
    channels = min(target.outputs, 2)
    try:
        stream = sounddevice.OutputStream(
            samplerate=rate, blocksize=size, device=target.index, channels=channels, dtype="float32", callback=given
        )
        with stream:
            yield
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"{target} cannot be opened to monitor ({_reason(error)})") from error


def _portaudio() -> Any:
    try:
        import sounddevice
    except OSError as error:  # the module is there and PortAudio is not
        raise DeviceError(
            "PortAudio is not installed; on Debian and Ubuntu: apt-get install libportaudio2 libasound2-plugins"
        ) from error
    return sounddevice


def _reason(error: Exception) -> str:
    return printable(str(error.args[0] if error.args else error).splitlines()[0])
