"""Modules that do more than define things when they are imported: each hook sees it done anew.

They are of the environment. Either the backend imports them, which a template imports ahead of the
hooks, or hooks do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Setting
from packages import Environment
from pool import Pool, Response
from trap_trees import UMASK
from trees import CODE_BACKEND, call

# Enough for a template to learn, and for its workers to be replaced.
REQUESTS = 12


@dataclass(frozen=True)
class Module:
    """The text of a module, the code of a hook that imports it, and what must be seen each time."""

    name: str
    text: str
    look: str
    result: str = "right"
    stdout: str = ""
    stderr: str = ""
    # What stands in this file of the tree when the response is there.
    trace: str | None = None


MODULES = (
    Module(
        "prints",
        "import os, sys\n"
        "print('to stdout')\n"
        "sys.stderr.write('to stderr\\n')\n"
        "os.write(1, b'to the descriptor\\n')\n",
        "answer = 'right'",
        # What is buffered comes last.
        stdout="to the descriptor\nto stdout\n",
        stderr="to stderr\n",
    ),
    Module(
        "prints in a child",
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'print(\"of a child\")'], check=True)\n",
        "answer = 'right'",
        stdout="of a child\n",
    ),
    Module(
        "warns",
        "import logging, warnings\n"
        "warnings.showwarning = lambda *arguments, **_: logging.warning('warned')\n"
        "warnings.warn('old')\n",
        "answer = 'right'",
        stderr="WARNING:root:warned\n",
    ),
    Module(
        "keeps the standard streams",
        "import logging, sys\n"
        "OUT = sys.stdout\n"
        "LOG = logging.getLogger('kept')\n"
        "LOG.addHandler(logging.StreamHandler(sys.stderr))\n"
        "LOG.propagate = False\n",
        "answer = 'right'\n"
        "plain_module.OUT.write('kept')\n"
        "plain_module.LOG.warning('logged')\n"
        "print(' and own')\n",
        stdout="kept and own\n",
        stderr="logged\n",
    ),
    Module(
        "runs at exit",
        "import atexit, os, pathlib, weakref\n"
        "class Thing: pass\n"
        "THING = Thing()\n"
        "def write(text):\n"
        "    with open('trace.txt', 'a') as file:\n"
        "        file.write(text)\n"
        "weakref.finalize(THING, write, 'finalized ')\n"
        "atexit.register(write, 'exited ')\n",
        "answer = 'right'",
        trace="exited finalized ",
    ),
    Module(
        "starts a thread",
        "import queue, threading\n"
        "ASKED, ANSWERED = queue.Queue(), queue.Queue()\n"
        "def serve():\n"
        "    ANSWERED.put(ASKED.get())\n"
        "threading.Thread(target=serve, daemon=True).start()\n",
        "plain_module.ASKED.put('right')\nanswer = plain_module.ANSWERED.get(timeout=5)\n",
    ),
    Module(
        "has a pool of threads",
        "import concurrent.futures\n"
        "POOL = concurrent.futures.ThreadPoolExecutor(2)\n"
        "POOL.submit(len, 'used').result()\n",
        "answer = plain_module.POOL.submit(str, 'right').result(timeout=5)\n",
    ),
    Module(
        "has a child",
        "import subprocess, sys\n"
        "CHILD = subprocess.Popen(\n"
        "    [sys.executable, '-c', 'print(input())'],\n"
        "    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,\n"
        ")\n",
        "answer = plain_module.CHILD.communicate('right')[0].strip()\n",
    ),
    Module(
        "has an open file",
        "FILE = open(__file__)\n",
        "answer = 'right' if plain_module.FILE.read(4) == 'FILE' else 'read before'\n",
    ),
    Module(
        "has a temporary folder",
        "import tempfile\nFOLDER = tempfile.TemporaryDirectory()\n",
        "import os\n"
        "os.mkdir(os.path.join(plain_module.FOLDER.name, 'made'))\n"
        "answer = ' '.join(['right', *os.listdir(plain_module.FOLDER.name)])\n",
        result="right made",
    ),
    Module(
        "changes the environment",
        "import os\n"
        "os.environ['COUNT'] = str(int(os.environ.get('COUNT', 0)) + 1)\n"
        "os.environ.pop('REMOVED', None)\n",
        "import os\nanswer = os.environ['COUNT'] + str(os.environ.get('REMOVED'))\n",
        result="1None",
    ),
    Module(
        "changes its process",
        "import os, signal\n"
        "MASK = os.umask(0o077)\n"
        "HANDLER = signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "os.chdir('..')\n",
        "import os, signal\n"
        "mask = os.umask(0)\n"
        "answer = ' '.join([\n"
        "    oct(plain_module.MASK), oct(mask), str(plain_module.HANDLER == signal.SIG_DFL),\n"
        "    str(signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN),\n"
        "    str(os.path.isdir('plain-tree')),\n"
        "])\n",
        result="0o22 0o77 True True True",
    ),
    Module(
        "changes its interpreter",
        "import gc, sys, warnings\n"
        "sys.path.append('/appended')\n"
        "sys.setrecursionlimit(sys.getrecursionlimit() + 7)\n"
        "gc.disable()\n"
        "sys.meta_path.append(type('Finder', (), {'find_spec': staticmethod(lambda *_: None)}))\n"
        "warnings.filterwarnings('ignore', message='added')\n",
        "import gc, sys, warnings\n"
        "answer = ' '.join([\n"
        "    str(sys.path.count('/appended')), str(sys.getrecursionlimit()),\n"
        "    str(gc.isenabled()), str(sum('Finder' == f.__name__ for f in sys.meta_path\n"
        "        if isinstance(f, type))),\n"
        "    str(sum(bool(f[1]) and f[1].pattern == 'added' for f in warnings.filters)),\n"
        "])\n",
        result="1 1007 False 1 1",
    ),
    Module(
        "remembers the current folder",
        "import os\nHERE = os.getcwd()\n",
        "import os\nanswer = 'right' if plain_module.HERE == os.getcwd() else plain_module.HERE\n",
    ),
    Module(
        "remembers the current folder by its Path",
        "import pathlib\nHERE = pathlib.Path('setup.py').absolute()\n",
        "import os\nanswer = 'right' if str(plain_module.HERE.parent) == os.getcwd() else 'else'\n",
    ),
    Module(
        "looks into the current folder",
        "import os\nFOUND = os.path.exists('pyproject.toml')\n",
        "answer = 'right' if plain_module.FOUND else 'not found'\n",
    ),
    Module(
        "reads a file of the current folder, if there is one",
        "try:\n"
        "    with open('pyproject.toml') as file:\n"
        "        TEXT = file.read()\n"
        "except OSError:\n"
        "    TEXT = ''\n",
        "answer = 'right' if 'build-backend' in plain_module.TEXT else 'not found'\n",
    ),
    Module(
        "remembers its process",
        "import os\nPID, GROUP = os.getpid(), os.getpgrp()\n",
        "import os\n"
        "same = (plain_module.PID, plain_module.GROUP) == (os.getpid(), os.getpgrp())\n"
        "answer = 'right' if same else 'another'\n",
    ),
    Module(
        "remembers the modules that were there",
        "import sys\nTHERE = 'plain_extra' in sys.modules\n",
        "answer = 'there' if plain_module.THERE else 'right'\nimport plain_extra\n",
    ),
    Module(
        "remembers where modules come from",
        "import sys\nPATH = list(sys.path)\n",
        "answer = 'right' if plain_module.PATH == sys.path else str(plain_module.PATH)\n",
    ),
    Module(
        "replaces a function",
        "import json\n"
        "BEFORE = json.dumps\n"
        "json.dumps = lambda *arguments, **_: BEFORE(*arguments) + '!'\n",
        "import json\nanswer = json.dumps('right')\n",
        result='"right"!',
    ),
    Module(
        "replaces itself",
        "import sys\nclass Other:\n    name = 'right'\nsys.modules[__name__] = Other()\n",
        "answer = plain_module.name\n",
    ),
    Module(
        "removes another",
        "import plain_extra, sys\nTEXT = 'right'\ndel sys.modules['plain_extra']\n",
        "answer = 'there' if 'plain_extra' in sys.modules else plain_module.TEXT\n",
    ),
)


@pytest.fixture(params=["forkserver", "spawn"])
def start_method(request: pytest.FixtureRequest) -> str:
    """Both start methods."""
    return str(request.param)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment with a backend, whose hooks run the code of the request."""
    environment = Environment(tmp_path / "venv")
    environment.write({"plain_backend.py": CODE_BACKEND, "plain_extra.py": "VERSION = '1'\n"})
    return environment


@pytest.fixture
def plain_tree(tmp_path: Path) -> Path:
    """A tree that is built by this backend."""
    return make_plain_tree(tmp_path / "plain-tree")


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """One that is known, as a module tells it."""
    before = os.umask(UMASK)
    yield
    os.umask(before)


def make_plain_tree(folder: Path) -> Path:
    """A tree that is built by the backend of the environment."""
    folder.mkdir()
    project = '[build-system]\nrequires = []\nbuild-backend = "plain_backend"\n'
    (folder / "pyproject.toml").write_text(project)
    return folder


def check(response: Response, module: Module, tree: Path) -> None:
    """The hook has seen what it would have seen in a fresh process."""
    assert response["ok"], response["error"]
    assert response["result"] == [module.result]
    assert (response["stdout"], response["stderr"]) == (module.stdout, module.stderr)
    trace = tree / "trace.txt"
    assert (trace.read_text() if trace.exists() else None) == module.trace
    trace.unlink(missing_ok=True)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
@pytest.mark.parametrize("importer", ["backend", "hook"])
def test_a_module(
    setting: Setting,
    environment: Environment,
    plain_tree: Path,
    start_method: str,
    importer: str,
    module: Module,
) -> None:
    """Many times in one program, and again in one that knows what the first has learned."""
    environment.write({"plain_module.py": module.text})
    if importer == "backend":
        environment.write({"plain_backend.py": "import plain_module\n" + CODE_BACKEND})
    code = f"import plain_module, sys\n{module.look}\nresult = [answer]\n"
    for _ in range(2):
        pool = start(setting, environment, start_method, REMOVED="there")
        # A spawned worker learns nothing.
        for number in range(REQUESTS if start_method == "forkserver" else 2):
            check(pool.ask(call(plain_tree, code, number)), module, plain_tree)
        assert pool.finish() == ([], 0)


def start(setting: Setting, environment: Environment, start_method: str, **variables: str) -> Pool:
    """A pool in that environment."""
    flags = ["--start-method", start_method]
    return setting.start(*flags, python=environment.python, env=variables)


def test_what_another_project_imports_first(
    setting: Setting, environment: Environment, tmp_path: Path
) -> None:
    """A module that looks which others are there sees those of its own project.

    Not so with a template that has learned them: a limit, told in docs/src/design/templates.md.
    """
    start_method = "spawn"
    environment.write({"plain_module.py": "import sys\nTHERE = 'plain_extra' in sys.modules\n"})
    code = "import plain_module\nresult = [str(plain_module.THERE)]\n"
    with_it, without_it = (make_plain_tree(tmp_path / name) for name in ("with", "without"))
    for _ in range(2):
        pool = start(setting, environment, start_method)
        for number in range(REQUESTS):
            extra = pool.ask(call(with_it, "import plain_extra\n" + code, number))
            assert extra["result"] == ["True"]
            assert pool.ask(call(without_it, code, number))["result"] == ["False"]
        assert pool.finish() == ([], 0)


@pytest.mark.parametrize(
    "text",
    [
        "raise RuntimeError('broken')\n",
        "import sys\nsys.exit(3)\n",
        "import os\nos._exit(3)\n",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    ],
    ids=["raises", "exits", "exits at once", "is killed"],
)
def test_a_module_that_fails_outside_of_a_tree(
    setting: Setting, environment: Environment, plain_tree: Path, start_method: str, text: str
) -> None:
    """Where it is imported, if anywhere, before a hook runs; hooks go on."""
    guard = "import os\nif not os.path.exists('pyproject.toml'):\n    import plain_broken\n"
    environment.write({"plain_module.py": guard, "plain_broken.py": text})
    code = "import plain_module\nresult = ['right']\n"
    for _ in range(2):
        pool = start(setting, environment, start_method)
        for number in range(REQUESTS):
            assert pool.ask(call(plain_tree, code, number))["result"] == ["right"]
        assert pool.finish() == ([], 0)
