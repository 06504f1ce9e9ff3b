"""Short runs of the soak programs in bench."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Setting
from pool import PROGRAM, REPOSITORY

BENCH = REPOSITORY / "bench"
EXHAUSTIVE = pytest.mark.exhaustive()


def run(setting: Setting, program: Path, *arguments: object) -> str:
    """Run a program, which must succeed; returns its output."""
    words = [sys.executable, program, "--hookpool", PROGRAM, *arguments]
    found = subprocess.run(
        [str(word) for word in words],
        env=setting.env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "flags",
    [
        [],
        pytest.param(["--start-method", "spawn", "--isolation", "none"], marks=EXHAUSTIVE),
        pytest.param(["--no-build-isolation"], marks=EXHAUSTIVE),
        ["--no-build-isolation", "--start-method", "spawn", "--isolation", "none"],
        ["--clients", "20"],
    ],
    ids=" ".join,
)
def test_an_account_of_requests_and_faults(setting: Setting, flags: list[str]) -> None:
    limits = ["--requests", 400, "--seconds", 12, "--seed", 11, "--rest", 0]
    assert "the account balances" in run(setting, BENCH / "soak", *flags, *limits)


@pytest.mark.timeout(240)
def test_what_is_built_after_faults(setting: Setting) -> None:
    limits = ["--iterations", 5, "--seconds", 12, "--seed", 17]
    assert "all was right again" in run(setting, BENCH / "build_soak", *limits)


@pytest.mark.timeout(120)
def test_f12_nobody_survives_a_killed_supervisor(setting: Setting) -> None:
    limits = ["--kills", 16, "--seconds", 12, "--seed", 13]
    assert "\n0 survivors" in run(setting, BENCH / "survivors.py", *limits)
