"""benchmarks/quality.py: its statistics, its floor and ceiling, and that it runs from one end to the other."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from moksori.runtime import audio, mel
from moksori.runtime.errors import OptionError
from moksori.runtime.mel import MelSpec
from moksori.train.measures import RATE, Sound, pitch

pytest.importorskip("scipy")
from moksori.benchmarks import bounds, inputs, quality, quality_report
from moksori.benchmarks.listeners import Listeners, Naturalness, Sphinx, loudness_error

SONG = Path(__file__).parent / "data" / "vocadito_10.flac"
SPEC = MelSpec()


def song(seconds: float = 3.0) -> Sound:
    return Sound(audio.read(SONG, SPEC.sample_rate)[: round(seconds * SPEC.sample_rate)], SPEC.sample_rate)


def test_the_interval_is_students() -> None:
    """Student (1908): 2.262 is the two-sided 5 % point of ten values."""
    values = np.arange(10.0)
    mean, half = quality_report.interval([*values, math.nan])
    assert mean == 4.5
    assert half == pytest.approx(2.262157 * values.std(ddof=1) / math.sqrt(10), rel=1e-6)
    assert math.isnan(quality_report.interval([1.0])[1]) and math.isnan(quality_report.interval([])[0])


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        mean, half = quality_report.interval(rng.standard_normal(5))
        hits += abs(mean) < half
    assert 930 < hits < 970


def test_recordings_are_found_in_folders_of_folders(tmp_path: Path) -> None:
    for name in ("b.flac", "deep/a.WAV", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in inputs.recordings(tmp_path)] == ["b.flac", "a.WAV"]
    assert inputs.recordings(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(OptionError, match="does not exist"):
        inputs.recordings(tmp_path / "gone")
    with pytest.raises(OptionError, match="nothing to convert"):
        inputs.found([], [])


def test_loudness_is_followed_up_to_one_gain() -> None:
    source = song()
    assert loudness_error(source, Sound(source.samples * 0.25, source.rate), SPEC) == pytest.approx(0, abs=0.02)
    swell = np.repeat(10 ** (np.array([-6, 6] * 3) / 20), len(source.samples) // 6).astype(np.float32)
    uneven = Sound(source.samples[: len(swell)] * swell, source.rate)
    assert 4 < loudness_error(source, uneven, SPEC) < 8
    assert math.isnan(loudness_error(Sound(np.zeros(0, np.float32), 24_000), source, SPEC))


def test_nobody_listens_unless_asked() -> None:
    nobody = Listeners()
    assert (nobody.natural(song()), nobody.misheard(song(), song()), nobody.misheard_english(song(), song())) == (
        None, None, None,
    )  # fmt: skip


@pytest.mark.skipif(find_spec("distillmos") is None, reason="distillmos is not installed")
def test_noise_is_less_natural() -> None:
    natural, source = Naturalness(), song(6.0)
    noise = np.random.default_rng(0).standard_normal(len(source.samples)).astype(np.float32)
    clean, noisy = natural.of(source), natural.of(Sound(source.samples + 0.1 * noise, source.rate))
    assert 1 <= noisy < clean - 0.5 and clean <= 5
    assert math.isfinite(natural.of(Sound(np.zeros(0, np.float32), 24_000)))
    assert "torchaudio" not in sys.modules  # whose wheels break a CPU torch


def test_sphinx_hears_words_and_none_in_silence() -> None:
    pytest.importorskip("pocketsphinx")
    sphinx = Sphinx()
    heard = sphinx.text(song(6.0))
    assert heard and sphinx.text(song(6.0)) == heard
    assert sphinx.text(Sound(np.zeros(0, np.float32), 24_000)) == ""
    assert Listeners(sphinx=sphinx).misheard_english(song(6.0), song(6.0)) == 0
    lost = Listeners(sphinx=sphinx).misheard_english(song(6.0), Sound(np.zeros(24_000, np.float32), 24_000))
    assert lost is not None and lost > 0.9


def test_the_floor_moves_pitch_formants_and_colour() -> None:
    pytest.importorskip("parselmouth")
    source = song()
    smaller = Sound(np.interp(np.arange(0, len(source.samples), 1.2), np.arange(len(source.samples)),
                              source.samples).astype(np.float32), source.rate)  # fmt: skip
    own, target = bounds.envelope([source], SPEC), bounds.envelope([smaller], SPEC)
    assert 1.1 < bounds.nearest(own, target, SPEC) < 1.3
    made = bounds.moved(source, target, 4.0, SPEC)
    assert len(made.samples) == len(source.samples) and np.abs(made.samples).max() <= 1

    def distance(sound: Sound) -> float:
        apart = bounds.envelope([sound], SPEC) - target
        return float((apart - apart.mean()).std())

    assert distance(made) < 0.5 * distance(source)
    before, after = (pitch(sound.at(RATE)) for sound in (source, made))
    both = (before > 0) & (after > 0)
    assert np.median(1200 * np.log2(after[both] / before[both])) == pytest.approx(400, abs=25)


def test_silence_has_a_floor_too() -> None:
    pytest.importorskip("parselmouth")
    silence = Sound(np.zeros(24_000, np.float32), 24_000)
    made = bounds.moved(silence, bounds.envelope([song()], SPEC), 0.0, SPEC)
    assert not made.samples.any()


def test_quality_runs_and_reports_each_system_speaker_and_kind(
    tmp_path: Path, tiny_voice: Callable[..., Path]
) -> None:
    pytest.importorskip("resemblyzer")
    voice = tiny_voice(tmp_path / "voice")
    heard = audio.read(SONG, 16_000)
    for name in ("heart", "f001", "heart_sung"):
        for part in range(2):
            path = tmp_path / "references" / name / f"{part}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, heard[part * 32_000 : (part + 2) * 32_000], 16_000)
    arguments = [
        voice, "--inputs", tmp_path / "references" / "f001", "--sung", SONG, "--device", "cpu", "--steps", 1,
        "--references", tmp_path / "references", "--keep", tmp_path / "kept", "--output", tmp_path / "q",
    ]  # fmt: skip
    result = CliRunner().invoke(quality.main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "q.json").read_text(encoding="utf-8"))
    groups = [(one["system"], one["speaker"], one["kind"], one["clips"]) for one in written["summary"]]
    assert sorted(groups) == sorted(
        (system, speaker, kind, count)
        for system in (quality.CONVERTED, quality.FLOOR)
        for speaker in ("heart", "f001")
        for kind, count in (("singing", 1), ("speech", 2))
    )
    assert len(written["clips"]) == 2 * len(list((tmp_path / "kept").iterdir())) == 12
    names = {one["recordings"] for one in written["bounds"]}
    assert names == {"heart", "f001", "heart_sung", "inputs, speech", "inputs, singing"}
    assert all(row["steps_distance"] is not None for row in written["clips"][:6])
    assert {row["naturalness"] for row in written["clips"]} == {None}
    table = (tmp_path / "q.md").read_text(encoding="utf-8")
    assert {one["kind"] for one in written["folders"]} == {"singing/data", "speech/f001"}
    assert table in result.stdout and table.count("| heart |") == 9 and "naturalness |" not in table.split("\n\n")[1]
    assert (tmp_path / "q.png").read_bytes().startswith(b"\x89PNG")


def test_a_mel_bins_centre_is_where_its_filter_is_highest() -> None:
    highest = np.fft.rfftfreq(SPEC.n_fft, 1 / SPEC.sample_rate)[mel.filterbank(SPEC).argmax(1)]
    assert np.abs(mel.centres(SPEC) - highest).max() < SPEC.sample_rate / SPEC.n_fft
