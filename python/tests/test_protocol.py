"""The conversation between worker and caller, which is the same for both isolations."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from client import HOOKD
from conftest import Start

BOTH = pytest.mark.parametrize("isolation", ["hook", "none"])

EXAMPLE = HOOKD.parent / "example.in"


@BOTH
def test_messages_of_a_request(start: Start, isolation: str, capture_folder: Path) -> None:
    hookd = start(isolation=isolation, control=False)
    settings = '{"feature": ["a", "b"]}'
    hookd.write(*hookd.request("sample_module", "build_wheel", "/out", settings, "/meta"))
    messages = [hookd.message() for _ in range(10)]
    assert [message for message in messages if message[0] == "EXPECT"] == [
        ("EXPECT", name)
        for name in (
            "build_backend",
            "backend_path",
            "hook_name",
            "wheel_directory",
            "config_settings",
            "metadata_directory",
        )
    ]
    assert [kind for kind, _ in messages[6:]] == ["STDOUT", "STDERR", "OK", "READY"]
    assert json.loads(json.loads(messages[8][1])) == ["/out", {"feature": ["a", "b"]}, "/meta"]
    for _, path in messages[6:8]:
        assert Path(path).parent == capture_folder
        assert os.stat(path).st_mode & 0o777 == 0o600


@BOTH
def test_empty_lines_stand_for_defaults(start: Start, isolation: str, tree: Path) -> None:
    hookd = start(isolation=isolation)
    reply = hookd.run("sample_module", "build_wheel", "", "", "")
    assert json.loads(reply.result) == [str(tree), None, None]
    reply = hookd.run("sample_module", "build_sdist", "dist", "")
    assert json.loads(reply.result) == [str(tree / "dist"), None]
    reply = hookd.run("sample_module", "get_requires_for_build_wheel", "")
    assert reply.result == ["wheel >= 0.25", "[null]"]
    # An empty action is ignored, and an empty backend is the one of PEP 517.
    hookd.write("", "")
    kind, _ = hookd.run("", "no_hook").error
    assert kind == "InvalidHookName"


@pytest.mark.parametrize(
    "backend, expected",
    [
        ("sample_object:backends.main", "Backend"),
        ("sample_object:backends.kind", "Backend"),
        ("sample_object:Backend", "Backend"),
        ("sample_object.Backend", "Backend"),
        ("sample_object.backends.main", "Backend"),
        ("package.sub.backend", "submodule"),
        ("package.sub.backend:nested", "nested"),
        ("package.sub.backend.nested", "nested"),
        ("hookd", "A backend that has the worker's own name."),
    ],
)
@BOTH
def test_import_paths(start: Start, isolation: str, backend: str, expected: str) -> None:
    assert start(isolation=isolation).run(backend).result == [expected]


REQUIRES = "get_requires_for_build_wheel"
WRONG_REQUESTS = [
    (["no_such_module"], "MissingBackendModule", "no_such_module"),
    (["package.no_such_module"], "MissingBackendModule", "package.no_such_module"),
    (["sample_module.no.such"], "MissingBackendModule", "sample_module.no"),
    (["no_such_module:object"], "MissingBackendModule", "no_such_module"),
    (["sample_object:backends.no"], "MissingBackendAttribute", "'no'"),
    (["sample_object:no"], "MissingBackendAttribute", "'no'"),
    (["sample_object.backends.no"], "MissingBackendAttribute", "'no'"),
    (["a:b:c"], "MalformedBackendName", "'a:b:c'"),
    (["a b"], "MalformedBackendName", "'a b'"),
    (["a..b"], "MalformedBackendName", "'a..b'"),
    (["sample_module:"], "MalformedBackendName", "'sample_module:'"),
    ([":sample_module"], "MalformedBackendName", "':sample_module'"),
    (["build-backend"], "MalformedBackendName", "'build-backend'"),
    (["fails_to_import"], "BackendImportError", "ValueError: not\nin the mood"),
    (["imports_missing"], "BackendImportError", "nobody_has_this_module"),
    (["exits_at_import"], "BackendImportError", 'called sys.exit("no")'),
    (["sample_module", "no_such_hook"], "InvalidHookName", "'no_such_hook'"),
    (["sample_module", "build-wheel"], "InvalidHookName", "'build-wheel'"),
    (["sample_module", "get_requires_for_build_sdist"], "UnsupportedHook", "_build_sdist"),
    (["sample_module", REQUIRES, "{"], "MalformedHookArgument", "config_settings"),
    (["sample_module", REQUIRES, "[1]"], "MalformedHookArgument", "got '[1]'"),
    (["sample_module", REQUIRES, "[" * 100000], "MalformedHookArgument", "config_settings"),
    (["sample_module", REQUIRES, '{"a": "\udcff'], "MalformedHookArgument", "config_settings"),
    (
        ["sample_module", "prepare_metadata_for_build_wheel", "", ""],
        "MalformedHookArgument",
        "metadata_directory",
    ),
    (["sample_module", "build_sdist", "a\0b", ""], "MalformedHookArgument", "sdist_directory"),
]


@BOTH
def test_errors(start: Start, isolation: str) -> None:
    """Each error has a kind of its own, names the cause, and fails only its request."""
    hookd = start(isolation=isolation)
    for arguments, expected_kind, expected_text in WRONG_REQUESTS:
        reply = hookd.run(*arguments)
        kind, error = reply.error
        assert (kind, expected_text in error["message"]) == (expected_kind, True), reply.messages
        assert error["unsupported_operation"] is False
        accepted = expected_kind.startswith(("Missing", "BackendImport", "Unsupported"))
        assert ("STDOUT" in reply.kinds) == accepted, "well-formed requests are accepted first"
        assert ("TRACEBACK" in reply.kinds) == (error["exception"] is not None)
        if expected_kind == "BackendImportError":
            assert "/hookd/" not in reply.traceback.replace("/hookd/tests", "")
            assert "importlib" not in reply.traceback
    hookd.write("jump")
    kind, error = hookd.ready().error
    assert kind == "InvalidAction"
    assert "'jump'" in error["message"]
    assert hookd.run("sample_module").result
    assert hookd.shut_down() == 0


def test_all_lines_are_read_before_an_error(start: Start) -> None:
    hookd = start()
    hookd.write(*hookd.request("a b", "build_wheel", "\0", "{", "\0"), "ping after")
    kind, _ = hookd.ready().error
    assert kind == "MalformedBackendName", "the first one is reported"
    assert hookd.message() == ("PONG", "after")


@BOTH
@pytest.mark.parametrize(
    "backend_path, expected",
    [
        (["/"], "relative to the source tree"),
        ([".."], "outside of the source tree"),
        (["link/../.."], "outside of the source tree"),
        (["ok", "ok/../../x"], "outside of the source tree"),
    ],
)
def test_backend_path_outside_of_the_tree(
    start: Start, isolation: str, tree: Path, backend_path: list[str], expected: str
) -> None:
    (tree / "link").symlink_to(tree.parent)
    reply = start(isolation=isolation).run("sample_module", backend_path=tuple(backend_path))
    kind, error = reply.error
    assert kind == "MalformedHookArgument"
    assert expected in error["message"]
    assert repr(backend_path[-1]) in error["message"]


@BOTH
def test_in_tree_backend(start: Start, isolation: str, tree: Path) -> None:
    backend = tree / "build" / "in_tree.py"
    backend.parent.mkdir()
    backend.write_text("import helper\ndef {}(_): return [helper.name]".format(REQUIRES))
    (tree / "helpers").mkdir()
    (tree / "helpers" / "helper.py").write_text("name = 'helped'")
    hookd = start(isolation=isolation)
    assert hookd.run("in_tree", backend_path=("build", "helpers")).result == ["helped"]
    kind, error = hookd.run("sample_module", backend_path=("build",)).error
    assert kind == "BackendImportError"
    assert "sample_module.py" in error["message"]
    # Links to elsewhere, of a file and of a folder, as build systems make them.
    (tree / "links").mkdir()
    elsewhere = tree.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linked_folder.py").write_text("def {}(_): return ['folder']".format(REQUIRES))
    (tree / "links" / "linked_file.py").symlink_to(backend)
    (tree / "link").symlink_to(elsewhere)
    assert hookd.run("linked_file", backend_path=("links", "helpers")).result == ["helped"]
    assert hookd.run("linked_folder", backend_path=("link",)).result == ["folder"]
    # backend-path is for that request only.
    reply = hookd.run_code("import sys; result = sys.path")
    assert str(tree / "build") not in reply.result


@BOTH
def test_python_path_is_that_of_a_fresh_process(
    start: Start, isolation: str, tree: Path, interpreter: str, environment: dict[str, str]
) -> None:
    script = tree.parent / "script.py"
    script.write_text("import sys, json; print(json.dumps(sys.path[1:]))")
    fresh = subprocess.check_output([interpreter, str(script)], env=environment)
    reply = start(isolation=isolation).run_code("import sys; result = sys.path")
    assert reply.result == json.loads(fresh)


@BOTH
def test_argv_and_folder(start: Start, isolation: str, tree: Path) -> None:
    code = "import sys, os; result = [str(len(sys.argv)), os.getcwd()]"
    assert start(isolation=isolation).run_code(code).result == ["1", str(tree)]


@BOTH
def test_hook_results_are_checked(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    for value in ("None", "3", "['a', 1]", "'text'", "{'a'}"):
        kind, error = hookd.run_code("result = " + value).error
        assert kind == "HookRuntimeError"
        assert REQUIRES in error["message"]
    assert hookd.run_code("result = ('a', 'b')").result == ["a", "b"]
    settings = json.dumps({"code": "result = ['a']"})
    kind, error = hookd.run("run_code", "build_wheel", "", settings, "").error
    assert kind == "HookRuntimeError"
    assert "list" in error["message"]


EXCEPTIONS = [
    ("raise ValueError('text')", "ValueError", "text"),
    ("raise SystemExit", "SystemExit", "the hook called sys.exit()"),
    ("import sys; sys.exit(0)", "SystemExit", "the hook called sys.exit(0)"),
    ("import sys; sys.exit('text')", "SystemExit", 'the hook called sys.exit("text")'),
    ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
    ("raise GeneratorExit('x')", "GeneratorExit", "x"),
    ("import json; json.loads('')", "json.decoder.JSONDecodeError", "Expecting value"),
    ("raise ValueError('\\udcff\\ud800')", "ValueError", "\ufffd\ufffd"),
    (
        "class Odd(Exception):\n  def __str__(self): raise SystemExit\nraise Odd",
        "run_code.Odd",
        "cannot be shown",
    ),
]


@BOTH
def test_exceptions_of_hooks(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    for code, exception, text in EXCEPTIONS:
        reply = hookd.run_code(code)
        kind, error = reply.error
        assert kind == "HookRuntimeError"
        assert error["exception"].rpartition(".")[2] == exception.rpartition(".")[2]
        assert text in error["message"]
        assert "<code of the test>" in reply.traceback
        assert "running.py" not in reply.traceback


@BOTH
def test_unsupported_operation(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    reply = hookd.run("sample_module", "build_sdist", "", '{"unsupported": true}')
    kind, error = reply.error
    assert kind == "HookRuntimeError"
    assert error.pop("message").startswith("sample_module.UnsupportedOperation: no sdist of this\n")
    assert error == {
        "exception": "sample_module.UnsupportedOperation",
        "unsupported_operation": True,
    }


@BOTH
def test_forged_messages_are_output(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    reply = hookd.run("prints_at_import")
    assert reply.result == ["0"]
    output = reply.captured("STDOUT").splitlines()
    assert sorted(output) == [
        "ERROR HookRuntimeError forged",
        "OK from a subprocess",
        "OK from descriptor 1",
        "OK from print",
    ]
    assert reply.captured("STDERR") == "READY\n"
    assert hookd.run_code("import sys; result = [sys.stdin.read()]").result == [""]


@BOTH
def test_output_in_c(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    code = "import ctypes; ctypes.CDLL(None).puts(b'from C')"
    assert hookd.run_code(code).captured("STDOUT") == "from C\n"
    assert hookd.run_code("").captured("STDOUT") == ""


@BOTH
def test_requests_written_ahead(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    settings = json.dumps({"large": "x" * 1000000})
    lines = hookd.request("prints_at_import", REQUIRES, settings)
    failing = hookd.request("fails_to_import", REQUIRES, settings)
    hookd.write(*lines, *failing, *lines, "ping last")
    assert hookd.ready().result == ["1000000"]
    assert hookd.ready().error[0] == "BackendImportError"
    reply = hookd.ready()
    assert reply.result == ["1000000"]
    # It is obeyed as soon as it is next: during the last hook where one can run meanwhile.
    if isolation == "hook":
        assert reply.value("PONG") == "last"
    else:
        assert hookd.message() == ("PONG", "last")


@BOTH
def test_site_that_prints_does_not_disturb(start: Start, isolation: str, site: Path) -> None:
    (site / "sitecustomize.py").write_text(
        "import os, sys\n"
        "os.write(1, b'READY? no newline')\n"
        "sys.stdout.write('OK unflushed')\n"
        "sys.stderr.write('noise')\n"
    )
    hookd = start(isolation=isolation, ready=False)
    assert hookd.line() == b"READY? no newline\n"
    assert hookd.line() == b"READY\n"
    assert hookd.message() == ("EXPECT", "action")
    assert hookd.run("sample_module").result
    assert hookd.shut_down() == 0
    assert hookd.line() == b""


@BOTH
def test_bytes_that_are_not_utf8(
    start: Start, isolation: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    name = b"tr\xe9e " + "ü'\"\n".encode()
    tree = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    os.mkdir(tree)
    hookd = start(isolation=isolation, json=False, tree=tree)
    code = "import os; result = [ascii(os.fsencode(os.getcwd())[-{}:])]".format(len(name))
    assert hookd.run_code(code).value("OK") == str([ascii(name)])
    hookd.write_bytes(b"run\nsample_module\n\nbuild_sdist\n/o\xff\n\n")
    assert json.loads(hookd.ready().value("OK")) == ["/o\udcff", None]


@BOTH
@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_locale_does_not_matter(
    start: Start, isolation: str, environment: dict[str, str], locale: str
) -> None:
    environment.update(LC_ALL=locale, PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    hookd = start(isolation=isolation)
    settings = json.dumps({"code": "import os; result = ascii(os.fsencode(directory))"})
    hookd.write(*hookd.request("run_code", "build_wheel", "/ö\udcff", settings, ""))
    assert hookd.ready().result == ascii("/ö\udcff".encode("utf-8", "surrogateescape"))


@BOTH
def test_text_for_people(start: Start, isolation: str) -> None:
    """Without --json."""
    hookd = start(isolation=isolation, json=False)
    assert hookd.run("sample_object:Backend").value("OK") == "['Backend']"
    reply = hookd.run("fails_to_import")
    assert reply.value("ERROR").startswith("BackendImportError the import of")
    assert "not\\nin the mood" in reply.value("ERROR")
    assert reply.value("TRACEBACK").startswith("Traceback (most recent call last):\\n")
    reply = hookd.run_code("raise ValueError('a\\nb')")
    assert reply.value("ERROR").startswith("HookRuntimeError ValueError: a\\nb\\n  at ")


@BOTH
def test_report_imports(start: Start, isolation: str, tree: Path) -> None:
    for name, text in (("one", "import two"), ("two", ""), ("three", "")):
        (tree / (name + ".py")).write_text(text)
    hookd = start("--report-imports", isolation=isolation)
    code = "import sys; sys.path.insert(0, '.'); import one, three"
    reply = hookd.run_code(code)
    assert reply.kinds[-2:] == ["OK", "IMPORTED"]
    imported = json.loads(reply.value("IMPORTED"))
    names = [entry["name"] for entry in imported]
    # Python 3.7 has them in the order in which their imports began.
    assert names in (["run_code", "two", "one", "three"], ["run_code", "one", "two", "three"])
    status = (tree / "two.py").stat()
    assert imported[names.index("two")] == {
        "name": "two",
        "file": str(tree / "two.py"),
        "mtime_ns": status.st_mtime_ns,
        "size": status.st_size,
        "preloadable": False,
    }
    reply = hookd.run("fails_to_import")
    assert reply.kinds[-3:] == ["ERROR", "TRACEBACK", "IMPORTED"]
    kept = [entry["name"] for entry in json.loads(hookd.run_code(code).value("IMPORTED"))]
    assert kept == ([] if isolation == "none" else names)


@BOTH
def test_report_imports_of_who_removes_modules(start: Start, isolation: str, tree: Path) -> None:
    for name in ("one", "two", "three"):
        (tree / (name + ".py")).write_text("")
    hookd = start("--report-imports", isolation=isolation)
    code = "import sys; sys.path.insert(0, '.'); import one; del sys.modules['json']; import two"
    reply = hookd.run_code(code)
    names = [entry["name"] for entry in json.loads(reply.value("IMPORTED"))]
    assert names == ["run_code", "one", "two"]
    # The last that was there before is moved behind one that is new.
    move = """
import sys, three
names = list(sys.modules)
last = names[names.index("three" if "run_code" in settings["known"] else "run_code") - 1]
sys.modules[last] = sys.modules.pop(last)
"""
    known = "run_code" if isolation == "none" else "nothing"
    reply = hookd.run_code("import sys; sys.path.insert(0, '.')" + move, known=known)
    names = [entry["name"] for entry in json.loads(reply.value("IMPORTED"))]
    assert names == (["three"] if isolation == "none" else ["run_code", "three"])


def test_isolation_none_reports_each_new_module(start: Start, tree: Path) -> None:
    """Even if a hook removes as many modules as it imports, and moves the last one."""
    for name in ("one", "two", "new"):
        (tree / (name + ".py")).write_text("")
    hookd = start("--report-imports", isolation="none")
    hookd.run_code("import sys; sys.path.insert(0, '.'); import one, two")
    reply = hookd.run_code(
        "import sys\nlast = list(sys.modules)[-1]\nmodule = sys.modules.pop(last)\n"
        "del sys.modules['json']\nimport new\nsys.modules[last] = module"
    )
    assert [entry["name"] for entry in json.loads(reply.value("IMPORTED"))] == ["new"]


def test_report_imports_of_who_replaces_sys_modules(start: Start, tree: Path) -> None:
    (tree / "one.py").write_text("")
    hookd = start("--report-imports")
    reply = hookd.run_code(
        "import sys, collections; sys.path.insert(0, '.'); import one\n"
        "sys.modules = collections.UserDict(sys.modules)"
    )
    assert {"run_code", "one"} <= {entry["name"] for entry in json.loads(reply.value("IMPORTED"))}


@BOTH
def test_hook_that_forks_and_comes_back_twice(start: Start, isolation: str) -> None:
    code = """
import os, sys
pid = os.fork()
if pid == 0:
    print("child")
    sys.exit(int(settings["status"]))
else:
    status = os.waitpid(pid, 0)[1]
    result = [str(os.WEXITSTATUS(status))]
"""
    hookd = start(isolation=isolation)
    reply = hookd.run_code(code, status="4")
    assert reply.result == ["4"]
    assert reply.captured("STDOUT") == "child\n"
    assert hookd.run_code(code.replace("sys.exit(", "("), status="4").result == ["0"]
    reply = hookd.run_code(code.replace("sys.exit(", "open("), status="77")
    assert reply.result == ["1"]


@BOTH
def test_large_messages(start: Start, isolation: str) -> None:
    """Messages may be larger than a pipe, and the caller may read late."""
    hookd = start(isolation=isolation)
    reply = hookd.run_code("result = ['x' * 1000] * 3000")
    assert reply.result == ["x" * 1000] * 3000
    reply = hookd.run_code("raise ValueError('y' * 3000000)")
    left_out = len("ValueError: ") + 3000000 - (16 << 10)
    marker = "\n[... {} characters left out ...]\n".format(left_out)
    half = "y" * (8 << 10)
    assert (marker + half) in reply.error[1]["message"]


@BOTH
def test_tree_that_is_gone(start: Start, isolation: str, tree: Path) -> None:
    hookd = start(isolation=isolation)
    tree.rmdir()
    kind, error = hookd.run("sample_module").error
    assert kind == "HookRuntimeError"
    assert repr(str(tree)) in error["message"]
    tree.mkdir()
    (tree / "new").touch()
    assert hookd.run_code("import os; result = os.listdir('.')").result == ["new"]


@BOTH
def test_capture_folder_that_is_gone(start: Start, isolation: str, capture_folder: Path) -> None:
    hookd = start(isolation=isolation)
    capture_folder.rmdir()
    assert hookd.run("sample_module").result
    assert capture_folder.stat().st_mode & 0o777 == 0o700, "it was made anew"
    shutil.rmtree(capture_folder)
    moved = capture_folder.parent.rename(capture_folder.parent.with_name("moved"))
    hookd.write(*hookd.request("sample_module"))
    messages = hookd.until("TRACEBACK")
    kind, _, value = messages[-2][1].partition(" ")
    moved.rename(capture_folder.parent)
    capture_folder.mkdir()
    assert messages[-2][0] == "FATAL"
    assert kind == "FileNotFoundError"
    assert repr(str(capture_folder)) in json.loads(value)["message"]
    assert "STDOUT" not in [kind for kind, _ in messages], "it was not accepted"
    assert hookd.wait() == 1
    assert "cannot go on" in hookd.log.read_text()


@BOTH
def test_example(isolation: str, interpreter: str, environment: dict[str, str], tree: Path) -> None:
    """A bare hookd answers all requests of a file, though its input has ended."""
    environment["TMPDIR"] = str(tree.parent)
    output = subprocess.run(
        [interpreter, HOOKD, "--isolation", isolation, tree],
        env=environment,
        stdin=EXAMPLE.open(),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.splitlines()
    answers = [line for line in output if line.startswith(("OK", "ERROR", "SHUTDOWN"))]
    assert answers[0].startswith("OK ['wheel >= 0.25'")
    assert answers[1] == "OK sample-1.dist-info"
    assert answers[2].startswith("ERROR MissingBackendAttribute")
    assert answers[3].startswith("ERROR UnsupportedHook")
    assert answers[4:] == ["SHUTDOWN"]
    assert len(list(tree.parent.glob("hookd-*"))) == 8
