"""The picture of a conversion: where a tone lies in it, that long songs fit, and that both curves are drawn."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moksori.runtime import pitch, plot
from moksori.runtime.errors import AudioError, MoksoriError
from moksori.runtime.mel import MelSpec
from moksori.runtime.plot import RESULT_COLOUR, SOURCE_COLOUR, Side
from moksori.runtime.voice import Voice

pytest.importorskip("matplotlib")
SPEC = MelSpec(24_000, 240, 2048, 2048, bins=192, fmin=50.0, fmax=12_000.0)


def tone(path: Path, hz: float, seconds: float, rate: int = 24_000) -> Path:
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate), rate)
    return path


def side(path: Path, label: str, hz: float, seconds: float) -> Side:
    times = np.arange(0, seconds, 0.01)
    f0 = np.where(times < seconds / 2, hz, np.nan).astype(np.float32)
    return Side(label, path, times, f0)


@pytest.mark.parametrize("hz", [110.0, 440.0, 3000.0])
def test_a_tone_is_brightest_at_its_frequency(tmp_path: Path, hz: float) -> None:
    librosa = pytest.importorskip("librosa")
    level, seconds = plot.spectrogram(tone(tmp_path / "a.wav", hz, 3.0), SPEC)
    centres = librosa.mel_frequencies(194, fmin=50.0, fmax=12_000.0)[1:-1]
    assert (level.shape, seconds) == ((192, 300), 3.0)
    assert np.all(np.abs(level.argmax(0) - np.interp(hz, centres, np.arange(192))) <= 1)


def test_a_long_song_is_averaged_down(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    halves = np.repeat([0.0, 0.2], 24_000 * 20) * np.random.default_rng(0).standard_normal(24_000 * 40)
    soundfile.write(path, halves, 24_000, subtype="FLOAT")
    level, seconds = plot.spectrogram(path, SPEC, columns=80)
    whole, _ = plot.spectrogram(path, SPEC, columns=4000)
    assert (level.shape, whole.shape, seconds) == ((192, 80), (192, 4000), 40.0)
    power = 10 ** (whole / 10)
    np.testing.assert_allclose(10 ** (level / 10), power.reshape(192, 80, 50).mean(-1), rtol=1e-3)
    assert level[:, :39].max() < -90 < -20 < level[:, 41:].min()


def test_the_picture_shows_both_curves_in_their_colours(tmp_path: Path) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    source, result = tone(tmp_path / "노래 🎤.wav", 200, 2.0, 44_100), tone(tmp_path / "b.wav", 300, 2.0)
    picture = tmp_path / "new folder" / "p.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sides = side(source, "source", 200, 2.0), side(result, "result", 300, 2.0)
        plot.draw(picture, "노래 🎤 $x_1 → demo", *sides)
    pixels = imread(picture)[..., :3]
    assert pixels.shape[0] > 900 and pixels.shape[1] > 1300
    rows = {}
    for colour in (SOURCE_COLOUR, RESULT_COLOUR):
        near = np.abs(pixels - to_rgb(colour)).max(-1) < 0.02
        rows[colour] = float(np.median(np.nonzero(near)[0]))
        columns = np.nonzero(near[round(rows[colour])])[0]
        assert 0.3 < np.ptp(columns) / pixels.shape[1] < 0.5  # voiced for half of the axis
    assert rows[RESULT_COLOUR] < rows[SOURCE_COLOUR]  # 300 Hz is above 200 Hz
    assert [path.name for path in picture.parent.iterdir()] == ["p.png"]


@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
def test_any_rate_and_no_pitch_at_all(tmp_path: Path, rate: int) -> None:
    one = soundfile.write(tmp_path / "a.wav", np.zeros(1), rate) or tmp_path / "a.wav"
    nothing = Side("source", one, np.zeros(1), np.full(1, np.nan, np.float32))
    plot.draw(tmp_path / "p.png", "nothing", nothing, nothing)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_curve_is_what_the_voice_hears(tmp_path: Path, tiny_voice: Callable[..., Path]) -> None:
    voice = Voice.load(tiny_voice(tmp_path / "voice"), "cpu", threads=1)
    spec = voice.manifest.pitch
    tracker = pitch.Tracker(voice.pitch, spec.kind, spec.fmin, spec.fmax, spec.options)
    heard = plot.heard("source", tone(tmp_path / "a.wav", 220, 25.0), tracker)
    assert np.all(heard.f0 == 220) and np.all(np.diff(heard.times) > 0)
    assert heard.times[-1] == pytest.approx(25.0, abs=0.05)


def test_a_missing_recording_leaves_no_picture(tmp_path: Path) -> None:
    gone = side(tmp_path / "gone.wav", "source", 200, 1.0)
    with pytest.raises(AudioError, match="does not exist"):
        plot.draw(tmp_path / "p.png", "title", gone, gone)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_there_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    nothing = side(tmp_path / "a.wav", "source", 200, 1.0)
    with pytest.raises(MoksoriError, match=r'pip install "moksori\[plot\]"'):
        plot.draw(tmp_path / "p.png", "title", nothing, nothing)
