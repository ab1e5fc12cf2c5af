"""What the studies in docs/study share: one look for all figures, and conversions that differ in a single thing.

Each study_*.py writes benchmarks/results/study-NAME.json and docs/figures/NAME.png, and prints the tables of its page.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from moksori.benchmarks import inputs as recordings
from moksori.benchmarks import record
from moksori.runtime import Converter, Voice, mel
from moksori.runtime.files import atomic_path
from moksori.runtime.mel import MelSpec
from moksori.train.judge import Clip, Judge, Verdict
from moksori.train.measures import Recogniser, Sound, mel_distance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Array = NDArray[np.float32]
Inputs = dict[str, NDArray[Any]]
Change = Callable[[Inputs], Inputs]

FIGURES = Path("docs", "figures")
RECIPE = Path(__file__).resolve().parent.parent / "train" / "recipes" / "demo"  # of the demo voice
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"  # told apart by the colour-blind too
PURPLE, BLACK = "#cc79a7", "#000000"  # (Okabe and Ito)
RANGE_DB = 75.0  # of spectrograms, below the loudest
TICKS_HZ = (200, 500, 1000, 2000, 5000, 10_000)
COLOURS = 256  # of a figure's file, which is then a third as large


def sheet(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, NDArray[Any]]:
    """A figure of ``size`` inches and its axes [rows, columns]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=85, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Figure, path: Path) -> None:
    """A small PNG that is the same bytes each time, with the same matplotlib."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    with atomic_path(path) as temporary:
        Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(temporary, optimize=True)


def show(axis: Axes, log_mel: Array, spec: MelSpec, title: str, top: float, start: float = 0.0) -> AxesImage:
    """A natural-log mel [T, M] as decibels below ``top`` (log), seconds across from ``start`` and Hz up."""
    seconds = start + len(log_mel) * spec.hop / spec.sample_rate
    image = axis.imshow(
        20 * np.log10(np.e) * (log_mel.T - top), origin="lower", aspect="auto", cmap="magma", vmin=-RANGE_DB, vmax=0,
        extent=(start, seconds, 0, spec.bins), interpolation="nearest",
    )  # fmt: skip
    centres = mel.centres(spec)
    ticks = [hz for hz in TICKS_HZ if centres[0] <= hz <= centres[-1]]
    axis.set_yticks(
        [float(np.interp(hz, centres, np.arange(spec.bins) + 0.5)) for hz in ticks],
        [f"{hz // 1000} kHz" if hz >= 1000 else f"{hz} Hz" for hz in ticks], fontsize=8,
    )  # fmt: skip
    axis.set_title(title, loc="left", fontsize=10)
    return image


def seconds_below(axes: NDArray[Any]) -> None:
    """Seconds under the lowest of axes [rows, columns], which all show the same ones."""
    for axis in axes[:-1].flat:
        axis.tick_params(labelbottom=False)
    for axis in axes[-1]:
        axis.set_xlabel("seconds")


def scale(figure: Figure, image: AxesImage, axes: Iterable[Axes]) -> None:
    """The one colour bar of several spectrograms."""
    figure.colorbar(image, ax=list(axes), pad=0.01, aspect=40, label="dB below the loudest")


class Altered:
    """A graph that hears or says something else: ``hears`` changes its inputs, ``says`` its outputs by the inputs."""

    def __init__(
        self, raw: Any, hears: Change = dict, says: Callable[[Inputs, list[Any]], list[Any]] = lambda given, made: made
    ) -> None:
        self.raw, self.hears, self.says = raw, hears, says

    def run(self, outputs: list[str] | None, inputs: Inputs) -> list[Any]:
        given = self.hears(dict(inputs))
        return self.says(given, self.raw.run(outputs, given))


def altered(voice: Voice, role: str, hears: Change) -> Voice:
    """The voice with one graph that hears ``hears`` of what it is given."""
    session = voice.sessions[role]
    twin = replace(session, raw=Altered(session.raw, hears))
    return replace(voice, sessions=MappingProxyType({**voice.sessions, role: twin}))


CLIPS = (
    click.option("--inputs", multiple=True, type=click.Path(path_type=Path), help="Folder or file of speech."),
    click.option("--sung", multiple=True, type=click.Path(path_type=Path), help="Folder or file of singing."),
    click.option(
        "--references", type=click.Path(path_type=Path), required=True,
        help="Folder with a folder of recordings of each speaker, such as build/demo/heldout after make demo-voice.",
    ),
    click.option("--recogniser", type=click.Path(path_type=Path), help="Folder of a CTranslate2 Whisper model."),
    click.option("--speaker", default="heart", show_default=True),
    click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie."),
)  # fmt: skip


def takes_clips(function: Callable[..., None]) -> Callable[..., None]:
    """The options of a study that converts recordings."""
    for option in reversed(CLIPS):
        function = option(function)
    return function


@dataclass(frozen=True)
class Row:
    """One way to convert, measured: means over the clips. ``mel`` is the distance to the way that is compared with."""

    name: str
    similarity: float
    source_similarity: float
    cents: float
    off_pitch: float
    voicing: float
    error_rate: float
    mel: float

    @staticmethod
    def of(name: str, verdict: Verdict, distance: float) -> Row:
        return Row(
            name, verdict.similarity, verdict.source_similarity, verdict.cents, verdict.off_pitch, verdict.voicing,
            verdict.error_rate, distance,
        )  # fmt: skip


class Bench:
    """Recordings to convert, and judges of what becomes of them.

    Args:
        references: a folder of recordings of each speaker, as benchmarks.quality has it.
    """

    def __init__(
        self, voice: Voice, speaker: str, inputs: Sequence[Path], sung: Sequence[Path], references: Path,
        recogniser: Path | None,
    ) -> None:  # fmt: skip
        found = recordings.found(inputs, sung)
        self.spec, self.speaker = voice.manifest.mel, speaker
        self.sources = {one.name: one.path for one in found}
        known = recordings.references(references, [speaker])
        made = [recordings.clip(one, speaker, 0.0, known) for one in found]
        self._judge = Judge(made, known, Recogniser(recogniser) if recogniser else None)
        self.results: dict[str, dict[str, Sound]] = {}  # name of a way -> name of a clip -> what came out

    def rows(self, ways: Mapping[str, Converter], compared_with: str) -> list[Row]:
        """Convert all clips in all ways."""
        verdicts = {name: self._verdict(name, converter) for name, converter in ways.items()}
        best = self.results[compared_with]
        distances = {
            name: [mel_distance(sound, best[clip], self.spec) for clip, sound in self.results[name].items()]
            for name in ways
        }
        return [Row.of(name, verdicts[name], float(np.mean(distances[name]))) for name in ways]

    def _verdict(self, name: str, converter: Converter) -> Verdict:
        click.echo(f"  {name}", err=True)
        self.results[name] = {}
        with tempfile.TemporaryDirectory() as folder:

            def convert(clip: Clip) -> Sound:
                target = Path(folder) / "result.wav"
                converter.convert(self.sources[clip.name], target)
                self.results[name][clip.name] = Sound.read(target)
                return self.results[name][clip.name]

            return self._judge.verdict(convert)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, the first column to the left."""
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def figure_of(value: float | None, digits: int, factor: float = 1.0) -> str:
    """A cell of a table; – where nothing was measured."""
    return "–" if value is None or math.isnan(value) else f"{factor * value:.{digits}f}"


def finish(name: str, results: dict[str, Any], figure: Figure, text: str, root: Path) -> None:
    """Write the record and the figure of a study below ``root``, and print its tables."""
    record.write(root / record.RESULTS / f"study-{name}.json", results)
    save(figure, root / FIGURES / f"{name}.png")
    click.echo(text)
    click.echo(f"written to {root / record.RESULTS / f'study-{name}.json'} and {root / FIGURES / f'{name}.png'}")
