"""The benchmark of training: data repeated without copying, and figures that follow from the times it takes."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest
from click.testing import CliRunner

from moksori.benchmarks import training
from moksori.runtime.files import read_json
from moksori.train.dataset import PreparedData

TINY = "batch: 2\nframes: 24\nnetwork: {channels: 16, hidden: 24, layers: 1, kernel: 3}\n"


def test_data_is_repeated_without_being_copied(tiny_data: Path, tmp_path: Path) -> None:
    data = PreparedData(training.repeated(tiny_data, tmp_path / "long", 0.05))
    pieces = [*data.training, *data.validation]
    seconds = sum(piece["seconds"] for piece in read_json(tmp_path / "long" / "data.json")["slices"])
    assert 180 <= seconds < 184 and len({piece.id for piece in pieces}) == len(pieces)
    piece = pieces[-1]
    crop = data.crop(piece, 0, 16, variant=0)
    assert crop.mel.shape == (16, data.spec.bins)
    path = tmp_path / "long" / "audio" / data.speakers[piece.speaker] / f"{piece.id}.flac"
    assert path.stat().st_nlink >= 10


def test_the_benchmark_runs_and_tells_of_its_steps(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    given = "--data", tiny_data, "--config", tmp_path / "tiny.yaml", "--role", "denoiser", "--steps", 8
    result = CliRunner().invoke(training.main, [str(one) for one in (*given, "--json", tmp_path / "t.json")])
    assert result.exit_code == 0, result.output
    (case,) = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))["cases"]
    assert case["steps"] == 8 and case["steps_per_second"] > 0 and 0 <= case["waiting"] <= 1.5
    assert case["peak_memory_mb"] > 50 and case["listing_seconds"] < 5
    assert f"{case['steps_per_second']:.3f} steps/s" in result.output
    written = (tmp_path / "t.md").read_text(encoding="utf-8").splitlines()
    assert written[-1].startswith(f"| light-24k | denoiser | as given | 1 x 2 | {case['steps_per_second']:.3f} | ")


def test_a_case_ends_when_its_time_is_up() -> None:
    case = training.Case("denoiser", "light-24k", Path(), 1, 1000, None, 0.0)
    task = training.Timed(_Task(), case, 2)
    with pytest.raises(training.Reached):
        list(task.batches(None, None))
    assert task.figures()["steps"] == training.LEAST and len(task.came) == 2 * training.LEAST


def test_figures_follow_from_the_times() -> None:
    """Steps of two batches each, 3 s a step, of which each batch is waited for 0.75 s."""
    task = training.Timed(_Task(), training.Case("denoiser", "light-24k", Path(), 1, 8, 0.5, 60), 2)
    task.asked = [1.5 * k for k in range(16)]
    task.came = [asked + 0.75 for asked in task.asked]
    task.spent = [0.5 * k for k in range(16)]
    task.course = [(10.0, 0.7), (20.0, 0.45), (30.0, 0.4)]
    found = task.figures()
    assert found["steps"] == 8
    assert found["steps_per_second"] == pytest.approx(1 / 3)
    assert found["waiting"] == pytest.approx(0.5)
    assert found["core_seconds_per_step"] == pytest.approx(1)
    assert (found["seconds_to_target"], found["best"]) == (20.0, 0.4)


class _Task:
    network = adversary = trivial = losses = adversary_loss = ranking = begun = None

    def batches(self, share: object, device: object) -> Generator[dict[str, float]]:
        while True:
            yield {}
