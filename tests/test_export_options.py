"""svc-export's options: what means nothing beside what was asked for is refused, not passed over."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from moksori.export import cli


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--from model v --student", "--student is for a RUN_DIR, not for --from; leave it out"),
        ("--from model v --content-only", "--content-only is for --content-only, not for --from"),
        ("--from model v --openutau", "not for --from"),
        ("--from model v --teacher x", "not for --from"),
        ("run v --layer 9", "--layer is for --from, --teacher, a voice, not for a RUN_DIR"),
        ("voice new --content x --speakers a", "--speakers is for --from, a RUN_DIR, not for a voice"),
        ("run v --openutau --speakers a", "--speakers is for --from, a RUN_DIR, not for --openutau"),
        ("run v --openutau --vocoder x", "not for --openutau"),
        ("run v --openutau --student", "not for --openutau"),
        ("run c.onnx --content-only --student", "not for --content-only"),
        ("run c.onnx --content-only --vocoder x", "not for --content-only"),
        ("run c.onnx --content-only --name x", "not for --content-only"),
        ("--teacher x --pitch crepe", "--pitch is for --from, --pitch, not for --teacher"),
        ("--teacher x --vocoder y c.onnx", "not for --teacher"),
        ("--pitch crepe --precision int8", "not for --pitch"),
        ("--inspect v --force", "not for --inspect"),
        ("voice new --vocoder x --name y", "not for a voice"),
        ("voice new --vocoder x --student", "--student is for a RUN_DIR, not for a voice"),
        ("--pitch crepe a b", "--pitch writes one file"),
        ("run v --precision int8", "is not a folder"),
        ("--from model v --precision int8", "int8 is calibrated on prepared data"),
        ("run v --openutau --precision int8", "devices nobody knows; give --precision fp32, fp16 or w8"),
    ],
)
def test_pairs_that_make_no_sense(words: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--content", "c", "--vocoder", "v"] if "--from" in words and "int8" in words else []
    result = CliRunner().invoke(cli.main, [*words.split(), *more])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert sentence in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_option_is_for_something() -> None:
    options = {one.opts[0] for one in cli.main.params if isinstance(one, click.Option)} - {"--version", "--help"}
    assert options == set().union(*cli.TASKS.values()) | {name for name in cli.TASKS if name.startswith("--")}
