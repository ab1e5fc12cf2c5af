"""Statistics of prepared data against numpy, and warnings against faults put in on purpose."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from moksori.runtime.mel import MelSpec
from moksori.train import charts, report, statistics
from moksori.train.features import Place
from moksori.train.histogram import Histogram

RATE = 24_000
PERCENTILES = [0, 0.1, 5, 33.3, 50, 95, 99.9, 100]


@pytest.mark.parametrize("count", [1, 2, 7, 5000])
def test_percentiles_are_numpys(count: int) -> None:
    values = np.random.default_rng(count).normal(-4, 3, (count, 3))
    histogram = Histogram(-16, 16, 0.001, rows=3)
    for part in np.array_split(values, 4):
        histogram.add(part)
    expected = np.percentile(values, PERCENTILES, axis=0)
    np.testing.assert_allclose(histogram.percentiles(PERCENTILES), expected, atol=6e-4)


def test_what_lies_outside_counts_at_the_end() -> None:
    histogram = Histogram(0, 1, 0.5)
    histogram.add(np.array([-9.0, 0.1, 0.6, 9.0]))
    assert histogram.counts.tolist() == [[2, 1, 1]]
    assert histogram.coarse(np.array([0.0, 0.4, 2.0])).tolist() == [2, 2]
    assert np.isnan(Histogram(0, 1, 0.1).percentiles([50])).all()


def test_clipping_is_runs_at_full_scale() -> None:
    time = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 220 * time).astype(np.float32)
    stored = np.round(np.clip(tone, -1, 32_767 / 32_768) * 32_768) / 32_768
    assert statistics.clipped_seconds(stored.astype(np.float32), RATE) == 0
    loud = np.clip(1.5 * tone, -1, 32_767 / 32_768)
    loud[RATE:] *= 0.5
    assert statistics.clipped_seconds(loud.astype(np.float32), RATE) == pytest.approx(1.0)


def tally(speaker: str, source: str, hertz: float, *, clipped: float = 0.0, floor: float = -60.0) -> statistics.Tally:
    """Ten minutes in one slice."""
    frames, place = 60_000, Place(Path(), speaker, f"{source}-0000")
    levels = np.where(np.arange(frames) % 10 == 0, floor, -20).astype(np.float32)
    mel = np.zeros((4, 2), np.float32)
    f0, loudness = np.full(frames // 2, hertz, np.float32), np.full(frames // 2, -20, np.float32)
    sizes = {"audio": 10, "f0": 5}
    return statistics.Tally(place, frames, mel.sum(0), mel.sum(0), mel, f0, loudness, levels, clipped, sizes)


def test_warnings_name_what_was_put_in() -> None:
    summary = statistics.Summary(2)
    for source in ("a", "b", "c"):
        summary.add(tally("good", source, 200.0))
    for source, hertz in (("x", 200.0), ("y", 210.0), ("z", 420.0)):
        summary.add(tally("bad", source, hertz, clipped=6.0, floor=-32.0))
    facts = summary.facts(MelSpec().frame_rate)
    found = report.warnings(facts, summary, {"z": "deep/z 🎤.wav"})
    assert all(sentence.startswith("bad: ") for sentence in found)
    expected = ("18.0 s are clipped", "12 dB", "deep/z 🎤.wav (12 above) lies far")
    assert [words for words, text in zip(expected, found, strict=True) if words not in text] == []
    many = summary.speakers["bad"].strangers() | {f"s{n}": -9.5 - n for n in range(5)}
    (sentence,) = report._strangers("bad", many, {})
    assert "s4 (14 below), s3 (12 below), z (12 above) and 3 more lie far" in sentence
    assert facts["bytes"] == {"audio": 60, "f0": 30}
    assert [one["voiced"] for one in facts["speakers"]] == [0.5, 0.5]


def test_png_is_what_its_standard_says() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    data = charts.png(pixels)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (3, 2)
    length = struct.unpack(">I", data[33:37])[0]
    assert zlib.decompress(data[41 : 41 + length]) == b"\0\0\1\2\0\3\4\5"
