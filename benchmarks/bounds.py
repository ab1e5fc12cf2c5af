"""What a conversion lies between: copy-synthesis by the voice's own vocoder above, moved pitch and formants below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import Voice, mel, pitch, vocoder
from moksori.runtime.mel import MelSpec
from moksori.train import measures
from moksori.train.measures import RATE, Sound

Array = NDArray[np.float32]

FORMANTS = np.geomspace(0.75, 1.35, 41)  # ratios that are tried
BAND_HZ = (200.0, 7000.0)  # in which envelopes are compared; the sources may hold nothing above
LOUD_DB = 30.0  # below the loudest frames
LOWEST_HZ, HIGHEST_HZ = 60.0, 1100.0  # of Praat's pitch


def copied(voice: Voice, sound: Sound) -> Sound:
    """A recording's own mel and f0, made sound by the vocoder: as good as a conversion could be."""
    spec, facts = voice.manifest.mel, voice.manifest.pitch
    frames = mel.log_mel(sound.at(spec.sample_rate), spec)
    tracker = pitch.Tracker(voice.pitch, facts.kind, facts.fmin, facts.fmax, facts.options)
    f0, _ = tracker.at(sound.at(pitch.RATE), mel.frame_times(len(frames), spec))
    stream = vocoder.synthesizer(voice.vocoder, spec, voice.manifest.vocoder, seed=0)
    return Sound(np.concatenate([stream.push(frames, f0), stream.flush()]), spec.sample_rate)


def moved(sound: Sound, target: Array, key: float, spec: MelSpec) -> Sound:
    """The recording with pitch, formants and colour brought to a speaker's by signal processing alone.

    Praat moves pitch by ``key`` semitones and formants by the ratio whose mean spectrum lies nearest to ``target``
    (``envelope`` of the speaker), by overlap-add of periods (Moulines & Charpentier 1990); a filter does the rest.
    """
    praat = measures.needed("parselmouth")
    samples = sound.at(spec.sample_rate)
    heard = measures.pitch(sound.at(RATE))
    if (heard > 0).any():
        goal = float(np.median(heard[heard > 0])) * 2 ** (key / 12)
        ratio = nearest(envelope([sound], spec), target, spec)
        given = praat.Sound(samples.astype(np.float64), spec.sample_rate)
        made = praat.praat.call(given, "Change gender", LOWEST_HZ, HIGHEST_HZ, ratio, goal, 1.0, 1.0)
        samples = _fit(made.values[0].astype(np.float32), len(samples))
    return Sound(_coloured(Sound(samples, spec.sample_rate), target, spec), spec.sample_rate)


def envelope(sounds: Sequence[Sound], spec: MelSpec) -> Array:
    """Mean log mel [M] of the loud frames."""
    frames = []
    for sound in sounds:
        samples = sound.at(spec.sample_rate)
        level = mel.loudness(samples, spec)
        frames.append(mel.log_mel(samples, spec)[: len(level)][level > level.max(initial=-np.inf) - LOUD_DB])
    return np.concatenate(frames).mean(0).astype(np.float32)


def nearest(own: Array, target: Array, spec: MelSpec) -> float:
    """The ratio by which frequencies of ``own`` are multiplied to look most like ``target``, up to a gain."""
    hertz = mel.centres(spec)
    inside = (hertz > BAND_HZ[0]) & (hertz < BAND_HZ[1])

    def apart(ratio: float) -> float:
        error = (np.interp(hertz / ratio, hertz, own) - target)[inside]
        return float((error - error.mean()).std())

    return float(min(FORMANTS, key=apart))


def _coloured(sound: Sound, target: Array, spec: MelSpec) -> Array:
    """The sound under one filter that brings its mean spectrum to ``target``'s shape, at most 20 dB either way."""
    gain = target - envelope([sound], spec)
    gain = np.clip(gain - gain.mean(), -np.log(10), np.log(10))
    spectrum = np.fft.rfft(sound.samples)
    hertz = np.fft.rfftfreq(len(sound.samples), 1 / spec.sample_rate)
    made = np.fft.irfft(spectrum * np.exp(np.interp(hertz, mel.centres(spec), gain)), len(sound.samples))
    return (made * min(1.0, 1 / max(float(np.abs(made).max()), 1e-9))).astype(np.float32)


def _fit(samples: Array, length: int) -> Array:
    return np.pad(samples[:length], (0, max(0, length - len(samples))))
