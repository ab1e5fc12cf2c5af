"""What a live stream sings: what a file would, without clicks, at the singer's level, and nothing in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
import soxr
from live_song import MEL, RATE, pulses, song, sung

from moksori.runtime import Converter, Live, Options, Stream, Voice, audio, content, loudness
from moksori.runtime.errors import OptionError
from moksori.runtime.istft_vocoder import IstftSynthesizer
from moksori.runtime.performer import Performer
from moksori.runtime.rolling import Ear


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, onnx.ModelProto]) -> Voice:
    return pulses(tmp_path_factory.mktemp("voice"), tiny_models)


def test_it_sings_what_a_file_would(voice: Voice, tmp_path: Path) -> None:
    """The tiny networks look no further than a unit: units, f0 and mel are a file's, and so is the sound.

    It is as loud as the source where a file is: the vocoder's pulses stand where the file's stand.
    """
    signal = song(2.0)
    soundfile.write(tmp_path / "song.wav", signal, RATE, subtype="FLOAT")
    report = Converter(voice, Options(bits="float")).convert(tmp_path / "song.wav", tmp_path / "out.wav")
    file = audio.read(tmp_path / "out.wav", RATE)
    stream = Stream(voice, live=Live(gain=gain_of(signal, voice)))
    live = sung(stream, signal)[stream.latency :]
    assert len(live) == len(file) and report.key == 0
    part = slice(round(0.3 * RATE), round(1.7 * RATE))
    scores = [np.corrcoef(live[part], np.roll(file, lag)[part])[0, 1] for lag in range(-9, 10)]
    assert np.argmax(scores) == 9 and max(scores) > 0.98


def gain_of(signal: np.ndarray, voice: Voice) -> float:
    level = loudness.active_level([signal], MEL)
    assert level is not None
    return voice.manifest.speakers[0].loudness - level


def test_joins_do_not_click(voice: Voice) -> None:
    """The sound of a steady tone is as even at the borders of blocks as between them."""
    time = np.arange(3 * RATE) / RATE
    tone = np.sum([0.3 * np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 9)], axis=0, dtype=np.float32)
    stream = Stream(voice, live=Live(gain=0.0))
    live = sung(stream, tone)[stream.latency :][RATE : 2 * RATE]
    period = RATE / 220
    steps = np.abs(np.diff(live, 2))
    size = stream.block * MEL.hop
    near = np.minimum(np.arange(len(steps)) % size, size - np.arange(len(steps)) % size) < 1.2 * period
    assert steps[near].max() < 1.25 * steps[~near].max()


def test_skipped_blocks_fade_and_the_rest_is_as_late_as_ever(voice: Voice) -> None:
    stream, signal = Stream(voice, live=Live(gain=0.0)), song(1.6)
    size = stream.block * MEL.hop
    parts = [
        (stream.skip if 12 <= at // size < 20 else stream.push)(signal[at : at + size])
        for at in range(0, len(signal), size)
    ]
    heard = np.concatenate(parts)
    silent = slice(14 * size + stream.latency, 18 * size)
    assert not heard[silent].any()
    plain = Stream(voice, live=Live(gain=0.0)).push(signal)
    levels = [np.sqrt(np.mean(one[26 * size :].reshape(-1, 2 * size) ** 2, 1)) for one in (heard, plain)]
    np.testing.assert_allclose(levels[0], levels[1], rtol=0.1)


def test_silence_is_silent_and_costs_no_network(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(voice)
    asked: list[int] = []
    monkeypatch.setattr(stream.ear, "hear", lambda *_: asked.append(1))
    quiet = (1e-4 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    assert not stream.push(quiet).any() and not asked


def test_the_gate_has_hysteresis(voice: Voice) -> None:
    """At a level between its two thresholds a stream that sings goes on, and one that is silent stays so."""
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    between = 10 ** (-65 / 20) * noise
    loud = 10 ** (-40 / 20) * noise
    after = Stream(voice, live=Live(gain=0.0)).push(np.concatenate([loud, between]).astype(np.float32))
    alone = Stream(voice, live=Live(gain=0.0)).push(between)
    assert after[-RATE // 2 :].any() and not alone.any()


def test_the_gain_finds_the_voices_level_and_the_result_the_singers(voice: Voice) -> None:
    """However loud somebody sings, the networks hear the voice's level, and the result follows the singer."""
    quiet, loud = (Stream(voice) for _ in range(2))
    results = [stream.push(song(4.0) * gain)[-2 * RATE :] for stream, gain in ((quiet, 0.1), (loud, 1.0))]
    assert abs(quiet.leveller.gain - loud.leveller.gain - 20) < 1
    ratio = np.sqrt(np.mean(results[1] ** 2) / np.mean(results[0] ** 2))
    assert 8 < ratio < 12.5


def test_options_change_between_blocks(voice: Voice) -> None:
    stream, signal = Stream(voice, live=Live(gain=0.0)), song(0.8)
    stream.push(signal)
    stream.change(Options(key=12.0))
    high = stream.push(signal)[-8192:]
    spectrum = np.abs(np.fft.rfft(high * np.hanning(8192)))
    bins = [round(f * 8192 / RATE) for f in (220, 440)]
    assert spectrum[bins[1] - 2 : bins[1] + 3].max() > 20 * spectrum[bins[0] - 2 : bins[0] + 3].max()


def test_a_long_stream_holds_no_more_than_a_short_one(voice: Voice) -> None:
    stream, signal = Stream(voice), song(0.4)

    def held() -> int:
        ear, synthesizer = stream.ear, stream.synthesizer
        assert isinstance(synthesizer, IstftSynthesizer)
        tapes = (ear.audio, ear.narrow, ear.units, ear.f0, ear.voiced, stream.leveller.gains)
        arrays = (stream.waiting, stream.ready, stream.gate.gains, stream.inward.held, synthesizer.harmonics.train)
        return sum(len(tape.rows) for tape in tapes) + sum(map(len, arrays)) + len(synthesizer.mel)

    sizes = []
    for _ in range(20):
        stream.push(signal)
        sizes.append(held())
    assert max(sizes[10:]) == max(sizes[5:10])


def test_damaged_samples_are_silence(voice: Voice) -> None:
    signal = song(0.5)
    signal[5000:5010] = [np.nan, np.inf, -np.inf, 0, 0, np.nan, 0, 0, 0, 1]
    assert np.isfinite(Stream(voice).push(signal)).all()


@pytest.mark.parametrize(
    "options, live, message",
    [
        ({"key": "auto"}, {}, "give the key in semitones"),
        ({"stereo": True}, {}, "stereo is for files"),
        ({"f0": Path("x.csv")}, {}, "f0 is for files"),
        ({"speaker": "nobody"}, {}, "no speaker 'nobody'"),
        ({}, {"block": 0.0}, "a block of 0 ms"),
        ({}, {"lookahead": 5000.0}, "a look-ahead of 5000 ms"),
        ({}, {"rate": 100}, "a rate of 100 Hz"),
        ({}, {"past": -1.0}, "a past of -1 s"),
        ({}, {"step": 0}, "pushes of 0 samples"),
    ],
)
def test_what_a_stream_cannot_do_is_said(
    voice: Voice, options: dict[str, Any], live: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        Stream(voice, Options(**options), Live(**live))


def test_units_of_a_network_with_bounds_are_a_files(voice: Voice) -> None:
    """With the past and look-ahead that a content network needs, units heard in parts are those of the whole."""
    ear, performer, done, kept = Ear(voice.manifest, None, 0, None), Performer(voice), 0, []
    for at in range(0, 12 * 960, 960):
        ear.push(song(1.2)[at : at + 960])
        end = max(0, ear.known - 4)
        if end:
            before = ear.units.end
            ear.hear(performer, done, end)
            kept.append(ear.units.cut(before, ear.units.end))
            done = end
    assert ear.past == 0 and ear.units.end == 22
    sound = soxr.resample(song(1.2), RATE, content.RATE)
    whole = content.units(voice.content, sound)[:22]
    found = np.concatenate(kept)
    assert np.abs(found - whole).max() < 2e-3 * np.abs(whole).max()
