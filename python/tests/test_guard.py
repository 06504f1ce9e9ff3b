"""`--guard`: the program ends as if it ran without a guard, and leaves no process behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client import HOOKD, PATIENCE, processes_with, wait_for_end, wait_for_state

# A process in a session of its own and one in the background; then a word, and a long wait.
FAMILY = "setsid sleep 1000 & sleep 1000 & echo ready; {}; wait"

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs subreapers")

Guarded = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def guarded(interpreter: str, environment: dict[str, str]) -> Iterator[Guarded]:
    """Starts guards, and checks after the test that nothing is left of them."""
    guards: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        arguments = [interpreter, "-I", "-S", str(HOOKD), "--guard", *command]
        guard = subprocess.Popen(
            arguments,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=environment,
            start_new_session=True,
        )
        guards.append(guard)
        return guard

    yield start

    for guard in guards:
        for stream in (guard.stdin, guard.stdout, guard.stderr):
            assert stream is not None
            stream.close()
        guard.wait()
    assert processes_with(environment["HOOKD_TEST_MARKER"]) == []


def wait(guard: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Wait until it ends by itself, with its input open."""
    assert guard.stdout is not None and guard.stderr is not None
    output, errors = guard.stdout.read(), guard.stderr.read()
    return guard.wait(), output, errors


def wait_until_ready(guard: subprocess.Popen[bytes]) -> None:
    assert guard.stdout is not None
    assert guard.stdout.readline() == b"ready\n"


def test_ends_as_the_program_does(guarded: Guarded) -> None:
    script = "echo out; echo err >&2; read line; exit 3"
    assert wait(guarded("sh", "-c", script)) == (3, b"out\n", b"err\n")
    assert wait(guarded("sh", "-c", "kill -KILL $$"))[0] == -signal.SIGKILL
    assert wait(guarded("sh", "-c", "kill -PIPE $$"))[0] == -signal.SIGPIPE
    words = b"/no/such cannot be started: No such file or directory\n"
    assert wait(guarded("/no/such", "--help")) == (127, b"", words)


def test_arguments_are_the_programs(guarded: Guarded) -> None:
    assert wait(guarded("echo", "--", "--json", "-h", ""))[1] == b"-- --json -h \n"


def test_the_program_has_the_variables_and_no_ignored_signals(
    guarded: Guarded, environment: dict[str, str]
) -> None:
    environment["PYTHONSTARTUP"] = "kept"
    code, output, _ = wait(guarded("sh", "-c", 'echo "$PYTHONSTARTUP"; trap'))
    assert (code, output) == (0, b"kept\n")
    if sys.platform == "linux":
        _, output, _ = wait(guarded("grep", "-E", "SigIgn|SigBlk", "/proc/self/status"))
        assert {line.split()[1] for line in output.splitlines()} == {b"0" * 16}


@linux
def test_what_it_leaves_behind_is_killed(guarded: Guarded) -> None:
    """They hold the output open, so its end shows that they are gone."""
    assert wait(guarded("sh", "-c", FAMILY.format("exit 4")))[0] == 4


@linux
def test_the_end_of_input_kills_all(guarded: Guarded, environment: dict[str, str]) -> None:
    guard = guarded("sh", "-c", FAMILY.format("trap '' TERM INT"))
    wait_until_ready(guard)
    assert guard.stdin is not None
    guard.stdin.close()
    assert guard.wait() == 1
    assert processes_with(environment["HOOKD_TEST_MARKER"]) == []


@linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_go_to_the_programs_group(guarded: Guarded, number: signal.Signals) -> None:
    guard = guarded("sh", "-c", "trap 'exit 7' TERM INT; " + FAMILY.format("true"))
    wait_until_ready(guard)
    guard.send_signal(number)
    assert wait(guard)[0] == 7


@linux
def test_the_program_is_stopped_and_continued(guarded: Guarded) -> None:
    guard = guarded("sh", "-c", "echo $$; exec sleep 1000")
    assert guard.stdout is not None
    program = int(guard.stdout.readline())
    for number, states in ((signal.SIGTSTP, "T"), (signal.SIGCONT, "SR")) * 2:
        guard.send_signal(number)
        wait_for_state(program, states)
    guard.send_signal(signal.SIGTSTP)
    wait_for_state(program, "T")
    guard.send_signal(signal.SIGTERM)
    guard.send_signal(signal.SIGCONT)
    assert wait(guard)[0] == -signal.SIGTERM


@linux
def test_the_program_dies_with_a_killed_guard(guarded: Guarded) -> None:
    guard = guarded("sh", "-c", "echo $$; exec sleep 1000")
    assert guard.stdout is not None
    program = int(guard.stdout.readline())
    os.kill(guard.pid, signal.SIGKILL)
    guard.wait()
    assert wait_for_end([program], PATIENCE) == []


def test_needs_a_program(interpreter: str, environment: dict[str, str]) -> None:
    command: list[str | Path] = [interpreter, HOOKD, "--guard"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (2, b"hookd: --guard: expected a program\n")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of hookd that no interpreter has compiled."""
    copy = tmp_path / "hookd"
    shutil.copytree(HOOKD, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run_guard(copy: Path, interpreter: str, environment: dict[str, str]) -> None:
    """Run the guard of this copy for a program that ends at once."""
    command = [interpreter, "-I", "-S", str(copy / "__main__.py"), "--guard", "true"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as guard:
        assert guard.wait(PATIENCE) == 0


def test_the_first_guard_compiles_hookd(
    interpreter: str, environment: dict[str, str], copy: Path
) -> None:
    run_guard(copy, interpreter, environment)
    modules = {path.relative_to(copy).with_suffix("") for path in copy.rglob("*.py")}
    compiled = {
        path.parent.parent.relative_to(copy) / path.name.partition(".")[0]
        for path in copy.rglob("*.pyc")
    }
    # Python keeps no bytecode of the program that it runs.
    assert compiled == modules - {Path("__main__")}


def test_one_guard_of_several_compiles_hookd(
    interpreter: str, environment: dict[str, str], copy: Path
) -> None:
    # As another guard has it that compiles.
    folder = os.open(copy, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        run_guard(copy, interpreter, environment)
    finally:
        os.close(folder)
    assert not list(copy.glob("__pycache__/main.*"))
