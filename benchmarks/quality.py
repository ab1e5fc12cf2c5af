"""How well a voice converts: whose voice, pitch and words the results have, between a floor and what can be reached."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from moksori.benchmarks import bounds, inputs, quality_report, record
from moksori.benchmarks.inputs import KINDS, Recording
from moksori.benchmarks.listeners import Listeners, Naturalness, Sphinx, loudness_error
from moksori.runtime import Converter, Options, Voice
from moksori.runtime.cli import KEY
from moksori.runtime.command import Command
from moksori.runtime.files import atomic_path
from moksori.runtime.options import Key
from moksori.train.judge import Clip, Judge, Row, Verdict, score
from moksori.train.measures import Recogniser, Similarity, Sound, mel_distance, pitch_errors

FINE = 64  # steps that a result of fewer is compared with
USUAL_KEYS: Mapping[str, Key] = {"speech": "speech", "singing": "auto"}
CONVERTED, FLOOR = "converted", "pitch and formants moved"
PITCH = ("cents", "off_pitch", "voicing")

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.quality demo --inputs talk --sung songs \\
      --references voices --recogniser whisper-base
The folder of references holds one with recordings of each speaker, such as
voices/heart, and may hold voices/heart_sung, which sung inputs are held to.
"""


@dataclass(frozen=True)
class Take:
    """A clip and what became of it, system by system; ``fine`` is the voice's with many steps."""

    clip: Clip
    results: Mapping[str, Sound]
    fine: Sound


@click.command(cls=Command, extra="train,eval,plot", epilog=EXAMPLES)
@click.argument("voice_name", metavar="VOICE")
@click.option("--inputs", "speech", multiple=True, type=click.Path(path_type=Path), help="Folder or file of speech.")
@click.option("--sung", multiple=True, type=click.Path(path_type=Path), help="Folder or file of singing.")
@click.option("--references", type=click.Path(path_type=Path), required=True, help="Folder of speakers.")
@click.option("--recogniser", type=click.Path(path_type=Path), help="Folder of a CTranslate2 Whisper model.")
@click.option("--sphinx", is_flag=True, help="Also have CMU Sphinx recognise what is English.")
@click.option("--naturalness", is_flag=True, help="Also have DistillMOS judge how natural it sounds.")
@click.option("--speaker", "speakers", multiple=True, help="[default: each of the voice]")
@click.option("--key", type=KEY, help="As for svc-run.  [default: speech for --inputs, auto for --sung]")
@click.option("--steps", type=click.IntRange(1), help="[default: the voice's]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="As for svc-run.")
@click.option("--device", default="auto", show_default=True, help="As for svc-run.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to leave the results in.")
@click.option("--output", type=click.Path(path_type=Path), help="[default: benchmarks/results/quality-VOICE]")
def main(
    voice_name: str,
    speech: tuple[Path, ...],
    sung: tuple[Path, ...],
    references: Path,
    recogniser: Path | None,
    sphinx: bool,
    naturalness: bool,
    speakers: tuple[str, ...],
    key: Key | None,
    steps: int | None,
    seed: int,
    device: str,
    keep: Path | None,
    output: Path | None,
) -> None:
    """Convert recordings with VOICE and measure the results; none of them should be of its training data."""
    found = inputs.found(speech, sung)
    voice = Voice.load(voice_name, device)
    names = speakers or voice.speaker_names
    known = inputs.references(references, names)
    whisper = Recogniser(recogniser) if recogniser else None
    keys = USUAL_KEYS if key is None else dict.fromkeys(KINDS, key)
    listeners = Listeners(whisper, Sphinx() if sphinx else None, Naturalness() if naturalness else None)
    with tempfile.TemporaryDirectory() as temporary:
        asked = [Options(speaker=name, steps=steps, seed=seed) for name in names]
        takes = [
            take(voice, one, replace(wanted, key=keys[one.kind]), known, keep or Path(temporary))
            for wanted in asked
            for one in found
        ]
    judge = Judge([one.clip for one in takes], known, whisper)
    judged = {system: judged_rows(judge, takes, system) for system in (CONVERTED, FLOOR)}
    spoken = {kind: [Sound.read(one.path) for one in found if one.kind == kind] for kind in KINDS}
    copied = known | {f"inputs, {kind}": sounds for kind, sounds in spoken.items() if sounds}
    rows = [
        {"system": system, **asdict(row), "key": one.clip.key, **beside(listeners, one, system, voice)}
        for system, found_rows in judged.items()
        for row, one in zip(found_rows, takes, strict=True)
    ]
    results = {
        "voice": voice.name,
        "keys": keys,
        "steps": steps or voice.manifest.denoiser.steps,
        "seed": seed,
        "score": {name: score(Verdict.of([r for r in judged[CONVERTED] if r.speaker == name])) for name in names},
        "summary": quality_report.summary(rows),
        "folders": quality_report.summary(rows, parts=2),
        "bounds": [bound(listeners, voice, name, sounds) for name, sounds in copied.items()],
        "clips": rows,
    }
    output = output or record.RESULTS / f"quality-{voice.name}"
    record.write(output.with_name(f"{output.name}.json"), results)
    with atomic_path(output.with_name(f"{output.name}.md")) as path:
        path.write_text(quality_report.markdown(results), encoding="utf-8")
    quality_report.draw(results, output.with_name(f"{output.name}.png"))
    click.echo(quality_report.markdown(results))
    click.echo(f"written to {output}.json, .md and .png")


def take(
    voice: Voice, one: Recording, wanted: Options, known: Mapping[str, Sequence[Sound]], folder: Path
) -> Take:
    """Convert one recording in all ways; the voice's own result is left in ``folder``."""
    speaker = wanted.speaker or voice.speaker_names[0]
    click.echo(f"  {one.name} as {speaker}", err=True)
    target = folder / f"{speaker}-{one.name.replace('/', '-')}.wav"
    report = Converter(voice, wanted).convert(one.path, target)
    with tempfile.TemporaryDirectory() as temporary:
        slow = Path(temporary, "fine.wav")
        Converter(voice, replace(wanted, key=report.key, steps=FINE)).convert(one.path, slow)
        fine = Sound.read(slow)
    clip, spec = inputs.clip(one, speaker, report.key, known), voice.manifest.mel
    moved = bounds.moved(clip.sound, bounds.envelope(known[clip.compared_with], spec), report.key, spec)
    return Take(clip, {CONVERTED: Sound.read(target), FLOOR: moved}, fine)


def judged_rows(judge: Judge, takes: Sequence[Take], system: str) -> Sequence[Row]:
    """What training's judge says of each clip as one system made it."""
    made = {one.clip: one.results[system] for one in takes}
    return judge.verdict(made.__getitem__).rows


def beside(listeners: Listeners, one: Take, system: str, voice: Voice) -> dict[str, float | None]:
    """What the judge does not measure."""
    source, result, spec = one.clip.sound, one.results[system], voice.manifest.mel
    return {
        "naturalness": listeners.natural(result),
        "sphinx_error_rate": listeners.misheard_english(source, result),
        "loudness_error": loudness_error(source, result, spec),
        "steps_distance": mel_distance(one.fine, result, spec) if system == CONVERTED else None,
    }


def bound(listeners: Listeners, voice: Voice, name: str, sounds: Sequence[Sound]) -> dict[str, Any]:
    """What recordings reach themselves, every second one held to the others, and what their copy-synthesis does."""
    click.echo(f"  {name}, copied", err=True)
    copies = [bounds.copied(voice, one) for one in sounds]
    own = copied = None
    if len(sounds) > 1:
        similarity = Similarity({name: sounds[::2]})
        own, copied = (
            mean(similarity.to(name, similarity.embed(one)) for one in some[1::2]) for some in (sounds, copies)
        )
    pairs = list(zip(sounds, copies, strict=True))
    errors = [pitch_errors(*pair) for pair in pairs]
    return {
        "recordings": name, "count": len(sounds), "similarity": own, "copied_similarity": copied,
        "mel": mean(mel_distance(*pair, voice.manifest.mel) for pair in pairs),
        "error_rate": mean(listeners.misheard(*pair) for pair in pairs),
        **{measure: mean(getattr(one, measure) for one in errors) for measure in PITCH},
        "naturalness": mean(listeners.natural(one) for one in sounds),
        "copied_naturalness": mean(listeners.natural(one) for one in copies),
    }  # fmt: skip


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known, None where none is."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None


if __name__ == "__main__":
    main()
