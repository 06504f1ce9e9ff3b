"""A run of `hookpool metadata`, `wheel`, `sdist` or `editable`, and small trees for them."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import Setting
from pool import PROGRAM

# The fields of a result, in their order. Every result has all of them.
FIELDS = [
    "source",
    "ok",
    "name",
    "version",
    "requires_python",
    "requires_dist",
    "provides_extra",
    "metadata",
    "origin",
    "not_static",
    "extensions",
    "fallback",
    "file",
    "kept_wheel",
    "sdist_unsupported",
    "warnings",
    "error",
    "log",
    "stdout",
    "stderr",
    "environment",
    "hooks",
    "total_ms",
]

# A backend whose hooks run the code in a variable of its settings, or else do their work.
BACKEND = """\
import os, io, sys, tarfile, zipfile

NAME, VERSION = {name!r}, "1.0"
METADATA = "Metadata-Version: 2.1\\nName: " + NAME + "\\nVersion: " + VERSION + "\\n"


class UnsupportedOperation(Exception):
    pass


def _do(hook, settings):
    code = (settings or {{}}).get(hook)
    if code:
        exec(code, {{"__name__": "code", "UnsupportedOperation": UnsupportedOperation}})


def _wheel(folder):
    info = NAME + "-" + VERSION + ".dist-info"
    name = NAME + "-" + VERSION + "-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path in ("module.py", "extra.txt"):
            if os.path.exists(path):
                wheel.write(path, path)
        tag = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        for path, text in [("METADATA", METADATA), ("WHEEL", tag), ("RECORD", "")]:
            wheel.writestr(zipfile.ZipInfo(info + "/" + path), text)
    return name


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _do("build_wheel", config_settings)
    return _wheel(wheel_directory)


def build_sdist(sdist_directory, config_settings=None):
    _do("build_sdist", config_settings)
    base = NAME + "-" + VERSION
    with tarfile.open(os.path.join(sdist_directory, base + ".tar.gz"), "w:gz") as archive:
        for path in ("pyproject.toml", "own_backend.py", "module.py"):
            archive.add(path, base + "/" + path)
        info = tarfile.TarInfo(base + "/PKG-INFO")
        info.size, info.mtime = len(METADATA), 10**9
        archive.addfile(info, io.BytesIO(METADATA.encode()))
    return base + ".tar.gz"
"""

PREPARE = """

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    _do("prepare", config_settings)
    folder = os.path.join(metadata_directory, NAME + "-" + VERSION + ".dist-info")
    os.mkdir(folder)
    with open(os.path.join(folder, "METADATA"), "w") as file:
        file.write(METADATA)
    return os.path.basename(folder)
"""

EDITABLE = """

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return _wheel(wheel_directory)
"""

REQUIRES = """

def get_requires_for_build_wheel(config_settings=None):
    _do("get_requires", config_settings)
    return {requires!r}
"""


def make_project(
    folder: Path,
    more: str = PREPARE,
    name: str = "sample",
    requires: list[str] | None = None,
    additional: list[str] | None = None,
) -> Path:
    """A source tree with an in-tree backend."""
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        f"[build-system]\nrequires = {json.dumps(requires or [])}\n"
        'build-backend = "own_backend"\nbackend-path = ["."]\n'
    )
    backend = BACKEND.format(name=name) + more
    if additional is not None:
        backend += REQUIRES.format(requires=additional)
    (folder / "own_backend.py").write_text(backend)
    (folder / "module.py").write_text("VALUE = 1\n")
    return folder


@dataclass
class Built:
    """The outcome of a run."""

    code: int
    stdout: str
    stderr: str

    @property
    def results(self) -> list[dict[str, Any]]:
        """The lines of `--format json`; each is checked for completeness."""
        found = [json.loads(line) for line in self.stdout.splitlines()]
        for result in found:
            assert list(result) == FIELDS
        return found

    @property
    def result(self) -> dict[str, Any]:
        """The only result."""
        (result,) = self.results
        return result


def arguments(
    setting: Setting,
    *words: object,
    isolated: bool = True,
    jobs: int = 2,
    python: Path | str = sys.executable,
) -> list[str]:
    """The command line."""
    if setting.builds_by_service:
        pool = ["--service", str(setting.service_with(jobs).socket)]
    else:
        pool = ["--jobs", str(jobs)]
    command = [PROGRAM, *map(str, words), "--python", str(python), *pool]
    return command if isolated else [*command, "--no-build-isolation"]


def build(
    setting: Setting,
    *words: object,
    isolated: bool = True,
    jobs: int = 2,
    env: dict[str, str] | None = None,
    stdin: str = "",
    cwd: Path | None = None,
    python: Path | str = sys.executable,
) -> Built:
    """Run a command to its end."""
    run = subprocess.run(
        arguments(setting, *words, isolated=isolated, jobs=jobs, python=python),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        env={**setting.env, **(env or {})},
        cwd=cwd,
        check=False,
    )
    return Built(run.returncode, run.stdout, run.stderr)


def names(wheel: Path) -> list[str]:
    """The names of a wheel's members."""
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def unpack_to(archive: Path, folder: Path) -> Path:
    """The tree in a source distribution."""
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    return tree
