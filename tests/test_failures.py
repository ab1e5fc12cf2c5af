"""benchmarks/failures.py: which clips it picks, and that it draws them as they were measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib")
from moksori.benchmarks import failures, record

SONG = Path(__file__).parent / "data" / "vocadito_10.flac"


def row(clip: str, speaker: str, rate: float | None, system: str = "converted") -> dict[str, Any]:
    return {
        "system": system, "clip": clip, "speaker": speaker, "key": 0,
        "error_rate": rate, "source_text": "a", "text": "",
    }  # fmt: skip


ROWS = [
    row("speech/data/vocadito_10", "heart", 0.1),
    row("speech/data/b", "heart", 0.05),
    row("speech/data/b", "f001", None),
    row("speech/data/vocadito_10", "f001", 0.0),
    row("singing/data/vocadito_10", "heart", 0.3),
    row("singing/data/vocadito_10", "heart", 0.9, "pitch and formants moved"),
]


def test_the_worst_of_each_speaker_and_kind_is_picked() -> None:
    found = [(one["clip"], one["speaker"], one["error_rate"]) for one in failures.worst(ROWS)]
    assert found == [
        ("speech/data/vocadito_10", "heart", 0.1),
        ("singing/data/vocadito_10", "heart", 0.3),
        ("speech/data/vocadito_10", "f001", 0.0),
    ]


def test_they_are_drawn_and_named(
    tmp_path: Path, tiny_voice: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = tiny_voice(tmp_path / "voice")
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    given = [str(voice), "--inputs", str(SONG), "--sung", str(SONG), "--output", str(tmp_path / "한 장.png")]
    missing = CliRunner().invoke(failures.main, given)
    assert missing.exit_code == 2 and "run moksori.benchmarks.quality first" in missing.output
    for broken in ("{", "[]", '{"clips": [{}]}'):
        (tmp_path / "quality-tiny.json").write_text(broken, encoding="utf-8")
        damaged = CliRunner().invoke(failures.main, given)
        assert damaged.exit_code == 2 and "is no record of moksori.benchmarks.quality" in damaged.output
    unheard = {"clips": [row("speech/data/b", "heart", None)], "steps": 1, "seed": 0}
    (tmp_path / "quality-tiny.json").write_text(json.dumps(unheard), encoding="utf-8")
    wordless = CliRunner().invoke(failures.main, given)
    assert wordless.exit_code == 2 and "with --recogniser" in wordless.output
    known = {"clips": ROWS, "steps": 1, "seed": 0}
    (tmp_path / "quality-tiny.json").write_text(json.dumps(known), encoding="utf-8")
    done = CliRunner().invoke(failures.main, given)
    assert done.exit_code == 0, done.output
    assert "singing/data/vocadito_10 as heart: 30 % of the characters misheard" in done.output
    assert (tmp_path / "한 장.png").read_bytes().startswith(b"\x89PNG")
    other = shutil.copy(SONG, tmp_path / "other.flac")
    refused = CliRunner().invoke(failures.main, [str(voice), "--inputs", str(other), "--sung", str(SONG)])
    assert refused.exit_code == 2 and "not among --inputs and --sung" in refused.output
