"""Failures of hooks, workers, interpreters and folders."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import processes
import pytest
from conftest import BOTH_START_METHODS, Setting
from gate import Gate
from other_user import USER, become_other_user
from pool import Pool, Request, Response, kind
from trees import call, make_tree

# For fake workers: a template would fork real ones.
SPAWN = ("--start-method", "spawn")


@BOTH_START_METHODS
@pytest.mark.parametrize(
    ("code", "expected", "says"),
    [
        ("import os\nos._exit(0)", "HookCrashed", "0"),
        ("import os\nos._exit(7)", "HookCrashed", "7"),
        ("import sys\nsys.exit(0)", "HookRuntimeError", "SystemExit"),
        ("import sys\nsys.exit('some text')", "HookRuntimeError", "some text"),
        ("raise KeyboardInterrupt('by itself')", "HookRuntimeError", "by itself"),
        ("class Odd(BaseException): pass\nraise Odd('odd')", "HookRuntimeError", "odd"),
        ("raise GeneratorExit", "HookRuntimeError", "GeneratorExit"),
        ("def f(): f()\nf()", "HookRuntimeError", "recursion"),
        ("raise MemoryError", "HookRuntimeError", "MemoryError"),
        ("result = [object()]", "HookRuntimeError", ""),
        (
            "class Hostile(Exception):\n    def __str__(self): raise ValueError\nraise Hostile",
            "HookRuntimeError",
            "Hostile",
        ),
        ("import os, signal\nos.kill(os.getppid(), signal.SIGCHLD)\n1/0", "HookRuntimeError", "0"),
    ],
)
def test_f05_f06_hooks_that_fail(
    setting: Setting, tree: Path, code: str, expected: str, says: str
) -> None:
    pool = setting.start()
    # A hook that raises imports the modules that describe the exception.
    before = pool.settle(tree, code)
    response = pool.ask(call(tree, code, 1))
    assert kind(response) == expected, response["error"]
    assert says in str(response["error"])
    after = pool.ask(call(tree, "result = ['on']", 2))
    assert after["result"] == ["on"]
    # The hook fails, not the worker.
    assert after["worker"] == before
    assert pool.finish() == ([], 1)


@BOTH_START_METHODS
def test_f05_with_isolation_none_the_worker_is_replaced(setting: Setting, tree: Path) -> None:
    pool = setting.start("--isolation", "none")
    assert kind(pool.ask(call(tree, "import sys\nsys.exit(0)", 1))) == "HookRuntimeError"
    assert kind(pool.ask(call(tree, "import os\nos._exit(0)", 2))) == "WorkerCrashed"
    assert pool.ask(call(tree, "result = ['on']", 3))["result"] == ["on"]
    assert pool.finish() == ([], 1)


def test_the_fields_of_an_error(setting: Setting, tree: Path) -> None:
    pool = setting.start()
    raised = pool.ask(call(tree, "def named():\n    raise ValueError('text')\nnamed()", 1))
    error = raised["error"]
    assert error["kind"] == "HookRuntimeError"
    assert error["message"].split("\n")[:3] == [
        "ValueError: text",
        "  at <string>, line 2, in named",
        "  at <string>, line 3",
    ]
    assert error["exception"] == "ValueError"
    assert error["unsupported_operation"] is False
    assert "in named" in error["traceback"]
    assert error["exit"] is None
    crashed = pool.ask(call(tree, "import os\nos._exit(9)", 2))["error"]
    assert crashed["exception"] is None
    assert "9" in str(crashed["exit"])
    assert pool.finish() == ([], 1)


def test_unsupported_operation(setting: Setting, tmp_path: Path) -> None:
    backend = (
        "class UnsupportedOperation(Exception): pass\n"
        "def build_sdist(sdist_directory, config_settings=None):\n"
        "    raise UnsupportedOperation('no sdists here')\n"
    )
    tree = make_tree(tmp_path / "tree", backend)
    pool = setting.start()
    response = pool.ask({"id": 1, "tree": str(tree), "hook": "build_sdist"})
    assert response["error"]["kind"] == "HookRuntimeError"
    assert response["error"]["unsupported_operation"] is True
    assert pool.finish() == ([], 1)


@BOTH_START_METHODS
def test_many_crashing_hooks_quarantine_nobody(setting: Setting, tree: Path) -> None:
    pool = setting.start("--max-restarts", "1", "--restart-window", "1h")
    worker = pool.settle(tree)
    pool.send(*(call(tree, "import os\nos.abort()", number) for number in range(30)))
    found = pool.responses(30)
    assert {kind(response) for response in found} == {"HookCrashed"}
    assert all(response["worker"] == worker for response in found)
    after = pool.ask(call(tree, "", 31))
    assert (after["ok"], after["worker"]) == (True, worker)
    assert pool.finish() == ([], 1)


def script(path: Path, text: str) -> str:
    """An executable file."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


INTERPRETERS = {
    "missing": None,
    "a folder": "folder",
    "not executable": "file",
    "no program": "\x7fELF garbage",
    "another program": "#!/bin/sh\nexit 0\n",
    "failing": "#!/bin/sh\necho broken >&2\nexit 3\n",
    "printing garbage": "#!/bin/sh\nhead -c 100000 /dev/zero | tr '\\0' '\\377'\n",
    "killed": "#!/bin/sh\nkill -SEGV $$\n",
}


@pytest.mark.parametrize("what", INTERPRETERS)
def test_f42_an_interpreter_that_is_none(
    setting: Setting, tree: Path, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "no-python"
    text = INTERPRETERS[what]
    if text == "folder":
        path.mkdir()
    elif text == "file":
        path.touch()
    elif text is not None:
        script(path, text)
    pool = setting.start(python=str(path))
    pool.send_bytes(b"")
    rest, code = pool.finish()
    assert rest == []
    assert code == 3
    assert str(path) in pool.stderr


def test_f42_an_interpreter_that_is_too_old(setting: Setting, tmp_path: Path) -> None:
    # Claims to be Python 3.6.
    path = script(
        tmp_path / "old-python",
        f"#!/bin/sh\nexec {sys.executable} -c '\n"
        "import sys, collections\n"
        'V = collections.namedtuple("V", "major minor micro releaselevel serial")\n'
        'sys.version_info = V(3, 6, 15, "final", 0)\n'
        "sys.hexversion = 0x03060ff0\n"
        'sys.version = "3.6.15 (default)"\n'
        "arguments = sys.argv[1:]\n"
        'code = arguments[arguments.index("-c") + 1] if "-c" in arguments else ""\n'
        'sys.argv = ["-c"]\n'
        "exec(code)\n"
        '\' "$@"\n',
    )
    pool = setting.start(python=path)
    assert pool.finish() == ([], 3)
    assert path in pool.stderr
    assert "3.7" in pool.stderr


@BOTH_START_METHODS
def test_f42_an_interpreter_that_is_killed_once(
    setting: Setting, tree: Path, tmp_path: Path
) -> None:
    """For example by the system, when memory is low: that says nothing about the interpreter."""
    asked = tmp_path / "asked"
    path = tmp_path / "python"
    path.write_text(
        f"#!/bin/sh\n[ -e {asked} ] || {{ : > {asked}; kill -KILL $$; }}\n"
        f'exec {sys.executable} "$@"\n'
    )
    path.chmod(0o755)
    pool = setting.start()
    assert pool.ask(call(tree, "result = ['on']", 1, python=str(path)))["result"] == ["on"]
    assert asked.exists()
    assert pool.finish() == ([], 0)


def test_f42_no_interpreter_on_path(setting: Setting, tmp_path: Path) -> None:
    pool = setting.start(python=None, env={"PATH": str(tmp_path)})
    assert pool.finish() == ([], 3)
    assert "python3" in pool.stderr


def test_f42_an_interpreter_that_hangs(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    path = script(tmp_path / "slow-python", f"#!/bin/sh\nread line <{gate.releases}\n")
    pool = setting.start("--startup-timeout", "500ms", python=path)
    assert pool.finish() == ([], 3)
    assert path in pool.stderr


def healed(pool: Pool, request: Request) -> Response:
    """The response after a quarantine, which only time ends."""
    end = time.monotonic() + 20
    while kind(response := pool.ask(request)) == "Quarantined":
        assert time.monotonic() < end, response
        time.sleep(0.05)
    return response


@pytest.mark.parametrize("variable", ["TMPDIR", "capture"])
def test_f32_no_place_for_captures(
    setting: Setting, tree: Path, tmp_path: Path, variable: str
) -> None:
    missing = tmp_path / "file" / "folder"
    missing.parent.touch()
    if variable == "TMPDIR":
        pool = setting.start(env={"TMPDIR": str(missing)})
    else:
        pool = setting.start("--capture-dir", str(missing))
    # The program may end before it reads.
    with suppress(BrokenPipeError):
        pool.send(call(tree, "", 1))
    rest, code = pool.finish()
    assert code in {1, 3}
    said = pool.stderr + str(rest)
    assert str(missing) in said
    assert all(not response["ok"] for response in rest)


def test_f32_the_captures_folder_goes_while_running(
    setting: Setting, tree: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "captures"
    folder.mkdir()
    pool = setting.start(
        "--capture-dir", str(folder), "--max-restarts", "0", "--restart-window", "1s"
    )
    assert pool.ask(call(tree, "", 1))["ok"]
    (inner,) = folder.iterdir()
    shutil.rmtree(inner)
    # The worker creates the folder again, with the same permissions.
    assert pool.ask(call(tree, "result = ['on']", 2))["result"] == ["on"]
    assert inner.stat().st_mode & 0o777 == 0o700
    assert pool.finish() == ([], 0)


def test_f32_a_cache_folder_that_cannot_be(setting: Setting, tree: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file" / "cache"
    blocked.parent.touch()
    pool = setting.start(env={"XDG_CACHE_HOME": str(blocked)})
    # "a private temporary folder where there is none"
    assert pool.ask(call(tree, "result = ['x']"))["result"] == ["x"]
    assert pool.finish() == ([], 0)


def test_f32_a_read_only_cache_folder(setting: Setting, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs to become another user")
    # Another user cannot read pytest's folders, so this test uses others.
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        tree = make_tree(place / "tree")
        (place / "tmp").mkdir()
        (place / "tmp").chmod(0o1777)
        (place / "cache").mkdir()
        (place / "cache").chmod(0o555)
        pool = setting.start(
            env={
                "XDG_CACHE_HOME": str(place / "cache"),
                "TMPDIR": str(place / "tmp"),
                "XDG_RUNTIME_DIR": str(place / "tmp"),
                "HOME": str(place),
            },
            python="/usr/bin/python3",
            preexec=become_other_user,
        )
        assert pool.ask(call(tree, "result = ['x']"))["result"] == ["x"]
        assert pool.finish() == ([], 0)
        assert list((place / "tmp").iterdir()) == []


@pytest.mark.parametrize("what", ["owned by somebody else", "writable by others", "a link"])
def test_f54_a_cache_folder_that_is_not_ours(
    setting: Setting, tree: Path, tmp_path: Path, what: str
) -> None:
    cache = tmp_path / "cache"
    ours = cache / "hookpool"
    ours.mkdir(parents=True)
    if what == "owned by somebody else":
        if os.geteuid() != 0:
            pytest.skip("needs to give a folder away")
        os.chown(ours, USER, USER)
    elif what == "writable by others":
        ours.chmod(0o777)
    else:
        if os.geteuid() != 0:
            pytest.skip("needs to give a folder away")
        elsewhere = tmp_path / "elsewhere"
        ours.rename(elsewhere)
        os.chown(elsewhere, USER, USER)
        ours.symlink_to(elsewhere)
    pool = setting.start(env={"XDG_CACHE_HOME": str(cache)})
    assert pool.ask(call(tree, "result = ['x']", 1))["result"] == ["x"]
    assert pool.ask(call(tree, "result = ['y']", 2))["result"] == ["y"]
    assert pool.finish() == ([], 0)
    assert pool.stderr.count(str(ours)) == 1
    assert list(ours.iterdir()) == []


def test_f54_worker_code_that_others_may_write_is_not_run(
    setting: Setting, tree: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    env = {"XDG_CACHE_HOME": str(cache)}
    assert setting.start(env=env).run([call(tree, "")])[0]["ok"]
    (entry,) = cache.rglob("__main__.py")
    entry.write_text("raise SystemExit('tampered')\n")
    pool = setting.start(env=env)
    assert pool.ask(call(tree, "result = ['x']"))["result"] == ["x"]
    assert pool.finish() == ([], 0)


def test_cache_dir_is_private(setting: Setting, tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    pool = setting.start("--cache-dir", str(cache))
    assert pool.run([call(tree, "")])[0]["ok"]
    assert cache.stat().st_mode & 0o777 == 0o700
    assert list(cache.iterdir())


def test_two_first_starts_share_a_cache(setting: Setting, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    trees = [make_tree(tmp_path / f"tree-{number}") for number in range(4)]
    pools = [setting.start(env={"XDG_CACHE_HOME": str(cache)}) for _ in trees]
    for pool, tree in zip(pools, trees, strict=True):
        pool.send(call(tree, "result = ['x']"))
    for pool in pools:
        assert pool.response()["result"] == ["x"]
        assert pool.finish() == ([], 0)


@pytest.mark.parametrize(
    "name",
    ["with space", "quote'\"s", "ünï-码", "$(touch x); `y`", "-dash", "back\\slash", "tab\t"],
)
def test_f39_odd_names(setting: Setting, tmp_path: Path, name: str, isolation: str) -> None:
    tree = make_tree(tmp_path / name / "tree")
    pool = setting.start("--isolation", isolation)
    response = pool.ask(call(tree, "import os\nresult = [os.getcwd()]", 1))
    assert response["result"] == [str(tree)]
    request = call(tree, "result = wheel_directory", 2, hook="build_wheel")
    response = pool.ask({**request, "wheel_directory": str(tree.parent)})
    assert response["result"] == str(tree.parent)
    assert pool.finish() == ([], 0)


def test_f39_a_newline_in_a_path(setting: Setting, tmp_path: Path, tree: Path) -> None:
    odd = make_tree(tmp_path / "new\nline")
    pool = setting.start()
    request = call(tree, "result = wheel_directory", 1, hook="build_wheel")
    response = pool.ask({**request, "wheel_directory": str(odd)})
    assert kind(response) == "MalformedHookArgument"
    # The tree is not an argument of the protocol: it works, or the error says that it is the tree.
    response = pool.ask(call(odd, "import os\nresult = [os.getcwd()]", 2))
    assert kind(response) == "MalformedHookArgument" or response["result"] == [str(odd)]
    assert pool.ask(call(tree, "result = ['on']", 3))["result"] == ["on"]
    assert pool.finish() == ([], 1)


def test_f39_bytes_that_are_not_utf_8_in_a_path(setting: Setting, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(folder)
    tree = make_tree(tmp_path / "tree")
    os.rename(tree, folder + b"/tree")
    # JSON cannot express the name, but a relative path from such a folder can.
    pool = setting.start(cwd=os.fsdecode(folder))
    response = pool.ask(call("tree", "import os\nresult = [ascii(os.fsencode(os.getcwd()))]", 1))
    assert response["ok"] or kind(response) == "MalformedHookArgument", response
    if response["ok"]:
        assert response["result"] == [ascii(folder + b"/tree")]
    pool.finish()


def fake_python(path: Path, worker: str) -> str:
    """A real Python for all questions, and a fake `worker` in place of hookd."""
    text = (
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "arguments = sys.argv[1:]\n"
        "if '-c' in arguments:\n"
        "    place = arguments.index('-c') + 1\n"
        # The reply names this script, so the worker is started with it.
        f"    me = 'import sys; sys.executable = ' + repr({str(path)!r}) + '; '\n"
        "    arguments[place] = me + 'exec(' + repr(arguments[place]) + ')'\n"
        f"    os.execv({sys.executable!r}, [{sys.executable!r}, *arguments])\n"
        "def say(text):\n"
        "    os.write(1, text.encode())\n"
        "def run_real_worker():\n"
        f"    os.execv({sys.executable!r}, [{sys.executable!r}, *arguments])\n"
    )
    return script(path, text + worker)


BAD_WORKERS = {
    "dies at start": ("sys.exit(4)\n", "WorkerStartFailed", "4"),
    "dies of a signal": ("os.abort()\n", "WorkerStartFailed", "SIGABRT"),
    "says garbage": ("say('hello\\n')\nsys.stdin.read()\n", "ProtocolViolation", "hello"),
    "half a line, then end": ("say('REA')\n", "WorkerStartFailed", "ready"),
    "half a line, then silence": ("say('REA')\nsys.stdin.read()\n", "WorkerStartFailed", "ready"),
    "nothing at all": ("sys.stdin.read()\n", "WorkerStartFailed", "ready"),
    "binary": (
        "os.write(1, bytes(range(256)) * 4 + b'\\n')\nsys.stdin.read()\n",
        "ProtocolViolation",
        "",
    ),
    "an endless line": ("while True: say('x' * 65536)\n", "ProtocolViolation", ""),
}


@pytest.mark.parametrize("what", BAD_WORKERS)
def test_f13_f29_workers_that_never_get_ready(
    setting: Setting, tree: Path, tmp_path: Path, what: str
) -> None:
    worker, expected, says = BAD_WORKERS[what]
    bad = fake_python(tmp_path / "bad-python", worker)
    other = make_tree(tmp_path / "other")
    pool = setting.start(
        *SPAWN, "--startup-timeout", "1s", "--max-restarts", "2", "--restart-window", "1m"
    )
    pool.send(call(tree, "", 1, python=bad))
    response = pool.response()
    # The start is tried again until the restarts are used up. The error may be a quarantine, which
    # quotes the last start.
    assert kind(response) in {expected, "Quarantined"}
    assert says in response["error"]["message"]
    assert pool.ask(call(other, "result = ['other']", 2))["result"] == ["other"]
    assert processes.peak_memory(pool.pid) < 64 * 2**20
    assert pool.finish() == ([], 1)


@BOTH_START_METHODS
def test_f13_quarantine(setting: Setting, tree: Path, tmp_path: Path) -> None:
    workers, templates = tmp_path / "worker-starts", tmp_path / "template-starts"
    workers.touch()
    templates.touch()
    bad = fake_python(
        tmp_path / "bad-python",
        f"name = {str(templates)!r} if '--template' in arguments else {str(workers)!r}\n"
        "with open(name, 'a') as starts: starts.write('x')\n"
        "sys.exit(4)\n",
    )
    pool = setting.start("--max-restarts", "2", "--restart-window", "1h")
    other = make_tree(tmp_path / "other")
    pool.send(*(call(tree, "", number, python=bad) for number in range(40)))
    pool.send(call(other, "result = ['other']", "other"))
    found = pool.responses(41)
    kinds = {response["id"]: kind(response) for response in found}
    assert kinds["other"] is None
    assert kinds[39] == "Quarantined"
    assert set(kinds.values()) <= {None, "WorkerStartFailed", "Quarantined"}
    quarantined = next(response for response in found if kind(response) == "Quarantined")
    assert "4" in quarantined["error"]["message"]
    # At most the allowed failures, one more, and the one that exceeded the limit.
    assert 1 <= len(workers.read_text()) <= 4
    assert len(templates.read_text()) == (2 if setting.start_method == "forkserver" else 0)
    # The same tree with a working interpreter is a different pool.
    assert pool.ask(call(tree, "result = ['good']", "good"))["result"] == ["good"]
    assert pool.finish() == ([], 1)


def test_f13_starts_that_fail_slowly(setting: Setting, tree: Path, tmp_path: Path) -> None:
    """Each start takes longer than the restart window; the request is answered all the same."""
    bad = fake_python(tmp_path / "bad-python", "sys.stdin.read()\n")
    pool = setting.start(
        *SPAWN, "--startup-timeout", "300ms", "--max-restarts", "3", "--restart-window", "300ms"
    )
    response = pool.ask(call(tree, "", 1, python=bad), timeout=20)
    assert kind(response) in {"WorkerStartFailed", "Quarantined"}
    assert pool.finish() == ([], 1)


@BOTH_START_METHODS
def test_f13_a_trial_start_after_the_quarantine(
    setting: Setting, tree: Path, tmp_path: Path
) -> None:
    good = tmp_path / "good"
    bad = fake_python(
        tmp_path / "python",
        f"if os.path.exists({str(good)!r}): run_real_worker()\nsys.exit(4)\n",
    )
    pool = setting.start("--max-restarts", "0", "--restart-window", "1s")
    number = 0
    while kind(pool.ask(call(tree, "", number, python=bad))) != "Quarantined":
        number += 1
        assert number < 10
    good.touch()
    assert healed(pool, call(tree, "result = ['healed']", python=bad))["result"] == ["healed"]
    pool.finish()


# A worker that behaves well until a request comes.
HANDSHAKE = (
    "def lines():\n"
    "    for line in sys.stdin:\n"
    "        yield line.rstrip('\\n')\n"
    "lines = lines()\n"
    "say('READY\\nEXPECT action\\n')\n"
    "while next(lines) != 'run': pass\n"
)


def test_a_worker_that_dies_before_accepting_is_retried(
    setting: Setting, tree: Path, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    worker = (
        f"if os.path.exists({str(once)!r}): run_real_worker()\n"
        f"open({str(once)!r}, 'w').close()\n" + HANDSHAKE
    )
    python = fake_python(tmp_path / "python", worker)
    pool = setting.start(*SPAWN)
    response = pool.ask(call(tree, "result = ['second try']", 1, python=python))
    assert response["result"] == ["second try"]
    assert once.exists()
    assert pool.finish() == ([], 0)


def accepting(tmp_path: Path, then: str) -> str:
    """A worker that accepts a request, then does `then`."""
    out, err = tmp_path / "capture-out", tmp_path / "capture-err"
    for path in (out, err):
        path.write_text("captured")
    return HANDSHAKE + f"say('STDOUT {out}\\nSTDERR {err}\\n')\n" + then


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ("say('what is this\\n')\nfor line in lines: pass\n", "ProtocolViolation"),
        ("say('OK [\"half')\n", "WorkerCrashed"),
        ("say('OK not json\\n')\nfor line in lines: pass\n", "ProtocolViolation"),
        ("sys.exit(5)\n", "WorkerCrashed"),
        ('say(\'FATAL X {"message": "fatal"}\\n\')\n', "WorkerCrashed"),
        ("say('OK [\"kept\"]\\n')\nsys.exit(5)\n", None),
        ("say('OK [\"kept\"]\\n')\nos.kill(os.getpid(), 9)\n", None),
        ("say('DEBUG x\\nNOVELTY y\\nOK [\"kept\"]\\n')\nfor line in lines: pass\n", None),
    ],
)
def test_f07_f29_workers_that_fail_after_accepting(
    setting: Setting, tree: Path, tmp_path: Path, then: str, expected: str | None
) -> None:
    python = fake_python(tmp_path / "python", accepting(tmp_path, then))
    # The health check ends a worker that is silent after its result.
    times = ["--hook-timeout", "20s", "--grace-period", "200ms", "--health-timeout", "2s"]
    pool = setting.start(*SPAWN, *times)
    response = pool.ask(call(tree, "", 1, python=python))
    assert kind(response) == expected
    if expected is None:
        assert response["result"] == ["kept"]
    assert pool.ask(call(tree, "result = ['on']", 2))["result"] == ["on"]
    assert pool.finish() == ([], 0 if expected is None else 1)


def test_f22_an_answer_waits_for_what_its_hook_has_imported(
    setting: Setting, tree: Path, tmp_path: Path, gate: Gate
) -> None:
    """With isolation `none`: an edit after the response must be detected."""
    then = f"say('OK [\"kept\"]\\n')\n{gate.code}say('IMPORTED []\\nREADY\\n')\n"
    python = fake_python(
        tmp_path / "python", accepting(tmp_path, then + "for line in lines: pass\n")
    )
    # The fake worker does not obey when it is to end.
    pool = setting.start(*SPAWN, "--isolation", "none", "--health-timeout", "2s")
    pool.send(call(tree, "", 1, python=python))
    gate.arrived()
    # Only time shows that there is no response.
    with pytest.raises(AssertionError, match="no response"):
        pool.response(timeout=0.5)
    gate.release()
    assert pool.response()["result"] == ["kept"]
    assert pool.finish() == ([], 0)


def test_f28_a_worker_that_hangs_after_accepting(
    setting: Setting, tree: Path, tmp_path: Path
) -> None:
    then = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile 1: signal.pause()\n"
    python = fake_python(tmp_path / "python", accepting(tmp_path, then))
    times = ["--hook-timeout", "300ms", "--grace-period", "300ms", "--health-timeout", "2s"]
    pool = setting.start(*SPAWN, *times)
    assert kind(pool.ask(call(tree, "", 1, python=python))) == "HookTimeout"
    assert pool.ask(call(tree, "result = ['on']", 2))["result"] == ["on"]
    assert pool.finish() == ([], 1)


@BOTH_START_METHODS
def test_a_worker_that_answers_no_ping_is_replaced(setting: Setting, tree: Path) -> None:
    pool = setting.start("--health-interval", "200ms", "--health-timeout", "300ms")
    first = pool.settle(tree)
    os.kill(first["pid"], signal.SIGSTOP)
    processes.wait_gone([first["pid"]])
    second = pool.ask(call(tree, "", 2))
    assert second["ok"]
    assert second["worker"]["pid"] != first["pid"]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_health_checks_leave_the_healthy_alone(
    setting: Setting, tree: Path, isolation: str
) -> None:
    pool = setting.start(
        "--isolation", isolation, "--health-interval", "50ms", "--health-timeout", "2s"
    )
    first = pool.settle(tree)
    pool.send(call(tree, "import time\ntime.sleep(1)\nresult = ['slept']", 2))
    assert pool.response()["result"] == ["slept"]
    assert pool.ask(call(tree, "", 3))["worker"] == first
    assert pool.finish() == ([], 0)
