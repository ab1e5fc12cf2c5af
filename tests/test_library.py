"""Voices by name: those of packages, those of the user's folder, and that paths still are paths."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moksori.runtime import library
from moksori.runtime.errors import VoiceError
from moksori.runtime.voice import Voice, read_manifest

TinyVoice = Callable[..., Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(library.FOLDER, str(tmp_path / "내 목소리"))
    return tmp_path / "내 목소리"


def test_folders_and_zips_of_the_user_go_by_name(home: Path, tmp_path: Path, tiny_voice: TinyVoice) -> None:
    assert list(library.installed()) == ["demo"]  # no such folder yet
    tiny_voice(home / "mine")
    shutil.make_archive(str(home / "zipped 🎤"), "zip", home / "mine")
    (home / "not a voice").mkdir()
    (home / "readme.txt").write_text("hello")
    assert set(library.installed()) == {"demo", "mine", "zipped 🎤"}
    assert library.locate("zipped 🎤") == home / "zipped 🎤.zip"
    assert Voice.load("zipped 🎤", "cpu", threads=1).name == "tiny"
    with pytest.raises(VoiceError, match=r"no voice 'mime' \(did you mean 'mine'\?\)"):
        library.locate("mime")


def test_the_users_voice_wins_over_a_packages(home: Path, tiny_voice: TinyVoice) -> None:
    assert read_manifest("demo").name == "demo"
    tiny_voice(home / "demo")
    assert read_manifest("demo").name == "tiny"


def test_a_path_is_never_taken_for_a_name(home: Path, tmp_path: Path, tiny_voice: TinyVoice) -> None:
    tiny_voice(home / "mine")
    other = tiny_voice(tmp_path / "mine")
    assert library.locate(other) == other and library.locate(str(other)) == other


@pytest.mark.skipif(sys.platform != "linux", reason="XDG's folders")
def test_the_folder_is_where_linux_keeps_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG Base Directory Specification: $XDG_DATA_HOME, else ~/.local/share."""
    monkeypatch.delenv(library.FOLDER, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert library.folder() == tmp_path / "moksori" / "voices"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert library.folder() == Path.home() / ".local" / "share" / "moksori" / "voices"
