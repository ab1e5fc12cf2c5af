"""Files in and out: any rate and channel count, exact lengths, refusals in one sentence, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from moksori.runtime import audio, files
from moksori.runtime.errors import AudioError, OptionError

RATE = 24_000


def tone(rate: int, seconds: float, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 96_000, 192_000])
def test_reading_resamples_like_scipy(tmp_path: Path, rate: int) -> None:
    signal = tone(rate, 1.0) + tone(rate, 1.0, 1234.5)
    soundfile.write(tmp_path / "a.wav", signal, rate, subtype="FLOAT")
    common = np.gcd(rate, RATE)
    expected = resample_poly(signal, RATE // common, rate // common, window=("kaiser", 12.0))
    found = audio.read(tmp_path / "a.wav", RATE)
    assert abs(len(found) - RATE) <= 1
    assert np.abs(found - expected[: len(found)])[1000:-1000].max() < 2e-3


@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100, 192_000])
@pytest.mark.parametrize("frames", [1, 2, 99, 12_345])
def test_length_is_the_files_own(tmp_path: Path, rate: int, frames: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(frames, 0.25), rate)
    pieces = list(audio.blocks(tmp_path / "a.wav", RATE, seconds=0.1))
    assert sum(map(len, pieces)) == max(1, round(frames * RATE / rate))
    assert all(len(piece) == 2400 for piece in pieces[:-1])
    assert audio.info(tmp_path / "a.wav") == audio.Info(rate, 1, frames)


def test_block_length_changes_nothing(tmp_path: Path) -> None:
    signal = np.random.default_rng(0).uniform(-0.5, 0.5, 100_003)
    soundfile.write(tmp_path / "a.flac", signal, 44_100)
    whole = audio.read(tmp_path / "a.flac", RATE)
    for seconds in (0.01, 0.3333, 100):
        np.testing.assert_array_equal(np.concatenate(list(audio.blocks(tmp_path / "a.flac", RATE, seconds))), whole)


def test_eight_channels_are_averaged(tmp_path: Path) -> None:
    signal = np.random.default_rng(0).uniform(-1, 1, (5000, 8)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", signal, RATE, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav", RATE), signal.mean(axis=1), atol=1e-6)


def test_a_long_file_is_never_held_whole(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 48_000, 2, "PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros((480_000, 2), np.int16))
    tracemalloc.start()
    total = sum(len(block) for block in audio.blocks(tmp_path / "a.wav", RATE, seconds=1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 600 * RATE
    assert peak < 4e6  # of 58 MB


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused_with_its_time(tmp_path: Path, value: float) -> None:
    signal = np.zeros((100_000, 2), np.float32)
    signal[33_333, 1] = value
    soundfile.write(tmp_path / "a.wav", signal, 10_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav.* at 3\.333 s"):
        audio.read(tmp_path / "a.wav", RATE)


def test_unreadable_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not audio at all", encoding="utf-8")
    (tmp_path / "headerless.raw").write_bytes(b"1234")
    (tmp_path / "header.wav").write_bytes((tmp_path / "none.wav").read_bytes()[:20])
    expected = {
        "missing.wav": "does not exist",
        "none.wav": "0 samples",
        "empty.wav": "0 bytes",
        "text.wav": "not audio",
        "headerless.raw": "not audio",
        "header.wav": "not audio|0 samples",
        ".": "is a folder",
    }
    for name, words in expected.items():
        for call in (audio.info, lambda path: audio.read(path, RATE)):
            with pytest.raises(AudioError, match=words) as caught:
                call(tmp_path / name)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac", "mp3"])
def test_a_truncated_file_gives_what_is_there_and_says_so(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"cut.{suffix}"
    signal = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 48_000)
    soundfile.write(path, signal, 48_000)
    whole = audio.read(path, 48_000)
    assert caplog.messages == []
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = audio.read(path, 48_000)
    assert 1.2 < len(found) / 48_000 < 1.6
    np.testing.assert_allclose(found[:50_000], whole[:50_000], atol=1e-4)
    assert len(caplog.messages) == 1
    assert f"{path} is cut short" in caplog.messages[0]
    assert "of 3.00 s" in caplog.messages[0]


def test_a_wav_written_to_a_pipe_is_not_called_truncated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soundfile.write(tmp_path / "a.wav", tone(RATE, 1), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    place = data.find(b"data")
    data[place + 4 : place + 8] = data[4:8] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(data)
    assert len(audio.read(tmp_path / "a.wav", RATE)) == RATE
    assert caplog.messages == []


def test_a_flac_with_nothing_behind_its_header_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(RATE, 1), RATE)
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(data[: data.find(b"\xff\xf8")])
    with pytest.raises(AudioError, match="nothing in it can be decoded"):
        audio.read(tmp_path / "a.flac", RATE)


@pytest.mark.parametrize(("format", "error"), [("wav", 2e-7), ("flac", 2e-7), ("ogg", 0.05), ("mp3", 0.05)])
def test_what_is_written_reads_back(tmp_path: Path, format: str, error: float) -> None:
    path = tmp_path / "노래 🎤 of mine" / f"결과.{format}"
    signal = tone(RATE, 2.0)
    with audio.Writer(path, RATE, format) as file:
        for piece in np.array_split(signal, 7):
            file.write(piece)
    found = audio.read(path, RATE)
    assert (file.samples, file.clipped) == (2 * RATE, 0)
    assert [path.name] == [other.name for other in path.parent.iterdir()]
    assert abs(len(found) - len(signal)) <= (0 if format != "mp3" else 1)
    assert np.abs(found[2000:-2000] - signal[2000:-2000]).max() < error


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_too_loud_samples_are_clipped_and_counted(tmp_path: Path, subtype: str) -> None:
    with audio.Writer(tmp_path / "a.wav", RATE, subtype=subtype) as file:
        file.write(np.array([0.5, 1.5, -1.00001, 1.0, -1.0, 1e9]))
    found = soundfile.read(tmp_path / "a.wav")[0]
    np.testing.assert_allclose(found, [0.5, 1, -1, 1, -1, 1], atol=1e-4)
    assert file.clipped == 3


def test_an_error_or_ctrl_c_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    for error in (KeyboardInterrupt(), ValueError("mine")):
        with pytest.raises(type(error)) as caught, audio.Writer(path, RATE) as file:
            file.write(tone(RATE, 1))
            raise error
        assert caught.value is error
    with pytest.raises(AudioError, match="not a number"), audio.Writer(path, RATE) as file:
        file.write(np.array([0.0, np.nan]))
    assert [other.name for other in tmp_path.iterdir()] == ["a.wav"]
    assert path.read_bytes() == b"old"


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.wav", tmp_path, Path("/proc/nothing/a.wav")):
        with pytest.raises(AudioError) as caught, audio.Writer(path, RATE):
            pass
        assert str(path) in str(caught.value)
    with pytest.raises(AudioError, match=r"MP3 .* 48001 Hz"), audio.Writer(tmp_path / "a.mp3", 48_001, "mp3"):
        pass
    with pytest.raises(OptionError, match="wav, flac, ogg, opus, mp3"):
        audio.Writer(tmp_path / "a.m4a", RATE, "m4a")
    assert [other.name for other in tmp_path.iterdir()] == ["file"]


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from moksori.runtime import audio
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with audio.Writer(Path(sys.argv[1]), 24_000, sys.argv[2]) as file:
        file.write(np.random.default_rng(0).uniform(-0.5, 0.5, int(sys.argv[3])))
except audio.AudioError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on file sizes")
@pytest.mark.parametrize("format", audio.FORMATS)
@pytest.mark.parametrize("samples", [34_000, 3_000_000])
def test_a_disk_that_fills_up_leaves_no_broken_file(tmp_path: Path, format: str, samples: int) -> None:
    path = tmp_path / f"a.{format}"
    command = [sys.executable, "-c", FULL, str(path), format, str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if path.exists():
        assert done.stdout == ""
        assert abs(soundfile.info(path).frames - samples) <= 1
    else:
        assert f"{path} cannot be written" in done.stdout
        assert list(tmp_path.iterdir()) == []
        assert samples == 3_000_000 or format in ("wav", "flac")


def test_a_long_wav_is_rf64_and_an_unforeseen_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "WAV_LIMIT_BYTES", 3000)
    with audio.Writer(tmp_path / "long.wav", RATE, frames=1001) as file:
        file.write(np.zeros(1001))
    assert soundfile.info(tmp_path / "long.wav").format == "RF64"
    with pytest.raises(AudioError, match="4 GiB"), audio.Writer(tmp_path / "b.wav", RATE, frames=1000) as file:
        file.write(np.zeros(1001))
    assert not (tmp_path / "b.wav").exists()


def test_json_is_utf8_and_whole(tmp_path: Path) -> None:
    files.write_json(tmp_path / "새 폴더" / "a.json", {"이름": "목소리 🎤", "n": [1, 2.5]})
    assert "목소리 🎤" in (tmp_path / "새 폴더" / "a.json").read_bytes().decode("utf-8")
    assert files.read_json(tmp_path / "새 폴더" / "a.json") == {"이름": "목소리 🎤", "n": [1, 2.5]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "새 폴더" / "a.json", {"n": float("nan")})
    assert [path.name for path in (tmp_path / "새 폴더").iterdir()] == ["a.json"]


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
