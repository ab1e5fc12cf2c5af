"""The sound of films and phones: length and signal after decoding, and one sentence where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from moksori.benchmarks.prepare import CLIP, CODECS, FILES, build, encode
from moksori.runtime import audio
from moksori.runtime.errors import AudioError
from moksori.train import corpus

RATE = 24_000


def chirp(rate: int, seconds: float) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * (200 * time + 150 * time**2))).astype(np.float32)


@pytest.mark.parametrize("suffix", CODECS)
def test_sound_is_as_it_was_encoded(tmp_path: Path, suffix: str) -> None:
    path, rate = tmp_path / f"노래 🎤{suffix}", 48_000
    encode(path, np.stack([chirp(rate, 3.0)] * 2, 1), rate)
    found, expected = audio.read(path, RATE), chirp(RATE, 3.0)
    assert len(found) / RATE == pytest.approx(3.0, abs=0.1)
    assert audio.info(path).seconds == pytest.approx(3.0, abs=0.15)
    assert (audio.info(path).rate, audio.info(path).channels) == (rate, 2)
    correlation = np.correlate(found, expected, "full") if len(found) < 20_000 else _correlation(found, expected)
    assert correlation.max() > 0.98 * float(np.linalg.norm(found) * np.linalg.norm(expected))


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    size = len(a) + len(b)
    return np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)


def test_blocks_join_to_the_whole(tmp_path: Path) -> None:
    encode(tmp_path / "a.m4a", np.stack([chirp(44_100, 2.0)] * 2, 1), 44_100)
    whole = audio.read(tmp_path / "a.m4a", RATE)
    pieces = list(audio.blocks(tmp_path / "a.m4a", RATE, seconds=0.3))
    assert {len(piece) for piece in pieces[:-1]} == {7200}
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_what_has_no_sound_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    (tmp_path / "text.mp4").write_text("not a film", encoding="utf-8")
    with av.open(str(tmp_path / "silent.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for name, words in (("text.mp4", "is not audio"), ("silent.mkv", "has no sound track")):
        with pytest.raises(AudioError, match=f"{name} {words}"):
            audio.info(tmp_path / name)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r'text\.mp4 needs PyAV.*pip install "moksori\[video\]"'):
        audio.info(tmp_path / "text.mp4")


def test_what_is_cut_short_gives_its_beginning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encode(tmp_path / "a.mkv", np.stack([chirp(48_000, 8.0)] * 2, 1), 48_000)
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "b.mkv").write_bytes(whole[: len(whole) // 2])
    found = audio.read(tmp_path / "b.mkv", RATE)
    assert 2 < len(found) / RATE < 6
    assert "b.mkv is cut short" in caplog.text


def test_everything_in_the_messy_folder_is_found_and_as_long_as_the_clip(tmp_path: Path) -> None:
    build(tmp_path)
    sources = {source.path.relative_to(tmp_path).as_posix() for source in corpus.find(tmp_path).sources}
    assert sources == {name for name, _, _ in FILES} | {"bob/corrupt.wav", "bob/text.mp3"}
    seconds = audio.info(CLIP).seconds
    for name, rate, channels in FILES:
        info = audio.info(tmp_path / name)
        assert (info.channels, info.rate) == (channels, rate), name
        assert len(audio.read(tmp_path / name, RATE)) / RATE == pytest.approx(seconds, abs=0.1), name
        assert info.seconds == pytest.approx(seconds, abs=0.1), name
    for name in ("corrupt.wav", "text.mp3"):
        with pytest.raises(AudioError, match=name):
            audio.info(tmp_path / "bob" / name)
