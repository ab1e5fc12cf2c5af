"""svc-run: convert recordings into another voice."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from moksori.runtime import jobs, naming, summary
from moksori.runtime.audio import BITS, FORMATS, subtype
from moksori.runtime.batch import Batch
from moksori.runtime.command import Bytes, Command, Failure
from moksori.runtime.key import WORDS

if TYPE_CHECKING:
    from moksori.runtime.options import Key, Options

EXAMPLES = """\b
Examples:
  svc-run song.wav
  svc-run song.wav -o converted.flac --speaker f001 --key +12
  svc-run songs/ -o converted --recursive --key auto --loudness -14 --format mp3
  svc-run *.mp3 -o converted --name "{stem} ({speaker})" --plot
  svc-run song.wav --save-f0, then svc-run song.wav --f0 edited.csv
  svc-run song.wav --voice my_voice.zip --device cuda --steps 8
  ffmpeg -i song.mp4 -f wav - | svc-run - | ffmpeg -i - converted.m4a
"""


class _Word(click.ParamType):
    """A number, or a word that stands for one."""

    def __init__(self, words: Collection[str], kind: type[int] | type[float], what: str) -> None:
        self.name, self.words, self.kind, self.what = "|".join(words), words, kind, what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value is None or str(value).strip().lower() in self.words:
            return value if value is None else str(value).strip().lower()
        try:
            number = self.kind(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{value} is no {self.what}, or {' or '.join(self.words)}", param, ctx)
        return number


KEY = _Word(WORDS, float, "number of semitones: give one such as 12, -5 or 0.5")
RATE = _Word(("source",), int, "sample rate: give one in Hz, such as 44100")


@click.command("svc-run", cls=Command, epilog=EXAMPLES)
@click.argument("inputs", metavar="INPUT...", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), metavar="OUT",
              help="A folder, or a file for one input.  [default: beside the input]")
@click.option("-r", "--recursive", is_flag=True, help="Search folders in folders too; OUT keeps their tree.")
@click.option("--voice", "voice_name", default="demo", show_default=True, metavar="V",
              help="A voice's name, folder or .zip.")
@click.option("--speaker", metavar="S",
              help="Whose voice, or a mix such as heart:0.7,f001:0.3.  [default: its first]")
@click.option("--key", type=KEY, default=0.0, metavar="N",
              help="Semitones up (12) or down (-12), fractions too; auto moves the song into the speaker's range, by "
              "octaves where they do; speech moves what has no accompaniment there, by the fewest semitones.")
@click.option("--formant", type=float, default=0.0, metavar="N",
              help="Semitones by which to raise (a smaller throat) or lower the formants; the pitch stays.")
@click.option("--f0", type=click.Path(path_type=Path), metavar="CSV",
              help="Sing this curve of seconds and Hz, as --save-f0 leaves it, in place of the source's.")
@click.option("--save-f0", is_flag=True, help="Leave the curve that was sung as CSV beside the result.")
@click.option("--steps", type=click.IntRange(1, 1000), metavar="N",
              help="Steps of the denoiser: more is finer and slower.  [default: the voice's]")
@click.option("--sampler", metavar="NAME",
              help="euler, heun or ab2 of a flow; plms, dpm++, unipc, ddim or pndm of an epsilon model."
              "  [default: the voice's]")
@click.option("--depth", type=click.FloatRange(0, 1, min_open=True), default=1.0, metavar="SHARE",
              help="Begin this far from the source's own mel, 0.3 say, and not at noise: more of the source stays.")
@click.option("--guidance", type=click.FloatRange(0, 10), metavar="WEIGHT",
              help="Above 1, heed words and speaker more, at two evaluations a step; only of voices that learned it."
              "  [default: the voice's]")
@click.option("--seed", type=click.IntRange(0), default=0, metavar="N",
              help="Another one gives a slightly different take.")
@click.option("--device", "device_name", default="auto", show_default=True, metavar="D",
              help="auto, cuda, directml, webgpu or cpu, with :index for one of several.")
@click.option("--memory", type=Bytes(), metavar="SIZE",
              help="What the process may take, as 2G: less is slower.  [default: what is free]")
@click.option("--stereo", is_flag=True,
              help="Keep left and right: each is sung, to one pitch; twice the time where they differ.")
@click.option("--loudness", type=float, metavar="LUFS",
              help="Of the results, as -14 for streaming.  [default: as loud as the source]")
@click.option("--format", "format", type=click.Choice(list(FORMATS), case_sensitive=False),
              help="Of the results.  [default: wav]")
@click.option("--bits", type=click.Choice(list(BITS), case_sensitive=False),
              help="Of a sample, in wav and (but for float) flac.  [default: 24]")
@click.option("--rate", type=RATE, metavar="HZ",
              help="Sample rate of the results, or source for that of the input.  [default: the voice's]")
@click.option("--raw", type=click.Choice(["s16le", "f32le"]), metavar="KIND",
              help="With -: bare samples of one channel and --rate come and go, s16le or f32le.  [default: WAV]")
@click.option("--lookahead", type=float, metavar="MS",
              help="With -: sound that is heard before it is sung; more is better and later.  [default: 30]")
@click.option("--name", "template", metavar="TEMPLATE",
              help="Of the results, from {stem}, {voice}, {speaker}, {key} and {steps}."
              f"  [default: {naming.TEMPLATE}]")
@click.option("--plot", is_flag=True,
              help="Also draw both spectrograms and pitch curves as a PNG beside the result.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON report to stdout at the end, and nothing else.")
@click.option("--force", is_flag=True, help="Overwrite results that exist.")
@click.option("--devices", is_flag=True, help="List the devices of this machine and exit.")
@click.option("--voices", is_flag=True, help="List the installed voices and exit.")
@click.version_option(importlib.metadata.version("moksori"), prog_name="svc-run", message="%(prog)s %(version)s")
def main(
    inputs: tuple[Path, ...],
    out: Path | None,
    recursive: bool,
    voice_name: str,
    speaker: str | None,
    key: float | str,
    formant: float,
    f0: Path | None,
    save_f0: bool,
    steps: int | None,
    sampler: str | None,
    depth: float,
    guidance: float | None,
    seed: int,
    device_name: str,
    memory: int | None,
    stereo: bool,
    loudness: float | None,
    format: str | None,
    bits: str | None,
    rate: int | str | None,
    raw: str | None,
    lookahead: float | None,
    template: str | None,
    plot: bool,
    as_json: bool,
    force: bool,
    devices: bool,
    voices: bool,
) -> None:  # fmt: skip
    """Convert recordings of singing or speech into another voice.

    INPUT is files and folders. What was already converted with the same settings is skipped; any other existing file
    is never overwritten without --force. A file that cannot be converted does not stop the others. With - for INPUT,
    sound comes from stdin and goes to stdout while it comes.
    """
    if devices or voices:
        listed = summary.devices(voice_name) if devices else summary.voices()
        told = summary.devices_text(listed) if devices else summary.voices_text(listed)
        click.echo(json.dumps(listed, indent=2) if as_json else told)
        return
    if not inputs:
        raise Failure("name an audio file to convert, as in: svc-run song.wav (svc-run --help)")
    piped = "-" in map(str, inputs)
    if piped:
        files = {"o": out, "recursive": recursive, "save-f0": save_f0, "format": format, "name": template, "plot": plot,
                 "json": as_json, "memory": memory}  # fmt: skip
        named = next((f"--{name}" for name, value in files.items() if value), "another input")
        if named != "another input" or len(inputs) > 1:
            raise Failure(f"{named} cannot go with -, which is a pipe: leave one of them out")
        if (raw is None) != (rate is None) or isinstance(rate, str):
            raise Failure("bare samples need both, as in --raw s16le --rate 48000; WAV needs neither")
    elif raw or lookahead is not None:
        raise Failure("--raw and --lookahead go with - alone, as in: svc-run - --raw s16le --rate 48000")

    from moksori.runtime import Converter, Options, Voice

    options = Options(
        speaker=speaker, key=cast("Key", key), formant=formant, f0=f0, steps=steps, seed=seed,
        sampler=sampler, depth=depth, guidance=guidance, stereo=stereo, loudness=loudness,
        rate=None if piped else cast("int | Literal['source'] | None", rate), bits=bits,
    )  # fmt: skip
    if piped:
        _pipe(voice_name, device_name, options, raw, cast("int | None", rate), lookahead)
        return
    found = jobs.find(inputs, recursive, out)
    place = naming.naming(out, template, format, len(found))
    subtype(place.format, bits)
    plot = plot and _can_plot()
    converter = Converter(Voice.load(voice_name, device_name), options, memory)
    batch = Batch(converter, jobs.plan(found, place, converter.style, plot, save_f0), force, quiet=as_json)
    try:
        done = batch.run()
    finally:
        if as_json:
            click.echo(batch.json())
    if not done:
        raise click.exceptions.Exit(Failure.exit_code)


def _pipe(
    voice: str, device: str, options: Options, raw: str | None, rate: int | None, lookahead: float | None
) -> None:
    """Convert stdin to stdout."""
    from moksori.runtime import Voice, pipe
    from moksori.runtime.stream import Live, Stream

    source, target = sys.stdin.buffer, sys.stdout.buffer
    coding = pipe.header(source) if raw is None or rate is None else pipe.Coding(rate, raw)
    live = Live(coding.rate) if lookahead is None else Live(coding.rate, lookahead=lookahead)
    pipe.convert(Stream(Voice.load(voice, device, lanes=1), options, live), source, target, coding)


def _can_plot() -> bool:
    if importlib.util.find_spec("matplotlib"):
        return True
    click.echo('Warning: --plot needs matplotlib, so no PNG is drawn: pip install "moksori[plot]"', err=True)
    return False


if __name__ == "__main__":
    main()
