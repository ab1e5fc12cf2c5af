"""No option that nobody needs: each of the commands' options says what it is for, and some test uses it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

COMMANDS = {
    "svc-prepare": "moksori.train.prepare", "svc-train": "moksori.train.cli", "svc-export": "moksori.export.cli",
    "svc-run": "moksori.runtime.cli",
}  # fmt: skip
HERE = Path(__file__)


def options(name: str) -> list[click.Option]:
    found = importlib.import_module(COMMANDS[name]).main.params
    return [one for one in found if isinstance(one, click.Option)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name: str) -> None:
    assert [one.opts for one in options(name) if not one.help and one.opts != ["--version"]] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_a_test(name: str) -> None:
    files = (*HERE.parent.glob("test_*.py"), HERE.parent / "conftest.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)

    def named(option: click.Option) -> bool:
        words = [re.escape(word) for word in (*option.opts, *option.secondary_opts)]
        return any(re.search(rf"(?<![\w-]){word}(?![\w-])", text) for word in words)

    left = [one.opts for one in options(name) if not named(one)]
    assert left == []


def test_about_names_its_file(tmp_path: Path) -> None:
    main = importlib.import_module(COMMANDS["svc-export"]).main
    (tmp_path / "mine.yaml").write_text("descripton: a voice\n", encoding="utf-8")
    for name, words in (("mine.yaml", "description"), ("gone.yaml", "gone.yaml")):
        given = [str(tmp_path), str(tmp_path / "voice"), "--about", str(tmp_path / name)]
        done = CliRunner().invoke(main, given)
        assert (done.exit_code, words in done.output) == (2, True), done.output
