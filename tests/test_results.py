"""docs/results.md and README's figures are those of the newest results, and of nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from moksori.benchmarks import all as everything
from moksori.benchmarks import footprint, page, plots, readme, record

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MOST_MB, MOST_WHEEL_MB = 250, 45
AGAIN = "run: python -m moksori.benchmarks.page"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the page is made of, to be changed."""
    shutil.copytree(RESULTS, tmp_path / "benchmarks" / "results")
    (tmp_path / "docs").mkdir()
    for name in readme.NAMES:
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def change(checkout: Path, name: str, edit: Callable[[dict[str, Any]], None]) -> None:
    path = checkout / record.RESULTS / name
    results = json.loads(path.read_text(encoding="utf-8"))
    edit(results)
    path.write_text(json.dumps(results), encoding="utf-8")


def test_page_and_readmes_are_of_the_newest_results() -> None:
    assert [str(path.relative_to(ROOT)) for path in page.stale(ROOT)] == [], AGAIN


def test_figures_that_can_be_drawn_are_there() -> None:
    drawn = [plot.file for plot in plots.DRAWN.values() if plots.possible(plot, RESULTS)]
    assert [file for file in drawn if not (ROOT / plots.FIGURES / file).is_file()] == [], AGAIN


def test_every_result_is_on_the_page_or_has_one_of_its_own() -> None:
    told = [pattern for section in page.SECTIONS for pattern in section.files]
    own = ("windows.json", "all.json", "study-*.json")
    left = [path.name for path in RESULTS.glob("*.json") if not any(map(path.match, (*told, *own)))]
    assert left == []


def test_readmes_follow_the_results(checkout: Path) -> None:
    def slower(results: dict[str, Any]) -> None:
        results |= {"real_time_factor": 0.5, "peak_memory_mb": 1234.4, "evaluations": 7}

    before = list(readme.renewed(checkout, checkout / record.RESULTS).values())
    change(checkout, "speed-demo.json", slower)
    texts = list(readme.renewed(checkout, checkout / record.RESULTS).values())
    rows = [[line.split(" | ") for line in text.splitlines() if line.startswith("| ")] for text in texts]
    english = {row[0]: row[1] for row in rows[0]}
    assert english["| time to convert 1 min"] == "30.0 s"
    assert english["| peak memory meanwhile"] == "1234 MB"
    assert english["| evaluations of the denoiser"] == "7"
    korean = {row[1] for row in rows[1]}
    assert {"30.0초", "1234 MB", "7"} <= korean
    # Nothing but those figures has changed.
    for old, text in zip(before, texts, strict=True):
        lines = list(zip(old.splitlines(), text.splitlines(), strict=True))
        assert sum(was != now for was, now in lines) == 3


def test_stages_are_compared_at_the_demo_voices_steps(checkout: Path) -> None:
    rows = [
        ("f0", "SwiftF0", True, 0.01), ("f0", "CREPE", True, 0.5), ("f0", "CREPE full", False, 4.0),
        ("steps", "convnext, 1", True, 0.02), ("steps", "convnext, 2", True, 0.08),
        ("steps", "convnext, 64", True, 0.4), ("steps", "convnext, 100", False, 3.0), ("mel2ph", "stretch", True, 9.0),
    ]  # fmt: skip
    keys = ("stage", "how", "ours", "cost")
    results = {"presets": {"demo": [dict(zip(keys, row, strict=True)) for row in rows]}}
    assert readme.beside(results) == ({"f0": 0.01, "steps": 0.08}, {"f0": 4.0, "steps": 3.0})
    (checkout / record.RESULTS / "stages-cpu.json").write_text(json.dumps(results), encoding="utf-8")
    assert readme.figures(checkout / record.RESULTS)["all stages for 1 s"] == ("90 ms", "7,000 ms")
    plots.draw(checkout / record.RESULTS, checkout)
    assert (checkout / "results-stages.png").stat().st_size > 1000


def test_every_figure_of_the_tables_is_computed() -> None:
    """Each row that `figures` knows is in README.md once, so that none is renamed out of its reach."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    wanted = readme.figures(RESULTS)
    assert len(wanted) >= 8
    assert {label: text.count(f"\n| {label} |") for label in wanted} == dict.fromkeys(wanted, 1)


def test_what_was_not_measured_is_said(checkout: Path) -> None:
    for path in (checkout / record.RESULTS).glob("*"):
        path.unlink()
    text = page.page(checkout / record.RESULTS)
    assert text.count("Not measured yet: `python -m moksori.benchmarks.") == len(page.SECTIONS)
    assert "![" not in text
    unchanged = readme.renewed(checkout, checkout / record.RESULTS)
    assert all(path.read_text(encoding="utf-8") == text for path, text in unchanged.items())


def test_check_tells_what_is_old(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    assert CliRunner().invoke(page.main, []).exit_code == 0
    assert CliRunner().invoke(page.main, ["--check"]).exit_code == 0
    assert sorted(path.name for path in plots.FIGURES.iterdir()) == sorted(
        plot.file for plot in plots.DRAWN.values() if plots.possible(plot, RESULTS)
    )
    change(checkout, "speed-demo.json", lambda results: results.update(elapsed_seconds=99.0))
    done = CliRunner().invoke(page.main, ["--check"])
    assert done.exit_code == 1 and "docs/results.md" in done.output and "README" not in done.output


def test_the_benches_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def stand_in(command: list[str], timeout: float) -> SimpleNamespace:
        asked.append(command[1:])
        if "footprint" in command[2]:
            raise subprocess.TimeoutExpired(command, timeout)
        return SimpleNamespace(returncode=int("tour" in command[2]))

    instead = SimpleNamespace(run=stand_in, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(everything, "subprocess", instead)
    done = CliRunner().invoke(everything.main, ["--json", str(tmp_path / "all.json")])
    assert done.exit_code == 2 and "these did not end as they should: tour, footprint;" in done.output
    assert asked[0] == ["-m", "moksori.benchmarks.speed", "--seconds", "180"]
    assert asked[-1] == ["-m", "moksori.benchmarks.page"]
    ends = {one["name"]: one["end"] for one in json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))["runs"]}
    assert ends["speed"] == "done" and ends["tour"] == "ended with 1"
    assert ends["footprint"] == f"stopped after {everything.LIMIT} s"


@pytest.mark.parametrize("name", everything.RUNS)
def test_each_bench_takes_its_arguments(name: str) -> None:
    import importlib

    module, *arguments = everything.RUNS[name]
    command = importlib.import_module(f"moksori.benchmarks.{module}").main
    context = command.make_context(module, [*arguments])
    assert not context.args


def test_the_footprint_leaves_pip_out() -> None:
    counted = footprint.tally([("moksori", "1", 3_000_000), ("pip", "2", 9_000_000), ("NumPy", "3", 5_000_000)])
    assert [one["name"] for one in counted["packages"]] == ["NumPy", "moksori"]
    assert (counted["all_mb"], counted["pip_mb"]) == (8, 9)
    assert counted["packages"][0]["why"].startswith("arrays")


def test_the_footprint_is_as_small_as_promised() -> None:
    measured = json.loads((RESULTS / "footprint.json").read_text(encoding="utf-8"))
    names = [one["name"] for one in measured["packages"]]
    assert len(names) == len(set(names)) and {"moksori", "numpy", "onnxruntime"} <= set(names)
    assert measured["all_mb"] <= MOST_MB and measured["wheel_mb"] <= MOST_WHEEL_MB
    assert [one["name"] for one in measured["packages"] if not one["why"]] == []
