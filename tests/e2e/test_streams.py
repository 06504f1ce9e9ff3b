"""The kinds of standard input and output, and the data on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from conftest import Setting
from gate import Gate
from pool import PROGRAM
from trees import call, make_tree

PATIENCE = 30


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


def line(tree: Path, code: str, number: int) -> bytes:
    return json.dumps(call(tree, code, number)).encode() + b"\n"


Stream = IO[bytes] | int


class Runs:
    """Starts programs, and ends the ones that a failed test leaves."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.running: list[subprocess.Popen[bytes]] = []

    def start(
        self, *flags: str, stdin: Stream = subprocess.PIPE, stdout: Stream = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        command = [PROGRAM, "run", "--no-build-isolation", "--python", sys.executable, *flags]
        run = subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=self.setting.env
        )
        self.running.append(run)
        return run


@pytest.fixture
def runs(setting: Setting) -> Iterator[Runs]:
    runs = Runs(setting)
    yield runs
    for run in runs.running:
        with run:
            run.kill()


def ids(stdout: bytes) -> list[Any]:
    return [json.loads(answer)["id"] for answer in stdout.splitlines()]


def test_a_named_pipe_whose_writer_said_nothing(runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    keeper = os.open(path, os.O_RDWR)
    reader = os.open(path, os.O_RDONLY)
    # The last writer has closed the pipe before the program looks.
    os.close(keeper)
    run = runs.start(stdin=reader)
    os.close(reader)
    assert run.communicate(timeout=PATIENCE)[0] == b""
    assert run.returncode == 0


def test_a_named_pipe_with_one_writer_after_the_other(
    runs: Runs, tree: Path, tmp_path: Path, gate: Gate
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    keeper = os.open(path, os.O_RDWR)
    reader = os.open(path, os.O_RDONLY)
    run = runs.start("--queue-size", "1", stdin=reader)
    os.close(reader)
    os.write(keeper, line(tree, gate.code, 1))
    gate.arrived()
    # The queue is full, so the input is not read while the writer changes.
    os.close(keeper)
    keeper = os.open(path, os.O_WRONLY)
    gate.release()
    assert run.stdout is not None
    assert ids(run.stdout.readline()) == [1]
    run.send_signal(signal.SIGTERM)
    assert run.wait(PATIENCE) in {0, 128 + signal.SIGTERM}
    os.close(keeper)


def test_input_that_never_ends_keeps_nobody_waiting(runs: Runs, tree: Path) -> None:
    endless = subprocess.Popen(["yes", ""], stdout=subprocess.PIPE)
    with endless:
        assert endless.stdout is not None
        reader, writer = os.pipe()
        os.write(writer, line(tree, "", 1))
        # The request, then endless lines without a request.
        feed = subprocess.Popen(["cat"], stdin=endless.stdout, stdout=writer)
        with feed:
            os.close(writer)
            run = runs.start(stdin=reader)
            os.close(reader)
            assert run.stdout is not None
            assert ids(run.stdout.readline()) == [1]
            run.send_signal(signal.SIGTERM)
            assert run.wait(PATIENCE) == 128 + signal.SIGTERM
            feed.kill()
        endless.kill()


@pytest.mark.parametrize("stream", ["input", "output"])
def test_the_wrong_end_of_a_pipe(runs: Runs, tree: Path, stream: str) -> None:
    reader, writer = os.pipe()
    os.write(writer, line(tree, "", 1))
    run = runs.start(stdin=writer) if stream == "input" else runs.start(stdout=reader)
    stderr = run.communicate(None if stream == "input" else line(tree, "", 2), PATIENCE)[1]
    assert run.returncode != 0
    assert b"Bad file descriptor" in stderr
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == line(tree, "", 1), "nothing was taken and nothing was added"


def test_a_reader_that_is_slower_than_the_hooks(runs: Runs, tree: Path) -> None:
    """Much more than a pipe holds arrives completely, in whole lines."""
    run = runs.start("--jobs", "2", stdin=subprocess.PIPE)
    count = 12
    code = "print('x' * 60000)"
    assert run.stdin is not None
    assert run.stdout is not None
    run.stdin.write(b"".join(line(tree, code, number) for number in range(count)))
    run.stdin.close()
    first = run.stdout.readline()
    rest = run.stdout.read()
    answers = [json.loads(text) for text in (first + rest).splitlines()]
    assert sorted(answer["id"] for answer in answers) == list(range(count))
    assert all(answer["stdout"] == "x" * 60000 + "\n" for answer in answers)
    assert run.wait(PATIENCE) == 0
