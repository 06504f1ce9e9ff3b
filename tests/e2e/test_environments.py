"""Build environments are complete and unchanged; errors say why one cannot be made."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from textwrap import indent
from typing import Any

import processes
import pytest
from answers import told
from builds import arguments, build, make_project
from conftest import Setting
from gate import Gate
from installer import Installer
from packages import make_wheel
from pool import PROGRAM, Pool, kind
from trees import call, make_tree

REQUIRES = ["sample-tool==1.0"]
# The result of a hook: its environment.
LOOK = "import sample_tool; print(sample_tool.VALUE)"


def command(setting: Setting, tree: Path, out: Path) -> list[str]:
    """A build whose hook reports its environment."""
    flags = ["-C", f"build_wheel={LOOK}", "--installer", "uv", "--format", "json"]
    return arguments(setting, "wheel", tree, "-o", out, *flags, "--log-dir", out.parent / "logs")


def result_of(stdout: str) -> dict[str, Any]:
    """The only result."""
    (line,) = stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found["ok"], found["error"]
    assert "whole\n" in Path(found["hooks"][-1]["log"]).read_text()
    return found


def environments(cache: Path) -> list[Path]:
    """The folders of environments, complete or not."""
    return [path for path in (cache / "environments").glob("*/made/*") if path.is_dir()]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_f46_interrupted_while_an_environment_is_made(
    setting: Setting, tmp_path: Path, gate: Gate, own_cache: Path, how: signal.Signals
) -> None:
    installer = Installer(tmp_path, gate)
    tree = make_project(tmp_path / "tree", requires=REQUIRES)
    run = command(setting, tree, tmp_path / "out")
    env = setting.env | installer.env
    with subprocess.Popen(run, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        half_way = gate.arrived()
        (half_made,) = environments(own_cache)
        process.send_signal(how)
        process.communicate(timeout=30)
    processes.wait_gone([half_way])
    assert process.returncode == (-how if how == signal.SIGKILL else 128 + how)
    # The next program may find an incomplete environment, and makes its own.
    gate.release()
    again = subprocess.run(run, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert result_of(again.stdout)["environment"]["made"]
    assert installer.calls == 2
    assert half_made not in environments(own_cache)
    assert len(environments(own_cache)) == 1
    # A killed program cannot clean up; the next one does.
    setting.killed = how == signal.SIGKILL


def test_requirements_as_they_are_written(setting: Setting, tmp_path: Path) -> None:
    # With a comma after the last version, which pip and uv accept.
    tree = make_project(tmp_path / "tree", requires=["flit_core>=3.9,"], additional=["idna (>=3,)"])
    built = build(setting, "metadata", tree, "--format", "json").result
    assert built["ok"], built["error"]
    wrong = make_project(tmp_path / "wrong", additional=["idna>=3", "no requirement"])
    error = build(setting, "metadata", wrong, "--format", "json").result["error"]
    assert error["kind"] == "HookRuntimeError"
    assert "get_requires_for_build_wheel returned" in error["message"]
    assert '"no requirement" is not a requirement' in error["message"]
    assert "PEP 508" in error["hint"]


def test_f46_two_processes_need_the_same_environment(
    setting: Setting, tmp_path: Path, gate: Gate, own_cache: Path
) -> None:
    installer = Installer(tmp_path, gate)
    trees = [make_project(tmp_path / name, name=name, requires=REQUIRES) for name in ("a", "b")]
    runs = []
    for tree in trees:
        run = command(setting, tree, tmp_path / tree.name / "out")
        runs.append(
            subprocess.Popen(
                run,
                env=setting.env | installer.env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        if len(runs) == 1:
            gate.arrived()
    second = runs[1]
    assert second.stderr is not None
    said = iter(second.stderr.readline, "")
    assert any("another process makes" in line for line in said), "the second program does not wait"
    assert gate.nobody()
    gate.release()
    found = [result_of(run.communicate(timeout=60)[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert [result["environment"]["made"] for result in found] == [True, False]
    assert found[0]["environment"]["id"] == found[1]["environment"]["id"]
    assert (installer.calls, len(environments(own_cache))) == (1, 1)


def wait_until_it_has_lock(pid: int, path: Path) -> None:
    """Wait until the process has a lock of the file (proc_locks(5))."""
    end = time.monotonic() + 10
    inode = path.stat().st_ino
    while True:
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        if any(row[-4] == str(pid) and row[-3].endswith(f":{inode}") for row in rows):
            return
        assert time.monotonic() < end, "the second program has no lock"
        time.sleep(processes.TICK)


def test_f46_who_makes_it_after_another_that_died_is_one_of_the_jobs(
    setting: Setting, tmp_path: Path, own_cache: Path, gate: Gate
) -> None:
    """There may be no free job slot for the second installer: then it waits for one."""
    installer = Installer(tmp_path, gate)
    tree = make_tree(tmp_path / "tree")
    project = (tree / "pyproject.toml").read_text()
    (tree / "pyproject.toml").write_text(project.replace("[]", str(REQUIRES)))
    other = make_tree(tmp_path / "other")
    first = setting.start(env=installer.env, build_isolation=True)
    first.send(call(tree, "", 1))
    half_way = gate.arrived()
    (lock,) = (own_cache / "environments").glob("*/resolutions/*.lock")
    second = setting.start("-vvv", env=installer.env, build_isolation=True, jobs=1)
    # It has its environment, so only the hook remains.
    assert second.ask(call(other, "", 0))["ok"]
    second.send(call(tree, LOOK, 1))
    second.wait_said("another process makes")
    end = "import time; result = [str(time.clock_gettime(time.CLOCK_BOOTTIME))]"
    second.send(call(other, gate.code + end, 2))
    gate.arrived()
    first.process.kill()
    setting.killed = True
    processes.wait_gone([half_way])
    wait_until_it_has_lock(second.pid, lock)
    gate.release()
    hook = second.response()
    assert hook["id"] == 2
    # The installer of the second request.
    started = processes.started(gate.arrived())
    gate.release()
    response = second.response()
    assert (response["id"], response["stdout"]) == (1, "whole\n")
    assert second.finish() == ([], 0)
    assert started >= float(hook["result"][0]) - processes.CLOCK_TICK


def test_f47_a_requirement_that_does_not_exist(
    setting: Setting, tmp_path: Path, own_cache: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    bad = make_project(tmp_path / "bad", name="bad", requires=["no-such-distribution==1"])
    good = make_project(tmp_path / "good", name="good")
    flags = ["--installer", "pip", "--no-index", "--find-links", tmp_path / "wheels"]
    built = build(setting, "metadata", bad, good, *flags, "--format", "json")
    assert built.code == 1
    results = {result["source"]: result for result in built.results}
    assert results[str(good)]["ok"]
    error = results[str(bad)]["error"]
    assert error["kind"] == "EnvironmentFailed"
    # The message of pip.
    assert "No matching distribution found for no-such-distribution==1" in error["message"]
    assert len(environments(own_cache)) == 1


def test_f47_an_index_that_is_not_there(setting: Setting, tmp_path: Path, own_cache: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        # Bound but not listening: connections are refused.
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/simple"
        pool = setting.start(
            "--installer",
            "pip",
            "--index-url",
            url,
            build_isolation=True,
            env={"PIP_RETRIES": "1", "PIP_TIMEOUT": "5"},
        )
        tree = make_tree(tmp_path / "tree")
        response = pool.ask(call(tree, "", 1, requires=REQUIRES), timeout=60)
    assert kind(response) == "EnvironmentFailed"
    assert "Connection refused" in response["error"]["message"]
    assert "sample-tool" in response["error"]["message"]
    # The pool continues.
    assert pool.ask(call(tree, "result = ['on']", 2))["result"] == ["on"]
    assert pool.finish() == ([], 1)


def test_f47_an_installer_that_dies(setting: Setting, tmp_path: Path, own_cache: Path) -> None:
    installer = Installer(tmp_path)
    program = Path(installer.env["UV"])
    program.write_text("#!/bin/sh\necho some last words >&2\nkill -KILL $$\n")
    tree = make_project(tmp_path / "tree", requires=REQUIRES)
    flags = ["--installer", "uv", "--format", "json"]
    result = build(setting, "metadata", tree, *flags, env=installer.env).result
    assert result["error"]["kind"] == "EnvironmentFailed"
    assert "some last words" in result["error"]["message"]
    assert environments(own_cache) == []


def test_f47_an_installer_that_hangs(
    setting: Setting, tmp_path: Path, gate: Gate, own_cache: Path
) -> None:
    installer = Installer(tmp_path, gate)
    bad = make_project(tmp_path / "bad", name="bad", requires=REQUIRES)
    good = make_project(tmp_path / "good", name="good")
    flags = ["--installer", "uv", "--installer-timeout", "5s", "--format", "json"]
    built = build(setting, "metadata", bad, good, *flags, env=installer.env)
    processes.wait_gone([gate.arrived()])
    results = {result["source"]: result for result in built.results}
    assert results[str(good)]["ok"]
    error = results[str(bad)]["error"]
    assert error["kind"] == "EnvironmentFailed"
    assert "did not make an environment with `sample-tool==1.0` within 5s" in error["message"]
    assert "--installer-timeout" in error["hint"]
    assert len(environments(own_cache)) == 1, "the failed installation left something"


def test_f49_a_hook_writes_into_its_environment(
    setting: Setting, tmp_path: Path, own_cache: Path
) -> None:
    installer = Installer(tmp_path)
    tree = make_project(tmp_path / "tree", requires=REQUIRES)
    spoil = (
        "import pathlib, sample_tool; "
        "pathlib.Path(sample_tool.__file__).with_name('second.py').write_text('VALUE = 0')"
    )
    flags = ["-o", tmp_path / "out", "--installer", "uv", "--answers", "trees", "--format", "json"]
    spoilt = build(
        setting, "wheel", tree, *flags, "-C", f"build_wheel={spoil}", env=installer.env
    ).result
    assert told(spoilt).answers == {
        "get_requires_for_build_wheel": "kept",
        "build_wheel": "the build environment is not as it was made",
    }
    (modified,) = spoilt["environment"]["modified"]
    assert modified.endswith("sample_tool/second.py")
    again = subprocess.run(
        command(setting, tree, tmp_path / "out"),
        env=setting.env | installer.env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    environment = result_of(again.stdout)["environment"]
    assert (environment["made"], environment["modified"]) == (True, [])
    assert environment["id"] == spoilt["environment"]["id"]
    assert installer.calls == 2
    assert len(environments(own_cache)) == 1


def test_f49_of_the_environment_of_an_earlier_hook(
    setting: Setting, tmp_path: Path, own_cache: Path
) -> None:
    """The next hook of the source needs another environment, with the same distribution."""
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "shared_tool", "1.0", {"shared_tool/__init__.py": "VALUE = 'whole'\n"})
    make_wheel(wheels, "tool_two", "1.0", {"tool_two/__init__.py": ""})
    setting.installs_only_from(wheels)
    tree = make_project(tmp_path / "tree", requires=["shared-tool"], additional=["tool-two"])
    spoil = "import shared_tool; open(shared_tool.__file__, 'a').write('VALUE = 0\\n')"
    look = "import shared_tool, tool_two; open('extra.txt', 'w').write(str(shared_tool.VALUE))"
    flags = ["-C", f"get_requires={spoil}", "-C", f"build_wheel={look}"]
    more = ["-o", tmp_path / "out", "--answers", "trees"]
    for _ in range(2):
        # The second run does not use the answer of the first one's hook.
        result = build(setting, "wheel", tree, *flags, *more, "--format", "json").result
        assert told(result).answers["get_requires_for_build_wheel"] == (
            "the build environment is not as it was made"
        )
        (modified,) = result["environment"]["modified"]
        assert modified.endswith("site-packages/shared_tool/__init__.py")
        assert Path(modified).is_absolute()
        assert (tree / "extra.txt").read_text() == "whole"


def only_in(tree: str, code: str) -> str:
    """The code of a hook that does this in one of the trees."""
    return f"import os\nif os.path.basename(os.getcwd()) == '{tree}':\n{indent(code, ' ')}"


def start_metadata(setting: Setting, trees: list[Path], hook: str) -> subprocess.Popen[str]:
    """Start `hookpool metadata`, with this setting of a hook, and everything told."""
    run = arguments(setting, "metadata", *trees, "-C", hook, "-vv", "--format", "json")
    pipe = subprocess.PIPE
    return subprocess.Popen(run, env=setting.env, stdout=pipe, stderr=pipe, text=True)


def test_an_environment_costs_no_process_when_no_source_needs_it_any_more(
    setting: Setting, tmp_path: Path, own_cache: Path, gate: Gate
) -> None:
    wheels = tmp_path / "wheels"
    for name in ("tool_one", "tool_two"):
        make_wheel(wheels, name, "1.0", {f"{name}/__init__.py": ""})
    setting.installs_only_from(wheels)
    needs = {"first": "tool-one", "last": "tool-two", "second": "Tool.One>=1"}
    trees = [make_project(tmp_path / tree, requires=[name]) for tree, name in needs.items()]
    with start_metadata(setting, trees, f"prepare={only_in('last', gate.code)}") as process:
        gate.arrived()
        assert process.stdout is not None
        done = {json.loads(process.stdout.readline())["source"] for _ in range(2)}
        assert done == {str(tmp_path / tree) for tree in ("first", "second")}
        end = time.monotonic() + 10
        while len(processes.templates(process.pid)) > 1 or len(processes.workers(process.pid)) > 1:
            assert time.monotonic() < end, "the environment of the others still has processes"
            time.sleep(processes.TICK)
        gate.release()
        rest, said = process.communicate(timeout=30)
    assert json.loads(rest)["source"] == str(tmp_path / "last")
    assert (process.returncode, said.count("template starts")) == (0, 2)


def test_what_another_list_of_requirements_led_to_is_kept_for_who_uses_it(
    setting: Setting, tmp_path: Path, own_cache: Path, gate: Gate
) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "tool_one", "1.0", {"tool_one/__init__.py": ""})
    setting.installs_only_from(wheels)
    needs = {"first": ["tool-one"], "second": ["tool-one", "tool-two; python_version < '3'"]}
    trees = [
        make_project(tmp_path / tree, requires=names, additional=[])
        for tree, names in needs.items()
    ]
    with start_metadata(setting, trees, f"get_requires={only_in('first', gate.code)}") as process:
        gate.arrived()
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["source"] == str(tmp_path / "second")
        gate.release()
        rest, said = process.communicate(timeout=30)
    assert json.loads(rest)["source"] == str(tmp_path / "first")
    assert (process.returncode, said.count("template starts")) == (0, 1)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_sources_whose_turn_has_not_come_are_not_begun(
    setting: Setting, tmp_path: Path, gate: Gate, how: signal.Signals
) -> None:
    # Four of them have their turn.
    trees = [make_project(tmp_path / str(number)) for number in range(6)]
    run = arguments(setting, "metadata", *trees, "-C", f"prepare={gate.code}", jobs=1)
    run += ["--format", "json"]
    with subprocess.Popen(run, env=setting.env, stdout=subprocess.PIPE) as process:
        gate.arrived()
        process.send_signal(how)
        stdout = process.communicate(timeout=30)[0]
    assert process.returncode == 128 + how
    found = [json.loads(line) for line in stdout.splitlines()]
    assert {result["source"] for result in found} == set(map(str, trees))
    assert {result["error"]["kind"] for result in found} == {"Interrupted"}
    # Waiting for its turn is no work.
    found.sort(key=lambda result: float(result["total_ms"]))
    assert {result["source"] for result in found[:2]} == set(map(str, trees[4:]))


def test_f49_of_single_hooks(setting: Setting, tmp_path: Path, own_cache: Path) -> None:
    """No hook gets an environment that another one has changed, in this program and the next."""
    installer = Installer(tmp_path)
    tree = make_tree(tmp_path / "tree")
    look = "import sample_tool\nresult = [sample_tool.VALUE, sample_tool.__file__]\n"
    spoil = look + "open(sample_tool.__file__, 'w').write('VALUE = 0')\n"
    files = []
    for _ in range(2):
        flags = ("--installer", "uv", "--answers", "trees")
        pool = setting.start(*flags, build_isolation=True, env=installer.env)
        for code in (spoil, look):
            response = pool.ask(call(tree, code, requires=REQUIRES))
            assert response["ok"], response["error"]
            value, file = response["result"]
            assert value == "whole"
            files.append(file)
            is_kept = response["answer"]["is"]
            assert is_kept == (
                "not_kept" if code == spoil else "used" if len(files) > 2 else "kept"
            )
        assert pool.finish() == ([], 0)
    assert (files[0] != files[1], files[1] == files[2] == files[3]) == (True, True)
    # The second program has changed the environment of the first one's second hook.
    assert installer.calls == 3


def test_f49_of_single_hooks_whose_answers_are_not_kept(
    setting: Setting, tmp_path: Path, own_cache: Path
) -> None:
    """Hooks soon get another environment, in the same program."""
    installer = Installer(tmp_path)
    tree = make_tree(tmp_path / "tree")
    look = "import sample_tool\nresult = [sample_tool.VALUE, sample_tool.__file__]\n"
    spoil = look + "open(sample_tool.__file__, 'w').write('VALUE = ' + repr('spoilt'))\n"
    pool = setting.start("--installer", "uv", build_isolation=True, env=installer.env)
    value, spoilt = pool.ask(call(tree, spoil, requires=REQUIRES))["result"]
    assert value == "whole"
    end = time.monotonic() + 30
    file = spoilt
    while file == spoilt:
        assert time.monotonic() < end, "the environment is still used"
        response = pool.ask(call(tree, look, requires=REQUIRES))
        assert response["ok"], response["error"]
        value, file = response["result"]
    assert value == "whole"
    assert installer.calls == 2
    assert pool.finish() == ([], 0)


def test_f49_of_a_distribution_that_environments_share(
    setting: Setting, tmp_path: Path, own_cache: Path
) -> None:
    """No environment that has it runs another hook, in this program and in another."""
    wheels = tmp_path / "wheels"
    for name in ("shared_tool", "tool_one", "tool_two"):
        make_wheel(wheels, name, "1.0", {f"{name}/__init__.py": "VALUE = 'whole'\n"})
    flags = ["--no-index", "--find-links", str(wheels)]
    setting.installs_only_from(wheels)
    trees = [make_tree(tmp_path / name) for name in ("one", "two")]
    look = (
        "import os, shared_tool\n"
        "result = [str(shared_tool.VALUE), os.path.realpath(shared_tool.__file__)]\n"
    )
    pools = [setting.start(build_isolation=True) for _ in range(2)]

    def ask(pool: Pool, number: int, code: str = look) -> list[str]:
        requires = ["shared-tool", ("tool-one", "tool-two")[number]]
        response = pool.ask(call(trees[number], code, requires=requires))
        assert response["ok"], response["error"]
        result: list[str] = response["result"]
        return result

    shared = {tuple(ask(pools[0], 0)), tuple(ask(pools[0], 1)), tuple(ask(pools[1], 1))}
    assert len(shared) == 1, "the environments have it in common"
    spoil = "import shared_tool; open(shared_tool.__file__, 'a').write('VALUE = 0\\n')"
    project = make_project(tmp_path / "project", requires=["shared-tool", "tool-one"])
    out = ["-o", tmp_path / "out", "-C", f"build_wheel={spoil}", "--format", "json"]
    spoilt = build(setting, "wheel", project, *flags, *out).result
    (modified,) = spoilt["environment"]["modified"]
    assert modified.endswith("site-packages/shared_tool/__init__.py")
    after = {tuple(ask(pool, number)) for pool in pools for number in (0, 1)}
    assert len(after) == 1
    assert not after & shared
    assert {value for value, _ in after} == {"whole"}
    for pool in pools:
        assert pool.finish() == ([], 0)
    kept = (own_cache / "environments/1/distributions/kept").iterdir()
    # The changed one is gone with the last environment that had it.
    assert all(path.with_suffix(".json").exists() for path in kept)


def uv_that_logs(folder: Path) -> Path:
    """uv, in a program that writes down what it is asked for. Returns that file."""
    calls = folder / "uv-calls"
    program = folder / "uv"
    uv = shutil.which("uv")
    program.write_text(f'#!/bin/sh\necho "$2" >> {calls}\nexec {uv} "$@"\n')
    program.chmod(0o700)
    return calls


def contents(environment: Path) -> dict[str, str]:
    """All files with their texts, in which the environment's path is replaced."""
    found = {}
    for folder, _, files in os.walk(environment, followlinks=True):
        for path in (Path(folder, file) for file in files):
            # Bytecode, what the installer locks, and what it notes for itself. Packages of
            # the interpreter are not followed into.
            if "__pycache__" in path.parts or path.name in (".lock", "REQUESTED", "RECORD"):
                continue
            name = str(path.relative_to(environment))
            text = path.read_bytes().decode(errors="replace")
            text = text.replace(str(environment), "ENVIRONMENT")
            found[name] = text.replace(environment.name, "NAME")
    return found


def test_what_is_kept_is_not_installed_again(setting: Setting, tmp_path: Path) -> None:
    """An environment of kept distributions is as uv would make it."""
    wheels = tmp_path / "wheels"
    for name in ("tool_one", "tool_two", "tool_three"):
        script = f"[console_scripts]\n{name} = {name}:main\n"
        files = {
            f"{name}/__init__.py": "def main(): pass\n",
            f"common/{name}.py": "",
            f"{name}.pth": f"/no/such/folder/{name}\n",
            f"{name}-1.0.dist-info/entry_points.txt": script,
            f"{name}-1.0.data/data/share/{name}.txt": "text",
        }
        make_wheel(wheels, name, "1.0", files)
    calls = uv_that_logs(tmp_path)
    setting.env["UV"] = str(tmp_path / "uv")
    flags = ["--installer", "uv", "--no-index", "--find-links", wheels]
    numbers = itertools.count()

    def made(requires: list[str], cache: str, *more: str) -> tuple[Path, bool, list[str]]:
        """The environment, whether it is new, and what uv was asked for."""
        calls.write_text("")
        tree = make_project(tmp_path / f"tree-{next(numbers)}", requires=requires)
        own = ["--cache-dir", tmp_path / cache, "--format", "json", *more]
        result = build(setting, "metadata", tree, *flags, *own).result
        assert result["ok"], result["error"]
        python = Path(result["environment"]["python"])
        return python.parent.parent, result["environment"]["made"], calls.read_text().split()

    both = ["tool-one", "tool-two==1.0"]
    assert made(["tool-one"], "cache")[1:] == (True, ["install"])
    assert made([*both, "tool-three"], "cache")[1:] == (True, ["compile", "install"])
    environment, *rest = made(both, "cache")
    assert rest == [True, ["compile"]]
    # A name as long as the other: scripts begin differently if their path is too long.
    expected, *rest = made(both, "empty")
    assert rest == [True, ["install"]]
    assert contents(environment) == contents(expected)
    program = environment / "bin/tool_one"
    assert subprocess.run([program], check=False, timeout=60).returncode == 0
    # Other lists that lead to the same, and the same list a day later.
    assert made([*both, "tool-one>=1"], "cache") == (environment, False, ["compile"])
    assert made(both, "cache", "--refresh") == (environment, False, ["compile"])
    # What is damaged is installed again.
    for known in (tmp_path / "cache").glob("environments/1/distributions/pins/*"):
        os.truncate(known, known.stat().st_size // 2)
    again = [*both, "tool-two>=1"]
    assert made(again, "cache") == (environment, False, ["compile", "install"])
    assert made(again, "cache", "--refresh") == (environment, False, ["compile"])
    # Another file of the same version.
    make_wheel(wheels, "tool_one", "1.0", {"tool_one/__init__.py": "def main(): return 3\n"})
    assert made(both, "cache")[1:] == (True, ["compile", "install"])


def test_a_foreign_script(setting: Setting, tmp_path: Path) -> None:
    """uv does not install for the user's interpreter then. (A short name: so must the path be.)"""
    own, other = "tool_one", "#!/usr/bin/python0 -E\n"
    files = {
        f"{own}/__init__.py": "def main(): pass\n",
        f"{own}-1.0.dist-info/entry_points.txt": f"[console_scripts]\n{own} = {own}:main\n",
        f"{own}-1.0.data/scripts/other": other,
    }
    make_wheel(tmp_path / "wheels", own, "1.0", files)
    calls = uv_that_logs(tmp_path)
    setting.env["UV"] = str(tmp_path / "uv")
    flags = ["--installer", "uv", "--no-index", "--find-links", tmp_path / "wheels"]
    tree = make_project(tmp_path / "tree", requires=["tool-one"])
    more = ["--cache-dir", tmp_path / "cache", "--format", "json"]
    result = build(setting, "metadata", tree, *flags, *more).result
    assert result["ok"], result["error"]
    assert calls.read_text().split() == ["install", "install"]
    scripts = Path(result["environment"]["python"]).parent
    assert (scripts / "other").read_text() == other
    assert (scripts / own).read_text().startswith(f"#!{scripts}/python\n")


def test_what_cannot_be_resolved_first_is_installed(setting: Setting, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    for name in ("tool_one", "tool_two"):
        make_wheel(wheels, name, "1.0", {f"{name}.py": "", "both.py": name})
    calls = uv_that_logs(tmp_path)
    setting.env["UV"] = str(tmp_path / "uv")
    cache = tmp_path / "cache"
    flags = ["--installer", "uv", "--no-index", "--find-links", wheels, "--cache-dir", cache]

    def asked(requires: list[str]) -> list[str]:
        calls.write_text("")
        tree = make_project(tmp_path / "-".join(["tree", *requires]), requires=requires)
        built = build(setting, "metadata", tree, *flags, "--format", "json")
        assert built.result["ok"], built.stderr
        return calls.read_text().split()

    assert asked(["tool-one"]) == ["install"]
    assert asked(["tool-one>0"]) == ["compile", "install"]
    assert asked(["tool-two"]) == ["compile", "install"]
    assert asked(["tool-one", "tool-two"]) == ["compile", "install"], "they share a file"


def test_an_interpreter_whose_name_leads_elsewhere_by_now(
    setting: Setting, tmp_path: Path, own_cache: Path
) -> None:
    link = tmp_path / "bin" / "python3"
    link.parent.mkdir()
    link.symlink_to(sys.executable)
    tree = make_project(tmp_path / "tree")

    def run(python: Path | str) -> dict[str, Any]:
        command = [PROGRAM, "metadata", str(tree), "--python", str(python), "--format", "json"]
        done = subprocess.run(command, env=setting.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)["environment"]
        return found

    first = run(link)
    assert not run(sys.executable)["made"], "the same interpreter gets another environment"
    link.unlink()
    link.symlink_to("/bin/false")
    second = run(sys.executable)
    assert second["made"]
    assert second["python"] != first["python"]
    assert second["id"] == first["id"]
    assert run(sys.executable) == {**second, "made": False}


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_f69_a_cache_folder_that_is_restored_with_whole_seconds(
    setting: Setting, tmp_path: Path, own_cache: Path, installer: str
) -> None:
    """As in zip files, old tar files and image layers."""
    tree = make_project(tmp_path / "tree", requires=["setuptools==80.9.0"])
    flags = ["--installer", installer, "--format", "json"]
    made = build(setting, "metadata", tree, *flags).result["environment"]
    assert made["made"]

    def restore() -> None:
        kept = tmp_path / "kept.tar"
        with tarfile.open(kept, "w", format=tarfile.USTAR_FORMAT) as archive:
            archive.add(own_cache, "cache")
        shutil.rmtree(own_cache)
        with tarfile.open(kept) as archive:
            archive.extractall(tmp_path, filter="tar")
        (tmp_path / "cache").rename(own_cache)

    restore()
    for _ in range(2):
        again = build(setting, "metadata", tree, *flags, "--offline").result
        assert again["ok"], again["error"]
        assert again["environment"] == {**made, "made": False}
    # A real change is detected, even if the size is the same.
    (module,) = environments(own_cache)[0].glob("lib/*/site-packages/setuptools/version.py")
    module.write_text(module.read_text().swapcase())
    restore()
    assert build(setting, "metadata", tree, *flags).result["environment"]["made"]


MESON = """\
[build-system]
requires = ["meson-python==0.18.0", "ninja==1.13.0"]
build-backend = "mesonpy"
[project]
name = "sample"
version = "1.0"
"""


@pytest.mark.parametrize("backend", ["mesonpy", "setuptools"])
def test_an_editable_wheel_that_needs_its_environment_is_told(
    setting: Setting, tmp_path: Path, backend: str
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "sample.py").write_text("VALUE = 1\n")
    if backend == "mesonpy":
        (tree / "pyproject.toml").write_text(MESON)
        (tree / "meson.build").write_text(
            "project('sample', version: '1.0')\n"
            "import('python').find_installation(pure: true).install_sources('sample.py')\n"
        )
    else:
        table = '[build-system]\nrequires = ["setuptools==80.9.0"]\n'
        project = '[project]\nname = "sample"\nversion = "1.0"\n'
        (tree / "pyproject.toml").write_text(table + project)
    needs = backend == "mesonpy"
    built = build(setting, "editable", tree, "-o", tmp_path / "out", "--format", "json").result
    assert built["ok"], built["error"]
    assert built["environment"]["needed"] == needs
    text = build(setting, "editable", tree, "-o", tmp_path / "out").stdout
    assert ("it needs its build environment" in text) == needs
