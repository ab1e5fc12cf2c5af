"""svc-run over folders, with a real voice of a few kilobytes: trees, skipping, reports, tags, loudness, stereo."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from moksori.runtime import cli, library, tags
from moksori.runtime.lufs import Meter

RATE = 24_000


@pytest.fixture
def voice(tmp_path: Path, tiny_voice: Callable[..., Path]) -> Path:
    return tiny_voice(tmp_path / "voice")


def run(voice: Path, *arguments: object) -> Result:
    words = [*arguments, "--voice", voice, "--device", "cpu"]
    return CliRunner().invoke(cli.main, [str(word) for word in words])


def recording(path: Path, seconds: float = 0.6, rate: int = 16_000, level: float = 0.2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, level * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate), rate)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def loudness(path: Path) -> float:
    samples, rate = soundfile.read(path)
    meter = Meter(rate)
    meter.push(samples)
    return meter.integrated()


def test_a_tree_is_kept_and_finished_work_is_skipped(voice: Path, tmp_path: Path) -> None:
    songs, out = tmp_path / "songs", tmp_path / "songs" / "out"
    for name in ("a.wav", "앨범 🎤/b.flac", "앨범 🎤/disc 2/c.ogg"):
        recording(songs / name)
    (songs / "notes.txt").write_text("no music")
    recording(songs / "._a.wav")
    first = run(voice, songs, "-o", out, "--recursive")
    assert first.exit_code == 0, first.stderr
    made = ["a_tiny_+0.wav", "앨범 🎤/b_tiny_+0.wav", "앨범 🎤/disc 2/c_tiny_+0.wav"]
    assert files(out) == made
    stamps = [(out / name).stat().st_mtime_ns for name in made]

    again = run(voice, songs, "-o", out, "--recursive")
    assert again.exit_code == 0 and again.stdout.count("already converted with these settings: skipped") == 3
    assert "3 of 3 were already converted like this; --force does it again" in again.stdout
    assert [(out / name).stat().st_mtime_ns for name in made] == stamps

    (out / made[0]).unlink()
    third = run(voice, songs, "-o", out, "--recursive", "--json")
    report = json.loads(third.stdout)
    assert (report["converted"], report["skipped"], report["failed"]) == (1, 2, 0)
    assert files(out) == made


def test_other_settings_do_not_overwrite_and_force_does(voice: Path, tmp_path: Path) -> None:
    song, target = recording(tmp_path / "a.wav"), tmp_path / "a_tiny_+0.wav"
    assert run(voice, song).exit_code == 0
    before = target.read_bytes()
    other = run(voice, song, "--seed", "3")
    assert other.exit_code == 2 and "exists and was made otherwise: overwrite it by --force" in other.stderr
    assert target.read_bytes() == before
    assert run(voice, song, "--seed", "3", "--force").exit_code == 0
    assert target.read_bytes() != before


def test_a_changed_source_is_not_taken_for_finished(voice: Path, tmp_path: Path) -> None:
    song = recording(tmp_path / "a.wav")
    assert run(voice, song).exit_code == 0
    recording(song, seconds=0.9)
    os.utime(song, (time.time() + 5, time.time() + 5))
    assert run(voice, song).exit_code == 0
    assert soundfile.info(tmp_path / "a_tiny_+0.wav").duration == pytest.approx(0.9, abs=0.01)


def test_a_folder_beside_itself_is_converted_once(voice: Path, tmp_path: Path) -> None:
    recording(tmp_path / "songs" / "a.wav")
    recording(tmp_path / "songs" / "deep" / "b.wav")
    for _ in range(2):
        assert run(voice, tmp_path / "songs").exit_code == 0
    assert files(tmp_path / "songs") == ["a.wav", "a_tiny_+0.wav", "deep/b.wav"]


def test_a_folder_without_audio_is_told(voice: Path, tmp_path: Path) -> None:
    recording(tmp_path / "songs" / "deep" / "b.wav")
    result = run(voice, tmp_path / "songs")
    assert result.exit_code == 2
    assert "songs is a folder without audio to convert; --recursive looks into its folders too" in result.stderr


def test_what_a_killed_run_left_is_removed(voice: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    old, new = out / ".0123456789abcdef.part.wav", out / ".0123456789abcdee.part.wav"
    for path in (old, new, out / ".mine.part.wav"):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert run(voice, recording(tmp_path / "a.wav"), "-o", out).exit_code == 0
    assert files(out) == [".0123456789abcdee.part.wav", ".mine.part.wav", "a_tiny_+0.wav"]


def test_the_json_report_tells_all_and_nothing_else_is_printed(voice: Path, tmp_path: Path) -> None:
    song = recording(tmp_path / "노래 🎤.wav")
    (tmp_path / "b.wav").write_text("not audio")
    result = run(voice, song, tmp_path / "b.wav", "--json", "--save-f0", "-o", tmp_path / "out", "--key", "0.5")
    assert result.exit_code == 2 and result.stdout.isascii()
    report = json.loads(result.stdout)
    good, bad = report["results"]
    assert (good["status"], bad["status"], report["failed"]) == ("converted", "failed", 1)
    assert good["target"] == str(tmp_path / "out" / "노래 🎤_tiny_+0.5.wav") and Path(good["target"]).is_file()
    assert good["key"] == 0.5 and good["seconds"] == pytest.approx(0.6, abs=0.01)
    assert good["loudness"] == pytest.approx(loudness(Path(good["target"])), abs=0.1)
    assert Path(good["f0"]).read_text(encoding="utf-8").startswith("time,f0\n0.0050,226.446\n")
    assert "is not audio" in bad["error"] and set(good["stages"]) >= {"pitch", "denoiser"}


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus", "mp3"])
def test_tags_tell_voice_and_settings_and_keep_the_title(voice: Path, tmp_path: Path, format: str) -> None:
    song = tmp_path / "a.flac"
    with soundfile.SoundFile(song, "w", 16_000, 1, "PCM_16") as file:
        file.title, file.artist, file.tracknumber = "바람 🎤", "누구", "7"
        file.write(0.2 * np.sin(np.arange(12_000) / 10))
    assert run(voice, song, "--format", format, "--steps", 2).exit_code == 0
    found = tags.read(tmp_path / f"a_tiny_+0.{format}")
    assert (found["title"], found["artist"], found["tracknumber"]) == ("바람 🎤", "누구", "7")
    assert found["comment"].startswith("Sung by Moksori: voice=tiny@")
    assert "; speaker=heart; key=+0; steps=2; seed=0; sung=+0" in found["comment"]
    assert run(voice, song, "--format", format, "--steps", 2).stdout.count("skipped") == 1


@pytest.mark.parametrize(
    ("bits", "subtype"), [("16", "PCM_16"), ("24", "PCM_24"), ("float", "FLOAT"), (None, "PCM_24")]
)
def test_samples_of_any_width(voice: Path, tmp_path: Path, bits: str | None, subtype: str) -> None:
    assert run(voice, recording(tmp_path / "a.wav"), *(["--bits", bits] if bits else [])).exit_code == 0
    assert soundfile.info(tmp_path / "a_tiny_+0.wav").subtype == subtype


@pytest.mark.parametrize(("rate", "expected"), [("44100", 44_100), ("source", 16_000), ("8000", 8_000)])
def test_the_rate_of_the_result(voice: Path, tmp_path: Path, rate: str, expected: int) -> None:
    result = run(voice, recording(tmp_path / "a.wav"), "--rate", rate)
    assert result.exit_code == 0, result.stderr
    info = soundfile.info(tmp_path / "a_tiny_+0.wav")
    assert (info.samplerate, info.frames) == (expected, round(0.6 * expected))


def test_a_rate_that_a_format_lacks_is_told_before_any_work(voice: Path, tmp_path: Path) -> None:
    result = run(voice, recording(tmp_path / "a.wav"), "--rate", "44100", "--format", "opus", "-o", tmp_path / "o")
    assert result.exit_code == 2 and "cannot be written as OGG with 1 channel(s) at 44100 Hz" in result.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("level", [0.02, 0.7])
def test_loudness_follows_the_source_or_a_target(voice: Path, tmp_path: Path, level: float) -> None:
    song = recording(tmp_path / "a.wav", seconds=1.5, level=level)
    assert run(voice, song, "-o", tmp_path / "follows.wav").exit_code == 0
    assert loudness(tmp_path / "follows.wav") == pytest.approx(loudness(song), abs=0.15)
    for goal in (-14, -30):
        assert run(voice, song, "-o", tmp_path / f"{-goal}.wav", "--loudness", goal).exit_code == 0
        samples, _ = soundfile.read(tmp_path / f"{-goal}.wav")
        assert loudness(tmp_path / f"{-goal}.wav") == pytest.approx(goal, abs=0.15)
        assert np.abs(samples).max() <= 1


def stereo(left: NDArray[np.float64], right: NDArray[np.float64], path: Path) -> Path:
    soundfile.write(path, np.stack([left, right], 1), RATE)
    return path


def test_stereo_is_kept_where_the_source_has_it(voice: Path, tmp_path: Path) -> None:
    time_ = np.arange(RATE * 2) / RATE
    loud = 0.3 * np.sin(2 * np.pi * 220 * time_) + 0.1 * np.sin(2 * np.pi * 660 * time_)
    pan = stereo(loud, np.where(time_ < 1, loud, 0.1 * loud), tmp_path / "pan.wav")
    same = stereo(loud, loud, tmp_path / "same.wav")
    mono = recording(tmp_path / "mono.wav")
    result = run(voice, pan, same, mono, "--stereo", "--name", "{stem}_out")
    assert result.exit_code == 0, result.stderr
    assert "note: the source is mono, and so is the result" in result.stdout
    assert soundfile.info(tmp_path / "mono_out.wav").channels == 1
    middle = soundfile.read(tmp_path / "same_out.wav")[0]
    np.testing.assert_array_equal(middle[:, 0], middle[:, 1])
    sides = soundfile.read(tmp_path / "pan_out.wav")[0]
    assert sides.shape == (2 * RATE, 2)
    first = np.sqrt(np.mean(sides[: RATE // 2] ** 2, 0))
    later = np.sqrt(np.mean(sides[-RATE // 2 :] ** 2, 0))
    assert first[1] == first[0] and later[1] < 0.97 * later[0]  # the tiny voice hardly hears how loud it is


def test_a_curve_goes_out_and_in_again(voice: Path, tmp_path: Path) -> None:
    song = recording(tmp_path / "a.wav")
    assert run(voice, song, "-o", tmp_path / "b.wav", "--save-f0", "--key", "3").exit_code == 0
    curve = tmp_path / "b.f0.csv"
    lines = curve.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 61 and float(lines[30].split(",")[1]) == pytest.approx(220 * 2 ** (3 / 12), abs=0.01)
    shutil.copy(curve, tmp_path / "편집.csv")
    assert run(voice, song, "-o", tmp_path / "c.wav", "--f0", tmp_path / "편집.csv").exit_code == 0
    first, again = (soundfile.read(tmp_path / name)[0] for name in ("b.wav", "c.wav"))
    assert np.sqrt(np.mean((again - first) ** 2) / np.mean(first**2)) < 0.03  # f0 has a thousandth of a Hz
    bent = tmp_path / "bent.csv"
    bent.write_text("time,f0\n0,300\n0.6,330\n", encoding="utf-8")
    assert run(voice, song, "-o", tmp_path / "d.wav", "--f0", bent, "--save-f0").exit_code == 0
    sung = np.loadtxt(tmp_path / "d.f0.csv", delimiter=",", skiprows=1)
    assert np.abs(1200 * np.log2(sung[:, 1] / (300 * 1.1 ** (sung[:, 0] / 0.6)))).max() < 0.1


def test_voices_are_listed_and_found_by_name(
    voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "내 목소리"
    shutil.copytree(voice, home / "mine")
    (home / "broken").mkdir()
    (home / "broken" / "voice.json").write_text("{}", encoding="utf-8")
    monkeypatch.setenv(library.FOLDER, str(home))
    told = CliRunner().invoke(cli.main, ["--voices"]).stdout
    assert "mine  A voice for tests" in told and "heart        100–400 Hz, mostly 200   CC0" in told
    assert "licence: CC0" in told and "measured: similarity: 0.8" in told and "cannot be used: " in told
    assert "demo" in told and str(home) in told
    listed = json.loads(CliRunner().invoke(cli.main, ["--voices", "--json"]).stdout)
    assert {one["name"] for one in listed} == {"demo", "mine", "broken"}
    song = recording(tmp_path / "a.wav")
    result = CliRunner().invoke(cli.main, [str(song), "--voice", "mine", "--device", "cpu", "--speaker", "f001"])
    assert result.exit_code == 0 and (tmp_path / "a_tiny_+0.wav").is_file()


@pytest.mark.parametrize("word", ["auto", "speech"])
def test_a_key_that_is_a_word_is_chosen_told_and_sung(voice: Path, tmp_path: Path, word: str) -> None:
    """The tiny tracker hears 220 Hz in anything; 400 Hz is the top of its speakers' range."""
    song = recording(tmp_path / "a.wav")
    result = run(voice, song, "--key", word, "--json")
    entry = json.loads(result.stdout)["results"][0]
    assert entry["key"] == 0 and entry["target"].endswith(f"a_tiny_{word}.wav")
    assert tags.read(Path(entry["target"]))["comment"].endswith("; sung=+0")
