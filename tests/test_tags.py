"""Tags: what each format keeps, letters of any script in MP3, and files that hold nonsense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from moksori.runtime import audio, tags

FIELDS = {"title": "바람 🎤 é", "artist": "누구", "comment": "Sung by Moksori: voice=a@1; sung=+0", "date": "2026"}


def written(path: Path, fields: dict[str, str]) -> Path:
    with audio.Writer(path, 24_000, path.suffix[1:], fields=fields) as file:
        file.write(0.1 * np.sin(np.arange(30_000) / 20))
    return path


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus", "mp3"])
def test_fields_come_back_in_any_script(tmp_path: Path, format: str) -> None:
    path = written(tmp_path / f"a.{format}", FIELDS)
    found = tags.read(path)
    assert {name: found[name] for name in ("title", "artist", "comment")} == {
        name: FIELDS[name] for name in ("title", "artist", "comment")
    }
    assert tags.ours(path) and tags.made_with(path, {"voice": "a@1"}) and not tags.made_with(path, {"voice": "b"})
    plain = written(tmp_path / f"b.{format}", {})
    assert not tags.ours(plain)
    np.testing.assert_array_equal(soundfile.read(path)[0], soundfile.read(plain)[0])


def test_the_mp3_header_is_id3_of_utf8(tmp_path: Path) -> None:
    """ID3v2.4, 3.1 and 4.2: a synchsafe size of all frames, and a byte 3 before text in UTF-8."""
    data = written(tmp_path / "a.mp3", {"title": "가" * 100}).read_bytes()
    size = sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    assert data[:6] == b"ID3\x04\x00\x00" and max(data[6:10]) < 128
    frame = data[10 : 10 + size]
    assert frame[:4] == b"TIT2" and frame[10:11] == b"\x03" and frame[11:].decode() == "가" * 100
    assert data[10 + size] == 0xFF  # where sound begins


def test_the_sources_own_tags_are_kept_and_ours_added(tmp_path: Path) -> None:
    source = written(tmp_path / "노래.flac", {"title": "T", "album": "A", "comment": "mine"})
    fields = tags.of_result(source, {"voice": "demo", "key": "+2"})
    assert (fields["title"], fields["album"]) == ("T", "A")
    assert fields["comment"] == "Sung by Moksori: voice=demo; key=+2" and fields["software"].startswith("Moksori ")
    untitled = written(tmp_path / "제목 없음.wav", {})
    assert tags.of_result(untitled, {})["title"] == "제목 없음"


def test_no_file_breaks_the_reading(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF\x00")
    for path in (tmp_path / "a.wav", tmp_path / "missing.flac", tmp_path):
        assert tags.read(path) == {} and not tags.ours(path)
    long = written(tmp_path / "b.flac", {"title": "x" * 5000 + "\n"})
    assert tags.read(long)["title"] == "x" * tags.LONGEST
