"""The benchmark scripts: their statistics, their tables, and that they run from one end to the other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from moksori.runtime import audio
from moksori.runtime.errors import OptionError

scipy = pytest.importorskip("scipy")
from moksori.benchmarks import quality, record, speed  # noqa: E402

SONG = Path(__file__).parent / "data" / "vocadito_10.flac"


def test_the_interval_is_students() -> None:
    """Student (1908): 2.262 is the two-sided 5 % point of ten values."""
    values = np.arange(10.0)
    mean, half = quality.interval([*values, math.nan])
    assert mean == 4.5
    assert half == pytest.approx(2.262157 * values.std(ddof=1) / math.sqrt(10), rel=1e-6)
    assert math.isnan(quality.interval([1.0])[1]) and math.isnan(quality.interval([])[0])


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        mean, half = quality.interval(rng.standard_normal(5))
        hits += abs(mean) < half
    assert 930 < hits < 970


def test_recordings_are_found_in_folders_of_folders(tmp_path: Path) -> None:
    for name in ("b.flac", "deep/a.WAV", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in quality.recordings(tmp_path)] == ["b.flac", "a.WAV"]
    assert quality.recordings(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(OptionError, match="does not exist"):
        quality.recordings(tmp_path / "gone")


def test_a_record_tells_the_machine_and_holds_no_nan(tmp_path: Path) -> None:
    record.write(tmp_path / "new" / "r.json", {"a": (1.0, math.nan), "b": {"c": math.inf}})
    written = json.loads((tmp_path / "new" / "r.json").read_text(encoding="utf-8"))
    assert written["a"] == [1.0, None] and written["b"] == {"c": None}
    circumstances = written["circumstances"]
    assert circumstances["packages"]["numpy"] == np.__version__ and circumstances["cores"] >= 1


def test_a_clip_is_repeated_to_the_length_asked(tmp_path: Path) -> None:
    once = np.random.default_rng(0).uniform(-0.5, 0.5, 1000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", once, 8000, subtype="FLOAT")
    speed.repeat(tmp_path / "a.wav", tmp_path / "b.wav", 0.3)
    np.testing.assert_allclose(audio.read(tmp_path / "b.wav", 8000), np.tile(once, 3)[:2400], atol=1e-6)


def test_speed_runs_and_its_stages_add_up(tmp_path: Path, tiny_voice: Callable[..., Path]) -> None:
    voice = tiny_voice(tmp_path / "voice")
    arguments = [
        SONG,
        "--voice",
        voice,
        "--seconds",
        12,
        "--runs",
        1,
        "--json",
        tmp_path / "s.json",
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(speed.main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert written["seconds"] == pytest.approx(12, abs=0.02)
    assert written["real_time_factor"] == pytest.approx(written["elapsed_seconds"] / 12, rel=0.01)
    assert 0 < sum(written["stages"].values()) <= written["elapsed_seconds"] * 1.01
    for stage in written["stages"]:
        assert f"\n{stage} " in result.stdout
    assert f"real-time factor {written['real_time_factor']:.3f}" in result.stdout


def test_quality_runs_and_reports_each_speaker_and_kind(
    tmp_path: Path, tiny_voice: Callable[..., Path]
) -> None:
    pytest.importorskip("resemblyzer")
    voice = tiny_voice(tmp_path / "voice")
    song = audio.read(SONG, 16_000)
    for name in ("heart", "f001", "heart_sung"):
        for part in range(2):
            path = tmp_path / "references" / name / f"{part}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, song[part * 32_000 : (part + 2) * 32_000], 16_000)
    arguments = [
        voice, "--inputs", tmp_path / "references" / "f001", "--sung", SONG, "--device", "cpu", "--steps", 1,
        "--references", tmp_path / "references", "--keep", tmp_path / "kept", "--output", tmp_path / "q",
    ]  # fmt: skip
    result = CliRunner().invoke(quality.main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "q.json").read_text(encoding="utf-8"))
    groups = [(group["speaker"], group["kind"], group["clips"]) for group in written["summary"]]
    assert sorted(groups) == [
        ("f001", "singing", 1), ("f001", "speech", 2), ("heart", "singing", 1), ("heart", "speech", 2),
    ]  # fmt: skip
    assert len(written["clips"]) == len(list((tmp_path / "kept").iterdir())) == 6
    assert set(written["ceilings"]) == {"heart", "f001", "heart_sung"}
    table = (tmp_path / "q.md").read_text(encoding="utf-8")
    assert table in result.stdout and table.count("| heart |") == 2
