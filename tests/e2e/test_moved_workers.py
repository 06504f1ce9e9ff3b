"""One worker serves several trees in turn (isolation `hook`)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import processes
import pytest
from conftest import BOTH_START_METHODS, BOTH_WAYS, Setting
from gate import Gate
from pool import PROGRAM, Pool, Response, kind
from test_death import detach
from trees import call, make_tree

pytestmark = [BOTH_START_METHODS, BOTH_WAYS]

# With room for one worker only, a request waits until that is idle.
ONE_WORKER = ("--max-workers", "1")

WHERE = """\
import os, sys
import in_tree_backend
print("in", os.getcwd())
result = [os.getcwd(), os.environ["HOOKPOOL_WITHIN"], in_tree_backend.__file__]
"""


@pytest.fixture
def trees(tmp_path: Path) -> list[Path]:
    return [make_tree(tmp_path / name) for name in ("one", "two", "three", "a fourth ü")]


def pid(response: Response) -> int:
    number = response["worker"]["pid"]
    assert isinstance(number, int)
    return number


def settled(pool: Pool, tree: Path) -> int:
    """The worker, once the template has learned what hooks of these tests import."""
    pool.settle(tree, WHERE + "import signal, time")
    return pid(pool.ask(call(tree, WHERE)))


def test_one_worker_serves_all_trees(setting: Setting, trees: list[Path]) -> None:
    pool = setting.start(*ONE_WORKER, jobs=2)
    worker = settled(pool, trees[0])
    pool.send(*(call(trees[n % 4], WHERE, n) for n in range(20)))
    found = pool.responses(20)
    assert {pid(response) for response in found} == {worker}
    for response in found:
        tree = trees[response["id"] % 4]
        within = "{0.st_dev}:{0.st_ino}".format(tree.stat())
        assert response["result"] == [str(tree), within, str(tree / "in_tree_backend.py")]
        assert (response["stdout"], response["tree"]) == (f"in {tree}\n", str(tree))
    assert len(processes.workers(pool.pid)) == 1
    assert pool.finish() == ([], 0)


def test_with_isolation_none_each_tree_has_its_own(setting: Setting, trees: list[Path]) -> None:
    pool = setting.start("--isolation", "none")
    workers = {pid(pool.ask(call(tree, WHERE))) for tree in trees}
    assert len(workers) == len(trees)
    assert pool.finish() == ([], 0)


def test_f11_a_worker_with_a_daemon_stays_with_its_tree(
    setting: Setting, trees: list[Path], gate: Gate
) -> None:
    pool = setting.start("--max-workers", "2")
    worker = settled(pool, trees[0])
    assert pid(pool.ask(call(trees[0], detach(gate)))) == worker
    daemon = gate.arrived()
    # The hooks of another tree kill their worker, and all below it.
    killer = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nsignal.pause()"
    assert kind(pool.ask(call(trees[1], killer))) == "WorkerCrashed"
    assert processes.alive(daemon)
    assert processes.alive(worker)
    assert pool.ask(call(trees[0], WHERE))["ok"]
    assert pool.finish() == ([], 1)
    processes.wait_gone([daemon], timeout=2)


def test_f13_a_tree_whose_hooks_kill_their_worker_is_quarantined_alone(
    setting: Setting, trees: list[Path]
) -> None:
    bad, *good = trees
    pool = setting.start(*ONE_WORKER, "--max-restarts", "1", "--restart-window", "1h")
    killer = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nsignal.pause()"
    kinds = []
    for _ in range(3):
        for tree in good:
            assert pool.ask(call(tree, WHERE))["result"][0] == str(tree)
        kinds.append(kind(pool.ask(call(bad, killer))))
    assert kinds == ["WorkerCrashed", "WorkerCrashed", "Quarantined"]
    assert pool.finish() == ([], 1)


def test_f20_a_deleted_tree_costs_no_worker(setting: Setting, trees: list[Path]) -> None:
    pool = setting.start(*ONE_WORKER)
    worker = settled(pool, trees[0])
    shutil.rmtree(trees[1])
    assert kind(pool.ask(call(trees[1]))) == "InvalidSource"
    # The folder in which the worker is.
    shutil.rmtree(trees[0])
    make_tree(trees[0])
    found = [pool.ask(call(tree, WHERE)) for tree in (trees[0], trees[2], trees[0])]
    assert [response["result"][0] for response in found] == [
        str(trees[0]),
        str(trees[2]),
        str(trees[0]),
    ]
    assert {pid(response) for response in found} == {worker}
    assert pool.finish() == ([], 1)


def test_f20_a_tree_that_is_deleted_before_its_worker_enters_it(
    setting: Setting, trees: list[Path]
) -> None:
    pool = setting.start(*ONE_WORKER, "-vvv")
    worker = settled(pool, trees[0])
    # It is idle when it waits, and not for the end of its hook.
    processes.wait_gone(processes.children(worker))
    processes.wait_state(worker, "S")
    os.kill(worker, signal.SIGSTOP)
    pool.send(call(trees[1]))
    pool.wait_said(f"tree={trees[1]} generation=1")
    shutil.rmtree(trees[1])
    os.kill(worker, signal.SIGCONT)
    response = pool.response()
    assert kind(response) == "InvalidSource"
    assert str(trees[1]) in response["error"]["message"]
    # It is as good as before.
    found = [pool.ask(call(tree, WHERE)) for tree in (trees[2], trees[0])]
    assert [response["result"][0] for response in found] == [str(trees[2]), str(trees[0])]
    assert {pid(response) for response in found} == {worker}
    assert pool.finish() == ([], 1)


def test_f75_a_hook_of_a_moved_worker_is_of_its_tree(setting: Setting, trees: list[Path]) -> None:
    pool = setting.start(*ONE_WORKER)
    assert pool.ask(call(trees[0], WHERE))["ok"]
    command = [PROGRAM, "run", "--no-build-isolation", "--python", sys.executable]
    lines = "".join(json.dumps(call(tree, "result = ['ran']", str(tree))) + "\n" for tree in trees)
    code = (
        "import subprocess\n"
        f"run = subprocess.run({command!r}, input={lines!r}, text=True,"
        " stdout=subprocess.PIPE, check=False)\n"
        "result = run.stdout.splitlines()"
    )
    answers = [json.loads(line) for line in pool.ask(call(trees[1], code))["result"]]
    kinds = {answer["id"]: kind(answer) for answer in answers}
    assert kinds.pop(str(trees[1])) == "HookRecursion"
    assert set(kinds.values()) == {None}
    assert pool.finish() == ([], 0)


def test_f39_a_newline_in_a_path_is_not_moved_to(setting: Setting, trees: list[Path]) -> None:
    odd = make_tree(trees[0].parent / "new\nline")
    pool = setting.start(*ONE_WORKER)
    code = "import os\nresult = [os.getcwd()]"
    for tree in (trees[0], odd, trees[1], odd):
        assert pool.ask(call(tree, code))["result"] == [str(tree)]
    assert pool.finish() == ([], 0)
