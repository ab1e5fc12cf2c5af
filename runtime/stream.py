"""A live conversion: samples in, as many samples out, in another voice and ``latency`` samples late.

samples ─► level ─► units, f0, loudness of a rolling second ─► denoiser ─► vocoder (the new part) ─► gate ─► samples

Work is done in blocks of a fixed number of mel frames, whatever the size of the pushes, each with a fixed look-ahead;
so the result does not depend on the pushes, nothing that comes later changes it, and its delay never grows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import content, key, loudness, vocoder
from moksori.runtime.errors import OptionError
from moksori.runtime.leveller import Leveller
from moksori.runtime.loudness import Gate
from moksori.runtime.mel import MelSpec
from moksori.runtime.options import RATES, Options
from moksori.runtime.performer import Performer
from moksori.runtime.resample import Ratio, Resampler
from moksori.runtime.rolling import Ear
from moksori.runtime.voice import Voice

Array = NDArray[np.float32]

SHORTEST_MS, LONGEST_MS = 5.0, 1000.0  # of a block and of a look-ahead
MARGIN = 14  # frames before the new ones that the denoiser hears, if its reach is not less; 28 change no result
FADE_SECONDS = 0.005  # over which one block gives way to the next
BLEND = 2  # frames of mel over which it does
FILES_ONLY = ("f0", "stereo", "loudness", "rate", "bits")


@dataclass(frozen=True)
class Live:
    """What only a live stream can be asked for.

    Raises:
        OptionError: a value that cannot be used.
    """

    rate: int | None = None  # Hz of what comes and goes; else the voice's
    block: float = 40.0  # ms that are worked on at a time, in whole mel frames
    lookahead: float = 30.0  # ms after a block that are heard before it is sung
    past: float | None = None  # seconds before a unit that content hears; else what its network needs, at most 0.7
    gain: float | None = None  # dB that bring the singer to the voice's level; else found on the way
    step: int = 1  # samples; every push will be a whole number of these, which saves waiting

    def __post_init__(self) -> None:
        for name, value in (("block", self.block), ("look-ahead", self.lookahead)):
            if not SHORTEST_MS <= value <= LONGEST_MS:
                raise OptionError(f"a {name} of {value:g} ms is not possible: use {SHORTEST_MS:g} to {LONGEST_MS:g}")
        if self.rate is not None and not RATES[0] <= self.rate <= RATES[1]:
            raise OptionError(f"a rate of {self.rate} Hz is not possible: use {RATES[0]} to {RATES[1]}")
        if self.past is not None and not 0 <= self.past <= 30:
            raise OptionError(f"a past of {self.past:g} s is not possible: use 0 to 30")
        if self.step < 1:
            raise OptionError(f"pushes of {self.step} samples are not possible: use 1 or more")


class Stream:
    """One live conversion with a voice, which any number of streams may share.

    Raises:
        OptionError: options that the voice lacks, or that only a file can have.
    """

    tail: Array  # how the last block goes on
    foreseen: Array  # mel of the frames after it, as they seemed then

    def __init__(self, voice: Voice, options: Options | None = None, live: Live | None = None) -> None:
        self.voice, self.live = voice, live or Live()
        self.spec = voice.manifest.mel
        self.rate = self.live.rate or self.spec.sample_rate
        self.block, self.ahead = frames(self.live, self.spec)
        own, inner = self.rate, self.spec.sample_rate
        self.ratios = Ratio.prompt(own, inner, own), Ratio.prompt(inner, own, own)
        self.held = held(self.ratios, self.spec, self.live)
        self.latency = self.held + sum(ratio.delay(own) for ratio in self.ratios)
        self.fade = round(FADE_SECONDS * self.spec.sample_rate)
        self.performer = performer(voice, options or Options())
        self.reset()

    def reset(self) -> None:
        """Forget everything heard, as if new; options that were changed stay."""
        self.inward, self.outward = (Resampler(ratio) for ratio in self.ratios)
        self.waiting = np.zeros(0, np.float32)  # at the voice's rate, less than a block
        self.ready = np.zeros(self.held, np.float32)  # to be given out
        self.leveller = Leveller(self.spec, self.performer.level, self.live.gain)
        self.gate = Gate(self.spec)
        margin = min(self.voice.manifest.denoiser.context, MARGIN)
        self.ear = Ear(self.voice.manifest, self.live.past, margin, content.memory(self.voice.content))
        self.done = 0  # frames sung
        self.gated = 0  # frames that the gate knows
        self._rest()

    @property
    def f0(self) -> float:
        """Hz that was sung last, 0 when it was silent or unvoiced."""
        voiced = self.ear.voiced.rows[-1:]
        return self.ear.last * 2 ** (float(self.performer.options.key) / 12) if voiced.any() else 0.0

    def change(self, options: Options) -> None:
        """Sing the next block with other options."""
        self.performer = performer(self.voice, options)
        self.leveller.goal = self.performer.level

    def push(self, samples: Array) -> Array:
        """Take samples [n] at ``rate``; returns [n], of which sample i is what came ``latency`` samples before it."""
        return self._push(samples, sing=True)

    def skip(self, samples: Array) -> Array:
        """As ``push``, for when there is no time to sing: what would be sung in these blocks fades into silence."""
        return self._push(samples, sing=False)

    def flush(self) -> Array:
        """The last ``latency`` samples; the stream is then as new."""
        rest = -(-self.latency // self.live.step) * self.live.step
        tail = self.push(np.zeros(rest, np.float32))[: self.latency]
        self.reset()
        return tail

    def _push(self, samples: Array, sing: bool) -> Array:
        if samples.ndim != 1 or len(samples) % self.live.step:
            raise ValueError(f"a push of shape {samples.shape} is not [n], n a multiple of {self.live.step}")
        fresh = self.inward.push(np.nan_to_num(np.asarray(samples, np.float32), posinf=0, neginf=0))
        self.waiting = np.concatenate([self.waiting, fresh])
        size, made = self.block * self.spec.hop, [self.ready]
        for begin in range(0, len(self.waiting) - size + 1, size):
            made.append(self.outward.push(self._block(self.waiting[begin : begin + size], sing)))
        self.waiting = self.waiting[len(self.waiting) // size * size :].copy()
        ready = np.concatenate(made)
        self.ready = ready[len(samples) :].copy()
        return ready[: len(samples)]

    def _block(self, samples: Array, sing: bool) -> Array:
        """The next block of samples at the voice's rate, and what can be sung after it."""
        self.ear.push(self.leveller.push(samples))
        start, end = self.done, max(0, self.ear.known - self.ahead)
        levels = self.ear.level(self.gated, end + 1)  # a gate opens towards the next frame
        self.gate.push(levels)
        self.gated, silent = end + 1, not self.gate.gains.any()
        if start == end:
            return np.zeros(0, np.float32)
        made = self._sung(start, end) if sing and not silent else self._faded((end - start) * self.spec.hop)
        self.done = end
        return loudness.limited(self.leveller.undo(self.gate.apply(made), start * self.spec.hop))

    def _sung(self, start: int, end: int) -> Array:
        """Samples of frames ``start`` to ``end``."""
        first, given = self.ear.hear(self.performer, start, end)
        found: Array = self.performer.mel(given, first, self.ear.sound(first, self.ear.known))[start - first :]
        blend = min(BLEND, len(self.foreseen))
        weight = ((np.arange(blend) + 0.5) / max(1, blend)).astype(np.float32)[:, None]
        found[:blend] = self.foreseen[:blend] * (1 - weight) + found[:blend] * weight
        self.foreseen = found[end - start :]
        made = self.synthesizer.render(found, given.f0[start - first :], end - start)
        size = (end - start) * self.spec.hop
        samples = self._joined(made[:size])
        self.tail = made[size : size + self.fade]
        return samples

    def _faded(self, size: int) -> Array:
        """Silence, after what was to follow the last block."""
        samples = self._joined(np.zeros(size, np.float32))
        self.ear.pass_over(self.done + size // self.spec.hop)
        self._rest()
        return samples

    def _joined(self, samples: Array) -> Array:
        """Samples that come out of the tail of those before."""
        weight = ((np.arange(self.fade) + 0.5) / self.fade).astype(np.float32)[: len(samples)]
        tail = self.tail[: len(samples)]
        samples[: len(tail)] = tail * (1 - weight[: len(tail)]) + samples[: len(tail)] * weight[: len(tail)]
        return samples

    def _rest(self) -> None:
        """Nothing is being sung."""
        facts, chosen = self.voice.manifest, self.performer.options
        self.synthesizer = vocoder.synthesizer(self.voice.vocoder, facts.mel, facts.vocoder, chosen.seed)
        self.tail = np.zeros(self.fade, np.float32)
        self.foreseen = np.zeros((0, self.spec.bins), np.float32)


def performer(voice: Voice, options: Options) -> Performer:
    """A performer of options that a stream can have."""
    if options.key in key.WORDS:
        raise OptionError("a live stream cannot know how high a song will go: give the key in semitones")
    for name in FILES_ONLY:
        if getattr(options, name) != getattr(Options, name):
            raise OptionError(f"{name} is for files and not for a live stream: leave it out")
    return Performer(voice, options)


def frames(live: Live, spec: MelSpec) -> tuple[int, int]:
    """Mel frames of a block and of the look-ahead, which holds at least what half a window needs."""
    least = -(-(spec.n_fft - spec.hop) // (2 * spec.hop))
    ahead = max(least, math.ceil(live.lookahead * spec.frame_rate / 1000 - 1e-6))
    return max(1, round(live.block * spec.frame_rate / 1000)), ahead


def held(ratios: tuple[Ratio, Ratio], spec: MelSpec, live: Live) -> int:
    """The least number of samples that must lie ready before the first push, so that no push ever comes short."""
    inward, outward = ratios
    block, ahead = frames(live, spec)
    size = block * spec.hop
    each = size * inward.step  # samples that come in for a block
    blocks = np.arange(math.lcm(each.numerator, live.step) // each.numerator * each.denominator)  # all kinds there are
    blocks += ahead // block + 2 + outward.wing // size  # when sound has begun
    pushed = -(-inward.needed((blocks + 1) * size) // live.step) * live.step - live.step  # just before one more
    return int((pushed - outward.ready((blocks * block - ahead) * spec.hop)).max())
