"""The report of `--timings`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builds import arguments, build, make_project
from conftest import BOTH_POOLS, BOTH_START_METHODS, Setting
from gate import Gate
from pool import PROGRAM
from trees import ECHO_BACKEND, call, echo, make_tree

DATA = '<script type="application/json" id="data">'


def read(report: Path) -> dict[str, Any]:
    """The data for the script of the page."""
    page = report.read_text()
    assert page.startswith("<!doctype html>")
    text = page.partition(DATA)[2].partition("</script>")[0]
    found: dict[str, Any] = json.loads(text)
    return found


def named(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The hooks, with names in place of indices."""
    found = []
    for tree, hook, worker, queued, _, _, accepted, ran, finished, outcome in data["hooks"]:
        found.append(
            {
                "tree": data["trees"][tree],
                "hook": data["hookNames"][hook],
                "worker": None if worker is None else data["workers"][worker],
                "times": [queued, accepted, finished],
                "ran": ran,
                "outcome": None if outcome is None else data["outcomes"][outcome],
            }
        )
    return found


@BOTH_START_METHODS
def test_what_happened_is_in_it(setting: Setting, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    trees = [make_tree(tmp_path / f"{number}") for number in range(3)]
    pool = setting.start("--timings", str(report), "--max-workers", "2")
    for tree in trees:
        pool.ask(call(tree))
    pids = [
        pool.ask(call(tree, "raise ValueError" if tree is trees[0] else ""))["worker"]["pid"]
        for tree in trees
    ]
    assert not report.exists()
    assert pool.finish() == ([], 1)
    data = read(report)
    hooks = named(data)
    assert [hook["tree"] for hook in hooks] == [str(tree) for tree in trees] * 2
    assert [hook["outcome"] for hook in hooks] == [None] * 3 + ["HookRuntimeError"] + [None] * 2
    for hook in hooks:
        assert hook["times"] == sorted(hook["times"])
        # Absent if the supervisor has read the start and the end together.
        assert 0 <= hook["ran"] <= data["duration"]
        # Number, line, tree, generation, start method, pid, start, ready, end, reason.
        _, line, _, _, method, _, start, ready, end, _ = hook["worker"]
        assert line in {0, 1}
        assert method == setting.start_method
        assert start <= ready <= hook["times"][1] <= hook["times"][2] <= end
    assert [hook["worker"][5] for hook in hooks[3:]] == pids
    assert data["jobs"] == 2
    assert (data["total"], data["cut"]) == (6, False)
    assert data["cpu"]
    assert all(0 <= busy <= 1 for _, busy in data["cpu"])
    if setting.start_method == "forkserver":
        assert data["templates"]
    assert data["intervals"][0][:2] == ["hookpool", "start of the pool"]


@BOTH_START_METHODS
def test_a_worker_that_changes_the_tree(setting: Setting, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    trees = [make_tree(tmp_path / f"{number}") for number in range(3)]
    pool = setting.start("--timings", str(report), "--max-workers", "1")
    # A template that learns would have the worker replaced.
    pool.settle(trees[0])
    moved = [pool.ask(call(tree)) for tree in (*trees, *trees)]
    assert len({response["worker"]["pid"] for response in moved}) == 1
    assert pool.finish() == ([], 0)
    data = read(report)
    hooks = named(data)[-len(moved) :]
    assert [hook["tree"] for hook in hooks] == [str(tree) for tree in (*trees, *trees)]
    # One worker, on one line, which bears the name of the tree for which it was started.
    (index,) = {hook[2] for hook in data["hooks"][-len(moved) :]}
    worker = data["workers"][index]
    assert data["trees"][worker[2]] == str(trees[0])
    assert worker[5] == moved[0]["worker"]["pid"]
    ends = [0.0, *(hook["times"][2] for hook in hooks)]
    for hook, before in zip(hooks, ends, strict=False):
        accepted, finished = hook["times"][1:]
        assert worker[7] <= accepted <= finished <= worker[8]
        assert before <= accepted, "two hooks of one worker at once"
    assert [record for record in data["workers"] if record[5] == worker[5]] == [worker]


def test_hostile_names_stay_text(setting: Setting, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    name = "</script><script>alert(1)<!--\u2028\u202e&amp;"
    # A folder within a folder with the name "<".
    hostile = make_tree(Path(f"{tmp_path}/{name}"), ECHO_BACKEND)
    pool = setting.start("--timings", str(report))
    assert pool.ask(echo(hostile, 1, "x"))["ok"]
    assert pool.finish() == ([], 0)
    page = report.read_text()
    assert page.count("<script") == page.count("</script>") == 2
    assert "\u2028" not in page
    assert "\u202e" not in page
    shown = name.replace("\u2028", "\\u{2028}").replace("\u202e", "\\u{202e}")
    assert f"{tmp_path}/{shown}" in read(report)["trees"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_written_after_a_signal_too(
    number: signal.Signals, setting: Setting, tmp_path: Path, tree: Path, gate: Gate
) -> None:
    report = tmp_path / "report.html"
    pool = setting.start("--timings", str(report), "--grace-period", "0")
    pool.send(call(tree, gate.code, 1), call(tree, "", 2))
    gate.arrived()
    pool.signal(number)
    assert len(pool.rest()) == 2
    assert pool.wait() == 128 + number
    assert {hook["outcome"] for hook in named(read(report))} == {"Interrupted"}


def test_a_run_that_is_killed_leaves_no_half_of_it(
    setting: Setting, tmp_path: Path, tree: Path
) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    pool = setting.start(env={"HOOKPOOL_TIMINGS": str(folder / "report.html")})
    assert pool.ask(call(tree))["ok"]
    pool.process.kill()
    pool.wait()
    setting.killed = True
    assert list(folder.iterdir()) == []


def test_a_report_is_replaced_as_a_whole(setting: Setting, tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    report = folder / "report.html"
    report.write_text("old")
    pool = setting.start(
        "--timings", "report.html", cwd=folder, preexec=lambda: void(os.umask(0o027))
    )
    assert report.read_text() == "old"
    assert pool.finish() == ([], 0)
    assert named(read(report)) == []
    assert list(folder.iterdir()) == [report]
    assert stat.S_IMODE(report.stat().st_mode) == 0o640


def void(_: object) -> None:
    """For callbacks without a result."""


def missing(folder: Path) -> tuple[Path, str]:
    return folder / "missing" / "report.html", "cannot be written: No such file or directory"


def folder_itself(folder: Path) -> tuple[Path, str]:
    return folder, "exists and is not a regular file"


def device(_: Path) -> tuple[Path, str]:
    return Path("/dev/null"), "exists and is not a regular file"


@pytest.mark.parametrize("target", [missing, folder_itself, device])
def test_a_file_that_cannot_be_written_is_an_error_before_any_work(
    target: Callable[[Path], tuple[Path, str]], setting: Setting, tmp_path: Path, tree: Path
) -> None:
    path, reason = target(tmp_path)
    pool = setting.start("--timings", str(path))
    ran = tmp_path / "ran"
    pool.send(call(tree, f"open({str(ran)!r}, 'w').close()"))
    assert pool.finish() == ([], 3)
    assert f"error: --timings {path}: {reason}" in pool.stderr
    assert not ran.exists()


def test_a_file_that_could_be_written_no_more_is_an_error(
    setting: Setting, tmp_path: Path, tree: Path
) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    pool = setting.start("--timings", str(folder / "report.html"))
    assert pool.ask(call(tree))["ok"]
    folder.rmdir()
    assert pool.finish() == ([], 3)
    assert f"--timings {folder}/report.html: cannot be written" in pool.stderr


def test_check_has_it_too(setting: Setting, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    backend = "def get_requires_for_build_wheel(config_settings=None):\n    return []\n"
    tree = make_tree(tmp_path / "tree", backend)
    command = [PROGRAM, "check", "--no-build-isolation", "--timings", str(report), str(tree)]
    done = subprocess.run(command, env=setting.env, capture_output=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    data = read(report)
    assert data["command"] == "hookpool check"
    # Fresh processes, then warm ones.
    assert {worker[4] for worker in data["workers"]} == {"spawn", "forkserver"}


def test_its_script_is_one(setting: Setting, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    report = tmp_path / "report.html"
    assert setting.start("--timings", str(report)).finish() == ([], 0)
    script = tmp_path / "report.js"
    script.write_text(report.read_text().rpartition("<script>")[2].partition("</script>")[0])
    subprocess.run([node, "--check", script], check=True, timeout=30)


@BOTH_POOLS
def test_sources_by_kept_answers_are_in_it(setting: Setting, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "kept-1.0")
    (tree / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["flit_core==3.12.0"]\nbuild-backend = "flit_core.buildapi"\n'
        '[project]\nname = "kept"\nversion = "1.0"\ndescription = ""\n'
    )
    (tree / "kept.py").touch()
    archive = tmp_path / "kept-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tree, tree.name)
    lanes = []
    commands: list[tuple[str, ...]] = [("metadata", "--no-static")] * 2
    # Which asks for the requirements, too.
    commands.append(("wheel", "-o", str(tmp_path / "out")))
    for number, command in enumerate(commands):
        report = tmp_path / f"{number}.html"
        build(setting, *command, archive, "--timings", report)
        data = read(report)
        kept = [interval[:2] for interval in data["intervals"] if "kept answers" in interval[0]]
        lanes.append((len(data["hooks"]), kept))
    name = str(archive)
    assert lanes == [
        (2, []),
        (0, [["kept answers", name]]),
        (1, [["some kept answers", name]]),
    ]


def test_a_service_tells_one_build_from_others(
    setting: Setting, tmp_path: Path, gate: Gate
) -> None:
    """The page of a client is about its own sources, and about workers that are older."""
    setting.builds_by_service = True
    other, mine = make_project(tmp_path / "other"), make_project(tmp_path / "mine")
    words = ["wheel", "-o", tmp_path / "out"]
    command = arguments(setting, *words, other, "-C", f"build_wheel={gate.code}")
    waiting = subprocess.Popen(command, env=setting.env, stderr=subprocess.DEVNULL)
    gate.arrived()
    reports = [tmp_path / f"{number}.html" for number in range(2)]
    for report in reports:
        assert build(setting, *words, mine, "--timings", report).code == 0
        data = read(report)
        assert (data["trees"], data["command"], data["jobs"]) == ([str(mine)], "hookpool wheel", 2)
        assert [hook["hook"] for hook in named(data)] == [
            "get_requires_for_build_wheel",
            "build_wheel",
        ]
        assert all(hook["worker"] for hook in named(data))
    # The second build found the worker of the first.
    (first,), (second,) = (read(report)["workers"] for report in reports)
    assert first[5] == second[5]
    assert first[6] > 0 == second[6]
    gate.release()
    assert waiting.wait(60) == 0
    assert setting.service_with(2).end() == 0


def test_a_service_writes_no_page_of_a_build_that_was_interrupted(
    setting: Setting, tmp_path: Path, gate: Gate
) -> None:
    setting.builds_by_service = True
    tree, report = make_project(tmp_path / "tree"), tmp_path / "report.html"
    words = ["-v", "wheel", tree, "-o", tmp_path / "out", "--timings", report]
    command = arguments(setting, *words, "-C", f"build_wheel={gate.code}")
    process = subprocess.Popen(command, env=setting.env, stderr=subprocess.PIPE, text=True)
    gate.arrived()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the timings are not written" in stderr
    assert not report.exists()
    assert setting.service_with(2).end() == 0
