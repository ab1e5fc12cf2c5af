"""A picture of a conversion: both spectrograms and pitch curves on one time axis, as a PNG (extra ``plot``)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import audio, curve, pitch
from moksori.runtime.errors import MoksoriError
from moksori.runtime.files import atomic_path
from moksori.runtime.mel import Array, MelSpec, centres, log_mel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 1600  # pixels of a spectrogram; longer songs are averaged down to it
BLOCK = 10.0  # seconds decoded at once
RANGE_DB = 75.0  # shown, below the loudest
TICKS_HZ = (200, 500, 1000, 2000, 5000, 10_000, 20_000)
PITCH_TICKS_HZ = (50, 60, 80, 100, 120, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1200, 1500, 2000)
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "NanumGothic",
)
NAMES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
# Widest range of frequencies, as a ratio, and the semitones above C that are named in it: E and B crowd F and C.
NAMED = ((1.8, (0, 2, 4, 5, 7, 9, 11)), (3.5, (0, 2, 5, 7, 9)), (math.inf, (0, 7)))
READING = "Bright is loud. The lowest stripe of a stack is the note; the stripes above it make its colour."
RANGE_COLOUR = "#009e73"
SOURCE_COLOUR, RESULT_COLOUR = "#0072b2", "#d55e00"  # told apart by the colour-blind too (Okabe and Ito)


@dataclass(frozen=True, eq=False)
class Side:
    """One recording: what to call it, its file, and its f0 [T] in Hz, NaN where unvoiced, at times [T] in s."""

    label: str
    path: Path
    times: NDArray[np.float64]
    f0: Array


@dataclass(frozen=True)
class Marks:
    """What else to show: seconds at which chunks join, spans in s where the gate is shut, the voice's range in Hz."""

    cuts: Sequence[float] = ()
    muted: Sequence[tuple[float, float]] = ()
    range: tuple[float, float] | None = None


def heard(label: str, path: Path, tracker: pitch.Tracker) -> Side:
    """A recording with the f0 that the voice's own tracker finds in it."""
    parts = list(curve.heard(audio.blocks(path, pitch.RATE, BLOCK), tracker))
    times, f0, confidence = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Side(label, path, times, np.where(confidence >= tracker.options.threshold, f0, np.nan).astype(np.float32))


def draw(path: Path, title: str, source: Side, result: Side, marks: Marks | None = None) -> None:
    """Write the picture to ``path``, atomically.

    Raises:
        MoksoriError: matplotlib is not installed.
        AudioError: a recording cannot be read.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MoksoriError('a plot needs matplotlib: pip install "moksori[plot]"') from error
    figure = Figure(figsize=(12, 8.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 0.8))
    seconds = _spectrograms(figure, (above, middle), (source, result))
    _pitches(below, source, result, marks or Marks())
    _mark((above, middle, below), marks or Marks())
    below.set_xlim(0, seconds)
    figure.suptitle(title, fontsize=13, fontweight="bold", parse_math=False, family=_fonts())
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a title's letter that no font here has
        figure.savefig(temporary, format="png")


def spectrogram(path: Path, spec: MelSpec, columns: int = COLUMNS) -> tuple[Array, float]:
    """Mel power in dB, [bins, at most ``columns``], and the length in seconds; read block by block."""
    frames = max(1, math.ceil(audio.info(path).seconds * spec.frame_rate))
    width = min(columns, frames)
    power, count = np.zeros((width, spec.bins)), np.zeros(width)
    end = 0
    for start, mel in _mels(path, spec):
        column = np.minimum((start + np.arange(len(mel))) * width // frames, width - 1)
        np.add.at(power, column, np.exp(2 * mel.astype(np.float64)))
        np.add.at(count, column, 1)
        end = start + len(mel)
    power /= np.maximum(count, 1)[:, None]
    return (10 * np.log10(np.maximum(power, 1e-10))).T.astype(np.float32), max(end, 1) / spec.frame_rate


def _display(rate: int) -> MelSpec:
    """10 ms frames and windows of about 85 ms, which separate the harmonics of a low voice."""
    n_fft = 2 ** round(math.log2(0.085 * rate))
    return MelSpec(
        rate, 2 * round(rate / 200), n_fft, n_fft, bins=192, fmin=50.0, fmax=min(12_000.0, rate / 2)
    )


def _mels(path: Path, spec: MelSpec) -> Iterator[tuple[int, Array]]:
    start = 0
    for block in audio.blocks(path, spec.sample_rate, math.ceil(BLOCK * spec.frame_rate) / spec.frame_rate):
        mel = log_mel(block, spec)
        yield start, mel
        start += len(mel)


def _spectrograms(figure: Figure, axes: tuple[Axes, Axes], sides: tuple[Side, Side]) -> float:
    spec = _display(audio.info(sides[1].path).rate)
    longest = 0.0
    for axis, side in zip(axes, sides, strict=True):
        level, seconds = spectrogram(side.path, spec)
        longest = max(longest, seconds)
        loudest = np.quantile(level, 0.999)
        image = axis.imshow(
            level - loudest,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, spec.bins),
            cmap="magma",
            vmin=-RANGE_DB,
            vmax=0,
            interpolation="nearest",
        )
        ticks = [hz for hz in TICKS_HZ if spec.fmin <= hz <= spec.fmax]
        axis.set_yticks([_bin(hz, spec) for hz in ticks], [_hertz(hz) for hz in ticks])
        axis.set_ylabel("low  →  high (Hz)")
        axis.set_title(side.label, loc="left", fontsize=12, fontweight="bold")
    axes[0].set_title(READING, loc="right", fontsize=9, color="0.35")
    bar = figure.colorbar(image, ax=list(axes), pad=0.01, aspect=40, ticks=[-RANGE_DB, 0])
    bar.ax.set_yticklabels(["quiet", "loud"])
    return longest


def _pitches(axis: Axes, source: Side, result: Side, marks: Marks) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if marks.range is not None:
        axis.axhspan(*marks.range, color=RANGE_COLOUR, alpha=0.16, linewidth=0, label="where the voice is at home")
    for side, colour, width in ((source, SOURCE_COLOUR, 4.0), (result, RESULT_COLOUR, 1.5)):
        stride = max(1, len(side.f0) // (4 * COLUMNS))
        axis.plot(side.times[::stride], side.f0[::stride], color=colour, linewidth=width, label=side.label)
    known = np.concatenate([side.f0[np.isfinite(side.f0)] for side in (source, result)])
    low, high = (float(known.min()), float(known.max())) if len(known) else (100.0, 400.0)
    low, high = low / 1.12, max(high, 2 * low) * 1.12
    axis.set_yscale("log")
    axis.set_ylim(low, high)
    axis.yaxis.set_major_locator(FixedLocator(_notes(low, high)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda hz, _: _note(hz)))
    axis.yaxis.set_minor_locator(NullLocator())
    scale = axis.secondary_yaxis("right")
    scale.yaxis.set_major_locator(FixedLocator(PITCH_TICKS_HZ))
    scale.yaxis.set_major_formatter(FuncFormatter(lambda hz, _: _hertz(hz)))
    scale.yaxis.set_minor_locator(NullLocator())
    scale.set_ylabel("Hz")
    axis.set_ylabel("note")
    axis.set_xlabel("seconds")
    axis.set_title("the melody", loc="left", fontsize=12, fontweight="bold")
    axis.grid(alpha=0.3)


def _mark(axes: tuple[Axes, Axes, Axes], marks: Marks) -> None:
    """Joins as dotted lines and what is muted as grey, on the result and below; the legend tells which is which."""
    _, result, below = axes
    for axis, light in ((result, "white"), (below, "0.4")):
        for at, second in enumerate(marks.cuts[:-1]):
            axis.axvline(second, color=light, linestyle=":", linewidth=1.2, label="pieces join" if at == 0 else None)
        for at, (start, end) in enumerate(marks.muted):
            axis.axvspan(
                start, end, color="0.6", alpha=0.3, linewidth=0, label="silent, so muted" if at == 0 else None
            )
    handles, _ = below.get_legend_handles_labels()
    below.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles), frameon=False, fontsize=9)


def _fonts() -> list[str]:
    """Fonts for a title in any script, of those installed here."""
    from matplotlib.font_manager import get_font_names

    here = set(get_font_names())
    return [name for name in FONTS if name in here]


def _bin(hz: float, spec: MelSpec) -> float:
    """Where a frequency lies on an axis of mel bins, each one high."""
    return float(np.interp(hz, centres(spec), np.arange(spec.bins) + 0.5))


def _hertz(hz: float) -> str:
    return f"{hz / 1000:g}k" if hz >= 1000 else f"{hz:g}"


def _notes(low: float, high: float) -> list[float]:
    """Hz of the notes to name between two frequencies: the wider the range, the fewer, so that none are crowded."""
    steps = next(steps for widest, steps in NAMED if high / low < widest)
    return [hz for number in range(12, 120) if number % 12 in steps and low < (hz := _midi_hz(number)) < high]


def _note(hz: float) -> str:
    number = round(69 + 12 * math.log2(hz / 440))
    return f"{NAMES[number % 12]}{number // 12 - 1}"


def _midi_hz(number: int) -> float:
    return float(440 * 2 ** ((number - 69) / 12))
