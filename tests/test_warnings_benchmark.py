"""The benchmark of svc-prepare's warnings: its mixtures are as loud as they say, and it runs to its end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

pytest.importorskip("psutil")
from moksori.benchmarks import warnings

RATE = 24_000


def voice(seconds: float, hertz: float) -> np.ndarray:
    """Harmonics for a second, then half a second of nothing."""
    time = np.arange(round(seconds * RATE)) / RATE
    partials = np.sum([np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 20)], axis=0)
    return (0.2 * partials * (time % 1.5 < 1)).astype(np.float32)


def chord(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * np.sum([np.sin(2 * np.pi * f * time) for f in (262, 330, 392)], axis=0)).astype(np.float32)


def test_music_lies_as_far_below_as_it_says() -> None:
    sung, under = voice(6, 220), chord(2)
    for below in (10.0, 20.0):
        both = warnings.mixed(sung, under, below)
        sounding = np.arange(len(sung)) / RATE % 1.5 < 1
        found = 10 * np.log10(np.mean(sung[sounding] ** 2) / np.mean((both - sung) ** 2))
        assert found == pytest.approx(below, abs=0.3)
    assert np.abs(warnings.mixed(5 * sung, under, 0)).max() == pytest.approx(1)


def test_it_runs_and_tells_alarms_from_misses(tmp_path: Path) -> None:
    for name, hertz in (("low", 110), ("high", 440)):
        (tmp_path / "voices" / name).mkdir(parents=True)
        for number in range(warnings.FILES):
            soundfile.write(tmp_path / "voices" / name / f"{number}.wav", voice(3, hertz * 1.02**number), RATE)
    soundfile.write(tmp_path / "chord.wav", chord(40), RATE)
    words = ["--voices", tmp_path / "voices", "--music", tmp_path / "chord.wav", "--seconds", 6, "--jobs", 1]
    result = CliRunner().invoke(warnings.main, [*map(str, words), "--json", str(tmp_path / "w.json")])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "w.json").read_text(encoding="utf-8"))
    rows = {row["voice"]: row for row in written["music"]}
    assert set(rows) == {"vocadito_10", "low", "high"}
    assert not any(row["false_alarm"] for row in rows.values())
    assert all(row["10 dB below"] == [True] for row in rows.values())
    assert written["strangers"] == {"low with high": True, "high with low": True}
    assert "noticed in 2 of 2 pairs" in result.output
    assert result.output.strip() in (tmp_path / "w.md").read_text(encoding="utf-8").strip()
    refused = CliRunner().invoke(warnings.main, ["--voices", str(tmp_path / "no"), "--music", "a.mp3"])
    assert (refused.exit_code, "is not a folder" in refused.output) == (2, True)
