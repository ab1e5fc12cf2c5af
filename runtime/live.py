"""svc-live: a microphone in, another voice out."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.live import Live as Screen
from rich.text import Text

from moksori.runtime import keyboard, sound
from moksori.runtime.command import Command, Failure
from moksori.runtime.errors import OptionError

if TYPE_CHECKING:
    from moksori.runtime.options import Options
    from moksori.runtime.stream import Stream

Array = NDArray[np.float32]

PARTS = 4  # of a block in which sound goes to and from the card
SLACK = 2  # parts that the work on a block may always take: half of its time
FLOW_STEPS = 1  # unless asked for more: it sounds almost as three do, and half of a block's time is left (docs/live.md)
ROOM = 1.25  # times what it took in a trial
TOO_SLOW = "this machine cannot keep up: there will be gaps; try --block 80, --steps 1 or a graphics card"
REFRESH_SECONDS = 0.1  # of the screen
TOLD_SECONDS = 5.0  # between lines where there is no screen
QUIETEST_DB = -60
HURRY = -10  # of the priority, where that is allowed, as sound servers take it
KEYS = "up/down key   s speaker   m mute   q quit"

EXAMPLES = """\b
Examples:
  svc-live --list
  svc-live --speaker f001 --key 4
  svc-live --input "USB Microphone" --output "CABLE Input" --monitor
"""


@click.command("svc-live", cls=Command, extra="live", epilog=EXAMPLES)
@click.option("--voice", "voice_name", default="demo", show_default=True, metavar="V",
              help="A voice's name, folder or .zip.")
@click.option("--speaker", metavar="S", help="Whose voice, or a mix such as heart:0.7,f001:0.3.  [default: its first]")
@click.option("--key", type=float, default=0.0, metavar="N", help="Semitones up (12) or down (-12), fractions too.")
@click.option("--formant", type=float, default=0.0, metavar="N", help="Semitones by which to raise the formants alone.")
@click.option("--steps", type=click.IntRange(1, 1000), metavar="N",
              help="Steps of the denoiser; fewer while the machine has no time for them."
              "  [default: 1 of a flow, else the voice's]")
@click.option("--input", "source", metavar="DEV", help="Name, part of it, or number.  [default: the system's]")
@click.option("--output", "target", metavar="DEV", help="As --input; a virtual cable brings it to other programs.")
@click.option("--monitor", is_flag=True, help="Play it on the system's own output too.")
@click.option("--block", type=float, default=40.0, show_default=True, metavar="MS",
              help="Sound that is worked on at a time: less is sooner and dearer.")
@click.option("--lookahead", type=float, default=30.0, show_default=True, metavar="MS",
              help="Sound that is heard before a block is sung: less is sooner and worse.")
@click.option("--gain", type=float, metavar="DB",
              help="From the microphone's level to the voice's.  [default: found while you sing]")
@click.option("--device", "device_name", default="auto", show_default=True, metavar="D",
              help="That computes: auto, cuda, directml, webgpu or cpu.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), metavar="S",
              help="Stop after this long.  [default: at q or Ctrl-C]")
@click.option("--list", "listing", is_flag=True, help="List the sound cards and exit.")
@click.version_option(importlib.metadata.version("moksori"), prog_name="svc-live", message="%(prog)s %(version)s")
def main(
    voice_name: str,
    speaker: str | None,
    key: float,
    formant: float,
    steps: int | None,
    source: str | None,
    target: str | None,
    monitor: bool,
    block: float,
    lookahead: float,
    gain: float | None,
    device_name: str,
    seconds: float | None,
    listing: bool,
) -> None:  # fmt: skip
    """Sing or speak into a microphone in another voice, a tenth of a second later.

    Wear headphones: a microphone that hears the result sings it again.
    """
    if listing:
        click.echo(listed())
        return

    from moksori.runtime import Options, Voice
    from moksori.runtime.stream import Live, Stream

    cards = sound.pick(source, "input"), sound.pick(target, "output")
    aside = sound.pick(None, "output") if monitor else None
    rate = sound.rate(*cards)
    voice = Voice.load(voice_name, device_name, lanes=1)
    if steps is None and voice.manifest.denoiser.prediction == "velocity":
        steps = FLOW_STEPS
    options = Options(speaker=speaker, key=key, formant=formant, steps=steps)
    part = max(1, round(block * rate / 1000 / PARTS))
    live = Live(rate, block, lookahead, gain=gain, step=part)
    stream = Stream(voice, options, live)
    for notice in stream.voice.notices:
        click.echo(f"Note: {notice}", err=True)
    with contextlib.suppress(OSError, AttributeError):  # not allowed, or another system
        os.nice(HURRY)
    slack = slack_for(stream, part)
    if slack > PARTS:
        click.echo(f"Warning: {TOO_SLOW}", err=True)
    Session(stream, options, cards, part, min(slack, PARTS), aside).run(seconds)


def slack_for(stream: Stream, part: int) -> int:
    """Parts that the work on a block takes here, by trial; it stays so, that the delay may stay so."""
    time_of = np.arange(2 * stream.rate // part * part) / stream.rate
    partials = np.stack([0.1 * np.sin(2 * np.pi * 220 * k * time_of) / k for k in range(1, 9)])
    tone: Array = partials.sum(0).astype(np.float32)
    spent = []
    for at in range(0, len(tone), part):
        began = time.perf_counter()
        stream.push(tone[at : at + part])
        spent.append(time.perf_counter() - began)
    stream.reset()
    worked = sorted(spent[len(spent) // 2 :])[-2]  # the first runs of a graph are slow
    return max(SLACK, math.ceil(ROOM * worked * stream.rate / part))


class Session:
    """One run of svc-live: cards, stream and screen."""

    def __init__(
        self,
        stream: Stream,
        options: Options,
        cards: tuple[sound.Card, sound.Card],
        part: int,
        slack: int,
        aside: sound.Card | None,
    ) -> None:
        from moksori.runtime.relay import Relay

        self.stream, self.cards, self.part, self.aside = stream, cards, part, aside
        steps = options.steps or stream.voice.manifest.denoiser.steps
        self.relay = Relay(stream, options, steps, part / stream.rate, slack)
        self.speakers = stream.voice.speaker_names
        self.heard = self.played = 0.0  # peaks since the screen was last drawn
        self.copies: deque[Array] = deque(maxlen=2 * PARTS)  # for the monitor, which may run at another speed
        self.console = Console()

    def run(self, seconds: float | None) -> None:
        """Until q, Ctrl-C, an error or so many seconds; tells at the end what was missed."""
        end, told = math.inf if seconds is None else time.monotonic() + seconds, time.monotonic()
        try:
            with ExitStack() as stack:
                stack.callback(self.relay.close)
                play, rate = self._play, self.stream.rate
                driver = stack.enter_context(sound.running(*self.cards, rate, self.part, self._record, play))
                if self.aside is not None:
                    stack.enter_context(sound.playing(self.aside, rate, self.part, self._copy))
                press = stack.enter_context(keyboard.keys())
                screen = stack.enter_context(Screen(console=self.console, auto_refresh=False, transient=True))
                while time.monotonic() < end and self._pressed(press(REFRESH_SECONDS)):
                    if self.relay.failure is not None:
                        raise self.relay.failure
                    latency = driver()
                    if self.console.is_terminal:
                        screen.update(Text(self.status(latency)), refresh=True)
                    elif time.monotonic() >= told:
                        told += TOLD_SECONDS
                        click.echo(" ".join(self.status(latency).splitlines()[1:]))
        except KeyboardInterrupt:
            pass
        counts = self.relay.counts
        click.echo(f"stopped; {counts.late} blocks late, {counts.skipped} not sung, {counts.slipped} slipped")

    def status(self, driver: float) -> str:
        """What is going on, in four lines; ``driver`` is the card's own latency in seconds."""
        relay, stream, asked = self.relay, self.stream, self.relay.options
        spent = sorted(relay.spent) or [0.0]
        counts = relay.counts
        held = stream.latency + self.part * (1 + relay.slack)
        own, block = (1000 * count / stream.rate for count in (held, self.part * PARTS))
        heard, played = (_bar(peak) for peak in (self.heard, self.played))
        self.heard = self.played = 0.0
        f0 = f"{stream.f0:5.0f} Hz" if stream.f0 else "   —   "
        who = asked.speaker or self.speakers[0]
        return (
            f"{stream.voice.name}  {who}  key {asked.key:+g}{'  MUTED' if relay.muted else ''}   {KEYS}\n"
            f"in {heard}  out {played}  f0 {f0}  gain {stream.leveller.gain:+.0f} dB\n"
            f"latency {own:.0f} ms + card {1000 * driver:.0f} ms   block {block:.0f} ms"
            f"   work {1000 * spent[-1 - len(spent) // 100]:.0f} ms   load {100 * relay.load:.0f} %"
            f"   steps {relay.governor.steps}\n"
            f"late {counts.late}   not sung {counts.skipped}   slipped {counts.slipped}"
        )

    def _record(self, block: Array) -> None:
        self.heard = max(self.heard, float(np.abs(block).max(initial=0)))
        self.relay.put(block)

    def _play(self, size: int) -> Array:
        block = self.relay.take(size)
        self.played = max(self.played, float(np.abs(block).max(initial=0)))
        if self.aside is not None:
            self.copies.append(block)
        return block

    def _copy(self, size: int) -> Array:
        block = self.copies.popleft() if self.copies else np.zeros(size, np.float32)
        return block if len(block) == size else np.zeros(size, np.float32)

    def _pressed(self, key: str) -> bool:
        """Do what a key asks for; False ends."""
        relay, asked = self.relay, self.relay.options
        try:
            if key in ("up", "down"):
                relay.options = replace(asked, key=float(asked.key) + (1 if key == "up" else -1))
            elif key == "s":
                now = asked.speaker or self.speakers[0]
                at = self.speakers.index(now) if now in self.speakers else -1
                relay.options = replace(asked, speaker=self.speakers[(at + 1) % len(self.speakers)])
            elif key == "m":
                relay.muted = not relay.muted
        except OptionError:  # a key beyond those that exist
            relay.options = asked
        return key != "q"


def listed() -> str:
    """The sound cards as a table."""
    found = sound.cards()
    if not found:
        raise Failure("there is no sound card here: plug one in, or start the sound server")
    rows = [f"{card!s:<60} {card.inputs:>3} in {card.outputs:>3} out  {card.rate} Hz" for card in found]
    return "\n".join(rows)


def _bar(peak: float) -> str:
    """A level in ten characters."""
    decibels = 20 * math.log10(max(peak, 1e-6))
    filled = round(10 * max(0.0, 1 - decibels / QUIETEST_DB))
    return f"[{'#' * filled:<10}]"


if __name__ == "__main__":
    main()
