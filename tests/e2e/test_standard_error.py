"""If standard error is not read, the program does not block and no line is lost."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from builds import arguments, make_project
from conftest import Setting
from pool import PROGRAM
from trees import call, make_tree

PATIENCE = 60
ENDS = pytest.mark.parametrize("end", ["orderly", "signal"])


def started(command: list[str], setting: Setting) -> subprocess.Popen[bytes]:
    """A program with pipes on all three streams."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=setting.env, stdin=pipe, stdout=pipe, stderr=pipe)


def with_little_room(pipe: IO[bytes] | None) -> IO[bytes]:
    """A pipe with a capacity of one page."""
    assert pipe is not None
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
    return pipe


@ENDS
def test_f83_log_messages_that_nobody_reads(setting: Setting, tmp_path: Path, end: str) -> None:
    tree = make_tree(tmp_path / "tree")
    command = [PROGRAM, "run", "-vvv", "--python", sys.executable]
    with started(command, setting) as run:
        messages = with_little_room(run.stderr)
        assert run.stdin is not None
        assert run.stdout is not None
        # Several messages each, more than the pipe has room for.
        count = 60
        for number in range(count):
            run.stdin.write(json.dumps(call(tree, "", number)).encode() + b"\n")
            run.stdin.flush()
            assert json.loads(run.stdout.readline())["id"] == number
        if end == "signal":
            run.send_signal(signal.SIGTERM)
            assert run.wait(PATIENCE) == 128 + signal.SIGTERM
        else:
            run.stdin.close()
            assert messages.read().count(b"request answered") == count
            assert run.wait(PATIENCE) == 0


@ENDS
def test_f83_output_of_hooks_that_nobody_reads(setting: Setting, tmp_path: Path, end: str) -> None:
    tree = make_project(tmp_path / "tree")
    count = 20_000
    code = f"for number in range({count}): print('line', number)"
    flags = ["-v", "-o", tmp_path / "out", "-C", f"build_wheel={code}", "--format", "json"]
    command = arguments(setting, "wheel", tree, *flags)
    with started(command, setting) as run:
        messages = with_little_room(run.stderr)
        assert run.stdout is not None
        assert json.loads(run.stdout.readline())["ok"]
        if end == "signal":
            run.send_signal(signal.SIGTERM)
            assert run.wait(PATIENCE) == 128 + signal.SIGTERM
        else:
            shown = messages.read()
            assert shown.count(b" | line ") + shown.count(b"[... more") >= 1000
            assert b" | line 19999\n" in shown
            assert b"1 source: 1 done" in shown
            assert run.wait(PATIENCE) == 0
