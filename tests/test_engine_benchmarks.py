"""The engine's benchmarks: each runs from one end to the other, and would find what it looks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from moksori.runtime.errors import VoiceError

torch = pytest.importorskip("torch")
from moksori.benchmarks import fuzz, gpu, memory, networks, stages  # noqa: E402
from moksori.runtime import manifest  # noqa: E402


def test_fuzzing_finds_no_traceback_hang_or_leftover(
    tmp_path: Path, tiny_voice: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The full numbers are in the script's own call; here are a few, two of them through svc-run."""
    monkeypatch.setattr(fuzz, "SAMPLED", 35)
    voice = tiny_voice(tmp_path / "voice")
    cases = [fuzz.Case("audio", seed) for seed in range(30)] + [fuzz.Case("voice", seed) for seed in range(20)]
    found = list(fuzz.run(cases, voice))
    assert [(case, verdict.text) for case, verdict in found if verdict.outcome == fuzz.BAD] == []
    outcomes = {(case.kind, verdict.outcome) for case, verdict in found}
    assert {("audio", fuzz.FINE), ("audio", fuzz.REFUSED), ("voice", fuzz.REFUSED)} <= outcomes


def test_fuzzing_would_notice(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    def crash(target: Path) -> None:
        raise ZeroDivisionError

    def refuse_and_leave(target: Path) -> None:
        target.with_suffix(".part").write_bytes(b"")
        raise VoiceError("damaged")

    assert "ZeroDivisionError" in fuzz._tried(crash, tmp_path).text
    assert fuzz._tried(refuse_and_leave, tmp_path) == fuzz.Verdict(fuzz.BAD, "refused, and leaves ['a.part']")


def test_damage_is_repeatable_and_is_damage(tmp_path: Path, tiny_voice: Callable[[Path], Path]) -> None:
    voice = tiny_voice(tmp_path / "voice")
    before = {path.name: path.read_bytes() for path in voice.iterdir()}
    changed = 0
    for seed in range(20):
        folders = [tmp_path / f"{seed} {copy}" for copy in range(2)]
        one, other = (fuzz.damaged_voice(voice, folder, seed) for folder in folders)
        contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (one, other)]
        assert contents[0] == contents[1]
        changed += contents[0] != before
    assert changed > 15
    assert {path.name: path.read_bytes() for path in voice.iterdir()} == before  # links do not reach the original
    data = bytes(range(256)) * 8
    assert sum(fuzz.mutated(data, np.random.default_rng(seed)) != data for seed in range(50)) > 45


def test_memory_is_measured_in_a_process_of_its_own(tmp_path: Path, tiny_voice: Callable[[Path], Path]) -> None:
    voice = tiny_voice(tmp_path / "voice")
    found = memory.measured(voice, tmp_path, 0.2, "cpu", 1, None)
    assert found["minutes"] == 0.2 and 30 < found["loaded_mb"] <= found["peak_mb"] < 1000
    assert found["along"][-1][0] == 1.0
    memory.draw(tmp_path / "plot.png", [found])
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_networks_of_a_preset_become_a_voice(
    tmp_path: Path, tiny_voice: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = {role: tiny_voice(tmp_path / "tiny") / f"{role}.onnx" for role in manifest.ROLES}
    graphs["swift"] = graphs.pop("pitch")
    no = torch.nn.Identity()
    tiny = networks.Networks(networks.PRESETS["hubert"], no, no, no, no, graphs, 7)
    monkeypatch.setattr(networks, "made", lambda name, folder: tiny)
    made = networks.voice("hubert", tmp_path)
    read = manifest.read((made / manifest.FILE).read_bytes())
    assert (read.units.dimension, read.vocoder.kind, read.vocoder.context) == (768, "istft", 7)
    assert (made / "pitch.onnx").read_bytes() == graphs["swift"].read_bytes()
    assert read.files == manifest.graph_files(made)


def test_layers_that_training_would_begin_at_zero_are_heard() -> None:
    silent, loud = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    torch.nn.init.zeros_(silent.weight)
    before = loud.weight.clone()
    networks._untied(torch.nn.Sequential(silent, loud))
    assert bool(silent.weight.all()) and torch.equal(loud.weight, before)


def test_the_stage_table_divides_by_our_cost() -> None:
    rows = [
        vars(stages.Row("f0", "swift, 16 ms", True, 0.01)),
        vars(stages.Row("f0", "crepe full, 10 ms", True, 0.4)),
        vars(stages.Row("f0", "CREPE full, 5 ms", False, 6.0)),
        vars(stages.Row("mel2ph", "stretch", True, 1e-5)),
    ]
    lines = stages.table("demo", rows, {"device": "CPU", "threads": 2}).splitlines()
    assert lines[-3:] == [
        "| f0 | swift, 16 ms | 10.00 | CREPE full, 5 ms | 6000.00 | 600.0 |",
        "| f0 | crepe full, 10 ms | 400.00 | CREPE full, 5 ms | 6000.00 | 15.0 |",
        "| mel2ph | stretch | 0.01 |  |  |  |",
    ]


def test_the_gpu_table_can_be_tried_on_the_cpu(tmp_path: Path, tiny_voice: Callable[[Path], Path]) -> None:
    voice, target = tiny_voice(tmp_path / "voice"), tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--voice", str(voice), "--seconds", "1", "--runs", "1", "--json", str(target)]
    done = CliRunner().invoke(gpu.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    written = json.loads(target.read_text(encoding="utf-8"))
    assert [one["error"] for one in written["graphs"]] == [0.0] * 5
    tried = {(run["lanes"], run["steps"]) for run in written["conversions"]}
    assert tried == {(lanes, steps) for lanes in (1, 2) for steps in gpu.STEPS}
