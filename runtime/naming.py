"""Names of output files: templates such as ``{stem}_{voice}_{key:+d}``, safe on every system."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import soundfile

from moksori.runtime.audio import FORMATS
from moksori.runtime.errors import OptionError

TEMPLATE = "{stem}_{voice}_{key:+d}"
DEFAULT_FORMAT = "wav"
LONGEST_NAME = 200  # bytes of UTF-8; file systems take 255
# Besides what libsndfile names: suffixes by which people mean a file, not a folder.
OTHER_SUFFIXES = {"aac", "aif", "m4a", "mp4", "oga", "wave", "webm", "wma"}

_NUMBER = re.compile(r"\+?0?\d?(d|g|(\.\d)?f)?")
_TEXT = re.compile(r"(\.\d{1,2})?")
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Style:
    """What a template can name besides the input's {stem}. ``key`` in semitones, or a word for it."""

    voice: str
    speaker: str
    key: float | str
    steps: int


FIELDS = ("stem", *(field.name for field in fields(Style)))


@dataclass(frozen=True)
class Naming:
    """Where results go: a folder (None: beside the input) or one file. ``naming`` makes and checks it."""

    folder: Path | None
    file: Path | None
    template: str
    format: str

    def target(self, source: Path, style: Style, inside: Path = Path()) -> Path:
        """``inside`` is where below a folder of inputs the source lies, and the result will."""
        if self.file is not None:
            return self.file
        name = fill(self.template, source.stem, style)
        return (source.parent if self.folder is None else self.folder / inside) / f"{name}.{self.format}"


def naming(out: Path | None, template: str | None, format: str | None, inputs: int) -> Naming:
    """Settle what -o, --name and --format mean together.

    Raises:
        OptionError: they contradict each other, or one of them cannot be used.
    """
    if out is not None and _is_file(out):
        return _one_file(out, template, format, inputs)
    if out is not None and out.exists() and not out.is_dir():
        raise OptionError(f"{out} is a file: name a folder, or a file that ends in {_known()}")
    pattern, suffix = _split(TEMPLATE if template is None else template)
    check(pattern)
    return Naming(out, None, pattern, _agreed(format, suffix, f"--name {template}") or DEFAULT_FORMAT)


def beside(source: Path, style: Style) -> Path:
    """Where a result lies when nothing is said about it."""
    return naming(None, None, None, 1).target(source, style)


def fill(template: str, stem: str, style: Style) -> str:
    """The name without suffix, made safe. Raises OptionError when nothing is left of it."""
    values = {"stem": stem, **asdict(style)}
    parts = []
    for literal, field, spec, _ in string.Formatter().parse(template):
        parts.append(literal)
        if field is not None:
            parts.append(_formatted(values[field], spec or ""))
    name = safe("".join(parts))
    if not name:
        raise OptionError(f"the name made from {template!r} is empty: name at least {{stem}}")
    return name


def check(template: str) -> None:
    """Refuse, with an OptionError, a template that is more than text and the plain FIELDS."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise OptionError(f"--name {template!r} cannot be read: {error}") from error
    for literal, field, spec, conversion in parts:
        if "/" in literal or "\\" in literal:
            raise OptionError(f"--name {template!r} is a path: give the folder by -o, and a name only here")
        if field is None:
            continue
        if field not in FIELDS:
            known = _listed(f"{{{name}}}" for name in FIELDS)
            raise OptionError(f"--name knows no field {{{field}}}: use {known}")
        allowed = _NUMBER if field in ("key", "steps") else _TEXT
        if conversion or not allowed.fullmatch(spec or ""):
            raise OptionError(f"--name cannot write {field} as {spec or conversion}: write {{{field}}}")


def safe(name: str) -> str:
    """A file name without suffix that Windows, macOS and Linux all take; may be empty."""
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", name))
    name = name.encode("utf-8", "surrogateescape")[:LONGEST_NAME].decode("utf-8", "ignore")
    name = name.strip(" ").rstrip(". ")
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def _one_file(out: Path, template: str | None, format: str | None, inputs: int) -> Naming:
    suffix = out.suffix[1:].lower()
    if suffix not in FORMATS:
        raise OptionError(f"{out}: {suffix} cannot be written: end the name in {_known()}")
    if inputs > 1:
        raise OptionError(f"{out} is one file for {inputs} inputs: name a folder")
    if template is not None:
        raise OptionError(f"-o {out} already names the file: leave out --name, or name a folder")
    return Naming(None, out, TEMPLATE, _agreed(format, suffix, f"-o {out}") or suffix)


def _agreed(format: str | None, suffix: str | None, what: str) -> str | None:
    if format and suffix and format != suffix:
        raise OptionError(f"{what} says {suffix} and --format says {format}: leave one out")
    return format or suffix


def _is_file(out: Path) -> bool:
    written = OTHER_SUFFIXES | {name.lower() for name in soundfile.available_formats()} | FORMATS.keys()
    return not out.is_dir() and out.suffix[1:].lower() in written


def _split(template: str) -> tuple[str, str | None]:
    stem, dot, suffix = template.rpartition(".")
    return (stem, suffix.lower()) if dot and suffix.lower() in FORMATS else (template, None)


def _formatted(value: str | float, spec: str) -> str:
    if isinstance(value, str):  # a key that is a word has no digits for a number's format
        return format(value, spec if _TEXT.fullmatch(spec) else "")
    if value == int(value) and not spec.endswith("f"):
        return format(int(value), spec)
    return format(value, spec.replace("d", "g"))


def _known() -> str:
    return _listed((f".{name}" for name in FORMATS), "or")


def _listed(names: Iterable[str], word: str = "and") -> str:
    *first, last = names
    return f"{', '.join(first)} {word} {last}"
