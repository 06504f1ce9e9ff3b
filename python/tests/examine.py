"""Imports modules one by one, each in a process of its own, and tells what that changed.

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
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

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

# In seconds. What takes longer hangs.
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
        self._settings = {
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
        self._definitions = dict(_definitions())

    def changes_to(self, after: Interpreter, is_standard: bool) -> List[str]:
        """What is no longer the same. Modules of the standard library may change each other."""
        changed = [name for name, value in self._settings.items() if value != after._settings[name]]
        if not is_standard:
            changed += [
                name
                for name, value in self._definitions.items()
                if after._definitions.get(name) is not value
                and ALLOWED.get(name) not in sys.modules
            ]
        return changed


def _definitions() -> Iterator[Tuple[str, Any]]:
    """The functions and classes of all modules, and the methods of these classes."""
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType):
            for key, value in list(vars(module).items()):
                if isinstance(value, CALLABLES):
                    yield "{}.{}".format(name, key), value
                    for method, function in _methods(value):
                        yield "{}.{}.{}".format(name, key, method), function


def _methods(value: object) -> List[Tuple[str, Any]]:
    if not isinstance(value, type):
        return []
    return [pair for pair in list(vars(value).items()) if isinstance(pair[1], CALLABLES)]


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
    changed = interpreter.changes_to(Interpreter(), is_standard)
    problems += ["it changed " + ", ".join(changed[:5])] if changed else []
    if failure is None:
        # What a module has asked for is gone with it, if it failed.
        problems += observation.seen()
    return {"problems": problems, "exceptions": exceptions_among(new, as_backend=False)}


def _try_import(name: str) -> Optional[BaseException]:
    try:
        __import__(name)
    except BaseException as error:
        return error
    return None


def in_a_child(action: Callable[[], Any], output: OutputFile) -> Any:
    """Run an action in a forked process. Returns its result."""
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
    while select.select([read_end], [], [], LONGEST)[0]:
        piece = os.read(read_end, 1 << 16)
        if not piece:
            break
        data += piece
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(read_end)
    os.waitpid(pid, 0)
    return json.loads(data) if data else {"problems": ["it ended the process"], "exceptions": []}


def main() -> None:
    # Loaded before, as in a template.
    import warnings  # noqa: F401

    retained.load()
    libc.load()
    os.chdir("/")
    output = OutputFile()
    names = standard() if sys.argv[1:] == ["standard"] else installed()
    interpreter = Interpreter()
    found = {
        name: in_a_child(partial(examine, name, output, interpreter), output) for name in names
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
