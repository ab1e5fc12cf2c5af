"""How the vocoder makes sound: its two sources, what its filters leave of each, and their sum beside the recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from moksori.benchmarks import study
from moksori.benchmarks.speed import CLIP
from moksori.benchmarks.study import Altered, Array, Inputs
from moksori.models.nsf_hifigan import HARMONICS, HarmonicSource, NsfHifiGanConfig, upsampling
from moksori.runtime import Voice, audio, mel, pitch, source, vocoder
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError
from moksori.runtime.mel import MelSpec
from moksori.train.measures import Sound, mel_distance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BANDS_HZ = ((0, 1000), (1000, 4000), (4000, 8000), (8000, 12_000))
PULSES, WHITE, NINE = "pulses, one a period", "white noise", "NSF-HiFiGAN's: nine sines and a little noise"
HARMONIC, NOISE = "pulses, filtered", "noise, filtered"
SUM, RECORDING = "their sum", "the recording"
CLOSE_SECONDS = 0.02

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.study_vocoder --seconds 3
"""


@click.command(cls=Command, extra="train,eval,plot", epilog=EXAMPLES)
@click.argument("clip", type=click.Path(path_type=Path), default=CLIP)
@click.option("--voice", "voice_name", default="demo", show_default=True, help="One with an iSTFT vocoder.")
@click.option("--start", type=click.FloatRange(0), default=0.6, show_default=True, help="Seconds into the clip.")
@click.option("--seconds", type=click.FloatRange(0.3), default=2.5, show_default=True)
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie.")
def main(clip: Path, voice_name: str, start: float, seconds: float, root: Path) -> None:
    """Take a recording's own mel and f0, and let the vocoder make it again, part by part."""
    voice = Voice.load(voice_name, "cpu")
    if voice.manifest.vocoder.kind != "istft":
        raise OptionError(f"voice '{voice.name}' has no iSTFT vocoder, whose parts this study shows")
    spec, facts = voice.manifest.mel, voice.manifest.pitch
    song = audio.read(clip, spec.sample_rate)[round(start * spec.sample_rate) :][: round(seconds * spec.sample_rate)]
    frames = mel.log_mel(song, spec)
    tracker = pitch.Tracker(voice.pitch, facts.kind, facts.fmin, facts.fmax, facts.options)
    heard = audio.read(clip, pitch.RATE)[round(start * pitch.RATE) :][: round(seconds * pitch.RATE)]
    f0, voiced = tracker.at(heard, mel.frame_times(len(frames), spec))
    sounds = parts(voice, frames, f0) | {NINE: nine_sines(f0, voiced, spec), RECORDING: song}
    results = {
        "voice": voice.name, "clip": clip.name, "start": start, "seconds": seconds,
        "distances": {
            name: mel_distance(Sound(song, spec.sample_rate), Sound(sounds[name], spec.sample_rate), spec)
            for name in (SUM, HARMONIC, NOISE)
        },
        "noise": shares(sounds[HARMONIC], sounds[NOISE], voiced, spec),
    }  # fmt: skip
    study.finish("vocoder", results, draw(sounds, spec), table(results), root)


def parts(voice: Voice, frames: Array, f0: Array) -> dict[str, Array]:
    """Samples of each source, of each after its filter, and of all: mel [T, M] and f0 [T] to sound.

    The output is linear in the sources, so that either filter is seen by itself when the other source is silent.
    """

    def silent(name: str, given: Inputs) -> Inputs:
        return {**given, name: np.zeros_like(given[name])}

    raw, spec, facts = voice.vocoder.raw, voice.manifest.mel, voice.manifest.vocoder
    graphs = {
        PULSES: Altered(raw, says=lambda given, made: [given["harmonic"]]),
        WHITE: Altered(raw, says=lambda given, made: [given["noise"]]),
        HARMONIC: Altered(raw, lambda given: silent("noise", given)),
        NOISE: Altered(raw, lambda given: silent("harmonic", given)),
        SUM: raw,
    }
    sounds = {}
    for name, graph in graphs.items():
        synthesizer = vocoder.synthesizer(replace(voice.vocoder, raw=graph), spec, facts, seed=0)
        sounds[name] = np.concatenate([synthesizer.push(frames, f0), synthesizer.flush()])
    return sounds


def nine_sines(f0: Array, voiced: NDArray[np.bool_], spec: MelSpec) -> Array:
    """The source of an NSF-HiFiGAN whose merge weighs all harmonics alike; that of a trained one is learned."""
    made = HarmonicSource(NsfHifiGanConfig(sample_rate=spec.sample_rate, rates=upsampling(spec.hop)[0]))
    torch.nn.init.constant_(made.l_linear.weight, 1 / HARMONICS)
    torch.nn.init.zeros_(made.l_linear.bias)
    sung = torch.from_numpy(np.where(voiced, f0, 0).astype(np.float32))[None]
    phase = torch.from_numpy(source.frame_phases(f0, spec).astype(np.float32) % 1)[None]
    noise = torch.randn(1, len(f0), spec.hop, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        samples: Array = made(sung, phase, noise)[0].numpy()
    return samples


def shares(
    harmonic: Array,
    noise: Array,
    voiced: NDArray[np.bool_],
    spec: MelSpec,
    bands: Sequence[tuple[int, int]] = BANDS_HZ,
) -> list[dict[str, Any]]:
    """For each band, how much of the power is noise while the voice sings, and while it does not (None: never)."""
    pad = (spec.n_fft - spec.hop) // 2
    powers = [
        (source.spectrum(source.windows(np.pad(one, (pad, spec.n_fft)), len(voiced), spec), spec) ** 2).sum(1)
        for one in (harmonic, noise)
    ]
    hertz = np.fft.rfftfreq(spec.n_fft, 1 / spec.sample_rate)
    rows = []
    for low, high in bands:
        inside = (hertz >= low) & (hertz < high)
        row: dict[str, Any] = {"band": (low, high)}
        for name, when in (("voiced", voiced), ("unvoiced", ~voiced)):
            of_pulses, of_noise = (float(power[when][:, inside].sum()) for power in powers)
            row[name] = of_noise / (of_pulses + of_noise) if when.any() else None
        rows.append(row)
    return rows


def table(results: Mapping[str, Any]) -> str:
    cell = study.figure_of
    by_band = study.table(
        ["band", "noise's share of the power, voiced, %", "unvoiced, %"],
        [[f"{row['band'][0] / 1000:g} to {row['band'][1] / 1000:g} kHz", cell(row["voiced"], 1, 100),
          cell(row["unvoiced"], 0, 100)] for row in results["noise"]],
    )  # fmt: skip
    distances = study.table(
        ["what is heard", "mel distance to the recording"],
        [[name, cell(distance, 2)] for name, distance in results["distances"].items()],
    )
    return f"{by_band}\n{distances}"


def draw(sounds: Mapping[str, Array], spec: MelSpec) -> Figure:
    """Sources above, filtered below them, then sum and recording, then NSF-HiFiGAN's source and both close up."""
    fine = MelSpec(spec.sample_rate, spec.hop, 2048, 2048, 192, 50.0, spec.sample_rate / 2)
    figure, axes = study.sheet(4, 2, (11, 11))
    names = (PULSES, WHITE, HARMONIC, NOISE, SUM, RECORDING, NINE)
    mels = {name: mel.log_mel(sounds[name], fine) for name in names}
    common = float(np.quantile(mels[RECORDING], 0.999))
    for axis, name in zip(axes.flat, names, strict=False):
        own = name in (PULSES, WHITE, NINE)
        top = float(np.quantile(mels[name], 0.999)) if own else common
        image = study.show(axis, mels[name], fine, f"source: {name}" if own else name, top)
    study.seconds_below(axes[:3])
    axes[3][0].set_xlabel("seconds")
    _close_up(axes[3][1], sounds, spec)
    study.scale(figure, image, axes.flat)
    return figure


def _close_up(axis: Axes, sounds: Mapping[str, Array], spec: MelSpec) -> None:
    """A few periods of both harmonic sources, each as high as its own peak."""
    begin = round(0.4 * len(sounds[SUM]))
    count = round(CLOSE_SECONDS * spec.sample_rate)
    for name, colour, label in ((PULSES, study.BLUE, "pulses"), (NINE, study.RED, "nine sines")):
        piece = sounds[name][begin : begin + count]
        axis.plot(
            1000 * np.arange(len(piece)) / spec.sample_rate, piece / np.abs(piece).max(), color=colour, label=label
        )
    axis.set_title(f"both harmonic sources for {1000 * CLOSE_SECONDS:g} ms", loc="left", fontsize=10)
    axis.set_xlabel("milliseconds")
    axis.set_ylabel("of the peak")
    axis.set_ylim(-1.1, 1.6)
    axis.legend(frameon=False, ncols=2, loc="upper right")


if __name__ == "__main__":
    main()
