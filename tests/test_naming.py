"""Output names: what -o, --name and --format mean, and that no template or stem gets out of its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moksori.runtime import naming
from moksori.runtime.errors import OptionError
from moksori.runtime.naming import Style, fill, safe

STYLE = Style(voice="demo", speaker="heart", key=0.0, steps=4)


@pytest.mark.parametrize(
    ("key", "name"),
    [(0.0, "song_demo_+0"), (12.0, "song_demo_+12"), (-5.0, "song_demo_-5"), (0.5, "song_demo_+0.5")],
)
def test_the_default_name_writes_whole_keys_as_integers(key: float, name: str) -> None:
    assert fill(naming.TEMPLATE, "song", Style("demo", "heart", key, 4)) == name


def test_all_fields_and_formats() -> None:
    text = "{stem:.2} {voice} {speaker} {key:.1f} {steps:03d} {{}}"
    naming.check(text)
    assert fill(text, "song", Style("demo", "f001", -1.25, 8)) == "so demo f001 -1.2 008 {}"


@pytest.mark.parametrize(
    "template",
    [
        "{stem.__class__}",
        "{stem[0]}",
        "{0}",
        "{}",
        "{password}",
        "{stem!r}",
        "{key:>99999999}",
        "{key:{steps}}",
        "{key:.1d}",
        "{stem:x}",
        "{stem",
        "stem}",
        "../{stem}",
        "a\\{stem}",
    ],
)
def test_a_template_is_text_and_plain_fields_only(template: str) -> None:
    with pytest.raises(OptionError, match="--name"):
        naming.naming(None, template, None, 1)


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        OptionError, match=r"\{pitch\}: use \{stem\}, \{voice\}, \{speaker\}, \{key\} and \{steps\}"
    ):
        naming.check("{stem}_{pitch}")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ('a/b\\c:d*e?f"g<h>i|j', "a_b_c_d_e_f_g_h_i_j"),
        ("..", ""),
        ("song. ", "song"),
        ("CON", "_CON"),
        ("com1.backup", "_com1.backup"),
        ("console", "console"),
        ("목소리 🎤", "목소리 🎤"),
        ("a\x00b\nc", "a_b_c"),
    ],
)
def test_names_that_windows_refuses_are_mended(name: str, written: str) -> None:
    assert safe(name) == written


@given(st.text(st.characters(exclude_categories=[]), max_size=300))
def test_any_stem_stays_in_its_folder(stem: str) -> None:
    name = f"{fill('x{stem}', stem.encode('utf-8', 'replace').decode(), STYLE)}.wav"
    folder = Path("/out")
    assert (folder / name).parent == folder
    assert len(name.encode()) <= 255
    assert not set(name) & set('<>:"/\\|?*\0\n')


def test_the_automatic_key_is_written_as_a_word() -> None:
    """What it comes to is known only when the song was heard, and a name must be known before."""
    style = Style("demo", "heart", "auto", 4)
    assert fill(naming.TEMPLATE, "song", style) == "song_demo_auto"
    assert fill("{key:.2f} {key:+d} {key}", "song", style) == "auto auto auto"


def test_a_tree_of_folders_is_kept(tmp_path: Path) -> None:
    place = naming.naming(tmp_path, None, None, 2)
    assert place.target(Path("in/앨범 1/a.mp3"), STYLE, Path("앨범 1")) == tmp_path / "앨범 1" / "a_demo_+0.wav"
    beside = naming.naming(None, None, None, 2)
    assert beside.target(Path("in/b/a.mp3"), STYLE, Path("b")) == Path("in/b/a_demo_+0.wav")


def test_results_lie_beside_the_input_or_in_the_folder_named(tmp_path: Path) -> None:
    source = Path("music", "song.mp3")
    assert naming.naming(None, None, None, 1).target(source, STYLE) == Path("music", "song_demo_+0.wav")
    place = naming.naming(tmp_path / "new", "{stem} by {speaker}", "flac", 3)
    assert place.target(source, STYLE) == tmp_path / "new" / "song by heart.flac"


def test_one_file_can_be_named_and_tells_the_format() -> None:
    place = naming.naming(Path("a.OGG"), None, None, 1)
    assert (place.target(Path("song.wav"), STYLE), place.format) == (Path("a.OGG"), "ogg")


def test_a_folder_may_look_like_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "album.wav"
    folder.mkdir()
    assert naming.naming(folder, None, None, 2).target(Path("a.wav"), STYLE) == folder / "a_demo_+0.wav"


def test_a_suffix_in_the_template_is_the_format() -> None:
    assert naming.naming(None, "{stem}.mp3", None, 1).target(Path("a.wav"), STYLE) == Path("a.mp3")
    assert naming.naming(None, "v1.{stem}", None, 1).target(Path("a.wav"), STYLE) == Path("v1.a.wav")


@pytest.mark.parametrize(
    ("out", "template", "format", "inputs", "said"),
    [
        ("a.wav", None, None, 2, "one file for 2 inputs"),
        ("a.wav", None, "mp3", 1, "leave one out"),
        ("a.wav", "{stem}", None, 1, "leave out --name"),
        ("a.m4a", None, None, 1, r"m4a cannot be written: end the name in \.wav, \.flac, \.ogg, \.opus or \.mp3"),
        ("a.aiff", None, None, 1, "aiff cannot be written"),
        (None, "{stem}.flac", "wav", 1, "leave one out"),
    ],
)
def test_contradictions_are_told(
    out: str | None, template: str | None, format: str | None, inputs: int, said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        naming.naming(Path(out) if out else None, template, format, inputs)


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("")
    with pytest.raises(OptionError, match="notes is a file: name a folder"):
        naming.naming(tmp_path / "notes", None, None, 1)


def test_a_name_of_nothing_is_refused() -> None:
    for template in ("", "{stem:.0}", "..."):
        with pytest.raises(OptionError, match="empty"):
            fill(template, "song", STYLE)
