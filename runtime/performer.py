"""How a voice sings with one set of options: what the conversion of a file and a live stream share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import denoiser, formant, key, mel, noise, pitch, samplers
from moksori.runtime.denoiser import Conditions
from moksori.runtime.options import Options
from moksori.runtime.voice import Voice

Array = NDArray[np.float32]


class Performer:
    """A voice and what its options come to; holds no state of any song.

    Raises:
        OptionError: a speaker, sampler or number that the voice does not have.
    """

    def __init__(self, voice: Voice, options: Options | None = None) -> None:
        self.voice, self.options = voice, options or Options()
        facts, chosen = voice.manifest, self.options
        self.speaker = voice.speaker_weights(chosen.speaker)
        self.guidance = facts.denoiser.guidance if chosen.guidance is None else chosen.guidance
        self.plan = samplers.plan(
            facts.denoiser.schedule, chosen.sampler or facts.denoiser.sampler, chosen.steps or facts.denoiser.steps,
            chosen.depth, self.guidance,
        )  # fmt: skip
        if self.guidance != 1:
            denoiser.require_guidable(voice.condition, voice.name)
        self.noise_scale = facts.denoiser.noise_scale if chosen.noise_scale is None else chosen.noise_scale
        spec = facts.pitch
        self.tracker = pitch.Tracker(voice.pitch, spec.kind, spec.fmin, spec.fmax, spec.options)
        self.level = float(self.speaker @ np.array([s.loudness for s in facts.speakers], np.float32))
        self.range = key.mixed(facts.speakers, self.speaker)

    def mel(self, given: Conditions, first: int, audio: Array) -> Array:
        """Denoise T frames from absolute frame ``first`` on: natural-log mel [T, M], its formants moved if so asked.

        ``audio`` [T·hop] is the source at the voice's level, at whose mel a depth below 1 begins.
        """
        spec = self.voice.manifest.denoiser
        condition = denoiser.condition(self.voice.condition, given)
        null = denoiser.condition(self.voice.condition, denoiser.null(given)) if self.guidance != 1 else None
        start = self.noise_scale * noise.frames("denoiser", self.options.seed, first, len(given.f0), len(spec.mean))
        if self.options.depth < 1:
            start = denoiser.noised(mel.log_mel(audio, self.voice.manifest.mel), start, spec, self.options.depth)
        normal = denoiser.sample(self.voice.denoiser, condition, start.T, self.plan, null)
        found = (normal.T * np.array(spec.deviation, np.float32) + np.array(spec.mean, np.float32)).astype(np.float32)
        shift = self.options.formant
        return formant.shifted(found, given.f0, given.voiced, shift, self.voice.manifest.mel) if shift else found
