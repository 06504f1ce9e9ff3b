"""`--template`: what it imports ahead of hooks, and what it refuses to."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from template_client import StartTemplate

pytest_plugins = ["template_fixture"]

LEARNED = pytest.mark.parametrize("learned", [False, True])


def write(folder: Path, **modules: str) -> None:
    """Make modules, and packages where the name has a double underscore: package__module."""
    for name, code in modules.items():
        package, _, module = name.rpartition("__")
        if package:
            (folder / package).mkdir(exist_ok=True)
            (folder / package / "__init__.py").touch()
        (folder / package / (module + ".py")).write_text(code)


def refused(outcome: dict[str, Any]) -> tuple[str, bool]:
    assert "refused" in outcome, outcome
    return outcome["reason"], outcome["tainted"]


def gist(message: dict[str, Any]) -> tuple[str, Any]:
    """What a packet is about."""
    about = ("importing", "imported", "refused", "forked", "not_forked", "idle")
    return next((kind, message[kind]) for kind in about if kind in message)


def names(outcome: dict[str, Any]) -> list[str]:
    assert "imported" in outcome, outcome
    return [module["name"] for module in outcome["modules"]]


# What goes well.


def test_backend(start_template: StartTemplate, site: Path) -> None:
    write(site, back__end="import back.helper", back__helper="import math")
    template = start_template()
    template.preload("back.end")
    assert template.receive() == {"importing": ["back.end"], "learned": False, "more": False}
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
    assert (answer["imported"], answer["learned"], answer["more"]) == (["back.end"], False, False)
    again = template.import_now("back.end")
    assert (again["modules"], again["folders"]) == ([], [])


def test_hooks_find_what_was_preloaded(start_template: StartTemplate, site: Path) -> None:
    write(site, counted="import builtins; builtins.imports = getattr(builtins, 'imports', 0) + 1")
    template = start_template()
    assert names(template.import_now("counted")) == ["counted"]
    code = "import sys; result = [str('counted' in sys.modules)]; import builtins, counted;"
    code += "result += [str(builtins.imports)]"
    for _ in range(2):
        assert template.fork_worker().run_code(code).result == ["True", "1"]


def test_module_of_our_own_name(start_template: StartTemplate) -> None:
    template = start_template()
    assert names(template.import_now("hookd")) == ["hookd"]
    reply = template.fork_worker().run("hookd")
    assert reply.result == ["A backend that has the worker's own name."]


def test_modules_find_a_fresh_process(start_template: StartTemplate, site: Path) -> None:
    code = """
import json, os, signal, sys
look = json.dumps([
    sys.argv[1:], os.getcwd(),
    [str(signal.getsignal(number)) for number in (2, 15, 17)],
    [line for line in open("/proc/self/status") if line.startswith("Sig")][2:],
])
"""
    write(site, looks=code)
    template = start_template()
    template.import_now("looks", verified=True)
    shown = template.fork_worker().run_code("import looks; result = [looks.look]").result
    handlers = "<built-in function default_int_handler>", "Handlers.SIG_DFL", "SIGINT"
    assert '[[], "/", [' in shown[0]
    assert handlers[0] in shown[0] or handlers[2] in shown[0]
    assert shown[0].count(handlers[1]) == 2 or '"0", "0"' in shown[0]


def test_learned_modules_wait(start_template: StartTemplate, site: Path) -> None:
    """They are imported in order, and one that hangs only delays what comes after it."""
    fifo = site / "fifo"
    os.mkfifo(fifo)
    write(site, one="", two="open({!r}).read()".format(str(fifo)), three="", four="")
    template = start_template()
    template.preload("one", "two", "three", learned=True)
    template.preload("four", learned=True)
    assert names(template.outcome("one")) == ["one"]
    # Its trial opens it, too.
    with fifo.open("w"):
        pass
    assert template.receive() == {"importing": ["two"], "learned": True, "more": False}
    # These come while the second is imported, and are seen to before the third.
    hookd = template.send_fork("--json", "--capture-dir", template.capture_folder, template.tree)
    template.preload("sample_module")
    with fifo.open("w"):
        pass
    messages = template.until("idle")
    hookd.was_forked(messages[1]["pid"])
    hookd.ready()
    found = [gist(message) for message in messages[:-1]]
    assert found[:4] == [
        ("imported", ["two"]),
        ("forked", hookd.number),
        ("importing", ["sample_module"]),
        ("imported", ["sample_module"]),
    ]
    assert [names for kind, names in found[4:] if kind == "importing"] == [["three"], ["four"]]
    assert [names for kind, names in found[4:] if kind == "imported"] == [["three"], ["four"]]
    assert messages[-1]["idle"] > len(template.started["modules"])


def test_verified_modules_do_not_wait(start_template: StartTemplate, site: Path) -> None:
    """They are there before the first fork, and judged as one."""
    write(site, one="import below", two="", three="", below="")
    template = start_template()
    template.preload("one", "json", "below", learned=True, verified=True)
    template.preload("two", learned=True, verified=True)
    hookd = template.send_fork("--json", "--capture-dir", template.capture_folder, template.tree)
    told = template.until("forked")
    # What it is asked for next may come after it is done with what came before.
    messages = [message for message in told if "idle" not in message]
    hookd.was_forked(messages[-1]["pid"])
    hookd.ready()
    assert [gist(message) for message in messages[:-1]] == [
        ("importing", ["one", "json", "below"]),
        # It came with the interpreter.
        ("imported", ["json"]),
        ("imported", ["one", "below"]),
        ("importing", ["two"]),
        ("imported", ["two"]),
    ]
    imported = [message for message in messages if "imported" in message]
    assert [message["verified"] for message in imported] == [False, True, True]
    new = [names(message) for message in imported]
    assert set(new[1]) == {"below", "one"}
    assert new[0] == [] and new[2] == ["two"]
    last = max(place for place, message in enumerate(told) if "imported" in message)
    if not any("idle" in message for message in told[last:]):
        assert "idle" in template.receive()
    template.wait_idle()


def test_verified_modules_that_take_long(start_template: StartTemplate, site: Path) -> None:
    """They wait as the others do, and the first worker does not wait for them."""
    write(site, slow="import time; time.sleep(1.1)", next="", last="")
    template = start_template()
    template.preload("slow", "next", learned=True, verified=True)
    template.preload("last", learned=True, verified=True)
    hookd = template.send_fork("--json", "--capture-dir", template.capture_folder, template.tree)
    messages = template.until("idle")
    forked = next(message for message in messages if "forked" in message)
    hookd.was_forked(forked["pid"])
    hookd.ready()
    found = [gist(message) for message in messages]
    assert found.index(("forked", hookd.number)) < found.index(("importing", ["next"]))
    imported = [message["imported"] for message in messages if "imported" in message]
    assert [name for names in imported for name in names] == ["slow", "next", "last"]


def test_failure_among_verified_modules(start_template: StartTemplate, site: Path) -> None:
    """It is refused, and nothing else is."""
    write(site, one="", fails="1 / 0", two="")
    template = start_template()
    template.preload("one", "fails", "two", learned=True, verified=True)
    messages = template.until("idle")
    failing = next(message for message in messages if "refused" in message)
    reason = "its import failed: ZeroDivisionError: division by zero"
    assert refused(failing) == (reason, False)
    assert not failing["lasting"]
    imported = [message["imported"] for message in messages if "imported" in message]
    assert imported == [["one"], ["two"]]
    assert template.fork_worker().run("sample_module").result


def test_taint_among_verified_modules(start_template: StartTemplate, site: Path) -> None:
    """Nobody knows whose it is: they are to be tried again."""
    write(site, one="", prints="print()", two="", three="")
    template = start_template()
    template.preload("one", "json", "prints", "two", "three", learned=True, verified=True)
    messages = [message for message in template.until("refused") if "importing" not in message]
    messages += [template.receive() for _ in range(3)]
    suspects = [message["refused"] for message in messages]
    # What was there before has done nothing.
    assert suspects == [name for name in suspects if name != "json"]
    assert {"one", "prints", "two", "three"} == set(suspects)
    for message in messages:
        assert message["tainted"] and not message["lasting"]
        assert message["reason"].startswith("it, or one of 3 others; ")
        assert message["reason"].endswith("; it printed")
    template.send_fork("/")
    assert template.receive()["reason"] == "the template is tainted by 'one'"


def test_idle_without_a_new_module(start_template: StartTemplate) -> None:
    template = start_template()
    template.preload("json", "no_such_module", learned=True)
    assert template.outcome("json")["modules"] == []
    assert "ModuleNotFoundError" in refused(template.outcome("no_such_module"))[0]
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
    modules = names(template.import_now("many"))
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
    zipped = template.import_now("zips")["modules"]
    entry = next(module for module in zipped if module["name"] == "in_a_zip")
    assert entry["mtime_ns"] is entry["inode"] is entry["device"] is entry["size"] is None
    outcome = template.import_now("space.inner")
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
    "snapshot_swallowed": (
        "import setuptools.package_index",
        "it imported setuptools.package_index",
    ),
}


# They need not even be imported.
BY_ADMISSION = {
    "snapshot": "it imports pkg_resources, which is refused: ",
    "snapshot_swallowed": "it imports setuptools.package_index, which is refused: ",
}

NO_SUBJECT = "import sys; result = [str('subject' in sys.modules)]"


@LEARNED
@pytest.mark.parametrize("name", SHARED)
def test_taint(start_template: StartTemplate, site: Path, name: str, learned: bool) -> None:
    """By the backend, or a learned module of which more was expected."""
    code, expected = SHARED[name]
    write(site, subject=code, pkg_resources="", setuptools__package_index="", after="")
    template = start_template()
    template.preload("subject", learned=learned, verified=True)
    template.preload("after", learned=learned, verified=True)
    outcome = template.outcome("subject")
    reason, tainted = refused(outcome)
    assert tainted and outcome["lasting"]
    assert expected is None or reason.startswith(expected), reason
    template.send_fork("/")
    answer = template.receive()
    assert answer["reason"] == "the template is tainted by 'subject'", "nothing else came"
    template.preload("after", learned=learned, verified=True)
    template.wait_idle()


@pytest.mark.parametrize("name", SHARED)
def test_harm_in_a_trial(start_template: StartTemplate, site: Path, name: str) -> None:
    """It is found out before it is done."""
    code, expected = SHARED[name]
    write(site, subject=code, pkg_resources="", setuptools__package_index="", after="")
    template = start_template()
    template.preload("subject", "after", learned=True)
    outcome = template.outcome("subject")
    reason, tainted = refused(outcome)
    assert (tainted, outcome["lasting"]) == (False, True)
    expected = BY_ADMISSION.get(name, expected)
    assert expected is None or reason.startswith(expected), reason
    assert names(template.outcome("after")) == ["after"]
    assert template.fork_worker().run_code(NO_SUBJECT).result == ["False"]


@LEARNED
def test_banned(start_template: StartTemplate, site: Path, learned: bool) -> None:
    """Asked for by name they are not even tried."""
    write(site, pkg_resources="raise SystemError")
    template = start_template()
    for name in ("pkg_resources", "pkg_resources.extern", "setuptools.command.easy_install"):
        reason, tainted = refused(template.import_now(name, learned=learned))
        assert (reason, tainted) == ("it keeps what it finds at its import", False)
        assert not learned or "idle" in template.receive()
    assert template.fork_worker().run("sample_module").result


@LEARNED
@pytest.mark.parametrize(
    "code, expected",
    [
        ("1 / 0", "its import failed: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "its import failed: SystemExit: it called sys.exit(3)"),
        ("raise KeyboardInterrupt", "its import failed: KeyboardInterrupt: "),
        ("import json.none", "its import failed: ModuleNotFoundError: No module named 'json.none'"),
        ("x = x y", "its import failed: SyntaxError: invalid syntax (fails.py, line 1)"),
    ],
)
def test_failing_import(
    start_template: StartTemplate, site: Path, code: str, expected: str, learned: bool
) -> None:
    write(site, fails=code)
    template = start_template()
    assert refused(template.import_now("fails", learned=learned)) == (expected, False)
    assert template.fork_worker().run("sample_module").result


def test_failing_import_that_changes_something(start_template: StartTemplate, site: Path) -> None:
    write(site, fails="import os; os.umask(1); 1 / 0", stays="", leaves="import stays; 1 / 0")
    for name, problem in [
        ("fails", "it changed the umask"),
        ("leaves", "other modules that it imported are left"),
    ]:
        reason, tainted = refused(start_template().import_now(name))
        assert tainted
        assert reason == "its import failed: ZeroDivisionError: division by zero; " + problem


def test_import_that_forks(start_template: StartTemplate, site: Path) -> None:
    """The copy does not take itself for the template."""
    write(site, forks="import os\nif os.fork():\n    os.wait()\n")
    template = start_template()
    assert names(template.import_now("forks", verified=True)) == ["forks"]
    assert template.fork_worker().run("sample_module").result


def test_import_that_ends_the_process(start_template: StartTemplate, site: Path) -> None:
    write(site, ends="import os; os._exit(5)")
    template = start_template()
    template.preload("ends")
    assert template.receive() == {"importing": ["ends"], "learned": False, "more": False}
    assert template.wait() == 5


def test_child_that_an_import_left(start_template: StartTemplate, site: Path) -> None:
    code = "import os, signal\nif os.fork() == 0:\n    signal.pause()\n"
    write(site, leaves_child=code)
    template = start_template()
    template.import_now("leaves_child")
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


@LEARNED
@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(start_template: StartTemplate, site: Path, name: str, learned: bool) -> None:
    write(site, subject=HARMLESS[name])
    template = start_template()
    assert "subject" in names(template.import_now("subject", learned=learned))
    assert template.fork_worker().run("sample_module").result


# What is refused of learned modules only.

BY_LEARNED = {
    "path": ("import sys; sys.path.append('/x')", "sys.path"),
    "meta_path": ("import sys; sys.meta_path.append(sys.meta_path[0])", "sys.meta_path"),
    "path_hooks": ("import sys; sys.path_hooks.append(print)", "sys.path_hooks"),
    "excepthook": ("import sys; sys.excepthook = print", "sys.excepthook"),
    "displayhook": ("import sys; sys.displayhook = print", "sys.displayhook"),
    "stdout": ("import io, sys; sys.stdout = io.StringIO()", "sys.stdout"),
    "warnings": (
        "import warnings; warnings.simplefilter('error', BytesWarning)",
        "the warnings' filters",
    ),
    "root_logger": ("import logging; logging.root.addHandler(logging.NullHandler())", "logging"),
    "log_level": ("import logging; logging.root.setLevel(10)", "logging"),
    "locale": ("import locale; locale.setlocale(locale.LC_ALL, 'C')", "the locale"),
    "recursion": ("import sys; sys.setrecursionlimit(5000)", "the recursion limit"),
    "timeout": ("import socket; socket.setdefaulttimeout(9)", "the sockets' timeout"),
    "builtin": ("import builtins; builtins._ = str", "the built-in names"),
    "builtin_replaced": ("import builtins; builtins.input = str", "the built-in names"),
    "profile": ("import sys; sys.setprofile(lambda *_: None)", "the trace or profile functions"),
    "thread_profile": (
        "import threading; threading.setprofile(lambda *_: None)",
        "the trace or profile functions",
    ),
    # Python 3.12.
    "monitoring": (
        "import sys\nif hasattr(sys, 'monitoring'):\n    sys.monitoring.use_tool_id(3, 'x')\n"
        "else:\n    sys.setprofile(lambda *_: None)",
        "the trace or profile functions",
    ),
    "collector": ("import gc; gc.disable()", "the garbage collector"),
    "function": ("import json; json.dumps = lambda *_: ''", "json.dumps"),
    "function_by_data": ("import json; json.dumps = 0", "json.dumps"),
    "function_gone": ("import json; del json.dumps", "json.dumps"),
    "class": ("import json; json.JSONEncoder = dict", "json.JSONEncoder"),
    "method": ("import json; json.JSONEncoder.encode = print", "json.encoder.JSONEncoder.encode"),
    "method_added": ("import json; json.JSONEncoder.more = print", "json.encoder.JSONEncoder.more"),
    "method_gone": ("import json; del json.JSONEncoder.encode", "json.encoder.JSONEncoder.encode"),
    "property": ("import victim; victim.Kind.value = property(print)", "victim.Kind.value"),
    "class_method": ("import victim; victim.Kind.make = classmethod(print)", "victim.Kind.make"),
    "inner_class": ("import victim; victim.Kind.Inner.act = print", "victim.Kind.Inner.act"),
    "hostile": ("import victim; victim.Hostile.act = print", "victim.Hostile.act"),
    "module": ("import sys; sys.modules['victim'] = sys", "victim"),
    "failing": ("import victim; victim.function = print; 1 / 0", "victim.function"),
}

VICTIM = """
def function(): pass
class Kind:
    @property
    def value(self): pass
    @classmethod
    def make(cls): pass
    class Inner:
        def act(self): pass
class Meta(type):
    def __getattribute__(cls, name):
        print("user code was run")
        return type.__getattribute__(cls, name)
    def __eq__(cls, other):
        print("user code was run")
        return True
    def __hash__(cls):
        print("user code was run")
        return 1
    __instancecheck__ = __eq__
class Hostile(metaclass=Meta):
    def act(self): pass
class Value:
    def __getattribute__(self, name):
        print("user code was run")
    def __eq__(self, other):
        print("user code was run")
    __hash__ = None
value = Value()
def __getattr__(name):
    print("user code was run")
    raise AttributeError(name)
"""


@pytest.mark.parametrize("name", BY_LEARNED)
def test_harm_by_learned(start_template: StartTemplate, site: Path, name: str) -> None:
    code, expected = BY_LEARNED[name]
    write(site, subject=code, victim=VICTIM, after="")
    template = start_template()
    assert names(template.import_now("victim", learned=True)) == ["victim"]
    assert "idle" in template.receive()
    template.preload("subject", "after", learned=True)
    reason, tainted = refused(template.outcome("subject"))
    assert not tainted
    assert names(template.outcome("after")) == ["after"]
    assert "it changed " + expected in reason.replace("; it changed sys.stdout", ""), reason


@pytest.mark.parametrize("name", BY_LEARNED)
def test_the_backend_may(start_template: StartTemplate, site: Path, name: str) -> None:
    code, _ = BY_LEARNED[name]
    if name == "failing":
        pytest.skip("fails for the backend too")
    write(site, subject=code, victim=VICTIM, later="")
    template = start_template()
    template.import_now("victim")
    assert "subject" in names(template.import_now("subject"))
    assert names(template.import_now("later", learned=True)) == ["later"], "it is not blamed"


def test_patch_of_what_was_learned(start_template: StartTemplate, site: Path) -> None:
    write(
        site,
        victim__first="class Kind:\n    def act(self): pass\ndef function(): pass",
        victim__second="from victim.first import Kind",
        patches="import victim.first; victim.first.Kind.act = lambda self: 1",
    )
    template = start_template()
    for name in ("victim.first", "victim.second"):
        template.import_now(name, learned=True)
        assert "idle" in template.receive()
    assert refused(template.import_now("patches", learned=True)) == (
        "it changed victim.first.Kind.act",
        False,
    )


def test_folder_that_multiprocessing_keeps(start_template: StartTemplate, tree: Path) -> None:
    template = start_template()
    template.import_now("multiprocessing.process", learned=True)
    code = "import multiprocessing.process as m; result = [m.ORIGINAL_DIR]"
    assert template.fork_worker().run_code(code).result == [str(tree)]


def test_memory_is_bounded(start_template: StartTemplate, site: Path) -> None:
    write(site, huge="held = b'x' * (520 << 20)", never="", nor_this="")
    template = start_template()
    template.preload("huge", "never", learned=True)
    assert names(template.outcome("huge")) == ["huge"]
    assert "idle" in template.receive()
    template.preload("nor_this", learned=True)
    assert "idle" in template.receive()
    assert template.log.read_text().count("more than 512 MiB are in use") == 1
    assert names(template.import_now("never")) == ["never"], "a backend is imported all the same"
