"""svc-prepare redoes only what an option changes, survives a kill, and keeps others out while it works."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from click.testing import CliRunner, Result

from moksori.benchmarks.prepare import digest
from moksori.runtime import mel
from moksori.runtime.errors import MoksoriError
from moksori.runtime.files import read_json
from moksori.train import features, lock, pipeline, prepare, workers
from moksori.train.dataset import PreparedData

RATE = 24_000
Run = Callable[..., Result]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    time_axis = np.arange(30 * RATE) / RATE
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(time_axis))
    tone = np.where(time_axis % 3 < 2.5, 0.3 * np.sin(2 * np.pi * 220 * time_axis) + noise, 0)
    (tmp_path / "녹음" / "민지").mkdir(parents=True)
    soundfile.write(tmp_path / "녹음" / "민지" / "a.wav", tone, RATE)
    soundfile.write(tmp_path / "녹음" / "민지" / "b.flac", tone[: 7 * RATE], RATE)
    return tmp_path / "녹음"


@pytest.fixture
def graphs(tmp_path: Path, tiny_voice: Callable[[Path], Path]) -> Path:
    return tiny_voice(tmp_path / "graphs")


def arguments(source: Path, target: Path, graphs: Path, *options: str) -> list[str]:
    given = ["--content", str(graphs / "content.onnx"), "--pitch", str(graphs / "pitch.onnx"), "--device", "cpu"]
    return [str(source), str(target), *given, "--jobs", "1", *options]


@pytest.fixture
def run(tmp_path: Path, recordings: Path, graphs: Path) -> Run:
    def call(*options: str, target: str = "data") -> Result:
        result = CliRunner().invoke(prepare.main, arguments(recordings, tmp_path / target, graphs, *options))
        assert result.exit_code == 0, result.output
        return result

    return call


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.flac")}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is made, one for each slice and product."""
    found: list[str] = []

    def counted(name: str, maker: Callable[[features.Sound], features.Arrays]) -> Callable[..., features.Arrays]:
        def make(sound: features.Sound) -> features.Arrays:
            found.append(name)
            return maker(sound)

        return make

    counting = {name: counted(name, maker) for name, maker in features.MAKERS.items()}
    monkeypatch.setattr(features, "MAKERS", counting)
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--threshold", "0.6"), {"f0"}),
        (("--faint", "0.3"), {"f0"}),
        (("--periods", "5"), {"f0"}),
        (("--median", "3"), {"f0"}),
        (("--perturb", "1"), {"units"}),
        (("--cache", "all"), {"mel"}),
        (("--cache", "f0"), set()),
        (("--max", "12"), {"f0", "units"}),
    ],
)
def test_an_option_redoes_what_depends_on_it(
    tmp_path: Path, run: Run, made: list[str], options: tuple[str, ...], expected: set[str]
) -> None:
    run()
    before = times(tmp_path / "data")
    made.clear()
    run(*options)
    assert set(made) == expected
    assert (times(tmp_path / "data") == before) == ("--max" not in options)
    run(*options, target="fresh")
    assert digest(tmp_path / "data") == digest(tmp_path / "fresh")


def test_another_content_graph_redoes_units_only(tmp_path: Path, run: Run, made: list[str], graphs: Path) -> None:
    run()
    before = times(tmp_path / "data")
    made.clear()
    model = onnx.load(graphs / "content.onnx")
    model.graph.initializer[1].raw_data = (2 * onnx.numpy_helper.to_array(model.graph.initializer[1])).tobytes()
    onnx.save(model, graphs / "content.onnx")
    run()
    assert (set(made), times(tmp_path / "data") == before) == ({"units"}, True)


def test_a_kill_before_another_graph_made_anything(
    tmp_path: Path, run: Run, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*rest: object) -> None:
        raise KeyboardInterrupt

    run()
    expected, whole = digest(tmp_path / "data"), (graphs / "content.onnx").read_bytes()
    other = onnx.load_from_string(whole)
    other.doc_string = "another"
    onnx.save(other, graphs / "content.onnx")
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "make", stopping)
        with pytest.raises(AssertionError):
            run()
    assert digest(tmp_path / "data") != expected
    (graphs / "content.onnx").write_bytes(whole)
    run()
    assert digest(tmp_path / "data") == expected


def test_a_kill_between_two_settings_is_not_believed(
    tmp_path: Path, run: Run, recordings: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed on the way to other settings and run with the first again: some slices are of the others."""
    run()
    expected, make, calls = digest(tmp_path / "data"), features.make, []

    def stopping(place: features.Place, *rest: object) -> dict[str, float]:
        calls.append(place.id)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return make(place, *rest)

    for options in (("--max", "9"), ("--threshold", "0.7")):
        calls.clear()
        with monkeypatch.context() as patched:
            patched.setattr(features, "make", stopping)
            result = CliRunner().invoke(
                prepare.main, arguments(recordings, tmp_path / "data", graphs, *options)
            )
            assert result.exit_code == 130
        run()
        assert digest(tmp_path / "data") == expected


def test_killed_at_random_moments_it_ends_in_the_same_bytes(
    tmp_path: Path, run: Run, recordings: Path, graphs: Path
) -> None:
    run()
    expected, chance = digest(tmp_path / "data"), random.Random(0)
    command = [sys.executable, "-m", "moksori.train.prepare", *arguments(recordings, tmp_path / "killed", graphs)]
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(0.4, 2.0))
            process.kill()
    run(target="killed")
    assert digest(tmp_path / "killed") == expected


def test_one_run_at_a_time(tmp_path: Path, run: Run, recordings: Path, graphs: Path) -> None:
    run()
    before = digest(tmp_path / "data")
    with lock.alone(tmp_path / "data" / "sources" / ".lock", "busy"):
        script = "import sys; from moksori.train.prepare import main; main(sys.argv[1:])"
        command = [sys.executable, "-c", script, *arguments(recordings, tmp_path / "data", graphs, "--max", "9")]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, "another svc-prepare is at work" in done.stderr) == (2, True)
    assert digest(tmp_path / "data") == before
    assert "nothing to do" in run().output


def test_sizes_are_told_before_and_after(tmp_path: Path, run: Run) -> None:
    output = run("--cache", "all").output
    assert "by --cache: f0 0.0 MB, units" in output
    data, folder = read_json(tmp_path / "data" / "data.json"), tmp_path / "data"
    assert sum(size for name, size in data["bytes"].items() if name != "audio") == sum(
        path.stat().st_size for path in folder.rglob("*.npz")
    )
    assert data["bytes"]["audio"] == sum(path.stat().st_size for path in folder.rglob("*.flac"))
    assert data["bytes"]["f0"] / sum(piece["seconds"] for piece in data["slices"]) <= 700
    for piece in data["slices"]:
        place = features.Place(folder, piece["speaker"], piece["id"])
        samples, _ = soundfile.read(place.flac, dtype="float32")
        with np.load(place.npz) as arrays:
            expected = mel.log_mel(samples, mel.MelSpec())
            np.testing.assert_allclose(arrays["mel"], expected, atol=0.005)


def test_f0_alone_trains_a_vocoder_only(tmp_path: Path, run: Run) -> None:
    run("--cache", "f0")
    data = PreparedData(tmp_path / "data")
    crop = data.crop(data.training[0], 0, 50, 0)
    assert crop.f0.mean() == pytest.approx(220, rel=1e-3)
    with pytest.raises(MoksoriError, match=r"holds no units.*svc-prepare AUDIO_DIR .* --cache units"):
        data.require_units()


def test_the_report_tells_what_was_found(tmp_path: Path, run: Run) -> None:
    run()
    page = (tmp_path / "data" / "report.html").read_text(encoding="utf-8")
    warnings = read_json(tmp_path / "data" / "data.json")["warnings"]
    assert any("far too little" in text for text in warnings)
    for words in ("민지", "far too little", "data:image/png;base64,", "<svg", "f0 of"):
        assert words in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    (tmp_path / "data" / "report.html").unlink()
    assert "nothing to do" not in run().output


def test_jobs_fit_cores_and_memory(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    graph = prepare.extractors.Graph(Path("a.onnx"), "", 50_000_000, "hubert", 8)
    graphs = prepare.Extractors(graph, graph)
    settings = features.Settings(mel.MelSpec(), "swift", 50, 1600, prepare.pitch.Options(), 5, 15, 2, "", "")
    monkeypatch.setattr(workers, "cores", lambda: 8)
    cpu = prepare.devices.cpu()
    assert prepare.processes(None, None, cpu, graphs, settings) == 8
    assert prepare.processes(64, None, cpu, graphs, settings) == 8
    assert prepare.processes(3, 10**12, cpu, graphs, settings) == 3
    assert prepare.processes(None, 2_000_000_000, cpu, graphs, settings) == 2
    with pytest.raises(MoksoriError, match="--memory 300M is too little"):
        prepare.processes(None, 300_000_000, cpu, graphs, settings)
    assert [prepare.Bytes().convert(text, None, None) for text in ("4G", "1.5GiB", "800m", "7")] == [
        4_000_000_000, 1_500_000_000, 800_000_000, 7,
    ]  # fmt: skip
