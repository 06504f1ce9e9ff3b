"""The building commands do the same with a service as with a pool of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
from builds import Built, build, make_project
from conftest import BOTH_POOLS, Setting
from gate import Gate
from pool import PROGRAM
from service import Service

# What differs from run to run.
VARYING = {"worker", "timing", "total_ms", "made", "id", "before", "log"}


def command(service: Service, way: str, *words: object) -> list[str]:
    """A command line that uses the service, or does not."""
    choice = str(service.socket) if way == "require" else way
    return [PROGRAM, *map(str, words), "--python", sys.executable, "--service", choice]


def without(value: Any) -> Any:
    """The value without what differs from run to run."""
    if isinstance(value, dict):
        return {name: without(part) for name, part in value.items() if name not in VARYING}
    if isinstance(value, list):
        return [without(part) for part in value]
    return (
        re.sub(r"\d+(\.\d+)? (s|ms)\b|pid \d+|/logs/.*\.log", "N", value)
        if isinstance(value, str)
        else value
    )


CASES: dict[str, tuple[str, ...]] = {
    "works": (),
    "raises": ("-C", "build_wheel=print('text'); raise ValueError('no')"),
    "crashes": ("-C", "build_wheel=import os; os.abort()"),
    "exits": ("-C", "build_wheel=raise SystemExit(3)"),
    "two flags": ("-C", "a=1", "-C", "a=2", "--fail-fast"),
    "text": ("--format", "text"),
}


@pytest.mark.parametrize("case", CASES)
def test_both_ways_are_alike(setting: Setting, tmp_path: Path, case: str) -> None:
    service = setting.serve(build_isolation=True)
    tree = make_project(tmp_path / "tree")
    found = []
    # The first run makes the build environment.
    for way in ("never", "never", "require"):
        words = ["wheel", tree, tmp_path / "missing", "-o", tmp_path / "out", *CASES[case]]
        format_ = [] if "--format" in words else ["--format", "json"]
        run = subprocess.run(
            command(service, way, *words, *format_),
            env=setting.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        built = Built(run.returncode, run.stdout, run.stderr)
        results = sorted(map(str, without(built.results))) if format_ else without(run.stdout)
        found.append((built.code, results, sorted(without(built.stderr.splitlines()))))
        # The next way finds the same folder.
        for file in (tmp_path / "out").iterdir():
            file.unlink()
    assert found[1] == found[2]
    assert service.end() == 0


def test_clients_have_their_own_variables_umask_and_folder(
    setting: Setting, tmp_path: Path, gates: Callable[[str], Gate]
) -> None:
    service = setting.serve(build_isolation=True)
    code = "import os; os.umask(mask := os.umask(0)); print(os.environ['WHO'], oct(mask)); "
    clients = []
    for who, umask in [("one", 0o077), ("two", 0o002)]:
        folder = tmp_path / who
        make_project(folder / "tree")
        gate = gates(who)
        setting_ = f"build_wheel={code}\n{gate.code}\nraise ValueError"
        words = ["wheel", "tree", "-o", "out", "--format", "json", "-C", setting_]
        process = subprocess.Popen(
            command(service, "require", *words),
            env={**setting.env, "WHO": who},
            cwd=folder,
            umask=umask,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        clients.append((process, gate, f"{who} {oct(umask)}\n"))
    for _, gate, _ in clients:
        gate.arrived()
    for process, gate, said in clients:
        gate.release()
        stdout, _ = process.communicate(timeout=60)
        result = Built(process.returncode, stdout, "").result
        assert (result["source"], result["stdout"]) == ("tree", said)
    assert service.end() == 0


@pytest.mark.parametrize("way", ["interrupted", "killed"])
def test_the_end_of_one_client_leaves_the_other_alone(
    setting: Setting, tmp_path: Path, gates: Callable[[str], Gate], way: str
) -> None:
    service = setting.serve(build_isolation=True)
    clients = []
    for who in ("one", "two"):
        tree, gate = make_project(tmp_path / who), gates(who)
        words = ["wheel", tree, "-o", tmp_path / "out", "-C", f"build_wheel={gate.code}"]
        process = subprocess.Popen(
            command(service, "require", *words), env=setting.env, stderr=subprocess.DEVNULL
        )
        clients.append((process, gate, gate.arrived()))
    (one, _, hook), (two, gate, other) = clients
    one.send_signal(signal.SIGINT if way == "interrupted" else signal.SIGKILL)
    assert one.wait(60) == (130 if way == "interrupted" else -signal.SIGKILL)
    processes.wait_gone([hook])
    assert processes.alive(other)
    gate.release()
    assert two.wait(60) == 0
    assert service.end() == 0


def test_a_service_that_dies_fails_each_source(
    setting: Setting, tmp_path: Path, gate: Gate
) -> None:
    service = setting.serve(build_isolation=True)
    trees = [make_project(tmp_path / who) for who in ("one", "two")]
    words = ["wheel", *trees, "-o", tmp_path / "out", "--format", "json"]
    process = subprocess.Popen(
        command(service, "require", *words, "-C", f"build_wheel={gate.code}"),
        env=setting.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    gate.arrived()
    os.kill(service.pid, signal.SIGKILL)
    stdout, _ = process.communicate(timeout=60)
    results = Built(process.returncode, stdout, "").results
    assert process.returncode == 1
    assert sorted(result["source"] for result in results) == sorted(map(str, trees))
    for result in results:
        assert result["error"]["message"].startswith("the service ended before this was built")
    service.process.wait(60)
    setting.killed = True


@BOTH_POOLS
def test_an_environment_that_a_hook_has_changed_is_a_warning(
    setting: Setting, tmp_path: Path
) -> None:
    """Of the command, and in the log of the service that did the work."""
    setting.env["HOOKPOOL_CACHE_DIR"] = str(tmp_path / "own-cache")
    tree = make_project(tmp_path / "tree")
    spoil = "build_wheel=import shutil, sys; shutil.rmtree(sys.prefix)"
    built = build(setting, "wheel", tree, "-o", tmp_path / "out", "-C", spoil)
    assert built.code == 0, built.stderr
    (line,) = (line for line in built.stderr.splitlines() if "is not used again" in line)
    assert line.startswith("warning: build environment ")
    for service in setting.services:
        assert "WARN build environment is not used again: " in service.stderr
