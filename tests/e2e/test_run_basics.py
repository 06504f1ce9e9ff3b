"""`hookpool run`: requests, responses, exit codes, usage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import BOTH_START_METHODS, Setting
from pool import PROGRAM, kind
from trees import CODE_BACKEND, ECHO_BACKEND, call, echo, make_tree


def program(setting: Setting, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program."""
    return subprocess.run(
        [PROGRAM, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=setting.env,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("flag", ["none", "forkserver", "spawn"])
def test_a_response_has_every_field(setting: Setting, tree: Path, flag: str) -> None:
    setting.start_method = None if flag == "none" else flag
    code = "import os, sys\nprint('out')\nprint('err', file=sys.stderr)\nresult = ['x']"
    pool = setting.start()
    response = pool.ask(call(tree, code, 7))
    worker = response["worker"]
    timing = response["timing"]
    assert response["ok"] is True
    assert response["result"] == ["x"]
    assert response["line"] is None
    assert response["tree"] == str(tree)
    assert response["hook"] == "get_requires_for_build_wheel"
    assert set(worker) == {"pid", "generation", "start_method"}
    assert worker["generation"] == 1
    assert worker["start_method"] == (setting.start_method or "forkserver")
    assert os.path.realpath(f"/proc/{worker['pid']}/cwd") == str(tree.resolve())
    assert set(timing) == {"queued_ms", "prepare_ms", "start_ms", "hook_ms"}
    assert timing.pop("prepare_ms") is None
    assert all(value >= 0 for value in timing.values())
    assert response["stdout"] == "out\n"
    assert response["stderr"] == "err\n"
    assert response["stdout_truncated"] is False
    assert response["stderr_truncated"] is False
    assert pool.finish() == ([], 0)


@pytest.mark.parametrize("id_", [0, -3, 1.5, 2**53 + 1, "", "seven", "ö \n \u2028"])
def test_ids_come_back_as_they_were(setting: Setting, tree: Path, id_: Any) -> None:
    pool = setting.start()
    response = pool.ask(call(tree, "result = []", id_))
    assert response["id"] == id_
    assert type(response["id"]) is type(id_)
    assert pool.finish() == ([], 0)


def test_an_id_need_not_be_unique(setting: Setting, tree: Path) -> None:
    pool = setting.start()
    pool.send(*(call(tree, f"result = ['{number}']", "same") for number in range(3)))
    rest, code = pool.finish()
    assert [response["result"] for response in rest] == [["0"], ["1"], ["2"]]
    assert {response["id"] for response in rest} == {"same"}
    assert code == 0


def test_no_requests(setting: Setting) -> None:
    assert setting.start().finish() == ([], 0)


def test_exit_code_1_when_a_request_failed(setting: Setting, tree: Path) -> None:
    pool = setting.start()
    responses = pool.run([call(tree, "1 / 0", 1), call(tree, "result = ['a']", 2)])
    assert [response["ok"] for response in responses] == [False, True]
    assert pool.wait() == 1


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b"3",
        b"{}",
        b'{"id": 1, "tree": "/"}',
        b'{"id": 1, "hook": "build_wheel"}',
        b'{"tree": "/", "hook": "build_wheel"}',
        b'{"id": null, "tree": "/", "hook": "build_wheel"}',
        b'{"id": [1], "tree": "/", "hook": "build_wheel"}',
        b'{"id": 1, "tree": 5, "hook": "build_wheel"}',
        b'{"id": 1, "tree": "/", "hook": "build_wheel", "metadata_dir": "/x"}',
        b'{"id": 1, "tree": "/", "hook": "build_wheel", "timeout": "soon"}',
        b'{"id": 1, "tree": "/", "hook": "build_wheel", "priority": "high"}',
        b'{"id": 1, "tree": "/", "hook": "build_wheel", "env": {"A": 1}}',
        b'{"cancel": 1, "hook": "build_wheel"}',
        b'\xff\xfe{"id": 1}',
    ],
)
def test_a_line_that_is_no_request(setting: Setting, tree: Path, line: bytes) -> None:
    pool = setting.start()
    pool.send_bytes(json.dumps(call(tree, "", 1)).encode() + b"\n" + line + b"\n")
    pool.send(call(tree, "", 3))
    rest, code = pool.finish()
    bad = [response for response in rest if not response["ok"]]
    assert len(rest) == 3
    assert [(kind(response), response["id"], response["line"]) for response in bad] == [
        ("InvalidRequest", None, 2)
    ]
    assert code == 1


def test_the_last_line_needs_no_newline(setting: Setting, tree: Path) -> None:
    pool = setting.start()
    pool.send_bytes(json.dumps(call(tree, "result = ['x']", 1)).encode())
    rest, code = pool.finish()
    assert [response["result"] for response in rest] == [["x"]]
    assert code == 0


def test_a_relative_tree_is_relative_to_the_supervisor(setting: Setting, tree: Path) -> None:
    pool = setting.start(cwd=tree.parent)
    response = pool.ask(call(tree.name, "import os\nresult = [os.getcwd()]"))
    assert response["result"] == [str(tree.resolve())]
    wheels = tree.parent / "wheels"
    wheels.mkdir()
    request = call(tree.name, "result = wheel_directory", 2, hook="build_wheel")
    response = pool.ask({**request, "wheel_directory": "wheels"})
    assert Path(response["result"]).resolve() == wheels.resolve()
    assert pool.finish() == ([], 0)


def test_arguments_by_their_names(setting: Setting, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "x.dist-info").mkdir()
    request = call(
        tree,
        "result = '|'.join([wheel_directory, str(metadata_directory), str(settings['other'])])",
        hook="build_wheel",
        wheel_directory=str(tmp_path),
        metadata_directory=str(tmp_path / "x.dist-info"),
    )
    request["config_settings"]["other"] = ["a", {"b": None}]
    pool = setting.start()
    assert pool.ask(request)["result"] == f"{tmp_path}|{tmp_path}/x.dist-info|['a', {{'b': None}}]"
    del request["metadata_directory"]
    assert pool.ask(request)["result"] == f"{tmp_path}|None|['a', {{'b': None}}]"
    assert pool.finish() == ([], 0)


def test_an_argument_of_another_hook_is_an_error(setting: Setting, tree: Path) -> None:
    pool = setting.start()
    pool.send(call(tree, "", wheel_directory="/"))
    response = pool.response()
    assert (kind(response), response["id"], response["line"]) == ("InvalidRequest", None, 1)
    assert pool.finish() == ([], 1)


def test_backend_and_backend_path_override_pyproject(setting: Setting, tree: Path) -> None:
    (tree / "other").mkdir()
    (tree / "other" / "another.py").write_text(
        "class Outer:\n    class inner:\n        @staticmethod\n"
        "        def get_requires_for_build_wheel(config_settings=None):\n"
        "            return ['another']\n"
    )
    pool = setting.start()
    request = call(tree, backend="another:Outer.inner", backend_path=["other"])
    assert pool.ask(request)["result"] == ["another"]
    assert pool.ask(call(tree, "result = ['own']"))["result"] == ["own"]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_python_of_a_request(setting: Setting, tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", other], check=True)
    code = "import sys\nresult = [sys.prefix]"
    pool = setting.start()
    first = pool.ask(call(tree, code, 1))
    second = pool.ask(call(tree, code, 2, python=str(other / "bin" / "python")))
    third = pool.ask(call(tree, code, 3, python=str(tmp_path / "missing")))
    fourth = pool.ask(call(tree, code, 4))
    assert first["result"] == fourth["result"] == [sys.prefix]
    assert second["result"] == [str(other)]
    assert kind(third) in {"EnvironmentFailed", "WorkerStartFailed"}
    assert "missing" in third["error"]["message"]
    assert pool.finish() == ([], 1)


@BOTH_START_METHODS
def test_env_of_a_request(setting: Setting, tree: Path) -> None:
    code = "import os\nresult = [os.environ.get('ANSWER', 'none')]"
    pool = setting.start()
    assert pool.ask(call(tree, code, 1, env={"ANSWER": "42"}))["result"] == ["42"]
    assert pool.ask(call(tree, code, 2))["result"] == ["none"]
    assert pool.ask(call(tree, code, 3, env={"ANSWER": "43"}))["result"] == ["43"]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_the_environment_of_hooks(setting: Setting, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "own").mkdir()
    (tree / "in_tree_backend.py").rename(tree / "own" / "in_tree_backend.py")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pool = setting.start(
        python=str(venv / "bin" / "python"),
        env={"PYTHONHOME": "", "PYTHONPATH": "/kept"},
    )
    code = (
        "import os, sys\n"
        "result = [os.environ['PATH'].split(os.pathsep)[0], os.environ['VIRTUAL_ENV'],\n"
        "    os.environ.get('PYTHONHOME', 'removed'), os.environ['PYTHONPATH'],\n"
        "    str(os.getcwd() in sys.path or '' in sys.path), sys.stdin.read()]"
    )
    response = pool.ask(call(tree, code, backend="in_tree_backend", backend_path=["own"]))
    expected = [str(venv / "bin"), str(venv), "removed", "/kept", "False", ""]
    assert response["result"] == expected
    assert pool.finish() == ([], 0)


def test_a_build_environment_is_made_from_what_is_required(
    setting: Setting, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "isolated")
    pool = setting.start(build_isolation=True)
    code = "import sys; result = [sys.prefix, str('iniconfig' in sys.modules)]"
    plain = pool.ask(call(tree, code))
    assert plain["ok"], plain["error"]
    wanted = "import iniconfig; import sys; result = [sys.prefix]"
    richer = pool.ask(call(tree, wanted, requires=["iniconfig==2.0.0"]))
    assert richer["ok"], richer["error"]
    assert richer["result"][0] != plain["result"][0]
    missing = pool.ask(call(tree, wanted, requires=["no-such-distribution-of-this-name==1"]))
    assert kind(missing) == "EnvironmentFailed"
    assert "no-such-distribution-of-this-name" in missing["error"]["message"]
    invalid = pool.ask(call(tree, wanted, requires=["--index-url=http://x"]))
    assert kind(invalid) in ("InvalidRequest", "InvalidPyproject", "EnvironmentFailed")
    assert pool.finish() == ([], 1)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--jobs", "0"),
        ("--jobs", "many"),
        ("--max-workers", "-1"),
        ("--workers-per-tree", "0"),
        ("--queue-size", "0"),
        ("--idle-timeout", "5"),
        ("--idle-timeout", "5 parsecs"),
        ("--hook-timeout", "-1s"),
        ("--grace-period", "soon"),
        ("--hook-memory-limit", "5Q"),
        ("--max-restarts", "x"),
        ("--start-method", "magic"),
        ("--isolation", "some"),
        ("--log-format", "xml"),
    ],
)
def test_a_bad_value_is_a_usage_error(setting: Setting, flag: str, value: str) -> None:
    found = program(setting, "run", "--no-build-isolation", f"{flag}={value}")
    assert found.returncode == 2
    assert found.stdout == ""
    assert flag in found.stderr
    assert value in found.stderr


def test_a_bad_variable_is_a_usage_error_too(setting: Setting) -> None:
    pool = setting.start(jobs=None, env={"HOOKPOOL_JOBS": "zero"})
    assert pool.finish() == ([], 2)
    assert "--jobs" in pool.stderr
    assert "zero" in pool.stderr


def test_flags_as_variables(setting: Setting, tree: Path) -> None:
    variables = {
        "HOOKPOOL_NO_BUILD_ISOLATION": "true",
        "HOOKPOOL_PYTHON": sys.executable,
        "HOOKPOOL_JOBS": "1",
        "HOOKPOOL_HOOK_TIMEOUT": "250ms",
        "HOOKPOOL_MAX_REQUESTS": "1",
        "HOOKPOOL_ISOLATION": "hook",
        "HOOKPOOL_LOG_FORMAT": "json",
        "HOOKPOOL_IDLE_TIMEOUT": "5m",
    }
    pool = setting.start(build_isolation=True, python=None, jobs=None, env=variables)
    response = pool.ask(call(tree, "import signal\nsignal.pause()"))
    assert kind(response) == "HookTimeout"
    assert pool.finish() == ([], 1)


def test_a_flag_wins_over_its_variable(setting: Setting, tree: Path) -> None:
    pool = setting.start("--hook-timeout", "200ms", env={"HOOKPOOL_HOOK_TIMEOUT": "1h"})
    assert kind(pool.ask(call(tree, "import signal\nsignal.pause()"))) == "HookTimeout"
    assert pool.finish() == ([], 1)


def test_logs_as_json(setting: Setting, tree: Path) -> None:
    pool = setting.start("--log-format", "json", "-vv")
    pool.run([call(tree, "1 / 0", 1), call(tree, "import os\nos._exit(3)", 2)])
    assert pool.wait() == 1
    lines = pool.stderr.splitlines()
    assert lines
    for line in lines:
        assert isinstance(json.loads(line), dict)


def test_the_default_says_little(setting: Setting, tree: Path) -> None:
    pool = setting.start()
    pool.run([call(tree, "", 1)])
    assert pool.stderr == ""


def test_python3_on_path_is_the_default(setting: Setting, tree: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    path = f"{venv / 'bin'}{os.pathsep}{setting.env['PATH']}"
    pool = setting.start(python=None, env={"PATH": path})
    assert pool.ask(call(tree, "import sys\nresult = [sys.prefix]"))["result"] == [str(venv)]
    assert pool.finish() == ([], 0)


def test_help_and_version(setting: Setting) -> None:
    for arguments in (["--help"], ["run", "--help"], ["--version"], ["hookd", "--help"]):
        found = program(setting, *arguments)
        assert found.returncode == 0, arguments
        assert found.stdout, arguments
    assert "HOOKPOOL_HOOK_TIMEOUT" in program(setting, "run", "--help").stdout
    assert program(setting, "--no-such-flag").returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(setting: Setting, shell: str) -> None:
    found = program(setting, "completions", shell)
    assert found.returncode == 0
    assert "hookpool" in found.stdout
    if shell == "bash" and shutil.which("bash"):
        subprocess.run(["bash", "-n"], input=found.stdout, text=True, check=True)


def test_trees_that_are_none(setting: Setting, tmp_path: Path, tree: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    broken = make_tree(tmp_path / "broken")
    (broken / "pyproject.toml").write_text("[build-system\n")
    incomplete = make_tree(tmp_path / "incomplete")
    (incomplete / "pyproject.toml").write_text("[build-system]\nbuild-backend = 'x'\n")
    pool = setting.start()
    responses = pool.run(
        [
            call(tmp_path / "missing", "", 1),
            call(file, "", 2),
            call(broken, "", 3),
            call(incomplete, "", 4),
            call(tree, "", 5),
        ]
    )
    kinds = [kind(response) for response in responses]
    assert kinds == ["InvalidSource", "InvalidSource", "InvalidPyproject", "InvalidPyproject", None]
    assert "missing" in responses[0]["error"]["message"]
    assert pool.wait() == 1


def test_backend_path_must_stay_in_the_tree(setting: Setting, tmp_path: Path) -> None:
    outside = make_tree(tmp_path / "outside", ECHO_BACKEND, "outside_backend")
    tree = make_tree(tmp_path / "tree")
    (tree / "link").symlink_to(outside)
    (tree / "empty").mkdir()
    pool = setting.start()
    requests = [
        echo(tree, 1, "x", backend="outside_backend", backend_path=["../outside"]),
        echo(tree, 2, "x", backend="outside_backend", backend_path=["link/../../outside"]),
        echo(tree, 3, "x", backend="outside_backend", backend_path=[str(outside)]),
        # The module is found, but not loaded from there.
        echo(tree, 4, "x", backend="json", backend_path=["empty"]),
    ]
    responses = pool.run(requests)
    assert not any(response["ok"] for response in responses), responses
    assert pool.wait() == 1


@pytest.mark.parametrize("isolation", ["hook", "none"])
def test_a_backend_behind_links(setting: Setting, tmp_path: Path, isolation: str) -> None:
    """As in trees by Bazel's execroot, GNU Stow and Nix; pip and build accept them."""
    outside = make_tree(tmp_path / "outside", ECHO_BACKEND, "linked_backend")
    files, folder = tmp_path / "files", tmp_path / "folder"
    files.mkdir()
    for name in ("pyproject.toml", "linked_backend.py"):
        (files / name).symlink_to(outside / name)
    folder.mkdir()
    (folder / "linked").symlink_to(outside)
    (folder / "pyproject.toml").write_text(
        (outside / "pyproject.toml").read_text().replace('["."]', '["linked"]')
    )
    pool = setting.start("--isolation", isolation)
    for tree in (files, folder):
        assert pool.ask(echo(tree, 1, "found"))["result"] == ["found"]
    # An edit is visible through the link.
    backend = outside / "linked_backend.py"
    backend.write_text(backend.read_text().replace('["echo"]', '["echo"] + " and edited"'))
    for tree in (files, folder):
        assert pool.ask(echo(tree, 2, "found"))["result"] == ["found and edited"]


def test_backend_path_as_a_plain_string(setting: Setting, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", ECHO_BACKEND)
    text = (tree / "pyproject.toml").read_text().replace('["."]', '"."')
    (tree / "pyproject.toml").write_text(text)
    pool = setting.start()
    assert pool.ask(echo(tree, 1, "x"))["result"] == ["x"]
    assert pool.finish() == ([], 0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"hook": "prepare_metadata_for_build_wheel", "metadata_directory": "."},
            "UnsupportedHook",
        ),
        ({"hook": "no_such_hook"}, "InvalidHookName"),
        ({"backend": "no_such_module_anywhere", "backend_path": ["."]}, "MissingBackendModule"),
        ({"backend": "in_tree_backend:missing", "backend_path": ["."]}, "MissingBackendAttribute"),
        ({"backend": "not a name", "backend_path": ["."]}, "MalformedBackendName"),
        ({"backend": "raises_at_import", "backend_path": ["."]}, "BackendImportError"),
    ],
)
@BOTH_START_METHODS
def test_the_errors_of_hookd(
    setting: Setting, tmp_path: Path, fields: dict[str, Any], expected: str, isolation: str
) -> None:
    tree = make_tree(tmp_path / "tree", CODE_BACKEND)
    (tree / "raises_at_import.py").write_text("raise RuntimeError('no import')\n")
    pool = setting.start("--isolation", isolation)
    request = {**call(tree, "", 1), **fields}
    if request["hook"] != "get_requires_for_build_wheel":
        del request["config_settings"]
    response = pool.ask(request)
    assert kind(response) == expected, response
    if expected == "BackendImportError":
        assert "no import" in response["error"]["traceback"]
    assert pool.ask(call(tree, "result = ['on']", 2))["result"] == ["on"]
    assert pool.finish() == ([], 1)
