"""The interpreters that are available to tests."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

# The supported versions.
PROMISED = [f"3.{minor}" for minor in range(7, 16)]

# The interpreters that `tests/run` makes, and their folder.
NEWEST = ["3.14", "3.15"]
MADE = Path(__file__).resolve().parents[1] / "target" / "pythons"


def interpreters() -> dict[str, Path]:
    """The interpreters by version: the newest of each minor version in pyenv, and those that
    were made for the tests; without any, the one that runs the tests.
    """
    found: dict[str, tuple[int, Path]] = {}
    for folder in _pyenv_versions():
        match = re.fullmatch(r"((?:pypy)?3\.(\d+))[.-].*?(\d+)", folder.name)
        if match is None or int(match[2]) < 7:
            continue
        patch = int(match[3])
        if match[1] not in found or found[match[1]][0] < patch:
            found[match[1]] = patch, folder / "bin" / "python"
    python = {version: path for version, (_, path) in found.items()}
    for version in NEWEST:
        path = MADE / version / "bin" / "python"
        if version not in python and path.exists():
            python[version] = path
    running = "{}.{}".format(*sys.version_info)
    python.setdefault(running, Path(sys.executable))
    return python


def _pyenv_versions() -> list[Path]:
    pyenv = shutil.which("pyenv")
    if pyenv is None:
        return []
    root = subprocess.run([pyenv, "root"], check=True, capture_output=True, text=True).stdout
    return list(Path(root.strip(), "versions").iterdir())
