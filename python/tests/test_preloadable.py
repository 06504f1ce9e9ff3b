"""The list of what may be preloaded (hookd/template/preloadable.py): what it holds is examined.

Each module of the listed distributions, in two versions, and of the standard library is imported in
a process of its own, in which everything is looked at that a hook might find changed. Where this
fails, it prints the entries that the tables of exceptions lack. To examine other versions, change
the lists of requirements beside this file.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import INTERPRETERS

HERE = Path(__file__).parent
TIME_LIMIT = 900


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    """Allow more time: there are a thousand modules."""
    signal.alarm(TIME_LIMIT)
    yield
    signal.alarm(0)


def python_of(version: str) -> str:
    if version not in INTERPRETERS:
        pytest.skip("Python {} is not installed".format(version))
    return str(INTERPRETERS[version])


def examine(python: str, what: str) -> dict[str, Any]:
    """What was found, by module, without the exceptions."""
    # As it would be for a user, and not with what the tests have set.
    command = [python, "-I", "-W", "ignore::DeprecationWarning", str(HERE / "examine.py"), what]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    found = json.loads(done.stdout)
    assert len(found) > 300
    return {name: outcome for name, outcome in found.items() if outcome is not None}


def check(found: dict[str, Any]) -> None:
    """Fail with the entries that the tables of exceptions lack, and the reasons."""
    lacking = []
    for name, outcome in found.items():
        if outcome["exceptions"]:
            lacking.append("{}: it imports {}".format(name, ", ".join(outcome["exceptions"])))
        elif outcome["problems"]:
            lacking.append("{}: {}".format(name, "; ".join(outcome["problems"])))
    assert not lacking, "\n".join(["not among the exceptions:", *lacking])


@pytest.mark.parametrize("version", ["3.7", "3.15"])
def test_standard_library(version: str) -> None:
    check(examine(python_of(version), "standard"))


@pytest.mark.exhaustive(versions="older")
@pytest.mark.parametrize(("versions", "python"), [("newest", "3.13"), ("older", "3.9")])
def test_distributions(versions: str, python: str, tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    subprocess.run([python_of(python), "-m", "venv", "--without-pip", str(folder)], check=True)
    made = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", made, "--quiet", "install", "--no-deps"]
    requirements = str(HERE / "examined_{}.txt".format(versions))
    subprocess.run([*pip, "--only-binary", ":all:", "--requirement", requirements], check=True)
    check(examine(made, "installed"))
