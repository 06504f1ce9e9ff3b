"""The action `tree`: a worker comes to serve another source tree."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from client import Hookd, Lifeline, Reply
from conftest import Start

WHERE = """
import os
parent = os.readlink("/proc/{}/cwd".format(os.getppid()))
result = [os.getcwd(), parent, os.environ["HOOKPOOL_WITHIN"]]
"""
DAEMON = "import leftovers\nleftovers.open_lifeline(settings['line'])\nleftovers.daemon()\n"


def run_in(hookd: Hookd, tree: Path | str, code: str, **settings: str) -> Reply:
    hookd.write(f"tree {tree}")
    return hookd.run_code(code, **settings)


def number(tree: Path) -> str:
    return "{0.st_dev}:{0.st_ino}".format(tree.stat())


@pytest.fixture
def other(tmp_path: Path) -> Path:
    folder = tmp_path / "another tree"
    folder.mkdir()
    return folder


def test_hooks_are_of_the_tree_that_was_named_last(
    start: Start, environment: dict[str, str], tree: Path, other: Path
) -> None:
    environment["HOOKPOOL_WITHIN"] = "1:2"
    hookd = start()
    in_tree = [str(tree), str(tree), "1:2 " + number(tree)]
    in_other = [str(other), str(other), "1:2 " + number(other)]
    assert hookd.run_code(WHERE).result == in_tree
    assert run_in(hookd, other, WHERE).result == in_other
    assert hookd.run_code(WHERE).result == in_other
    # Relative to the tree before.
    assert run_in(hookd, "../tree", WHERE).result[0] == str(tree)
    hookd.write(f"tree {other}")
    assert run_in(hookd, tree, WHERE).result == in_tree
    assert hookd.shut_down() == 0


def test_paths_of_a_request_are_relative_to_it(start: Start, tree: Path, other: Path) -> None:
    (other / "inside").mkdir()
    (other / "inside" / "own.py").write_text(
        "def build_sdist(directory, config_settings=None):\n    return directory\n"
    )
    hookd = start()
    hookd.write(f"tree {other}")
    reply = hookd.run("own", "build_sdist", "out", "", backend_path=("inside",))
    assert reply.result == str(other / "out")


def test_one_that_is_gone(start: Start, tree: Path, other: Path) -> None:
    hookd = start()
    shutil.rmtree(other)
    reply = run_in(hookd, other, WHERE)
    kind, error = reply.error
    assert (kind, str(other) in error["message"]) == ("InvalidSource", True)
    assert reply.kinds == ["ERROR"], "it was not accepted"
    # As long as it is gone, and no longer.
    assert hookd.run_code(WHERE).error[0] == "InvalidSource"
    other.mkdir()
    assert hookd.run_code(WHERE).result == [str(other), str(other), number(other)]
    shutil.rmtree(other)
    assert run_in(hookd, tree, WHERE).result == [str(tree), str(tree), number(tree)]


def test_it_waits_for_the_hook_that_runs(start: Start, lifeline: Lifeline, other: Path) -> None:
    hookd = start()
    code = "import leftovers, os\nleftovers.open_lifeline(settings['line'])\nleftovers.hang()\n"
    hookd.start_code(code, line=lifeline.path)
    lifeline.wait_started()
    hookd.write(f"tree {other}", "ping 1")
    # It stands behind another action, which waits too.
    hookd.write("cancel SIGTERM")
    hookd.until("STDERR")
    os.kill(int(hookd_child(hookd)), signal.SIGKILL)
    hookd.until("READY")
    assert hookd.message() == ("EXPECT", "action")
    assert hookd.message() == ("PONG", "1")
    assert hookd.run_code(WHERE).result[0] == str(other)


def hookd_child(hookd: Hookd) -> str:
    return Path(f"/proc/{hookd.pid}/task/{hookd.pid}/children").read_text()


@pytest.mark.parametrize(
    "isolation, control, line",
    [("none", True, "tree /"), ("hook", False, "tree /"), ("hook", True, "tree")],
)
def test_where_there_is_no_such_action(
    start: Start, tree: Path, isolation: str, control: bool, line: str
) -> None:
    hookd = start(isolation=isolation, control=control)
    hookd.write(line)
    assert hookd.ready().error[0] == "InvalidAction"
    assert hookd.run_code("import os; result = [os.getcwd()]").result == [str(tree)]


def test_the_caller_is_told_of_detached_processes(start: Start, lifeline: Lifeline) -> None:
    hookd = start()
    hookd.start_code(DAEMON, line=lifeline.path)
    lifeline.wait_started()
    assert hookd.ready().kinds[-2:] == ["OK", "KEEPING"]
    reply = hookd.run_code("")
    assert reply.value("KEEPING") == "1"
    os.kill(int(hookd_child(hookd)), signal.SIGKILL)
    lifeline.wait_gone()
    assert "KEEPING" not in hookd.run_code("").kinds
