"""Hooks that return, raise or break what no hook should lose at most their own result."""

from __future__ import annotations

import json

import pytest
from conftest import Start

BOTH = pytest.mark.parametrize("isolation", ["hook", "none"])

HOSTILE_TEXT = """
class Text(str):
    def __str__(self): return 3
    def __repr__(self): return 3
    def __len__(self): raise SystemExit
    def __iter__(self): raise SystemExit
    def replace(self, *_): raise SystemExit
    def encode(self, *_): raise SystemExit
class List(list):
    def __iter__(self): raise SystemExit
    def __len__(self): raise SystemExit
class Tuple(tuple):
    def __iter__(self): raise SystemExit
class Liar:
    __class__ = property(lambda self: kind)
    def __iter__(self): raise SystemExit
kind = str
class Meta(type):
    def __getattribute__(self, name): raise SystemExit("no " + name)
"""


@BOTH
def test_results_of_hostile_classes(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    code = HOSTILE_TEXT + "result = {}"
    assert hookd.run_code(code.format("[Text('a')]")).result == ["a"]
    assert hookd.run_code(code.format("List([Text('a')])")).result == ["a"]
    assert hookd.run_code(code.format("Tuple([Text('a')])")).result == ["a"]
    for value in ("[Liar()]", "Liar()", "Meta('Class', (), {})()", "[Meta('C', (), {})()]"):
        kind, error = hookd.run_code(code.format(value)).error
        assert (kind, error["exception"]) == ("HookRuntimeError", None), value
        assert "returned a value of type" in error["message"]
    settings = json.dumps({"code": code.format("Text('name')")})
    assert hookd.run("run_code", "build_wheel", "", settings, "").result == "name"


RAISED = [
    ("class E(Exception, metaclass=Meta): pass\nraise E('x')", "run_code.E", "x"),
    ("class E(Exception): __module__ = 3\nraise E('x')", "E", "x"),
    ("class E(Exception): __module__ = Text('m')\nraise E('x')", "m.E", "x"),
    ("class E(Exception):\n  def __str__(self): return Text('x')\nraise E", "E", "x"),
    (
        "class E(Exception):\n  def __getattribute__(self, name): raise SystemExit\nraise E('x')",
        "E",
        "x",
    ),
    ("class E(SystemExit): code = property(lambda self: 1 / 0)\nraise E", "E", "cannot be shown"),
    ("raise type('E' * 100000, (Exception,), {})('x')", "characters left out", "x"),
]


@BOTH
def test_hostile_exceptions(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    for code, exception, text in RAISED:
        reply = hookd.run_code(HOSTILE_TEXT + code)
        kind, error = reply.error
        assert kind == "HookRuntimeError", code
        assert exception.rpartition(".")[2] in error["exception"], code
        assert text in error["message"], code
        assert len(error["exception"]) < 70000
        assert len(reply.traceback) < 70000
    assert hookd.run("sample_module").result


TRACED = """
import sys
def trace(frame, event, argument):
    if frame.f_code.co_filename != "<code of the test>" and {}:
        raise ValueError("traced")
    return trace
sys.{}(trace)
"""


@BOTH
@pytest.mark.parametrize("condition", ["True", "event == 'return'", "event == 'call'"])
@pytest.mark.parametrize("function", ["settrace", "setprofile"])
def test_tracing_that_raises(start: Start, isolation: str, function: str, condition: str) -> None:
    hookd = start(isolation=isolation)
    reply = hookd.run_code(TRACED.format(condition, function))
    assert "OK" in reply.kinds or reply.error[0] == "HookRuntimeError"
    code = "import sys; result = [str(sys.gettrace()), str(sys.getprofile())]"
    assert hookd.run_code(code).result == ["None", "None"]


@BOTH
def test_results_of_any_length(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    limit = 8 << 20
    # With brackets and quotes.
    fits = "result = ['x' * {}]".format(limit - 4)
    assert len(hookd.run_code(fits).result[0]) == limit - 4
    kind, error = hookd.run_code(fits.replace("]", ", '']")).error
    assert kind == "HookRuntimeError"
    assert error["message"] == (
        "get_requires_for_build_wheel returned a result that is too long:"
        " {} bytes of JSON, the limit is {}".format(limit + 4, limit)
    )
    settings = json.dumps({"code": "result = '\\u20ac' * (2 << 20)"})
    _, error = hookd.run("run_code", "build_wheel", "", settings, "").error
    assert "build_wheel returned a result that is too long" in error["message"]
    assert hookd.run("sample_module").result


@BOTH
def test_long_texts_are_shortened(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    reply = hookd.run_code("raise ValueError('begin' + 'y' * 20000000 + 'end')")
    message = reply.error[1]["message"]
    assert message.startswith("ValueError: beginyyy")
    assert "yyyend\n  at " in message
    left_out = len("ValueError: beginend") + 20000000 - (16 << 10)
    assert "[... {} characters left out ...]".format(left_out) in message
    assert reply.traceback.startswith("Traceback (most")
    assert "characters left out" in reply.traceback
    assert len(message) < 20000 < len(reply.traceback) < 66000


BROKEN = {
    "json hidden": "sys.modules['json'] = sys.modules['json.encoder'] = None",
    "json broken": "import json; json.dumps = json.loads = json.JSONEncoder = None",
    "traceback hidden": "sys.modules['traceback'] = None",
    "traceback broken": "import traceback; traceback.format_exception = None",
    "open": "import builtins; builtins.open = None",
    "sys.exit, excepthook": "sys.exit = sys.excepthook = None",
    "streams": "sys.stdout = sys.stderr = sys.__stdout__ = 3",
    "os": "os.write = os.fstat = os.getpid = os._exit = os.close = None",
    "signal": "import signal; signal.pthread_sigmask = None",
    "threading": "import threading; threading._shutdown = None",
    "atexit": "import atexit; sys.modules['atexit'] = atexit._run_exitfuncs = None",
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_modules(start: Start, what: str) -> None:
    """The result, exceptions and exit handlers survive."""
    hookd = start()
    code = "import os, sys, atexit\n"
    code += "atexit.register(lambda write=os.write: write(1, b'ended tidily'))\n"
    code += BROKEN[what] + "\n"
    reply = hookd.run_code(code + "result = ['kept']")
    assert reply.result == ["kept"]
    assert reply.captured("STDOUT") == "ended tidily"
    reply = hookd.run_code(code + "raise ValueError('kept')")
    assert reply.error[1]["message"].startswith("ValueError: kept\n  at ")
    assert "<code of the test>" in reply.traceback


@pytest.mark.parametrize("what", [name for name in BROKEN if "json" in name or "trace" in name])
def test_broken_modules_without_isolation(start: Start, what: str) -> None:
    hookd = start(isolation="none")
    assert hookd.run_code("import sys; " + BROKEN[what]).result == []
    assert hookd.run_code("result = ['kept']").result == ["kept"]
    _, error = hookd.run_code("raise ValueError('kept')").error
    assert error["message"].startswith("ValueError: kept\n  at ")


@BOTH
def test_output_files_that_are_gone(start: Start, isolation: str) -> None:
    """The caller may delete them at any time."""
    hookd = start(isolation=isolation)
    code = "import os\nfor n in (1, 2): os.unlink(os.readlink('/proc/self/fd/%d' % n))\n"
    assert hookd.run_code(code + "print('text'); result = ['kept']").result == ["kept"]
    assert hookd.run_code("result = ['next']").result == ["next"]
