"""f0 curves as files: what is written is read, what spreadsheets make of it too, and nonsense is told by its line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moksori.runtime import curve, pitch
from moksori.runtime.errors import OptionError


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(20, 5000), st.booleans()), min_size=1, max_size=50))
def test_what_is_written_is_read(points: list[tuple[float, bool]]) -> None:
    f0, voiced = np.array([hz for hz, _ in points], np.float32), np.array([sung for _, sung in points])
    times = np.arange(len(points)) * 0.01 + 0.005
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "곡선 🎤.csv"
        curve.write(path, times, f0, voiced)
        found = curve.read(path)
    np.testing.assert_allclose(found.times, times, atol=1e-4)
    np.testing.assert_array_equal(found.confidence, voiced)
    np.testing.assert_allclose(found.f0[voiced], f0[voiced], atol=6e-4)


@pytest.mark.parametrize(
    "text",
    [
        "time,f0\n0.5,220\n1.5,0\n2.5,440.5\n",
        "\ufefftime;f0\r\n0,5;220\r\n1,5;\r\n2,5;440,5\r\n",  # a spreadsheet where commas part decimals
        "# mine\n0.5\t220\n\n1.5\t0\n2.5\t440.5",
        '"0.5","220"\n"1.5",""\n"2.5","440.5"\n',
        "시간,음높이\n0.5,220,tenor\n1.5,0\n2.5,440.5",
    ],
)
def test_what_people_write_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    found = curve.read(tmp_path / "a.csv")
    assert found.times.tolist() == [0.5, 1.5, 2.5] and found.confidence.tolist() == [1, 0, 1]
    assert found.f0[[0, 2]].tolist() == [220, 440.5]


def test_few_points_are_glides(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0,220\n2,440\n", encoding="utf-8")
    f0, voiced = pitch.at_times(curve.read(tmp_path / "a.csv"), np.array([0.0, 1.0, 2.0, 9.0]), pitch.Options())
    np.testing.assert_allclose(f0, [220, 220 * 2**0.5, 440, 440], rtol=1e-6)
    assert voiced.all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no points"),
        ("time,f0\n", "has no points"),
        ("0,220\n1,high\n", "line 2 of .*a.csv is no time and f0"),
        ("0,220\n1,nan\n", "line 2 of"),
        ("0\n", "line 1 of"),
        ("0,220\n0,230\n", "times of .*a.csv must rise, and 0 s does not"),
        ("0,220\n1,7\n", "line 2 of .* asks for 7 Hz"),
        ("0,220\n1,-220\n", "asks for -220 Hz"),
        ("0,99999\n", "asks for 99999 Hz"),
    ],
)
def test_nonsense_is_told_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(OptionError, match=said):
        curve.read(tmp_path / "a.csv")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("0,220\n한글".encode("cp949"))
    with pytest.raises(OptionError, match="is no text in UTF-8"):
        curve.read(tmp_path / "a.csv")
    with pytest.raises(OptionError, match="cannot be read"):
        curve.read(tmp_path)
    with pytest.raises(OptionError, match="cannot be read"):
        curve.read(tmp_path / "b.csv")
