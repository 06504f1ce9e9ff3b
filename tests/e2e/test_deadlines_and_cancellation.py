"""Deadlines, cancellation and memory limits of hooks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
from conftest import BOTH_START_METHODS, BOTH_WAYS, Setting
from gate import Gate
from pool import kind
from trees import call, make_tree

pytestmark = BOTH_WAYS

# A hook with a child in its process group, like a compiler; the child passes the gate too.
WITH_CHILD = """\
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}])
"""
IGNORE_TERM = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
FOR_EVER = "import signal\nwhile True:\n    signal.pause()\n"


def with_child(gate: Gate, before: str = "") -> str:
    """Code of a hook that runs a child forever; both arrive at the gate."""
    forever = before + gate.arrive + FOR_EVER
    return before + WITH_CHILD.format(child=forever) + gate.arrive + FOR_EVER


@BOTH_START_METHODS
@pytest.mark.parametrize("source", ["flag", "request", "request over flag"])
def test_f28_a_hook_beyond_its_deadline(
    setting: Setting, tree: Path, gate: Gate, source: str, isolation: str
) -> None:
    flags = {"flag": ["--hook-timeout", "700ms"], "request over flag": ["--hook-timeout", "1h"]}
    fields = {} if source == "flag" else {"timeout": "700ms"}
    pool = setting.start("--isolation", isolation, *flags.get(source, []))
    before = pool.settle(tree)
    pool.send(call(tree, with_child(gate), 1, **fields))
    hook_and_child = [gate.arrived(), gate.arrived()]
    response = pool.response()
    assert kind(response) == "HookTimeout"
    processes.wait_gone(hook_and_child)
    after = pool.ask(call(tree, "result = ['on']", 2))
    assert after["result"] == ["on"]
    if isolation == "hook":
        assert after["worker"] == before
    assert pool.finish() == ([], 1)


def test_the_deadline_does_not_count_waiting(setting: Setting, tree: Path, gate: Gate) -> None:
    pool = setting.start("--hook-timeout", "10s", jobs=1)
    pool.send(call(tree, gate.code, 1), call(tree, "", 2, timeout="500ms"))
    gate.arrived()
    # The deadline of the second must not run in the queue.
    processes.outlast(0.5)
    gate.release()
    assert [kind(response) for response in pool.responses(2)] == [None, None]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_f17_a_hook_that_ignores_sigterm(setting: Setting, tree: Path, gate: Gate) -> None:
    pool = setting.start("--hook-timeout", "300ms", "--grace-period", "300ms")
    began = time.monotonic()
    pool.send(call(tree, with_child(gate, IGNORE_TERM), 1))
    hook_and_child = [gate.arrived(), gate.arrived()]
    assert kind(pool.response()) == "HookTimeout"
    assert time.monotonic() - began >= 0.6
    processes.wait_gone(hook_and_child)
    assert pool.ask(call(tree, "", 2))["ok"]
    assert pool.finish() == ([], 1)


@BOTH_START_METHODS
def test_a_hook_may_clean_up_in_the_grace_period(setting: Setting, tree: Path) -> None:
    code = (
        "import signal, sys, pathlib\n"
        "def clean(number, frame):\n"
        "    pathlib.Path('cleaned').touch()\n"
        "    sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, clean)\n" + FOR_EVER
    )
    pool = setting.start("--hook-timeout", "300ms", "--grace-period", "20s")
    assert kind(pool.ask(call(tree, code, 1))) == "HookTimeout"
    assert (tree / "cleaned").exists()
    assert pool.finish() == ([], 1)


def test_f15_cancel_while_queued(setting: Setting, tree: Path, gate: Gate) -> None:
    pool = setting.start(jobs=1)
    pool.send(call(tree, gate.code, 1), call(tree, "", 2), call(tree, "", 2), call(tree, "", 3))
    gate.arrived()
    pool.send_bytes(b'{"cancel": 2}\n')
    cancelled = pool.responses(2)
    assert [(response["id"], kind(response)) for response in cancelled] == [(2, "Cancelled")] * 2
    gate.release()
    rest, code = pool.finish()
    assert [(response["id"], kind(response)) for response in rest] == [(1, None), (3, None)]
    assert code == 1


@BOTH_START_METHODS
def test_f15_cancel_while_starting(setting: Setting, tree: Path, tmp_path: Path) -> None:
    pool = setting.start(jobs=1)
    request = call(tree, "", 1)
    for _ in range(20):
        pool.send(request)
        pool.send_bytes(b'{"cancel": 1}\n')
        # Whenever the cancellation came, there is exactly one response.
        assert kind(pool.response()) in {"Cancelled", None}
    assert pool.silent()
    other = make_tree(tmp_path / "other")
    assert pool.ask(call(other, "", 2))["ok"]
    assert pool.ask(call(tree, "", 3))["ok"]
    processes.wait_no_zombies(pool.pid)
    pool.finish()


@BOTH_START_METHODS
@pytest.mark.parametrize("before", ["", IGNORE_TERM], ids=["obedient", "stubborn"])
def test_f15_cancel_while_running(
    setting: Setting, tree: Path, gate: Gate, before: str, isolation: str
) -> None:
    pool = setting.start("--isolation", isolation, "--grace-period", "300ms", jobs=1)
    pool.send(call(tree, with_child(gate, before), 1), call(tree, "result = ['on']", 2))
    hook_and_child = [gate.arrived(), gate.arrived()]
    pool.send_bytes(b'{"cancel": 1}\n')
    first, second = pool.responses(2)
    assert (first["id"], kind(first)) == (1, "Cancelled")
    assert (second["id"], second["result"]) == (2, ["on"])
    processes.wait_gone(hook_and_child)
    processes.wait_no_zombies(pool.pid)
    assert pool.finish() == ([], 1)


def test_cancelling_what_is_unknown_or_done(setting: Setting, tree: Path) -> None:
    pool = setting.start()
    assert pool.ask(call(tree, "", 1))["ok"]
    pool.send_bytes(b'{"cancel": 1}\n{"cancel": "nobody"}\n')
    assert pool.ask(call(tree, "", 2))["ok"]
    assert pool.finish() == ([], 0)


def test_an_id_of_another_type_is_another_id(
    setting: Setting, tree: Path, gates: Callable[[str], Gate]
) -> None:
    gate = gates("types")
    pool = setting.start(jobs=1)
    pool.send(call(tree, gate.code, 0), call(tree, "", 7), call(tree, "", "7"))
    gate.arrived()
    pool.send_bytes(b'{"cancel": "7"}\n')
    cancelled = pool.response()
    assert (cancelled["id"], kind(cancelled)) == ("7", "Cancelled")
    gate.release()
    rest, _ = pool.finish()
    assert [(response["id"], kind(response)) for response in rest] == [(0, None), (7, None)]


@BOTH_START_METHODS
def test_hook_memory_limit(setting: Setting, tree: Path, gate: Gate) -> None:
    pool = setting.start("--hook-memory-limit", "200M")
    hungry = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', {!r}])\n"
    child = gate.arrive + "x = bytearray(b'x' * (400 * 2**20))\n" + FOR_EVER
    pool.send(call(tree, hungry.format(child), 1))
    pid = gate.arrived()
    response = pool.response()
    assert kind(response) == "HookCrashed", response
    assert "200" in response["error"]["message"] or "memory" in response["error"]["message"]
    processes.wait_gone([pid])
    modest = "x = bytearray(b'x' * (50 * 2**20))\nresult = ['modest']"
    assert pool.ask(call(tree, modest, 2))["result"] == ["modest"]
    assert pool.finish() == ([], 1)
