"""`--template`: a backend that keeps what it finds at its import is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from template_client import StartTemplate
from test_template_preload import names, refused, write

pytest_plugins = ["template_fixture"]

FOLDER = "it asked for the current folder"
WENT = "it went to another folder"
PROCESS = "it asked for the number of its process"
TIME = "it asked for the time"
RANDOM = "it asked for random numbers"
CHILD = "it started a process"
LOOKED = "it looked for 'pyproject.toml' in the current folder"

ASKS = {
    "folder": ("import os; ROOT = os.getcwd()", FOLDER),
    "folder_bytes": ("import os; ROOT = os.getcwdb()", FOLDER),
    "folder_bound": ("from os import getcwd as ask; ROOT = ask()", FOLDER),
    "folder_path": ("import pathlib; ROOT = pathlib.Path.cwd()", FOLDER),
    "folder_absolute": ("import pathlib; ROOT = pathlib.Path('x').absolute()", FOLDER),
    "folder_resolve": ("import pathlib; ROOT = pathlib.Path('x').resolve()", None),
    "folder_abspath": ("import os; ROOT = os.path.abspath('x')", FOLDER),
    "folder_in_function": ("import os\ndef ask():\n    return os.getcwd()\nROOT = ask()", FOLDER),
    "folder_in_class": ("import os\nclass A:\n    root = os.getcwd()", FOLDER),
    "folder_in_exec": ("import os; exec('a = os.getcwd()')", FOLDER),
    "folder_in_decorator": ("import os\ndef d(f): os.getcwd()\n@d\ndef f(): pass", FOLDER),
    "folder_above": ("import os; os.chdir('..')", WENT),
    "folder_of_the_template": ("import os; os.chdir('/')", WENT),
    "folder_by_descriptor": (
        "import os; a = os.open('/', 0); os.fchdir(a); os.close(a)",
        WENT,
    ),
    "process": ("import os; PID = os.getpid()", PROCESS),
    "parent": ("import os; PID = os.getppid()", PROCESS),
    "group": ("import os; GROUP = os.getpgrp()", PROCESS),
    "time": ("import time; NOW = time.time()", TIME),
    "time_ns": ("import time; NOW = time.time_ns()", TIME),
    "monotonic": ("from time import monotonic; NOW = monotonic()", TIME),
    "strftime": ("import time; NOW = time.strftime('%Y')", TIME),
    "now": ("import datetime; NOW = datetime.datetime.now()", TIME),
    "utcnow": ("from datetime import datetime; NOW = datetime.utcnow()", TIME),
    "today": ("from datetime import date; NOW = date.today()", TIME),
    "urandom": ("import os; TOKEN = os.urandom(8)", RANDOM),
    "uuid": ("import uuid; TOKEN = uuid.uuid4()", RANDOM),
    "secrets": ("import secrets; TOKEN = secrets.token_hex()", RANDOM),
    "random": ("import random; TOKEN = random.random()", RANDOM),
    "randint": ("import random; TOKEN = random.randint(1, 9)", RANDOM),
    "choice": ("import random; TOKEN = random.choice([1, 2, 3])", RANDOM),
    "exists": ("import os; HAS = os.path.exists('pyproject.toml')", LOOKED),
    "isfile": ("import os; HAS = os.path.isfile('pyproject.toml')", LOOKED),
    "path_exists": ("import pathlib; HAS = pathlib.Path('pyproject.toml').exists()", None),
    "path_text": (
        "import pathlib\ntry: pathlib.Path('pyproject.toml').read_text()\nexcept OSError: pass",
        None,
    ),
    "stat": ("import os\ntry: os.stat('pyproject.toml')\nexcept OSError: pass", None),
    "open": ("try: TEXT = open('pyproject.toml').read()\nexcept OSError: TEXT = ''", None),
    "os_open": ("import os\ntry: os.open('pyproject.toml', 0)\nexcept OSError: pass", None),
    "listdir": ("import os; FILES = os.listdir()", None),
    "scandir": ("import os; FILES = [*os.scandir('.')]", None),
    "glob": ("import glob; FILES = glob.glob('*.toml')", None),
    "walk": ("import os; FILES = next(os.walk('.'))", None),
    "configparser": ("import configparser as c; c.ConfigParser().read('setup.cfg')", None),
    "temporary_folder": ("import tempfile; FOLDER = tempfile.mkdtemp()", None),
    "temporary_file": ("import tempfile; tempfile.TemporaryFile().close()", None),
    "folder_made": ("import os; os.mkdir({tmp!r})", "it made or changed files"),
    "run": ("import subprocess; subprocess.run(['true'])", CHILD),
    "system": ("import os; os.system('true')", CHILD),
    "fork": ("import os\nif os.fork() == 0: os._exit(0)\nos.wait()", CHILD),
    "socket": ("import socket; socket.socketpair()[0].close()", None),
}

# What the standard library asks for by itself counts for nobody.
HARMLESS = {
    "standard": "import random, tempfile, uuid, logging, secrets, socket, subprocess, datetime\n"
    "import multiprocessing.process, concurrent.futures, email.utils, asyncio, http.client",
    "own_file": "import os; TEXT = open(__file__).read()",
    "own_path": "import pathlib; TEXT = pathlib.Path(__file__).read_text()",
    "own_folder": "import os, pathlib; A = os.path.dirname(os.path.abspath(__file__))\n"
    "B = pathlib.Path(__file__).resolve().parent; C = 0\n"
    "D = os.path.realpath(__file__), os.path.exists(A), (B / 'x').exists(), [*B.iterdir()]",
    "version": "from importlib import metadata\n"
    "try: metadata.version('no-such-distribution')\n"
    "except metadata.PackageNotFoundError: pass\n",
    "only_defined": "import os, time\ndef function(): return os.getcwd(), time.time()\n"
    "class Kind:\n    def method(self): return open('x')",
    "null_device": "import os; open(os.devnull, 'w').close()",
    "machine": "import ctypes.util, platform; platform.uname()[:]; platform.platform()\n"
    "ctypes.util.find_library('no-such-library')",
    "constants": "import datetime, time; datetime.datetime(2000, 1, 1); time.sleep(0)\n"
    "import uuid; uuid.UUID(int=1)",
}


@pytest.mark.parametrize("name", ASKS)
def test_kept(start_template: StartTemplate, site: Path, tmp_path: Path, name: str) -> None:
    code, expected = ASKS[name]
    write(site, subject=code.replace("{tmp!r}", repr(str(tmp_path / "made"))))
    reason, spoilt = refused(start_template().import_backend("subject"))
    assert expected is None or expected in reason, reason
    assert spoilt


@pytest.mark.parametrize("name", HARMLESS)
def test_not_kept(start_template: StartTemplate, interpreter: str, site: Path, name: str) -> None:
    if name == "version" and "/3.7." in interpreter:
        pytest.skip("has no importlib.metadata")
    write(site, subject=HARMLESS[name])
    template = start_template()
    assert "subject" in names(template.import_backend("subject"))
    assert template.fork_worker().run("sample_module").result


def test_by_whom(start_template: StartTemplate, site: Path) -> None:
    """A backend is also refused for what the modules do that it imports."""
    write(site, low="import os; ROOT = os.getcwd()", high="import low")
    template = start_template()
    reason, _ = refused(template.import_backend("high"))
    assert reason == "it asked for the current folder (in low)"


def test_failure_keeps_nothing(start_template: StartTemplate, site: Path) -> None:
    write(site, subject="open('pyproject.toml')")
    reason, spoilt = refused(start_template().import_backend("subject"))
    assert "FileNotFoundError" in reason
    assert not spoilt


def test_temporary_folder(
    start_template: StartTemplate, tmp_path: Path, site: Path, environment: dict[str, str]
) -> None:
    """A temporary folder does not stay behind."""
    (tmp_path / "temporary").mkdir()
    environment["TMPDIR"] = str(tmp_path / "temporary")
    write(site, subject="import tempfile; FOLDER = tempfile.TemporaryDirectory()")
    template = start_template()
    assert "it changed finalizers" in refused(template.import_backend("subject"))[0]
    assert not [*(tmp_path / "temporary").iterdir()]


def test_profile_taken_away(start_template: StartTemplate, site: Path) -> None:
    """A module that turns the observation off is refused."""
    write(site, subject="import os, sys; sys.setprofile(None); ROOT = os.getcwd()")
    reason, _ = refused(start_template().import_backend("subject"))
    assert reason.startswith("it changed the profile function")


def test_hooks_are_not_observed(start_template: StartTemplate) -> None:
    """Nothing of the observation is left in workers."""
    template = start_template()
    template.import_backend("sample_module")
    code = "import sys, threading; result = [str(sys.getprofile()), str(sys.gettrace())]"
    assert template.fork_worker().run_code(code).result == ["None", "None"]
