"""Hooks that run hookpool on their own tree and on others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from builds import build, make_project
from conftest import BOTH_START_METHODS, Setting
from pool import PROGRAM, Response, kind
from trees import call, make_tree

NESTED = [PROGRAM, "run", "--no-build-isolation", "--python", sys.executable]


def asks(*requests: dict[str, Any], flags: tuple[str, ...] = ()) -> str:
    """Code of a hook that runs a hookpool of its own, and returns the responses."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    return (
        "import subprocess\n"
        f"run = subprocess.run({[*NESTED, *flags]!r}, input={lines!r}, text=True,"
        " stdout=subprocess.PIPE, check=False)\n"
        "result = run.stdout.splitlines()"
    )


def answers(response: Response) -> list[Response]:
    """The responses of the hookpool of a hook."""
    assert response["ok"], response["error"]
    return [json.loads(line) for line in response["result"]]


@BOTH_START_METHODS
def test_f75_a_hook_that_calls_hookpool_on_its_own_tree(
    setting: Setting, tree: Path, isolation: str
) -> None:
    pool = setting.start("--isolation", isolation)
    (answer,) = answers(pool.ask(call(tree, asks(call(tree, "result = ['never']")))))
    assert kind(answer) == "HookRecursion"
    assert str(tree) in answer["error"]["message"]
    # The tree works as before.
    assert pool.ask(call(tree, "result = ['on']"))["result"] == ["on"]
    assert pool.finish() == ([], 0)


def test_f75_by_way_of_another_tree(setting: Setting, tree: Path, tmp_path: Path) -> None:
    other = make_tree(tmp_path / "other")
    link = tmp_path / "link"
    link.symlink_to(tree)
    pool = setting.start()
    way_back = asks(call(link, "result = ['never']", 1), call(other, "result = ['never']", 2))
    (answer,) = answers(pool.ask(call(tree, asks(call(other, way_back)))))
    kinds = {found["id"]: kind(found) for found in answers(answer)}
    assert kinds == {1: "HookRecursion", 2: "HookRecursion"}
    assert pool.finish() == ([], 0)


def test_f75_with_build_environments(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    command = [PROGRAM, "wheel", ".", "-o", str(tmp_path / "out"), "--format", "json"]
    command += ["--python", sys.executable]
    code = (
        "import json, subprocess\n"
        f"run = subprocess.run({command!r}, capture_output=True, check=False)\n"
        "raise ValueError(json.loads(run.stdout)['error']['kind'])"
    )
    built = build(setting, "wheel", tree, "-o", tmp_path / "out", "-C", f"build_wheel={code}")
    assert "\n  ValueError: HookRecursion\n" in built.stderr


@pytest.mark.parametrize("flags", [(), ("--jobs", "4")])
def test_f76_on_other_trees_it_runs_one_hook_at_a_time(
    setting: Setting, tree: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    others = [make_tree(tmp_path / name) for name in ("one", "two", "three")]
    log = tmp_path / "log"
    # Long enough that two concurrent hooks would be noticed.
    code = (
        "import time\n"
        f"with open({str(log)!r}, 'a', buffering=1) as log:\n"
        "    print('begin', file=log); time.sleep(0.5); print('end', file=log)\n"
        "result = ['built']"
    )
    requests = [call(other, code, number) for number, other in enumerate(others)]
    pool = setting.start("--jobs", "1", jobs=None)
    found = answers(pool.ask(call(tree, asks(*requests, flags=flags))))
    assert [answer["result"] for answer in found] == [["built"]] * 3
    assert log.read_text().split() == ["begin", "end"] * 3
    assert pool.finish() == ([], 0)


def test_a_process_that_outlives_its_hook_may_use_the_tree(
    setting: Setting, tree: Path, tmp_path: Path
) -> None:
    """The inherited variable is obsolete: the tree is free."""
    pool = setting.start()
    code = "import os; result = [os.environ['HOOKPOOL_WITHIN']]"
    (within,) = pool.ask(call(tree, code))["result"]
    status = tree.stat()
    assert within == f"{status.st_dev}:{status.st_ino}"
    assert pool.finish() == ([], 0)
    later = setting.start(env={"HOOKPOOL_WITHIN": within})
    assert later.ask(call(tree, "result = ['free']"))["result"] == ["free"]
    assert later.finish() == ([], 0)
