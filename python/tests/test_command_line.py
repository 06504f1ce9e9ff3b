"""The command line, and the ways to start."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from client import HOOKD

WRONG = [
    (["--isolation", "process"], r"--isolation: 'process' .* expected 'hook' or 'none'"),
    (["--isolation="], r"--isolation: ''"),
    (["--isolation"], r"--isolation needs a value"),
    (["--capture-dir", "/no/such"], r"--capture-dir: .* folder, got '/no/such': it does not exist"),
    (["--capture-dir", "/dev/null"], r"--capture-dir: .* folder, got '/dev/null': it is none"),
    (["--capture-dir", "/a\nb"], r"--capture-dir: .* without a newline in its name, got '/a\\nb'"),
    (["/no/such/tree"], r"TREE: expected a folder, got '/no/such/tree'"),
    ([".", "."], r"TREE: expected one source tree"),
    (["--observe"], r"--observe needs a value"),
    (["--observe=TERM"], r"--observe: expected with --isolation hook only"),
    (["--template", "0", "--json"], r"--template: expected no TREE and no other option but"),
    (["--template", "0", "."], r"--template: expected no TREE and no other option but"),
    (["--jsn"], r"unknown argument '--jsn'"),
]


def run(
    command: list[str | Path], environment: dict[str, str], text: str = "shutdown\n"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, input=text, capture_output=True, text=True, check=False
    )


def test_wrong_arguments(interpreter: str, environment: dict[str, str]) -> None:
    for arguments, expected in WRONG:
        done = run([interpreter, HOOKD, *arguments], environment)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch("hookd: {}.*\n".format(expected), done.stderr), done.stderr


def test_version_and_help(interpreter: str, environment: dict[str, str]) -> None:
    version = run([interpreter, HOOKD, "--version"], environment)
    assert (version.returncode, re.sub(r"[\d.]+", "N", version.stdout)) == (0, "hookd N\n")
    shown = run([interpreter, HOOKD, "--help"], environment).stdout
    for name in ("--json", "--isolation", "--control", "--report-imports", "--kill-detached"):
        assert name in shown


SHOW_PATH = """\
run
run_code

get_requires_for_build_wheel
{"code": "import sys, os; result = [os.getcwd(), *sys.path]"}
shutdown
"""


@pytest.mark.parametrize("how", ["folder", "file", "module", "isolated", "relative"])
@pytest.mark.parametrize("isolation", ["hook", "none"])
def test_ways_to_start(
    interpreter: str, environment: dict[str, str], tree: Path, how: str, isolation: str
) -> None:
    """They differ in the first entry of sys.path, which hooks must not see."""
    backends = environment["PYTHONPATH"]
    environment["TMPDIR"] = str(tree.parent)
    commands = {
        "folder": ["hookd"],
        "file": ["hookd/__main__.py"],
        "module": ["-m", "hookd"],
        "isolated": ["-s", "hookd"],
        "relative": ["hookd"],
    }
    if how == "relative":
        environment["PYTHONPATH"] = os.path.relpath(backends, HOOKD.parent)
    done = subprocess.run(
        [interpreter, *commands[how], "--isolation", isolation, tree],
        cwd=HOOKD.parent,
        env=environment,
        input=SHOW_PATH,
        capture_output=True,
        text=True,
        check=True,
    )
    shown = next(line for line in done.stdout.splitlines() if line.startswith("OK"))
    path = ast.literal_eval(shown[3:])
    assert path[:2] == [str(tree), backends]
    assert str(HOOKD) not in path
    assert str(HOOKD.parent) not in path
    assert "" not in path


def test_bytecode_that_was_cut_short_is_made_anew(
    interpreter: str, environment: dict[str, str], tmp_path: Path
) -> None:
    hookd = tmp_path / "hookd"
    shutil.copytree(HOOKD, hookd, ignore=shutil.ignore_patterns("__pycache__"))

    def bytecode() -> dict[str, int]:
        command = [interpreter, hookd / "__main__.py", "--help"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        files = hookd.glob("**/__pycache__/*")
        return {str(path.relative_to(hookd)): path.stat().st_size for path in files}

    whole = bytecode()
    assert len(whole) > 20
    for name, size in whole.items():
        os.truncate(hookd / name, size // 2)
    # The disk may be full until then: no more is written.
    assert not bytecode()
    assert bytecode() == whole


def test_current_folder_is_the_default_tree(
    interpreter: str, environment: dict[str, str], tree: Path
) -> None:
    environment["TMPDIR"] = str(tree.parent)
    done = subprocess.run(
        [interpreter, HOOKD],
        cwd=tree,
        env=environment,
        input=SHOW_PATH,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "OK ['{}', ".format(tree) in done.stdout


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_standard_descriptors(
    interpreter: str, environment: dict[str, str], tree: Path, closed: int
) -> None:
    environment["TMPDIR"] = str(tree.parent)
    command = 'exec "$0" "$@" {}>&-'.format(closed)
    done = run(["sh", "-c", command, interpreter, HOOKD, tree], environment, SHOW_PATH)
    assert done.returncode == 0
    assert ("OK" in done.stdout) == (closed == 2)
    assert done.stderr == ""


def test_start_imports_little(interpreter: str, environment: dict[str, str]) -> None:
    """Modules that take milliseconds to import are not imported before READY."""
    script = (
        "import sys; before = set(sys.modules); sys.path.insert(0, {!r}); import hookd.main;"
        "print(*sorted(set(sys.modules) - before))"
    ).format(str(HOOKD.parent))
    done = run([interpreter, "-S", "-c", script], environment)
    imported = set(done.stdout.split())
    costly = {"json", "ctypes", "traceback", "threading", "subprocess", "argparse", "typing"}
    assert not imported & costly
