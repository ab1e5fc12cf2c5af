"""Moksori on Windows' Python, as far as that goes without Windows: a wheel, CPython and DirectML's onnxruntime in Wine.

Needs Linux, root, and Debian's debootstrap, for Wine in a tree of its own (wine.py). Converts the demo clip under a
Korean path with an emoji and a cp949 console, compares it with Linux, and asks the package index whether the wheels of
each extra exist for Windows and fit together.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile

from moksori.benchmarks import record
from moksori.benchmarks.wine import PIP, Windows, run

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")
CLIP = ROOT / "tests" / "data" / "vocadito_10.flac"
NUMPY = "numpy<2.2"  # later ones call what Wine 10's C library lacks
VERSIONS = ("3.11", "3.12", "3.13")
RESOLVER = "uv>=0.9"
TOLD = {"onnxruntime", "onnxruntime-directml", "onnxruntime-ep-webgpu", "onnxruntime-gpu", "numpy", "torch"}
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
    uv = resolver(work)
    if wheels:
        report["wheels"] = {
            version: {extra: available(uv, version, extra) for extra in CONFIG["options.extras_require"]}
            for version in VERSIONS
        }
    windows = Windows(work, CODE_PAGE)
    windows.prepare()
    install(windows, uv)
    report |= converted(windows)
    record.write(out, report)
    click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    if not report["same"]:
        raise click.ClickException("the samples made on Windows differ from Linux's")
    if len(report["fallback"]) != 1:
        raise click.ClickException("svc-run does not say in one line that DirectML has no adapter")
    checked = [pair for one in report.get("wheels", {}).values() for pair in one.items()]
    if unfit := [extra for extra, found in checked if not found["fits"]]:
        raise click.ClickException(f"no wheels for Windows fit together for {', '.join(sorted(set(unfit)))}")


def resolver(work: Path) -> Path:
    """uv, which reads what wheels need without loading them, and takes markers from the system they are for."""
    python = work / "uv" / "bin" / "python"
    if not python.with_name("uv").exists():
        venv.create(work / "uv", with_pip=True)
        run([str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", RESOLVER])
    return python.with_name("uv")


def available(uv: Path, version: str, extra: str) -> Report:
    """How many wheels Windows would install for an extra, and which of the large ones; or why they do not fit."""
    command = [str(uv), "pip", "compile", "-", *target(version), "--no-header", "--no-annotate"]
    wanted = f"{CONFIG['options']['install_requires']}\n{CONFIG['options.extras_require'][extra]}"
    done = subprocess.run(command, input=wanted, capture_output=True, encoding="utf-8", timeout=300)
    if done.returncode:
        return {"fits": False, "why": " ".join(done.stderr.split())[:300]}
    pins = dict(line.split("==") for line in done.stdout.split() if "==" in line)
    return {"fits": True, "packages": len(pins), **{name: pins[name] for name in pins if name in TOLD}}


def install(windows: Windows, uv: Path) -> None:
    """The wheel of this tree with what its extra asks for on Windows."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "out", "tests", "__pycache__"))
        run([*PIP, "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", folder, str(source)])
        own = next(Path(folder).glob("moksori-*.whl"))
        wanted = [f"moksori[directml] @ {own.as_uri()}", NUMPY]
        run([str(uv), "pip", "install", "--target", str(windows.site), *target(windows.version), *wanted])


def target(version: str) -> list[str]:
    """What tells uv to choose wheels for Windows and one version of Python."""
    system = ["--python-platform", "x86_64-pc-windows-msvc", "--python-version", version]
    return [*system, "--only-binary", ":all:", "--no-python-downloads", "--quiet"]


def converted(windows: Windows) -> Report:
    """Convert the clip on both systems; what Windows said, and how far the samples are apart.

    Each sings what it heard itself. How far apart they are with one f0 curve, Linux's, is told beside it.
    """
    folder = windows.tree / "wine" / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(CLIP, folder / "바람이 분다.flac")
    words = ["--speaker", "heart", "--key", "auto", "--bits", "float", "--json"]
    began = time.perf_counter()
    svc_run = ["-m", "moksori.runtime.cli"]
    linux = [sys.executable, *svc_run, str(CLIP), *words, "--device", "cpu", "-o"]
    here = subprocess.run([*linux, str(folder / "linux.wav"), "--save-f0"], capture_output=True, text=True, check=True)
    linux_seconds, began = time.perf_counter() - began, time.perf_counter()
    clip, curve = windows.drive(folder / "바람이 분다.flac"), folder / "linux.f0.csv"
    there = windows.run(*svc_run, clip, "-o", windows.drive(folder / "결과 🎶"), *words)
    windows_seconds = time.perf_counter() - began
    sung = ["--f0", str(curve), "--key", "0"]
    subprocess.run([*linux, str(folder / "linux, one curve.wav"), *sung], capture_output=True, check=True)
    sung = ["--f0", windows.drive(curve), "--key", "0"]
    given = windows.run(*svc_run, clip, "-o", windows.drive(folder / "한 곡선 🎼.wav"), *words, *sung)
    shown = windows.run(*svc_run, clip, "-o", windows.drive(folder / "콘솔 🎤.wav"), "--device", "directml")
    for done in (there, given, shown):
        if done.returncode:
            raise click.ClickException(f"svc-run failed on Windows: {done.stderr[-2000:]}")
    entry = json.loads(there.stdout)["results"][0]
    made = next((folder / "결과 🎶").glob("*.wav"))
    apart, rms = _distance(folder / "linux.wav", made)
    curve_apart, _ = _distance(folder / "linux, one curve.wav", folder / "한 곡선 🎼.wav")
    console = shown.stdout.splitlines()
    return {
        "python": windows.run("-c", "import sys; print(sys.version)").stdout.strip(),
        "windows_onnxruntime": windows.run("-c", PROVIDERS).stdout.split(),
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
        "rms_difference": rms,
        "largest_difference_on_one_curve": curve_apart,
        "within": WITHIN,
        "same": apart <= WITHIN,
    }


PROVIDERS = "import onnxruntime as o; print(o.__version__, *o.get_available_providers())"


def _distance(mine: Path, theirs: Path) -> tuple[float, float]:
    """Largest and root mean square difference of two files' samples; infinite when their lengths differ."""
    left, right = (soundfile.read(path)[0] for path in (mine, theirs))
    if len(left) != len(right):
        return float("inf"), float("inf")
    return float(np.abs(left - right).max()), float(np.sqrt(np.square(left - right).mean()))


if __name__ == "__main__":
    main()
