"""Singing whose f0 is known exactly: songs sung again by harmonics, and melodies, easy and hard, in rooms and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moksori.benchmarks.harmonics import FFT, HOP, RATE, Array, Clip, Manner, Numbers, envelopes, sing
from moksori.train import measures

SHORTEST = 10  # control points; shorter gaps and shorter sounds of a tracked contour are its mistakes
DARKEST = 0.003  # of the loudest, 50 dB; real voices do not fall below, and torchcrepe calls silent what does
FORMANTS = ((800, 1150, 2900, 3900), (350, 2000, 2800, 3600), (450, 800, 2830, 3800))  # Hz: a, e, o
PLAIN = Manner()
LEAPS = (-12, -12, 12, 12, 7, -5)  # semitones, of a yodel


@dataclass(frozen=True)
class Style:
    """A way to sing a melody. Notes between two MIDI numbers; lengths and times in seconds, depths in semitones.

    ``leaps`` are the steps from note to note (any within a fifth when empty); ``jitter`` is how much the f0 of a
    period is off, as a share of it.
    """

    low: int
    high: int
    lengths: tuple[float, float] = (0.2, 0.8)
    leaps: tuple[int, ...] = ()
    glide: float = 0.1
    vibrato: tuple[float, float] = (0.2, 0.8)
    jitter: float = 0.0
    manner: Manner = PLAIN


STYLES = {
    "melody, low": Style(45, 60),
    "melody, high": Style(62, 79),
    "creaky bass": Style(31, 43, jitter=0.01, manner=Manner(breath=0.1, shimmer=0.3)),
    "wide vibrato": Style(55, 74, lengths=(0.5, 1.2), vibrato=(1.0, 2.0)),
    "breathy": Style(57, 72, manner=Manner(tilt=6.0, breath=0.4)),
    "belted": Style(55, 69, manner=Manner(partials=(0.05, 1.0))),  # the throat is tuned to the second harmonic
    "yodel": Style(48, 72, lengths=(0.12, 0.3), leaps=LEAPS, glide=0.03, vibrato=(0.0, 0.0)),
    "soprano": Style(76, 88, manner=Manner(breath=0.1)),
}


def clips(song: Array, synthetic: Array, seconds: float) -> Iterator[Clip]:
    """A low, a middle and a high singer of ``song`` [n] at 16 kHz, the like of ``synthetic``, and melodies of all
    STYLES, each this long.
    """
    size = int(seconds * RATE)
    for name, samples, moves in (("song", song, (-5, 0, 12)), ("Sinsy", synthetic, (-12, 0, 7))):
        for semitones in moves:
            yield again(f"{name}, {semitones:+d} semitones", samples[:size], semitones)
    for number, (name, style) in enumerate(STYLES.items()):
        yield melody(name, style, seconds, seed=number + 1)


def again(name: str, song: Array, semitones: float) -> Clip:
    """A song with its own vowels and breath, and its contour by Praat, smoothed and moved, as the exact f0."""
    contour = measures.pitch(song)
    points = len(song) // HOP + 1
    at = np.arange(points) * (HOP / RATE)
    begin = (len(song) / RATE - measures.PITCH_STEP * (len(contour) - 1)) / 2  # Praat centres its frames
    times = begin + np.arange(len(contour)) * measures.PITCH_STEP
    known = contour > 0
    octaves = np.interp(at, times[known], np.log2(contour[known]))
    window = np.hanning(13)
    octaves = np.convolve(np.pad(octaves, 6, mode="edge"), window / window.sum(), "valid")
    voiced = np.interp(at, times, known.astype(float)) > 0.5
    for value in (False, True):
        voiced = _without_short(voiced, value)
    f0 = 2 ** (octaves + semitones / 12)
    return Clip(name, sing(f0, voiced, envelopes(song), seed=0), f0, voiced)


def melody(name: str, style: Style, seconds: float, seed: int) -> Clip:
    """Notes with glides, vibrato, changing vowels and rests of breath."""
    generator = np.random.default_rng(seed)
    points = int(seconds * RATE) // HOP + 1
    notes, vowels, vibrato, voiced = np.zeros(points), np.zeros((points, 3)), np.zeros(points), np.ones(points, bool)
    start, note = 0, (style.low + style.high) / 2
    while start < points:
        end = start + int(generator.uniform(*style.lengths) * RATE / HOP)
        step = generator.choice(style.leaps) if style.leaps else generator.integers(-7, 8)
        step = -step if not style.low <= note + step <= style.high else step
        note = float(np.clip(note + step, style.low, style.high))
        notes[start:end] = note
        vowels[start:end, generator.integers(3)] = 1
        since = np.arange(len(notes[start:end])) * HOP / RATE
        depth = generator.uniform(*style.vibrato) * np.clip((since - 0.15) / 0.2, 0, 1)
        vibrato[start:end] = depth * np.sin(2 * np.pi * generator.uniform(4.5, 6.5) * since)
        if generator.random() < 0.35:
            voiced[end - 20 : end] = False
        start = end
    f0 = 440 * 2 ** ((_smooth(notes, style.glide) + vibrato - 69) / 12)
    f0 *= 1 + style.jitter * generator.standard_normal(points)
    envelope = np.stack([_smooth(row, 0.1) for row in vowels.T], 1) @ np.array([_vowel(f) for f in FORMANTS])
    return Clip(name, sing(f0, voiced, envelope, seed, style.manner), f0, voiced)


def noisy(decibels: float) -> Callable[[Clip], Clip]:
    """Adds pink noise so far below the voiced parts."""

    def add(clip: Clip) -> Clip:
        spectrum = np.fft.rfft(np.random.default_rng(3).standard_normal(len(clip.audio)))
        pink = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), len(clip.audio))
        sung = clip.audio[np.repeat(clip.voiced[:-1], HOP)]
        gain = np.sqrt(np.mean(sung**2) / np.mean(pink**2)) * 10 ** (-decibels / 20)
        return replace(clip, audio=(clip.audio + gain * pink).astype(np.float32))

    return add


def reverberant(clip: Clip) -> Clip:
    """A room of 0.6 s (RT60), its echoes together 6 dB below the voice."""
    time = np.arange(int(0.8 * RATE)) / RATE
    room = np.random.default_rng(4).standard_normal(len(time)) * 10 ** (-3 * time / 0.6) * (time > 0.005)
    room *= 0.5 / np.sqrt(np.sum(room**2))
    room[0] = 1
    size = len(clip.audio) + len(room)
    wet = np.fft.irfft(np.fft.rfft(clip.audio, size) * np.fft.rfft(room, size), size)[: len(clip.audio)]
    return replace(clip, audio=wet.astype(np.float32))


CONDITIONS: dict[str, Callable[[Clip], Clip]] = {
    "clean": lambda clip: clip,
    "noise 10 dB": noisy(10),
    "reverb": reverberant,
}


def _smooth(values: Numbers, seconds: float) -> Numbers:
    """[T] with every step spread over so long."""
    half = round(seconds * RATE / HOP / 2)
    window = np.hanning(2 * half + 3)
    return np.convolve(np.pad(values, half + 1, mode="edge"), window / window.sum(), "valid")


def _without_short(voiced: NDArray[np.bool_], value: bool) -> NDArray[np.bool_]:
    """Runs of ``value`` that are shorter than SHORTEST join their neighbours."""
    edges = np.flatnonzero(np.diff(voiced)) + 1
    joined = voiced.copy()
    for start, end in zip([0, *edges], [*edges, len(voiced)], strict=True):
        if voiced[start] == value and end - start < SHORTEST:
            joined[start:end] = not value
    return joined


def _vowel(formants: tuple[int, ...]) -> Numbers:
    """Magnitudes [513] of a vowel: a glottal slope with resonances 100 Hz wide, and never all dark above them."""
    f = np.arange(FFT // 2 + 1) * RATE / FFT
    poles = [1 / np.abs(1 - (f / peak) ** 2 + 1j * f * 100 / peak**2) for peak in formants]
    magnitudes = np.prod(poles, axis=0) / (1 + (f / 300) ** 2)
    return np.maximum(magnitudes, DARKEST * magnitudes.max())
