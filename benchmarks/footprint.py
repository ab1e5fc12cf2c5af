"""How much disk the light runtime takes: the wheel, and each package that it brings into an empty environment."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import click

from moksori.benchmarks import record
from moksori.runtime.command import Command
from moksori.runtime.errors import OptionError

ROOT = Path(__file__).resolve().parent.parent
WHY = {
    "moksori": "the demo voice, and the code",
    "onnxruntime": "runs the graphs",
    "numpy": "arrays; 28 MB of it are OpenBLAS and Fortran's library",
    "soundfile": "reads and writes audio files; holds libsndfile",
    "soxr": "resamples block by block; holds libsoxr",
    "click": "command lines",
    "rich": "progress bars",
    "platformdirs": "where a system keeps a user's voices and caches",
    "pygments": "asked for by rich",
    "markdown-it-py": "asked for by rich",
    "mdurl": "asked for by rich",
    "cffi": "asked for by soundfile: calls libsndfile",
    "pycparser": "asked for by cffi",
    "protobuf": "asked for by onnxruntime",
    "flatbuffers": "asked for by onnxruntime",
    "packaging": "asked for by onnxruntime",
    "typing_extensions": "asked for by soundfile",
}
# Run by the environment's own Python: every file that a package has put there, in bytes.
LIST = """
import json, os
from importlib import metadata
found = []
for one in metadata.distributions():
    files = [one.locate_file(file) for file in one.files or ()]
    size = sum(os.path.getsize(file) for file in files if os.path.isfile(file))
    found.append((one.metadata["Name"], one.version, size))
print(json.dumps(found))
"""

EXAMPLES = """\b
Example:
  python -m moksori.benchmarks.footprint
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.option("--extra", default="cpu", show_default=True, help="Of the installation.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: in benchmarks/results]")
def main(extra: str, path: Path | None) -> None:
    """Build the wheel from this checkout, install it in an empty environment and list what that takes."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", place, copied(place / "source"))
        (wheel,) = place.glob("*.whl")
        results = {"extra": extra, "wheel_mb": wheel.stat().st_size / 1e6, **installed(wheel, extra, place / "venv")}
    for one in results["packages"]:
        click.echo(f"{one['name']:<20}{one['version']:>12}{one['mb']:>8.1f} MB  {one['why']}")
    click.echo(f"{'all':<32}{results['all_mb']:>8.1f} MB; the wheel {results['wheel_mb']:.1f} MB")
    path = path or record.RESULTS / "footprint.json"
    record.write(path, results)
    click.echo(f"written to {path}")


def copied(target: Path) -> Path:
    """What the wheel is made of, without what earlier builds left behind."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    for package in config["options"]["packages"].split():
        folder = package.removeprefix("moksori.")
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    return target


def installed(wheel: Path, extra: str, environment: Path) -> dict[str, Any]:
    """MB of each package, largest first, in a new ``environment`` with the wheel; pip and setuptools apart."""
    _run(sys.executable, "-m", "venv", environment)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    _run(python, "-m", "pip", "install", "--constraint", ROOT / "constraints.txt", f"{wheel}[{extra}]")
    return tally(json.loads(_run(python, "-I", "-c", LIST)))  # -I: what lies in this folder is not installed


def tally(found: list[tuple[str, str, int]]) -> dict[str, Any]:
    """(name, version, bytes) of every package, as the results have it."""
    rows = [
        {"name": name, "version": version, "mb": size / 1e6, "why": WHY.get(name.lower(), WHY.get(name, ""))}
        for name, version, size in sorted(found, key=lambda one: -one[2])
    ]
    ours = [row for row in rows if row["name"] not in ("pip", "setuptools")]
    sizes: dict[str, float] = {name: size / 1e6 for name, _, size in found}
    return {"packages": ours, "all_mb": sum(row["mb"] for row in ours), "pip_mb": sizes.get("pip", 0.0)}


def _run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise OptionError(f"{' '.join(map(str, command[1:4]))} failed: {words}")
    return done.stdout


if __name__ == "__main__":
    main()
