"""The pitch benchmark: its singing has the f0 it says, its errors are right, and it runs to its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

for needed in ("parselmouth", "librosa", "scipy", "torch"):
    pytest.importorskip(needed)
import torch  # noqa: E402

from moksori.benchmarks import pitch as benchmark  # noqa: E402
from moksori.benchmarks import singing  # noqa: E402
from moksori.export.pitch import load_crepe  # noqa: E402
from moksori.runtime import audio  # noqa: E402
from moksori.runtime.pitch import Track  # noqa: E402
from moksori.train import measures  # noqa: E402

RATE = 16_000
SONG = Path(__file__).parent / "data" / "vocadito_10.flac"


def test_harmonics_lie_at_exactly_the_f0() -> None:
    """A steady 237.3 Hz: the spectrum's peaks, found by a parabola, are its multiples."""
    points = 401
    samples = singing.sing(np.full(points, 237.3), np.ones(points, bool), np.ones((points, 513)), seed=0)
    size = 2**17
    log = np.log(np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size)))
    for k in range(1, 6):
        middle = round(k * 237.3 * size / RATE)
        peak = middle - 50 + int(log[middle - 50 : middle + 50].argmax())
        left, here, right = log[peak - 1 : peak + 2]
        found = (peak + 0.5 * (left - right) / (left - 2 * here + right)) * RATE / size
        assert found == pytest.approx(k * 237.3, abs=0.05)


def test_praat_hears_the_f0_that_is_told() -> None:
    song = audio.read(SONG, RATE)
    for clip in singing.clips(song, 3):
        assert len(clip.audio) == (len(clip.f0) - 1) * singing.HOP == 3 * RATE
        heard = measures.pitch(clip.audio)
        times = (3 - 0.01 * (len(heard) - 1)) / 2 + 0.01 * np.arange(len(heard))
        told = np.interp(times, clip.times, clip.f0)
        both = (heard > 0) & (np.interp(times, clip.times, clip.voiced) == 1)
        assert both.mean() > 0.6
        assert np.median(np.abs(1200 * np.log2(heard[both] / told[both]))) < 5


def test_noise_is_as_loud_as_it_says() -> None:
    clip = singing.melody("m", 60, 70, 3, seed=0)
    sung = np.repeat(clip.voiced[:-1], singing.HOP)
    for decibels in (20, 10):
        noise = singing.noisy(decibels)(clip).audio - clip.audio
        assert 10 * np.log10(np.mean(clip.audio[sung] ** 2) / np.mean(noise**2)) == pytest.approx(decibels, abs=0.01)


def test_a_room_begins_with_the_voice_and_fades() -> None:
    """Of a click: itself, then 5 ms of nothing, then echoes 6 dB below it that fall by 60 dB in 0.6 s."""
    click = np.zeros(RATE, np.float32)
    click[0] = 1
    points = len(click) // singing.HOP + 1
    wet = singing.reverberant(singing.Clip("c", click, np.full(points, 220.0), np.ones(points, bool))).audio
    assert wet[0] == pytest.approx(1, abs=1e-3) and np.abs(wet[1:80]).max() < 1e-4
    assert np.sum(wet[80:].astype(float) ** 2) == pytest.approx(0.25, rel=0.01)
    levels = [10 * np.log10(np.mean(wet[start : start + 800] ** 2)) for start in (800, 5600)]
    assert levels[0] - levels[1] == pytest.approx(30, abs=2)


def test_errors_by_hand() -> None:
    """Of 100 voiced points 10 are an octave off, 20 by 60 cents, the others by 4; 25 of 125 are wrongly voiced."""
    points = 125
    voiced = np.arange(points) < 100
    clip = singing.Clip("c", np.zeros(10, np.float32), np.full(points, 200.0), voiced)
    cents = np.full(points, 4.0)
    cents[:10], cents[10:30] = 1200, -60
    track = Track(clip.times, (200 * 2 ** (cents / 1200)).astype(np.float32), np.ones(points, np.float32))
    errors = benchmark.compared([clip], [track], 0.5)
    assert errors.cents == pytest.approx(4, abs=0.01)
    assert (errors.off_pitch, errors.octave, errors.voicing) == (0.3, 0.1, 0.2)
    silent = benchmark.compared([clip], [Track(clip.times, track.f0, np.zeros(points, np.float32))], 0.5)
    assert np.isnan(silent.cents) and silent.voicing == 0.8


class Counter:
    """A network that counts the frames it is given."""

    def __init__(self) -> None:
        self.frames = 0
        self.network = load_crepe("tiny")

    def run(self, outputs: None, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        self.frames += len(inputs["frames"])
        return [self.network(torch.from_numpy(inputs["frames"])).detach().numpy()]


def test_torchcrepe_is_heard_through_its_own_code_and_each_frame_is_run_once() -> None:
    counter = Counter()
    kept = benchmark.Kept(counter)
    time = np.arange(RATE // 2) / RATE
    partials = [np.sin(2 * np.pi * 330 * k * time) for k in range(1, 20)]  # it takes a lone sine for silence
    tone = 0.1 * np.sum(partials, axis=0).astype(np.float32)
    for _ in range(2):
        track = benchmark.Published(1, kept).track(tone)
    assert counter.frames <= 101
    np.testing.assert_allclose(track.times, np.arange(101) * 0.005)
    inner = slice(10, -10)
    assert track.confidence[inner].min() == 1
    assert np.median(np.abs(1200 * np.log2(track.f0[inner] / 330))) < 25  # it adds noise of up to 20 cents


def test_it_runs_and_writes_its_table(tmp_path: Path) -> None:
    arguments = ["--fast", "--seconds", 1, "--clip", 2, "--graphs", tmp_path / "g", "--json", tmp_path / "r" / "p.json"]
    result = CliRunner().invoke(benchmark.main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "r" / "p.json").read_text(encoding="utf-8"))
    assert [row["tracker"] for row in written["speed"]] == ["SwiftF0", "CREPE tiny", "CREPE tiny, 5 ms"]
    assert {row["condition"] for row in written["accuracy"]} == set(singing.CONDITIONS)
    clean = {row["tracker"]: row for row in written["accuracy"] if row["condition"] == "clean"}
    assert clean["SwiftF0, plain"]["cents"] < 10 and clean["CREPE tiny, Viterbi"]["off_pitch"] < 0.1
    table = (tmp_path / "r" / "p.md").read_text(encoding="utf-8")
    assert table in result.output and table.count("| reverb |") == len(clean)
