"""The pitch benchmark: its singing has the f0 it says, its errors are right, and it runs to its end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

for needed in ("parselmouth", "librosa", "scipy", "torch"):
    pytest.importorskip(needed)
import torch  # noqa: E402

from moksori.benchmarks import harmonics, published, singing  # noqa: E402
from moksori.benchmarks import pitch as benchmark  # noqa: E402
from moksori.export.pitch import load_crepe  # noqa: E402
from moksori.runtime import audio  # noqa: E402
from moksori.runtime.pitch import Options, Track  # noqa: E402
from moksori.train import measures  # noqa: E402

RATE = 16_000
SONG = Path(__file__).parent / "data" / "vocadito_10.flac"


def test_harmonics_lie_at_exactly_the_f0() -> None:
    """A steady 237.3 Hz: the spectrum's peaks, found by a parabola, are its multiples."""
    points = 401
    manner = harmonics.Manner(partials=(0.5, 1.5), tilt=6, breath=0.02)
    samples = harmonics.sing(np.full(points, 237.3), np.ones(points, bool), np.ones((points, 513)), 0, manner)
    size = 2**17
    log = np.log(np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size)))
    heights = []
    for k in range(1, 6):
        middle = round(k * 237.3 * size / RATE)
        peak = middle - 50 + int(log[middle - 50 : middle + 50].argmax())
        left, here, right = log[peak - 1 : peak + 2]
        found = (peak + 0.5 * (left - right) / (left - 2 * here + right)) * RATE / size
        assert found == pytest.approx(k * 237.3, abs=0.05)
        heights.append(np.exp(here))
    expected = np.array([0.5, 1.5 / 2, 1 / 3, 1 / 4, 1 / 5])  # 6.02 dB an octave is 1 / k
    np.testing.assert_allclose(np.array(heights) / heights[0], expected / expected[0], rtol=0.05)


def test_shimmer_is_from_period_to_period() -> None:
    """Of a cosine of 100 Hz without breath: each period's peak is another, by 30 % of it."""
    points, period = 401, 160
    even, uneven = (
        harmonics.sing(
            np.full(points, 100.0), np.ones(points, bool), np.eye(1, 513, 6) + np.zeros((points, 1)), 0,
            harmonics.Manner(breath=0, shimmer=shimmer),
        )
        for shimmer in (0.0, 0.3)
    )  # fmt: skip
    peaks = [np.abs(one[: len(one) // period * period].reshape(-1, period)).max(1) for one in (even, uneven)]
    assert np.std(peaks[0]) / np.mean(peaks[0]) < 0.02
    assert 0.1 < np.std(peaks[1]) / np.mean(peaks[1]) < 0.45


def test_praat_hears_the_f0_that_is_told() -> None:
    """At notes that last. Praat's window is too long for a yodel, and its ceiling too low for a soprano."""
    song, synthetic = (audio.read(file, RATE) for file in (SONG, benchmark.SYNTHETIC))
    clips = list(singing.clips(song, synthetic, 3))
    assert len({clip.name for clip in clips}) == len(clips) == 14
    for clip in clips:
        assert len(clip.audio) == (len(clip.f0) - 1) * harmonics.HOP == 3 * RATE
        assert clip.f0[clip.voiced].min() > 40 and clip.f0[clip.voiced].max() < 1400
        if clip.name in ("yodel", "soprano", "creaky bass"):
            continue
        heard = measures.pitch(clip.audio)
        times = (3 - 0.01 * (len(heard) - 1)) / 2 + 0.01 * np.arange(len(heard))
        told = np.interp(times, clip.times, clip.f0)
        both = (heard > 0) & (np.interp(times, clip.times, clip.voiced) == 1)
        assert both.mean() > 0.6
        assert np.median(np.abs(1200 * np.log2(heard[both] / told[both]))) < 5


def test_noise_is_as_loud_as_it_says() -> None:
    clip = singing.melody("m", singing.Style(60, 70), 3, seed=0)
    sung = np.repeat(clip.voiced[:-1], harmonics.HOP)
    for decibels in (20, 10):
        noise = singing.noisy(decibels)(clip).audio - clip.audio
        assert 10 * np.log10(np.mean(clip.audio[sung] ** 2) / np.mean(noise**2)) == pytest.approx(decibels, abs=0.01)


def test_a_room_begins_with_the_voice_and_fades() -> None:
    """Of a click: itself, then 5 ms of nothing, then echoes 6 dB below it that fall by 60 dB in 0.6 s."""
    click = np.zeros(RATE, np.float32)
    click[0] = 1
    points = len(click) // harmonics.HOP + 1
    wet = singing.reverberant(harmonics.Clip("c", click, np.full(points, 220.0), np.ones(points, bool))).audio
    assert wet[0] == pytest.approx(1, abs=1e-3) and np.abs(wet[1:80]).max() < 1e-4
    assert np.sum(wet[80:].astype(float) ** 2) == pytest.approx(0.25, rel=0.01)
    levels = [10 * np.log10(np.mean(wet[start : start + 800] ** 2)) for start in (800, 5600)]
    assert levels[0] - levels[1] == pytest.approx(30, abs=2)


def test_errors_by_hand() -> None:
    """Of 100 voiced points 10 are an octave off, 20 by 60 cents, the others by 4; 25 of 125 are wrongly voiced."""
    points = 125
    voiced = np.arange(points) < 100
    clip = harmonics.Clip("c", np.zeros(10, np.float32), np.full(points, 200.0), voiced)
    cents = np.full(points, 4.0)
    cents[:10], cents[10:30] = 1200, -60
    track = Track(clip.times, (200 * 2 ** (cents / 1200)).astype(np.float32), np.ones(points, np.float32))
    found = benchmark.differences(clip, track, Options())
    errors = benchmark.errors([found])
    assert errors.cents == pytest.approx(4, abs=0.01)
    assert (errors.off_pitch, errors.octave, errors.voicing) == (0.3, 0.1, 0.2)
    assert found.missed.mean() == 0.3
    nothing = benchmark.differences(clip, Track(clip.times, track.f0, np.zeros(points, np.float32)), Options())
    silent = benchmark.errors([nothing])
    assert np.isnan(silent.cents) and silent.voicing == 0.8 and nothing.missed.all()
    assert benchmark.errors([found, found, nothing]).octave == 0.1


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
    kept = published.Kept(counter)
    told: list[int] = []
    time = np.arange(RATE // 2) / RATE
    partials = [np.sin(2 * np.pi * 330 * k * time) for k in range(1, 20)]  # it takes a lone sine for silence
    tone = 0.1 * np.sum(partials, axis=0).astype(np.float32)
    for _ in range(2):
        track = published.Published(1, kept, told.append).track(tone)
    assert told == [1, 1]
    assert counter.frames <= 101
    np.testing.assert_allclose(track.times, np.arange(101) * 0.005)
    inner = slice(10, -10)
    assert track.confidence[inner].min() == 1
    assert np.median(np.abs(1200 * np.log2(track.f0[inner] / 330))) < 25  # it adds noise of up to 20 cents


def test_it_runs_and_writes_its_table(tmp_path: Path, jumpy_crepe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.export, "export_crepe", lambda capacity, path: shutil.copyfile(jumpy_crepe, path))
    monkeypatch.setattr(singing, "STYLES", {name: singing.STYLES[name] for name in ("melody, low", "yodel")})
    arguments = ["--fast", "--seconds", 1, "--clip", 2, "--graphs", tmp_path / "g", "--json", tmp_path / "r" / "p.json"]
    result = CliRunner().invoke(benchmark.main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "r" / "p.json").read_text(encoding="utf-8"))
    assert [row["tracker"] for row in written["speed"]] == ["SwiftF0", "CREPE tiny", "CREPE tiny, 5 ms"]
    assert {row["condition"] for row in written["accuracy"]} == {*singing.CONDITIONS, "all"}
    clean = {row["tracker"]: row for row in written["accuracy"] if row["condition"] == "clean"}
    assert clean["SwiftF0, plain"]["cents"] < 10 and clean["CREPE tiny, Viterbi"]["off_pitch"] > 0.5
    assert set(clean[benchmark.DEFAULT]["octave_by_clip"]) == set(written["clips"])
    overall = {row["tracker"]: row["octave"] for row in written["accuracy"] if row["condition"] == "all"}
    assert set(overall) == set(clean) and overall[benchmark.DEFAULT] < 0.03
    table = (tmp_path / "r" / "p.md").read_text(encoding="utf-8")
    assert table in result.output and table.count("| reverb |") == len(clean)
    assert f"| yodel | {clean[benchmark.DEFAULT]['octave_by_clip']['yodel']:.2%} |" in table
    assert "0 s  opening" in result.stderr
