"""The progress of a run if standard error is not a terminal, and the summary."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from builds import arguments, build, make_project
from conftest import BOTH_POOLS, Setting
from gate import Gate

pytestmark = BOTH_POOLS


def test_the_time_of_a_source_is_that_of_its_work(setting: Setting, tmp_path: Path) -> None:
    trees = [make_project(tmp_path / name, name=name) for name in ("slow", "quick")]
    # The measured time, which is far from that of the other source, which is queued meanwhile.
    code = "import os, time; time.sleep(2 if os.getcwd().endswith('slow') else 0)"
    flags = ["-o", tmp_path / "out", "-C", f"build_wheel={code}"]
    built = build(setting, "wheel", *trees, *flags, jobs=1)
    assert built.code == 0, built.stderr
    told = re.findall(r"^\d/2 .*/(\w+): done in ([\d.]+) s$", built.stderr, re.M)
    seconds = {name: float(time) for name, time in told}
    assert seconds["slow"] >= 2 > seconds["quick"], built.stderr


def test_the_sources_that_failed_are_listed_at_the_end(setting: Setting, tmp_path: Path) -> None:
    trees = [make_project(tmp_path / name, name=name) for name in ("one", "two", "three")]
    missing = tmp_path / "missing"
    code = "import os; os.getcwd().endswith('two') and os.abort()"
    flags = ["-o", tmp_path / "out", "-C", f"build_wheel={code}"]
    built = build(setting, "wheel", *trees, missing, *flags)
    assert built.code == 1
    last = built.stderr.splitlines()[-3:]
    assert sorted(last[:2]) == [
        f"failed: {missing}: InvalidSource",
        f"failed: {trees[1]}: HookCrashed",
    ]
    assert last[2].startswith("4 sources: 2 done, 2 failed")


@pytest.mark.parametrize("isolated", [True, False])
def test_a_tree_that_another_process_has_is_told_of(
    setting: Setting, tmp_path: Path, isolated: bool
) -> None:
    tree = make_project(tmp_path / "tree")
    held = os.open(tree, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    command = arguments(setting, "wheel", tree, "-o", tmp_path / "out", isolated=isolated)
    with subprocess.Popen(command, env=setting.env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        os.close(held)
        assert process.wait(60) == 0
        assert line == f"waiting: another process uses {tree}\n"
        assert "another process" not in process.stderr.read()


def test_what_was_interrupted_has_not_failed(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    tree = make_project(tmp_path / "tree")
    command = arguments(
        setting, "wheel", tree, "-o", tmp_path / "out", "-C", f"build_wheel={gate.code}"
    )
    with subprocess.Popen(command, env=setting.env, stderr=subprocess.PIPE, text=True) as process:
        gate.arrived()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"1/1 {tree}: not done\n" in stderr
