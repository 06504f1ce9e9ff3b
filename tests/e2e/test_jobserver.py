"""The jobserver: hooks and what they start share the processors."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import jobserver
import processes
import pytest
from conftest import BOTH_START_METHODS, Setting
from environments import python_with
from gate import Gate
from jobserver import CLIENT, Fifo, Jobs, wait_counted
from pool import Pool, kind
from trees import call, make_tree

TOOLS = Path(__file__).with_name("jobserver_tools.txt")
MAKEFLAGS = "import os\nresult = [os.environ.get('MAKEFLAGS', 'unset')]"
# There may be two at first: the token of the hook is taken a moment after its start.
TAKE_ONE = "token = take(5)\nput(token[1:])\ntoken = token[:1]\nassert token\n"
KILL_ME = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"


@pytest.fixture(scope="session")
def tools(target: Path) -> Path:
    """The folder of a make and a ninja that support the protocol."""
    return Path(python_with(target / "jobserver-venv", TOOLS)).parent


def fake_make(folder: Path, says: str) -> str:
    """A PATH with a make that prints only this."""
    folder.mkdir()
    (folder / "make").write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / "make").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def new_make(tmp_path: Path) -> dict[str, str]:
    """Variables with a make that is new enough."""
    return {"PATH": fake_make(tmp_path / "new-make", "GNU Make 4.4.1"), "MAKEFLAGS": ""}


@pytest.fixture
def old_make(tmp_path: Path) -> dict[str, str]:
    """Variables with a make that is too old."""
    return {"PATH": fake_make(tmp_path / "old-make", "GNU Make 4.3"), "MAKEFLAGS": ""}


@pytest.fixture
def fifo_of(tmp_path: Path) -> Iterator[Callable[[Pool], Fifo]]:
    """Opens the fifo of the hooks of a pool."""
    opened: list[Fifo] = []

    def open_it(pool: Pool) -> Fifo:
        # A separate tree, so that it does not wait for the hooks of the others.
        look = make_tree(tmp_path / f"look-{len(opened)}")
        (makeflags,) = pool.ask(call(look, MAKEFLAGS, "look"))["result"]
        opened.append(Fifo(makeflags.partition("--jobserver-auth=fifo:")[2].split()[0]))
        return opened[-1]

    yield open_it
    for fifo in opened:
        fifo.close()


def cargo_environment(tmp_path: Path) -> dict[str, str]:
    """The folders that cargo needs, since the test replaces HOME."""
    home = Path(os.environ["HOME"])
    rustup = os.environ.get("RUSTUP_HOME", str(home / ".rustup"))
    return {"RUSTUP_HOME": rustup, "CARGO_HOME": str(tmp_path / "cargo")}


@pytest.mark.parametrize("tool", ["make", "ninja", "cargo"])
def test_the_jobs_of_two_builds_are_as_many_as_there_are_tokens(
    tool: str,
    setting: Setting,
    tmp_path: Path,
    tools: Path,
    gate: Gate,
    new_make: dict[str, str],
    fifo_of: Callable[[Pool], Fifo],
) -> None:
    # If the tools have no make, hookpool finds another one that supports the protocol.
    path = f"{tools}:{new_make['PATH']}"
    if tool == "make" and not (tools / "make").exists():
        pytest.skip("no make 4.4 for this platform")
    if tool == "cargo" and shutil.which("cargo") is None:
        pytest.skip("no cargo")
    write = {
        "make": jobserver.write_makefile,
        "ninja": jobserver.write_ninja,
        "cargo": jobserver.write_crates,
    }[tool]
    jobs = Jobs(tmp_path, gate)
    env = {**new_make, "PATH": path, **cargo_environment(tmp_path)}
    pool = setting.start("--jobserver", "on", jobs=4, env=env)
    fifo = fifo_of(pool)
    trees = [make_tree(tmp_path / f"{number}") for number in range(2)]
    pool.send(*(call(tree, write(tree, jobs, 5), n) for n, tree in enumerate(trees)))
    # Two hooks, each with one job of its own, and the two remaining tokens.
    for _ in range(4):
        gate.arrived()
    assert fifo.free() == 0
    assert gate.nobody()
    # Each job that ends makes room for another.
    gate.release(2)
    gate.arrived()
    gate.arrived()
    gate.release(100)
    assert [response["result"] for response in pool.responses(2)] == [["0"], ["0"]]
    assert jobs.total() == 10
    assert jobs.most_at_once() == 4
    fifo.wait_free(4)
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_a_hook_that_runs_holds_a_token(
    setting: Setting, tmp_path: Path, tree: Path, gate: Gate, new_make: dict[str, str]
) -> None:
    other = make_tree(tmp_path / "other")
    pool = setting.start("--jobserver", "on", jobs=3, env=new_make)
    wait_counted(pool, tree, 2)
    pool.send(call(other, gate.code, "busy"))
    gate.arrived()
    wait_counted(pool, tree, 1)
    gate.release()
    assert pool.response()["ok"]
    wait_counted(pool, tree, 2)
    assert pool.finish() == ([], 0)


def test_a_hook_does_not_wait_for_its_token_and_pays_later(
    setting: Setting,
    tmp_path: Path,
    tree: Path,
    gates: Callable[[str], Gate],
    new_make: dict[str, str],
    fifo_of: Callable[[Pool], Fifo],
) -> None:
    greedy, returned, second = gates("greedy"), gates("returned"), gates("second")
    pool = setting.start("--jobserver", "on", jobs=2, env=new_make)
    fifo = fifo_of(pool)
    take = CLIENT + TAKE_ONE
    pool.send(call(tree, take + greedy.code + "put(token)\n" + returned.code))
    greedy.arrived()
    fifo.wait_free(0)
    # The hook runs all the same.
    pool.send(call(make_tree(tmp_path / "other"), second.code, 2))
    second.arrived()
    greedy.release()
    returned.arrived()
    # The second hook has the returned token, or will have it soon.
    fifo.wait_free(0)
    second.release()
    assert pool.response()["id"] == 2
    fifo.wait_free(1)
    returned.release()
    assert pool.response()["ok"]
    fifo.wait_free(2)
    assert pool.finish() == ([], 0)


def test_a_debt_is_struck_out_when_its_hook_ends(
    setting: Setting,
    tmp_path: Path,
    tree: Path,
    gate: Gate,
    new_make: dict[str, str],
) -> None:
    pool = setting.start("--jobserver", "on", jobs=2, env=new_make)
    take = CLIENT + TAKE_ONE
    pool.send(
        call(tree, take + gate.code + "put(token)\nresult = [str(len(take(5)))]\nput(token)\n")
    )
    gate.arrived()
    assert pool.ask(call(make_tree(tmp_path / "other"), "", 2))["ok"]
    gate.release()
    # The hook could take the token that the first hook had returned.
    assert pool.response()["result"] == ["1"]
    assert pool.finish() == ([], 0)


@pytest.mark.parametrize("end", ["crash", "timeout", "cancel", "worker"])
def test_tokens_of_what_was_killed_come_back(
    end: str, setting: Setting, tree: Path, gate: Gate, new_make: dict[str, str]
) -> None:
    pool = setting.start("--jobserver", "on", "--grace-period", "0", jobs=4, env=new_make)
    take = CLIENT + "assert len(take(2)) == 2\n"
    if end == "crash":
        assert kind(pool.ask(call(tree, take + KILL_ME))) == "HookCrashed"
    elif end == "timeout":
        slow = call(tree, take + gate.code, timeout="500ms")
        assert kind(pool.ask(slow)) == "HookTimeout"
    else:
        pool.send(call(tree, take + gate.code, "victim"))
        hook = gate.arrived()
        if end == "cancel":
            pool.send({"cancel": "victim"})
            assert kind(pool.response()) == "Cancelled"
        else:
            worker = processes.parent(hook)
            assert worker is not None
            os.kill(worker, 9)
            assert kind(pool.response()) == "WorkerCrashed"
    wait_counted(pool, tree, 3)
    pool.close_input()
    assert pool.wait() == 1


def test_lost_tokens_come_back_once_no_hook_runs(
    setting: Setting, tmp_path: Path, tree: Path, gate: Gate, new_make: dict[str, str]
) -> None:
    other = make_tree(tmp_path / "other")
    pool = setting.start("--jobserver", "on", jobs=3, env=new_make)
    pool.send(call(other, gate.code, "busy"))
    gate.arrived()
    assert kind(pool.ask(call(tree, CLIENT + "take(1)\n" + KILL_ME))) == "HookCrashed"
    # The missing token may belong to the hook that still runs. A hook that counts may be faster
    # than the supervisor, which takes a token for it.
    wait_counted(pool, tree, 0)
    gate.release()
    assert pool.response()["id"] == "busy"
    wait_counted(pool, tree, 2)
    # Surplus tokens of a broken client are removed.
    assert pool.ask(call(tree, CLIENT + "put(b'+' * 9)\n"))["ok"]
    wait_counted(pool, tree, 2)
    pool.close_input()
    assert pool.wait() == 1


@BOTH_START_METHODS
def test_what_hooks_are_told(setting: Setting, tree: Path, new_make: dict[str, str]) -> None:
    env = {**new_make, "MAKEFLAGS": "k -j8 -- A=b", "CARGO_MAKEFLAGS": "-j --jobserver-auth=3,4"}
    pool = setting.start(jobs=3, env=env)
    look = "import os\nresult = [os.environ['MAKEFLAGS'], os.environ['CARGO_MAKEFLAGS']]"
    makeflags, for_cargo = pool.ask(call(tree, look))["result"]
    assert makeflags == for_cargo
    before, _, after = makeflags.partition("--jobserver-auth=fifo:")
    fifo, _, definitions = after.partition(" ")
    assert (before, definitions) == ("k -j3 ", "-- A=b")
    path = Path(fifo)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert pool.finish() == ([], 0)
    assert not path.parent.exists()


def test_a_folder_with_a_blank_in_its_name(
    setting: Setting, tmp_path: Path, tree: Path, new_make: dict[str, str]
) -> None:
    capture = tmp_path / "a capture folder"
    pool = setting.start("--capture-dir", str(capture), "--jobserver=on", jobs=3, env=new_make)
    wait_counted(pool, tree, 2)
    assert pool.finish() == ([], 0)


def test_an_old_make_turns_it_off_and_that_is_said(
    setting: Setting, tree: Path, old_make: dict[str, str]
) -> None:
    pool = setting.start("-v", env=old_make)
    assert pool.ask(call(tree, MAKEFLAGS))["result"] == [""]
    assert pool.finish() == ([], 0)
    reason = "make is GNU make 4.3, and a make older than 4.4 stops with an error"
    assert f"hooks get no jobserver: {setting.root}/old-make/{reason}" in pool.stderr


def test_an_old_make_is_an_error_where_a_jobserver_is_wanted(
    setting: Setting, old_make: dict[str, str]
) -> None:
    pool = setting.start("--jobserver", "on", env=old_make)
    assert pool.finish() == ([], 3)
    assert "error: --jobserver on: " in pool.stderr
    assert "make is GNU make 4.3" in pool.stderr
    assert "hint: " in pool.stderr


def test_another_make_is_not_trusted(setting: Setting, tmp_path: Path) -> None:
    env = {"PATH": fake_make(tmp_path / "bsd", "usage: make [-j jobs]"), "MAKEFLAGS": ""}
    pool = setting.start("--jobserver", "on", env=env)
    assert pool.finish() == ([], 3)
    assert "does not say that it is GNU make 4.4 or newer: it printed: usage" in pool.stderr


def test_it_can_be_turned_off(setting: Setting, tree: Path, new_make: dict[str, str]) -> None:
    pool = setting.start(env={**new_make, "HOOKPOOL_JOBSERVER": "off", "MAKEFLAGS": "k -j8"})
    assert pool.ask(call(tree, MAKEFLAGS))["result"] == ["k -j8"]
    assert pool.finish() == ([], 0)


@pytest.mark.parametrize("when", ["auto", "on", "off"])
def test_an_outer_jobserver_is_left_to_the_hooks(
    when: str, setting: Setting, tmp_path: Path, tree: Path, old_make: dict[str, str]
) -> None:
    fifo = tmp_path / "outer"
    os.mkfifo(fifo)
    makeflags = f" -j8 --jobserver-auth=fifo:{fifo}"
    env = {**old_make, "MAKEFLAGS": makeflags}
    pool = setting.start("--jobserver", when, "-v", env=env)
    assert pool.ask(call(tree, MAKEFLAGS))["result"] == [makeflags]
    assert pool.finish() == ([], 0)
    assert "hooks get the jobserver that MAKEFLAGS names" in pool.stderr


@pytest.mark.parametrize("address", ["3,4", "fifo:/nowhere/GMfifo1"])
def test_an_outer_jobserver_that_hooks_cannot_reach_is_not_named(
    address: str, setting: Setting, tree: Path, old_make: dict[str, str]
) -> None:
    env = {**old_make, "MAKEFLAGS": f"k -j8 --jobserver-auth={address} -- A=b"}
    pool = setting.start(env=env)
    assert pool.ask(call(tree, MAKEFLAGS))["result"] == ["k -- A=b"]
    assert pool.finish() == ([], 0)


def test_what_a_killed_run_left_is_removed_by_the_next(
    setting: Setting, tree: Path, new_make: dict[str, str], fifo_of: Callable[[Pool], Fifo]
) -> None:
    first = setting.start(env=new_make)
    left = fifo_of(first).path
    first.process.kill()
    first.wait()
    assert left.exists()
    second = setting.start(env=new_make)
    assert second.ask(call(tree))["ok"]
    assert not left.exists()
    assert second.finish() == ([], 0)
