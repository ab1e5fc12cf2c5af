"""The study of a vocoder's losses: one that learned two steps, through all of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

for needed in ("torch", "matplotlib", "resemblyzer", "parselmouth"):
    pytest.importorskip(needed)
from training import VOCODER, data_of, svc_train, tones, written  # noqa: E402

from moksori.benchmarks import study_losses  # noqa: E402
from moksori.runtime import Voice  # noqa: E402
from moksori.train.measures import Sound  # noqa: E402

SONG = Path(__file__).parent / "data" / "vocadito_10.flac"
TinyVoice = Callable[..., Path]


def test_vocoders_are_compared_by_copies_and_conversions(
    tmp_path: Path, tiny_voice: TinyVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that learned two steps, and itself again: all is the same. DistillMOS is another test's."""

    class Length:
        def of(self, sound: Sound) -> float:
            return float(len(sound.samples))

    monkeypatch.setattr(study_losses, "Naturalness", Length)
    voice = tiny_voice(tmp_path / "voice")
    speaker = Voice.load(voice, "cpu").speaker_names[0]
    known = tmp_path / "known" / speaker
    known.mkdir(parents=True)
    shutil.copy(SONG, known)
    spec = Voice.load(voice, "cpu").manifest.mel
    data = data_of(tmp_path / "data", spec, tones(spec))
    steps = written(tmp_path / "tiny.yaml", **VOCODER)
    assert svc_train("vocoder", data, tmp_path / "run", "--config", steps, "--steps", 2).exit_code == 0
    given = ("--voice", voice, "--inputs", SONG, "--references", tmp_path / "known", "--speaker", speaker)
    vocoders = [f"{name}={tmp_path / 'run'}" for name in ("one", "the other")]
    done = CliRunner().invoke(study_losses.main, [str(one) for one in (*vocoders, *given, "--root", tmp_path)])
    assert done.exit_code == 0, done.output
    record = tmp_path / "benchmarks" / "results" / "study-losses.json"
    one, other = json.loads(record.read_text(encoding="utf-8"))["rows"]
    assert (one["name"], other["name"]) == ("one", "the other")
    assert {**one, "name": ""} == {**other, "name": ""}
    assert 0 < one["noise"]["unvoiced"] < 1 and one["copies"]["inputs"] == one["copies"][speaker]


def test_a_vocoder_needs_a_name(tmp_path: Path) -> None:
    done = CliRunner().invoke(study_losses.main, ["run", "--references", str(tmp_path)])
    assert done.exit_code == 2 and "NAME=VOCODER" in done.output
