"""The benchmark scripts: their statistics, their tables, and that they run from one end to the other."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from moksori.runtime import audio

scipy = pytest.importorskip("scipy")
from moksori.benchmarks import record, speed  # noqa: E402

SONG = Path(__file__).parent / "data" / "vocadito_10.flac"


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
    at_once = 1 + (os.cpu_count() or 1)  # lanes, and who hands them their chunks
    assert 0 < sum(written["stages"].values()) <= written["elapsed_seconds"] * 1.01 * at_once
    for stage in written["stages"]:
        assert f"\n{stage} " in result.stdout
    assert f"real-time factor {written['real_time_factor']:.3f}" in result.stdout
    assert 0 < written["import_seconds"] < written["first_sound_seconds"] < written["process_seconds"]
