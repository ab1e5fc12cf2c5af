"""Zipped voices: the same as their folders, and every hostile or damaged zip refused."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from moksori.runtime import archive
from moksori.runtime.errors import VoiceError
from moksori.runtime.voice import Voice


def load(path: Path) -> Voice:
    return Voice.load(path, "cpu", threads=1)


@pytest.fixture
def folder(tmp_path: Path, tiny_voice: Callable[..., Path]) -> Path:
    return tiny_voice(tmp_path / "tiny")


def zipped(folder: Path, target: Path, prefix: str = "", entries: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            file.write(path, prefix + path.name)
        for name, data in (entries or {}).items():
            file.writestr(name, data)
    return target


@pytest.mark.parametrize("prefix", ["", "tiny/", "내 목소리 🎤/"])
def test_a_zip_equals_its_folder(folder: Path, tmp_path: Path, prefix: str) -> None:
    path = zipped(folder, tmp_path / "목소리 one.zip", prefix)
    before = set(tmp_path.rglob("*"))
    units = [
        load(one).content.run(None, {"audio": np.ones((1, 640), np.float32)})[0] for one in (folder, path)
    ]
    np.testing.assert_array_equal(units[0], units[1])
    assert load(path).manifest == load(folder).manifest
    assert set(tmp_path.rglob("*")) == before  # nothing was unpacked


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil", "a/../../b", "C:evil", "..\\evil", "a//b", "\x1b[31m/../x"]
)
def test_a_zip_that_reaches_out_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(VoiceError, match="a path that leaves the folder; do not use") as caught:
        load(zipped(folder, tmp_path / "v.zip", entries={name: b"x"}))
    assert "\x1b" not in str(caught.value)


def test_a_zip_with_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    path = zipped(folder, tmp_path / "v.zip")
    with zipfile.ZipFile(path, "a") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    with pytest.raises(VoiceError, match="'link', a link"):
        load(path)


def test_zip_bombs_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VoiceError, match="more than 100 times its size"):
        load(zipped(folder, tmp_path / "v.zip", entries={"big": bytes(2**21)}))
    monkeypatch.setattr(archive, "LARGEST_TOTAL", 1000)
    with pytest.raises(VoiceError, match="unpacks to more than"):
        load(zipped(folder, tmp_path / "w.zip"))


def test_a_zip_that_lies_about_a_size(folder: Path, tmp_path: Path) -> None:
    """The entry unpacks to more than both its directories say: no more than the declared bytes are ever made."""
    path = zipped(folder, tmp_path / "v.zip")
    size = (folder / "denoiser.onnx").stat().st_size
    data = path.read_bytes()
    path.write_bytes(data.replace(size.to_bytes(4, "little"), (size - 50).to_bytes(4, "little")))
    with pytest.raises(VoiceError, match="damaged"):
        load(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(folder: Path, tmp_path: Path, method: int) -> None:
    path = zipped(folder, tmp_path / "v.zip")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("extra", b"x" * 100, compress_type=method)
    with pytest.raises(VoiceError, match="other than deflate"):
        load(path)


def test_an_encrypted_or_doubled_zip_is_refused(folder: Path, tmp_path: Path) -> None:
    path = zipped(folder, tmp_path / "v.zip")
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(data)
    with pytest.raises(VoiceError, match="encrypted"):
        load(tmp_path / "secret.zip")
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("voice.json", b"{}")
    with pytest.raises(VoiceError, match="two files of the same name"):
        load(path)


def test_a_zip_that_lacks_a_graph(folder: Path, tmp_path: Path) -> None:
    (folder / "pitch.onnx").unlink()
    with pytest.raises(VoiceError, match=r"has no pitch\.onnx, so it is no whole voice"):
        load(zipped(folder, tmp_path / "v.zip"))


def test_a_zip_without_or_with_two_voices(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match=r"more than one voice\.json"):
        load(zipped(folder, tmp_path / "v.zip", "a/", {"b/voice.json": b"{}"}))
    (folder / "voice.json").unlink()
    with pytest.raises(VoiceError, match=r"holds no voice\.json"):
        load(zipped(folder, tmp_path / "w.zip"))


def test_files_that_are_no_zip(folder: Path, tmp_path: Path) -> None:
    path = zipped(folder, tmp_path / "v.zip")
    data = path.read_bytes()
    for at, bad in enumerate((b"", b"not a zip", data[:-30], data[: len(data) // 2])):
        (tmp_path / f"{at}.zip").write_bytes(bad)
        with pytest.raises(VoiceError, match="is not a zip file or is cut short"):
            load(tmp_path / f"{at}.zip")


def test_damaged_zips_never_crash(folder: Path, tmp_path: Path) -> None:
    """Whatever byte is wrong, the answer is a VoiceError; a graph is missing too, so that there always is one."""
    for heavy in ("denoiser.onnx", "vocoder.onnx", "condition.onnx", "pitch.onnx"):
        (folder / heavy).unlink()
    whole = zipped(folder, tmp_path / "v.zip").read_bytes()
    rng = np.random.default_rng(0)
    broken = tmp_path / "broken.zip"
    for at in rng.choice(len(whole), 300, replace=False):
        data = bytearray(whole)
        data[at] ^= int(rng.integers(1, 256))
        broken.write_bytes(data)
        with pytest.raises(VoiceError):
            load(broken)
