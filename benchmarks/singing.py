"""Singing whose f0 is known exactly: real songs sung again by harmonics, and melodies, in rooms and in noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.mel import hann
from moksori.train import measures

Array = NDArray[np.float32]
Numbers = NDArray[np.float64]

RATE = 16_000  # Hz
HOP = 80  # samples between control points, 5 ms
FFT = 1024
HIGHEST = 7_600.0  # Hz, of the partials
ENVELOPE = 24  # samples of the cepstrum that are kept, 1.5 ms: the throat, not the harmonics
BREATH = 0.05  # noise beside the harmonics
SHORTEST = 10  # control points; shorter gaps and shorter sounds of a tracked contour are its mistakes
DARKEST = 0.003  # of the loudest, 50 dB; real voices do not fall below, and torchcrepe calls silent what does
FORMANTS = ((800, 1150, 2900, 3900), (350, 2000, 2800, 3600), (450, 800, 2830, 3800))  # Hz: a, e, o


@dataclass(frozen=True, eq=False)
class Clip:
    """Audio [n] at 16 kHz with its f0 [T] in Hz and voicing [T], a point every 5 ms."""

    name: str
    audio: Array
    f0: Numbers
    voiced: NDArray[np.bool_]

    @property
    def times(self) -> Numbers:
        """Seconds [T]."""
        return np.arange(len(self.f0)) * np.float64(HOP / RATE)


def clips(song: Array, seconds: float) -> Iterator[Clip]:
    """A low, a middle and a high singer of ``song`` [n] at 16 kHz, and a low and a high melody, all this long."""
    song = song[: int(seconds * RATE)]
    for semitones in (-5, 0, 12):
        yield again(song, semitones)
    yield melody("melody, low", 45, 60, seconds, seed=1)
    yield melody("melody, high", 62, 79, seconds, seed=2)


def again(song: Array, semitones: float) -> Clip:
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
    return Clip(f"song, {semitones:+d} semitones", sing(f0, voiced, envelopes(song), seed=0), f0, voiced)


def melody(name: str, low: int, high: int, seconds: float, seed: int) -> Clip:
    """Notes between two MIDI numbers with glides, vibrato, changing vowels and rests of breath."""
    generator = np.random.default_rng(seed)
    points = int(seconds * RATE) // HOP + 1
    notes, vowels, vibrato, voiced = np.zeros(points), np.zeros((points, 3)), np.zeros(points), np.ones(points, bool)
    start, note = 0, (low + high) / 2
    while start < points:
        end = start + int(generator.uniform(0.2, 0.8) * RATE / HOP)
        note = float(np.clip(note + generator.integers(-7, 8), low, high))
        notes[start:end] = note
        vowels[start:end, generator.integers(3)] = 1
        since = np.arange(len(notes[start:end])) * HOP / RATE
        depth = generator.uniform(0.2, 0.8) * np.clip((since - 0.15) / 0.2, 0, 1)
        vibrato[start:end] = depth * np.sin(2 * np.pi * generator.uniform(4.5, 6.5) * since)
        if generator.random() < 0.35:
            voiced[end - 20 : end] = False
        start = end
    glide = np.hanning(21) / np.hanning(21).sum()
    notes = np.convolve(np.pad(notes, 10, mode="edge"), glide, "valid")
    vowels = np.stack([np.convolve(np.pad(row, 10, mode="edge"), glide, "valid") for row in vowels.T], 1)
    f0 = 440 * 2 ** ((notes + vibrato - 69) / 12)
    return Clip(name, sing(f0, voiced, vowels @ np.array([_vowel(f) for f in FORMANTS]), seed), f0, voiced)


def sing(f0: Numbers, voiced: NDArray[np.bool_], envelope: Numbers, seed: int) -> Array:
    """Harmonics of exactly ``f0`` [T] under magnitudes ``envelope`` [T, 513], and breath: [(T - 1) * HOP] samples."""
    generator = np.random.default_rng(seed)
    length = (len(f0) - 1) * HOP
    at, points = np.arange(length) / HOP, np.arange(len(f0))
    phase = 2 * np.pi * np.cumsum(2 ** np.interp(at, points, np.log2(f0))) / RATE
    total = np.zeros(length)
    for k in range(1, int(HIGHEST / f0[voiced].min()) + 1):
        place = np.minimum(k * f0 / RATE * FFT, FFT // 2 - 1)
        below = place.astype(int)
        height = envelope[points, below] + (place - below) * (envelope[points, below + 1] - envelope[points, below])
        height = height * voiced * (k * f0 < HIGHEST)
        total += np.interp(at, points, height) * np.sin(k * phase + generator.uniform(0, 2 * np.pi))
    share = np.where(voiced, BREATH, 0.3)[:, None] / np.sqrt(FFT)
    window = hann(FFT, FFT)
    noise = np.fft.irfft(np.fft.rfft(generator.standard_normal((len(f0), FFT)) * window) * envelope * share)
    breath = np.zeros(length + FFT)
    for point, frame in enumerate(noise * window):
        start = point * HOP
        breath[start : start + FFT] += frame[: len(breath) - start]
    total += breath[FFT // 2 :][:length]
    return (0.5 * total / np.abs(total).max()).astype(np.float32)


def envelopes(song: Array) -> Numbers:
    """Smooth magnitudes [n // HOP + 1, 513] by the cepstrum."""
    padded = np.pad(song.astype(np.float64), FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP]
    log = np.log(np.abs(np.fft.rfft(frames * hann(FFT, FFT))) + 1e-5)
    cepstrum = np.fft.irfft(log)
    cepstrum[:, ENVELOPE : FFT - ENVELOPE + 1] = 0
    return np.exp(np.fft.rfft(cepstrum).real)


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
    "noise 20 dB": noisy(20),
    "noise 10 dB": noisy(10),
    "reverb": reverberant,
}


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
