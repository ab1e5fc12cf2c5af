"""Pseudo-singing of the speaker "heart": its speech drawn out, its pitch replaced by a melody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from clips import Clip
from speech import MAX_S, MIN_S, RATE, hibari, sentences

HOP = 300  # samples of hibari's frames
FRAME_S = HOP / RATE
SECONDS, HELD_OUT = 20 * 60, 4
STRETCH = 1.8
VOICED_HZ = 80.0  # below it the network's f0 means silence, creak or an onset
SURE_HZ = 100.0  # above it the voice is certainly periodic
LOW_HZ, HIGH_HZ = 150.0, 660.0
EDGE = 96  # samples of fade between copied and re-pitched sound
MAJOR = (0, 2, 4, 5, 7, 9, 11)


def clips(work: Path) -> Iterator[Clip]:
    """Yield the sung clips, from sentences the spoken clips do not use."""
    tts = hibari(work)
    rng = np.random.default_rng(660)
    total, made = 0.0, 0
    for sentence in sentences(work)[1::2]:
        phonemes = tts.phonemize(sentence)
        if len(phonemes) != 1:
            continue
        speech, f0 = spoken(tts, phonemes[0], rng)
        audio = sung(speech, f0, number=made, rng=rng)
        if not MIN_S * RATE <= len(audio) <= MAX_S * RATE:
            continue
        held_out = made < HELD_OUT
        yield Clip(audio, RATE, held_out=held_out)
        made += 1
        total += 0 if held_out else len(audio) / RATE
        if total >= SECONDS:
            return


def spoken(tts: Any, phonemes: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return speech (F * HOP,) and the f0 (F,) in Hz that it was made with."""
    from hibari import dsp

    inputs = {"ids": np.asarray([tts.ids(phonemes)], np.int64), "speed": np.asarray([1.0], np.float32)}
    parts = [part[0] for part in tts.sess.run(None, inputs)]
    return dsp.synth(*parts, rng), parts[-1]


def sung(
    speech: np.ndarray,
    f0: np.ndarray,
    number: int,
    rng: np.random.Generator,
    stretch: float = STRETCH,
    within: tuple[float, float] = (LOW_HZ, HIGH_HZ),
) -> np.ndarray:
    """Re-pitch and stretch speech by pitch-synchronous overlap-add (TD-PSOLA, Moulines and Charpentier 1990).

    The grains are cut one period of f0 apart. With a synthesiser's own f0 that is at its pitch pulses, so that the
    timbre of every period is kept. ``within`` is the melody's range in Hz.
    """
    voiced = f0 > VOICED_HZ
    ends = np.cumsum(np.where(voiced, stretch, 1.0)) * HOP
    knots_out = np.concatenate([[0.0], ends])
    knots_in = np.arange(len(f0) + 1.0) * HOP
    frames = np.interp((np.arange(int(ends[-1]) // HOP) + 0.5) * HOP, knots_out, knots_in) // HOP
    tune = melody(voiced[frames.astype(int)], number, rng, within)

    marks, periods = pulses(speech, f0)
    samples = np.arange(len(tune) * HOP)
    pitch = np.exp(np.interp((samples + 0.5) / HOP - 0.5, np.arange(len(tune)), np.log(tune)))
    cycles = np.cumsum(pitch / RATE)
    targets = np.flatnonzero(np.diff(np.floor(cycles)) > 0)
    where = np.interp(targets, knots_out, knots_in)
    result = copied(speech, voiced, knots_out, len(samples))
    padded = np.pad(speech, RATE // 20)
    inside = voiced[np.minimum(where.astype(int) // HOP, len(voiced) - 1)]
    index = np.clip(np.searchsorted(marks, where) - 1, 0, len(marks) - 2)
    for target, position, k in zip(targets[inside], where[inside], index[inside], strict=True):
        share = float(np.clip((position - marks[k]) / (marks[k + 1] - marks[k]), 0, 1))
        half = round(periods[k])
        grain = np.zeros(2 * half)
        # Mixed from the two nearest periods, so that a drawn-out vowel does not move in steps.
        for mark, weight in ((marks[k], 1 - share), (marks[k + 1], share)):
            start = mark + RATE // 20 - half
            grain += weight * padded[start : start + 2 * half]
        # More grains a second add power; the square root keeps the loudness of the speech.
        grain *= np.hanning(2 * half) * np.sqrt(RATE / periods[k] / pitch[target])
        first, last = max(target - half, 0), min(target + half, len(result))
        result[first:last] += grain[first - target + half : last - target + half]
    return result.astype(np.float32)


def pulses(speech: np.ndarray, f0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pitch marks (samples) and the period (samples) at each, for voiced and unvoiced frames alike."""
    frame = (np.arange(len(speech)) + 0.5) / HOP - 0.5
    pitch = np.interp(frame, np.arange(len(f0)), np.maximum(f0, VOICED_HZ))
    cycles = np.cumsum(pitch / RATE)
    sure = np.interp(frame, np.arange(len(f0)), f0) > SURE_HZ
    power = np.convolve(np.square(speech), np.hanning(25), mode="same") * sure
    # The phase of the period that carries most power goes to the middle of the grains.
    phase = np.histogram(cycles % 1.0, bins=50, range=(0, 1), weights=power)[0].argmax() / 50 + 0.01
    marks = np.flatnonzero(np.diff(np.floor(cycles - phase)) > 0)
    return marks, RATE / pitch[marks]


def copied(speech: np.ndarray, voiced: np.ndarray, knots_out: np.ndarray, length: int) -> np.ndarray:
    """Place the unvoiced runs, with faded edges, at their new times; zero elsewhere."""
    result = np.zeros(length)
    borders = np.flatnonzero(np.diff(voiced.astype(int), prepend=1, append=1))
    for start, stop in zip(borders[0::2], borders[1::2], strict=True):
        first, last = max(start * HOP - EDGE, 0), min(stop * HOP + EDGE, len(speech))
        piece = speech[first:last].astype(float)
        ramp = np.linspace(0, 1, 2 * EDGE)
        piece[: 2 * EDGE] *= ramp
        piece[-2 * EDGE :] *= ramp[::-1]
        place = max(int(knots_out[start]) - (start * HOP - first), 0)
        piece = piece[: length - place]
        result[place : place + len(piece)] += piece
    return result


def melody(
    voiced: np.ndarray, number: int, rng: np.random.Generator, within: tuple[float, float]
) -> np.ndarray:
    """f0 (F,) in Hz, everywhere: notes of a major scale, glides between them, vibrato on long notes."""
    low, high = midi(within[0]) + 0.5, midi(within[1]) - 0.5
    # The golden ratio spreads the clips' centres evenly over the range, however many there are.
    centre = low + (high - low) * ((0.5 + number * 0.6180339887) % 1.0)
    key = int(rng.integers(12))
    scale = [n for n in range(128) if low <= n <= high and (n - key) % 12 in MAJOR]
    notes = np.array([n for n in scale if abs(n - centre) <= 6])
    pitch = np.zeros(len(voiced))
    vibrato = np.zeros(len(voiced))
    onsets = np.flatnonzero(voiced[1:] & ~voiced[:-1]) + 1
    note, start = notes[np.abs(notes - centre).argmin()], 0
    while start < len(voiced):
        stop = min(start + int(rng.integers(20, 64)), len(voiced))  # 0.25 s to 0.8 s
        # A new note begins with a voiced run if one starts near, so that most fall on syllables.
        near = onsets[(onsets > start + 12) & (np.abs(onsets - stop) < 16)]
        stop = int(near[0]) if len(near) else stop
        pitch[start:stop] = note
        ages = np.arange(stop - start) * FRAME_S
        depth = rng.uniform(0.2, 0.6) * np.clip((ages - 0.2) / 0.2, 0, 1)
        vibrato[start:stop] = depth * np.sin(2 * np.pi * rng.uniform(5.0, 6.5) * ages)
        chance = np.exp(-np.abs(notes - note) / 2.5 - np.abs(notes - centre) / 8)
        note, start = rng.choice(notes, p=chance / chance.sum()), stop
    glide = np.hanning(2 * int(rng.integers(4, 8)) + 1)
    half = len(glide) // 2
    smooth = np.convolve(np.pad(pitch, half, mode="edge"), glide / glide.sum(), mode="valid")
    return 440 * 2 ** ((smooth + vibrato - 69) / 12)


def midi(frequency: float) -> float:
    """MIDI note number of a frequency in Hz, 69 at 440 Hz."""
    return float(69 + 12 * np.log2(frequency / 440))
