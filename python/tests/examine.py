"""Imports modules one by one, each in a process of its own, and tells what that changed.

The process of a module is forked from that of its package, which is imported first in any case.

    PYTHON examine.py standard|installed

Run by test_preloadable.py with the interpreter whose standard library, or installed packages, are
to be examined. The result is a JSON object: by module, what speaks against importing it in a
template, and the exceptions that it imported.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import select
import signal
import sys
import sysconfig
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Callable, Dict, Iterator, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hookd import retained
from hookd.hook.modules import imported_since
from hookd.process import libc
from hookd.template.observation import Observation
from hookd.template.preloadable import (
    DISTRIBUTIONS,
    ONLY_AS_BACKEND,
    Preloadable,
    exceptions_among,
    is_excepted,
)
from hookd.template.process_state import OutputFile, ProcessState

del sys.path[0]

# For one module, in seconds. What takes longer hangs.
LONGEST = 30

# Tests, and what needs a screen or a terminal.
LEFT_OUT = {"test", "tests", "Tests", "idlelib", "turtledemo", "turtle", "tkinter", "__main__"}

# They have older Pythons' `typing` check type parameters as newer ones do.
ALLOWED = {
    "typing._collect_type_vars": "typing_extensions",
    "typing._collect_parameters": "typing_extensions",
    "typing._check_generic": "typing_extensions",
}

CALLABLES = (FunctionType, type, property, classmethod, staticmethod)


def names_in(folders: List[str], prefix: str = "") -> Iterator[str]:
    """All modules in these folders, by their full names."""
    for module in pkgutil.iter_modules(folders):
        name = prefix + module.name
        if module.name in LEFT_OUT or not module.name.isidentifier():
            continue
        yield name
        if module.ispkg:
            yield from names_in(
                [os.path.join(folder, module.name) for folder in folders], name + "."
            )


def standard() -> List[str]:
    """The modules of the standard library."""
    paths = sysconfig.get_paths()
    folders = [paths["stdlib"], os.path.join(paths["platstdlib"], "lib-dynload")]
    return [name for name in names_in(folders) if not name.startswith("lib2to3.tests")]


def installed() -> List[str]:
    """The modules of the known distributions that are installed."""
    folder = sysconfig.get_paths()["purelib"]
    found = []
    for modules in DISTRIBUTIONS.values():
        for top in modules:
            inner = os.path.join(folder, *top.split("."))
            if os.path.isdir(inner):
                found += [top, *names_in([inner], top + ".")]
            elif any(Path(folder).glob(top + ".*")):
                found.append(top)
    return found


class Interpreter:
    """The state of the interpreter that is common to all modules."""

    def __init__(self) -> None:
        self._settings = _settings()
        self._definitions = list(_definitions())

    def changes(self, is_standard: bool) -> List[str]:
        """What is no longer the same. Modules of the standard library may change each other."""
        settings = _settings()
        changed = [name for name, value in self._settings.items() if value != settings[name]]
        if not is_standard:
            names = [each.name() for each in self._definitions if not each.is_there()]
            changed += [name for name in names if ALLOWED.get(name) not in sys.modules]
        return changed


def _settings() -> Dict[str, Any]:
    return {
        "sys.path": list(sys.path),
        "sys.meta_path": list(sys.meta_path),
        "sys.path_hooks": list(sys.path_hooks),
        "sys.argv": list(sys.argv),
        "the streams": [sys.stdin, sys.stdout, sys.stderr],
        "the hooks of sys": [sys.displayhook, sys.excepthook, sys.dont_write_bytecode],
        "the recursion limit": sys.getrecursionlimit(),
        "the garbage collector": [gc.isenabled(), gc.get_threshold()],
        "the built-in names": dict(vars(sys.modules["builtins"])),
        "the warnings' filters": list(sys.modules["warnings"].filters),  # type: ignore[attr-defined]
        "logging": _logging(),
        "the locale": _locale(),
    }


class Definition:
    """A function or a class of a module, or a method of such a class."""

    def __init__(self, module: str, owner: Optional[type], key: str, value: object) -> None:
        self._module = module
        self._owner = owner
        self._key = key
        self._value = value

    def name(self) -> str:
        """Its full name."""
        owner = [] if self._owner is None else [self._owner.__name__]
        return ".".join([self._module, *owner, self._key])

    def is_there(self) -> bool:
        """Whether that name still means the same."""
        holder = sys.modules.get(self._module) if self._owner is None else self._owner
        return getattr(holder, "__dict__", {}).get(self._key) is self._value


def _definitions() -> Iterator[Definition]:
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType):
            for key, value in list(vars(module).items()):
                if isinstance(value, CALLABLES):
                    yield Definition(name, None, key, value)
                if isinstance(value, type):
                    for method, function in list(vars(value).items()):
                        if isinstance(function, CALLABLES):
                            yield Definition(name, value, method, function)


def _logging() -> List[Any]:
    logging: Any = sys.modules.get("logging")
    if logging is None:
        return [30, 0, []]
    return [logging.root.level, logging.root.manager.disable, list(logging.root.handlers)]


def _locale() -> Optional[str]:
    import _locale

    return _locale.setlocale(_locale.LC_ALL, None)


def examine(
    name: str, output: OutputFile, interpreter: Interpreter
) -> Optional[Dict[str, List[str]]]:
    """Import a module, and describe what that did. None for exceptions, which are not imported.

    `interpreter` is the state before, which all modules have in common.
    """
    preloadable = Preloadable()
    if is_excepted(name):
        # As a backend has them: what needs them may do no more harm then.
        for cause, importers in ONLY_AS_BACKEND.items():
            if any(name == each or name.startswith(each + ".") for each in (cause, *importers)):
                _try_import(cause)
                interpreter = Interpreter()
    if is_excepted(name):
        return None
    known = set(sys.modules)
    process = ProcessState(output)
    observation = Observation(preloadable)
    with observation:
        failure = _try_import(name)
    imported = imported_since(known, preloadable)
    new = [module["name"] for module in imported]
    problems = process.changes_to(ProcessState(output), new)
    is_standard = all(
        module["file"] is None or preloadable.is_standard(module["file"]) for module in imported
    )
    changed = interpreter.changes(is_standard)
    problems += ["it changed " + ", ".join(changed[:5])] if changed else []
    if failure is None:
        # What a module has asked for is gone with it, if it failed.
        problems += observation.seen()
    return {"problems": problems, "exceptions": exceptions_among(new, as_backend=False)}


def examine_all(names: List[str], output: OutputFile) -> Dict[str, Any]:
    """The outcomes by name; those of a package's modules are examined where it is imported."""
    interpreter = Interpreter()
    found: Dict[str, Any] = {}
    for name in sorted(names):
        if name not in found:
            inner = [other for other in names if other.startswith(name + ".")]
            action = partial(examine_package, name, inner, output, interpreter)
            outcomes = in_a_child(action, output, LONGEST * (1 + len(inner)))
            ended = {"problems": ["it ended the process"], "exceptions": []}
            found.update(outcomes or dict.fromkeys([name, *inner], ended))
    return found


def examine_package(
    name: str, inner: List[str], output: OutputFile, interpreter: Interpreter
) -> Dict[str, Any]:
    """The outcomes of a module and, if it is a package, of those in it."""
    return dict([(name, examine(name, output, interpreter))], **examine_all(inner, output))


def _try_import(name: str) -> Optional[BaseException]:
    try:
        __import__(name)
    except BaseException as error:
        return error
    return None


def in_a_child(action: Callable[[], Any], output: OutputFile, seconds: float) -> Any:
    """Run an action in a forked process. Returns its result; None if it does not come in time."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            output.put_in_place()
            os.write(write_end, json.dumps(action()).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    data = b""
    while select.select([read_end], [], [], seconds)[0]:
        piece = os.read(read_end, 1 << 16)
        if not piece:
            break
        data += piece
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(read_end)
    os.waitpid(pid, 0)
    return json.loads(data) if data else None


def main() -> None:
    # Loaded before, as in a template.
    import warnings  # noqa: F401

    retained.load()
    libc.load()
    os.chdir("/")
    output = OutputFile()
    names = standard() if sys.argv[1:] == ["standard"] else installed()
    print(json.dumps(examine_all(names, output)))


if __name__ == "__main__":
    main()
