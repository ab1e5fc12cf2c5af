"""One clip sung by graphs or networks, all of it and nothing else: what two precisions are compared by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moksori.export import clips
from moksori.export.clips import Clip
from moksori.runtime import content, denoiser, mel, noise, samplers, vocoder
from moksori.runtime.denoiser import Conditions
from moksori.runtime.devices import Session
from moksori.runtime.manifest import Manifest

Array = NDArray[np.float32]
Feeds = dict[str, NDArray[Any]]

MOST_STEPS = 10  # of the sampler; rounding shows in few


def sung(said: Manifest, sessions: Mapping[str, Session], clip: Clip) -> Array:
    """Natural-log mel [T, M] of the sound that the voice's first speaker makes of ``clip``."""
    spec, flow = said.mel, said.denoiser
    units = content.units(sessions["content"], clips.at_16k(clip, spec.sample_rate))
    frames, speaker = len(clip.f0), np.zeros(len(said.speakers), np.float32)
    speaker[0] = 1
    given = Conditions(units, content.mel2ph(frames, len(units)), clip.f0, clip.voiced, clip.loudness, speaker)
    condition = denoiser.condition(sessions["condition"], given)
    start = flow.noise_scale * noise.frames("denoiser", 0, 0, frames, spec.bins)
    plan = samplers.plan(flow.schedule, flow.sampler, min(flow.steps, MOST_STEPS))
    normal = denoiser.sample(sessions["denoiser"], condition, start.T, plan)
    frames_made = normal.T * np.array(flow.deviation, np.float32) + np.array(flow.mean, np.float32)
    stream = vocoder.synthesizer(sessions["vocoder"], spec, said.vocoder, 0)
    sound = np.concatenate([stream.push(frames_made.astype(np.float32), clip.f0), stream.flush()])
    return mel.log_mel(sound, spec)


class Recorder:
    """An open graph that keeps what it was fed."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.feeds: list[Feeds] = []

    def run(self, outputs: list[str] | None, inputs: Feeds) -> list[NDArray[Any]]:
        self.feeds.append(inputs)
        found: list[NDArray[Any]] = self.raw.run(outputs, inputs)
        return found
