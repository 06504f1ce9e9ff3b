"""The message of a hook's failure describes the exception."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Start

BOTH = pytest.mark.parametrize("isolation", ["hook", "none"])

# A backend of the tree's own. The first word of the settings says what goes wrong.
BACKEND = '''\
import json


class ExceptionGroup(Exception):
    """An exception group as backports define it for old interpreters."""

    def __init__(self, message, exceptions):
        super().__init__(message)
        self.exceptions = exceptions


def parse(text):
    return json.loads(text)


def read(settings):
    return settings["version"]


def hostile(settings):
    class HostileExceptionGroup(Exception):
        __cause__ = property(lambda self: 1 / 0)
        __notes__ = property(lambda self: iter(str, "never"))
        exceptions = property(lambda self: iter(ValueError, "never"))

    raise HostileExceptionGroup


def chain(settings):
    try:
        try:
            parse("{")
        except ValueError as error:
            raise KeyError("version") from error
    except KeyError:
        raise AssertionError


def hidden(settings):
    try:
        parse("{")
    except ValueError:
        raise RuntimeError("no version") from None


def group(settings):
    try:
        parse("{")
    except ValueError as error:
        first = error
    second = ExceptionGroup("inner", [TypeError("deep")])
    raise ExceptionGroup("two problems", [first, second])


def circle(settings):
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def script(settings):
    # As setuptools does it.
    exec("def setup():\\n    exit(3)\\n\\nsetup()", {"__file__": "setup.py"})


def deep(settings):
    if settings is not None:
        return [deep(None), {}["x"]]
    return far(9)


def far(count):
    return far(count - 1) if count else json.loads(1)


def repeated(settings):
    command = "Command 'compiler with many arguments' returned non-zero exit status 1"
    try:
        raise LookupError(command)
    except LookupError as error:
        raise SystemExit("error: " + command)


def get_requires_for_build_wheel(config_settings=None):
    (name,) = config_settings
    return globals()[name](config_settings)
'''

ACCOUNTS = {
    "read": [
        "KeyError: 'version'",
        "  at own.py, line 17, in read",
        "  at own.py, line 86, in get",
    ],
    "hidden": [
        "RuntimeError: no version",
        "  at own.py, line 43, in hidden",
        "  at own.py, line 86, in get_requires_for_build_wheel",
    ],
    "chain": [
        "AssertionError",
        "  at own.py, line 36, in chain",
        "  at own.py, line 86, in get_requires_for_build_wheel",
        "while handling KeyError: 'version'",
        "  at own.py, line 34, in chain",
        "caused by json.decoder.JSONDecodeError: Expecting property name",
        "  at own.py, line 13, in parse",
        "  at own.py, line 32, in chain",
    ],
    "group": [
        "own.ExceptionGroup: two problems",
        "  at own.py, line 52, in group",
        "  at own.py, line 86, in get_requires_for_build_wheel",
        "  - json.decoder.JSONDecodeError: Expecting property name",
        "    at own.py, line 13, in parse",
        "    at own.py, line 48, in group",
        "  - own.ExceptionGroup: inner",
        "    - TypeError: deep",
    ],
    "circle": [
        "ValueError: first",
        "  at own.py, line 58, in circle",
        "  at own.py, line 86, in get_requires_for_build_wheel",
        "caused by ValueError: second",
    ],
    "script": [
        "the hook called sys.exit(3)",
        "  at setup.py, line 2, in setup",
        "  at setup.py, line 4",
        "  at own.py, line 63, in script",
    ],
    "deep": [
        "TypeError: the JSON object must be",
        "  at own.py, line 73, in far",
        "  at own.py, line 73, in far",
        "  at own.py, line 73, in far",
    ],
    "repeated": [
        'the hook called sys.exit("error: Command',
        "  at own.py, line 81, in repeated",
        "  at own.py, line 86, in get_requires_for_build_wheel",
    ],
    "hostile": [
        "own.hostile.<locals>.HostileExceptionGroup",
        "  at own.py, line 26, in hostile",
        "  at own.py, line 86, in get_requires_for_build_wheel",
    ],
}


@BOTH
@pytest.mark.parametrize("what", ACCOUNTS)
def test_an_exception_is_told_with_its_places_and_causes(
    start: Start, isolation: str, tree: Path, what: str
) -> None:
    (tree / "own.py").write_text(BACKEND)
    settings = '{{"{}": ""}}'.format(what)
    hookd = start(isolation=isolation)
    reply = hookd.run("own", "get_requires_for_build_wheel", settings, backend_path=(".",))
    _, error = reply.error
    lines = error["message"].split("\n")
    assert len(lines) == len(ACCOUNTS[what]), lines
    for line, expected in zip(lines, ACCOUNTS[what]):
        assert line.startswith(expected), lines


@BOTH
def test_an_import_that_fails_is_told_with_its_places(
    start: Start, isolation: str, tree: Path
) -> None:
    (tree / "own.py").write_text("import helper\n")
    (tree / "helper.py").write_text("def load():\n    import no_such_module\n\nload()\n")
    reply = start(isolation=isolation).run("own", backend_path=(".",))
    kind, error = reply.error
    assert kind == "BackendImportError"
    assert error["message"].split("\n") == [
        "the import of the backend 'own' failed:"
        " ModuleNotFoundError: No module named 'no_such_module'",
        "  at helper.py, line 2, in load",
        "  at helper.py, line 4",
        "  at own.py, line 1",
    ]


@BOTH
def test_where_no_frame_is_the_users_the_last_is_told(
    start: Start, isolation: str, tree: Path
) -> None:
    """Of an exception in an installed backend, the last place is shown."""
    package = tree / "site-packages" / "installed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "def _inner():\n    raise LookupError\n\n\n"
        "def get_requires_for_build_wheel(config_settings=None):\n    return _inner()\n"
    )
    reply = start(isolation=isolation).run("installed", backend_path=("site-packages",))
    _, error = reply.error
    assert error["message"].split("\n") == [
        "LookupError",
        "  at installed/__init__.py, line 2, in _inner",
    ]


@BOTH
def test_notes_and_exception_groups_of_newer_interpreters(
    start: Start, isolation: str, interpreter: str
) -> None:
    code = (
        "import sys\n"
        "if sys.version_info < (3, 11): raise ValueError('too old')\n"
        "error = ValueError('a')\n"
        "error.add_note('seen in\\na test')\n"
        "raise ExceptionGroup('several', [error, KeyError('b')])\n"
    )
    _, error = start(isolation=isolation).run_code(code).error
    lines = [line for line in error["message"].split("\n") if " at " not in line]
    if lines != ["ValueError: too old"]:
        expected = ["  - ValueError: a", "  seen in", "  a test", "  - KeyError: 'b'"]
        assert lines == ["ExceptionGroup: several (2 sub-exceptions)", *expected]
