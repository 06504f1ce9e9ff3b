"""Deaths of the supervisor, of workers and of hooks, and the processes that hooks leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import processes
import pytest
from conftest import BOTH_START_METHODS, Setting
from gate import Gate
from pool import kind
from test_deadlines_and_cancellation import FOR_EVER, IGNORE_TERM, with_child
from trees import call, make_tree

pytestmark = BOTH_START_METHODS

# Becomes a daemon: a process in its own session whose parent has ended. It has left the session of
# the hook before the first process ends, so a hook that waits for that cannot end too early.
DAEMON = """\
import os
child = os.fork()
if child:
    os.waitpid(child, 0)
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
for descriptor in (0, 1, 2):
    os.close(descriptor)
"""


def detach(gate: Gate) -> str:
    """Code of a hook that starts a daemon, which arrives at the gate."""
    daemon = DAEMON + gate.arrive + FOR_EVER
    return (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {daemon!r}], check=True)\n"
    )


def test_f12_the_supervisor_is_killed(setting: Setting, tmp_path: Path, isolation: str) -> None:
    gate = Gate(tmp_path)
    folders = [make_tree(tmp_path / f"tree-{number}") for number in range(4)]
    pool = setting.start("--isolation", isolation, jobs=4)
    pool.send(
        *(call(tree, with_child(gate, IGNORE_TERM), n) for n, tree in enumerate(folders[:2])),
        *(call(tree, detach(gate) + FOR_EVER, 2 + n) for n, tree in enumerate(folders[2:])),
    )
    for _ in range(6):
        gate.arrived()
    everyone = list(processes.marked(setting.mark))
    assert len(everyone) >= 1 + 4 + 2 + 2
    setting.killed = True
    pool.signal(signal.SIGKILL)
    pool.wait()
    # The promise is one second, which bench/survivors.py measures; this machine may be busy.
    processes.wait_gone(everyone, timeout=5)
    assert not processes.marked(setting.mark)
    gate.close()


def test_f12_idle_workers_go_too(setting: Setting, tmp_path: Path, isolation: str) -> None:
    folders = [make_tree(tmp_path / f"tree-{number}") for number in range(4)]
    pool = setting.start("--isolation", isolation)
    pool.send(*(call(tree, "", n) for n, tree in enumerate(folders)))
    workers = [response["worker"]["pid"] for response in pool.responses(4)]
    setting.killed = True
    pool.signal(signal.SIGKILL)
    pool.wait()
    processes.wait_gone(workers, timeout=2)


def test_f02_end_of_input_of_a_dead_supervisor_reaches_a_blocked_hook(
    setting: Setting, tree: Path, gate: Gate, isolation: str
) -> None:
    # Blocked in C with the interpreter's lock held: no other Python thread can run.
    code = gate.arrive + "import ctypes\nctypes.PyDLL(None).pause()\n"
    pool = setting.start("--isolation", isolation)
    pool.send(call(tree, code))
    hook = gate.arrived()
    setting.killed = True
    pool.signal(signal.SIGKILL)
    pool.wait()
    processes.wait_gone([hook], timeout=3)


def test_the_supervisor_is_killed_while_suspended(
    setting: Setting, tree: Path, gate: Gate, isolation: str
) -> None:
    pool = setting.start("--isolation", isolation)
    pool.send(call(tree, with_child(gate, IGNORE_TERM)))
    hook_and_compiler = [gate.arrived(), gate.arrived()]
    everyone = list(processes.marked(setting.mark))
    pool.signal(signal.SIGTSTP)
    for pid in (*hook_and_compiler, pool.pid):
        processes.wait_state(pid, "T")
    setting.killed = True
    pool.signal(signal.SIGKILL)
    pool.wait()
    processes.wait_gone([*hook_and_compiler, *everyone], timeout=5)


def test_f50_a_worker_is_killed_under_a_compiler(
    setting: Setting, tree: Path, gate: Gate, isolation: str
) -> None:
    pool = setting.start("--isolation", isolation)
    first = pool.ask(call(tree, "", 0))["worker"]
    pool.send(call(tree, with_child(gate, IGNORE_TERM), 1))
    hook_and_compiler = [gate.arrived(), gate.arrived()]
    os.kill(first["pid"], signal.SIGKILL)
    response = pool.response(5)
    assert kind(response) == "WorkerCrashed"
    assert "KILL" in str(response["error"])
    processes.wait_gone(hook_and_compiler, timeout=2)
    after = pool.ask(call(tree, "result = ['on']", 2))
    assert after["result"] == ["on"]
    assert after["worker"]["generation"] > first["generation"]
    processes.wait_no_zombies(pool.pid)
    assert pool.finish() == ([], 1)


def test_f14_other_trees_do_not_notice(setting: Setting, tree: Path, gate: Gate) -> None:
    other = make_tree(tree.parent / "other")
    pool = setting.start(jobs=2)
    pool.send(call(other, gate.code + "result = ['other']", 1))
    hook = gate.arrived()
    worker = pool.ask(call(tree, "", 2))["worker"]["pid"]
    pool.send(call(tree, gate.code, 3))
    doomed = gate.arrived()
    os.kill(worker, signal.SIGKILL)
    # The hooks of both trees still wait at the gate.
    response = pool.response()
    assert (response["id"], kind(response)) == (3, "WorkerCrashed")
    assert processes.alive(hook)
    # The daemon waits at the same gate.
    processes.wait_gone([doomed])
    gate.release()
    assert pool.response()["result"] == ["other"]
    assert pool.finish() == ([], 1)


def test_an_idle_worker_that_dies_costs_nothing(setting: Setting, tree: Path) -> None:
    pool = setting.start()
    first = pool.ask(call(tree, "", 1))["worker"]
    os.kill(first["pid"], signal.SIGKILL)
    second = pool.ask(call(tree, "", 2))
    assert second["ok"]
    assert second["worker"]["pid"] != first["pid"]
    assert pool.finish() == ([], 0)


def test_f10_a_grandchild_that_holds_the_output(
    setting: Setting, tree: Path, gate: Gate, isolation: str
) -> None:
    code = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {gate.arrive + FOR_EVER!r}])\n"
        "print('output', flush=True)\n"
    )
    # The daemon exists before the hook ends.
    held = make_tree(tree.parent / "held")
    pool = setting.start("--isolation", isolation)
    # The process that holds the output never ends.
    response = pool.ask(call(held, code, 1))
    assert response["ok"]
    assert response["stdout"] == "output\n"
    assert pool.ask(call(held, "", 2))["ok"]
    assert pool.finish() == ([], 0)


def test_what_a_hook_leaves_in_its_group_dies_with_it(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    code = "import subprocess, sys\n"
    code += f"subprocess.Popen([sys.executable, '-c', {gate.arrive + FOR_EVER!r}])\n" + gate.wait
    pool = setting.start()
    pool.send(call(tree, code, 1))
    left = gate.arrived()
    gate.release()
    assert pool.response()["ok"]
    processes.wait_gone([left], timeout=5)
    assert pool.ask(call(tree, "", 2))["ok"]
    assert pool.finish() == ([], 0)


def test_f11_a_daemon_lives_until_the_supervisor_ends(
    setting: Setting, tree: Path, gate: Gate, isolation: str
) -> None:
    other = make_tree(tree.parent / "other")
    pool = setting.start("--isolation", isolation)
    assert pool.ask(call(tree, detach(gate), 1))["ok"]
    daemon = gate.arrived()
    # Another hook of the same tree, a crash in another tree, and a replaced worker.
    assert pool.ask(call(tree, "", 2))["ok"]
    assert kind(pool.ask(call(other, "import os\nos.abort()", 3)))
    assert pool.ask(call(other, "", 4))["ok"]
    assert processes.alive(daemon)
    assert pool.finish() == ([], 1)
    processes.wait_gone([daemon], timeout=2)


def test_f11_kill_detached(setting: Setting, tree: Path, gate: Gate) -> None:
    pool = setting.start("--kill-detached")
    code = detach(gate) + gate.wait
    pool.send(call(tree, code, 1))
    daemon = gate.arrived()
    gate.release()
    assert pool.response()["ok"]
    processes.wait_gone([daemon], timeout=5)
    assert pool.ask(call(tree, "", 2))["ok"]
    assert pool.finish() == ([], 0)


def test_f11_a_daemon_survives_its_worker(setting: Setting, tree: Path, gate: Gate) -> None:
    """A compiler server survives the kill of the worker whose tree started it."""
    pool = setting.start("--max-requests", "1")
    assert pool.ask(call(tree, detach(gate), 1))["ok"]
    daemon = gate.arrived()
    assert pool.ask(call(tree, "", 2))["ok"]
    assert pool.ask(call(tree, "", 3))["ok"]
    state = processes.alive(daemon)
    assert pool.finish() == ([], 0)
    processes.wait_gone([daemon], timeout=2)
    assert state


def test_f43_only_own_processes_are_signalled(setting: Setting, tree: Path, gate: Gate) -> None:
    """A bystander in the same session and a child of the same parent stay untouched."""
    command = [sys.executable, "-c", gate.arrive + FOR_EVER]
    with subprocess.Popen(command) as bystander:
        gate.arrived()
        pool = setting.start("--hook-timeout", "300ms", "--kill-detached")
        pool.send(call(tree, with_child(gate), 1))
        assert kind(pool.response()) == "HookTimeout"
        worker = pool.ask(call(tree, "", 2))["worker"]["pid"]
        os.kill(worker, signal.SIGKILL)
        pool.ask(call(tree, "", 3))
        pool.signal(signal.SIGTERM)
        pool.rest()
        assert pool.wait() == 143
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_f06_a_hook_dies_of_a_signal(
    setting: Setting, tree: Path, number: signal.Signals, isolation: str
) -> None:
    pool = setting.start("--isolation", isolation)
    before = pool.ask(call(tree, "", 0))["worker"]
    response = pool.ask(call(tree, f"import os\nos.kill(os.getpid(), {int(number)})", 1))
    if isolation == "hook":
        assert kind(response) == "HookCrashed"
    else:
        # The hook runs in the worker, so the worker dies.
        assert kind(response) == "WorkerCrashed"
    assert number.name in str(response["error"])
    after = pool.ask(call(tree, "result = ['on']", 2))
    assert after["result"] == ["on"]
    assert (after["worker"] == before) == (isolation == "hook")
    assert pool.finish() == ([], 1)
