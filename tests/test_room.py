"""A vocoder whose device runs out of memory makes shorter stretches, and the same sound."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from moksori.runtime import Converter, Voice, backends, nsf_vocoder
from moksori.runtime.devices import Session
from moksori.runtime.errors import MemoryFull
from moksori.runtime.istft_vocoder import IstftSynthesizer
from moksori.runtime.mel import MelSpec
from moksori.runtime.nsf_vocoder import NsfSynthesizer
from moksori.runtime.openutau import OpenUtauSynthesizer
from moksori.runtime.room import SMALLEST_FRAMES, Room

RATE = 24_000
SPEC = MelSpec(sample_rate=8_000, hop=80, n_fft=256, win=256, bins=12, fmin=40, fmax=4_000)
FRAMES = 900


@given(begin=st.integers(0, 1_000), length=st.integers(0, 5_000), fits=st.integers(SMALLEST_FRAMES * 2, 6_000))
def test_stretches_follow_on_one_another_and_fit(begin: int, length: int, fits: int) -> None:
    room, tried = Room(), []

    def work(start: int, stop: int) -> tuple[int, int]:
        tried.append(stop - start)
        if stop - start > fits:
            raise MemoryFull("full")
        return start, stop

    found = list(room.stretches(begin, begin + length, work))
    edges = [begin, *(stop for stop, _ in found)]
    assert [made for _, made in found] == list(pairwise(edges))
    assert edges[-1] == begin + length
    assert all(stop - start <= fits for _, (start, stop) in found)
    assert len(tried) - len(found) <= 13  # halvings; what once did not fit is not tried again
    assert (room.reason == "full") == (length > fits)


def test_what_never_fits_is_an_error() -> None:
    def work(start: int, stop: int) -> None:
        raise MemoryFull("none at all")

    with pytest.raises(MemoryFull, match="none at all"):
        list(Room().stretches(0, 1_000, work))


@dataclasses.dataclass(frozen=True)
class Small:
    """What onnxruntime is to a session: memory for so many frames, and a gain that depends on the mel."""

    frames: int

    def run(self, outputs: None, inputs: dict[str, Any]) -> list[np.ndarray]:
        if inputs["f0"].shape[1] > self.frames:
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for buffer")
        gain = np.exp(inputs["mel"].mean(2))
        if "harmonic" in inputs:
            return [(inputs["harmonic"] + inputs["noise"]) * gain[:, :, None, None]]
        noise = inputs.get("noise", np.ones((1, gain.shape[1], SPEC.hop), np.float32))
        return [(noise * gain[:, :, None]).reshape(1, -1)]


@pytest.mark.parametrize("kind", [IstftSynthesizer, NsfSynthesizer, OpenUtauSynthesizer])
def test_shorter_stretches_sound_the_same(kind: type[Any]) -> None:
    rng = np.random.default_rng(0)
    mel = rng.normal(-2, 0.3, (FRAMES, SPEC.bins)).astype(np.float32)
    f0 = (200 * 2 ** np.cumsum(rng.normal(0, 0.01, FRAMES))).astype(np.float32)

    def sung(fits: int) -> tuple[np.ndarray, Room]:
        stream = kind(Session("the vocoder graph", backends.cpu(), Small(fits)), SPEC, 8, 0)
        cuts = (mel[:500], f0[:500]), (mel[500:], f0[500:])
        return np.concatenate([*(stream.push(*cut) for cut in cuts), stream.flush()]), stream.room

    (whole, ample), (parts, narrow) = sung(10_000), sung(150)
    assert not ample.reason
    assert "Failed to allocate memory" in narrow.reason and narrow.frames <= 150
    np.testing.assert_allclose(parts, whole, atol=1e-5 * np.abs(whole).max())
    with pytest.raises(MemoryFull, match="the vocoder graph failed on CPU"):
        sung(20)


def test_a_song_is_finished_and_the_report_says_so(tmp_path: Path, tiny_voice: Callable[[Path], Path]) -> None:
    voice = Voice.load(tiny_voice(tmp_path / "voice"), "cpu", threads=1)
    sound = 0.3 * np.sin(2 * np.pi * 220 * np.arange(9 * RATE) / RATE)
    soundfile.write(tmp_path / "song.wav", np.stack([sound, 0.5 * sound], 1), RATE, subtype="FLOAT")
    real, tried = voice.vocoder.raw, []

    class Narrow:
        def run(self, outputs: None, inputs: dict[str, Any]) -> list[np.ndarray]:
            tried.append(inputs["f0"].shape[1])
            if tried[-1] > 200:
                raise RuntimeError("CUDA error cudaErrorMemoryAllocation:out of memory")
            return list(real.run(outputs, inputs))

    session = dataclasses.replace(voice.vocoder, raw=Narrow())
    narrow = dataclasses.replace(voice, sessions={**voice.sessions, "vocoder": session})
    for one, name in ((voice, "whole.wav"), (narrow, "parts.wav")):
        report = Converter(one).convert(tmp_path / "song.wav", tmp_path / name)
    (notice,) = [notice for notice in report.notices if "memory" in notice]
    assert notice.startswith("the vocoder's stretches were shortened to ") and "out of memory" in notice
    assert sum(length > 200 for length in tried) <= 4
    found, expected = (soundfile.read(tmp_path / name)[0] for name in ("parts.wav", "whole.wav"))
    np.testing.assert_allclose(found, expected, atol=2e-5)  # two steps of 24 bits beside the float error


def test_nsf_hifigan_begins_with_short_stretches() -> None:
    assert NsfSynthesizer(Session("v", backends.cpu(), Small(1)), SPEC, 8, 0).room.frames == nsf_vocoder.LONGEST
