"""voice.json: what a voice says about itself, mirrored by frozen dataclasses and read strictly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from moksori.runtime import crepe, files, pitch, samplers, strict, vocoder
from moksori.runtime.errors import OptionError, VoiceError
from moksori.runtime.mel import MelSpec
from moksori.runtime.samplers import SAMPLERS
from moksori.runtime.schedules import LINEAR, LinearBeta, Schedule, prediction
from moksori.runtime.strict import OneOf, Range, Text

FILE = "voice.json"
FORMAT_VERSION = 1
ROLES = ("content", "pitch", "condition", "denoiser", "vocoder")
LARGEST_FILE = 2**31 - 1  # bytes; a protobuf message holds no more
LARGEST_VOICE = 4 * 2**30  # bytes
FAR = 60.0  # seconds; no content network hears farther
LARGEST_MANIFEST = 2**20  # bytes
# part, key, and what it means that a voice of the first release does not tell it
UNTOLD = (("units", "lookahead", FAR), ("denoiser", "guidance", 1.0), ("pitch", "faint", 1.0), ("pitch", "periods", 0))


@dataclass(frozen=True)
class Manifest:
    """One voice: geometry, speakers, defaults, licence, and the hash of every graph."""

    format_version: int
    name: str
    description: str
    mel: MelSpec
    units: UnitSpec
    pitch: PitchSpec
    speakers: tuple[Speaker, ...]
    denoiser: DenoiserSpec
    vocoder: VocoderSpec
    precision: Mapping[str, str]  # role -> how its weights are stored
    licence: str
    credits: tuple[str, ...]
    quality: Mapping[str, float]
    files: Mapping[str, GraphFile]  # role -> file


@dataclass(frozen=True)
class UnitSpec:
    """Content units: ``dimension`` numbers every ``hop`` samples of ``sample_rate`` Hz audio."""

    dimension: int
    sample_rate: int
    hop: int
    context: float  # seconds to either side
    lookahead: float = FAR  # seconds after a unit that it depends on, where that is less


@dataclass(frozen=True)
class PitchSpec:
    """The tracker's kind and range, and how its answer becomes f0: with these the training data were made."""

    kind: str
    fmin: float  # Hz
    fmax: float  # Hz
    threshold: float = pitch.Options.threshold  # confidence from which a frame is voiced
    hop: float = pitch.Options.hop  # seconds; of CREPE, as the decoder is
    decoder: str = pitch.Options.decoder
    median: int = pitch.Options.median  # frames
    mean: int = pitch.Options.mean  # frames
    octave_guard: bool = pitch.Options.octave_guard
    faint: float = pitch.Options.faint  # confidence from which f0 is believed where a frame is not voiced
    periods: int = pitch.Options.periods  # of the waveform, which f0 is fitted to; 0 leaves it

    @property
    def options(self) -> pitch.Options:
        return pitch.Options(
            self.hop, self.decoder, self.median, self.mean, self.octave_guard, self.threshold, self.faint, self.periods
        )


@dataclass(frozen=True)
class Speaker:
    name: str
    f0_low: float  # Hz, 5 % of the voiced frames lie below
    f0_median: float  # Hz
    f0_high: float  # Hz, 5 % lie above
    loudness: float  # dB, median of the active frames
    licence: str
    credit: str


@dataclass(frozen=True)
class DenoiserSpec:
    """The network's kind, what it predicts, the defaults of its sampler and the mel statistics [bins] it works in."""

    architecture: str
    prediction: str
    schedule: Schedule  # "linear" of a flow; of an epsilon model an object
    sampler: str
    steps: int
    noise_scale: float
    context: int  # mel frames to either side, one step
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    guidance: float = 1.0  # weight of the conditions against none; 1 is no guidance


@dataclass(frozen=True)
class VocoderSpec:
    kind: str
    context: int  # mel frames to either side
    phase: str  # who sums it: "host", or "graph" in OpenUtau's form


@dataclass(frozen=True)
class GraphFile:
    path: str  # a plain file name beside voice.json
    sha256: str
    bytes: int


def read(text: bytes, file: str = FILE) -> Manifest:
    """The manifest in ``text``, UTF-8 JSON.

    Raises:
        VoiceError: naming ``file``, the key and what was expected.
    """
    value = strict.parse(text, file)
    version = value.get("format_version") if isinstance(value, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise VoiceError(
            f"{file} is of format {version} and this Moksori reads up to {FORMAT_VERSION}; "
            "upgrade with: pip install --upgrade moksori"
        )
    for part, key, usual in UNTOLD:
        if isinstance(value, dict) and isinstance(value.get(part), dict):
            value[part].setdefault(key, usual)
    manifest = strict.build(Manifest, value, file, RULES)
    problem = next(_problems(manifest), None)
    if problem:
        raise VoiceError(f"{file}: {problem}")
    return manifest


def write(path: Path, manifest: Manifest) -> None:
    """Write ``manifest`` as JSON, atomically; refuses (VoiceError) what ``read`` would refuse."""
    value = strict.plain(manifest)
    strict.build(Manifest, value, path.name, RULES)
    problem = next(_problems(manifest), None)
    if problem:
        raise VoiceError(f"{path.name}: {problem}")
    files.write_json(path, value)


def graph_files(folder: Path) -> Mapping[str, GraphFile]:
    """The ``files`` entry of the five ``<role>.onnx`` in ``folder``."""
    paths = {role: folder / f"{role}.onnx" for role in ROLES}
    return MappingProxyType(
        {r: GraphFile(p.name, files.sha256(p), p.stat().st_size) for r, p in paths.items()}
    )


_FREQUENCY = Range(1, 20_000)
_FRAMES = Range(0, 100_000)
_NAME = Text(64, 1, r"[^\\/:,*?\"<>|\n]*[^\\/:,*?\"<>|\n. ]", 'a name without any of \\ / : , * ? " < > |,')
_PROSE = Text(10_000)

RULES: strict.Rules = {
    Manifest: {
        "format_version": OneOf((FORMAT_VERSION,)),
        "name": _NAME,
        "description": _PROSE,
        "precision": OneOf(("fp32", "fp16", "bf16", "w8", "int8")),
        "licence": _PROSE,
        "credits": _PROSE,
    },
    MelSpec: {
        "sample_rate": Range(8_000, 192_000),
        "hop": Range(1, 8_192),
        "n_fft": Range(16, 16_384),
        "win": Range(16, 16_384),
        "bins": Range(1, 512),
        "fmin": Range(0, 96_000),
        "fmax": Range(1, 96_000),
    },
    UnitSpec: {
        "dimension": Range(1, 4_096),
        "sample_rate": OneOf((16_000,)),
        "hop": OneOf((320,)),
        "context": Range(0, FAR),
        "lookahead": Range(0, FAR),
    },
    PitchSpec: {
        "kind": OneOf(pitch.TRACKERS),
        "fmin": _FREQUENCY,
        "fmax": _FREQUENCY,
        "threshold": Range(0, 1),
        "faint": Range(0, 1),
        "hop": Range(0.001, 0.1),
        "decoder": OneOf(tuple(crepe.DECODERS)),
        "median": Range(1, 99),
        "mean": Range(1, 99),
        "periods": Range(0, pitch.MOST_PERIODS),
    },
    Speaker: {
        "name": _NAME,
        "f0_low": _FREQUENCY,
        "f0_median": _FREQUENCY,
        "f0_high": _FREQUENCY,
        "loudness": Range(-120, 20),
        "licence": _PROSE,
        "credit": _PROSE,
    },
    DenoiserSpec: {
        "architecture": Text(64, 1),
        "prediction": OneOf(tuple(SAMPLERS)),
        "schedule": OneOf((LINEAR,)),
        "sampler": Text(64, 1),
        "steps": Range(1, 1_000),
        "noise_scale": Range(0, 2),
        "guidance": Range(0, samplers.STRONGEST),
        "context": _FRAMES,
        "mean": Range(-100, 100),
        "deviation": Range(1e-6, 100),
    },
    LinearBeta: {
        "kind": OneOf(("linear_beta",)),
        "timesteps": Range(1, 10_000),
        "first": Range(1e-8, 0.5),
        "last": Range(1e-8, 0.5),
    },
    VocoderSpec: {
        "kind": OneOf(vocoder.KINDS),
        "context": _FRAMES,
        "phase": Text(64),
    },
    GraphFile: {
        "path": Text(128, 1, r"[^\\/:\n]+", "a plain file name, without folders,"),
        "sha256": Text(64, 64, r"[0-9a-f]*", "a lower-case hexadecimal hash"),
        "bytes": Range(1, LARGEST_FILE),
    },
}


def _problems(m: Manifest) -> Iterator[str]:
    """Sentences about values that are fine alone and wrong together."""
    names = [speaker.name for speaker in m.speakers]
    if m.mel.hop > m.mel.n_fft or m.mel.n_fft % 2:
        yield f"mel.n_fft must be even and not below mel.hop {m.mel.hop}, not {m.mel.n_fft}"
    for key, values in (("mean", m.denoiser.mean), ("deviation", m.denoiser.deviation)):
        if len(values) != m.mel.bins:
            yield f"denoiser.{key} must hold one number for each of the {m.mel.bins} mel bins, not {len(values)}"
    if prediction(m.denoiser.schedule) != m.denoiser.prediction:
        yield f"denoiser.schedule is that of {prediction(m.denoiser.schedule)} models, not of {m.denoiser.prediction}"
    if m.denoiser.sampler not in SAMPLERS[m.denoiser.prediction]:
        fitting = " or ".join(SAMPLERS[m.denoiser.prediction])
        yield f"denoiser.sampler must be {fitting} for {m.denoiser.prediction} prediction, not {m.denoiser.sampler}"
    elif prediction(m.denoiser.schedule) == m.denoiser.prediction:
        try:
            samplers.plan(m.denoiser.schedule, m.denoiser.sampler, m.denoiser.steps, guidance=m.denoiser.guidance)
        except OptionError as error:
            yield f"denoiser.guidance: {error}"
    if m.pitch.fmin >= m.pitch.fmax:
        yield f"pitch.fmin {m.pitch.fmin:g} Hz must be below pitch.fmax {m.pitch.fmax:g} Hz"
    problem = m.pitch.options.problem
    if problem:
        yield f"pitch: {problem}"
    if not names or len({name.casefold() for name in names}) < len(names):
        yield f"speakers must be at least one, each with a name of its own, not {names}"
    for at, speaker in enumerate(m.speakers):
        if not speaker.f0_low <= speaker.f0_median <= speaker.f0_high:
            yield f"speakers[{at}] ({speaker.name}): f0_low, f0_median and f0_high must not fall"
    for role in m.precision.keys() - set(ROLES):
        yield f"unknown key 'precision.{role}'{strict.nearest(role, ROLES)}; the roles are {', '.join(ROLES)}"
    for role in m.files.keys() - set(ROLES):
        yield f"unknown key 'files.{role}'{strict.nearest(role, ROLES)}; the roles are {', '.join(ROLES)}"
    for role in ROLES:
        if role not in m.files:
            yield f"key 'files.{role}' is missing; a voice has the five graphs {', '.join(ROLES)}"
    for role, file in m.files.items():
        if re.fullmatch(r"\.+", file.path) or file.path.casefold() == FILE:
            yield f"files.{role}.path must be the name of a graph, not '{file.path}'"
    if len({file.path.casefold() for file in m.files.values()}) < len(m.files):
        yield "files must each have a path of their own"
    if sum(file.bytes for file in m.files.values()) > LARGEST_VOICE:
        yield f"the files add up to more than the {LARGEST_VOICE // 2**30} GiB a voice may have"
