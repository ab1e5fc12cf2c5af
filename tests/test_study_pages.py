"""The pages in docs/study: each shows what its study recorded last, and how to make it again."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

for package in ("scipy", "matplotlib", "torch"):
    pytest.importorskip(package)
from moksori.benchmarks import study, study_units  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
STUDIES = {
    path.stem.removeprefix("study_"): import_module(f"moksori.benchmarks.{path.stem}")
    for path in sorted((ROOT / "benchmarks").glob("study_*.py"))
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_shows_its_figure_and_the_tables_of_its_record(name: str) -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / f"study-{name}.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "study" / f"{name}.md").read_text(encoding="utf-8")
    for one in STUDIES[name].table(results).split("\n\n"):
        assert one.strip() in page
    assert f"](../figures/{name}.png)" in page
    assert f"python -m moksori.benchmarks.study_{name}" in page


@pytest.mark.parametrize("name", STUDIES)
def test_help_shows_an_example(name: str) -> None:
    done = CliRunner().invoke(STUDIES[name].main, ["--help"])
    assert done.exit_code == 0 and f"python -m moksori.benchmarks.study_{name}" in done.output


def test_figures_are_small_and_the_same_each_time(tmp_path: Path) -> None:
    for number in (1, 2):
        figure, axes = study.sheet(1, 1, (4, 3))
        image = study.show(axes[0][0], np.random.default_rng(0).normal(-5, 2, (50, 20)).astype(np.float32),
                           study_units.MELS, "a mel", 0.0)  # fmt: skip
        study.scale(figure, image, axes[0])
        study.save(figure, tmp_path / f"{number}.png")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    assert (tmp_path / "1.png").stat().st_size < 50_000
    for path in (ROOT / study.FIGURES).glob("*.png"):
        assert path.stat().st_size < 400_000, path.name
