"""What mkdocs does not find in docs/: README and other pages of the repository, and links from one to another.

A hook of mkdocs.yml. Links to code lead nowhere outside a clone, so they become plain text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {
    "index.md": "README.md",
    "README.ko.md": "README.ko.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "voices/demo/MODEL_CARD.md": "voices/demo/MODEL_CARD.md",
    "tests/data/CREDITS.md": "tests/data/CREDITS.md",
}  # page -> file
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page, file in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Every link to a page of this site as that page's own place has it; any other as its words."""
    place = page.file.src_uri
    source = ELSEWHERE.get(place, f"docs/{place}")
    pages = {file: name for name, file in ELSEWHERE.items()}

    def moved(link: re.Match[str]) -> str:
        picture, words, target, anchor = link.groups(default="")
        file = os.path.normpath(str(PurePosixPath(source).parent / target))
        name = pages.get(file, file.removeprefix("docs/"))
        if files.get_file_from_path(name) is None or (name == file and file not in pages):
            return words
        return f"{picture}[{words}]({os.path.relpath(name, PurePosixPath(place).parent)}{anchor})"

    return LINK.sub(moved, markdown)
