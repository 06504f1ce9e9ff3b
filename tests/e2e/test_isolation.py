"""A hook does not see changes by earlier hooks, but it does see edits by the user."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conftest import BOTH_START_METHODS, Setting
from gate import Gate
from pool import kind
from trees import CODE_BACKEND, call, make_tree

IMPORTS = "import builtins, locale, logging, os, signal, sys, threading, warnings\n"
CHANGE = (
    IMPORTS
    + """\
os.chdir("/")
os.umask(0o077)
os.environ["CHANGED"] = "yes"
os.environ["PATH"] = "/nowhere"
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
sys.path.insert(0, "/changed")
sys.argv = ["setup.py", "changed"]
sys.modules["changed"] = sys
sys.stdout = None
logging.getLogger().setLevel(5)
logging.getLogger().addHandler(logging.NullHandler())
builtins.changed = True
locale.setlocale(locale.LC_ALL, "C")
sys.setrecursionlimit(5000)
os.close(1)
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
)
LOOK = (
    IMPORTS
    + """\
mask = os.umask(0)
os.umask(mask)
result = [
    os.getcwd(),
    oct(mask),
    os.environ.get("CHANGED", "unset"),
    os.environ["PATH"],
    str(signal.getsignal(signal.SIGUSR1)),
    str(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    str(sys.path),
    str(sys.argv),
    str("changed" in sys.modules),
    str(logging.getLogger().level),
    str(logging.getLogger().handlers),
    str(hasattr(builtins, "changed")),
    str(sys.getrecursionlimit()),
    str(threading.active_count()),
    str(sorted(os.listdir("/proc/self/fd"))),
]
print("seen")
"""
)


# The state that a process inherits from its parent, or from earlier actions of the parent.
INHERITED = """\
import ctypes, faulthandler, gc, os, resource, select, signal, sys, threading, warnings
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
death = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(death))
def kind(descriptor):
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    return name if name == os.devnull else oct(os.fstat(descriptor).st_mode)
result = [
    *(f"{name}: {status[name].strip()}" for name in ("SigBlk", "SigIgn", "SigCgt", "NoNewPrivs")),
    *(f"{number}: {signal.getsignal(number)}" for number in signal.valid_signals()),
    *(f"{descriptor}: {kind(descriptor)}" for descriptor in range(3)),
    *(f"{number}: {resource.getrlimit(number)}" for number in range(16)),
    f"parent-death signal: {death.value}",
    f"descriptors: {sorted(os.listdir('/proc/self/fd'))}",
    f"own session: {os.getsid(0) == os.getpgrp() == os.getpid()}",
    f"nice: {os.nice(0)}, score: {open('/proc/self/oom_score_adj').read().strip()}",
    f"timer slack: {open('/proc/self/timerslack_ns').read().strip()}",
    f"threads: {[thread.name for thread in threading.enumerate()]}",
    f"collector: {gc.isenabled()} {gc.get_threshold()} {len(gc.callbacks)}",
    f"flags: {sys.flags} {sys.argv} {sys.executable} {sys.prefix} {sys.path}",
    f"hooks: {sys.meta_path} {len(sys.path_hooks)} {sys.excepthook is sys.__excepthook__}",
    f"interval: {sys.getswitchinterval()} {sys.getrecursionlimit()} {faulthandler.is_enabled()}",
    f"warnings: {warnings.filters} {warnings.showwarning is warnings._showwarning_orig}",
    f"streams: {sys.stdout.encoding} {sys.stdout.errors} {sys.stderr.errors} {sys.stdin.errors}",
    f"streams: {sys.stdout.line_buffering} {sys.stderr.line_buffering} {sys.stdin.read()!r}",
    f"main: {sorted(vars(sys.modules['__main__']))}",
    *(f"{name}={value}" for name, value in sorted(os.environ.items())),
]
"""


def test_f40_a_forked_worker_is_as_a_spawned_one(
    setting: Setting, tree: Path, isolation: str, python: str
) -> None:
    seen = {}
    for setting.start_method in ("spawn", "forkserver"):
        pool = setting.start("--isolation", isolation, python=python)
        pool.settle(tree, INHERITED)
        response = pool.ask(call(tree, INHERITED))
        assert response["ok"], response["error"]
        assert response["worker"]["start_method"] == setting.start_method
        # The address of an object is arbitrary.
        seen[setting.start_method] = [
            re.sub("0x[0-9a-f]+", "", line) for line in response["result"]
        ]
        assert pool.finish() == ([], 0)
    pairs = zip(seen["forkserver"], seen["spawn"], strict=True)
    assert [(forked, spawned) for forked, spawned in pairs if forked != spawned] == []


@BOTH_START_METHODS
def test_f40_nothing_of_a_hook_is_left(setting: Setting, tree: Path) -> None:
    pool = setting.start()
    pool.settle(tree, IMPORTS)
    before = pool.ask(call(tree, LOOK, 1))
    assert pool.ask(call(tree, CHANGE, 2))["ok"]
    after = pool.ask(call(tree, LOOK, 3))
    assert after["worker"] == before["worker"]
    assert after["result"] == before["result"]
    assert after["stdout"] == "seen\n"
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_f41_one_name_in_two_trees(setting: Setting, tmp_path: Path, isolation: str) -> None:
    trees = []
    for name in ("one", "two"):
        backend = (
            "import helper\n"
            "def get_requires_for_build_wheel(config_settings=None):\n"
            "    import late_helper\n"
            "    return [helper.NAME, late_helper.NAME]\n"
        )
        tree = make_tree(tmp_path / name, backend, "same_backend")
        (tree / "helper.py").write_text(f"NAME = {name!r}\n")
        (tree / "late_helper.py").write_text(f"NAME = 'late {name}'\n")
        trees.append(tree)
    pool = setting.start("--isolation", isolation)
    for number in range(6):
        tree = trees[number % 2]
        response = pool.ask(call(tree, "", number))
        assert response["result"] == [tree.name, f"late {tree.name}"]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_f22_an_edit_of_the_backend_is_seen(setting: Setting, tmp_path: Path) -> None:
    backend = (
        "import helper\n"
        "def get_requires_for_build_wheel(config_settings=None):\n"
        "    return [helper.NAME, 'VERSION']\n"
    )
    tree = make_tree(tmp_path / "tree", backend.replace("VERSION", "1"))
    (tree / "helper.py").write_text("NAME = 'first'\n")
    pool = setting.start()
    assert pool.ask(call(tree, "", 1))["result"] == ["first", "1"]
    (tree / "helper.py").write_text("NAME = 'the second'\n")
    assert pool.ask(call(tree, "", 2))["result"] == ["the second", "1"]
    (tree / "in_tree_backend.py").write_text(backend.replace("VERSION", "2.0"))
    assert pool.ask(call(tree, "", 3))["result"] == ["the second", "2.0"]
    text = (tree / "pyproject.toml").read_text()
    (tree / "other_backend.py").write_text(backend.replace("VERSION", "other"))
    (tree / "pyproject.toml").write_text(text.replace("in_tree_backend", "other_backend"))
    assert pool.ask(call(tree, "", 4))["result"] == ["the second", "other"]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_f20_the_tree_is_deleted_between_requests(
    setting: Setting, tree: Path, tmp_path: Path
) -> None:
    pool = setting.start()
    assert pool.ask(call(tree, "", 1))["ok"]
    shutil.rmtree(tree)
    response = pool.ask(call(tree, "", 2))
    assert kind(response) == "InvalidSource"
    make_tree(tree, CODE_BACKEND)
    assert pool.ask(call(tree, "result = ['back']", 3))["result"] == ["back"]
    assert pool.finish() == ([], 1)


@BOTH_START_METHODS
def test_f20_the_tree_is_replaced_between_requests(
    setting: Setting, tmp_path: Path, isolation: str
) -> None:
    def backend(name: str) -> str:
        return f"def get_requires_for_build_wheel(config_settings=None):\n    return [{name!r}]\n"

    tree = make_tree(tmp_path / "tree", backend("old"))
    new = make_tree(tmp_path / "new", backend("new"))
    pool = setting.start("--isolation", isolation)
    first = pool.ask(call(tree, "", 1))
    tree.rename(tmp_path / "aside")
    new.rename(tree)
    second = pool.ask(call(tree, "", 2))
    third = pool.ask(call(tmp_path / "aside", "", 3))
    assert [first["result"], second["result"], third["result"]] == [["old"], ["new"], ["old"]]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_f20_the_tree_is_deleted_while_a_hook_runs(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    pool = setting.start()
    pool.send(call(tree, gate.code + "result = ['ran']", 1), call(tree, "", 2))
    gate.arrived()
    shutil.rmtree(tree)
    gate.release()
    first, second = pool.responses(2)
    assert first["result"] == ["ran"]
    assert not second["ok"]
    assert kind(second) == "InvalidSource"
    assert pool.finish() == ([], 1)


@BOTH_START_METHODS
def test_an_edit_while_requests_wait_is_seen_by_them(
    setting: Setting, tree: Path, gates: Callable[[str], Gate]
) -> None:
    gate = gates("edit")
    (tree / "helper.py").write_text("NAME = 'first'\n")
    pool = setting.start()
    code = "import helper\nresult = [helper.NAME]\n"
    pool.send(call(tree, code + gate.code, 1), call(tree, code, 2))
    gate.arrived()
    (tree / "helper.py").write_text("NAME = 'the second'\n")
    gate.release()
    found = pool.responses(2)
    assert [response["result"] for response in found] == [["first"], ["the second"]]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_a_hook_process_ends_tidily(setting: Setting, tree: Path) -> None:
    """A hook process ends like a fresh one: it joins threads, runs exit handlers and flushes."""
    code = (
        "import atexit, pathlib, sys, threading, time, weakref\n"
        "class Thing: pass\n"
        "thing = Thing()\n"
        "weakref.finalize(thing, pathlib.Path('finalized').touch)\n"
        "atexit.register(pathlib.Path('exit-handler').touch)\n"
        "opened = open('unflushed', 'w')\n"
        "opened.write('text')\n"
        "def late():\n"
        "    threading.main_thread().join()\n"
        "    pathlib.Path('joined').touch()\n"
        "threading.Thread(target=late).start()\n"
        "import builtins\n"
        "builtins.kept = [thing, opened]\n"
    )
    pool = setting.start()
    response = pool.ask(call(tree, code, 1), timeout=10)
    assert response["ok"]
    assert (tree / "joined").exists()
    assert (tree / "finalized").exists()
    assert (tree / "exit-handler").exists()
    assert (tree / "unflushed").read_text() == "text"
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_a_bad_end_after_the_result_does_not_lose_it(setting: Setting, tree: Path) -> None:
    code = "import atexit\natexit.register(print, 'bye')\ndef fail(): 1/0\n"
    code += "atexit.register(fail)\nresult = ['kept']\n"
    pool = setting.start()
    response = pool.ask(call(tree, code, 1))
    assert response["result"] == ["kept"]
    assert "bye" in response["stdout"]
    assert "ZeroDivisionError" in response["stderr"]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_hooks_have_no_descriptors_of_ours(setting: Setting, tree: Path) -> None:
    code = (
        "import os, subprocess, sys\n"
        "text = subprocess.run([sys.executable, '-c', "
        "'import os; print(sorted(os.listdir(\"/proc/self/fd\")))'], "
        "stdout=subprocess.PIPE, text=True, close_fds=False).stdout\n"
        "result = [text.strip(), os.readlink('/proc/self/fd/0')]\n"
    )
    pool = setting.start()
    listed, stdin = pool.ask(call(tree, code, 1))["result"]
    # Descriptor 3 is that of the listing.
    assert listed == "['0', '1', '2', '3']"
    assert stdin == os.devnull
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_the_tree_is_not_on_sys_path(setting: Setting, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "backend").mkdir()
    (tree / "in_tree_backend.py").rename(tree / "backend" / "in_tree_backend.py")
    text = (tree / "pyproject.toml").read_text().replace('["."]', '["backend"]')
    (tree / "pyproject.toml").write_text(text)
    (tree / "json.py").write_text("raise RuntimeError('the tree is on sys.path')\n")
    pool = setting.start()
    code = "import importlib, sys\nsys.modules.pop('json', None)\n"
    code += "importlib.import_module('json')\nresult = [str(sys.path)]\n"
    response = pool.ask(call(tree, code, 1))
    assert response["ok"], response["error"]
    assert "hookd" not in response["result"][0]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_modules_named_like_ours_are_the_users(setting: Setting, tmp_path: Path) -> None:
    backend = "NAME = 'theirs'\n" + CODE_BACKEND
    for module in ("hookd", "worker", "channel"):
        tree = make_tree(tmp_path / module, backend, module)
        pool = setting.start()
        response = pool.ask(call(tree, f"import {module}\nresult = [{module}.NAME]", 1))
        assert response["result"] == ["theirs"]
        assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_hash_seeds_are_the_users(setting: Setting, tree: Path) -> None:
    code = "result = [str(hash('text'))]"
    pool = setting.start(env={"PYTHONHASHSEED": "0"})
    found = {pool.ask(call(tree, code, number))["result"][0] for number in range(3)}
    assert len(found) == 1
    environment = {**setting.env, "PYTHONHASHSEED": "0"}
    fresh = subprocess.run(
        [sys.executable, "-c", "print(hash('text'))"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found == {fresh.stdout.strip()}
    assert pool.finish() == ([], 0)
