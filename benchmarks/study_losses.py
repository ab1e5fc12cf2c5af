"""What a vocoder should be taught by: vocoders trained by other losses, judged by copies and by conversions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from moksori.benchmarks import bounds, study, study_vocoder
from moksori.benchmarks import inputs as recordings
from moksori.benchmarks.listeners import Naturalness
from moksori.benchmarks.quality import mean
from moksori.benchmarks.study import Bench
from moksori.runtime import Converter, Options, Voice, mel, pitch
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError
from moksori.runtime.mel import MelSpec
from moksori.train import singer
from moksori.train.measures import RATE, Sound, mel_distance, needed, pitch_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float32]

RECORDINGS, INPUTS = "the recordings", "inputs"
WHOLE_HZ = ((0, 12_000),)
MOST_SHOWN = 3  # copies in the figure, whose file is too large otherwise
HNR_SECONDS = 0.01
NO_PITCH_DB = -150.0  # Praat says -200 where it hears no period
SHOWN_SECONDS = (0.5, 2.0)
RANGE_DB, LOUDEST_DB, TICK_HZ = 85.0, -35.0, 3000

EXAMPLES = """\b
Example, of three RUN_DIRs, each with a vocoder:
  python -m moksori.benchmarks.study_losses "distance=first" "energy distance=second" "and an adversary=third" \\
      --inputs talk --sung songs --references build/demo/heldout --recogniser build/demo/teacher
"""


@click.command(cls=Command, extra="train,eval,plot", epilog=EXAMPLES)
@click.argument("named", metavar="NAME=VOCODER...", nargs=-1, required=True)
@click.option("--voice", "voice_name", default="demo", show_default=True, help="What they are put into.")
@study.takes_clips
def main(
    named: tuple[str, ...],
    voice_name: str,
    inputs: tuple[Path, ...],
    sung: tuple[Path, ...],
    references: Path,
    recogniser: Path | None,
    speaker: str,
    root: Path,
) -> None:
    """Let each VOCODER, of a RUN_DIR, a checkpoint or a voice, copy recordings and sing what VOICE makes of them."""
    voice = Voice.load(voice_name, "cpu")
    if not all("=" in one for one in named):
        raise OptionError("name each vocoder: NAME=VOCODER, such as distance=run")
    voices = {name: singing(voice, source) for name, _, source in (one.partition("=") for one in named)}
    bench = Bench(voice, speaker, inputs, sung, references, recogniser)
    heard = [Sound.read(path) for path in bench.sources.values()]
    groups = {INPUTS: heard} | recordings.references(references, [speaker])
    copies = {
        name: {of: [bounds.copied(one, sound) for sound in some] for of, some in groups.items()}
        for name, one in voices.items()
    }
    mos, spec = Naturalness(), voice.manifest.mel
    converters = {name: Converter(one, Options(speaker=speaker)) for name, one in voices.items()}
    rows = [
        {
            "name": row.name,
            "noise": noise_share(voices[row.name], heard),
            "copies": {of: compared(some, copies[row.name][of], spec, mos) for of, some in groups.items()},
            "conversions": {
                **{measure: value for measure, value in asdict(row).items() if measure != "name"},
                "naturalness": mean(map(mos.of, bench.results[row.name].values())),
            },
        }
        for row in bench.rows(converters, next(iter(converters)))
    ]
    natural = {of: mean(map(mos.of, some)) for of, some in groups.items()}
    results = {"speaker": speaker, "recordings": natural, "rows": rows}
    shown = {RECORDINGS: groups[speaker][0]} | {name: copies[name][speaker][0] for name in list(copies)[:MOST_SHOWN]}
    study.finish("losses", results, draw(shown, spec), table(results), root)


def singing(voice: Voice, source: str) -> Voice:
    """``voice`` with the vocoder of ``source``."""
    found = singer.vocoder_at(source, voice.manifest.mel)
    sessions = MappingProxyType({**voice.sessions, "vocoder": found.session})
    return replace(voice, manifest=replace(voice.manifest, vocoder=found.spec), sessions=sessions)


def compared(
    some: Sequence[Sound], copies: Sequence[Sound], spec: MelSpec, mos: Naturalness
) -> dict[str, float | None]:
    """Means over recordings of what their copies are like."""
    errors = [pitch_errors(*pair) for pair in zip(some, copies, strict=True)]
    means = {name: mean(getattr(one, name) for one in errors) for name in ("cents", "off_pitch", "voicing")}
    distances = [mel_distance(*pair, spec) for pair in zip(some, copies, strict=True)]
    ratios = [harmonicity(*pair) for pair in zip(some, copies, strict=True)]
    own, copied = (mean(pair[at] for pair in ratios) for at in (0, 1))
    return {
        "mel": mean(distances), **means, "naturalness": mean(map(mos.of, copies)),
        "own_harmonicity": own, "harmonicity": copied,
    }  # fmt: skip


def harmonicity(sound: Sound, copy: Sound) -> tuple[float, float]:
    """Mean harmonics-to-noise ratio (dB; Boersma 1993) of both, where that of the first is above 0 dB."""
    praat = needed("parselmouth")
    first, second = (
        praat.Sound(one.at(RATE).astype(np.float64), RATE).to_harmonicity_ac(HNR_SECONDS).values[0]
        for one in (sound, copy)
    )
    count = min(len(first), len(second))
    both = (first[:count] > 0) & (second[:count] > NO_PITCH_DB)
    return (float(first[:count][both].mean()), float(second[:count][both].mean())) if both.any() else (np.nan, np.nan)


def noise_share(voice: Voice, sounds: Sequence[Sound]) -> dict[str, float | None] | None:
    """Mean share of the power that is noise, voiced and unvoiced; None where a vocoder does not keep them apart."""
    if voice.manifest.vocoder.kind != "istft":
        return None
    spec, facts = voice.manifest.mel, voice.manifest.pitch
    tracker = pitch.Tracker(voice.pitch, facts.kind, facts.fmin, facts.fmax, facts.options)
    found = []
    for sound in sounds:
        frames = mel.log_mel(sound.at(spec.sample_rate), spec)
        f0, voiced = tracker.at(sound.at(pitch.RATE), mel.frame_times(len(frames), spec))
        made = study_vocoder.parts(voice, frames, f0)
        found += study_vocoder.shares(
            made[study_vocoder.HARMONIC], made[study_vocoder.NOISE], voiced, spec, WHOLE_HZ
        )
    return {when: mean(row[when] for row in found) for when in ("voiced", "unvoiced")}


def table(results: Mapping[str, Any]) -> str:
    cell = study.figure_of
    own, first = results["speaker"], results["rows"][0]["copies"]
    natural = ", ".join(f"{name} {value:.2f}" for name, value in results["recordings"].items())
    ratios = ", ".join(f"{name} {cell(one['own_harmonicity'], 1)}" for name, one in first.items())
    copies = study.table(
        ["taught by", "log-mel L1", f"of {own}'s", "f0 error, cents", "over 50 cents, %", "voicing errors, %",
         "noise where unvoiced, %", "harmonics to noise, dB", f"of {own}'s", "naturalness", f"of {own}'s"],
        [[row["name"], cell(row["copies"][INPUTS]["mel"], 3), cell(row["copies"][own]["mel"], 3),
          cell(row["copies"][INPUTS]["cents"], 1), cell(row["copies"][INPUTS]["off_pitch"], 1, 100),
          cell(row["copies"][INPUTS]["voicing"], 1, 100), cell((row["noise"] or {}).get("unvoiced"), 0, 100),
          *(cell(row["copies"][of]["harmonicity"], 1) for of in (INPUTS, own)),
          cell(row["copies"][INPUTS]["naturalness"], 2), cell(row["copies"][own]["naturalness"], 2)]
         for row in results["rows"]],
    )  # fmt: skip
    sung = study.table(
        ["taught by", "similarity to target", "to source", "f0 error, cents", "over 50 cents, %", "voicing errors, %",
         "characters misheard, %", "naturalness"],
        [[row["name"], cell(one["similarity"], 3), cell(one["source_similarity"], 3), cell(one["cents"], 1),
          cell(one["off_pitch"], 1, 100), cell(one["voicing"], 1, 100), cell(one["error_rate"], 1, 100),
          cell(one["naturalness"], 2)] for row in results["rows"] for one in [row["conversions"]]],
    )  # fmt: skip
    return f"{copies}\nThe recordings themselves: harmonics to noise {ratios} dB; naturalness {natural}.\n\n{sung}"


def draw(shown: Mapping[str, Sound], spec: MelSpec) -> Figure:
    """A piece of one recording, and of each one's copy of it, with Hz up in equal steps: what mel bins cannot tell."""
    figure, axes = study.sheet(len(shown), 1, (11, 0.6 + 2.1 * len(shown)))
    begin = round(SHOWN_SECONDS[0] * spec.sample_rate)
    end = round(SHOWN_SECONDS[1] * spec.sample_rate)
    for axis, (name, sound) in zip(axes.flat, shown.items(), strict=True):
        *_, image = axis.specgram(
            sound.at(spec.sample_rate)[begin:end], NFFT=spec.n_fft, noverlap=spec.n_fft * 7 // 8, Fs=spec.sample_rate,
            scale="dB", cmap="magma", vmin=LOUDEST_DB - RANGE_DB, vmax=LOUDEST_DB,
        )  # fmt: skip
        axis.set_title(name, loc="left", fontsize=10)
        ticks = range(0, spec.sample_rate // 2 + 1, TICK_HZ)
        axis.set_yticks(ticks, [f"{hz // 1000} kHz" for hz in ticks])
    study.seconds_below(axes)
    figure.colorbar(image, ax=list(axes.flat), pad=0.01, aspect=40, label="dB")
    return figure


if __name__ == "__main__":
    main()
