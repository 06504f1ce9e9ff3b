"""The small projects that are built, and wheels of the backends that they require."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

BACKENDS = Path(__file__).with_name("backends.txt")

# Writes wheels and source distributions of a single module.
BACKEND = """\
import io, os, tarfile, zipfile

METADATA = "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n"
TAG = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
INFO = "{name}-1.0.dist-info"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.write("module.py")
        for path, text in [("METADATA", METADATA), ("WHEEL", TAG), ("RECORD", "")]:
            wheel.writestr(INFO + "/" + path, text)
    return name


def build_sdist(sdist_directory, config_settings=None):
    name = "{name}-1.0.tar.gz"
    with tarfile.open(os.path.join(sdist_directory, name), "w:gz") as archive:
        for path in sorted(os.listdir(".")):
            if path.endswith((".py", ".toml")):
                archive.add(path, "{name}-1.0/" + path)
        info = tarfile.TarInfo("{name}-1.0/PKG-INFO")
        info.size = len(METADATA)
        archive.addfile(info, io.BytesIO(METADATA.encode()))
    return name
"""
PREPARE = """

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    os.mkdir(os.path.join(metadata_directory, INFO))
    with open(os.path.join(metadata_directory, INFO, "METADATA"), "w") as file:
        file.write(METADATA)
    return INFO
"""
PROJECT = '[build-system]\nrequires = {requires}\nbuild-backend = "{backend}"\n'
FLIT = PROJECT.format(requires=["flit_core"], backend="flit_core.buildapi")
FLIT += '[project]\nname = "flat"\nversion = "1.0"\ndescription = "of flit"\n'
SETUPTOOLS = PROJECT.format(requires=["setuptools"], backend="setuptools.build_meta")
SETUPTOOLS += '[project]\nname = "tools"\nversion = "1.0"\n[tool.setuptools]\n'
SETUPTOOLS += 'packages = ["tools"]\n'

Files = dict[str, str]

TREES: dict[str, Files] = {
    # Has an in-tree backend.
    "own": {
        "pyproject.toml": PROJECT.format(requires=[], backend="own") + 'backend-path = ["."]\n',
        "own.py": BACKEND.format(name="own") + PREPARE,
        "module.py": "VALUE = 1\n",
    },
    # Has a backend from a wheel, which builds the wheel to get the metadata.
    "brought": {
        "pyproject.toml": PROJECT.format(requires=["brought-backend"], backend="brought_backend"),
        "module.py": "VALUE = 2\n",
    },
    "tools": {
        "pyproject.toml": SETUPTOOLS,
        **{f"tools/{name}.py": f"VALUE = {name!r}\n" for name in ("__init__", "one", "two")},
    },
    # Is built from an archive.
    "flat-1.0": {"pyproject.toml": FLIT, "flat.py": '"""Flat."""\nVALUE = 3\n'},
}


def fetch_wheels(folder: Path) -> None:
    """Download wheels of the real backends to this folder, if they are missing."""
    stamp, wanted = folder / "complete", BACKENDS.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*download, "--dest", str(folder), "--requirement", str(BACKENDS)], check=True)
    stamp.write_text(wanted)


def make_wheels(folder: Path, backends: Path) -> None:
    """The names of all required wheels."""
    shutil.copytree(backends, folder)
    info = "brought_backend-1.0.dist-info"
    members = {
        "brought_backend.py": BACKEND.format(name="brought"),
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: brought-backend\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*members, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / "brought_backend-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in members.items():
            wheel.writestr(name, text)


def lay(folder: Path) -> list[Path]:
    """Make fresh sources, without the files that a killed build has left in them."""
    shutil.rmtree(folder, ignore_errors=True)
    for tree, files in TREES.items():
        for name, text in files.items():
            path = folder / tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    archive = folder / "flat-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(folder / "flat-1.0", "flat-1.0")
    shutil.rmtree(folder / "flat-1.0")
    return sorted(folder.iterdir())


def contents(archive: Path) -> dict[str, bytes]:
    """The contents of a wheel or a source distribution."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(archive) as sdist:
        files = [member for member in sdist if member.isfile()]
        return {file.name: opened.read() for file in files if (opened := sdist.extractfile(file))}
