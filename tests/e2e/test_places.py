"""Stable places: what was compiled of an archive is not compiled again."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from answers import make_archive, trap_files
from builds import arguments, build
from conftest import Setting
from gate import Gate
from pool import PROGRAM

C_MODULE = """\
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "trap", 0, -1, 0};
PyMODINIT_FUNC PyInit_trap(void) { return PyModule_Create(&module); }
"""
CMAKE = """\
cmake_minimum_required(VERSION 3.20)
project(trap LANGUAGES C)
find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)
python_add_library(trap MODULE trap.c WITH_SOABI)
install(TARGETS trap DESTINATION .)
"""
MESON = """\
project('trap', 'c', version: '1.0')
import('python').find_installation(pure: false).extension_module('trap', 'trap.c', install: true)
"""
PROJECT = """\
[build-system]
requires = {requires}
build-backend = "{backend}"
[project]
name = "trap"
version = "1.0"
"""
SCIKIT = (
    '["scikit-build-core==0.11.6", "cmake==4.1.2", "ninja==1.13.0"]',
    "scikit_build_core.build",
)
MESONPY = ('["meson-python==0.18.0", "meson==1.9.1", "ninja==1.13.0"]', "mesonpy")
PROJECTS = {
    "scikit-build-core": {
        "pyproject.toml": PROJECT.format(requires=SCIKIT[0], backend=SCIKIT[1]),
        "CMakeLists.txt": CMAKE,
        "trap.c": C_MODULE,
    },
    "meson-python": {
        "pyproject.toml": PROJECT.format(requires=MESONPY[0], backend=MESONPY[1]),
        "meson.build": MESON,
        "trap.c": C_MODULE,
    },
}
SETTING = ["-C", "build-dir=build"]


def objects(cache: Path) -> dict[Path, int]:
    """The object files, and when they were compiled."""
    return {path: path.stat().st_mtime_ns for path in (cache / "sources").rglob("*.o")}


def cache_command(setting: Setting, *words: str) -> str:
    return subprocess.check_output([PROGRAM, "cache", *words], text=True, env=setting.env)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("backend", PROJECTS)
def test_the_second_build_compiles_nothing(
    setting: Setting, tmp_path: Path, own_cache: Path, backend: str
) -> None:
    archive = make_archive(tmp_path / "trap.tar.gz", PROJECTS[backend])
    found = []
    for number in range(2):
        built = build(setting, "wheel", archive, "-o", tmp_path / str(number), *SETTING)
        assert built.code == 0, built.stderr
        found.append(objects(own_cache))
    because = "build_wheel: not kept: the source was built before in the same folder"
    assert because in cache_command(setting, "why", str(archive))
    assert len(found[0]) == 1
    assert found[0] == found[1]
    # Two at once: each has a place, and only one of them is that with the objects.
    command = arguments(setting, "wheel", archive, *SETTING)
    both = [
        subprocess.Popen([*command, "-o", str(tmp_path / name)], env=setting.env)
        for name in ("two", "three")
    ]
    assert [process.wait(120) for process in both] == [0, 0]
    assert found[0].items() <= objects(own_cache).items()
    # Another archive of the same name is another source.
    files = {**PROJECTS[backend], "trap.c": C_MODULE + "/* new */\n"}
    make_archive(archive, files)
    built = build(setting, "wheel", archive, "-o", tmp_path / "new", *SETTING)
    assert built.code == 0, built.stderr
    assert len(objects(own_cache)) > 1
    assert "unpacked source" in cache_command(setting, "prune", "--older-than", "0s")
    assert objects(own_cache) == {}
    assert list((own_cache / "sources").iterdir()) == []


VALUE_MODULE = C_MODULE.replace(
    "return PyModule_Create(&module);",
    'PyObject *m = PyModule_Create(&module); PyModule_AddIntConstant(m, "VALUE", VALUE); return m;',
)
EXTENSION = """\
from setuptools import Extension, setup

setup(name="trap", version="1.0", ext_modules=[Extension("trap", ["trap.c"])])
"""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("backend", ["setuptools", *PROJECTS])
def test_other_flags_make_another_wheel(
    setting: Setting, tmp_path: Path, own_cache: Path, backend: str
) -> None:
    """No build tool notices that a variable has changed."""
    if backend == "setuptools":
        files, flags = {**trap_files("1.0"), "setup.py": EXTENSION}, []
    else:
        files, flags = PROJECTS[backend], SETTING
    archive = make_archive(tmp_path / "trap.tar.gz", {**files, "trap.c": VALUE_MODULE})
    for value in ("1", "2"):
        out = tmp_path / value
        env = {"CFLAGS": f"-DVALUE={value}"}
        built = build(setting, "wheel", archive, "-o", out, *flags, env=env)
        assert built.code == 0, built.stderr
        (wheel,) = out.glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(out)
        code = [sys.executable, "-c", "import trap; print(trap.VALUE)"]
        assert subprocess.check_output(code, cwd=out, text=True).strip() == value


WAITING = """\
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    open("left", "w").close()
    exec({code!r})
"""


def test_a_killed_run_leaves_nothing_after_the_next(
    setting: Setting, tmp_path: Path, own_cache: Path, gate: Gate
) -> None:
    project = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
    files = {"pyproject.toml": project, "own.py": WAITING.format(code=gate.code)}
    archive = make_archive(tmp_path / "trap.tar.gz", files)
    command = arguments(setting, "wheel", archive, "-o", tmp_path / "out")
    process = subprocess.Popen(command, env=setting.env, stderr=subprocess.DEVNULL)
    gate.arrived()
    assert list((own_cache / "sources").rglob("left"))
    process.kill()
    process.wait()
    setting.killed = True
    other = make_archive(tmp_path / "other.tar.gz", {**files, "own.py": "raise ImportError"})
    found = build(setting, "metadata", other, "--format", "json")
    assert not found.result["ok"]
    assert list((own_cache / "sources").iterdir()) == []


def test_a_failed_build_leaves_nothing(setting: Setting, tmp_path: Path, own_cache: Path) -> None:
    project = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
    files = {"pyproject.toml": project, "own.py": WAITING.format(code="1 / 0")}
    archive = make_archive(tmp_path / "trap.tar.gz", files)
    for _ in range(2):
        found = build(setting, "wheel", archive, "-o", tmp_path / "out", "--format", "json")
        assert not found.result["ok"]
        assert list((own_cache / "sources").iterdir()) == []
