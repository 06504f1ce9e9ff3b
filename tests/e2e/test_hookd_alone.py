"""The bare worker, used from a shell as in the seed document."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import processes
import pytest
from conftest import Setting
from gate import Gate
from pool import PROGRAM, REPOSITORY
from trees import make_tree

WORKER = REPOSITORY / "python" / "hookd"
EXAMPLE = REPOSITORY / "python" / "example.in"
BACKENDS = REPOSITORY / "python" / "tests" / "backends"


@pytest.fixture(params=["hookpool hookd", "python python/hookd"])
def command(request: pytest.FixtureRequest) -> list[str]:
    """Both ways to start it."""
    if request.param == "hookpool hookd":
        return [PROGRAM, "hookd", "--python", sys.executable]
    return [sys.executable, str(WORKER)]


def talk(setting: Setting, command: list[str], lines: str, **options: str) -> tuple[list[str], int]:
    """The output of a worker for these lines without paths of capture files, and its exit code."""
    env = {**setting.env, **options}
    found = subprocess.run(
        command, input=lines, capture_output=True, text=True, env=env, timeout=30, check=False
    )
    said = []
    for line in found.stdout.splitlines():
        kind, _, path = line.partition(" ")
        if kind in {"STDOUT", "STDERR"}:
            assert Path(path).is_file()
            # "The caller SHOULD delete this file when done with it."
            Path(path).unlink()
            said.append(kind)
        elif kind != "DEBUG":
            said.append(line)
    for folder in setting.tmp.iterdir():
        folder.rmdir()
    return said, found.returncode


def test_the_example(setting: Setting, command: list[str], tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    said, code = talk(setting, [*command, str(tree)], EXAMPLE.read_text(), PYTHONPATH=str(BACKENDS))
    kinds = [line.split()[0] for line in said]
    assert kinds.count("READY") == kinds.count("OK") + kinds.count("ERROR") + 1
    assert "OK" in kinds
    assert "ERROR" in kinds
    assert said[:3] == ["READY", "EXPECT action", "EXPECT build_backend"]
    assert said[-1] == "SHUTDOWN"
    assert code == 0


def test_one_request_to_the_letter(setting: Setting, command: list[str], tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    settings = '{"code": "result = [\'a\', hook]"}'
    lines = f"run\nin_tree_backend\n.\n\nget_requires_for_build_wheel\n{settings}\nshutdown\n"
    said, code = talk(setting, [*command, str(tree)], lines)
    assert said == [
        "READY",
        "EXPECT action",
        "EXPECT build_backend",
        "EXPECT backend_path",
        "EXPECT hook_name",
        "EXPECT config_settings",
        "STDOUT",
        "STDERR",
        "OK ['a', 'get_requires_for_build_wheel']",
        "READY",
        "EXPECT action",
        "SHUTDOWN",
    ]
    assert code == 0


def test_the_tree_is_the_working_directory_by_default(
    setting: Setting, command: list[str], tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree")
    found = subprocess.run(
        command,
        input="run\nin_tree_backend\n.\n\nbuild_wheel\n\n"
        '{"code": "result = wheel_directory"}\n\nshutdown\n',
        capture_output=True,
        text=True,
        env=setting.env,
        cwd=tree,
        timeout=30,
        check=True,
    )
    (answer,) = (line for line in found.stdout.splitlines() if line.startswith("OK"))
    # An empty wheel_directory is the tree itself.
    assert (tree / answer.removeprefix("OK ")).resolve() == tree.resolve()
    for path in setting.tmp.rglob("*"):
        if path.is_file():
            path.unlink()
    for folder in setting.tmp.iterdir():
        folder.rmdir()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("jump\n", "ERROR InvalidAction"),
        ("run\nno_such_module_here\n\nbuild_sdist\n\n\n", "ERROR MissingBackendModule"),
        ("run\njson:missing.attribute\n\nbuild_sdist\n\n\n", "ERROR MissingBackendAttribute"),
        ("run\nnot a name\n\nbuild_sdist\n\n\n", "ERROR MalformedBackendName"),
        ("run\nbroken\n.\n\nbuild_sdist\n\n\n", "ERROR BackendImportError"),
        ("run\njson\n\nbuild_everything\n\n\n", "ERROR InvalidHookName"),
        ("run\njson\n\nbuild_sdist\n\n\n", "ERROR UnsupportedHook"),
        ("run\njson\n\nbuild_sdist\n\n{not json\n", "ERROR MalformedHookArgument"),
        (
            'run\nin_tree_backend\n.\n\nbuild_sdist\n\n{"code": "1/0"}\n',
            "ERROR HookRuntimeError",
        ),
    ],
)
def test_the_nine_errors(
    setting: Setting, command: list[str], tmp_path: Path, lines: str, expected: str
) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "broken.py").write_text("1 / 0\n")
    said, code = talk(setting, [*command, str(tree)], lines + "\nshutdown\n")
    (error,) = (line for line in said if line.startswith("ERROR"))
    assert error.startswith(expected + " ")
    assert said[-1] == "SHUTDOWN"
    assert code == 0


def test_end_of_input_ends_it(setting: Setting, command: list[str], tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    assert talk(setting, [*command, str(tree)], "") == (["READY", "EXPECT action"], 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_dies_of_the_signal(
    setting: Setting, command: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    tree = make_tree(tmp_path / "tree")
    with subprocess.Popen(
        [*command, str(tree)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=setting.env
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"READY\n"
        assert worker.stdout.readline() == b"EXPECT action\n"
        worker.send_signal(number)
        assert worker.wait(10) == -number


def test_f02_end_of_input_while_a_hook_runs(
    setting: Setting, command: list[str], tmp_path: Path, gate: Gate
) -> None:
    tree = make_tree(tmp_path / "tree")
    code = gate.arrive + "import signal\nsignal.pause()"
    settings = json.dumps({"code": code})
    request = f"run\nin_tree_backend\n.\n\nbuild_sdist\n\n{settings}\n"
    setting.killed = True
    with subprocess.Popen(
        [*command, str(tree)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=setting.env
    ) as worker:
        assert worker.stdin is not None
        worker.stdin.write(request.encode())
        worker.stdin.flush()
        hook = gate.arrived()
        worker.stdin.close()
        worker.wait(10)
    processes.wait_gone([hook], timeout=2)
