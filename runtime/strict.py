"""Strict JSON: text becomes frozen dataclasses only when every key is known, present, of the right type and in range.

A dataclass is its own schema: nested dataclasses, ``tuple[X, ...]``, ``Mapping[str, X]``, int, float, str and bool.
Defaults are not used in reading, so that a file says everything it means.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any, NoReturn, Protocol, TypeVar, get_args, get_origin, get_type_hints

from moksori.runtime.errors import VoiceError

T = TypeVar("T")


class Rule(Protocol):
    """What a single number or text must fulfil; ``str(rule)`` completes "must be …"."""

    def holds(self, value: Any) -> bool: ...


Rules = Mapping[
    type, Mapping[str, Rule]
]  # of a field, or of each item when the field is a tuple or a mapping


@dataclass(frozen=True)
class Range:
    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class OneOf:
    """One of ``options``; those of a table are what it holds when it is asked."""

    options: Collection[str | int]

    def holds(self, value: object) -> bool:
        return value in self.options

    def __str__(self) -> str:
        return " or ".join(repr(option) for option in self.options)


@dataclass(frozen=True)
class Text:
    """``shortest`` to ``longest`` characters, none of them a control character, all of it matching ``pattern``."""

    longest: int
    shortest: int = 0
    pattern: str = r".*"
    meaning: str = "plain text"

    def holds(self, value: str) -> bool:
        printable = all(char.isprintable() or char == "\n" for char in value)
        fits = self.shortest <= len(value) <= self.longest
        return printable and fits and re.fullmatch(self.pattern, value, re.DOTALL) is not None

    def __str__(self) -> str:
        return f"{self.meaning} of {self.shortest} to {self.longest} characters"


def parse(text: bytes, file: str) -> object:
    """JSON of ``file``; duplicate keys, NaN, infinities, bad UTF-8 and absurd nesting raise VoiceError."""

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(items)
        if len(found) < len(items):
            twice = next(key for at, (key, _) in enumerate(items) if key in dict(items[:at]))
            raise VoiceError(f"{file}: key '{printable(twice)}' is there twice; keep one")
        return found

    def constant(name: str) -> NoReturn:
        raise VoiceError(f"{file}: {name} is not a number a voice can hold; write a finite one")

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise VoiceError(f"{file} is not readable JSON ({error}); copy or export the voice again") from error


def build(kind: type[T], value: object, file: str, rules: Rules) -> T:
    """``value`` (parsed JSON) as a ``kind``.

    Raises:
        VoiceError: naming the file, the path of the key and what was expected there.
    """
    return _Reader(file, rules).record(kind, value, "")


def plain(value: object) -> object:
    """The JSON form of what ``build`` returns."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def printable(text: str) -> str:
    """``text`` without what would steer a terminal, for messages that quote a file."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the known name closest to ``name``, or nothing."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean '{close[0]}'?)" if close else ""


@dataclass(frozen=True)
class _Reader:
    file: str
    rules: Rules

    def record(self, kind: type[T], value: object, path: str) -> T:
        known = get_type_hints(kind)
        known = {field.name: known[field.name] for field in fields(kind)}  # type: ignore[arg-type]
        if not isinstance(value, dict):
            self.refuse(path or "the whole file", "an object", value)
        for key in value.keys() - known.keys():
            hint = nearest(key, known.keys() - value.keys()) or nearest(key, known)
            self.fail(f"unknown key '{_join(path, key)}'{hint}; remove or rename it")
        for key in known.keys() - value.keys():
            self.fail(f"key '{_join(path, key)}' is missing; it must be {_words(known[key])}")
        rules = self.rules.get(kind, {})
        items = {
            key: self.value(hint, value[key], _join(path, key), rules.get(key)) for key, hint in known.items()
        }
        try:
            return kind(**items)
        except ValueError as error:
            self.fail(f"{path}: {error}")

    def value(self, hint: Any, value: object, path: str, rule: Rule | None) -> object:
        if isinstance(hint, types.UnionType):  # of a dataclass and a scalar
            records = [kind for kind in get_args(hint) if is_dataclass(kind)]
            (hint,) = records if isinstance(value, dict) else (kind for kind in get_args(hint) if kind not in records)
        if is_dataclass(hint):
            return self.record(hint, value, path)  # type: ignore[arg-type]
        if get_origin(hint) is tuple:
            if not isinstance(value, list):
                self.refuse(path, _words(hint), value)
            return tuple(
                self.value(get_args(hint)[0], item, f"{path}[{at}]", rule) for at, item in enumerate(value)
            )
        if get_origin(hint) is Mapping:
            if not isinstance(value, dict):
                self.refuse(path, _words(hint), value)
            inside = get_args(hint)[1]
            return MappingProxyType(
                {k: self.value(inside, v, _join(path, k), rule) for k, v in value.items()}
            )
        return self.scalar(hint, value, path, rule)

    def scalar(self, hint: type, value: Any, path: str, rule: Rule | None) -> object:
        if hint is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        fits = type(value) is hint  # not isinstance: a bool is not a number here
        if not fits or (hint is float and not math.isfinite(value)):
            self.refuse(path, _words(hint) + (f", {rule}" if rule else ""), value)
        if rule is not None and not rule.holds(value):
            self.refuse(path, str(rule), value)
        return value

    def refuse(self, path: str, expected: str, value: object) -> NoReturn:
        shown = json.dumps(value, ensure_ascii=False, default=str)
        self.fail(f"{path} must be {expected}, not {shown if len(shown) <= 60 else shown[:57] + '...'}")

    def fail(self, sentence: str) -> NoReturn:
        raise VoiceError(f"{self.file}: {printable(sentence)}")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _words(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(_words(kind) for kind in get_args(hint))
    names = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false"}
    if hint in names:
        return names[hint]
    return "a list" if get_origin(hint) is tuple else "an object"
