"""What the documents say is so: their commands parse, their files, targets and extras exist."""

from __future__ import annotations

import importlib
import re
import shlex
from configparser import ConfigParser
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("*.md", "docs/**/*.md", "tests/data/*.md", "voices/demo/*.md", "train/recipes/**/*.md")
DOCUMENTS = sorted(document for place in PLACES for document in ROOT.glob(place))
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)")
TARGET = re.compile(r"^([a-z-]+):.*## ", re.MULTILINE)
PATH = re.compile(r"[\w./-]+/[\w-]+\.\w+")
FOLDERS = ("runtime", "train", "export", "models", "voices", "benchmarks", "tests", "docs", ".ci")


def settings() -> ConfigParser:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def entry_points() -> dict[str, str]:
    lines = settings()["options.entry_points"]["console_scripts"].strip().splitlines()
    return {name.strip(): target.strip() for name, target in (line.split("=") for line in lines)}


def command(name: str) -> click.Command:
    module, attribute = entry_points()[name].split(":")
    found = getattr(importlib.import_module(module), attribute)
    assert isinstance(found, click.Command)
    return found


def fenced_lines(document: Path) -> list[str]:
    """Return the shell lines of a document's fenced blocks, backslash continuations joined."""
    blocks = FENCE.findall(document.read_text(encoding="utf-8").replace("\\\n", " "))
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def quoted(document: Path) -> list[str]:
    """Return what stands between backquotes outside the fenced blocks."""
    found: list[str] = CODE.findall(FENCE.sub("", document.read_text(encoding="utf-8")))
    return found


def command_lines() -> list[str]:
    lines = [line for document in DOCUMENTS for line in fenced_lines(document)]
    return sorted({line for line in lines if line.split()[0] in entry_points()})


def parse(words: list[str]) -> None:
    """Parse one command line as click would, but let the files it names be absent."""
    current, arguments = command(words[0]), words[1:]
    context = click.Context(current, info_name=words[0])
    while isinstance(current, click.Group):
        _, chosen, arguments = current.resolve_command(context, arguments)
        assert chosen, f"{words[0]} has no command {arguments[:1]}"
        context = click.Context(chosen, info_name=chosen.name, parent=context)
        current = chosen
    values, rest, _ = current.make_parser(context).parse_args(list(arguments))
    assert rest == []
    for parameter in current.params:
        given = values.get(parameter.name or "")
        if isinstance(parameter, click.Argument) and parameter.required:
            assert given, f"{' '.join(words)} lacks {parameter.human_readable_name}"
        if given and not isinstance(parameter.type, click.Path | click.File):
            parameter.type_cast_value(context, given)


@pytest.mark.parametrize("line", command_lines())
def test_command_lines_parse(line: str) -> None:
    parse(shlex.split(line, comments=True))


def test_the_readme_shows_every_command() -> None:
    shown = {line.split()[0] for line in fenced_lines(ROOT / "README.md")}
    assert set(entry_points()) <= shown


@pytest.mark.parametrize("name", entry_points())
def test_help_shows_an_example(name: str) -> None:
    done = CliRunner().invoke(command(name), ["--help"], prog_name=name)
    assert done.exit_code == 0, done.output
    usage, _, rest = done.output.partition(name)
    assert usage.strip() == "Usage:"
    assert name in rest, "no example in the help text"


def test_make_targets_in_the_documents_exist() -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    for document in DOCUMENTS:
        lines = [line.split("#")[0].split() for line in [*fenced_lines(document), *quoted(document)]]
        named = {word for words in lines if words[:1] == ["make"] for word in words[1:] if "=" not in word}
        assert named <= targets, document.name


def test_what_the_makefile_runs_exists() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    scripts = re.findall(r"python ([\w./-]+\.py)", text)
    modules = [name.replace(".", "/") + ".py" for name in re.findall(r"-m moksori\.([\w.]+)", text)]
    assert [file for file in [*scripts, *modules] if not (ROOT / file).is_file()] == []


def test_extras_in_the_documents_exist() -> None:
    extras = set(settings()["options.extras_require"])
    for document in DOCUMENTS:
        named = re.findall(r'"\.\[([a-z,]+)\]"', document.read_text(encoding="utf-8"))
        assert {extra for group in named for extra in group.split(",")} <= extras, document.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_in_the_documents_exist(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    # A folder of ours and a name with an ending: `runtime/mel.py`, not `voices/me`.
    files = [text for text in quoted(document) if PATH.fullmatch(text) and text.split("/")[0] in FOLDERS]
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_the_map_of_the_code_is_right() -> None:
    """In CONTRIBUTING.md each column names a folder in its head and files of that folder below."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head = next(row for row in rows if row[0].strip() == "role")
    folders = [cell.split("/")[0].strip() for cell in head]
    table = [row for row in rows if len(row) == len(head)]
    files = [f"{folder}/{name}" for row in table for folder, cell in zip(folders, row, strict=True)
             for name in CODE.findall(cell)]
    assert len(files) > 10
    assert [file for file in files if not (ROOT / file).is_file()] == []
