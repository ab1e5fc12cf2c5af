"""Pitch: a tracker graph gives f0 and confidence on its own grid; ``at_times`` carries them to the mel frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import crepe, nccf, swift
from moksori.runtime.crepe import Session
from moksori.runtime.errors import OptionError
from moksori.runtime.ports import Interface, Tensor

Array = NDArray[np.float32]

RATE = 16_000  # Hz, what every tracker hears
SILENCE_PEAK = 1e-3  # full scale; below it a tracker sees only its own floor and answers at random
SHORTEST = 1024  # samples; less is padded
NEIGHBOURHOOD = 0.1  # seconds on each side that say in which octave a frame is
ASTRAY = 200.0  # cents; a jump that misses the octave by more is no octave error
GRID = 1.0  # cents between the heights that a track can have
FINEST = 0.010  # seconds between frames that are fitted to the waveform; a mel has as many
MOST_PERIODS = 20


@dataclass(frozen=True)
class Options:
    """How a track is made from what the graph says.

    ``hop`` (seconds) is CREPE's; SwiftF0 has its own, 16 ms. ``decoder`` is for graphs that leave the choice to us.
    ``median`` and ``mean`` are frames, odd; 1 leaves a track as it is. Frames whose confidence is under ``threshold``
    are left out of the smoothing and of the octave guard, and are best taken for unvoiced. The f0 of those from
    ``faint`` on is believed nevertheless: at the edges of voicing it is nearer than a line to the next voiced frame.
    With ``periods``, f0 is fitted to so many periods of the waveform, every FINEST seconds or oftener.
    """

    hop: float = 0.010
    decoder: str = "weighted"
    median: int = 1
    mean: int = 1
    octave_guard: bool = False
    threshold: float = 0.5
    faint: float = 1.0  # no less than threshold: only what is voiced is believed
    periods: int = 0

    @property
    def problem(self) -> str:
        """Why no track can be made so; empty when it can."""
        if self.decoder not in crepe.DECODERS:
            return f"there is no decoder '{self.decoder}'; use {' or '.join(crepe.DECODERS)}"
        if any(width < 1 or width % 2 == 0 for width in (self.median, self.mean)):
            return f"median {self.median} and mean {self.mean} must be odd numbers of frames"
        if not 0 < self.threshold < 1:
            return f"a threshold of {self.threshold:g} is not possible: give a number between 0 and 1"
        if not 0 < self.faint <= 1:
            return f"faint is {self.faint:g}, and must be over 0 and at most 1"
        if not 0 <= self.periods <= MOST_PERIODS:
            return f"periods is {self.periods}, and must be between 0 and {MOST_PERIODS}"
        samples = self.hop * RATE
        if samples < 0.5 or abs(round(samples) - samples) > 1e-6:
            milliseconds = f"{1000 * self.hop:g} ms"
            return f"a hop of {milliseconds} is no whole number of samples at 16 kHz; use 0.005 or 0.01 s"
        return ""


@dataclass(frozen=True)
class Track:
    """f0 as the tracker gave it: times [F] in seconds, f0 [F] in Hz, confidence [F] in 0…1."""

    times: NDArray[np.floating]
    f0: Array
    confidence: Array


@dataclass(frozen=True)
class Kind:
    """A kind of tracker: what its graph takes and gives, how it hears, and the options that serve it best.

    ``track`` (session, audio [n] at 16 kHz, fmin, fmax in Hz, options) need not clip or smooth what it finds.
    """

    interface: Interface
    track: Callable[[Session, Array, float, float, Options], Track]
    options: Options = Options()


class Tracker:
    """Runs a pitch graph of one of the kinds in TRACKERS over 16 kHz audio, with its options where none are given.

    Raises:
        OptionError: ``options`` have a ``problem``.
    """

    def __init__(self, session: Session, kind: str, fmin: float, fmax: float, options: Options | None = None) -> None:
        self.session, self.fmin, self.fmax = session, fmin, fmax
        self.kind = TRACKERS[kind]
        self.options = options or self.kind.options
        if self.options.problem:
            raise OptionError(self.options.problem)

    def track(self, audio: Array) -> Track:
        """Track ``audio`` [n] at 16 kHz; any length from one sample on."""
        padded = np.pad(audio, (0, max(0, SHORTEST - len(audio))))
        track = self.kind.track(self.session, padded, self.fmin, self.fmax, self.options)
        inside = (track.f0 >= self.fmin) & (track.f0 <= self.fmax)
        track = Track(track.times, track.f0, np.where(inside, track.confidence, 0).astype(np.float32))
        track = refined(track, self.options)
        track = Track(track.times, on_grid(track.f0), track.confidence)
        return _fitted(audio, track, self.options) if self.options.periods else track

    def at(self, audio: Array, times: NDArray[np.floating]) -> tuple[Array, NDArray[np.bool_]]:
        """f0 [T] in Hz and voiced [T] of ``audio`` [n] at ``times`` [T]: what training and conversion both hear."""
        return at_times(self.track(audio), times, self.options)


def _swift(session: Session, audio: Array, fmin: float, fmax: float, options: Options) -> Track:
    """SwiftF0 with its own decoding in the graph, as voices had it first."""
    f0, confidence = (output[0] for output in session.run(None, {"audio": audio[None]}))
    return _swift_track(audio, f0, confidence)


def _swift_scores(session: Session, audio: Array, fmin: float, fmax: float, options: Options) -> Track:
    """SwiftF0: f0 is the mean around the bin that the decoder chose; Viterbi's path is told which bins lie too low."""
    scores, confidence = (output[0] for output in session.run(None, {"audio": audio[None]}))
    if options.decoder == "viterbi":
        bins = swift.viterbi(scores + swift.too_low(audio, len(scores)), confidence)
    else:
        bins = swift.peaks(scores)
    return _swift_track(audio, swift.frequencies(scores, bins), confidence)


def _swift_track(audio: Array, f0: Array, confidence: Array) -> Track:
    """One frame every 256 samples, centred on its first sample; what is silent is unvoiced."""
    length = len(f0) * swift.HOP
    padded = np.pad(audio, (0, max(0, length - len(audio))))[:length]
    peaks = np.abs(padded).reshape(-1, swift.HOP).max(1)
    confidence = np.where(peaks < SILENCE_PEAK, 0, confidence)
    return Track(np.arange(len(f0)) * (swift.HOP / RATE), f0, confidence.astype(np.float32))


def _crepe(session: Session, audio: Array, fmin: float, fmax: float, options: Options) -> Track:
    """CREPE: f0 is the salience-weighted mean around the bin that the decoder chose among those in range."""
    hop = round(options.hop * RATE)
    salience, loudest = crepe.salience(session, audio, hop)
    salience = crepe.within(salience, fmin, fmax)
    bins = crepe.DECODERS[options.decoder](salience)
    confidence = np.where(loudest < SILENCE_PEAK, 0, np.take_along_axis(salience, bins[:, None], 1)[:, 0])
    times = np.arange(len(salience)) * (hop / RATE)
    return Track(times, crepe.frequencies(salience, bins), confidence.astype(np.float32))


# What benchmarks/pitch.py found best: Viterbi's path needs no guard, smoothing blurs vibrato more than it mends, and
# fitted to six periods of the waveform f0 is half as far off.
TRACKERS: dict[str, Kind] = {
    "swift": Kind(
        Interface({"audio": Tensor((1, "n"))}, {"f0": Tensor((1, "F")), "confidence": Tensor((1, "F"))}),
        _swift,
        Options(octave_guard=True),
    ),
    "swift_scores": Kind(
        Interface(
            {"audio": Tensor((1, "n"))},
            {"scores": Tensor((1, "F", swift.BINS)), "confidence": Tensor((1, "F"))},
        ),
        _swift_scores,
        Options(decoder="viterbi", threshold=0.45, faint=0.02, periods=6),
    ),
    "crepe": Kind(
        Interface({"frames": Tensor(("F", crepe.WINDOW))}, {"salience": Tensor(("F", crepe.BINS))}),
        _crepe,
        Options(decoder="viterbi", threshold=0.3, periods=6),
    ),
}


def refined(track: Track, options: Options) -> Track:
    """The track with the octave guard, then the median, then the mean of ``options`` applied."""
    log_f0 = np.where(track.confidence >= options.threshold, np.log2(np.maximum(track.f0, 1)), np.nan)
    refined_f0 = log_f0
    if options.octave_guard and len(track.times) > 1:
        refined_f0 = _guarded(refined_f0, round(NEIGHBOURHOOD / (track.times[1] - track.times[0])))
    if options.median > 1:
        refined_f0 = _median(refined_f0, options.median)
    if options.mean > 1:
        around = _around(refined_f0, options.mean)
        heard = ~np.isnan(around)
        refined_f0 = np.where(np.isnan(log_f0), np.nan, np.nansum(around, 1) / np.maximum(heard.sum(1), 1))
    changed = ~np.isnan(log_f0) & (refined_f0 != log_f0)
    return Track(track.times, np.where(changed, 2**refined_f0, track.f0).astype(np.float32), track.confidence)


def at_times(track: Track, times: NDArray[np.floating], options: Options) -> tuple[Array, NDArray[np.bool_]]:
    """Carry a track to other times.

    f0 is interpolated linearly in log-frequency between frames that are believed, through all others too, so that it
    is positive everywhere; with none believed it is 0 nowhere but a constant 220 Hz.

    Returns:
        f0 [T] in Hz, voiced [T].
    """
    voiced, believed = track.confidence >= options.threshold, _believed(track, options)
    nearest = np.clip(np.searchsorted((track.times[1:] + track.times[:-1]) / 2, times), 0, len(track.times) - 1)
    if not believed.any():
        return np.full(len(times), 220, np.float32), np.zeros(len(times), bool)
    log_f0 = np.interp(times, track.times[believed], np.log(track.f0[believed]))
    return np.exp(log_f0).astype(np.float32), voiced[nearest]


def _believed(track: Track, options: Options) -> NDArray[np.bool_]:
    """[F]: the frames whose f0 means something."""
    return track.confidence >= min(options.threshold, options.faint)


def _fitted(audio: Array, track: Track, options: Options) -> Track:
    """``track`` on frames no farther than FINEST apart, f0 fitted to the waveform where it is believed.

    Confidence there is the mean of the graph's and of how periodic the waveform is: one knows voices, one hears when.
    """
    if len(track.times) > 1:
        parts = math.ceil((track.times[1] - track.times[0]) / FINEST - 1e-6)
        times = np.interp(np.arange(parts * (len(track.times) - 1) + 1) / parts, range(len(track.times)), track.times)
        confidence = np.interp(times, track.times, track.confidence).astype(np.float32)
        track = Track(times, at_times(track, times, options)[0], confidence)
    f0, confidence, believed = track.f0.copy(), track.confidence.copy(), _believed(track, options)
    f0[believed], alike = nccf.fitted(audio, track.times[believed], f0[believed], options.periods)
    confidence[believed] = (confidence[believed] + alike) / 2
    return Track(track.times, on_grid(f0), confidence)


def on_grid(f0: Array) -> Array:
    """f0 [T] in Hz at the nearest whole cents from 440 Hz (0 becomes 1 Hz).

    Two machines hear one song with other last digits, which the phase would sum up from begin to end.
    """
    cents = np.round(1200 * np.log2(np.maximum(f0, 1) / 440) / GRID) * GRID
    return (440 * 2 ** (cents / 1200)).astype(np.float32)


def transpose(f0: Array, semitones: float) -> Array:
    """Shift by equal-tempered semitones; fractions allowed."""
    return (f0 * np.float32(2 ** (semitones / 12))).astype(np.float32)


def _guarded(log_f0: NDArray[np.floating], reach: int) -> NDArray[np.floating]:
    """Octaves [F] (NaN unvoiced) with strays brought home.

    A frame that lies whole octaves, give or take 200 cents, from the median of its neighbourhood is moved by them.
    The median follows the majority: a leap that is held for longer than the reach stays where it was sung.
    """
    away = log_f0 - _median(log_f0, 2 * reach + 1)
    octaves = np.round(away)
    astray = np.abs(away - octaves) <= ASTRAY / 1200
    return np.where(astray, log_f0 - octaves, log_f0)


def _median(values: NDArray[np.floating], width: int) -> NDArray[np.floating]:
    """Running median [F] over ``width`` frames, of those that are not NaN; NaN stays NaN."""
    around = np.sort(_around(values, width), axis=1)  # NaN comes last
    count = np.maximum((~np.isnan(around)).sum(1), 1)
    middle = np.take_along_axis(around, np.stack([(count - 1) // 2, count // 2], 1), 1).mean(1)
    return np.where(np.isnan(values), np.nan, middle)


def _around(values: NDArray[np.floating], width: int) -> NDArray[np.floating]:
    """[F] -> [F, width], centred, NaN beyond the ends."""
    padded = np.pad(values, width // 2, constant_values=np.nan)
    return np.lib.stride_tricks.sliding_window_view(padded, width)
