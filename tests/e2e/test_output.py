"""The output of hooks is captured completely, in bounded memory, and never read as protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import processes
import pytest
from conftest import BOTH_START_METHODS, Setting
from gate import Gate
from pool import kind
from trees import CODE_BACKEND, call, make_tree

KEPT = 64 * 2**10

FORGE = """\
import ctypes, os, subprocess, sys
lines = b'OK ["forged"]\\nREADY\\nEXPECT action\\nSHUTDOWN\\nFATAL X {}\\n'
print(lines.decode(), flush=True)
sys.__stdout__.write(lines.decode())
os.write(1, lines)
os.write(2, lines)
ctypes.CDLL(None).write(1, lines, len(lines))
subprocess.run(["sh", "-c", "printf 'OK [\\"forged\\"]\\nREADY\\n'; printf 'READY\\n' >&2"])
for descriptor in os.listdir("/proc/self/fd"):
    if int(descriptor) > 2:
        try:
            os.write(int(descriptor), b"")
        except OSError:
            pass
result = ["true"]
"""


@BOTH_START_METHODS
def test_f08_forged_messages(setting: Setting, tree: Path, isolation: str) -> None:
    pool = setting.start("--isolation", isolation)
    for number in range(2):
        response = pool.ask(call(tree, FORGE, number))
        assert response["result"] == ["true"]
        assert response["stdout"].count('OK ["forged"]') == 5
        assert response["stderr"].count("READY") == 2
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_f08_messages_on_each_descriptor(setting: Setting, tree: Path, isolation: str) -> None:
    """Each response still belongs to its request."""
    forge = (
        "import os\n"
        "for descriptor in map(int, os.listdir('/proc/self/fd')):\n"
        "    try:\n"
        "        os.write(descriptor, b'OK [\"forged\"]\\nREADY\\n' if descriptor > 2 else b'')\n"
        "    except OSError:\n"
        "        pass\n"
        "result = ['true']\n"
    )
    pool = setting.start("--isolation", isolation)
    pool.send(*(call(tree, forge if n % 2 else f"result = ['{n}']", n) for n in range(8)))
    for response in pool.responses(8):
        number = response["id"]
        if number % 2 == 0:
            assert response["result"] == [str(number)]
        elif isolation == "none":
            assert response["result"] == ["true"]
        else:
            # The hook has made its own result unreadable.
            assert kind(response) == "HookCrashed"
    assert pool.finish() == ([], 1 if isolation == "hook" else 0)


@BOTH_START_METHODS
@pytest.mark.parametrize("where", ["sitecustomize", "pth"])
def test_f09_an_interpreter_that_prints_at_start(
    setting: Setting, tree: Path, tmp_path: Path, where: str
) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site_packages,) = venv.glob("lib/python3*/site-packages")
    noise = "import os, sys; print('READY'); print('{}'); sys.stderr.write('x'); os.write(1, b'[]')"
    name = "sitecustomize.py" if where == "sitecustomize" else "noise.pth"
    (site_packages / name).write_text(noise + "\n")
    pool = setting.start(python=str(venv / "bin" / "python"))
    response = pool.ask(call(tree, "import sys\nresult = [sys.prefix]"))
    assert response["result"] == [str(venv)], response
    assert pool.finish() == ([], 0)


def test_f30_output_that_is_not_utf_8(setting: Setting, tree: Path) -> None:
    code = "import os\nos.write(1, b'a\\xff\\xfeb\\n')\nos.write(2, b'\\xc3')\nresult = ['x']"
    pool = setting.start()
    response = pool.ask(call(tree, code))
    assert response["stdout"] == "a\ufffd\ufffdb\n"
    assert response["stderr"] == "\ufffd"
    assert pool.finish() == ([], 0)


def test_f30_error_messages_with_surrogates(setting: Setting, tree: Path, isolation: str) -> None:
    pool = setting.start("--isolation", isolation)
    code = "raise ValueError('a\\udcff\\ud800 b \\0 \\u2028 line\\nbreak')"
    response = pool.ask(call(tree, code, 1))
    assert kind(response) == "HookRuntimeError"
    assert response["error"]["exception"] == "ValueError"
    assert response["error"]["message"].startswith("ValueError: a")
    assert "line\nbreak\n  at " in response["error"]["message"]
    response = pool.ask(call(tree, "result = ['a\\udcff\\ud800', 'ö\\u2028\\n']", 2))
    assert response["result"][1] == "ö\u2028\n"
    assert pool.ask(call(tree, "result = ['on']", 3))["result"] == ["on"]
    assert pool.finish() == ([], 1)


def test_f31_a_hundred_megabytes(setting: Setting, tree: Path, isolation: str) -> None:
    code = (
        "import os\n"
        "block = b'x' * 2**20\n"
        "for _ in range(100):\n"
        "    os.write(1, block)\n"
        "os.write(1, b'the tail')\n"
        "os.write(2, b'y' * 65536)\n"
    )
    pool = setting.start("--isolation", isolation)
    response = pool.ask(call(tree, code, 1))
    assert response["ok"]
    assert len(response["stdout"]) == KEPT
    assert response["stdout"].endswith("xxthe tail")
    assert response["stdout_truncated"] is True
    assert response["stderr"] == "y" * KEPT
    assert response["stderr_truncated"] is False
    assert processes.peak_memory(pool.pid) < 64 * 2**20
    # Nothing of it stays on the disk while the program runs.
    assert pool.ask(call(tree, "", 2))["stdout"] == ""
    left = [path.stat().st_size for path in setting.tmp.rglob("*") if path.is_file()]
    assert sum(left) < 2**20
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_output_of_a_failed_hook_is_there_too(setting: Setting, tree: Path, isolation: str) -> None:
    pool = setting.start("--isolation", isolation)
    code = "import os\nprint('before', flush=True)\n"
    raised = pool.ask(call(tree, code + "1 / 0", 1))
    crashed = pool.ask(call(tree, code + "os._exit(5)", 2))
    assert raised["stdout"] == crashed["stdout"] == "before\n"
    pool.finish()


@BOTH_START_METHODS
def test_output_of_a_hook_that_timed_out(setting: Setting, tree: Path) -> None:
    code = "import signal\nprint('before', flush=True)\nsignal.pause()\n"
    pool = setting.start("--hook-timeout", "500ms")
    response = pool.ask(call(tree, code, 1))
    assert kind(response) == "HookTimeout"
    assert response["stdout"] == "before\n"
    assert pool.finish() == ([], 1)


@BOTH_START_METHODS
def test_output_while_the_backend_is_imported(
    setting: Setting, tmp_path: Path, isolation: str
) -> None:
    backend = "import os\nprint('importing', flush=True)\nos.write(2, b'in C')\n" + CODE_BACKEND
    tree = make_tree(tmp_path / "tree", backend)
    pool = setting.start("--isolation", isolation)
    response = pool.ask(call(tree, "print('running')", 1))
    assert response["stdout"] == "importing\nrunning\n"
    assert response["stderr"] == "in C"
    assert pool.finish() == ([], 0)


def test_f03_a_megabyte_of_settings_to_a_backend_that_prints(
    setting: Setting, tmp_path: Path, isolation: str
) -> None:
    backend = "import sys\nsys.stdout.write('x' * 2**20)\nsys.stderr.write('y' * 2**20)\n"
    tree = make_tree(tmp_path / "tree", backend + CODE_BACKEND)
    request = call(tree, "result = [str(len(settings['large']))]", 1)
    request["config_settings"]["large"] = "z" * 2**20
    pool = setting.start("--isolation", isolation)
    assert pool.ask(request)["result"] == [str(2**20)]
    assert pool.finish() == ([], 0)


def test_f04_a_large_request_to_a_backend_that_fails_to_import(
    setting: Setting, tmp_path: Path, isolation: str
) -> None:
    tree = make_tree(tmp_path / "tree", "raise RuntimeError('no')\n")
    request = call(tree, "", 1)
    request["config_settings"]["large"] = "z" * 2**20
    pool = setting.start("--isolation", isolation)
    response = pool.ask(request)
    assert kind(response) == "BackendImportError"
    assert "RuntimeError" in response["error"]["traceback"]
    assert pool.finish() == ([], 1)


def test_a_megabyte_as_the_result(setting: Setting, tree: Path, isolation: str) -> None:
    pool = setting.start("--isolation", isolation)
    assert pool.ask(call(tree, "result = ['x' * 2**21]", 1))["result"] == ["x" * 2**21]
    assert pool.finish() == ([], 0)


def test_capture_dir(setting: Setting, tree: Path, tmp_path: Path, gate: Gate) -> None:
    folder = tmp_path / "captures"
    folder.mkdir()
    pool = setting.start("--capture-dir", str(folder))
    pool.send(call(tree, "print('text', flush=True)\n" + gate.code, 1))
    gate.arrived()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert "text\n" in {path.read_text() for path in files}
    assert not [path for path in files if path.stat().st_mode & 0o077]
    gate.release()
    assert pool.response()["stdout"] == "text\n"
    assert pool.finish() == ([], 0)
    assert list(folder.iterdir()) == []


@BOTH_START_METHODS
def test_a_hook_that_closes_and_replaces_its_output(setting: Setting, tree: Path) -> None:
    code = "import os, sys\nsys.stdout.close()\nsys.stderr = None\nos.closerange(0, 3)\n"
    pool = setting.start()
    assert pool.ask(call(tree, code + "result = ['closed']", 1))["result"] == ["closed"]
    assert pool.ask(call(tree, "print('on')", 2))["stdout"] == "on\n"
    assert pool.finish() == ([], 0)


def test_the_capture_folder_is_private(setting: Setting, tree: Path) -> None:
    code = "import os\nresult = [os.readlink('/proc/self/fd/1')]"
    pool = setting.start()
    path = Path(pool.ask(call(tree, code, 1))["result"][0])
    folder = path.parent
    assert folder.is_relative_to(setting.tmp)
    assert os.stat(folder).st_mode & 0o077 == 0
    assert pool.finish() == ([], 0)
    assert not folder.exists()
