"""What the documents say is so: their commands parse, their files, targets and extras exist."""

from __future__ import annotations

import importlib
import re
import shlex
from collections import Counter
from configparser import ConfigParser
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("*.md", "docs/**/*.md", "tests/data/*.md", "voices/demo/*.md", "train/recipes/**/*.md")
READMES = (ROOT / "README.md", ROOT / "README.ko.md")
DOCUMENTS = sorted(document for place in PLACES for document in ROOT.glob(place))
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)")
TARGET = re.compile(r"^([a-z-]+):.*## ", re.MULTILINE)
PATH = re.compile(r"[\w./-]+/[\w-]+\.\w+")
BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+(?= )", re.MULTILINE)
FIGURE = re.compile(r"(?<![A-Za-z0-9_.,-])\d+(?:[.,]\d+)*(?![A-Za-z0-9_])")
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
MODULE = re.compile(r"python -m moksori\.[\w.]+(?: .*)?")
ANCHOR = re.compile(r"\]\(([^)#\s:]*)#([^)\s]+)\)")
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


def modules() -> list[str]:
    """Return the commands that stand in the text as code; one with no arguments may be no more than a name."""
    return sorted({text for document in DOCUMENTS for text in quoted(document) if MODULE.fullmatch(text)})


def anchors(document: Path) -> set[str]:
    """Return what headings are called in links, as GitHub and mkdocs have it."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def shape(text: str) -> dict[str, object]:
    """Return of a README without its blocks what a translation keeps; figures and code may change their order."""
    tables: list[str] = TABLE.findall(text)
    names = {document.name for document in READMES}
    return {
        "sections": HEADING.findall(text),
        "bullets": len(re.findall(r"^- ", text, re.MULTILINE)),
        "rows": [table.count("\n") for table in tables],
        "figures of the tables": [[FIGURE.findall(row) for row in table.splitlines()] for table in tables],
        "figures": Counter(FIGURE.findall(text)),
        "code": Counter(CODE.findall(text)),
        "links": Counter(link for link in LINK.findall(text) if link not in names),
    }


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


@pytest.mark.parametrize("line", modules())
def test_modules_in_the_documents_parse(line: str) -> None:
    name, *arguments = shlex.split(line)[2:]
    run = importlib.import_module(name).main
    with click.Context(run, info_name=name) as context:
        _, rest, _ = run.make_parser(context).parse_args(arguments)
    assert rest == []


def test_the_readmes_are_equal() -> None:
    """What no language changes is the same in both: blocks, figures, code, links, sections and rows."""
    english, korean = (text.read_text(encoding="utf-8") for text in READMES)
    assert BLOCK.findall(english) == BLOCK.findall(korean)
    shapes = [shape(BLOCK.sub("", text)) for text in (english, korean)]
    for what in shapes[0]:
        assert shapes[0][what] == shapes[1][what], what


def test_the_readmes_link_to_each_other() -> None:
    for one, other in (READMES, READMES[::-1]):
        head = one.read_text(encoding="utf-8").split("\n## ")[0]
        assert f"]({other.name})" in head, one.name


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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_into_documents_lead_to_a_heading(document: Path) -> None:
    found = ANCHOR.findall(document.read_text(encoding="utf-8"))
    known = {file: anchors(document.parent / file if file else document) for file, _ in found}
    assert [(file, name) for file, name in found if name not in known[file]] == []


def test_every_page_is_in_the_list_of_what_to_read() -> None:
    """docs/reading.md names all of docs/, the studies by way of their own index; and each figure is on some page."""
    pages = sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "docs" / "study").glob("*.md"))
    reached = {ROOT / "docs" / "reading.md"}
    for index in (ROOT / "docs" / "reading.md", ROOT / "docs" / "study" / "index.md"):
        reached |= {(index.parent / link).resolve() for link in LINK.findall(index.read_text(encoding="utf-8"))}
    assert [page.name for page in pages if page not in reached] == []
    shown = {
        (page.parent / link).resolve() for page in DOCUMENTS for link in LINK.findall(page.read_text(encoding="utf-8"))
    }
    assert [figure.name for figure in (ROOT / "docs" / "figures").glob("*") if figure not in shown] == []


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
