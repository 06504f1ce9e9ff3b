"""`--template`: what is imported ahead of hooks, and what is refused."""

from __future__ import annotations

import os
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest
from template_client import StartTemplate, Template

pytest_plugins = ["template_fixture"]

# Of the distributions that are known, some with one module of their own name. What these modules
# do here, the real ones do not.
KNOWN = ("calver", "editables", "expandvars", "pluggy", "tomli", "zipp")

IS_THERE = "import sys; result = [str(name in sys.modules) for name in settings['names'].split()]"


def write(folder: Path, **modules: str) -> None:
    """Make modules, and packages where the name has a double underscore: package__module."""
    for name, code in modules.items():
        package, _, module = name.rpartition("__")
        if package:
            (folder / package).mkdir(exist_ok=True)
            (folder / package / "__init__.py").touch()
        (folder / package / (module + ".py")).write_text(code)


@pytest.fixture
def installed(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A folder of packages, in which some known distributions are installed."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    for name in (*KNOWN, "setuptools", "wheel", "PDM_Backend"):
        (folder / "{}-1.0.dist-info".format(name)).mkdir()
    environment["PYTHONPATH"] += os.pathsep + str(folder)
    return folder


def refused(outcome: dict[str, Any]) -> tuple[str, bool]:
    assert "refused" in outcome, outcome
    return outcome["reason"], outcome["spoilt"]


def names(outcome: dict[str, Any]) -> list[str]:
    assert "imported" in outcome, outcome
    return [module["name"] for module in outcome["modules"]]


def there(template: Template, *modules: str) -> list[str]:
    """Which of these modules are loaded in a hook of a new worker."""
    reply = template.fork_worker().run_code(IS_THERE, names=" ".join(modules))
    return [name for name, found in zip(modules, reply.result) if found == "True"]


# What goes well.


def test_backend(start_template: StartTemplate, site: Path) -> None:
    write(site, back__end="import back.helper", back__helper="import math")
    template = start_template()
    template.send({"backend": "back.end"})
    assert template.receive() == {"importing": "backend"}
    answer = template.receive()
    file = site / "back" / "end.py"
    status = file.stat()
    found = {module["name"]: module for module in answer["modules"]}
    assert {name for name in found if name.startswith("back")} == {
        "back",
        "back.helper",
        "back.end",
    }
    assert found["back.end"] == {
        "name": "back.end",
        "file": str(file),
        "device": status.st_dev,
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }
    assert answer["folders"] == [[str(site / "back"), (site / "back").stat().st_mtime_ns]]
    assert (answer["imported"], answer["more"]) == ("backend", False)
    again = template.import_backend("back.end")
    assert (again["modules"], again["folders"]) == ([], [])


def test_dies_with_the_supervisor_during_an_import(
    start_template: StartTemplate, installed: Path
) -> None:
    """Then it sees no end of its socket. But it must end the workers that it watches."""
    look = "import ctypes\ndeath = ctypes.c_int()\n"
    look += "ctypes.CDLL(None).prctl(2, ctypes.byref(death))  # PR_GET_PDEATHSIG\n"
    write(installed, calver=look, pluggy=look)
    template = start_template()
    hookd = template.fork_worker(isolation="none")
    template.learn("calver")
    template.find("idle")
    assert hookd.shut_down() == 0
    template.learn("pluggy")
    template.find("idle")
    reply = template.fork_worker(isolation="none").run_code(
        "import calver, pluggy\nresult = [str(calver.death.value), str(pluggy.death.value)]"
    )
    assert reply.result == ["0", str(int(signal.SIGKILL))]


def test_hooks_find_what_was_preloaded(start_template: StartTemplate, site: Path) -> None:
    write(site, counted="import builtins; builtins.imports = getattr(builtins, 'imports', 0) + 1")
    template = start_template()
    assert names(template.import_backend("counted")) == ["counted"]
    code = "import sys; result = [str('counted' in sys.modules)]; import builtins, counted;"
    code += "result += [str(builtins.imports)]"
    for _ in range(2):
        assert template.fork_worker().run_code(code).result == ["True", "1"]


def test_module_of_our_own_name(start_template: StartTemplate) -> None:
    template = start_template()
    assert names(template.import_backend("hookd")) == ["hookd"]
    reply = template.fork_worker().run("hookd")
    assert reply.result == ["A backend that has the worker's own name."]


def test_modules_find_a_fresh_process(start_template: StartTemplate, installed: Path) -> None:
    code = """
import json, os, signal, sys
look = json.dumps([
    sys.argv[1:], os.getcwd(),
    [str(signal.getsignal(number)) for number in (2, 15, 17)],
    [line for line in open("/proc/self/status") if line.startswith("Sig")][2:],
])
"""
    write(installed, calver=code)
    template = start_template()
    template.import_learned("calver")
    shown = template.fork_worker().run_code("import calver; result = [calver.look]").result
    handlers = "<built-in function default_int_handler>", "Handlers.SIG_DFL", "SIGINT"
    assert '[[], "/", [' in shown[0]
    assert handlers[0] in shown[0] or handlers[2] in shown[0]
    assert shown[0].count(handlers[1]) == 2 or '"0", "0"' in shown[0]


def test_learned_modules_are_there_for_the_next_worker(
    start_template: StartTemplate, installed: Path
) -> None:
    write(installed, calver="import tomli", pluggy="", tomli="", zipp="")
    template = start_template()
    turns: list[tuple[list[list[str]], set[str]]] = [
        ([["calver", "json"], ["pluggy"]], {"tomli", "calver", "pluggy"}),
        ([["zipp"]], {"zipp"}),
    ]
    for learned, expected in turns:
        for modules in learned:
            template.learn(*modules)
        hookd = template.send_fork(
            "--json", "--capture-dir", template.capture_folder, template.tree
        )
        messages = [message for message in template.until("forked") if "idle" not in message]
        hookd.was_forked(messages[-1]["pid"])
        hookd.ready()
        assert messages[0] == {"importing": "learned"}
        assert set(names(messages[1])) == expected
        reply = hookd.run_code(IS_THERE, names=" ".join(sorted(expected)))
        assert reply.result == ["True"] * len(expected)


def test_learned_modules_are_imported_when_no_worker_is_wanted(
    start_template: StartTemplate, installed: Path
) -> None:
    fifo = installed / "fifo"
    os.mkfifo(fifo)
    # Longer than a turn, from when the test lets it go on.
    slow = "import time\nopen({!r}).read()\nend = time.monotonic() + 0.06\n"
    slow += "while time.monotonic() < end: pass\n"
    write(installed, calver=slow.format(str(fifo)), pluggy="", tomli="")
    template = start_template()
    template.fork_worker()
    template.learn("calver", "pluggy")
    assert template.receive() == {"importing": "learned"}
    # These packets come while the first module is imported. The worker waits for the second, and
    # the third was not known of when it was asked for.
    hookd = template.send_fork("--json", "--capture-dir", template.capture_folder, template.tree)
    template.learn("tomli")
    with fifo.open("w"):
        pass
    messages = template.until("idle")
    about = [next(iter(message)) for message in messages]
    hookd.was_forked(messages[about.index("forked")]["pid"])
    hookd.ready()
    one = ["importing", "imported"]
    assert about == ["imported", *one, "forked", *one, "idle"]
    assert [names(messages[place]) for place in (0, 2, 5)] == [["calver"], ["pluggy"], ["tomli"]]
    assert messages[-1]["idle"] > len(template.started["modules"])


def test_what_is_not_known_is_left_to_hooks(
    start_template: StartTemplate, installed: Path, site: Path
) -> None:
    """Only modules of the standard library and of installed known distributions are imported."""
    write(installed, unknown="", flit_core="", pdm__backend="", calver="", zipp="")
    (installed / "pdm" / "__init__.py").unlink()
    # Of the same name, and first on sys.path.
    write(site, zipp="")
    template = start_template()
    asked = ["colorsys", "unknown", "flit_core", "pdm.backend", "calver", "zipp", "no_such_module"]
    assert names(template.import_learned(*asked)) == ["colorsys", "pdm.backend", "calver"]
    assert "idle" in template.receive()
    assert there(template, *asked) == ["colorsys", "pdm.backend", "calver"]


def test_exceptions(start_template: StartTemplate, installed: Path) -> None:
    """Exceptions are left to hooks, unless the backend has imported them."""
    write(installed, pkg_resources="", setuptools__dist="", setuptools__package_index="")
    write(installed, wheel__macosx_libfile="")
    (installed / "wheel" / "_bdist_wheel.py").write_text("")
    asked = ["pkg_resources", "setuptools.dist", "setuptools.package_index", "wheel._bdist_wheel"]
    template = start_template()
    assert names(template.import_learned(*asked)) == []
    assert there(template, *asked) == []
    template = start_template()
    template.import_backend("setuptools.dist")
    assert names(template.import_learned(*asked)) == ["wheel", "wheel._bdist_wheel"]
    assert there(template, *asked) == ["setuptools.dist", "wheel._bdist_wheel"]


def test_idle_without_a_new_module(start_template: StartTemplate) -> None:
    template = start_template()
    assert names(template.import_learned("json", "no_such_module")) == []
    assert "idle" in template.receive()


def test_long_answers_are_split(start_template: StartTemplate, site: Path) -> None:
    count = 1000
    for number in range(count):
        (site / "a_module_with_a_long_name_{}.py".format(number)).write_text("")
    code = "for n in range({}): __import__('a_module_with_a_long_name_{{}}'.format(n))".format(
        count
    )
    write(site, many=code)
    template = start_template()
    modules = names(template.import_backend("many"))
    assert len(modules) == count + 1 == len(set(modules))


def test_zip_and_namespace_package(start_template: StartTemplate, site: Path) -> None:
    archive = site / "zipped.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("in_a_zip.py", "")
    (site / "space").mkdir()
    write(site / "space", inner="")
    code = "import sys; sys.path.append({!r}); import in_a_zip; sys.path.pop()"
    write(site, zips=code.format(str(archive)))
    template = start_template()
    zipped = template.import_backend("zips")["modules"]
    entry = next(module for module in zipped if module["name"] == "in_a_zip")
    assert entry["mtime_ns"] is entry["inode"] is entry["device"] is entry["size"] is None
    outcome = template.import_backend("space.inner")
    assert names(outcome) == ["space.inner"]
    assert outcome["folders"] == [[str(site / "space"), (site / "space").stat().st_mtime_ns]]


# What is refused, whoever wants it.

SHARED = {
    "exit_handler": ("import atexit; atexit.register(print)", "it registered an exit handler"),
    "thread_exit_handler": (
        "import atexit, threading as t; getattr(t, '_register_atexit', atexit.register)(print)",
        None,
    ),
    "finalizer": (
        "import weakref\nclass A: pass\na = A(); weakref.finalize(a, print)",
        "it changed finalizers (weakref.finalize)",
    ),
    "thread": (
        "import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()",
        "it started a thread",
    ),
    "descriptor": ("import os; f = open(os.devnull)", "it changed open descriptors"),
    "descriptor_replaced": (
        "import os; os.dup2(os.open(os.path.abspath(__file__), 0), 0)",
        "it changed open descriptors",
    ),
    "handler": (
        "import signal; signal.signal(signal.SIGUSR1, print)",
        "it changed signal handlers or masks, signal handlers",
    ),
    "handler_by_another": (
        "import signal; signal.signal(signal.SIGINT, lambda *_: 0)",
        "it changed signal handlers",
    ),
    "handler_in_c": (
        "import ctypes; ctypes.CDLL(None).signal(10, ctypes.cast(1, ctypes.c_void_p))",
        "it changed signal handlers or masks",
    ),
    "mask": (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])",
        "it changed signal handlers or masks",
    ),
    "folder": ("import os; os.chdir('/tmp')", "it changed the current folder"),
    "umask": ("import os; os.umask(0o007)", "it changed the umask"),
    "variable": ("import os; os.environ['X'] = '1'", "it changed environment variables"),
    "variable_gone": ("import os; del os.environ['PATH']", "it changed environment variables"),
    "environ": ("import os; os.environ = dict(os.environ)", None),
    "prints": ("print('text', end='')", "it printed"),
    "prints_error": ("import sys; sys.stderr.write('x')", "it printed"),
    "prints_below": ("import os; os.write(1, b'x')", "it printed"),
    "prints_in_c": ("import ctypes; ctypes.CDLL(None).puts(b'x')", "it printed"),
    "subprocess_prints": ("import os; os.system('echo x >&2')", "it printed"),
    "snapshot": ("import pkg_resources", "it imported pkg_resources"),
}


BOTH = pytest.mark.parametrize("what", ["backend", "learned"])


def ask(template: Template, what: str, name: str) -> dict[str, Any]:
    return template.import_backend(name) if what == "backend" else template.import_learned(name)


@BOTH
@pytest.mark.parametrize("name", SHARED)
def test_change(start_template: StartTemplate, installed: Path, name: str, what: str) -> None:
    """An import that changes the process is refused, and the template forks no more."""
    code, expected = SHARED[name]
    write(installed, calver=code, pkg_resources="", zipp="")
    template = start_template()
    reason, spoilt = refused(ask(template, what, "calver"))
    assert spoilt
    assert expected is None or reason.startswith(expected), reason
    template.learn("zipp")
    template.send({"backend": "zipp"})
    template.send_fork("/")
    answer = template.receive()
    assert answer.get("reason") == "an import has changed the template", "nothing else came"
    template.wait_idle()


def test_backend_that_is_never_preloaded(start_template: StartTemplate, site: Path) -> None:
    """It is refused without an attempt."""
    write(site, pkg_resources="raise SystemError")
    template = start_template()
    for name in ("pkg_resources", "pkg_resources.extern", "setuptools.command.easy_install"):
        template.send({"backend": name})
        reason, spoilt = refused(template.receive())
        assert (reason, spoilt) == ("it keeps what it finds at its import", False)
    assert template.fork_worker().run("sample_module").result


FAILURES = [
    ("1 / 0", "its import failed: ZeroDivisionError: division by zero"),
    ("import sys; sys.exit(3)", "its import failed: SystemExit: it called sys.exit(3)"),
    ("raise KeyboardInterrupt", "its import failed: KeyboardInterrupt: "),
    ("import json.none", "its import failed: ModuleNotFoundError: No module named 'json.none'"),
    ("x = x y", "its import failed: SyntaxError: invalid syntax (calver.py, line 1)"),
]


@BOTH
@pytest.mark.parametrize("code, expected", FAILURES)
def test_failing_import(
    start_template: StartTemplate, installed: Path, code: str, expected: str, what: str
) -> None:
    """A backend that only fails does not spoil the template; a learned module does."""
    write(installed, calver=code)
    template = start_template()
    reason, spoilt = refused(ask(template, what, "calver"))
    if what == "backend":
        assert (reason, spoilt) == (expected, False)
        assert template.fork_worker().run("sample_module").result
    else:
        assert (reason, spoilt) == ("calver: " + expected, True)


def test_failing_import_that_changes_something(start_template: StartTemplate, site: Path) -> None:
    write(site, fails="import os; os.umask(1); 1 / 0", stays="", leaves="import stays; 1 / 0")
    for name, problem in [
        ("fails", "it changed the umask"),
        ("leaves", "other modules that it imported are left"),
    ]:
        reason, spoilt = refused(start_template().import_backend(name))
        assert spoilt
        assert reason == "its import failed: ZeroDivisionError: division by zero; " + problem


def test_import_that_forks(start_template: StartTemplate, installed: Path) -> None:
    """The forked copy ends, and does not go on as a second template."""
    write(installed, calver="import os\nif os.fork():\n    os.wait()\n")
    template = start_template()
    assert names(template.import_backend("calver")) == ["calver"]
    assert template.fork_worker().run("sample_module").result


@BOTH
def test_import_that_ends_the_process(
    start_template: StartTemplate, installed: Path, what: str
) -> None:
    write(installed, calver="import os; os._exit(5)")
    template = start_template()
    template.send({"backend": "calver"} if what == "backend" else {"learned": ["calver"]})
    assert template.receive() == {"importing": what}
    assert template.wait() == 5


def test_child_that_an_import_left(start_template: StartTemplate, installed: Path) -> None:
    code = "import os, signal\nif os.fork() == 0:\n    signal.pause()\n"
    write(installed, calver=code)
    template = start_template()
    template.import_backend("calver")
    assert len(template.find("killed")["killed"]) == 1


HARMLESS = {
    "exit_handlers": "import logging, multiprocessing.util, concurrent.futures.thread as a\n"
    "import concurrent.futures.process as b",
    "finalizer_gone": "import weakref\nclass A: pass\nf = weakref.finalize(A(), int)\ndel A",
    "thread_gone": "import threading as t; a = t.Thread(target=int); a.start(); a.join()",
    "put_back": "import os, sys; sys.path.append('x'); sys.path.pop(); os.environ['X'] = '1'\n"
    "del os.environ['X']; os.umask(os.umask(0)); f = open(os.devnull); f.close()",
    "null_handler": "import logging\nlogging.getLogger('x').addHandler(logging.NullHandler())",
    "own_function": "def a(): pass\ndef a(): pass",
    "submodules": "import package.sub.backend, xml.dom.minidom",
    "data_of_others": "import json; json.__version__ = '3'",
    "new_in_others": "import json; json.more = int",
    "ast_classes": "import ast, typing, dataclasses, enum",
    "unready_class": "import unicodedata",
}


@BOTH
@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(start_template: StartTemplate, installed: Path, name: str, what: str) -> None:
    write(installed, calver=HARMLESS[name])
    template = start_template()
    assert "calver" in names(ask(template, what, "calver"))
    assert template.fork_worker().run("sample_module").result


def test_folder_that_multiprocessing_keeps(start_template: StartTemplate, tree: Path) -> None:
    template = start_template()
    template.import_learned("multiprocessing.process")
    code = "import multiprocessing.process as m; result = [m.ORIGINAL_DIR]"
    assert template.fork_worker().run_code(code).result == [str(tree)]
