"""Scheduling: jobs, priorities, fairness between trees, workers and their eviction."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
from conftest import BOTH_START_METHODS, BOTH_WAYS, Setting
from gate import Gate
from trees import ECHO_BACKEND, call, echo, make_tree

pytestmark = BOTH_WAYS


def test_priorities_then_first_in_first_out(setting: Setting, tree: Path, gate: Gate) -> None:
    pool = setting.start(jobs=1)
    pool.send(call(tree, gate.code, "first"))
    gate.arrived()
    pool.send(
        call(tree, "", "a"),
        call(tree, "", "low", priority=-1),
        call(tree, "", "b"),
        call(tree, "", "high", priority=5),
        call(tree, "", "higher", priority=6),
        call(tree, "", "high too", priority=5),
    )
    # The response to this line shows that the earlier lines were read.
    pool.send({"no": "request"})
    assert pool.response()["id"] is None
    pool.close_input()
    gate.release()
    found = [response["id"] for response in pool.rest()]
    assert found == ["first", "higher", "high", "high too", "a", "b", "low"]
    assert pool.wait() == 1


def test_priorities_between_trees(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    trees = [make_tree(tmp_path / name) for name in ("one", "two", "three")]
    pool = setting.start(jobs=1)
    pool.send(call(trees[0], gate.code, "first"))
    gate.arrived()
    pool.send(
        call(trees[0], "", "one"),
        call(trees[1], "", "two", priority=1),
        call(trees[2], "", "three", priority=2),
    )
    pool.close_input()
    gate.release()
    assert [response["id"] for response in pool.rest()] == ["first", "three", "two", "one"]
    assert pool.wait() == 0


def test_a_tree_of_higher_priority_keeps_its_turn_between_two_hooks(
    setting: Setting, tmp_path: Path, gate: Gate
) -> None:
    urgent, other = make_tree(tmp_path / "urgent"), make_tree(tmp_path / "other")
    pool = setting.start(jobs=1)
    pool.send(call(urgent, gate.code, "first", priority=10))
    gate.arrived()
    pool.send(call(other, "", "other"))
    # Cleaning up after the hook keeps the worker busy for a moment after its response.
    leaves = "import subprocess; subprocess.Popen(['sleep', '600'])"
    pool.send(*(call(urgent, leaves, number, priority=10) for number in range(5)))
    pool.close_input()
    gate.release()
    assert [response["id"] for response in pool.rest()] == ["first", 0, 1, 2, 3, 4, "other"]
    assert pool.wait() == 0


def test_round_robin_between_trees(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    hot = make_tree(tmp_path / "hot")
    others = [make_tree(tmp_path / f"other-{number}") for number in range(3)]
    pool = setting.start(jobs=1)
    pool.send(call(hot, gate.code, "first"))
    gate.arrived()
    pool.send(*(call(hot, "", f"hot-{number}") for number in range(30)))
    pool.send(*(call(tree, "", tree.name) for tree in others))
    pool.close_input()
    gate.release()
    order = [response["id"] for response in pool.rest()]
    assert len(order) == 34
    # The busy tree has at most one turn before each of the others.
    assert max(order.index(tree.name) for tree in others) <= 2 * len(others)
    assert [name for name in order if name.startswith("hot")] == [f"hot-{n}" for n in range(30)]
    assert pool.wait() == 0


def test_one_hook_at_a_time_in_a_tree(setting: Setting, tree: Path, gate: Gate) -> None:
    pool = setting.start(jobs=4)
    pool.send(call(tree, gate.code, 1), call(tree, gate.code, 2))
    other = make_tree(tree.parent / "other")
    gate.arrived()
    # If the second had been started, its process would arrive before this response.
    assert pool.ask(call(other, "", 3))["ok"]
    assert gate.nobody()
    gate.release(2)
    rest, code = pool.finish()
    assert [response["id"] for response in rest] == [1, 2]
    assert len({response["worker"]["pid"] for response in rest}) == 1
    assert code == 0


def test_a_tree_is_the_folder_not_its_name(setting: Setting, tree: Path, gate: Gate) -> None:
    link = tree.parent / "link"
    link.symlink_to(tree)
    pool = setting.start(jobs=4)
    pool.send(call(tree, gate.code, 1))
    gate.arrived()
    pool.send(call(link, gate.code, 2), call(f"{tree}/../tree/", gate.code, 3))
    other = make_tree(tree.parent / "other")
    assert pool.ask(call(other, "", 4))["ok"]
    assert gate.nobody()
    gate.release(3)
    rest, code = pool.finish()
    assert [response["id"] for response in rest] == [1, 2, 3]
    assert code == 0


@BOTH_START_METHODS
def test_workers_per_tree(setting: Setting, tree: Path, gate: Gate) -> None:
    pool = setting.start("--workers-per-tree", "2", jobs=3)
    pool.send(*(call(tree, gate.code, number) for number in range(3)))
    first = {gate.arrived(), gate.arrived()}
    assert len(first) == 2
    other = make_tree(tree.parent / "other")
    assert pool.ask(call(other, "", 9))["ok"]
    assert gate.nobody()
    gate.release(3)
    rest, code = pool.finish()
    assert len(rest) == 3
    assert len({response["worker"]["pid"] for response in rest}) == 2
    assert code == 0


def test_jobs_bound_the_hooks(
    setting: Setting, tmp_path: Path, gates: Callable[[str], Gate]
) -> None:
    folders = [make_tree(tmp_path / f"tree-{number}") for number in range(4)]
    gate = gates("jobs")
    pool = setting.start(jobs=2)
    pool.send(*(call(folder, gate.code, n) for n, folder in enumerate(folders)))
    assert gate.arrived() != gate.arrived()
    pool.send_bytes(b"not a request\n")
    assert pool.response()["line"] == 5
    assert gate.nobody()
    gate.release()
    pool.response()
    gate.arrived()
    gate.release(3)
    rest, code = pool.finish()
    assert len(rest) == 3
    assert code == 1


def wait_idle(tree: Path) -> None:
    """Wait until the worker has cleaned up after its hook; only then it releases the tree."""
    descriptor = os.open(tree, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


@BOTH_START_METHODS
def test_max_workers_evicts_the_least_recently_used(setting: Setting, tmp_path: Path) -> None:
    folders = [make_tree(tmp_path / name, ECHO_BACKEND) for name in ("a", "b", "c")]
    pool = setting.start("--isolation", "none", "--max-workers", "2", jobs=2)

    def worker_of(number: int) -> int:
        pid = pool.ask(echo(folders[number], number, ""))["worker"]["pid"]
        assert isinstance(pid, int)
        wait_idle(folders[number])
        return pid

    a, b = worker_of(0), worker_of(1)
    assert worker_of(0) == a
    c = worker_of(2)
    processes.wait_gone([b])
    assert processes.alive(a)
    assert worker_of(0) == a
    assert worker_of(2) == c
    assert worker_of(1) != b
    assert len(processes.workers(pool.pid)) <= 2
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_more_trees_than_workers(setting: Setting, tmp_path: Path) -> None:
    folders = [make_tree(tmp_path / f"{number}", ECHO_BACKEND) for number in range(20)]
    pool = setting.start("--max-workers", "1", jobs=4)
    pool.send(*(echo(folders[n % 20], n, str(n)) for n in range(40)))
    found = pool.responses(40)
    assert sorted(response["id"] for response in found) == list(range(40))
    assert all(response["result"] == [str(response["id"])] for response in found)
    assert len(processes.workers(pool.pid)) <= 1
    # Not one for each: it is moved. Templates that learn cause a few more.
    assert len({response["worker"]["pid"] for response in found}) <= 3
    assert pool.finish() == ([], 0)


def test_the_queue_is_bounded_and_nothing_is_lost(setting: Setting, tree: Path, gate: Gate) -> None:
    pool = setting.start("--queue-size", "2", jobs=1)
    pool.send(call(tree, gate.code, 0), *(call(tree, "", number) for number in range(1, 20)))
    gate.arrived()
    pool.close_input()
    gate.release()
    assert [response["id"] for response in pool.rest()] == list(range(20))
    assert pool.wait() == 0


@BOTH_START_METHODS
@pytest.mark.parametrize("jobs", [1, 2])
def test_f38_two_supervisors_build_the_same_tree(
    setting: Setting, tree: Path, gates: Callable[[str], Gate], jobs: int
) -> None:
    one, two = gates("one"), gates("two")
    first, second = setting.start(jobs=jobs), setting.start(jobs=jobs)
    other = make_tree(tree.parent / "other")
    first.send(call(tree, one.code, 1))
    one.arrived()
    second.send(call(tree, two.code, 2))
    # A request that waits for the lock uses no job slot.
    second.send(call(other, "", 3))
    assert second.response()["id"] == 3
    assert two.nobody()
    one.release()
    assert first.response()["ok"]
    # The first supervisor still runs, but its idle worker does not hold the tree.
    two.arrived()
    two.release()
    assert second.response()["ok"]
    assert first.finish() == ([], 0)
    assert second.finish() == ([], 0)


def test_f38_waiting_for_the_lock_can_be_cancelled(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    first, second = setting.start(), setting.start()
    first.send(call(tree, gate.code, 1))
    gate.arrived()
    second.send(call(tree, "", 2))
    second.send_bytes(b'{"cancel": 2}\n')
    assert second.response()["error"]["kind"] == "Cancelled"
    assert second.finish() == ([], 1)
    gate.release()
    assert first.response()["ok"]
    assert first.finish() == ([], 0)
