"""Environments whose packages a test creates, changes and removes."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

from trap_trees import Files, write

WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class Environment:
    """A virtual environment without pip; the pip of the test environment installs into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = str(folder / "bin" / "python")
        variables = {"base": str(folder), "platbase": str(folder)}
        self.site = Path(sysconfig.get_path("purelib", vars=variables))

    def install(self, *wheels: Path) -> None:
        """Install or upgrade."""
        self._pip("install", "--no-deps", "--no-index", *map(str, wheels))

    def uninstall(self, name: str) -> None:
        """Remove a distribution."""
        self._pip("uninstall", "--yes", name)

    def write(self, files: Files) -> None:
        """Write files into the package folder, without a package manager."""
        write(self.site, files)

    def _pip(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "pip", "--python", self.python, "--quiet", *arguments]
        subprocess.run(command, check=True)


def make_wheel(folder: Path, name: str, version: str, files: Files) -> Path:
    """A wheel with these files."""
    info = f"{name}-{version}.dist-info"
    members = dict(files)
    members[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    members[f"{info}/WHEEL"] = WHEEL
    # Hashes and sizes are optional.
    names = [*members, f"{info}/RECORD"]
    members[f"{info}/RECORD"] = "".join(f"{member},,\n" for member in names)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in members.items():
            wheel.writestr(member, text)
    return path
