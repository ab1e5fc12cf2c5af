"""The manual and the API as web pages: mkdocs builds them without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
ROOT = Path(__file__).resolve().parent.parent
API = {
    "runtime": ("Voice.load", "Converter.convert", "Options.speaker", "Stream.push"),
    "train": ("run", "Task.losses", "DenoiserConfig.frames"),
    "export": ("export_voice", "GraphSpec.draw"),
}


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as `make docs` sees it, so that its output lies elsewhere."""
    folder = tmp_path_factory.mktemp("site")
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "build":
            (folder / entry.name).symlink_to(entry)
    (folder / "build" / "types" / "moksori").mkdir(parents=True)
    for package in ("runtime", "train", "export", "models"):
        (folder / "build" / "types" / "moksori" / package).symlink_to(ROOT / package)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder / "build" / "docs"


def test_it_holds_the_readme_the_pages_and_the_api(site: Path) -> None:
    assert "Hear it" in (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        place = page.relative_to(ROOT / "docs").with_suffix("")
        assert (site / (place.parent if place.name == "index" else place) / "index.html").is_file()
    for package, names in API.items():
        text = (site / "api" / package / "index.html").read_text(encoding="utf-8")
        told = set(re.findall(r'id="moksori\.[a-z_]+\.[a-z_]+\.([\w.]+)"', text))
        assert set(names) <= told, package


def test_its_links_lead_somewhere(site: Path) -> None:
    for page in (site / "index.html", site / "README.ko" / "index.html", site / "CONTRIBUTING" / "index.html"):
        links = Links()
        links.feed(page.read_text(encoding="utf-8"))
        near = [link.split("#")[0] for link in links.found if "://" not in link and not link.startswith("#")]
        assert near and [link for link in near if not (page.parent / link).exists()] == []
