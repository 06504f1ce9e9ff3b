"""SIGINT, SIGTERM, SIGHUP, SIGTSTP and SIGCONT, and the terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
from conftest import BOTH_START_METHODS, BOTH_WAYS, Setting
from gate import Gate
from pool import PROGRAM, kind
from test_deadlines_and_cancellation import FOR_EVER, IGNORE_TERM, with_child
from trees import call, make_tree

pytestmark = BOTH_WAYS

ENDING = [signal.SIGINT, signal.SIGTERM]
IGNORE_BOTH = IGNORE_TERM + "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"


@BOTH_START_METHODS
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_the_program(
    setting: Setting, tree: Path, gate: Gate, number: signal.Signals, isolation: str
) -> None:
    other = make_tree(tree.parent / "other")
    pool = setting.start("--isolation", isolation, jobs=2)
    pool.send(call(tree, with_child(gate), 1), call(other, with_child(gate), 2))
    running = [gate.arrived() for _ in range(4)]
    pool.send(call(tree, "", 3))
    pool.signal(number)
    found = pool.rest()
    assert pool.wait() == 128 + number
    assert {response["id"]: kind(response) for response in found if response["id"] != 3} == {
        1: "Interrupted",
        2: "Interrupted",
    }
    # The third may have been read before the signal, or not.
    assert all(kind(response) == "Interrupted" for response in found)
    assert not any(processes.alive(pid) for pid in running)


@BOTH_START_METHODS
@pytest.mark.parametrize("number", ENDING)
def test_the_hook_gets_the_same_signal(
    setting: Setting, tree: Path, gate: Gate, number: signal.Signals
) -> None:
    code = (
        "import pathlib, signal, sys\n"
        "def note(number, frame):\n"
        "    pathlib.Path('noted').write_text(str(int(number)))\n"
        "    sys.exit(1)\n"
        "signal.signal(signal.SIGINT, note)\n"
        "signal.signal(signal.SIGTERM, note)\n" + gate.arrive + FOR_EVER
    )
    pool = setting.start("--grace-period", "20s")
    pool.send(call(tree, code))
    gate.arrived()
    pool.signal(number)
    (response,) = pool.rest()
    assert kind(response) == "Interrupted"
    assert pool.wait() == 128 + number
    assert (tree / "noted").read_text() == str(int(number))


@BOTH_START_METHODS
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_when_idle(setting: Setting, tree: Path, number: signal.Signals) -> None:
    pool = setting.start()
    pool.ask(call(tree, ""))
    pool.signal(number)
    assert pool.rest() == []
    assert pool.wait(10) == 128 + number


@BOTH_START_METHODS
def test_f17_a_stubborn_hook_is_killed_after_the_grace_period(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    pool = setting.start("--grace-period", "500ms")
    pool.send(call(tree, with_child(gate, IGNORE_BOTH)))
    running = [gate.arrived(), gate.arrived()]
    began = time.monotonic()
    pool.signal(signal.SIGTERM)
    (response,) = pool.rest()
    assert kind(response) == "Interrupted"
    assert pool.wait() == 143
    assert time.monotonic() - began >= 0.5
    assert not any(processes.alive(pid) for pid in running)


@BOTH_START_METHODS
@pytest.mark.parametrize("numbers", [[signal.SIGINT] * 2, [signal.SIGTERM, signal.SIGINT]])
def test_f18_a_second_signal_ends_at_once(
    setting: Setting, tree: Path, gate: Gate, numbers: list[signal.Signals]
) -> None:
    notes = f"import signal\ndef note(number, frame):\n{textwrap.indent(gate.arrive, '    ')}\n"
    notes += "signal.signal(signal.SIGTERM, note)\nsignal.signal(signal.SIGINT, note)\n"
    pool = setting.start("--grace-period", "1h")
    pool.send(call(tree, notes + gate.arrive + FOR_EVER))
    running = [gate.arrived()]
    pool.signal(numbers[0])
    # Two pending signals would merge into one, so the hook records the arrival of the first.
    gate.arrived()
    pool.signal(numbers[1])
    (response,) = pool.rest()
    assert kind(response) == "Interrupted"
    # The grace period is an hour.
    assert pool.wait() - 128 in numbers
    assert not any(processes.alive(pid) for pid in running)


@BOTH_START_METHODS
def test_f16_a_signal_when_a_worker_is_dead(setting: Setting, tree: Path, gate: Gate) -> None:
    other = make_tree(tree.parent / "other")
    pool = setting.start(jobs=2)
    pool.send(call(tree, gate.code, 1))
    gate.arrived()
    # Not before: the idle worker would be moved to the first tree.
    dead = pool.settle(other)["pid"]
    os.kill(dead, signal.SIGKILL)
    pool.signal(signal.SIGINT)
    (response,) = pool.rest()
    assert kind(response) == "Interrupted"
    assert pool.wait(10) == 130


def test_f19_stopped_and_continued(setting: Setting, tree: Path, gate: Gate) -> None:
    pool = setting.start("--hook-timeout", "3s")
    pool.send(call(tree, gate.code + "result = ['done']", 1))
    hook = gate.arrived()
    pool.signal(signal.SIGTSTP)
    processes.wait_state(pool.pid, "T")
    processes.wait_state(hook, "T")
    # The deadline must not run meanwhile.
    processes.outlast(3)
    pool.signal(signal.SIGCONT)
    processes.wait_state(hook, "SR")
    gate.release()
    response = pool.response()
    assert response["result"] == ["done"]
    assert pool.ask(call(tree, "result = ['on']", 2))["result"] == ["on"]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_f19_the_deadline_runs_again_after_the_stop(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    pool = setting.start("--hook-timeout", "1s")
    pool.send(call(tree, with_child(gate), 1))
    running = [gate.arrived(), gate.arrived()]
    pool.signal(signal.SIGTSTP)
    for pid in (pool.pid, *running):
        processes.wait_state(pid, "T")
    pool.signal(signal.SIGCONT)
    assert kind(pool.response()) == "HookTimeout"
    processes.wait_gone(running)
    assert pool.finish() == ([], 1)


@BOTH_START_METHODS
def test_f19_stopped_while_starting(setting: Setting, tree: Path) -> None:
    pool = setting.start("--startup-timeout", "3s")
    pool.send(call(tree, "result = ['started']", 1))
    # Before that the kernel drops it, since no shell could continue the process (an orphaned
    # process group).
    processes.wait_caught(pool.pid, signal.SIGTSTP)
    pool.signal(signal.SIGTSTP)
    processes.wait_state(pool.pid, "T")
    processes.outlast(3)
    pool.signal(signal.SIGCONT)
    assert pool.response()["result"] == ["started"]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_f44_sighup_during_a_burst(
    setting: Setting, tmp_path: Path, gates: Callable[[str], Gate]
) -> None:
    folders = [make_tree(tmp_path / f"tree-{number}") for number in range(5)]
    gate, all_at_once = gates("burst"), gates("all-at-once")
    pool = setting.start(jobs=5)
    pool.send(*(call(folder, all_at_once.code, f"before-{n}") for n, folder in enumerate(folders)))
    for _ in folders:
        all_at_once.arrived()
    all_at_once.release(5)
    before = {response["tree"]: response["worker"] for response in pool.responses(5)}
    pool.send(call(folders[0], gate.code, "held"))
    gate.arrived()
    pool.send(*(call(folders[n % 5], "", n) for n in range(100)))
    pool.signal(signal.SIGHUP)
    processes.wait_gone(worker["pid"] for tree, worker in before.items() if tree != str(folders[0]))
    gate.release()
    found = pool.responses(101)
    assert all(response["ok"] for response in found)
    assert {response["id"] for response in found} == {"held", *range(100)}
    after = pool.ask(call(folders[0], "", "after"))["worker"]
    assert after["pid"] != before[str(folders[0])]["pid"]
    assert after["generation"] > before[str(folders[0])]["generation"]
    assert pool.finish() == ([], 0)


def test_f51_no_terminal_to_ask_on(setting: Setting, tree: Path) -> None:
    code = (
        "try:\n"
        "    open('/dev/tty').readline()\n"
        "    result = ['asked']\n"
        "except OSError as error:\n"
        "    result = [type(error).__name__]\n"
    )
    request = call(tree, code)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(setting.env)
        arguments = [PROGRAM, "run", "--no-build-isolation", "--python", sys.executable]
        with open(tree / "requests", "wb") as requests:
            requests.write(json.dumps(request).encode() + b"\n")
        os.dup2(os.open(tree / "requests", os.O_RDONLY), 0)
        os.execve(PROGRAM, arguments, setting.env)
    output = b""
    end = time.monotonic() + 30
    while True:
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        assert ready, output
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        output += data
        if not data:
            break
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, output
    assert json.loads(output)["result"] == ["OSError"], output


@BOTH_START_METHODS
def test_ctrl_c_of_a_terminal_reaches_hooks_through_the_supervisor(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    code = "import signal\nsignal.signal(signal.SIGINT, lambda *_: open('got', 'a').write('x'))\n"
    pool = setting.start("--grace-period", "500ms", preexec=lambda: os.setpgid(0, 0))
    pool.send(call(tree, code + gate.arrive + FOR_EVER))
    gate.arrived()
    # Like a terminal: the whole foreground group gets the signal.
    os.killpg(pool.pid, signal.SIGINT)
    (response,) = pool.rest()
    assert kind(response) == "Interrupted"
    assert pool.wait() == 130
    assert (tree / "got").read_text() == "x"


@BOTH_START_METHODS
def test_the_interrupted_program_leaves_no_lock(setting: Setting, tree: Path, gate: Gate) -> None:
    pool = setting.start()
    pool.send(call(tree, gate.code))
    gate.arrived()
    pool.signal(signal.SIGTERM)
    pool.rest()
    assert pool.wait() == 143
    again = setting.start()
    assert again.ask(call(tree, "result = ['again']"))["result"] == ["again"]
    assert again.finish() == ([], 0)


@BOTH_START_METHODS
def test_f36_the_reader_goes_away(setting: Setting, tree: Path, gate: Gate) -> None:
    other = make_tree(tree.parent / "other")
    pool = setting.start(jobs=2, reading=False)
    pool.send(call(other, with_child(gate), 0))
    running = [gate.arrived(), gate.arrived()]
    pool.close_output()
    pool.send(*(call(tree, "", number) for number in range(1, 100)))
    assert pool.wait(20) == 141
    assert not any(processes.alive(pid) for pid in running)


def test_f36_head(setting: Setting, tree: Path) -> None:
    lines = "".join(json.dumps(call(tree, "", number)) + "\n" for number in range(500))
    command = '"$0" run --no-build-isolation --python "$1" | head -n 1; echo "${PIPESTATUS[0]}"'
    found = subprocess.run(
        ["bash", "-c", command, PROGRAM, sys.executable],
        input=lines,
        capture_output=True,
        text=True,
        env=setting.env,
        timeout=30,
        check=True,
    )
    response, code = found.stdout.splitlines()
    assert json.loads(response)["id"] == 0
    assert code == "141"
    assert found.stderr == ""
