"""The text that is shown for a failed hook."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
import sdists
from builds import build, make_project
from conftest import BOTH_POOLS, Setting

pytestmark = BOTH_POOLS

LIST = Path(__file__).with_name("failing_sdists.txt")


@pytest.fixture(scope="module")
def failing(target: Path) -> dict[str, Path]:
    return sdists.fetch_archives(target / "test-sdists", LIST)


def test_an_exception_has_its_name_its_places_and_its_causes(
    setting: Setting, tmp_path: Path
) -> None:
    tree = make_project(tmp_path / "tree")
    (tree / "reading.py").write_text(
        "def read():\n    return {}['version']\n\n\n"
        "def version():\n    try:\n        read()\n"
        "    except KeyError as error:\n        raise AssertionError from error\n"
    )
    code = "import sys; sys.path.insert(0, '.'); import reading; reading.version()"
    flags = [tree, "-o", tmp_path / "out", "-C", f"build_wheel={code}"]
    built = build(setting, "wheel", *flags)
    shown = built.stderr.partition(f"error: build_wheel of {tree}: HookRuntimeError\n")[2]
    assert shown.splitlines()[:7] == [
        "  AssertionError",
        "    at reading.py, line 9, in version",
        "    at <string>, line 1",
        "    at own_backend.py, line 14, in _do",
        "  caused by KeyError: 'version'",
        "    at reading.py, line 2, in read",
        "    at reading.py, line 7, in version",
    ]
    log = Path(shown.partition("full log: ")[2].splitlines()[0])
    assert "Traceback (most recent call last):" not in built.stderr
    assert "Traceback (most recent call last):" in log.read_text()
    assert (
        "    Traceback (most recent call last):\n" in build(setting, "wheel", "-v", *flags).stderr
    )


def test_the_parts_of_an_exception_group_of_a_real_backend(
    setting: Setting, failing: dict[str, Path], tmp_path: Path
) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("scikit-build-core==1.1.2\n")
    wanted = ["metadata", "--no-static", failing["levenshtein"], "--build-constraint", constraints]
    error = build(setting, *wanted, "--format", "json").result["error"]
    message = error["message"].splitlines()
    assert message[0] == "ExceptionGroup: Failed to parse pyproject.toml (1 sub-exception)"
    assert message[1].startswith("  at scikit_build_core/")
    assert "Extra keys present in \"project\": 'Changelog', 'Documentation'" in message[2]


def hint(setting: Setting, *words: object) -> str:
    """The hint for a source that fails."""
    result = build(setting, *words, "--format", "json").result
    assert not result["ok"]
    return str(result["error"]["hint"] or "")


def test_a_hint_comes_from_what_ended_the_hook(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    passing = "print(\"No module named 'numpy', building without it\")\n"
    for end, expected in {
        "raise KeyError('version')": "",
        "import surely_missing": "the build imports surely_missing, which is not in",
        "print('x.c:1:1: fatal error: ffi.h: No such file or directory'); raise SystemExit(1)": (
            "the header ffi.h is missing"
        ),
    }.items():
        flags = [tree, "-o", tmp_path / "out", "-C", f"build_wheel={passing}{end}"]
        found = hint(setting, "wheel", *flags)
        assert found.startswith(expected) if expected else found == "", found


def test_a_header_of_an_older_python(setting: Setting, failing: dict[str, Path]) -> None:
    found = hint(setting, "wheel", failing["pysha3"], "-o", setting.root / "out")
    assert found.startswith("pystrhex.h belongs to CPython's own implementation")


def test_the_hint_about_pkg_resources_can_be_followed(setting: Setting, tmp_path: Path) -> None:
    """The hint for a source distribution, which has no pyproject.toml to edit."""
    folder = tmp_path / "old-1.0"
    folder.mkdir()
    (folder / "setup.py").write_text(
        "import pkg_resources\nfrom setuptools import setup\nsetup(name='old', version='1.0')\n"
    )
    archive = tmp_path / "old-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(folder, folder.name)
    found = hint(setting, "metadata", archive)
    assert "in a file of constraints (--build-constraint)" in found
    assert "setuptools<82" in found
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("setuptools<82\n")
    built = build(setting, "metadata", archive, "--build-constraint", constraints)
    assert (built.code, built.stdout) == (0, f"old 1.0  (by hook)  from {archive}\n"), built.stderr


def test_progress_that_is_drawn_is_shown_as_it_ended(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    code = (
        "import sys\n"
        "for step in range(1001): sys.stderr.write(f'\\rcompiled {step} of 1000')\n"
        "sys.stderr.write('\\nlast words\\n')\n"
        "raise ValueError"
    )
    built = build(setting, "wheel", tree, "-o", tmp_path / "out", "-C", f"build_wheel={code}")
    assert "  standard error:\n    compiled 1000 of 1000\n    last words\n" in built.stderr
    assert "\\r" not in built.stderr
    assert "compiled 1 of" not in built.stderr
    # The log has the output unchanged.
    log = Path(built.stderr.partition("full log: ")[2].splitlines()[0])
    assert b"\rcompiled 1 of 1000\r" in log.read_bytes()


def error_of(setting: Setting, *words: object) -> dict[str, Any]:
    """The error of a source that fails."""
    error: dict[str, Any] = build(setting, *words, "--format", "json").result["error"]
    return error


def test_a_mandatory_hook_that_is_missing(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    backend = tree / "own_backend.py"
    backend.write_text(backend.read_text().replace("def build_", "def _build_"))
    for command in ("wheel", "sdist"):
        error = error_of(setting, command, tree, "-o", tmp_path / "out")
        assert error["kind"] == "UnsupportedHook"
        assert error["hint"].startswith("PEP 517 requires this hook of every build backend")


def test_no_temporary_folder_is_in_a_message(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree", more="")
    empty = "import os, sys; folder = sys._getframe(2).f_locals['wheel_directory']\n"
    empty += (
        "open(os.path.join(folder, 'sample-1.0-py3-none-any.whl'), 'w').close(); _wheel(folder)"
    )
    backend = tree / "own_backend.py"
    text = backend.read_text()
    backend.write_text(
        text.replace("    return _wheel(wheel_directory)", "    return _nothing(wheel_directory)")
        + "\ndef _nothing(folder):\n"
        "    name = 'sample-1.0-py3-none-any.whl'\n"
        "    open(os.path.join(folder, name), 'w').close()\n"
        "    return name\n"
    )
    wheel = "sample-1.0-py3-none-any.whl"
    assert error_of(setting, "metadata", tree)["message"].startswith(
        f"what build_wheel made cannot be used: {wheel}: is not a zip file"
    )
    backend.write_text(text.replace('"w:gz"', '"w"'))
    via_sdist = error_of(setting, "wheel", "--via-sdist", tree, "-o", tmp_path / "out")
    assert via_sdist["kind"] == "HookRuntimeError"
    assert via_sdist["message"].startswith(
        "what build_sdist made cannot be used: sample-1.0.tar.gz: the archive is damaged"
    )
    (tree / "pyproject.toml").write_text("[[build-system]]\nrequires = []\n")
    packed = tmp_path / "sample-1.0.tar.gz"
    with tarfile.open(packed, "w:gz") as opened:
        opened.add(tree, "sample-1.0")
    error = error_of(setting, "metadata", packed)
    assert error["kind"] == "InvalidPyproject"
    assert error["message"].startswith("pyproject.toml: ")
    assert "expected a table, [build-system]" in error["message"]


def test_a_name_with_spaces_around_it_is_seen(setting: Setting, tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_text(" six \n")
    built = build(setting, "metadata", "--from", names)
    assert 'error: " six ": InvalidSource\n  " six " does not exist' in built.stderr


def test_a_file_is_no_folder_to_write_to(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    file = tmp_path / "file"
    file.touch()
    built = build(setting, "wheel", tree, "-o", file)
    assert built.stderr == f"error: output folder {file}: expected a folder, found a file\n"
    logs = build(setting, "metadata", tree, "--log-dir", file)
    assert "expected a folder, found a file" in logs.stderr
    # A service has a cache folder of its own.
    setting.builds_by_service = False
    assert "is not a folder" in build(setting, "metadata", tree, "--cache-dir", file).stderr


def test_an_empty_backend_is_the_fault_of_pyproject_toml(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    (tree / "pyproject.toml").write_text('[build-system]\nrequires = []\nbuild-backend = ""\n')
    error = error_of(setting, "metadata", tree)
    assert error["kind"] == "InvalidPyproject"
    assert "`build-backend` is empty" in error["message"]


def test_what_is_no_source_but_could_be_downloaded(setting: Setting) -> None:
    assert "pip download" in error_of(setting, "metadata", "six==1.16.0")["hint"]
    address = "https://example.org/six-1.16.0.tar.gz"
    assert "download it first" in error_of(setting, "metadata", address)["hint"]


def test_files_with_times_that_no_wheel_can_hold(setting: Setting, tmp_path: Path) -> None:
    tree = tmp_path / "flitted"
    tree.mkdir()
    (tree / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["flit_core>=3.9"]\nbuild-backend = "flit_core.buildapi"\n'
        '[project]\nname = "flitted"\nversion = "1.0"\ndescription = "x"\n'
    )
    (tree / "flitted.py").touch()
    os.utime(tree / "flitted.py", (0, 0))
    flags = [tree, "-o", tmp_path / "out"]
    hint = error_of(setting, "wheel", *flags)["hint"]
    variable = next(word for word in hint.split() if word.startswith("SOURCE_DATE_EPOCH="))
    name, _, value = variable.partition("=")
    built = build(setting, "wheel", *flags, env={name: value})
    assert built.code == 0, built.stderr


def test_a_name_that_is_almost_right_is_told_of(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    pyproject = tree / "pyproject.toml"
    text = pyproject.read_text()
    (tree / "setup.py").write_text("from setuptools import setup\nsetup(name='sample')\n")
    warning = "pyproject.toml has {}, which nothing reads: was {} meant?"
    pyproject.write_text(text.replace("build-system", "build_sytem"))
    built = build(setting, "metadata", tree)
    assert warning.format("[build_sytem]", "[build-system]") in built.stderr
    pyproject.write_text(text.replace("build-backend", "build_backend"))
    found, meant = (f"`{name}` in [build-system]" for name in ("build_backend", "build-backend"))
    assert warning.format(found, meant) in build(setting, "metadata", tree).stderr
    pyproject.write_text(text)
    assert "nothing reads" not in build(setting, "metadata", tree).stderr
