"""An archive always builds the same wheel, whatever the compiler writes into it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from builds import build
from conftest import Setting

SETUP = """\
from setuptools import Extension, setup
# With the folder that the compiler works in.
flags = ["-g", "-O0"]
module = Extension("native", ["native.c"], extra_compile_args=flags, extra_link_args=["-g"])
setup(name="native", version="1.0", ext_modules=[module])
"""
SOURCE = """\
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "native", __FILE__, -1, NULL};
PyMODINIT_FUNC PyInit_native(void) { return PyModule_Create(&module); }
"""


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """An archive with an extension module."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    tree = tmp_path / "native-1.0"
    tree.mkdir()
    (tree / "setup.py").write_text(SETUP)
    (tree / "native.c").write_text(SOURCE)
    with tarfile.open(tmp_path / "native-1.0.tar.gz", "w:gz") as archive:
        archive.add(tree, tree.name)
    return tmp_path / "native-1.0.tar.gz"


def wheel(setting: Setting, sdist: Path, out: Path) -> bytes:
    """The wheel that a run builds from it."""
    env = {"SOURCE_DATE_EPOCH": "1700000000"}
    # A place stays only where there is a build folder to be used again.
    wanted = ["wheel", sdist, "-C", "build-dir=build", "-o", out, "--format", "json"]
    result = build(setting, *wanted, env=env).result
    assert result["ok"], result["error"]
    return Path(result["file"]["path"]).read_bytes()


def test_two_builds_of_an_archive_with_an_extension(
    setting: Setting, sdist: Path, tmp_path: Path
) -> None:
    first = wheel(setting, sdist, tmp_path / "first")
    # The name and the folder of the archive do not matter.
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(sdist, tmp_path / "elsewhere")
    assert wheel(setting, Path(copy), tmp_path / "second") == first


def test_two_runs_at_once_do_not_disturb_each_other(
    setting: Setting, sdist: Path, tmp_path: Path
) -> None:
    """The second program uses a different folder."""
    sources = setting.cache / "hookpool" / "sources"
    wheel(setting, sdist, tmp_path / "first")
    place = sources / hashlib.sha256(sdist.read_bytes()).hexdigest()[:32]
    # The wheel has compiled code: the next build may take less time in the same folder.
    (tree,) = (place / "tree").iterdir()
    (tree / "theirs").touch()
    descriptor = os.open(place.with_suffix(".lock"), os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    others = set(sources.iterdir())
    wheel(setting, sdist, tmp_path / "second")
    assert set(sources.iterdir()) == others
    assert (tree / "theirs").exists()
    os.close(descriptor)
    wheel(setting, sdist, tmp_path / "third")
    assert (tree / "theirs").exists()
