"""The latency benchmark: its measures against closed forms, and that it runs from one end to the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

pytest.importorskip("scipy")
from moksori.benchmarks import latency
from moksori.runtime import Options, Voice
from moksori.runtime.mel import MelSpec
from moksori.runtime.stream import Live

SPEC = MelSpec()
TinyVoice = Callable[[Path], Path]


def tone(seconds: float, rate: int) -> np.ndarray:
    length = np.arange(round(seconds * rate)) / rate
    return np.stack([0.1 * np.sin(2 * np.pi * 220 * k * length) / k for k in range(1, 8)]).sum(0).astype(np.float32)


def test_pauses_are_left_out() -> None:
    loud, silent = tone(0.5, 16_000), np.zeros(8_000, np.float32)
    found = latency.without_pauses(np.concatenate([loud, silent, loud, silent]), 16_000, 3.0)
    assert len(found) == 48_000
    assert np.sqrt((found.reshape(-1, 1600) ** 2).mean(1)).min() > 0.05


def test_the_mel_distance_forgives_gain_alone() -> None:
    sound, other = (0.1 * np.random.default_rng(0).standard_normal((2, SPEC.sample_rate))).astype(np.float32)
    noisy = sound + other
    assert latency.mel_distance(sound * 0.5, sound, SPEC) < 1e-3
    assert latency.mel_distance(noisy, sound, SPEC) > 0.1


def test_the_costs_table_names_what_is_not_met(tmp_path: Path, tiny_voice: TinyVoice) -> None:
    voice, target = tiny_voice(tmp_path / "voice"), tmp_path / "latency.json"
    soundfile.write(tmp_path / "song.wav", tone(2.0, 24_000), 24_000)
    arguments = [str(tmp_path / "song.wav"), "--voice", str(voice), "--only", "cost", "--seconds", "1"]
    arguments += ["--block", "40", "--block", "200", "--steps", "1", "--json", str(target)]
    done = CliRunner().invoke(latency.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = json.loads(target.read_text(encoding="utf-8"))["cost"]
    assert [row["algorithmic_ms"] for row in rows] == pytest.approx([40 + 30 + 4 * 32 / 48, 200 + 30 + 4 * 32 / 48])
    assert all(row["share"] == pytest.approx(row["p99_ms"] / row["block_ms"], rel=1e-4) for row in rows)
    told = target.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    assert told[-1].startswith("| 200 | 1 | 232.7 ") and "not: algorithmic" in told[-1]


def test_a_long_run_is_the_same_at_its_end(tmp_path: Path, tiny_voice: TinyVoice) -> None:
    soundfile.write(tmp_path / "song.wav", tone(2.0, 24_000), 24_000)
    voice = Voice.load(tiny_voice(tmp_path / "voice"), "cpu", threads=1)
    found = latency.long_run(voice, Options(steps=1), Live(block=200.0), tmp_path / "song.wav", 120.0)
    assert found["seconds"] == 120 and found["still_sings"]
    assert found["last_mb"] < found["first_mb"] + 10
    assert found["last_cpu_ms"] < 2 * found["first_cpu_ms"]
    assert "| resident MB |" in latency.hour_table(found)
