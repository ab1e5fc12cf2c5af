"""A RUN_DIR's own NSF-HiFiGAN for OpenUtau, another's for a RUN_DIR, and what their precision costs."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from click.testing import CliRunner, Result
from onnx import TensorProto
from rich.console import Console

from moksori.export import cost, run, show
from moksori.export.cli import main
from moksori.export.openutau import OpenUtauForm
from moksori.models.nsf_hifigan import NsfHifiGan
from moksori.runtime.voice import Voice


def export(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "240"}).invoke(main, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def package(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    target = tmp_path_factory.mktemp("out") / "소리 🎤.oudep"
    result = export(tiny_run, target, "--openutau", "--name", "소리")
    assert result.exit_code == 0, result.output
    assert [one.name for one in target.parent.iterdir()] == [target.name]
    return target, result.output


def read(package: Path) -> tuple[onnx.ModelProto, dict[str, Any]]:
    with zipfile.ZipFile(package) as archive:
        said = yaml.safe_load(archive.read("vocoder.yaml"))
        return onnx.load_from_string(archive.read(said["model"])), said


def test_a_run_s_vocoder_goes_to_openutau(package: tuple[Path, str]) -> None:
    model, said = read(package[0])
    assert (said["name"], said["sample_rate"], said["hop_size"], said["num_mel_bins"]) == ("소리", 24_000, 240, 20)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"mel": np.full((1, 7, 20), -5, np.float32), "f0": np.full((1, 7), 220, np.float32)}
    assert session.run(None, feed)[0].shape == (1, 7 * 240)


def test_phase_and_sums_stay_in_single_precision(package: tuple[Path, str]) -> None:
    """fp16 is how weights lie in the file: every value that is computed, and both ends, are float32."""
    model, _ = read(package[0])
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    kinds = {one.name: one.type.tensor_type.elem_type for one in values}
    halves = {one.name for one in model.graph.initializer if one.data_type == TensorProto.FLOAT16}
    assert halves and TensorProto.FLOAT16 not in kinds.values()
    assert {node.op_type for node in model.graph.node if halves & set(node.input)} == {"Cast"}
    (total,) = {kinds[node.output[0]] for node in model.graph.node if node.op_type == "CumSum"}
    assert total == TensorProto.FLOAT


def test_the_table_tells_what_fp16_costs(package: tuple[Path, str]) -> None:
    (line,) = [one for one in package[1].splitlines() if "a tone" in one]
    distance, size, speed = re.search(r"([\d.e-]+) dB.* (\d+)%.* ([\d.]+) times", line).groups()  # type: ignore[union-attr]
    assert 0 < float(distance) < cost.LIMITS["fp16"] and int(size) < 100 and float(speed) > 0.2
    assert re.search(r"^vocoder, opset 18: .*\bConvTranspose CumSum\b", package[1], re.MULTILINE)
    assert "n_frames 1, 17, 150" in package[1]


def test_what_costs_too_much_is_refused(
    tiny_run: Path, package: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cost.LIMITS, "fp16", 1e-9)
    refused = export(tiny_run, tmp_path / "v", "--openutau")
    assert refused.exit_code == 2 and list(tmp_path.iterdir()) == []
    words = r"vocoder graph in fp16 is [\d.e-]+ dB from fp32 \(by a tone\), and 1e-09 is allowed"
    assert re.search(words, refused.stderr)
    graph, own = tmp_path / "kept.onnx", run.vocoder(tiny_run)
    assert isinstance(own.network, NsfHifiGan)
    onnx.save(read(package[0])[0], graph)
    forced = cost.reduced_vocoder(graph, OpenUtauForm(own.network), own.mel, "fp16", None, force=True)
    assert forced is not None and not forced.within
    console = Console(record=True, width=120, file=io.StringIO())
    show.proofs([], [forced], console)
    assert "1e-09: FORCED" in console.export_text()
    said = {one.key: one.value for one in onnx.load(graph).metadata_props}
    assert said["distance_allowed"] == "1e-09" and said["distance_heard"] == "a tone"


def test_a_run_takes_another_s_vocoder(tiny_run: Path, package: tuple[Path, str], tmp_path: Path) -> None:
    result = export(tiny_run, tmp_path / "voice", "--vocoder", package[0], "--precision", "denoiser=w8")
    assert result.exit_code == 0, result.output
    said = json.loads((tmp_path / "voice" / "voice.json").read_text(encoding="utf-8"))
    assert (said["vocoder"]["kind"], said["vocoder"]["phase"]) == ("openutau", "graph")
    assert said["precision"]["denoiser"] == said["precision"]["condition"] == "w8"
    assert "trained elsewhere" in said["credits"][-1]
    voice = Voice.load(tmp_path / "voice", "cpu", threads=1)
    assert {"distance_of_fp32", "size_of_fp32"} <= voice.denoiser.metadata.keys()
    assert "distance_of_fp32" not in voice.vocoder.metadata  # taken as it is
    shown = export("--inspect", tmp_path / "voice")
    words = r"denoiser +w8 against fp32: [\d.e-]+ dB apart by a tone \(0.5 allowed\), \d+% of the size"
    assert re.search(words, shown.output)
