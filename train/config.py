"""Configs: frozen dataclasses with defaults; a YAML file holds only what differs, and unknown keys are refused."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from moksori.runtime.errors import OptionError
from moksori.runtime.files import atomic_path

T = TypeVar("T")
LONGEST = 60  # letters of a value in a message


def load(path: Path, defaults: T) -> T:
    """``defaults`` with the values of a YAML file laid over it."""
    return overlay(defaults, read(path), str(path))


def read(path: Path) -> Any:
    """What a YAML file says; an empty one says {}."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise OptionError(f"{path} cannot be read as YAML: {error}") from None


def overlay(defaults: T, given: Any, place: str) -> T:
    """A copy of a (nested) dataclass with some fields replaced.

    Raises:
        OptionError: an unknown key (with the nearest known one) or a value of another type.
    """
    if not isinstance(given, dict):
        raise OptionError(f"{place} must be a mapping of names to values, not {type(given).__name__}")
    assert dataclasses.is_dataclass(defaults) and not isinstance(defaults, type)
    known = typing.get_type_hints(type(defaults))
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            raise OptionError(f"{place} has an unknown key '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        current = getattr(defaults, name)
        if dataclasses.is_dataclass(current):
            changes[name] = overlay(current, value, f"{place}: {name}")
        else:
            changes[name] = _converted(value, known[name], f"{place}: {name}")
    try:
        return dataclasses.replace(defaults, **changes)
    except OptionError as error:
        raise OptionError(f"{place}: {error}") from None


def save(path: Path, config: Any) -> None:
    """Write a resolved config beside the checkpoints it belongs to."""
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True), encoding="utf-8")


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], place: str = "") -> list[str]:
    """What ``wanted`` says that ``found`` does not, one phrase each, such as "hop 240, not 512"."""
    phrases = []
    for name, value in wanted.items():
        other = found.get(name)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            phrases += differences(other, value, f"{place}{name} ")
        elif other != value:
            phrases.append(f"{place}{name} {_short(other)}, not {_short(value)}")
    return phrases


def plain(config: Any) -> Any:
    """Nested dataclasses as dicts and lists."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {key: plain(value) for key, value in config.items()}
    return [plain(value) for value in config] if isinstance(config, (tuple, list)) else config


def _short(value: Any) -> str:
    """A value in few letters: a list without its brackets, a hash by its beginning."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return "nothing" if value is None else text if len(text) <= LONGEST else text[:12] + "…"


def _converted(value: Any, kind: Any, place: str) -> Any:
    origin = typing.get_origin(kind) or kind
    if origin in (typing.Union, types.UnionType):
        kinds = [k for k in typing.get_args(kind) if k is not type(None)]
        return None if value is None else _converted(value, kinds[0], place)
    if origin is tuple and isinstance(value, list):
        return tuple(value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, origin) or (origin is int and isinstance(value, bool)):
        raise OptionError(f"{place} must be of type {getattr(origin, '__name__', origin)}, not {value!r}")
    return value
