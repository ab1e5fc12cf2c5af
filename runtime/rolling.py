"""What a live stream hears of its last second: units, f0 and loudness of the frames that are to be sung next."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import chunks, content, mel, pitch
from moksori.runtime.content import Memory
from moksori.runtime.denoiser import Conditions
from moksori.runtime.manifest import FAR, Manifest
from moksori.runtime.performer import Performer
from moksori.runtime.pitch import Track
from moksori.runtime.resample import Ratio, Resampler
from moksori.runtime.tape import Tape

Array = NDArray[np.float32]

PAST_SECONDS = 0.08  # of sound that the tracker hears before the frames in question; 64 ms were enough
MIRRORED_SECONDS = 0.064  # of the end of the sound, played backwards after it: silence there would put a tracker off
BLIND_SECONDS = 0.016  # before that end, where it is not believed all the same
PRIMING = 220.0  # Hz, until something was sung
ENOUGH_SECONDS = 0.7  # of past for content; units are 5 % off what 1.6 s give, in half the time (docs/live.md)
WHOLE = 3 / 4  # of a unit must be there before it is asked for


class Ear:
    """Audio of one stream, and what was found out about its frames.

    What was found for a frame that is sung never changes; for later ones it is found anew each time.
    """

    def __init__(self, facts: Manifest, past: float | None, margin: int, memory: Memory | None) -> None:
        """``past`` is seconds that content hears before a unit; ``margin`` frames are kept before the next one.

        ``memory`` is that of a content network that goes on from one call to the next; it hears ``past`` after a pause.
        """
        own = min(facts.units.context, ENOUGH_SECONDS) if facts.units.lookahead < FAR else ENOUGH_SECONDS
        self.past = math.ceil((own if past is None else past) * content.RATE / content.UNIT_HOP)  # units
        self.unsettled = math.ceil(facts.units.lookahead * content.RATE / content.UNIT_HOP)  # units
        self.spec, self.margin = facts.mel, margin
        self.memory = self.nothing = memory
        self.begin = 0  # unit before which the memory ends
        self.audio = Tape()  # at the voice's rate and level
        self.narrow = Tape()  # the same at 16 kHz
        self.resampler = Resampler(Ratio(self.spec.sample_rate, content.RATE))
        self.units = Tape(facts.units.dimension)
        self.f0, self.voiced = Tape(), Tape(dtype=np.bool_)
        self.last = PRIMING  # f0 in Hz, as sung last
        self.beside = ThreadPoolExecutor(1)  # hears the pitch while the words are heard
        self.per_frame = Fraction(content.RATE * self.spec.hop, content.UNIT_HOP * self.spec.sample_rate)  # units

    @property
    def known(self) -> int:
        """Frames heard to their end."""
        return self.spec.frames(self.audio.end)

    def push(self, samples: Array) -> None:
        self._forget()
        self.audio.add(samples)
        self.narrow.add(self.resampler.push(samples))

    def hear(self, performer: Performer, start: int, end: int) -> tuple[int, Conditions]:
        """Conditions of frames from ``start`` less the margin to the last known; those before ``end`` are settled.

        Returns:
            The first frame, less than ``start`` by the margin or what there is of it, and the conditions.
        """
        first = max(self.f0.first, start - self.margin)
        melody = self.beside.submit(self._f0, performer.tracker, start)
        units, mel2ph = self._units(performer, first, end)
        f0, voiced = melody.result()
        before = min(3, first)  # frames that mirroring at the begin of the sound would touch
        given = Conditions(
            units=units,
            mel2ph=mel2ph,
            f0=pitch.transpose(np.concatenate([self.f0.cut(first, start), f0]), float(performer.options.key)),
            voiced=np.concatenate([self.voiced.cut(first, start), voiced]),
            loudness=mel.loudness(self.sound(first - before, self.known), self.spec)[before:],
            speaker=performer.speaker,
        )
        self.f0.add(f0[: end - start])
        self.voiced.add(voiced[: end - start])
        self.last = float(f0[end - start - 1])
        return first, given

    def pass_over(self, end: int) -> None:
        """Frames before ``end`` are not sung: nothing is found out about them, and the next ones have none before."""
        for tape in (self.f0, self.voiced):
            tape.restart(end)
        self.units.restart(self._unit(end))
        self.memory, self.begin = self.nothing, max(0, self._unit(end) - self.past)

    def level(self, begin: int, end: int) -> Array:
        """dB of frames; the last two are heard less than whole."""
        before = min(3, begin)
        return mel.loudness(self.sound(begin - before, self.known), self.spec)[before:][: end - begin]

    def sound(self, begin: int, end: int) -> Array:
        """Samples of frames."""
        return self.audio.cut(begin * self.spec.hop, end * self.spec.hop)

    def _f0(self, tracker: pitch.Tracker, start: int) -> tuple[Array, NDArray[np.bool_]]:
        """f0 and voicing of frames from ``start`` to the last known, going on from what was sung before."""
        second = self.spec.hop / self.spec.sample_rate
        times = (np.arange(start, self.known) + 0.5) * second
        grid = int(chunks.BEAT * pitch.RATE)  # so that a tracker's frames lie where they lie in a file
        begin = max(0, int((times[0] - PAST_SECONDS) * pitch.RATE)) // grid * grid
        sound = self.narrow.cut(begin, self.narrow.end)
        mirrored = sound[: -1 - round(MIRRORED_SECONDS * pitch.RATE) : -1]
        heard = tracker.track(np.concatenate([sound, mirrored]))
        at = heard.times + begin / pitch.RATE
        clear = (at <= self.narrow.end / pitch.RATE - BLIND_SECONDS) | (np.arange(len(at)) == 0)
        track = Track(at[clear], heard.f0[clear], heard.confidence[clear])
        _, voiced = pitch.at_times(track, times, tracker.options)
        before = (start - 0.5) * second
        later = track.times > before
        went = Track(
            np.concatenate([[before], track.times[later]]),
            np.concatenate([[self.last], track.f0[later]]).astype(np.float32),
            np.concatenate([[1], track.confidence[later]]).astype(np.float32),
        )
        f0, _ = pitch.at_times(went, times, tracker.options)
        return f0, voiced

    def _units(self, performer: Performer, first: int, end: int) -> tuple[Array, NDArray[np.int64]]:
        """Units of frames from ``first`` on, and which of them each frame has, from 1 on."""
        ready = self.units.end
        count = max(ready + 1, int(self.narrow.end / content.UNIT_HOP + 1 - WHOLE))
        begin = max(0, ready - self.past) if self.memory is None else self.begin
        part = self.narrow.cut(begin * content.UNIT_HOP, min(self.narrow.end, count * content.UNIT_HOP))
        if self.memory is None:
            found = content.units(performer.voice.content, part)
        else:
            self.begin = max(begin, min(self._unit(end), self.narrow.end // content.UNIT_HOP - self.unsettled))
            found, self.memory = content.go_on(performer.voice.content, part, self.memory, self.begin - begin)
        fresh = found[ready - begin : count - begin]
        low = self._unit(first)
        units = np.concatenate([self.units.cut(low, ready), fresh])
        self.units.add(fresh[: max(0, self._unit(end) - ready)])
        places = np.array([self._unit(frame) for frame in range(first, self.known)])
        return units, np.minimum(places, count - 1) - low + 1

    def _unit(self, frame: int) -> int:
        """The unit that is heard in the middle of a frame."""
        return int((frame + Fraction(1, 2)) * self.per_frame)

    def _forget(self) -> None:
        """Keep what frames that are not settled yet may ask for."""
        end = self.f0.end
        first = max(0, end - self.margin)
        for tape in (self.f0, self.voiced):
            tape.keep(first)
        self.units.keep(self._unit(first))
        self.audio.keep((first - 3) * self.spec.hop)
        tracked = int(((end - 1) * self.spec.hop / self.spec.sample_rate - 2 * PAST_SECONDS) * pitch.RATE)
        heard = min(self._unit(end) - self.past, self.begin if self.memory is not None else self._unit(end))
        self.narrow.keep(min(heard * content.UNIT_HOP, tracked))
