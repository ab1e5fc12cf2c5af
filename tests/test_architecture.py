"""The house rules of CONTRIBUTING.md: who may import whom, what the runtime needs, how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINES = 300
# What each folder may import of ours, besides itself.
MAY_IMPORT = {
    "runtime": set(),
    "models": set(),
    "voices": set(),
    "train": {"runtime", "models"},
    "export": {"runtime", "models", "train"},
    "benchmarks": {"runtime", "models", "export", "train"},
}
RUNTIME_NEEDS = {"numpy", "onnxruntime", "soundfile", "soxr", "click", "rich", "platformdirs"}
# A module that serves an optional extra may import what that extra brings.
RUNTIME_EXTRAS = {
    "plot": {"matplotlib"},
    "backends": {"onnxruntime_ep_webgpu"},
    "video": {"av"},
    "sound": {"sounddevice"},
}
FORBIDDEN = ("torch", "transformers", "librosa", "scipy", "onnx", "matplotlib", "safetensors")

IMPORT_EVERYTHING = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {forbidden!r}:
            raise ImportError(f"the runtime imported {{name}}")

sys.meta_path.insert(0, Blocked())
for name in {modules!r}:
    importlib.import_module(name)
print(len({modules!r}), "modules")
"""


def sources(folder: str) -> list[Path]:
    """Return the folder's own modules; recipes below it are scripts that drive everything."""
    return sorted((ROOT / folder).glob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of each import: `from a import b` is `a.b`, a relative one keeps its dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def at_import(path: Path) -> Iterator[str]:
    """Modules that a module needs to be imported: not those behind TYPE_CHECKING, nor those in functions."""
    waiting = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_run_one_way(folder: str) -> None:
    allowed = [f"moksori.{name}" for name in {folder, *MAY_IMPORT[folder]}]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(folder)
        for line, name in imports(path)
        if name.startswith((".", "moksori"))
        and not any(name == one or name.startswith(one + ".") for one in allowed)
    ]
    assert wrong == []


def test_no_imports_go_in_a_circle() -> None:
    """Modules that need each other to be imported; imports for types alone, or inside a function, are none."""
    files = {f"moksori.{folder}.{path.stem}": path for folder in MAY_IMPORT for path in sources(folder)}
    needs = {name: {one for one in at_import(path) if one in files and one != name} for name, path in files.items()}
    while free := [name for name, others in needs.items() if not others]:
        for name in free:
            del needs[name]
        for others in needs.values():
            others.difference_update(free)
    assert sorted(needs) == []


def test_no_module_imports_a_folder_by_its_bare_name() -> None:
    """`import runtime` works from the root of a clone and nowhere else."""
    files = [path for folder in (*MAY_IMPORT, "tests") for path in (ROOT / folder).rglob("*.py")]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files
        for line, name in imports(path)
        if name.partition(".")[0] in MAY_IMPORT
    ]
    assert wrong == []


def test_runtime_names_only_its_few_dependencies() -> None:
    allowed = RUNTIME_NEEDS | {"moksori"} | set(sys.stdlib_module_names)
    wrong = [
        f"runtime/{path.name}:{line} imports {name}"
        for path in sources("runtime")
        for line, name in imports(path)
        if name.partition(".")[0] not in allowed | RUNTIME_EXTRAS.get(path.stem, set())
    ]
    assert wrong == []


def test_runtime_runs_without_training_packages(tmp_path: Path) -> None:
    """Every runtime module imports in a fresh interpreter where torch and its kind cannot be imported."""
    modules = [f"moksori.runtime.{path.stem}" for path in sources("runtime") if "__" not in path.stem]
    script = IMPORT_EVERYTHING.format(forbidden=FORBIDDEN, modules=modules)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == f"{len(modules)} modules\n"


def test_files_are_short() -> None:
    files = [path for folder in (*MAY_IMPORT, "tests", "docs") for path in (ROOT / folder).rglob("*.py")]
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {str(path): lines for path, lines in lengths.items() if lines > LINES} == {}
