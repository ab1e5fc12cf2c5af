"""svc-prepare: what it writes, that it makes only what is missing, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from moksori.runtime import audio, library, mel
from moksori.runtime.files import read_json, sha256
from moksori.train import corpus, features, prepare

RATE = 24_000
Run = Callable[..., Result]


def song(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A tone and noise with half a second of pause every three."""
    time = np.arange(round(seconds * rate)) / rate
    signal = 0.3 * np.sin(2 * np.pi * 220 * time) + 0.01 * np.random.default_rng(seed).standard_normal(len(time))
    return np.where(time % 3 < 2.5, signal, 1e-4 * signal)


@pytest.fixture
def graphs(tmp_path: Path, tiny_voice: Callable[[Path], Path]) -> Path:
    return tiny_voice(tmp_path / "graphs")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two speakers: one with a long stereo song in a sub-folder and a short clip, one with a low-rate clip."""
    folder = tmp_path / "녹음 of mine"
    for name, signal, rate in [
        ("민지 🎤/deep/long song.flac", np.stack([song(40, rate=44_100)] * 2, 1), 44_100),
        ("민지 🎤/clip.wav", song(2, 1), RATE),
        ("bob/clip.ogg", song(7, 2, 8_000), 8_000),
        ("bob/silence.wav", np.zeros(3 * RATE), RATE),
        ("bob/short.wav", song(0.4), RATE),
    ]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, signal, rate)
    (folder / "bob" / "notes.txt").write_text("not audio", encoding="utf-8")
    (folder / "bob" / "._clip.wav").write_bytes(b"macOS leaves these")
    return folder


@pytest.fixture
def run(tmp_path: Path, graphs: Path) -> Run:
    def call(source: Path, *options: str, target: Path | None = None) -> Result:
        given = ["--content", str(graphs / "content.onnx"), "--pitch", str(graphs / "pitch.onnx"), "--jobs", "1"]
        return CliRunner().invoke(prepare.main, [str(source), str(target or tmp_path / "data"), *given, *options])

    return call


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def slices_of(data: Path) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Audio and features of each slice, in the order of data.json."""
    found = []
    for piece in read_json(data / "data.json")["slices"]:
        signal, rate = soundfile.read(data / "audio" / piece["speaker"] / f"{piece['id']}.flac", dtype="float32")
        assert rate == RATE
        assert len(signal) / rate == pytest.approx(piece["seconds"], abs=1e-6)
        with np.load(data / "features" / piece["speaker"] / f"{piece['id']}.npz") as arrays:
            found.append((signal, dict(arrays)))
    return found


def test_the_data_set_is_what_the_contract_says(tmp_path: Path, recordings: Path, run: Run, graphs: Path) -> None:
    result = run(recordings)
    assert result.exit_code == 0, result.output
    data, spec = tmp_path / "data", mel.MelSpec()
    facts = read_json(data / "data.json")
    assert facts["mel"] == {
        "sample_rate": 24_000, "hop": 240, "n_fft": 1024, "win": 1024, "bins": 100, "fmin": 40.0, "fmax": 12_000.0,
    }  # fmt: skip
    assert (facts["format_version"], facts["units"]) == (1, {"dimension": 8})
    assert facts["pitch"] == {
        "kind": "swift", "fmin": 50.0, "fmax": 1600.0, "threshold": 0.5,
        "hop": 0.01, "decoder": "weighted", "median": 1, "mean": 1, "octave_guard": True, "faint": 1.0, "periods": 0,
    }  # fmt: skip
    for role in ("content", "pitch"):
        assert facts[f"{role}_sha256"] == sha256(graphs / f"{role}.onnx") == sha256(data / f"{role}.onnx")
    counts = {name: [s["speaker"] for s in facts["slices"]].count(name) for name in ("bob", "민지 🎤")}
    assert counts["bob"] == 1
    assert counts["민지 🎤"] >= 4
    assert len({s["id"] for s in facts["slices"]}) == len(facts["slices"])
    found = slices_of(data)
    for signal, arrays in found:
        frames, count = len(signal) // 240, -(-round(len(signal) * 2 / 3) // 320)
        assert (arrays["f0"].shape, arrays["f0"].dtype) == ((frames,), np.float32)
        assert arrays["f0"] == pytest.approx(220)
        assert (arrays["voiced"].shape, arrays["voiced"].dtype) == ((frames,), bool)
        assert arrays["units"].shape[0::2] == (3, 8)
        assert abs(arrays["units"].shape[1] - count) <= 1
        assert arrays["units"].dtype == np.float16
        assert 0.8 <= len(signal) / RATE <= 15
    spectra = np.concatenate([mel.log_mel(signal, spec) for signal, _ in found])
    statistics = {name: np.array(values) for name, values in facts["statistics"].items()}
    np.testing.assert_allclose(statistics["mean"], spectra.mean(0), atol=1e-3)
    np.testing.assert_allclose(statistics["deviation"], spectra.std(0), atol=1e-3)
    np.testing.assert_allclose(statistics["spec_min"], np.percentile(spectra, 0.1, axis=0), atol=1e-3)
    np.testing.assert_allclose(statistics["spec_max"], np.percentile(spectra, 99.9, axis=0), atol=1e-3)
    speaker = facts["speakers"][0]
    assert [one["name"] for one in facts["speakers"]] == ["bob", "민지 🎤"]
    assert [speaker[f"f0_{name}"] for name in ("low", "median", "high")] == [220, 220, 220]
    assert speaker["seconds"] == pytest.approx(6.6, abs=0.5)
    assert speaker["loudness"] == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.3)


def test_a_second_run_does_nothing(tmp_path: Path, recordings: Path, run: Run) -> None:
    run(recordings)
    before = contents(tmp_path / "data")
    result = run(recordings)
    assert (result.exit_code, "nothing to do" in result.output) == (0, True)
    assert contents(tmp_path / "data") == before


def test_only_what_changed_is_made_and_what_is_gone_leaves(tmp_path: Path, recordings: Path, run: Run) -> None:
    run(recordings)
    before = contents(tmp_path / "data")
    soundfile.write(recordings / "민지 🎤" / "clip.wav", song(3, 9), RATE)
    (recordings / "bob" / "clip.ogg").unlink()
    soundfile.write(recordings / "민지 🎤" / "new.wav", song(3, 10), RATE)
    result = run(recordings)
    assert "made 2 of 5 files" in result.output
    after = contents(tmp_path / "data")
    same = {name for name in after if before.get(name) == after[name]}
    assert all("long_song" in name or name.endswith((".onnx", ".json", ".lock")) for name in same)
    assert sum(".npz" in name for name in same) >= 3
    assert not any("bob" in name and not name.startswith("sources") for name in after)
    assert [s["name"] for s in read_json(tmp_path / "data" / "data.json")["speakers"]] == ["민지 🎤"]
    os.utime(recordings / "민지 🎤" / "clip.wav", (0, 0))
    assert "nothing to do" in run(recordings).output


@pytest.mark.parametrize("option", [("--perturb", "1"), ("--max", "9"), ("--rate", "44100")])
def test_other_settings_make_it_anew(tmp_path: Path, recordings: Path, run: Run, option: tuple[str, str]) -> None:
    run(recordings)
    assert run(recordings, *option).exit_code == 0
    fresh = tmp_path / "fresh"
    assert run(recordings, *option, target=fresh).exit_code == 0
    again = {name: data for name, (_, data) in contents(tmp_path / "data").items()}
    assert again == {name: data for name, (_, data) in contents(fresh).items()}


def test_an_interrupted_run_goes_on_where_it_was(
    tmp_path: Path, recordings: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = features.make
    made: list[str] = []

    def stopping(place: features.Place, *rest: Any) -> dict[str, float]:
        if len(made) == 3:
            raise KeyboardInterrupt
        spent = make(place, *rest)
        made.extend([place.id] * bool(spent))
        return spent

    monkeypatch.setattr(features, "make", stopping)
    assert run(recordings).exit_code == 130
    first = list(made)
    assert not (tmp_path / "data" / "data.json").exists()
    made[:] = [""] * 4
    assert run(recordings).exit_code == 0
    slices = {piece["id"] for piece in read_json(tmp_path / "data" / "data.json")["slices"]}
    assert set(first) & set(made) == set()
    assert set(first) | set(made[4:]) == slices


def test_unreadable_files_are_named_and_left_out(tmp_path: Path, recordings: Path, run: Run) -> None:
    (recordings / "bob" / "text.mp3").write_text("not audio", encoding="utf-8")
    broken = song(30)
    broken[-1] = np.nan
    soundfile.write(recordings / "bob" / "nan.wav", broken, RATE, subtype="FLOAT")
    for _ in range(2):
        result = run(recordings)
        assert result.exit_code == 0
        assert "text.mp3 is not audio" in result.output
        assert "nan.wav has a NaN or infinite sample at 30.000 s" in result.output
        assert "2 of 7 files were skipped" in result.output
    assert "nothing to do" in result.output
    assert not any("nan" in name for name in contents(tmp_path / "data") if name.startswith(("audio", "features")))
    assert run(recordings, "--strict").exit_code == 1


def test_processes_make_the_same_files(tmp_path: Path, recordings: Path, run: Run) -> None:
    run(recordings)
    assert run(recordings, "--jobs", "2", target=tmp_path / "parallel").exit_code == 0
    one, two = (contents(tmp_path / name) for name in ("data", "parallel"))
    assert {name: data for name, (_, data) in one.items()} == {name: data for name, (_, data) in two.items()}


def test_a_folder_without_folders_is_one_speaker(tmp_path: Path, run: Run) -> None:
    (tmp_path / "alice").mkdir()
    soundfile.write(tmp_path / "alice" / "a.wav", song(3), RATE)
    soundfile.write(tmp_path / "alice" / "a.flac", song(3, 1), RATE)
    assert run(tmp_path / "alice").exit_code == 0
    facts = read_json(tmp_path / "data" / "data.json")
    assert [s["name"] for s in facts["speakers"]] == ["alice"]
    assert len(facts["slices"]) == 2


def test_graphs_come_from_the_demo_voice(
    tmp_path: Path, recordings: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "installed", lambda: {"demo": graphs})
    result = CliRunner().invoke(prepare.main, [str(recordings), str(tmp_path / "data"), "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert sha256(tmp_path / "data" / "content.onnx") == sha256(graphs / "content.onnx")
    monkeypatch.setattr(library, "installed", dict)
    result = CliRunner().invoke(prepare.main, [str(recordings), str(tmp_path / "other")])
    assert (result.exit_code, "add --content" in result.output) == (2, True)


def test_what_cannot_be_prepared_is_refused(tmp_path: Path, recordings: Path, run: Run, graphs: Path) -> None:
    empty, silent, mixed, mine = (tmp_path / name for name in ("empty", "silent", "mixed", "mine"))
    for folder in (empty, silent / "a", mixed / "a", mine / "audio"):
        folder.mkdir(parents=True)
    (empty / "notes.txt").touch()
    soundfile.write(silent / "a" / "a.wav", np.zeros(RATE), RATE)
    soundfile.write(mixed / "a" / "a.wav", song(2), RATE)
    soundfile.write(mixed / "b.wav", song(2), RATE)
    soundfile.write(mine / "audio" / "a.flac", song(2), RATE)
    before = contents(mine)
    cases = [
        (run(tmp_path / "missing"), "not a folder"),
        (run(empty), "holds no audio"),
        (run(silent), "silent or too short"),
        (run(mixed), "b.wav lies beside"),
        (run(recordings, target=recordings / "data"), "one inside the other"),
        (run(mine / "audio", target=mine), "one inside the other"),
        (run(recordings, target=mine), "holds other things"),
        (run(recordings, target=empty / "notes.txt"), "is a file"),
        (run(recordings, "--min", "9", "--max", "8"), "min <= max"),
        (run(recordings, "--min", "nan"), "min <= max"),
        (run(recordings, "--content", str(tmp_path / "no.onnx")), "no.onnx does not exist"),
        (run(recordings, "--pitch", str(empty / "notes.txt")), "notes.txt"),
        (run(recordings, "--content", str(graphs / "vocoder.onnx")), "not a content graph"),
        (run(recordings, "--jobs", "0"), "--jobs"),
    ]
    for result, words in cases:
        assert (result.exit_code, words in result.output) == (2, True), (words, result.output)
        lines = [line for line in result.output.splitlines() if "on disk about" not in line]
        assert [line.startswith("Error: ") for line in lines] == [True]
    assert contents(mine) == before


def test_a_full_disk_stops_it_and_is_not_blamed_on_the_source(
    recordings: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(place: features.Place, *rest: Any) -> None:
        raise audio.AudioError(f"{place.flac} cannot be written (the disk is full)")

    monkeypatch.setattr(features, "make", full)
    result = run(recordings)
    assert (result.exit_code, "the disk is full" in result.output) == (2, True)


def test_ends_are_trimmed_to_a_tenth_of_a_second() -> None:
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE).astype(np.float32)
    quiet = np.zeros(RATE, np.float32)
    found = features.trimmed(np.concatenate([quiet, tone, quiet]), RATE)
    assert len(found) / RATE == pytest.approx(1.2, abs=0.021)
    np.testing.assert_array_equal(features.trimmed(tone, RATE), tone)
    for nothing in (quiet, tone[: RATE // 2], 1e-3 * tone, tone[:0]):
        assert len(features.trimmed(nothing, RATE)) == 0


def test_sources_of_one_stem_have_their_own_ids(tmp_path: Path) -> None:
    for name in ("a/x.wav", "a/x.flac", "a/deep/x.wav", "b/x.wav", "a/노래.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    ids = [source.id for source in corpus.find(tmp_path).sources]
    assert len(set(ids)) == 5
    assert all(one.isascii() for one in ids)
